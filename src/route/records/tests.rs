//! Whatever is cut holds what the request held: every item once, in order, in its context, where its key says.

use bytes::BytesMut;
use proptest::prelude::*;
use prost::Message as _;

use crate::message::field::{self, Malformed, Value, fields};
use crate::message::run::PREFIX_BYTES;
use crate::proto::opentelemetry::proto::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    logs::v1::LogRecord,
    metrics::v1::Metric,
    trace::v1::Span,
};
use crate::route::key;

use super::{CutError, Limits, Piece, Place, Plan, RecordKey, Records, Resource, Shape, Signal};

/// What one `Resource*` of a made-up request holds.
#[derive(Debug, Clone)]
struct Sender {
    service: Option<u8>,
    instance: Option<u8>,
    unknown: Vec<u8>,
    says_first: bool,
    scopes: Vec<Scope>,
}

#[derive(Debug, Clone)]
struct Scope {
    unknown: Vec<u8>,
    says_first: bool,
    /// Each item's trace, if it has one, and how long it is.
    items: Vec<(Option<u8>, usize)>,
}

/// An item and everything that is said around it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    request: Vec<u8>,
    resource: Vec<u8>,
    scope: Vec<u8>,
    item: Vec<u8>,
}

fn scope() -> impl Strategy<Value = Scope> {
    let items = prop::collection::vec((prop::option::of(0u8..6), 0usize..300), 0..8);
    (prop::collection::vec(any::<u8>(), 0..20), any::<bool>(), items).prop_map(|(unknown, says_first, items)| Scope {
        unknown,
        says_first,
        items,
    })
}

fn sender() -> impl Strategy<Value = Sender> {
    let name = || prop::option::of(0u8..4);
    (name(), name(), prop::collection::vec(any::<u8>(), 0..20), any::<bool>(), prop::collection::vec(scope(), 0..4))
        .prop_map(|(service, instance, unknown, says_first, scopes)| Sender {
            service,
            instance,
            unknown,
            says_first,
            scopes,
        })
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![Just(Signal::Traces), Just(Signal::Metrics), Just(Signal::Logs)]
}

fn record_key() -> impl Strategy<Value = RecordKey> {
    prop_oneof![Just(RecordKey::TraceId), Just(RecordKey::Service), Just(RecordKey::Resource)]
}

fn attribute(name: &str, value: String) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value)) };
    KeyValue { key: name.to_owned(), value: Some(value) }
}

/// What a wrapper says beside what it wraps, a field of a newer version among it, before or behind that.
fn wrapped(says: Vec<u8>, unknown: &[u8], says_first: bool, children: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    if !says_first {
        out.extend_from_slice(children);
    }
    out.extend_from_slice(&says);
    field::put_bytes(&mut out, 1000, unknown);
    if says_first {
        out.extend_from_slice(children);
    }
    out.to_vec()
}

fn item(signal: Signal, trace: Option<u8>, number: usize, length: usize) -> Vec<u8> {
    let trace_id = trace.map(|trace| vec![trace; 16]).unwrap_or_default();
    let text = format!("{number}-{}", "x".repeat(length));
    let mut encoded = match signal {
        Signal::Traces => Span { trace_id, span_id: vec![7; 8], name: text }.encode_to_vec(),
        Signal::Metrics => Metric { name: text, description: String::new() }.encode_to_vec(),
        Signal::Logs => {
            let body = Some(AnyValue { value: Some(any_value::Value::StringValue(text)) });
            LogRecord { body, trace_id, span_id: vec![7; 8] }.encode_to_vec()
        }
    };
    encoded.extend([0x78, 1]); // field 15 of a newer version
    encoded
}

