//! The demo as a script uses it: the real program, a kill in the middle, one JSON object at the end.

use std::process::{Command, Output};

use serde_json::Value;

fn demo(flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_switchyard")).arg("demo").args(flags).output().expect("the program was built")
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[test]
fn a_killed_collector_loses_nothing_and_the_books_agree() {
    let output = demo(&["--seconds", "3", "--kill-after", "1s", "--json", "--any-port", "--rate", "3000"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {text} {}", output.status, String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().count(), 1, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let [received, delivered, held, lost] = ["received", "delivered", "held", "lost"].map(|name| number(&report, name));
    assert_eq!(lost, 0, "{report}");
    assert_eq!(received, delivered + held + lost, "{report}");
    assert_eq!(received, number(&report["agents"], "sent"), "{report}");
    assert_eq!(number(&report["agents"], "errors"), 0, "{report}");
    assert_eq!(number(&report["exactly_once"], "missing"), 0, "{report}");
    assert!(number(&report["exactly_once"], "duplicated") <= number(&report, "possible_duplicates"), "{report}");
    let backends = report["backends"].as_array().unwrap();
    assert_eq!(backends.len(), 3, "{report}");
    assert!(backends.iter().all(|backend| number(backend, "messages") > 0), "{report}");
    assert_eq!(backends.iter().map(|backend| number(backend, "messages")).sum::<u64>(), delivered, "{report}");
}

#[test]
fn into_a_pipe_go_plain_lines_and_a_sum_at_the_end() {
    let output = demo(&["--seconds", "2", "--any-port", "--rate", "1000"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(text.lines().filter(|line| line.contains("msg/s: collector-a")).count() >= 2, "{text}");
    assert!(text.lines().last().unwrap().starts_with("received "), "{text}");
}
