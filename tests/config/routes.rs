//! Routes: what the operator writes becomes rules for each method, held against real messages.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use switchyard::config::Plan;
use switchyard::message::field;
use switchyard::message::path::FieldPath;
use switchyard::route::contract::Key;
use switchyard::route::reading::Reading;
use switchyard::route::records::RecordKey;
use switchyard::route::rule::decide::Rules;
use switchyard::route::rule::{Action, Malformed, Match, Rule, Test};

use super::{plan, read, said};

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const LOGS: &str = "/skywalking.v3.LogReportService/collect";
const METERS: &str = "/skywalking.v3.MeterReportService/collectBatch";
const ACCESS_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const SPANS: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const PUSH: &str = "/shop.v1.Telemetry/Push";

/// A plan with two pools besides the default one, and these routes.
pub fn with_routes(routes: &str) -> String {
    format!("to: [a:1, a:2]\npools: {{ archive: b:1, tail: [c:1, c:2] }}\nroutes:\n{routes}")
}

fn routed(routes: &str) -> Plan {
    plan(&with_routes(routes))
}

/// The first rule of a method.
fn rule(plan: &Plan, path: &str) -> Rule {
    (*plan.routes.find(path, None).expect("a method").rules[0]).clone()
}

fn rules_of<'a>(plan: &'a Plan, path: &str) -> Vec<&'a str> {
    plan.routes.find(path, None).expect("a method").rules.iter().map(|rule| &*rule.name).collect()
}

/// The name of the rule that a message falls under.
fn falls_under(plan: &Plan, path: &str, listener: &str, metadata: &HeaderMap, body: &[u8]) -> String {
    let route = plan.routes.find(path, None).expect("a method");
    let rules = Rules::of(&route.rules, listener, metadata);
    rules.verdict(&Reading { body, carried: &[] }).rule.name.to_string()
}

fn by_content(plan: &Plan, path: &str, body: &[u8]) -> String {
    falls_under(plan, path, "agents", &HeaderMap::new(), body)
}

fn message(fields: &[(u32, &[u8])]) -> BytesMut {
    let mut body = BytesMut::new();
    for (number, bytes) in fields {
        field::put_bytes(&mut body, *number, bytes);
    }
    body
}

fn segment(service: &str) -> BytesMut {
    message(&[(1, b"trace"), (4, service.as_bytes())])
}

fn metadata(name: &'static str, value: &'static str) -> HeaderMap {
    [(HeaderName::from_static(name), HeaderValue::from_static(value))].into_iter().collect()
}

#[test]
fn a_name_means_its_own_place_in_every_method() {
    let plan = routed("- { message: { service: 'payments-*' }, to: archive, name: payments }");
    assert_eq!(by_content(&plan, SEGMENTS, &message(&[(4, b"payments-eu")])), "payments");
    assert_eq!(by_content(&plan, SEGMENTS, &message(&[(2, b"payments-eu")])), "default");
    assert_eq!(by_content(&plan, LOGS, &message(&[(2, b"payments-eu")])), "payments");
    assert_eq!(by_content(&plan, LOGS, &message(&[(2, b"shop")])), "default");
    assert_eq!(rule(&plan, LOGS).pool, 1);
    // A method that has no service is left alone.
    assert_eq!(rules_of(&plan, "/skywalking.v3.ProfileTask/goProfileReport"), ["default"]);
}

#[test]
fn the_first_route_that_fits_wins() {
    let plan = routed(
        "- { method: skywalking.v3.*, message: { service: shop }, name: shop }\n- { flow: traces, to: tail }\n- { to: archive }",
    );
    assert_eq!(by_content(&plan, SEGMENTS, &segment("shop")), "shop");
    assert_eq!(by_content(&plan, SEGMENTS, &segment("till")), "routes[1]");
    assert_eq!(by_content(&plan, LOGS, &message(&[(2, b"till")])), "routes[2]");
    assert_eq!(rules_of(&plan, SPANS), ["routes[1]", "default"]);
    assert_eq!((rule(&plan, SPANS).pool, rule(&plan, ACCESS_LOGS).pool), (2, 1));
}