fn encode(signal: Signal, senders: &[Sender]) -> Vec<u8> {
    let mut request = BytesMut::new();
    let mut number = 0;
    for (sender_number, sender) in senders.iter().enumerate() {
        let mut scopes = BytesMut::new();
        for scope in &sender.scopes {
            let mut items = BytesMut::new();
            for (trace, length) in &scope.items {
                field::put_bytes(&mut items, 2, &item(signal, *trace, number, *length));
                number += 1;
            }
            let mut says = BytesMut::new();
            let named = InstrumentationScope { name: "lib".to_owned(), version: "1".to_owned() };
            field::put_bytes(&mut says, 1, &named.encode_to_vec());
            field::put_bytes(&mut says, 3, b"https://schema/scope");
            field::put_bytes(&mut scopes, 2, &wrapped(says.to_vec(), &scope.unknown, scope.says_first, &items));
        }
        let mut resource = BytesMut::new();
        let names =
            [("zone", Some(sender_number as u8)), ("service.name", sender.service), ("host.name", sender.instance)];
        for (name, value) in names {
            if let Some(value) = value {
                field::put_bytes(&mut resource, 1, &attribute(name, value.to_string()).encode_to_vec());
            }
        }
        let mut says = BytesMut::new();
        field::put_bytes(&mut says, 1, &resource);
        field::put_bytes(&mut says, 3, b"https://schema/resource");
        field::put_bytes(&mut request, 1, &wrapped(says.to_vec(), &sender.unknown, sender.says_first, &scopes));
    }
    field::put_bytes(&mut request, 900, b"said of the whole request");
    request.to_vec()
}

/// What a message says beside field `child`, and the values of that.
fn opened(message: &[u8], child: u32) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut says, mut children) = (Vec::new(), Vec::new());
    for field in fields(message) {
        let field = field.expect("protobuf");
        match field.value {
            Value::Bytes(bytes) if field.number == child => children.push(bytes.to_vec()),
            _ => says.extend_from_slice(&message[field.range]),
        }
    }
    (says, children)
}

/// Every item with its context, and every wrapper that wraps nothing; metrics by their whole element.
fn found(signal: Signal, message: &[u8]) -> Vec<Found> {
    let mut all = Vec::new();
    let (request, elements) = opened(message, 1);
    let mut note = |resource: &[u8], scope: &[u8], item: &[u8]| {
        let [resource, scope, item] = [resource, scope, item].map(<[u8]>::to_vec);
        all.push(Found { request: request.clone(), resource, scope, item });
    };
    for element in elements {
        let (resource, scopes) = opened(&element, 2);
        if signal == Signal::Metrics || scopes.is_empty() {
            note(&[], &[], &element);
            continue;
        }
        for scope in scopes {
            let (says, items) = opened(&scope, 2);
            if items.is_empty() {
                note(&resource, &says, &[]);
            }
            items.iter().for_each(|item| note(&resource, &says, item));
        }
    }
    all
}

/// Who owns a found item by this key, worked out the slow way.
fn owner_of(signal: Signal, by: RecordKey, buckets: u64, found: &Found) -> usize {
    let owner = |key: u64| (key % buckets) as usize;
    let trace = match (signal, by) {
        (Signal::Traces, RecordKey::TraceId) => field::last_bytes(&found.item, 1).unwrap(),
        (Signal::Logs, RecordKey::TraceId) => field::last_bytes(&found.item, 9).unwrap(),
        _ => None,
    };
    // The element stands where the resource's sayings do when nothing else was found in it.
    let is_scoped = !found.resource.is_empty();
    if let Some(trace) = trace.filter(|trace| is_scoped && !trace.is_empty()) {
        return owner(key::of_parts([trace]));
    }
    let element = if is_scoped { &found.resource } else { &found.item };
    let said = field::last_bytes(element, 1).unwrap().unwrap_or_default();
    let attributes: Vec<KeyValue> =
        opened(said, 1).1.iter().map(|attribute| KeyValue::decode(&attribute[..]).unwrap()).collect();
    let text = |name: &str| {
        let value = attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value?;
        let any_value::Value::StringValue(text) = value else { return None };
        Some(text)
    };
    let (host, service, zone) = (text("host.name"), text("service.name"), text("zone").unwrap());
    let parts: Vec<String> = match (by, host, service) {
        (RecordKey::Service, _, Some(service)) => vec![service],
        (_, None, None) => {
            // The name and the text: what it is that both are in a message is not hashed.
            vec!["zone".into(), zone]
        }
        (_, host, service) => [("host.name", host), ("service.name", service)]
            .into_iter()
            .filter_map(|(name, value)| Some([name.to_owned(), value?]))
            .flatten()
            .collect(),
    };
    owner(key::of_parts(parts.iter().map(String::as_bytes)))
}

