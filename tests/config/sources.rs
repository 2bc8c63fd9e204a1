//! Where a pool's backends are: addresses, addresses with more said of them, and the URLs of sources.

use std::path::PathBuf;

use switchyard::discovery::{Source, dns, file};

use super::{assert_says, plan, read, read_with, said};

fn name(name: &str, port: u16) -> Source {
    Source::Dns(dns::Settings { name: name.to_owned(), question: dns::Question::Addresses { port }, resolver: None })
}

#[test]
fn a_source_stands_wherever_backends_may() {
    let text = "
to: dns:///oap:11800
pools:
  plain: a:1
  spread: dns:///tail:4317
  services:
    endpoints: dns+srv:///_grpc._tcp.tail
    resolver: 10.0.0.10
  listed: [\"dns:///only:1\"]
";
    let plan = plan(text);
    let services = dns::Settings {
        name: "_grpc._tcp.tail".to_owned(),
        question: dns::Question::Services,
        resolver: Some("10.0.0.10:53".parse().unwrap()),
    };
    let sources = [name("oap", 11_800), Source::Static, name("tail", 4_317), Source::Dns(services), name("only", 1)];
    assert_eq!(plan.sources, sources);
    assert_eq!(plan.pools.len(), plan.sources.len());
    let pools: Vec<_> = plan.describe().into_iter().filter(|line| line.starts_with("pool")).collect();
    assert_eq!(pools[0], "pool         backends by least_load, from dns:///oap:11800");
    assert_eq!(pools[3], "pool services backends by least_load, from dns+srv://10.0.0.10:53/_grpc._tcp.tail");
    assert!(plan.summary().contains("default backends from dns:///oap:11800, plain 1 backend,"), "{}", plan.summary());
}

#[test]
fn the_flag_takes_a_source_and_wins() {
    let (plan, warnings) = read_with("to: [a:1, b:1]", &["--to", "dns:///oap:11800"], &[]).unwrap();
    assert_eq!((plan.sources, warnings), (vec![name("oap", 11_800)], vec![]));
    let (plan, _) = read_with("to: dns:///oap:11800", &["--to", "a:1,b:1"], &[]).unwrap();
    assert_eq!((plan.sources, plan.pools[0].backends.len()), (vec![Source::Static], 2));
}

#[test]
fn more_can_be_said_of_a_backend_than_its_address() {
    let text = "
to:
  - a:1
  - { address: b:1, name: big, weight: 3, tier: 1, zone: eu-1a }
";
    let plan = plan(text);
    let said = |at: usize| {
        let found = &plan.pools[0].backends[at];
        (found.name.as_str(), found.weight, found.priority, found.zone.as_deref())
    };
    assert_eq!(said(0), ("a:1", 1, 0, None));
    assert_eq!(said(1), ("big", 3, 1, Some("eu-1a")));
}

#[test]
fn what_is_wrong_with_a_source_is_told_with_its_mend() {
    let text = "
pools:
  mixed: [a:1, \"dns:///b:1\"]
  twice: dns:///a:1,dns:///b:1
  slip: dsn:///a:1
  other: consul://a:1
  bare: dns:///a
  server: dns://ns.example.org/a:1
  port: srv:///_grpc._tcp.a:1
  slashes: file://b.yaml
  settings: { endpoints: dns://10.0.0.1/a:1, resolver: 10.0.0.2 }
";
    let expected = r#"
switchyard.yaml:3:17: error: pools.mixed: a source is all of a pool: nothing may stand beside it
  3 |   mixed: [a:1, "dns:///b:1"]
    |                 ^^^^^^^^^^
  mend: give it a pool of its own under `pools:`, or name every backend by host:port
switchyard.yaml:4:10: error: pools.twice: "dns:///a:1,dns:///b:1" names more than one source
  4 |   twice: dns:///a:1,dns:///b:1
    |          ^^^^^^^^^^^^^^^^^^^^^
  mend: give each a pool of its own under `pools:`, or name every backend by host:port
switchyard.yaml:5:9: error: pools.slip: "dsn:" is no source of backends
  5 |   slip: dsn:///a:1
    |         ^^^^^^^^^^
  mend: did you mean `dns:`? There are dns:, dns+srv:, srv:, file:, k8s:, etcd:
switchyard.yaml:6:10: error: pools.other: "consul:" is no source of backends
  6 |   other: consul://a:1
    |          ^^^^^^^^^^^^
  mend: write host:port, or a source: dns:, dns+srv:, srv:, file:, k8s:, etcd:
switchyard.yaml:7:9: error: pools.bare: "dns:///a" has no port
  7 |   bare: dns:///a
    |         ^^^^^^^^
  mend: write dns:///a:11800
switchyard.yaml:8:11: error: pools.server: "ns.example.org" is not the address of a DNS server
  8 |   server: dns://ns.example.org/a:1
    |           ^^^^^^^^^^^^^^^^^^^^^^^^
  mend: write its IP address, with a port if it is not 53: 10.0.0.10 or 10.0.0.10:5353
switchyard.yaml:9:9: error: pools.port: SRV records say the port themselves, and "srv:///_grpc._tcp.a:1" says 1
  9 |   port: srv:///_grpc._tcp.a:1
    |         ^^^^^^^^^^^^^^^^^^^^^
  mend: write dns+srv:///_grpc._tcp.a, or dns:///_grpc._tcp.a:1 for its addresses
switchyard.yaml:10:12: error: pools.slashes: "file://b.yaml" has two slashes: three or none are meant
  10 |   slashes: file://b.yaml
     |            ^^^^^^^^^^^^^
  mend: write file:b.yaml for a file beside the config, file:///b.yaml for one at the root
switchyard.yaml:11:56: error: pools.settings.resolver: `dns://10.0.0.1:53/a:1` names another DNS server
  11 |   settings: { endpoints: dns://10.0.0.1/a:1, resolver: 10.0.0.2 }
     |                                                        ^^^^^^^^
  mend: keep one of the two
"#;
    assert_says(text, expected);
}

#[test]
fn no_two_backends_have_one_name() {
    let text = "
to:
  - { address: a:1, name: one }
  - { address: b:1, name: one }
  - { address: a:1, name: two }
";
    let expected = r#"
switchyard.yaml:4:5: error: to: one is named twice
  4 |   - { address: b:1, name: one }
    |     ^
  mend: name each backend once
switchyard.yaml:5:5: error: to: a:1 is named twice
  5 |   - { address: a:1, name: two }
    |     ^
  mend: name each backend once
"#;
    assert_says(text, expected);
}

#[test]
fn a_lone_name_is_warned_of_where_it_may_have_several_addresses() {
    let expected = "
switchyard.yaml:1:5: warning: to: all addresses of oap.example.org are one backend
  1 | to: oap.example.org:11800
    |     ^^^^^^^^^^^^^^^^^^^^^
  mend: write dns:///oap.example.org:11800 to spread over them; nothing is to be done if it has one
";
    assert_says("to: oap.example.org:11800", expected);
    for quiet in ["10.0.0.1:1", "\"[fd00::1]:1\"", "localhost:1", "oap:1", "[a.b:1, c.d:1]", "dns:///oap.example.org:1"]
    {
        assert_eq!(said(read(&format!("to: {quiet}"))), "", "{quiet}");
    }
}

#[test]
fn a_resolver_nobody_asks_is_warned_of() {
    let said = said(read("to: [a:1, b:1]\npool: { resolver: 10.0.0.10 }"));
    assert!(said.contains("warning: pool.resolver: no DNS server is asked for this pool's backends"), "{said}");
}

#[test]
fn a_listed_file_is_looked_into_and_may_come_later() {
    let path = std::env::temp_dir().join(format!("switchyard-listed-{}.yaml", std::process::id()));
    let text = format!("to: file://{}", path.display());
    let (planned, warnings) = read(&text).unwrap();
    assert_eq!(planned.sources, [Source::File(file::Settings { path: path.clone() })]);
    assert!(warnings[0].to_string().contains("cannot be read"), "{warnings:?}");
    std::fs::write(&path, "- a:1\n- b").unwrap();
    let faulty = said(read(&text));
    std::fs::write(&path, "- a:1\n- b:1").unwrap();
    let sound = said(read(&text));
    std::fs::remove_file(&path).unwrap();
    assert!(faulty.contains(":2: \"b\" has no port") && faulty.contains("warning: to: "), "{faulty}");
    assert_eq!(sound, "");
}

#[test]
fn a_relative_file_lies_beside_the_config() {
    let (plan, _) = switchyard::config::load_with(
        "to: file:b.yaml",
        "etc/switchyard.yaml",
        &Default::default(),
        Default::default(),
    )
    .unwrap();
    assert_eq!(plan.sources, [Source::File(file::Settings { path: PathBuf::from("etc/b.yaml") })]);
}
