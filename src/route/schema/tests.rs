//! Names of our own methods and of made-up ones.

use proptest::prelude::*;

use super::*;
use crate::message::flow::Flow;
use crate::route::catalogue;
use crate::route::contract::{Contract, Key};

const LOGS: &str = "/skywalking.v3.LogReportService/collect";
const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const ACCESS_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const SPANS: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn method(path: &str) -> Method {
    catalogue::methods().into_iter().find(|method| method.path == path).expect("it is in the catalogue")
}

fn find(path: &str, name: &str) -> Result<Place, NoPlace> {
    Schema::built_in().find(&method(path), name)
}

fn shown(path: &str, name: &str) -> String {
    find(path, name).map_or_else(|none| none.what, |place| place.path.to_string())
}

/// AnyCable's messages are not ours to know.
fn is_described(method: &Method) -> bool {
    !method.path.starts_with("/anycable.")
}

#[test]
fn every_method_of_the_catalogue_has_a_descriptor() {
    let schema = Schema::built_in();
    let without: Vec<_> = catalogue::methods()
        .into_iter()
        .filter(|method| is_described(method) && schema.request(method).is_none())
        .map(|method| method.path)
        .collect();
    assert_eq!(without, [""; 0]);
}

#[test]
fn every_short_name_and_key_of_the_catalogue_leads_to_a_text_or_a_message() {
    let schema = Schema::built_in();
    for method in catalogue::methods().iter().filter(|method| is_described(method)) {
        let message = schema.request(method);
        let keys: Vec<FieldPath> = match &method.contract.key {
            Some(Key::Fields(paths)) => paths.clone(),
            Some(Key::LastOfElements { field, paths }) => paths.iter().map(|path| path.below(*field)).collect(),
            None => Vec::new(),
        };
        for path in method.fields.iter().map(|(_, path)| path).chain(&keys) {
            let place = numbers::place(message.as_ref(), path.clone()).expect(method.path);
            let is_right = matches!(place.leaf, Leaf::Text | Leaf::Variant(_) | Leaf::Message(_) | Leaf::Bool);
            assert!(is_right, "{} {path}: {}", method.path, place.leaf.noun());
        }
    }
}

#[test]
fn a_name_is_short_or_as_in_the_proto_file_or_as_in_json() {
    assert_eq!(shown(LOGS, "service"), "2");
    assert_eq!(shown(LOGS, "serviceInstance"), "3");
    assert_eq!(shown(LOGS, "traceContext.traceId"), "6.1");
    assert_eq!(shown(SPANS, "resource_spans.scope_spans.spans.name"), "1.2.2.5");
    assert_eq!(shown(SPANS, "resourceSpans.scopeSpans.spans.name"), "1.2.2.5");
    assert_eq!(shown(LOGS, "6.1"), "6.1");
}

#[test]
fn keys_in_brackets_lead_into_maps_of_every_kind() {
    assert_eq!(shown(LOGS, "tags.data[http.method]"), "7.1[http.method]");
    assert_eq!(shown(SPANS, "resource_spans.resource.attributes[service.name].string_value"), "1.1.1[service.name].1");
    assert_eq!(shown(ACCESS_LOGS, "identifier.node.metadata[NAME].string_value"), "1.1.3.1[NAME].3");
    assert_eq!(shown(ACCESS_LOGS, "identifier.node.metadata.fields[NAME].string_value"), "1.1.3.1[NAME].3");
    let labels = "identifier.node.metadata[LABELS][app][x].string_value";
    assert_eq!(shown(ACCESS_LOGS, labels), "1.1.3.1[LABELS].5.1[app].5.1[x].3");
    assert_eq!(shown(ACCESS_LOGS, "identifier.node.metadata[a]b]"), "1.1.3.1[a]b]");
    let variant = find(ACCESS_LOGS, "identifier.node.metadata[NAME]").unwrap();
    let Leaf::Variant(variant) = variant.leaf else { panic!("{variant:?}") };
    assert_eq!((variant.text.to_string(), variant.number), ("1.1.3.1[NAME].3".to_owned(), None));
    assert_eq!(variant.bool.map(|path| path.to_string()).as_deref(), Some("1.1.3.1[NAME].4"));
}

#[test]
fn names_and_numbers_lead_to_the_same_place() {
    for (path, name) in [
        (LOGS, "traceContext.traceId"),
        (SEGMENTS, "spans.startTime"),
        (SPANS, "resource_spans.resource"),
        (SPANS, "resource_spans.resource.attributes[a.b]"),
    ] {
        let named = find(path, name).unwrap();
        assert_eq!(find(path, &named.path.to_string()).unwrap(), named, "{name}");
    }
    assert!(find(SEGMENTS, "spans.startTime").unwrap().is_repeated);
    assert!(!find(LOGS, "traceContext.traceId").unwrap().is_repeated);
}

#[test]
fn old_envoys_and_batches_have_the_fields_of_their_elements() {
    assert_eq!(shown("/envoy.service.accesslog.v2.AccessLogService/StreamAccessLogs", "identifier.log_name"), "1.2");
    assert_eq!(shown("/skywalking.v3.TraceSegmentReportService/collectInSync", "serviceInstance"), "5");
}

#[test]
fn numbers_that_no_descriptor_knows_are_allowed_and_those_that_cannot_be_are_not() {
    assert_eq!(find(LOGS, "99.1").unwrap().leaf, Leaf::Unknown);
    let inside = find(LOGS, "2.1").unwrap_err();
    assert_eq!(
        (inside.right_steps, inside.what.as_str()),
        (1, "nothing stands inside of field 2, `service`: it is no message")
    );
    assert!(find(LOGS, "2[key]").unwrap_err().what.contains("no map"));
}

