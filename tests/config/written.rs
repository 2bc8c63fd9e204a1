//! What is other in one config than in another, told without its secrets.

use crate::plan;

fn changes(before: &str, now: &str) -> Vec<String> {
    plan(now).written.changes_since(&plan(before).written).iter().map(ToString::to_string).collect()
}

#[test]
fn a_diff_names_each_setting_once() {
    let before = "to: [a:1, b:1]\npool: { balance: hash, linger: 1ms }\nlimits: { message: 1MiB }";
    let now = "to: [a:1, b:1, c:1]\npool: { balance: least_load }\nlimits: { message: 1MiB, memory: 64MiB }";
    let expected = [
        "+ limits.memory: 64MiB (from the next start on)",
        "~ pool.balance: hash -> least_load",
        "- pool.linger: 1ms",
        "~ to: a:1, b:1 -> a:1, b:1, c:1",
    ];
    assert_eq!(changes(before, now), expected);
    assert_eq!(changes(now, now), [""; 0]);
}

#[test]
fn items_of_lists_have_numbers() {
    let before = "to: a:1\npools: { b: b:1 }\nroutes: [ { message: { service: x }, to: b } ]";
    let now = "to: a:1\npools: { b: b:1 }\nroutes: [ { message: { service: y }, to: b } ]";
    assert_eq!(changes(before, now), ["~ routes[0].message.service: x -> y"]);
}

#[test]
fn a_secret_that_changes_is_told_without_its_value() {
    let before = "to: a:1\npool: { authentication: one-token }\nidentity: { tokens: [first-token] }";
    let now = "to: a:1\npool: { authentication: other-token }\nidentity: { tokens: [first-token, second-token] }";
    let told = changes(before, now);
    assert_eq!(
        told,
        ["~ identity.tokens: (a secret) -> (a secret)", "~ pool.authentication: (a secret) -> (a secret)"]
    );
}