#[test]
fn methods_are_named_exactly_by_glob_or_by_their_old_name() {
    for method in [
        "skywalking.v3.TraceSegmentReportService/collect",
        SEGMENTS,
        "/TraceSegmentReportService/collect",
        "*Segment*/collect",
    ] {
        let plan = routed(&format!("- {{ method: '{method}', to: tail }}"));
        assert_eq!((rule(&plan, SEGMENTS).pool, rule(&plan, LOGS).pool), (2, 0), "{method}");
    }
    let both = routed(&format!("- {{ method: [{SEGMENTS}, {LOGS}], to: tail }}"));
    assert_eq!((rule(&both, SEGMENTS).pool, rule(&both, LOGS).pool), (2, 2));
}

#[test]
fn listener_and_metadata_are_the_calls() {
    let plan =
        routed("- { listener: access_logs, to: archive }\n- { metadata: { X-Tenant: [acme, 'beta*'] }, to: tail }");
    let none = HeaderMap::new();
    assert_eq!(falls_under(&plan, ACCESS_LOGS, "access_logs", &none, b""), "routes[0]");
    assert_eq!(falls_under(&plan, ACCESS_LOGS, "agents", &none, b""), "default");
    // A port for access logs only is nothing to a method of traces.
    assert_eq!(rules_of(&plan, SEGMENTS), ["routes[1]", "default"]);
    for (tenant, expected) in [("acme", "routes[1]"), ("beta-2", "routes[1]"), ("gamma", "default")] {
        assert_eq!(falls_under(&plan, SEGMENTS, "agents", &metadata("x-tenant", tenant), b""), expected, "{tenant}");
    }
}

#[test]
fn conditions_nest() {
    let plan = routed(
        "
- any:
    - { method: '*/collect', message: { service: { prefix: shop- } } }
    - all: [ { flow: logs }, { message: { layer: MESH } } ]
  not: { message: { service: shop-test } }
  to: tail
",
    );
    assert_eq!(by_content(&plan, SEGMENTS, &segment("shop-eu")), "routes[0]");
    assert_eq!(by_content(&plan, SEGMENTS, &segment("shop-test")), "default");
    assert_eq!(by_content(&plan, LOGS, &message(&[(2, b"till"), (8, b"MESH")])), "routes[0]");
    assert_eq!(by_content(&plan, LOGS, &message(&[(2, b"shop-test"), (8, b"MESH")])), "default");
}

/// Whether a log with this service falls under a route that compares it so.
fn compares(comparison: &str, service: &str) -> bool {
    let plan = routed(&format!("- {{ method: '{LOGS}', message: {{ service: {comparison} }}, to: tail }}"));
    by_content(&plan, LOGS, &message(&[(2, service.as_bytes())])) == "routes[0]"
}

#[test]
fn a_text_is_compared_in_every_way() {
    for (comparison, fits, does_not) in [
        ("shop", "shop", "shops"),
        ("'sh*p'", "sharp", "sharps"),
        ("'sh?p'", "sh\u{f6}p", "shoop"),
        ("'*op'", "shop", "ops"),
        ("'*ho*'", "shop", "sop"),
        (r"'\*'", "*", "x"),
        (r"'a\b'", r"a\b", "ab"),
        ("[shop, 'till-*']", "till-1", "till"),
        ("''", "", "x"),
        ("{ equals: 'sh*p' }", "sh*p", "shop"),
        ("{ prefix: sh }", "shop", "ash"),
        ("{ suffix: op }", "shop", "opt"),
        ("{ glob: 's*p' }", "shop", "shops"),
        ("{ regex: '^(shop|till)-[0-9]+$' }", "till-42", "till-x"),
        ("{ one_of: ['a*', b] }", "a*", "ab"),
        ("{ present: true }", "x", ""),
        ("{ present: false }", "", "x"),
    ] {
        assert!(compares(comparison, fits), "{comparison}: {fits}");
        assert!(!compares(comparison, does_not), "{comparison}: {does_not}");
    }
}

#[test]
fn what_is_empty_need_not_be_sent() {
    let plan = routed(&format!("- {{ method: '{LOGS}', message: {{ service: '' }}, to: tail }}"));
    assert_eq!(by_content(&plan, LOGS, b""), "routes[0]");
    let zero = routed(&format!("- {{ method: '{LOGS}', message: {{ timestamp: 0 }}, to: tail }}"));
    assert_eq!(by_content(&zero, LOGS, b""), "routes[0]");
    assert_eq!(by_content(&zero, LOGS, &[0x08, 0]), "routes[0]");
    assert_eq!(by_content(&zero, LOGS, &[0x08, 7]), "default");
}

