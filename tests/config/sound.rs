//! What a sound config becomes.

use std::time::Duration;

use switchyard::config::keys::{KEYS, Kind};
use switchyard::config::{Log, LogFormat, Plan};
use switchyard::listener::identity::Identity;
use switchyard::listener::{Limits, Reply, SourcePrefix};
use switchyard::message::flow::Flow;
use switchyard::pool::{self, Endpoint, Policy};
use switchyard::route::catalogue;

use super::{EXAMPLE, overrides, plan, read_with};

const DOCS: &str = include_str!("../../docs/configuration.md");

#[test]
fn the_example_is_exactly_the_defaults() {
    let example = plan(EXAMPLE);
    let short = plan("to: collector-a:11800,collector-b:11800");
    assert_eq!((&example.listeners, &example.pools), (&short.listeners, &short.pools));
    assert_eq!((&example.limits, example.reply, &example.log), (&short.limits, short.reply, &short.log));
    assert_eq!((example.memory_bytes, example.workers), (short.memory_bytes, short.workers));
    assert_eq!(example.identity, Identity::default());
    let known: Vec<&str> = example.routes.all().iter().map(|route| route.method.path).collect();
    assert_eq!(known.len(), catalogue::methods().len());
    assert!(example.routes.all().iter().all(|route| route.rules.len() == 1), "no rule but the one for the rest");
    let endpoint = |host: &str| Endpoint { host: host.into(), port: 11_800 };
    assert_eq!(
        example.pools[0],
        pool::Settings::new("default", vec![endpoint("collector-a"), endpoint("collector-b")])
    );
    assert_eq!(example.limits, Limits::default());
    assert_eq!(example.reply, Reply::default());
    assert_eq!(example.log, Log::default());
    assert_eq!(example.memory_bytes, 256 << 20);
    assert_eq!(example.drain_deadline, Duration::from_secs(30));
    assert!(example.workers >= 1);
    let listeners: Vec<_> = example.listeners.iter().map(|l| (l.name, l.address.to_string(), l.only)).collect();
    let expected = [
        ("agents", "0.0.0.0:11800".to_string(), None),
        ("access_logs", "0.0.0.0:11802".to_string(), Some(Flow::AccessLogs)),
        ("metrics", "0.0.0.0:11803".to_string(), Some(Flow::Metrics)),
    ];
    assert_eq!(listeners, expected);
    assert_eq!(example.prometheus.map(|a| a.to_string()).as_deref(), Some("0.0.0.0:1234"));
    assert_eq!(example.admin.map(|a| a.to_string()).as_deref(), Some("127.0.0.1:9901"));
}

