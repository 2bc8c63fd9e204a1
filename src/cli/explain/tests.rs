//! Questions and their answers.

use super::*;

fn args(method: &str) -> Args {
    Args {
        method: method.to_owned(),
        message: None,
        json: None,
        field: Vec::new(),
        metadata: Vec::new(),
        listener: "agents".to_owned(),
        config: None,
        overrides: Overrides { to: Some("a:1,b:1,c:1".to_owned()), ..Overrides::default() },
        format: Format::Text,
    }
}

fn with_config(test: &str, text: &str, args: Args) -> Args {
    let file = std::env::temp_dir().join(format!("switchyard-explain-{}-{test}.yaml", std::process::id()));
    std::fs::write(&file, text).unwrap();
    Args { config: Some(file), overrides: Overrides::default(), ..args }
}

fn answer(args: &Args) -> (bool, String) {
    let report = report(args).unwrap();
    let mut out = Vec::new();
    report.print(args.format, &mut out).unwrap();
    if let Some(file) = &args.config {
        let _ = std::fs::remove_file(file);
    }
    (report.is_delivered(), String::from_utf8(out).unwrap())
}

const LOGS: &str = "skywalking.v3.LogReportService/collect";
const CONFIG: &str = "
pools:
  oap: [oap-0:11800, oap-1:11800, oap-2:11800]
  tail: { endpoints: [otel-0:4317, otel-1:4317], balance: hash }
routes:
  - name: noise
    message: { service: \"health-*\" }
    drop: health checks
  - name: payments
    message: { service: payments }
    to: tail
";

#[test]
fn a_message_is_followed_to_its_backends() {
    let asked = Args { field: vec!["service=payments".to_owned()], ..args(LOGS) };
    let (delivered, text) = answer(&with_config("followed", CONFIG, asked));
    assert!(delivered);
    for line in [
        "method      /skywalking.v3.LogReportService/collect",
        "contract    flow logs, split carry, carries service (first_non_empty), reply gateway, replay always",
        "route       no  noise: service begins with \"health-\"",
        "route       yes payments: service is \"payments\"",
        "key         service = \"payments\" -> ",
        "action      send to pool tail",
        "candidates  1. otel-",
        "why         the pool's balance is hash: ",
    ] {
        assert!(text.lines().any(|said| said.starts_with(line)), "{line:?} is not in\n{text}");
    }
}

#[test]
fn what_is_dropped_names_its_metric() {
    let asked = Args { field: vec!["service=health-check".to_owned()], ..args(LOGS) };
    let (delivered, text) = answer(&with_config("dropped", CONFIG, asked));
    assert!(!delivered && text.contains("drop: health checks"), "{text}");
    assert!(text.contains("switchyard_messages_lost_total{reason=\"dropped\"}"), "{text}");
}

#[test]
fn a_sticky_key_has_one_order_of_candidates() {
    let asked = |instance: &str| Args {
        field: vec!["service=shop".to_owned(), format!("instance={instance}")],
        format: Format::Json,
        ..args("/skywalking.v3.MeterReportService/collectBatch")
    };
    let candidates = |instance: &str| {
        let answer: serde_json::Value = serde_json::from_str(&answer(&asked(instance)).1).unwrap();
        assert_eq!(answer["key"]["sticky"], true, "{answer}");
        answer["candidates"].clone()
    };
    assert_eq!(candidates("one"), candidates("one"));
    assert!((0..20).any(|number| candidates(&number.to_string()) != candidates("one")));
}

#[test]
fn candidates_say_what_puts_them_where_they_are() {
    let config = "
zone: eu-1
to:
  - { address: standby:1, tier: 1 }
  - { address: far:1, zone: eu-2, weight: 3 }
  - { address: near:1, zone: eu-1 }
";
    let lines = |balance: &str, method: &str| {
        let text = format!("{config}pool: {{ {balance} }}");
        let asked = Args { field: vec!["service=shop".to_owned(), "instance=one".to_owned()], ..args(method) };
        let (_, answer) = answer(&with_config("standing", &text, asked));
        let said = answer.lines().skip_while(|line| !line.starts_with("candidates"));
        said.map(|line| line[12..].to_owned()).collect::<Vec<_>>()
    };
    let near_first = ["1. near:1 (zone eu-1, ours)", "2. far:1 (weight 3, zone eu-2)", "3. standby:1 (tier 1)"];
    let said = lines("balance: round_robin", LOGS);
    assert_eq!(said[..3], near_first);
    assert_eq!(said[3], "round_robin: whoever was given the fewest messages for its weight");
    let said = lines("balance: hash, hash_bound: 150%", LOGS);
    assert!(
        said[2].ends_with("standby:1 (tier 1)")
            && said[3].ends_with("150% of its fair share passes keys on to the next"),
        "{said:?}"
    );
    let said = lines("balance: pick_first", "/skywalking.v3.MeterReportService/collectBatch");
    assert_eq!(said[0], "1. far:1 (weight 3, zone eu-2)", "by name, and nothing else");
    assert!(said[3].starts_with("pick_first: "), "{said:?}");
    let said = lines("affinity: { by: key }", LOGS);
    assert!(said[3].starts_with("affinity by key: where this key went before; a new one by least_load"), "{said:?}");
    let said = lines("affinity: { by: key }", "/skywalking.v3.MeterReportService/collectBatch");
    assert!(said[3].starts_with("equal keys must meet one backend"), "{said:?}");
}

#[test]
fn a_message_may_be_given_as_json() {
    let file = std::env::temp_dir().join(format!("switchyard-explain-{}.json", std::process::id()));
    std::fs::write(&file, r#"{"service": "payments", "layer": "GENERAL"}"#).unwrap();
    let (_, text) = answer(&with_config("json", CONFIG, Args { json: Some(file.clone()), ..args(LOGS) }));
    std::fs::remove_file(&file).unwrap();
    assert!(text.contains("yes payments"), "{text}");
}

#[test]
fn a_question_that_makes_no_sense_says_why() {
    let asked = |method: &str, field: &[&str]| {
        let args = Args { field: field.iter().map(|field| (*field).to_owned()).collect(), ..args(method) };
        report(&args).unwrap_err()
    };
    assert!(asked("/shop.Orders/Watch", &[]).contains("methods:"));
    assert!(asked(LOGS, &["servce=x"]).contains("service"), "{}", asked(LOGS, &["servce=x"]));
    assert!(asked(LOGS, &["service"]).contains("name=value"));
    assert!(report(&Args { listener: "agent".to_owned(), ..args(LOGS) }).unwrap_err().contains("listener"));
}