#[test]
fn attributes_and_metadata_of_nodes_are_found_by_their_keys() {
    let plan = routed(
        "
- message: { resource_spans.resource.attributes[service.name]: shop }
  name: spans
- message: { 'identifier.node.metadata[NAME]': shop-1 }
  name: node
- message: { 'identifier.node.metadata[LABELS][app]': shop }
  name: label
"
        .replace(
            "{ resource_spans.resource.attributes[service.name]: shop }",
            "{ 'resource_spans.resource.attributes[service.name]': shop }",
        )
        .as_str(),
    );
    let entry = |key: &[u8], value: &[u8]| message(&[(1, key), (2, value)]);
    let text = |text: &[u8]| message(&[(1, text)]);
    let resource = message(&[(1, &entry(b"host.name", &text(b"shop"))), (1, &entry(b"service.name", &text(b"shop")))]);
    let spans = message(&[(1, &message(&[(1, &resource)]))]);
    assert_eq!(by_content(&plan, SPANS, &spans), "spans");
    let identified = |name: &[u8], value: &[u8]| {
        let node = message(&[(3, &message(&[(1, &entry(name, value))]))]);
        message(&[(1, &message(&[(1, &node)]))])
    };
    let string_value = |text: &[u8]| message(&[(3, text)]);
    assert_eq!(by_content(&plan, ACCESS_LOGS, &identified(b"NAME", &string_value(b"shop-1"))), "node");
    let labels = message(&[(5, &message(&[(1, &entry(b"app", &string_value(b"shop")))]))]);
    assert_eq!(by_content(&plan, ACCESS_LOGS, &identified(b"LABELS", &labels)), "label");
    assert_eq!(by_content(&plan, ACCESS_LOGS, &identified(b"OTHER", &string_value(b"shop-1"))), "default");
}

#[test]
fn every_action_becomes_a_part_of_its_rule() {
    let plan = routed(&format!(
        "
- method: {SEGMENTS}
  to: tail
  sample: {{ share: 25%, by: service }}
  mirror: {{ to: archive, share: 0.1% }}
  limit: {{ rate: 5k/s, burst: 7, per: [service, instance] }}
  key: service
  malformed: pass
  name: busy
- {{ method: {LOGS}, drop: nobody reads it }}
- {{ method: {METERS}, limit: 30/m, mirror: archive }}
"
    ));
    let busy = rule(&plan, SEGMENTS);
    assert_eq!((&*busy.name, busy.pool, busy.malformed), ("busy", 2, Malformed::Pass));
    let Action::Sample(share) = &busy.action else { panic!("{:?}", busy.action) };
    assert_eq!((share.below, share.by.as_slice()), (1 << 62, &[FieldPath::of(&[4])][..]));
    let mirror = busy.mirror.as_ref().unwrap();
    // Segments have a key of their own, the trace.
    assert_eq!((mirror.pool, mirror.share.by.as_slice()), (1, &[FieldPath::of(&[1])][..]));
    let limit = busy.limit.as_ref().unwrap();
    assert_eq!((limit.rate().to_string(), limit.rate().burst()), ("5000/s".to_owned(), 7));
    assert_eq!(limit.per(), [FieldPath::of(&[4]), FieldPath::of(&[5])]);
    assert_eq!(busy.key, Some(Key::Fields(vec![FieldPath::of(&[4])])));
    let dropped = rule(&plan, LOGS);
    assert!(matches!(&dropped.action, Action::Drop { reason } if &**reason == "nobody reads it"));
    let meters = rule(&plan, METERS);
    assert_eq!((meters.limit.unwrap().rate().to_string(), meters.mirror.unwrap().pool), ("30/m".to_owned(), 1));
}

#[test]
fn a_key_of_a_set_is_read_where_its_receiver_reads_it() {
    let plan = routed(&format!("- {{ method: {METERS}, key: service }}"));
    let expected = Key::LastOfElements { field: 1, paths: vec![FieldPath::of(&[3])] };
    assert_eq!(rule(&plan, METERS).key, Some(expected));
}

