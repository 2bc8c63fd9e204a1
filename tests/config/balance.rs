//! Who gets what: policies, what backends say of themselves, affinity, zones.

use std::time::Duration;

use http::HeaderName;
use switchyard::pool::{Affinity, AffinityBy, Policy};

use super::{assert_says, plan, read, read_with, said};

#[test]
fn every_policy_has_its_word() {
    for policy in Policy::ALL {
        let plan = plan(&format!("to: [a:1, b:1]\npool: {{ balance: {} }}", policy.name()));
        assert_eq!(plan.pools[0].balance, policy);
        let line = plan.describe().into_iter().find(|line| line.starts_with("pool")).unwrap();
        assert!(line.contains(&format!("by {}", policy.name())), "{line}");
    }
}

#[test]
fn a_backend_may_say_more_than_its_address() {
    let text = "
to:
  - a:1
  - { address: b:1, weight: 3, zone: eu-1 }
pools:
  tail: { endpoints: [ { address: 'c:1', tier: 1 }, d:1 ], fail_over_below: 50%, zone_spill: off }
zone: eu-1
";
    let plan = plan(text);
    let said = |pool: usize| -> Vec<(String, u32, u32, Option<String>)> {
        let backends = plan.pools[pool].backends.iter();
        backends.map(|found| (found.name.clone(), found.weight, found.priority, found.zone.clone())).collect()
    };
    assert_eq!(said(0), [("a:1".to_owned(), 1, 0, None), ("b:1".to_owned(), 3, 0, Some("eu-1".to_owned()))]);
    assert_eq!(said(1), [("c:1".to_owned(), 1, 1, None), ("d:1".to_owned(), 1, 0, None)]);
    assert_eq!((plan.pools[1].fail_over_below, plan.pools[1].zone_spill), (50, None));
    assert!(plan.pools.iter().all(|pool| pool.zone.as_deref() == Some("eu-1")));
}

#[test]
fn affinity_is_by_peer_by_key_or_by_metadata() {
    let affinity =
        |text: &str| plan(&format!("to: [a:1, b:1]\npool: {{ affinity: {text} }}")).pools[0].affinity.clone();
    let usual = |by| Some(Affinity { by, ttl: Duration::from_secs(600), entries_max: 100_000 });
    assert_eq!(affinity("{ by: peer }"), usual(AffinityBy::Peer));
    assert_eq!(affinity("{ by: key }"), usual(AffinityBy::Key));
    assert_eq!(
        affinity("{ by: 'metadata:X-Tenant' }"),
        usual(AffinityBy::Metadata(HeaderName::from_static("x-tenant")))
    );
    let by = AffinityBy::Peer;
    let expected = Some(Affinity { by, ttl: Duration::from_secs(60), entries_max: 5_000 });
    assert_eq!(affinity("{ by: peer, ttl: 1m, entries: 5000 }"), expected);
    assert_eq!(affinity(""), None);
}

#[test]
fn where_the_gateway_runs_may_be_a_variable_and_the_file_wins() {
    let zone = |text: &str, variable: &str| {
        let (plan, warnings) = read_with(text, &[], &[("SWITCHYARD_ZONE", variable)]).unwrap();
        (plan.pools[0].zone.clone(), warnings.len())
    };
    assert_eq!(zone("to: a:1", "eu-1"), (Some("eu-1".to_owned()), 0), "nobody is blamed for a variable");
    assert_eq!(zone("to: a:1", ""), (None, 0));
    let said = zone("to: [{ address: a:1, zone: eu-2 }]\nzone: eu-2", "eu-1");
    assert_eq!(said, (Some("eu-2".to_owned()), 0));
}

#[test]
fn what_is_wrong_with_balancing() {
    let text = "
to: [ { address: a:1, weight: 0 }, { weight: 2 }, { address: a, tier: -1 }, { address: b:1, wieght: 2 } ]
pool:
  hash_bound: 90%
  fail_over_below: 0.5
  hand_over: 1ms
  affinity: { by: header }
pools:
  tail: { endpoints: [c:1], affinity: { ttl: 5m } }
";
    let told = said(read(text));
    let keys: Vec<&str> = told.lines().filter_map(|line| line.split(": error: ").nth(1)).collect();
    let expected = [
        "to[0].weight: 0 is less than 1",
        "to[1]: has no address",
        "to[2].address: \"a\" has no port",
        "to[2].tier: \"-1\" is not a whole number",
        "to[3].wieght: there is no such setting",
        "pool.hash_bound: 90% is less than 105%",
        "pool.fail_over_below: \"0.5\" is not a whole number of percent",
        "pool.hand_over: 1ms is less than 100ms",
        "pool.affinity.by: \"header\" is nothing that can be kept together",
        "pools.tail.affinity: does not say what is kept together",
    ];
    assert_eq!(keys, expected, "{told}");
}

#[test]
fn what_changes_nothing_is_a_warning() {
    let expected = "
switchyard.yaml:2:18: warning: pool.balance: weights count for nothing: the first backend that is up gets everything
  2 | pool: { balance: pick_first, affinity: { by: peer }, hash_bound: off }
    |                  ^^^^^^^^^^
  mend: write another policy, or tiers instead of weights
switchyard.yaml:2:46: warning: pool.affinity.by: changes nothing: with pick_first the first backend that is up gets everything
  2 | pool: { balance: pick_first, affinity: { by: peer }, hash_bound: off }
    |                                              ^^^^
  mend: remove it, or choose another
switchyard.yaml:2:66: warning: pool.hash_bound: counts where `balance` is hash, and it is pick_first
  2 | pool: { balance: pick_first, affinity: { by: peer }, hash_bound: off }
    |                                                                  ^^^
  mend: write `balance: hash`, or remove this
switchyard.yaml:3:7: warning: zone: counts for nothing: no backend says where it runs
  3 | zone: eu-1
    |       ^^^^
  mend: write it as in `to: [{ address: collector-a:11800, zone: eu-1 }]`, or remove this
";
    let text = "to: [ { address: a:1, weight: 2 }, b:1 ]
pool: { balance: pick_first, affinity: { by: peer }, hash_bound: off }
zone: eu-1";
    assert_says(text, expected);
    let elsewhere = said(read("to: [ { address: a:1, zone: us-1 } ]\nzone: eu-1"));
    assert!(elsewhere.contains("no backend runs in eu-1; others do in us-1"), "{elsewhere}");
    let hashed = said(read("to: [a:1, b:1]\npool: { balance: hash, affinity: { by: key } }"));
    assert!(hashed.contains("keys are hashed"), "{hashed}");
}

#[test]
fn affinity_by_key_in_a_pool_that_gets_no_keys() {
    let pool = "to: a:1\npools: { tail: { endpoints: [b:1, c:1], affinity: { by: key } } }";
    let profiles = "routes: [ { method: 'skywalking.v3.ProfileTask/goProfileReport', to: tail";
    let told = said(read(&format!("{pool}\n{profiles} }} ]")));
    assert!(
        told.contains("pools.tail.affinity.by: changes nothing: no message that goes to this pool has a key"),
        "{told}"
    );
    assert_eq!(said(read(&format!("{pool}\n{profiles}, key: task_id }} ]"))), "");
}

#[test]
fn the_example_of_the_manual_is_sound() {
    let manual = include_str!("../../docs/balancing.md");
    let example = manual.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let plan = plan(example);
    assert_eq!((plan.pools[0].backends.len(), plan.pools[0].zone.as_deref()), (4, Some("eu-1")));
}
