//! Satellite's variables: what they become, who wins over them, and what is said of those that are wrong.

use std::time::Duration;

use switchyard::config::{Plan, Problem};

use super::read_with;

fn read(variables: &[(&str, &str)]) -> (Plan, Vec<Problem>) {
    read_with("", &[], variables).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn backends(plan: &Plan) -> Vec<String> {
    plan.pools[0].backends.iter().map(|backend| backend.name.clone()).collect()
}

/// Everything that is said, without a plan.
fn wrong(variables: &[(&str, &str)]) -> String {
    lines(&read_with("", &[], variables).expect_err("nothing that runs"))
}

const TO: (&str, &str) = ("SATELLITE_GRPC_CLIENT", "oap-0:11800,oap-1:11800");

#[test]
fn they_are_a_whole_configuration() {
    let (plan, warnings) = read(&[
        TO,
        ("SATELLITE_GRPC_ADDRESS", ":4317"),
        ("SATELLITE_GRPC_ACCEPT_LIMIT_CONNECTION_COUNT", "4000"),
        ("SATELLITE_GRPC_AUTHENTICATION", "s3cret"),
        ("SATELLITE_GRPC_TIMEOUT_UNARY", "7s"),
        ("SATELLITE_GRPC_TIMEOUT_STREAM", "1m30s"),
        ("SATELLITE_TELEMETRY_PROMETHEUS_ADDRESS", ":4321"),
        ("SATELLITE_TELEMETRY_PROMETHEUS_ENDPOINT", "/metrics"),
        ("SATELLITE_LOGGER_LEVEL", "WARNING"),
        ("SATELLITE_SHUTDOWN_HOOK_TIME", "5"),
        ("SATELLITE_CONFIG", "ignored-here.yaml"),
    ]);
    assert_eq!(warnings, []);
    assert_eq!(backends(&plan), ["oap-0:11800", "oap-1:11800"]);
    let agents = &plan.listeners[0];
    assert_eq!((agents.address.to_string().as_str(), agents.connections_max), ("0.0.0.0:4317", 4_000));
    assert_eq!(plan.listeners[1].connections_max, 10_000);
    assert_eq!(plan.pools[0].authentication.as_ref().map(|token| token.as_bytes()), Some(&b"s3cret"[..]));
    assert_eq!(plan.limits.relay_deadline, Duration::from_secs(7));
    assert_eq!(plan.pools[0].trip.hard_deadline, Duration::from_secs(90));
    assert_eq!(plan.prometheus.map(|address| address.port()), Some(4_321));
    assert_eq!((plan.log.level.as_str(), plan.drain_deadline), ("warn", Duration::from_secs(5)));
}

#[test]
fn flags_win_over_the_file_and_the_file_over_them() {
    let variables = [
        TO,
        ("SATELLITE_GRPC_ADDRESS", ":1"),
        ("SATELLITE_GRPC_ACCEPT_LIMIT_CONNECTION_COUNT", "40"),
        ("SATELLITE_TELEMETRY_PROMETHEUS_ADDRESS", ":3"),
        ("SATELLITE_SHUTDOWN_HOOK_TIME", "5"),
    ];
    let file = "to: own:1\nlisten: { agents: 2 }\ndrain_deadline: 6s";
    let (plan, _) = read_with(file, &["--prometheus", "4"], &variables).unwrap();
    assert_eq!(backends(&plan), ["own:1"]);
    // What the file says the short way and the variable adds stand together.
    assert_eq!((plan.listeners[0].address.port(), plan.listeners[0].connections_max), (2, 40));
    assert_eq!((plan.prometheus.unwrap().port(), plan.drain_deadline), (4, Duration::from_secs(6)));
    let (plan, _) = read_with("", &["--to", "flag:1"], &[("SATELLITE_GRPC_CLIENT_FINDER", "kubernetes")]).unwrap();
    assert_eq!(backends(&plan), ["flag:1"]);
}

#[test]
fn a_file_with_pools_of_its_own_says_where_to_send() {
    let variables = [TO, ("SATELLITE_GRPC_AUTHENTICATION", "s3cret"), ("SATELLITE_GRPC_TIMEOUT_STREAM", "9s")];
    let (plan, _) = read_with("pools: { tail: own:1 }", &[], &variables).unwrap();
    assert_eq!((plan.pools.len(), plan.pools[0].name.as_str()), (1, "tail"));
    assert_eq!(plan.pools[0].authentication, None);
}

#[test]
fn what_is_wrong_is_said_of_the_variable() {
    let said = wrong(&[
        ("SATELLITE_GRPC_CLIENT", "oap"),
        ("SATELLITE_GRPC_ADDRESS", "localhost:1"),
        ("SATELLITE_GRPC_TIMEOUT_STREAM", "soon"),
        ("SATELLITE_GRPC_ACCEPT_LIMIT_CONNECTION_COUNT", "0"),
        ("SATELLITE_LOGGER_LEVEL", "loud"),
    ]);
    let expected = "\
error: SATELLITE_GRPC_ADDRESS: \"localhost:1\" is not an address to listen on
  mend: write 127.0.0.1:1
error: SATELLITE_GRPC_ACCEPT_LIMIT_CONNECTION_COUNT: 0 is less than 1
  mend: write 1 to 1000000
error: SATELLITE_GRPC_CLIENT: \"oap\" has no port
  mend: write oap:11800
error: SATELLITE_GRPC_TIMEOUT_STREAM: \"soon\" is not a time
  mend: write 5s or 5ms (units: ns, us, ms, s, m, h, d)
error: SATELLITE_LOGGER_LEVEL: \"loud\" is not one of error, warn, info, debug, trace, off
  mend: write one of error, warn, info, debug, trace, off";
    assert_eq!(said, expected);
}

#[test]
fn what_does_not_go_together_is_said_of_the_variable_too() {
    let said = wrong(&[TO, ("SATELLITE_GRPC_TIMEOUT_STREAM", "1s")]);
    assert!(
        said.starts_with("error: SATELLITE_GRPC_TIMEOUT_STREAM: 1s is before pool.trip.answer_deadline, 2s"),
        "{said}"
    );
    let said = wrong(&[TO, ("SATELLITE_GRPC_ADDRESS", ":1234")]);
    assert!(said.contains("port 1234 is taken by"), "{said}");
}

#[test]
fn those_without_effect_are_told_in_one_line() {
    let (_, warnings) = read(&[
        TO,
        ("SATELLITE_QUEUE_PARTITION", "4"),
        ("SATELLITE_TRACINGPIPE_SENDER_FLUSH_TIME", "1000"),
        ("SATELLITE_METERPIPE_FORWARD_ROUTING_RULE_LRU_CACHE_SIZE", "5000"),
        ("SATELLITE_TELEMETRY_PPROF_ADDRESS", ":6060"),
        ("SATELLITE_GRPC_ACCEPT_LIMIT_CPU_UTILIZATION", "75"),
    ]);
    let expected = "\
warning: SATELLITE_*: 3 queue settings ignored: there are no queues to tune; 2 others ignored, with nothing to set here: \
SATELLITE_GRPC_ACCEPT_LIMIT_CPU_UTILIZATION, SATELLITE_TELEMETRY_PPROF_ADDRESS
  mend: nothing has to be done; remove them when you like";
    assert_eq!(lines(&warnings), expected);
}

#[test]
fn an_unknown_one_is_named_with_what_was_meant_and_service_links_are_not() {
    let (_, warnings) = read(&[
        TO,
        ("SATELLITE_GRPC_ADRESS", ":1"),
        ("SATELLITE_PORT_11800_TCP_ADDR", "10.0.0.1"),
        ("SATELLITE_SERVICE_HOST", "10.0.0.1"),
        ("SATELLITE_TELEMETRY_PROMETHEUS_ENDPOINT", "/stats"),
    ]);
    let expected = "\
warning: SATELLITE_GRPC_ADRESS: there is no such variable of Satellite's
  mend: did you mean `SATELLITE_GRPC_ADDRESS`?
warning: SATELLITE_TELEMETRY_PROMETHEUS_ENDPOINT: \"/stats\" has no effect: it is /metrics here
  mend: scrape /metrics";
    assert_eq!(lines(&warnings), expected);
}

#[test]
fn a_token_is_never_shown() {
    let said = wrong(&[TO, ("SATELLITE_GRPC_AUTHENTICATION", "hush\u{1}hush")]);
    assert!(said.starts_with("error: SATELLITE_GRPC_AUTHENTICATION: ") && !said.contains("hush"), "{said}");
}

#[test]
fn a_cluster_is_asked_for_pods_with_a_service_account_only() {
    let finder = ("SATELLITE_GRPC_CLIENT_FINDER", "kubernetes");
    let said = wrong(&[finder, ("SATELLITE_GRPC_CLIENT_KUBERNETES_KIND", "ingress")]);
    assert!(said.starts_with("error: SATELLITE_GRPC_CLIENT_KUBERNETES_KIND: \"ingress\" is not followed"), "{said}");
    let said = wrong(&[finder, ("SATELLITE_GRPC_CLIENT_KUBERNETES_BASIC_AUTH_USERNAME", "me")]);
    assert!(
        said.contains("error: SATELLITE_GRPC_CLIENT_KUBERNETES_BASIC_AUTH_USERNAME: the API takes no password"),
        "{said}"
    );
    let said = wrong(&[TO, ("SATELLITE_GRPC_CLIENT_FINDER", "zookeeper")]);
    assert!(said.starts_with("error: SATELLITE_GRPC_CLIENT_FINDER: \"zookeeper\" finds no backends"), "{said}");
}

#[cfg(feature = "k8s")]
#[test]
fn what_the_api_is_asked_with_may_come_from_variables() {
    let (plan, _) = read(&[
        ("SATELLITE_GRPC_CLIENT_FINDER", "kubernetes"),
        ("SATELLITE_GRPC_CLIENT_KUBERNETES_NAMESPACE", "sky"),
        ("SATELLITE_GRPC_CLIENT_KUBERNETES_SELECTOR_LABEL", "app=oap,release=one"),
        ("SATELLITE_GRPC_CLIENT_KUBERNETES_SELECTOR_FIELD", "status.phase=Running"),
        ("SATELLITE_GRPC_CLIENT_KUBERNETES_API_SERVER", "https://10.0.0.1:6443"),
        ("SATELLITE_GRPC_CLIENT_KUBERNETES_BEARER_TOKEN_FILE", "/run/token"),
    ]);
    let shown = format!("{:?}", plan.sources[0]);
    for part in ["sky", "app=oap,release=one", "status.phase=Running", "10.0.0.1", "6443", "/run/token"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
}
