//! What mistakes print, letter by letter: messages are product.

use switchyard::config::{Overrides, Plan, Severity};

use super::{assert_says, plan, read, read_with, said};

#[test]
fn all_mistakes_of_a_file_are_told_at_once_in_its_order() {
    let text = "
to: [collector-a:11800, collector-b, collector-a:11800]
pool:
  trip:
    age: 5
    agee: 5s
  balance: hsah
limts: { memory: 1MiB }
memory: 256MB
workers: two
";
    let expected = r#"
switchyard.yaml:2:25: error: to: "collector-b" has no port
  2 | to: [collector-a:11800, collector-b, collector-a:11800]
    |                         ^^^^^^^^^^^
  mend: write collector-b:11800
switchyard.yaml:2:38: error: to: collector-a:11800 is named twice
  2 | to: [collector-a:11800, collector-b, collector-a:11800]
    |                                      ^^^^^^^^^^^^^^^^^
  mend: name each backend once
switchyard.yaml:5:10: error: pool.trip.age: "5" has no unit
  5 |     age: 5
    |          ^
  mend: write 5s or 5ms (units: ns, us, ms, s, m, h, d)
switchyard.yaml:6:5: error: pool.trip.agee: there is no such setting
  6 |     agee: 5s
    |     ^^^^
  mend: did you mean `age`?
switchyard.yaml:7:12: error: pool.balance: "hsah" is not one of least_load, round_robin, hash
  7 |   balance: hsah
    |            ^^^^
  mend: did you mean `hash`?
switchyard.yaml:8:1: error: limts: there is no such setting
  8 | limts: { memory: 1MiB }
    | ^^^^^
  mend: did you mean `limits`?
switchyard.yaml:9:1: error: memory: there is no such setting
  9 | memory: 256MB
    | ^^^^^^
  mend: it is `limits.memory`: write it there
switchyard.yaml:10:10: error: workers: "two" is not a whole number
  10 | workers: two
     |          ^^^
  mend: write digits only, for example 8
"#;
    assert_says(text, expected);
}

#[test]
fn no_backend() {
    let expected = "
switchyard.yaml: error: to: there is no backend to send to
  mend: write `to: [collector-a:11800, collector-b:11800]`, or run with --to collector-a:11800
";
    for nothing in ["", "# nothing yet\n", "listen:\n", "pool: {}", "to: []"] {
        assert_eq!(said(read(nothing)).lines().last(), expected.trim_end().lines().last(), "{nothing}");
    }
    assert_says("", expected);
    let alone = "error: --to: there is no backend to send to\n  mend: add --to collector-a:11800,collector-b:11800";
    assert_eq!(said(Plan::from_flags(&Overrides::default())), alone);
}

#[test]
fn backends_named_in_both_places() {
    let expected = "
switchyard.yaml:2:9: error: pool.endpoints: `to` names the backends already
  2 | pool: { endpoints: [b:1] }
    |         ^^^^^^^^^
  mend: keep one of the two
";
    assert_says("to: a:1\npool: { endpoints: [b:1] }", expected);
}

#[test]
fn an_address_of_a_browser() {
    let expected = r#"
switchyard.yaml:1:11: error: to: "http://" does not belong to a backend's address
  1 | to: "a:1, http://oap:11800"
    |           ^^^^^^^^^^^^^^^^
  mend: write oap:11800
"#;
    assert_says("to: \"a:1, http://oap:11800\"", expected);
}

#[test]
fn a_gateway_that_sends_to_itself() {
    let expected = "
switchyard.yaml:1:5: error: to: localhost:11800 is this gateway itself (listen.agents is 0.0.0.0:11800)
  1 | to: localhost:11800
    |     ^^^^^^^^^^^^^^^
  mend: name the collector's own address, or listen on another port
";
    assert_says("to: localhost:11800", expected);
    plan("to: localhost:11801");
}

#[test]
fn two_listeners_on_one_port() {
    let expected = "
switchyard.yaml:2:24: error: listen.access_logs: port 1234 is taken by listen.prometheus as well
  2 | listen: { access_logs: 127.0.0.1:1234 }
    |                        ^^^^^^^^^^^^^^
  mend: give each its own port, or set one of them to off
";
    assert_says("to: a:1\nlisten: { access_logs: 127.0.0.1:1234 }", expected);
}

#[test]
fn port_zero_and_no_port_at_all() {
    let expected = "
switchyard.yaml:2:19: error: listen.agents: nobody can find port 0
  2 | listen: { agents: 0 }
    |                   ^
  mend: write 0.0.0.0:11800, or off
";
    assert_says("to: a:1\nlisten: { agents: 0 }", expected);
    let off = said(read("to: a:1\nlisten: { agents: off, access_logs: off, metrics: off }"));
    assert!(off.contains("listen.agents: no port is left for agents"), "{off}");
}

#[test]
fn a_budget_that_cannot_hold_its_messages() {
    let memory = "
switchyard.yaml:2:19: error: limits.memory: 16MiB is less than 4 messages of limits.message, 8MiB
  2 | limits: { memory: 16MiB, message: 8MiB }
    |                   ^^^^^
  mend: raise limits.memory to 32MiB or more, or lower limits.message
switchyard.yaml:3:20: error: pool.in_flight: 1MiB is less than one trip, pool.trip.bytes, 2MiB
  3 | pool: { in_flight: 1MiB, trip: { bytes: 2MiB } }
    |                    ^^^^
  mend: raise pool.in_flight to 2MiB or more, or lower pool.trip.bytes
";
    assert_says(
        "to: a:1\nlimits: { memory: 16MiB, message: 8MiB }\npool: { in_flight: 1MiB, trip: { bytes: 2MiB } }",
        memory,
    );
}

