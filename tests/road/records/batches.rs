//! Batches as exporters send them, and what is in those that collectors got.

use std::io::{Read as _, Write as _};
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use switchyard::proto::opentelemetry::proto::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};

pub const SPANS: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
pub const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Where a span arrived and what stood around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub backend: usize,
    pub trace: Vec<u8>,
    pub service: String,
    pub scope: String,
    pub schemas: String,
}

fn text(value: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) })
}

fn resource(service: &str) -> Option<Resource> {
    Some(Resource { attributes: vec![KeyValue { key: "service.name".to_owned(), value: text(service) }] })
}

fn service(resource: Option<Resource>) -> String {
    match resource.unwrap().attributes.remove(0).value.unwrap().value {
        Some(any_value::Value::StringValue(name)) => name,
        other => panic!("a name: {other:?}"),
    }
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "lib".to_owned(), version: "1".to_owned() })
}

/// Spans of one sender: each trace `each` times, interleaved as concurrent requests are.
pub fn batch(sender: &str, traces: Range<u8>, each: usize) -> Bytes {
    large_batch(sender, &traces.collect::<Vec<_>>(), each)
}

/// The same of any traces at all.
pub fn large_batch(sender: &str, traces: &[u8], each: usize) -> Bytes {
    let of_round = |round: usize| {
        traces.iter().map(move |trace| Span {
            trace_id: vec![*trace; 16],
            span_id: vec![round as u8; 8],
            name: format!("{sender}-{trace}-{round}"),
        })
    };
    let spans = ScopeSpans {
        scope: scope(),
        spans: (0..each).flat_map(of_round).collect(),
        schema_url: "of the scope".to_owned(),
    };
    let element = ResourceSpans {
        resource: resource(sender),
        scope_spans: vec![spans],
        schema_url: "of the resource".to_owned(),
    };
    ExportTraceServiceRequest { resource_spans: vec![element] }.encode_to_vec().into()
}

pub fn spans_in(message: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(message).expect("a piece parses");
    let scopes = request.resource_spans.into_iter().flat_map(|element| element.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

/// Every span of a message with its place.
pub fn place_of(message: &[u8], backend: usize) -> Vec<(String, Place)> {
    let mut found = Vec::new();
    for element in ExportTraceServiceRequest::decode(message).expect("a piece parses").resource_spans {
        let service = service(element.resource);
        for scope in element.scope_spans {
            let schemas = format!("{}, {}", element.schema_url, scope.schema_url);
            let name = scope.scope.unwrap().name;
            for span in scope.spans {
                let (service, scope, schemas) = (service.clone(), name.clone(), schemas.clone());
                found.push((span.name, Place { backend, trace: span.trace_id, service, scope, schemas }));
            }
        }
    }
    found
}

/// One `ResourceMetrics` of 20 metrics for each sender.
pub fn metrics(senders: &[String]) -> Bytes {
    let metric = |number: usize| Metric { name: format!("metric-{number}"), description: "d".repeat(40) };
    let element = |sender: &String| ResourceMetrics {
        resource: resource(sender),
        scope_metrics: vec![ScopeMetrics {
            scope: scope(),
            metrics: (0..20).map(metric).collect(),
            schema_url: String::new(),
        }],
        schema_url: String::new(),
    };
    ExportMetricsServiceRequest { resource_metrics: senders.iter().map(element).collect() }.encode_to_vec().into()
}

/// Senders and how many metrics of theirs stand together.
pub fn metrics_in(message: &[u8]) -> Vec<(String, usize)> {
    let request = ExportMetricsServiceRequest::decode(message).expect("a piece parses");
    let count = |element: &ResourceMetrics| element.scope_metrics.iter().map(|scope| scope.metrics.len()).sum();
    request.resource_metrics.into_iter().map(|element| (count(&element), element)).map(swapped).collect()
}

fn swapped((count, element): (usize, ResourceMetrics)) -> (String, usize) {
    (service(element.resource), count)
}

/// Three log records of each sender.
pub fn logs(senders: &[String]) -> Bytes {
    let record = |_| LogRecord { body: text("started"), trace_id: Vec::new(), span_id: Vec::new() };
    let element = |sender: &String| ResourceLogs {
        resource: resource(sender),
        scope_logs: vec![ScopeLogs {
            scope: scope(),
            log_records: (0..3).map(record).collect(),
            schema_url: String::new(),
        }],
        schema_url: String::new(),
    };
    ExportLogsServiceRequest { resource_logs: senders.iter().map(element).collect() }.encode_to_vec().into()
}

/// The senders of a message.
pub fn logs_in(message: &[u8]) -> Vec<String> {
    let request = ExportLogsServiceRequest::decode(message).expect("a piece parses");
    request.resource_logs.into_iter().map(|element| service(element.resource)).collect()
}

pub fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

pub fn gunzip(body: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(body).read_to_end(&mut plain).expect("gzip");
    plain.into()
}

/// A compressed message with its prefix.
pub fn framed_gzip(plain: &[u8]) -> Bytes {
    let body = gzip(plain);
    let mut framed = BytesMut::new();
    framed.put_u8(1);
    framed.put_u32(body.len() as u32);
    framed.extend_from_slice(&body);
    framed.freeze()
}
