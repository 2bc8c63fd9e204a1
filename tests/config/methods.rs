//! Methods that the operator describes.

use switchyard::config::Plan;
use switchyard::message::flow::Flow;
use switchyard::message::path::FieldPath;
use switchyard::route::contract::{Carry, CarryMode, Contract, Key, Replay, Replier, Split};
use switchyard::route::{Method, Origin};

use super::{assert_says, plan, read, said};

fn method<'a>(plan: &'a Plan, path: &str) -> &'a Method {
    &plan.routes.find(path, None).expect("a method of the plan").method
}

fn contract(settings: &str) -> Contract {
    let plan = plan(&format!("to: a:1\nmethods: [ {{ path: /shop.v1.Telemetry/Push, {settings} }} ]"));
    method(&plan, "/shop.v1.Telemetry/Push").contract.clone()
}

#[track_caller]
fn assert_wrong(settings: &str, expected: &str) {
    let told = said(read(&format!("to: a:1\nmethods:\n- path: /shop.v1.Telemetry/Push\n  {settings}\n")));
    let lines: Vec<_> = told.lines().filter(|line| line.contains(": error: ") || line.contains("  mend: ")).collect();
    let short = lines.join("\n").replace("switchyard.yaml:", "");
    assert!(short == expected.trim_matches('\n'), "\n--- said\n{short}\n--- expected\n{expected}");
}

#[test]
fn a_path_alone_is_a_method_whose_calls_are_kept_whole() {
    let plan = plan("to: a:1\nmethods: [ /a.B/C, { path: /D/E, flow: metrics } ]");
    let (bare, mapped) = (method(&plan, "/a.B/C"), method(&plan, "/D/E"));
    assert_eq!((bare.flow, bare.origin), (Flow::Control, Origin::Config));
    assert_eq!(bare.contract, Contract::of(Split::Whole));
    assert_eq!((mapped.flow, &mapped.contract.split), (Flow::Metrics, &Split::Whole));
}

#[test]
fn every_split_can_be_described() {
    assert_eq!(contract("split: each").split, Split::Each);
    assert_eq!(contract("split: relay").reply, Replier::Backend);
    assert_eq!(contract("split: relay").replay, Replay::NotProcessed);
    assert_eq!(contract("split: relay, replay: always").replay, Replay::Always);
    assert_eq!(contract("split: each, replay: not_processed").replay, Replay::NotProcessed);
    let carry = contract("split: carry, carry: { fields: [2, 3], mode: latest }");
    assert_eq!(carry.split, Split::Carry(Carry { fields: vec![2, 3], mode: CarryMode::Latest }));
    let sets = contract("split: sets, last: 3, name: task, fields: { task: 1 }");
    assert_eq!(sets.split, Split::Sets { last: 3, name: 1 });
}

#[test]
fn a_contract_says_key_stickiness_order_and_needs() {
    let contract = contract(
        "split: each, fields: { source: \"1.4\" }, key: [source, 2], sticky: true, ordered: true, needs: [9, [7, 8]]",
    );
    assert_eq!(contract.key, Some(Key::Fields(vec![FieldPath::of(&[1, 4]), FieldPath::of(&[2])])));
    assert!(contract.sticky && contract.ordered);
    let needs: Vec<_> = contract.needs.iter().map(|need| (need.any_of.as_slice(), need.complaint)).collect();
    assert_eq!(needs, [(&[9][..], "a message must have 9"), (&[7, 8], "a message must have 7 or 8")]);
}