#[test]
fn a_message_larger_than_any_backend_takes() {
    let expected = "
switchyard.yaml:2:20: error: limits.message: 64MiB is more than 50MiB
  2 | limits: { message: 64MiB }
    |                    ^^^^^
  mend: write 4KiB to 50MiB
";
    assert_says("to: a:1\nlimits: { message: 64MiB }", expected);
}

#[test]
fn deadlines_in_the_wrong_order() {
    let expected = "
switchyard.yaml:2:32: error: pool.trip.hard_deadline: 1s is before pool.trip.answer_deadline, 2s
  2 | pool: { trip: { hard_deadline: 1s } }
    |                                ^^
  mend: raise hard_deadline to 2s or more, or lower answer_deadline
";
    assert_says("to: a:1\npool: { trip: { hard_deadline: 1s } }", expected);
}

#[test]
fn a_time_of_zero_and_units_of_elsewhere() {
    let expected = r#"
switchyard.yaml:2:22: error: limits.message_deadline: 0s is less than 100ms
  2 |   message_deadline:  0s
    |                      ^^
  mend: write 100ms to 1h
switchyard.yaml:3:11: error: limits.memory: "MB" is not a unit of size
  3 |   memory: 256MB
    |           ^^^^^
  mend: write 256MiB
switchyard.yaml:4:19: error: limits.relay_deadline: cannot be off
  4 |   relay_deadline: off
    |                   ^^^
  mend: write 100ms to 1h
"#;
    assert_says("limits:\n  message_deadline:  0s\n  memory: 256MB\n  relay_deadline: off\nto: a:1", expected);
}

#[test]
fn a_variable_nobody_set() {
    let expected = "
switchyard.yaml:1:5: error: to: is empty: the variable OAP is not set
  1 | to: ${OAP}
    |     ^^^^^^
  mend: set OAP, or write `${OAP:-default}`
";
    assert_says("to: ${OAP}", expected);
    let satellite = "
switchyard.yaml:1:5: error: `${OAP:oap:11800}` is not a variable
  1 | to: ${OAP:oap:11800}
    |     ^^^^^^^^^^^^^^^^
  mend: write `${OAP:-oap:11800}`
";
    assert_says("to: ${OAP:oap:11800}", satellite);
}

#[test]
fn text_that_is_no_yaml() {
    let tab = "
switchyard.yaml:2:2: error: tabs disallowed within this context (block indentation)
  2 | \tagents: 1
    | \t^
  mend: indent with spaces, not tabs
";
    assert_says("listen:\n\tagents: 1", tab);
    let bare = said(read("to: [${A}, ${B}]"));
    assert!(bare.ends_with("mend: between brackets a variable stands in quotes: [\"${VAR}\"]"), "{bare}");
    let twice = "
switchyard.yaml:2:1: error: `to` is said twice
  2 | to: b:1
    | ^^
  mend: keep one of the two
switchyard.yaml:3:10: error: workers: \"x\" is not a whole number
  3 | workers: x
    |          ^
  mend: write digits only, for example 8
";
    assert_says("to: a:1\nto: b:1\nworkers: x", twice);
}

#[test]
fn a_file_of_satellite_is_recognised() {
    let expected = "
switchyard.yaml: error: this is a file of SkyWalking Satellite, not of Switchyard
  mend: none of it is needed: start without a file; SATELLITE_GRPC_CLIENT and its other variables are read as they are, or say where to send with `--to HOST:PORT,...`
";
    assert_says("logger: {}\nsharing: {}\npipes: []\n", expected);
}

#[test]
fn a_flag_is_told_by_its_own_name() {
    let told = said(read_with("to: a:1", &["--agents", "localhost:1", "--to", "b,c:1", "--reply", "recieved"], &[]));
    let expected = r#"
error: --agents: "localhost:1" is not an address to listen on
  mend: write 127.0.0.1:1
error: --to: "b" has no port
  mend: write b:11800
error: --reply: "recieved" is not one of received, delivered
  mend: did you mean `received`?
"#;
    assert_eq!(told, expected.trim_matches('\n'));
}

#[test]
fn what_runs_but_not_as_meant_is_a_warning() {
    let text = "to: a:1\npool: { balance: hash, in_flight: 1GiB }\ndrain_deadline: 1s\nlimits: { connections: 5, connections_per_listener: 6 }";
    let (_, warnings) = read(text).unwrap();
    assert!(warnings.iter().all(|warning| warning.severity == Severity::Warning));
    let keys: Vec<_> = warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(keys, ["pool.balance", "pool.in_flight", "drain_deadline", "limits.connections_per_listener"]);
    let hash = "switchyard.yaml:2:18: warning: pool.balance: hash has nothing to choose from: there is one backend";
    assert_eq!(warnings[0].to_string().lines().next(), Some(hash));
}

#[test]
fn a_config_cannot_move_the_cursor() {
    let told = said(read("to: \"a\\e[2J:1\"\n"));
    assert!(!told.contains('\x1b'), "{told}");
}