#[test]
fn otlp_is_cut_by_a_word() {
    for (word, expected) in
        [("trace_id", RecordKey::TraceId), ("service", RecordKey::Service), ("resource", RecordKey::Resource)]
    {
        let plan = routed(&format!("- {{ method: {SPANS}, key: {word}, to: tail }}"));
        let rule = rule(&plan, SPANS);
        assert_eq!((rule.record_key, rule.key), (Some(expected), None), "{word}");
    }
    // One key for traces of every kind.
    let all = routed("- { flow: traces, key: trace_id }");
    assert_eq!(rule(&all, SPANS).record_key, Some(RecordKey::TraceId));
    assert_eq!(rule(&all, SEGMENTS).key, Some(Key::Fields(vec![FieldPath::of(&[1])])));
}

#[test]
fn a_share_of_otlp_is_by_trace_or_by_what_its_requests_are_cut_by() {
    let by = |path: &str, key: &str| {
        let plan = routed(&format!("- {{ method: {path}, sample: 10%{key} }}"));
        let Action::Sample(share) = rule(&plan, path).action else { panic!("it samples") };
        share.by.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let (logs, points) =
        (SPANS.replace("trace.v1.Trace", "logs.v1.Logs"), SPANS.replace("trace.v1.Trace", "metrics.v1.Metrics"));
    assert_eq!((by(SPANS, ""), by(&logs, ""), by(&points, "")), ("1.2.2.1".into(), "1.2.2.9".into(), "1.1".into()));
    assert_eq!((by(SPANS, ", key: trace_id"), by(SPANS, ", key: resource")), ("1.2.2.1".into(), "1.1".into()));
    assert_eq!(by(&points, ", key: service"), "1.1.1[service.name].1");
}

#[test]
fn a_limit_is_shared_by_the_methods_of_its_route() {
    let plan = routed("- { limit: { rate: 1/h, burst: 3, per: service } }");
    let passes =
        |path: &str, body: &[u8]| rule(&plan, path).limit.unwrap().lets_pass(&Reading { body, carried: &[] }, 1);
    assert!(passes(SEGMENTS, &segment("shop")) && passes(LOGS, &message(&[(2, b"shop")])));
    assert!(passes(SEGMENTS, &segment("shop")) && !passes(LOGS, &message(&[(2, b"shop")])));
    assert!(passes(LOGS, &message(&[(2, b"till")])));
}

#[test]
fn calls_with_an_answer_are_not_sampled_and_calls_kept_whole_not_copied() {
    let plan = routed("- { sample: 10%, mirror: { to: tail } }");
    let relayed = rule(&plan, "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations");
    assert!(matches!(relayed.action, Action::Send) && relayed.mirror.is_none());
    let segments = rule(&plan, SEGMENTS);
    assert!(matches!(segments.action, Action::Sample(_)) && segments.mirror.is_some());
}

#[test]
fn a_described_method_is_routed_by_its_own_names_and_numbers() {
    let text = format!(
        "{}methods:\n- path: {PUSH}\n  split: each\n  fields: {{ source: \"1.4\", code: 7 }}\n",
        with_routes(
            "- { message: { source: shop, code: [3, 5] }, to: tail }\n- { message: { '2': x }, method: shop.*, to: archive }\n"
        )
    );
    let plan = plan(&text);
    let mut fits = message(&[(1, &message(&[(4, b"shop")]))]);
    fits.extend_from_slice(&[7 << 3, 5]);
    assert_eq!(by_content(&plan, PUSH, &fits), "routes[0]");
    assert_eq!(by_content(&plan, PUSH, &message(&[(2, b"x")])), "routes[1]");
    assert_eq!(by_content(&plan, PUSH, &message(&[(1, b"")])), "default");
    // What no descriptor knows may be a text or a number.
    let Test::All(tests) = rule(&plan, PUSH).test else { panic!("two conditions") };
    assert!(matches!(&tests[1], Test::Field(_, Match::AnyOf(_))), "{tests:?}");
}

/// The problems of these routes, a line each and a line for each mend.
#[track_caller]
pub fn assert_wrong(routes: &str, expected: &str) {
    let told = said(read(&with_routes(routes)));
    let lines: Vec<_> = told
        .lines()
        .filter(|line| line.contains(": error: ") || line.contains(": warning: ") || line.starts_with("  mend: "))
        .collect();
    let short = lines.join("\n").replace("switchyard.yaml:", "");
    assert!(short == expected.trim_matches('\n'), "\n--- said\n{short}\n--- expected\n{expected}");
}