fn body(piece: &Piece) -> &[u8] {
    let (prefix, body) = piece.framed.split_at(PREFIX_BYTES);
    assert_eq!(prefix[0], 0);
    assert_eq!(u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize, body.len());
    body
}

fn parses(signal: Signal, body: &[u8]) -> bool {
    match signal {
        Signal::Traces => ExportTraceServiceRequest::decode(body).is_ok(),
        Signal::Metrics => ExportMetricsServiceRequest::decode(body).is_ok(),
        Signal::Logs => ExportLogsServiceRequest::decode(body).is_ok(),
    }
}

const NO_LIMITS: Limits = Limits { piece_bytes_max: None, total_bytes_max: 64 << 20 };

fn draw(request: &[u8], signal: Signal, by: RecordKey, buckets: u64, limits: Limits) -> Result<Plan<'_>, CutError> {
    let records = Records { key: Some(by), ..Records::of(signal) };
    Plan::draw(request, signal, limits, |resource| records.place(resource), |key| (key % buckets) as usize)
}

proptest! {
    #[test]
    fn pieces_hold_every_item_once_in_order_in_its_context_and_where_its_key_says(
        signal in signal(), by in record_key(), senders in prop::collection::vec(sender(), 0..5),
        buckets in 1u64..5, piece_bytes_max in prop::option::of(50usize..2000),
    ) {
        let request = encode(signal, &senders);
        let original = found(signal, &request);
        let limits = Limits { piece_bytes_max, ..NO_LIMITS };
        let plan = draw(&request, signal, by, buckets, limits).unwrap();
        let pieces = plan.cut();
        let mut rest = original.clone();
        for piece in &pieces {
            let body = body(piece);
            prop_assert!(parses(signal, body));
            let here = found(signal, body);
            prop_assert!(!here.is_empty());
            prop_assert!(here.len() == 1 || piece_bytes_max.is_none_or(|max| body.len() <= max));
            let mut order = original.iter();
            for item in &here {
                prop_assert_eq!(owner_of(signal, by, buckets, item), piece.bucket);
                let at = rest.iter().position(|other| other == item);
                prop_assert!(at.is_some(), "an item too many or out of its context: {:?}", item);
                rest.remove(at.unwrap());
                prop_assert!(order.any(|other| other == item), "out of order");
            }
        }
        prop_assert_eq!(&rest, &vec![], "left out");
        prop_assert!(pieces.iter().map(|piece| piece.framed.len() - PREFIX_BYTES).sum::<usize>() <= plan.bytes());
        let whole = match &pieces[..] {
            [] => Shape::Whole(None),
            [one] => Shape::Whole(Some(one.bucket)),
            _ => Shape::Pieces,
        };
        prop_assert_eq!(plan.shape(), whole);
    }

    #[test]
    fn a_piece_cut_again_for_fewer_backends_loses_nothing(
        senders in prop::collection::vec(sender(), 0..4), buckets in 2u64..5,
    ) {
        let request = encode(Signal::Traces, &senders);
        let cut = |request: &[u8], buckets| draw(request, Signal::Traces, RecordKey::TraceId, buckets, NO_LIMITS).unwrap().cut();
        let mut again: Vec<Found> = Vec::new();
        for piece in cut(&request, buckets) {
            let pieces = cut(body(&piece), buckets - 1);
            again.extend(pieces.iter().flat_map(|piece| found(Signal::Traces, body(piece))));
        }
        let mut original = found(Signal::Traces, &request);
        original.sort();
        again.sort();
        prop_assert_eq!(again, original);
    }

    #[test]
    fn a_request_that_just_fits_is_not_cut(senders in prop::collection::vec(sender(), 1..5)) {
        let request = encode(Signal::Logs, &senders);
        let limits = Limits { piece_bytes_max: Some(request.len()), ..NO_LIMITS };
        let plan = draw(&request, Signal::Logs, RecordKey::TraceId, 1, limits).unwrap();
        prop_assert_eq!(plan.shape(), Shape::Whole(Some(0)));
    }

    #[test]
    fn arbitrary_bytes_are_cut_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300), signal in signal(), by in record_key(),
    ) {
        match draw(&bytes, signal, by, 3, NO_LIMITS) {
            Ok(plan) => prop_assert!(plan.cut().iter().all(|piece| fields(body(piece)).all(|field| field.is_ok()))),
            Err(CutError::Malformed(Malformed { at })) => prop_assert!(at < bytes.len()),
            Err(CutError::Oversize(_)) => prop_assert!(false, "64 MiB of {} bytes", bytes.len()),
        }
    }
}

