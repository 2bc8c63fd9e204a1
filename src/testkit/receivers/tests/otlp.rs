//! One sentence per rule of PROTOCOLS.md section 1.2.9, and what a request that was cut must still say.

use bytes::BytesMut;

use super::*;
use crate::message::field::put_bytes;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOG_RECORDS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
    let mut message = BytesMut::new();
    fields.iter().for_each(|(number, bytes)| put_bytes(&mut message, *number, bytes));
    message.to_vec()
}

fn attribute(key: &str, value: &str) -> Vec<u8> {
    message(&[(1, key.as_bytes()), (2, &message(&[(1, value.as_bytes())]))])
}

fn resource(service: &str) -> Vec<u8> {
    let host = attribute("host.name", "h");
    if service.is_empty() {
        message(&[(1, &host)])
    } else {
        message(&[(1, &attribute("service.name", service)), (1, &host)])
    }
}

fn span(trace: &[u8], name: &str) -> Vec<u8> {
    message(&[(1, trace), (2, b"span-id-"), (5, name.as_bytes())])
}

/// Resource, scope, items, one of each wrapper.
fn wrapped(resource: &[u8], scope: &[u8], items: &[Vec<u8>]) -> Vec<u8> {
    let mut scoped = vec![(1, scope), (3, &b"scope's schema"[..])];
    scoped.extend(items.iter().map(|item| (2, &item[..])));
    message(&[(1, resource), (2, &message(&scoped)), (3, b"resource's schema")])
}

fn export(path: &'static str, requests: &[Vec<u8>]) -> Vec<Attribution> {
    let mut items = Vec::new();
    for request in requests {
        let mut call = Call::of(path);
        call.say_bytes(request).unwrap();
        items.extend(call.items(End::Clean));
    }
    items.sort();
    items
}

fn request(wrappers: &[Vec<u8>]) -> Vec<u8> {
    message(&wrappers.iter().map(|wrapper| (1, &wrapper[..])).collect::<Vec<_>>())
}

const TRACE: &[u8] = b"sixteen byte id!";
const SCOPE: &[u8] = b"\x0a\x03lib";

#[test]
fn a_request_cut_by_span_leaves_the_same_behind_if_every_wrapper_is_copied() {
    let spans = [span(TRACE, "a"), span(b"another trace id", "b")];
    let shop = resource("shop");
    let whole = export(TRACES, &[request(&[wrapped(&shop, SCOPE, &spans)])]);
    let cut: Vec<_> = spans.iter().map(|span| request(&[wrapped(&shop, SCOPE, std::slice::from_ref(span))])).collect();
    assert_eq!((whole.len(), export(TRACES, &cut)), (2, whole.clone()));
    assert_eq!(whole[0].source, "shop");
}

#[test]
fn a_lost_resource_scope_schema_or_unknown_field_is_noticed() {
    let (shop, spans) = (resource("shop"), [span(TRACE, "a")]);
    let with = |wrapper: Vec<u8>, beside: &[u8]| [request(&[wrapper]), beside.to_vec()].concat();
    let whole = export(TRACES, &[with(wrapped(&shop, SCOPE, &spans), b"")]);
    let scoped = |fields: &[(u32, &[u8])]| message(fields);
    let span = &spans[0][..];
    let others = [
        with(wrapped(&resource("bank"), SCOPE, &spans), b""),
        with(wrapped(&message(&[(1, &attribute("service.name", "shop"))]), SCOPE, &spans), b""),
        with(wrapped(&[shop.clone(), message(&[(3, b"entity ref")])].concat(), SCOPE, &spans), b""),
        with(wrapped(&shop, b"", &spans), b""),
        with(message(&[(1, &shop), (2, &scoped(&[(1, SCOPE), (2, span), (3, b"scope's schema")]))]), b""),
        with(message(&[(1, &shop), (2, &scoped(&[(1, SCOPE), (2, span)])), (3, b"resource's schema")]), b""),
        with([wrapped(&shop, SCOPE, &spans), message(&[(1000, b"old scope")])].concat(), b""),
        with(wrapped(&shop, SCOPE, &spans), &message(&[(77, b"beside the resources")])),
    ];
    for (at, other) in others.into_iter().enumerate() {
        assert_ne!(export(TRACES, &[other]), whole, "{at}");
    }
}

#[test]
fn a_resource_s_metrics_are_one_set_and_two_resources_two() {
    let metric = |name: &str| message(&[(1, name.as_bytes()), (7, b"")]);
    let one = wrapped(&resource("shop"), SCOPE, &[metric("a"), metric("b")]);
    let other = wrapped(&resource("shop"), SCOPE, &[metric("c")]);
    let together = export(METRICS, &[request(&[one.clone(), other.clone()])]);
    assert_eq!(together.len(), 2);
    assert_eq!(export(METRICS, &[request(&[other]), request(&[one])]), together);
    let merged = wrapped(&resource("shop"), SCOPE, &[metric("a"), metric("b"), metric("c")]);
    assert!(export(METRICS, &[request(&[merged])]).iter().all(|set| !together.contains(set)));
}

#[test]
fn a_metric_without_data_ends_the_call_after_the_resources_before_it() {
    let good = wrapped(&resource("shop"), b"", &[message(&[(1, b"a"), (5, b"")])]);
    let bad = wrapped(&resource("bank"), b"", &[message(&[(1, b"a")])]);
    let mut call = Call::of(METRICS);
    call.say_bytes(&request(&[good.clone(), bad, good])).unwrap();
    let ended = call.receiver.end(End::Clean, &mut call.tally).map_err(|status| status.code);
    assert_eq!((ended, call.tally.attributed().len()), (Err(Code::Unknown), 1));
}

#[test]
fn what_follows_a_span_without_ids_in_its_resource_is_skipped() {
    let spans = [span(TRACE, "a"), span(b"", "nameless"), span(TRACE, "b")];
    let request = request(&[wrapped(&resource("shop"), b"", &spans), wrapped(&resource("bank"), b"", &spans[..1])]);
    let sources: Vec<_> = export(TRACES, &[request]).into_iter().map(|item| item.source).collect();
    assert_eq!(sources, ["bank", "shop"]);
}

#[test]
fn spans_and_logs_of_a_resource_without_a_service_are_dropped_and_metrics_are_not() {
    let items = [message(&[(1, TRACE), (2, b"span-id-"), (7, b"")])];
    let request = request(&[wrapped(&resource(""), b"", &items), wrapped(&resource("shop"), b"", &items)]);
    for (path, filed) in [(TRACES, 1), (LOG_RECORDS, 1), (METRICS, 2)] {
        assert_eq!(export(path, std::slice::from_ref(&request)).len(), filed, "{path}");
    }
}

#[test]
fn a_service_without_a_name_is_called_after_what_runs_it() {
    let runs = message(&[(1, &attribute("process.executable.name", "d")), (1, &attribute("faas.name", "f"))]);
    let request = request(&[wrapped(&runs, b"", &[span(TRACE, "a")])]);
    assert_eq!(export(TRACES, &[request])[0].source, "f");
}