#[test]
fn paths_that_are_none_of_a_method() {
    let expected = r#"
switchyard.yaml:2:19: error: methods[1]: "a.B/D" does not begin with a slash
  2 | methods: [/a.B/C, a.B/D, /a.B/C, { path: /x.Y/*, flow: metric }, { flow:…
    |                   ^^^^^
  mend: write /a.B/D
switchyard.yaml:2:26: error: methods[2]: /a.B/C is named twice
  2 | …ethods: [/a.B/C, a.B/D, /a.B/C, { path: /x.Y/*, flow: metric }, { flow: …
    |                          ^^^^^^
  mend: name each method once
switchyard.yaml:2:42: error: methods[3].path: "/x.Y/*" is not the path of a method
  2 | … a.B/D, /a.B/C, { path: /x.Y/*, flow: metric }, { flow: logs }]
    |                          ^^^^^^
  mend: write /my.pkg.Service/Method, one method each
switchyard.yaml:2:56: error: methods[3].flow: "metric" is not one of control, traces, logs, access_logs, metrics, profiles
  2 | …, { path: /x.Y/*, flow: metric }, { flow: logs }]
    |                          ^^^^^^
  mend: did you mean `metrics`?
switchyard.yaml:2:66: error: methods[4]: has no path
  2 | …/x.Y/*, flow: metric }, { flow: logs }]
    |                          ^
  mend: write `path: /my.pkg.Service/Method`
"#;
    let text = "to: a:1\nmethods: [/a.B/C, a.B/D, /a.B/C, { path: /x.Y/*, flow: metric }, { flow: logs }]";
    assert_says(text, expected);
}

#[test]
fn a_method_that_switchyard_knows_keeps_its_contract() {
    let expected = "
switchyard.yaml:2:12: error: methods[0]: Switchyard knows /skywalking.v3.LogReportService/collect already, and how its receiver reads it
  2 | methods: [ /skywalking.v3.LogReportService/collect ]
    |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  mend: remove it here; what should become of its messages is said under `routes`
";
    assert_says("to: a:1\nmethods: [ /skywalking.v3.LogReportService/collect ]", expected);
}

#[test]
fn relay_is_called_methods_now() {
    let expected = "
switchyard.yaml:2:1: error: relay: there is no such setting
  2 | relay: [ /a.B/C ]
    | ^^^^^
  mend: it is `methods:` now
";
    assert_says("to: a:1\nrelay: [ /a.B/C ]", expected);
}

#[test]
fn records_cannot_be_described() {
    assert_wrong(
        "split: records",
        "
4:10: error: methods[0].split: only requests whose records Switchyard knows how to cut can be `records`: OTLP's
  mend: write one of whole, each, carry, sets, relay
",
    );
}

#[test]
fn a_contract_that_contradicts_itself() {
    assert_wrong(
        "{ sticky: true }".trim_matches(['{', '}', ' ']),
        "
4:11: error: methods[0].sticky: nothing is said of what messages have in common that are sticky
  mend: write `key:` and the fields that say it
",
    );
    assert_wrong(
        "split: relay\n  ordered: true\n  carry: { fields: 1, mode: latest }\n  needs: 1\n  key: 2\n  last: 3",
        "
5:12: error: methods[0].ordered: a call that is `relay` keeps its order anyway, and calls have none among them
  mend: remove it, or write `split: each`
6:10: error: methods[0].carry: goes with `split: carry`, and this method is `relay`
  mend: remove it, or write `split: carry`
7:10: error: methods[0].needs: a call that is `relay` is not looked at message by message
  mend: remove it, or write `split: each`
9:9: error: methods[0].last: goes with `split: sets`, and this method is `relay`
  mend: remove it, or write `split: sets`
",
    );
}

#[test]
fn what_is_carried_must_be_said_whole() {
    assert_wrong(
        "split: carry",
        "
4:10: error: methods[0].split: nothing is said of what each stream says once
  mend: write `carry: { fields: [source], mode: latest }`, or another `split`
",
    );
    assert_wrong(
        "split: carry\n  carry: { fields: [1, 1.2] }",
        "
5:20: error: methods[0].carry.fields: nothing is said of how the receiver reads what is said once
  mend: write `mode:` and one of first_message, first_non_empty, latest
",
    );
    assert_wrong(
        "split: carry\n  carry: { fields: [1, \"1.2\", 1], mode: latest }",
        "
5:24: error: methods[0].carry.fields: `1.2` stands further in
  mend: name a field of the message itself
5:31: error: methods[0].carry.fields: `1` is named twice
  mend: name each field once
",
    );
    assert_wrong(
        "split: carry\n  carry: { fields: [1, 2], mode: first_non_empty }",
        "
5:20: error: methods[0].carry.fields: first_non_empty carries one text
  mend: name one field, or write `mode: latest`
",
    );
}

#[test]
fn sets_name_their_last_message_and_themselves() {
    assert_wrong(
        "split: sets\n  last: [1, 2]",
        "
4:10: error: methods[0].split: sets need a field that names the set a message belongs to
  mend: write `name: its_name`
5:9: error: methods[0].last: takes one field
  mend: name one
",
    );
}

#[test]
fn names_without_a_descriptor_must_be_given_numbers() {
    assert_wrong(
        "key: [service, source.name]\n  fields: { servce: \"1.4\", \"2x\": 1, wrong: one }",
        "
4:9: error: methods[0].key: no descriptor says what `service` is in a message of /shop.v1.Telemetry/Push
  mend: did you mean `servce`?
4:18: error: methods[0].key: no descriptor says what `source.name` is in a message of /shop.v1.Telemetry/Push
  mend: choose from servce
5:28: error: methods[0].fields.2x: \"2x\" cannot be a name
  mend: use letters, digits and `_`, a letter first
5:44: error: methods[0].fields.wrong: \"one\" is not a path of field numbers
  mend: a path of field numbers is written 1.4, an entry of a map 1[key]
",
    );
    assert_wrong(
        "key: service",
        "
4:8: error: methods[0].key: no descriptor says what `service` is in a message of /shop.v1.Telemetry/Push
  mend: add its descriptor set under `protos`, or write its number, as in \"1.4\"
",
    );
}