fn one_sender(items: Vec<(Option<u8>, usize)>) -> Sender {
    let scopes = vec![Scope { unknown: Vec::new(), says_first: true, items }];
    Sender { service: Some(1), instance: None, unknown: Vec::new(), says_first: true, scopes }
}

#[test]
fn spans_of_one_trace_that_follow_each_other_cost_one_look_at_the_owner() {
    let items = (0..512).map(|at| (Some((at / 64) as u8), 20)).collect();
    let request = encode(Signal::Traces, &[one_sender(items)]);
    let mut asked = 0;
    let by_item = |_: &Resource<'_>| Ok(Place::ByItem);
    let owner = |key: u64| {
        asked += 1;
        (key % 3) as usize
    };
    Plan::draw(&request, Signal::Traces, NO_LIMITS, by_item, owner).unwrap();
    assert_eq!(asked, 8);
}

#[test]
fn what_is_dropped_by_its_resource_is_gone_and_the_rest_is_not() {
    let senders: Vec<Sender> = (0..4).map(|at| Sender { service: Some(at), ..one_sender(vec![(None, 5)]) }).collect();
    let request = encode(Signal::Logs, &senders);
    let odd_only = |resource: &Resource<'_>| match resource.attribute("service.name")? {
        Some(b"1" | b"3") => Ok(Place::Bucket(2)),
        _ => Ok(Place::Drop),
    };
    let plan = Plan::draw(&request, Signal::Logs, NO_LIMITS, odd_only, |_| unreachable!("no keys")).unwrap();
    assert_eq!(plan.shape(), Shape::Pieces);
    let pieces = plan.cut();
    assert_eq!(pieces.iter().map(|piece| piece.bucket).collect::<Vec<_>>(), [2]);
    let left: Vec<Found> = found(Signal::Logs, &request).into_iter().skip(1).step_by(2).collect();
    assert_eq!(found(Signal::Logs, body(&pieces[0])), left);
    let all = Plan::draw(&request, Signal::Logs, NO_LIMITS, |_| Ok(Place::Drop), |_| 0).unwrap();
    assert_eq!((all.shape(), all.cut()), (Shape::Nothing, vec![]));
}

#[test]
fn a_broken_request_is_refused_where_it_is_broken() {
    let items = vec![(Some(1), 40), (Some(2), 40)];
    let whole = encode(Signal::Traces, &[one_sender(items)]);
    let broken_at = |request: &[u8], by| match draw(request, Signal::Traces, by, 3, NO_LIMITS) {
        Err(CutError::Malformed(Malformed { at })) => Some(at),
        _ => None,
    };
    assert_eq!(broken_at(&whole, RecordKey::TraceId), None);
    // The tag of the second span's trace id becomes a group, which nothing of OTLP has.
    let second = whole.windows(18).rposition(|piece| piece[..2] == [0x0a, 16] && piece[2] == 2).unwrap();
    let mut broken = whole.clone();
    broken[second] = 0x0b;
    assert_eq!(broken_at(&broken, RecordKey::TraceId), Some(second));
    assert_eq!(broken_at(&broken, RecordKey::Resource), None, "what need not be read is the backend's to judge");
    let name = whole.windows(12).position(|piece| piece == b"service.name").unwrap();
    let mut broken = whole;
    broken[name - 2] = 0x0b;
    assert_eq!(broken_at(&broken, RecordKey::Resource), Some(name - 2));
}

#[test]
fn a_request_that_would_swell_beyond_its_limit_is_refused() {
    let traces = (0..200).map(|at| (Some(at), 0)).collect();
    let huge = Sender { unknown: vec![b'x'; 20_000], ..one_sender(traces) };
    let request = encode(Signal::Traces, &[huge]);
    let limits = Limits { total_bytes_max: 300_000, ..NO_LIMITS };
    let cut =
        |buckets| draw(&request, Signal::Traces, RecordKey::TraceId, buckets, limits).map(|plan| plan.cut().len());
    assert_eq!(cut(3), Ok(3));
    assert_eq!(cut(1000), Err(CutError::Oversize(300_000)));
}
