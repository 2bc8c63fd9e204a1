//! What agents may take of a port, as it is written.

use super::{plan, read, said};

#[test]
fn a_port_with_settings_of_its_own_keeps_what_it_does_not_say() {
    let text = "
to: a:1
listen:
  agents: { address: 4317, connections: 20, calls: 30, connections_per_source: off }
  access_logs: { connections_per_source: 7 }
  metrics: { address: off }
  admin: { address: 99 }
limits: { connections_per_listener: 40, calls_per_listener: 50, connections_per_source: 6 }
";
    let plan = plan(text);
    let ports: Vec<_> = plan
        .listeners
        .iter()
        .map(|port| (port.address.to_string(), port.connections_max, port.calls_max, port.connections_per_source_max))
        .collect();
    let expected =
        [("0.0.0.0:4317".to_owned(), 20, Some(30), None), ("0.0.0.0:11802".to_owned(), 40, Some(50), Some(7))];
    assert_eq!(ports, expected);
    assert_eq!(plan.admin.map(|admin| admin.to_string()).as_deref(), Some("127.0.0.1:99"));
}

#[test]
fn a_ports_own_settings_are_looked_over_like_all_others() {
    let text = "to: a:1\nlisten: { metrics: { adress: 1, connections: 0, address: 0 }, admin: { connections: 5 } }";
    let problems = read(text).unwrap_err();
    let said: Vec<_> = problems.iter().map(|problem| (problem.key.as_str(), problem.mend.as_str())).collect();
    let expected = [
        ("listen.metrics.adress", "did you mean `address`?"),
        ("listen.metrics.connections", "write 1 to 1000000"),
        ("listen.metrics.address", "write 0.0.0.0:11803, or off"),
        ("listen.admin.connections", "remove it, or write one of address, tls"),
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_ports_limit_that_all_ports_together_never_let_it_reach_is_warned_of_where_it_stands() {
    let text =
        "to: a:1\nlisten: { agents: { connections: 6 } }\nlimits: { connections: 5, connections_per_listener: 5 }";
    let (_, warnings) = read(text).expect("a warning is no error");
    let keys: Vec<_> = warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(keys, ["listen.agents.connections"], "{}", said(read(text)));
}