#[test]
fn the_example_names_every_setting() {
    let last = |path: &'static str| path.rsplit('.').next().unwrap();
    let missing: Vec<_> = KEYS.iter().filter(|key| !EXAMPLE.contains(&format!("{}:", last(key.path)))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_manual_names_every_setting_with_its_bounds() {
    for key in KEYS {
        let row = DOCS.lines().find(|line| line.starts_with(&format!("| `{}` |", key.path)));
        let row = row.unwrap_or_else(|| panic!("docs/configuration.md: no row for `{}`", key.path));
        assert!(row.ends_with(&format!("| {} |", key.kind.takes())), "{row}\nshould end with {}", key.kind.takes());
    }
    for line in DOCS.lines().filter_map(|line| line.strip_prefix("| `")).filter(|line| !line.starts_with("--")) {
        let path = line.split('`').next().unwrap();
        assert!(KEYS.iter().any(|key| key.path == path), "docs/configuration.md: there is no `{path}`");
    }
}

#[test]
fn the_defaults_in_the_manual_are_those_of_the_example() {
    for key in KEYS.iter().filter(|key| matches!(key.kind, Kind::Amount(_) | Kind::Address)) {
        let row = DOCS.lines().find(|line| line.starts_with(&format!("| `{}` |", key.path))).unwrap();
        // One that is not in code letters is no value but says where the value comes from.
        let Some(default) = row.split(" | ").nth(2).unwrap().strip_prefix('`') else { continue };
        let default = default.trim_end_matches('`');
        let name = key.path.rsplit('.').next().unwrap();
        let written = EXAMPLE.lines().any(|line| line.trim_start().starts_with(&format!("{name}: {default}")));
        assert!(written, "{}: {default}", key.path);
    }
}

#[test]
fn every_setting_can_be_chosen() {
    let text = "
listen: { agents: '[::1]:4317', access_logs: off, metrics: 5, prometheus: off, admin: 6 }
pool:
  endpoints: [ 'oap-0:1', '[2001:db8::1]:2', 10.0.0.1:3 ]
  balance: hash
  linger: 0
  trip: { messages: 7, bytes: 128KiB, age: 1.5s, answer_deadline: 8s, hard_deadline: 9s }
  in_flight: 16MiB
  in_flight_messages: 640
  channel_age: 10m
  channels: 11
  eject_after: 12
  connect_deadline: 13s
  authentication: secret
  message: 2MiB
reply: delivered
methods: [ /a.B/C, { path: /D/E, flow: metrics } ]
limits:
  memory: 64MiB
  connections: 15
  connections_per_listener: 14
  connections_per_source: 13
  source_prefix: { ipv4: 24, ipv6: 56 }
  calls_per_listener: 12
  calls_per_connection: 16
  message: 5MiB
  header_list: 8KiB
  handshake_deadline: 17s
  first_call_deadline: 18s
  message_deadline: 19s
  connection_age: 30m
  connection_age_grace: 20s
  idle_connection: 2h
  relay_deadline: 200ms
drain_deadline: 1m
workers: 3
log: { level: 'warn,switchyard::pool=debug', format: json }
";
    let plan = plan(text);
    let names: Vec<_> = plan.pools[0].backends.iter().map(|backend| backend.name.clone()).collect();
    assert_eq!(names, ["oap-0:1", "[2001:db8::1]:2", "10.0.0.1:3"]);
    assert_eq!((plan.pools[0].balance, plan.pools[0].linger), (Policy::Hash, Duration::ZERO));
    assert_eq!((plan.pools[0].trip.messages_max, plan.pools[0].trip.bytes_max), (7, 128 << 10));
    assert_eq!(plan.pools[0].trip.age_max, Duration::from_millis(1_500));
    assert_eq!(plan.pools[0].trip.answer_deadline, Duration::from_secs(8));
    assert_eq!(plan.pools[0].trip.hard_deadline, Duration::from_secs(9));
    assert_eq!(
        (plan.pools[0].in_flight_bytes_max, plan.pools[0].channels_max, plan.pools[0].eject_after),
        (16 << 20, 11, 12)
    );
    assert_eq!(plan.pools[0].in_flight_messages_max, Some(640));
    assert_eq!(plan.pools[0].channel_age_max, Some(Duration::from_secs(600)));
    assert_eq!(plan.pools[0].connect_deadline, Duration::from_secs(13));
    assert_eq!(plan.pools[0].authentication.as_ref().map(|token| token.as_bytes()), Some(&b"secret"[..]));
    assert_eq!(plan.pools[0].message_bytes_max, Some(2 << 20));
    assert_eq!(plan.reply, Reply::Delivered);
    let flow = |path: &str| plan.routes.find(path, None).unwrap().method.flow;
    assert_eq!((flow("/a.B/C"), flow("/D/E")), (Flow::Control, Flow::Metrics));
    assert_eq!((plan.memory_bytes, plan.workers, plan.drain_deadline), (64 << 20, 3, Duration::from_secs(60)));
    let expected = Limits {
        connections_max: 15,
        calls_per_connection: 16,
        message_bytes_max: 5 << 20,
        header_list_bytes_max: 8 << 10,
        handshake_deadline: Duration::from_secs(17),
        first_call_deadline: Duration::from_secs(18),
        message_deadline: Duration::from_secs(19),
        connection_age_max: Some(Duration::from_secs(1_800)),
        connection_age_grace: Some(Duration::from_secs(20)),
        connection_idle_max: Some(Duration::from_secs(7_200)),
        relay_deadline: Duration::from_millis(200),
    };
    assert_eq!(plan.limits, expected);
    assert_eq!(plan.listeners.iter().map(|l| l.address.to_string()).collect::<Vec<_>>(), ["[::1]:4317", "0.0.0.0:5"]);
    for port in &plan.listeners {
        assert_eq!((port.connections_max, port.calls_max, port.connections_per_source_max), (14, Some(12), Some(13)));
        assert_eq!(port.source_prefix, SourcePrefix { ipv4_bits: 24, ipv6_bits: 56 });
    }
    assert_eq!((plan.prometheus, plan.admin.map(|a| a.to_string())), (None, Some("127.0.0.1:6".into())));
    assert_eq!(plan.log, Log { level: "warn,switchyard::pool=debug".into(), format: LogFormat::Json });
}

#[test]
fn variables_are_filled_in_after_parsing_so_they_can_never_add_a_setting() {
    let text = "to: ${BACKENDS:-a:1}\nworkers: \"${WORKERS:-2}\"";
    assert_eq!(read_with(text, &[], &[]).unwrap().0.workers, 2);
    let (plan, _) = read_with(text, &[], &[("BACKENDS", "b:1,c:2"), ("WORKERS", "5")]).unwrap();
    assert_eq!((plan.pools[0].backends.len(), plan.workers), (2, 5));
    let attack = read_with(text, &[], &[("BACKENDS", "a:1\nreply: delivered")]).unwrap_err();
    assert_eq!(attack[0].key, "to");
}

#[test]
fn flags_need_no_file_and_win_over_one() {
    let flags =
        ["--to", "x:1,[::1]:2", "--agents", "4317", "--access-logs", "off", "--admin", ":99", "--reply", "delivered"];
    let (alone, _) = Plan::from_flags(&overrides(&flags)).unwrap();
    let (over, _) = read_with("to: a:1\nlisten: {agents: 1, metrics: 2}\nreply: received", &flags, &[]).unwrap();
    for plan in [&alone, &over] {
        assert_eq!(
            plan.pools[0].backends.iter().map(|backend| backend.name.clone()).collect::<Vec<_>>(),
            ["x:1", "[::1]:2"]
        );
        assert_eq!(plan.listeners[0].address.to_string(), "0.0.0.0:4317");
        assert_eq!(plan.listeners[1].name, "metrics");
        assert_eq!(plan.admin.unwrap().to_string(), "127.0.0.1:99");
        assert_eq!(plan.reply, Reply::Delivered);
    }
    assert_eq!(alone.listeners[1].address.port(), 11_803);
    assert_eq!(over.listeners[1].address.port(), 2);
}

#[test]
fn the_banner_tells_ports_backends_and_budget_in_under_ten_lines() {
    let plan = plan("to: a:1,b:1,c:1,d:1,e:1,f:1,g:1\nworkers: 2");
    let expected = "\
agents       0.0.0.0:11800         every flow, no TLS
access_logs  0.0.0.0:11802         access logs only, no TLS
metrics      0.0.0.0:11803         metrics only, no TLS
prometheus   0.0.0.0:1234          /metrics /ready /live, no TLS
admin        127.0.0.1:9901        /snapshot /ready /live
pool         7 backends by least_load: a:1, b:1, c:1, d:1, e:1, f:1 and 1 more
memory       256MiB for messages of up to 4MiB, 2 workers
reply        OK once received";
    assert_eq!(plan.describe().join("\n"), expected);
}