/// A schema with a message that has a field of every kind.
fn made_up() -> (Schema, Method) {
    let source = r#"
        syntax = "proto3";
        package shop;
        service S { rpc Push(stream M) returns (M); rpc Watch(M) returns (stream M); }
        enum Level { LOW = 0; HIGH = 5; }
        message M {
          string text = 1; bytes raw = 2; bool flag = 3; sint32 zigzag = 4; fixed64 fixed = 5; uint32 count = 6;
          Level level = 7; double ratio = 8; repeated int32 packed = 9; repeated int32 loose = 10 [packed = false];
          M inner = 11; map<string, string> labels = 12; map<int32, string> by_number = 13;
          oneof kind { string one = 14; M other = 15; }
        }
    "#;
    let parsed = protox::Compiler::with_file_resolver(Source(source))
        .open_file("shop.proto")
        .expect("it compiles")
        .file_descriptor_set();
    let mut sets = sets::Sets::default();
    sets.add(&prost_reflect::prost::Message::encode_to_vec(&parsed)).unwrap();
    let method = Method {
        path: "/shop.S/Push",
        package_less: None,
        flow: Flow::Control,
        contract: Contract::of(Split::Each),
        fields: vec![("short".to_owned(), FieldPath::of(&[11, 1]))],
        origin: Origin::Config,
    };
    (Schema::with(sets.finish().unwrap()), method)
}

struct Source(&'static str);

impl protox::file::FileResolver for Source {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        protox::file::File::from_source(name, self.0)
    }
}

#[test]
fn a_field_is_known_for_what_it_holds() {
    let (schema, method) = made_up();
    let leaf = |name: &str| schema.find(&method, name).unwrap().leaf;
    let number = |bits, is_signed, is_zigzag| Leaf::Number(Number { bits, is_signed, is_zigzag });
    assert_eq!(
        (leaf("text"), leaf("raw"), leaf("short"), leaf("flag")),
        (Leaf::Text, Leaf::Text, Leaf::Text, Leaf::Bool)
    );
    assert_eq!(
        (leaf("zigzag"), leaf("fixed"), leaf("count")),
        (number(32, true, true), number(64, false, false), number(32, false, false))
    );
    assert!(matches!(leaf("inner.inner.level"), Leaf::Enum(words) if words.name() == "Level"));
    assert_eq!((leaf("ratio"), leaf("packed"), leaf("loose")), (Leaf::Float, Leaf::Packed, number(32, true, false)));
    assert_eq!(
        (leaf("inner"), leaf("labels[a]"), leaf("other.one")),
        (Leaf::Message("shop.M".to_owned()), Leaf::Text, Leaf::Text)
    );
    assert_eq!(leaf("99"), Leaf::Unknown);
}

#[test]
fn a_name_that_leads_nowhere_says_how_far_it_leads() {
    let (schema, method) = made_up();
    for (name, right_steps, what) in [
        ("inner.txt", 1, "shop.M has no field `txt`"),
        ("text.x", 1, "there is no `x` here: nothing stands inside of a text"),
        ("level.x", 1, "there is no `x` here: nothing stands inside of a word of Level"),
        ("by_number[1]", 0, "`by_number` is no map with text keys"),
        ("labels[a].x", 1, "there is no `x` here: nothing stands inside of a text"),
        ("labels[a][b]", 0, "there is no `[b]` here: nothing stands inside of a text"),
        ("inner.kind", 1, "`kind` is a oneof: the message has one of its fields"),
        ("", 0, "a name is missing in \"\""),
    ] {
        let none = schema.find(&method, name).unwrap_err();
        assert_eq!((none.right_steps, none.what.as_str()), (right_steps, what), "{name}");
    }
}

#[test]
fn the_operators_own_description_wins_for_the_operators_own_methods() {
    let (schema, method) = made_up();
    assert_eq!(schema.answers_with_a_stream("/shop.S/Push"), Some(false));
    assert_eq!(schema.answers_with_a_stream("/shop.S/Watch"), Some(true));
    assert_eq!(schema.answers_with_a_stream("/shop.S/Other"), None);
    assert_eq!(schema.given_paths(), ["/shop.S/Push", "/shop.S/Watch"]);
    assert!(Schema::built_in().find(&method, "text").unwrap_err().what.contains("no descriptor says"));
    // Known to both, by the same path, and described otherwise.
    let mut given = DESCRIPTOR_SET.to_vec();
    let (from, to) = (b"\x0a\x0fserviceInstance", b"\x0a\x0fserviceAnything");
    let at = given.windows(from.len()).position(|bytes| bytes == from).expect("LogData has it");
    given[at..at + to.len()].copy_from_slice(to);
    let mut sets = sets::Sets::default();
    sets.add(&given).unwrap();
    let schema = Schema::with(sets.finish().unwrap());
    let ours = catalogue::methods().into_iter().find(|method| schema.find(method, "serviceAnything").is_ok());
    assert_eq!(ours.map(|method| method.path), None);
    let theirs = |method: Method| Method { origin: Origin::Config, ..method };
    assert!(catalogue::methods().into_iter().map(theirs).any(|method| schema.find(&method, "serviceAnything").is_ok()));
}

proptest! {
    #[test]
    fn any_name_is_a_place_or_none(name in r"[a-z_0-9.\[\]]{0,30}") {
        let (schema, method) = made_up();
        let _ = schema.find(&method, &name);
        let _ = Schema::built_in().find(&method, &name);
    }
}
