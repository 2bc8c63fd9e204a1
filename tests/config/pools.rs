//! Several pools: who they are, which is first, what goes wrong with them.

use std::time::Duration;

use switchyard::pool::Policy;

use super::{assert_says, plan, read, read_with, said};

#[test]
fn a_pool_is_an_address_a_list_a_string_or_settings() {
    let text = "
to: a:1
pools:
  one: b:1
  some: [c:1, c:2]
  more: d:1, d:2
  tail:
    endpoints: [e:1, e:2]
    balance: hash
    linger: 2ms
    trip: { messages: 7 }
    authentication: ${TOKEN}
    message: 1MiB
";
    let (plan, warnings) = read_with(text, &[], &[("TOKEN", "s3cret")]).unwrap();
    assert_eq!(warnings, []);
    let names: Vec<_> = plan.pools.iter().map(|pool| (pool.name.as_str(), pool.backends.len())).collect();
    assert_eq!(names, [("default", 1), ("one", 1), ("some", 2), ("more", 2), ("tail", 2)]);
    let tail = &plan.pools[4];
    assert_eq!((tail.balance, tail.linger, tail.trip.messages_max), (Policy::Hash, Duration::from_millis(2), 7));
    assert_eq!(tail.authentication.as_ref().map(|token| token.as_bytes()), Some(&b"s3cret"[..]));
    assert_eq!(tail.message_bytes_max, Some(1 << 20));
    assert_eq!((plan.pools[0].message_bytes_max, plan.pools[1].authentication.clone()), (None, None));
    let shown = format!("{} {} {plan:?}", plan.describe().join(" "), plan.summary());
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn without_to_the_first_of_the_pools_takes_what_no_rule_is_for() {
    let first = plan("pools: { tail: a:1, rest: b:1 }");
    assert_eq!(first.pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["tail", "rest"]);
    let (flag, _) = read_with("pools: { tail: a:1 }", &["--to", "x:1"], &[]).unwrap();
    assert_eq!(flag.pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["default", "tail"]);
    let named = plan("pools: { default: a:1 }");
    assert_eq!(named.pools.len(), 1);
}

#[test]
fn banner_and_summary_name_every_pool() {
    let plan = plan("to: a:1\npools: { tail: { endpoints: [b:1, b:2], balance: hash } }");
    let lines = plan.describe();
    let pools: Vec<_> = lines.iter().filter(|line| line.starts_with("pool")).map(String::as_str).collect();
    assert_eq!(pools, ["pool         1 backend by least_load: a:1", "pool tail    2 backends by hash: b:1, b:2"]);
    assert_eq!(plan.summary(), "3 listeners, 2 pools (default 1 backend, tail 2 backends), 256MiB of memory");
}

#[test]
fn what_is_wrong_with_a_pool_is_told_by_its_path() {
    let text = "
pools:
  \"a b\": a:1
  empty:
  none: []
  bare: { balance: hash }
  tail: { endpoints: [b:1, b:1], trip: { agee: 5s, bytes: 64MiB }, in_flight: 16MiB }
";
    let expected = r#"
switchyard.yaml:3:3: error: pools.a b: "a b" cannot be the name of a pool
  3 |   "a b": a:1
    |   ^^^^^
  mend: use up to 63 letters, digits, `_`, `-` and `.`
switchyard.yaml:4:8: error: pools.empty: has no value
  4 |   empty:
    |        ^
  mend: write a value, or remove the line to take the default
switchyard.yaml:5:9: error: pools.none: there is no backend to send to
  5 |   none: []
    |         ^
  mend: write `endpoints: [collector-a:11800, collector-b:11800]`
switchyard.yaml:6:9: error: pools.bare: there is no backend to send to
  6 |   bare: { balance: hash }
    |         ^
  mend: write `endpoints: [collector-a:11800, collector-b:11800]`
switchyard.yaml:7:28: error: pools.tail.endpoints: b:1 is named twice
  7 | …ail: { endpoints: [b:1, b:1], trip: { agee: 5s, bytes: 64MiB }, in_fligh…
    |                          ^^^
  mend: name each backend once
switchyard.yaml:7:42: error: pools.tail.trip.agee: there is no such setting
  7 | …ts: [b:1, b:1], trip: { agee: 5s, bytes: 64MiB }, in_flight: 16MiB }
    |                          ^^^^
  mend: did you mean `age`?
switchyard.yaml:7:79: error: pools.tail.in_flight: 16MiB is less than one trip, pools.tail.trip.bytes, 64MiB
  7 | …es: 64MiB }, in_flight: 16MiB }
    |                          ^^^^^
  mend: raise pools.tail.in_flight to 64MiB or more, or lower pools.tail.trip.bytes
"#;
    assert_says(text, expected);
}

#[test]
fn two_pools_of_one_name() {
    let expected = "
switchyard.yaml:2:19: error: pools.default: `to` names the backends of a pool `default` already
  2 | pools: { default: b:1 }
    |                   ^^^
  mend: give this one another name, or keep one of the two
";
    assert_says("to: a:1\npools: { default: b:1 }", expected);
    let twice = said(read("pools:\n  a: a:1\n  a: b:1"));
    assert!(twice.contains("`a` is said twice"), "{twice}");
}

#[test]
fn settings_of_a_default_pool_that_has_no_backends() {
    let expected = "
switchyard.yaml:1:7: error: pool: these are settings of the pool `default`, and nothing says where its backends are
  1 | pool: { balance: hash }
    |       ^
  mend: write `to:` with its backends, or move the settings to `pools.tail:`
";
    assert_says("pool: { balance: hash }\npools: { tail: [a:1, a:2] }", expected);
}
