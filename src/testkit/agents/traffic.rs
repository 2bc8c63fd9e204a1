//! The messages agents send: encoded once, then only the number in their id is written anew.

use bytes::BytesMut;
use prost::Message as _;

use crate::message::field::put_bytes;
use crate::message::run::{PREFIX_BYTES, Run};
use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::accesslog::v3::stream_access_logs_message::{
    HttpAccessLogEntries, Identifier as LogIdentifier, LogEntries,
};
use crate::proto::envoy::service::accesslog::v3::{HttpAccessLogEntry, HttpRequestProperties, StreamAccessLogsMessage};
use crate::proto::envoy::service::metrics::v3::stream_metrics_message::Identifier as MetricsIdentifier;
use crate::proto::envoy::service::metrics::v3::{MetricFamily, StreamMetricsMessage};
use crate::proto::google::protobuf::value::Kind;
use crate::proto::google::protobuf::{Struct, Value};
use crate::proto::skywalking::v3;
use crate::testkit::methods::PRIVATE_ID;

/// The kind of messages a load sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Traffic {
    /// Trace segments; every message names its service.
    Trace,
    /// Logs; only the first of a stream names the service.
    Log,
    /// Envoy's access logs; only the first of a stream has the identifier.
    Als,
    /// Envoy's metrics; only the first of a stream has the identifier.
    EnvoyMetrics,
    /// Meters, a stream being one set; only the first has names and time.
    Meter,
    /// Meters, a message being one set.
    MeterBatch,
    /// JVM metrics, unary.
    Jvm,
    /// Heartbeats, unary.
    KeepAlive,
    /// Each agent another of the above, in turn.
    Mixed,
}

/// One agent's messages.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) path: &'static str,
    pub(super) is_unary: bool,
    first: Blank,
    later: Blank,
}

/// An encoded message whose number is still to be filled in.
#[derive(Debug)]
struct Blank {
    framed: Vec<u8>,
    /// Where the ten digits stand.
    digits: Vec<usize>,
}

/// Who sends.
#[derive(Debug, Clone, Copy)]
struct Sender<'a> {
    agent: &'a str,
    service: &'a str,
}

/// Holds the place of the number: ten digits reach beyond what the checker keeps.
const NUMBER: &str = "##########";
/// Any time after 1970 will do.
const NOW_MS: i64 = 1_700_000_000_000;
/// Padding where no field of the schema takes it.
const PRIVATE_PADDING: u32 = PRIVATE_ID - 1;

impl Traffic {
    /// Every kind that is not a mix.
    pub const PURE: [Traffic; 8] = [
        Traffic::Trace,
        Traffic::Log,
        Traffic::Als,
        Traffic::EnvoyMetrics,
        Traffic::Meter,
        Traffic::MeterBatch,
        Traffic::Jvm,
        Traffic::KeepAlive,
    ];

    /// The method it is sent to; a mix answers that of its first kind.
    pub fn path(self) -> &'static str {
        match self {
            Traffic::Trace | Traffic::Mixed => "/skywalking.v3.TraceSegmentReportService/collect",
            Traffic::Log => "/skywalking.v3.LogReportService/collect",
            Traffic::Als => "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
            Traffic::EnvoyMetrics => "/envoy.service.metrics.v3.MetricsService/StreamMetrics",
            Traffic::Meter => "/skywalking.v3.MeterReportService/collect",
            Traffic::MeterBatch => "/skywalking.v3.MeterReportService/collectBatch",
            Traffic::Jvm => "/skywalking.v3.JVMMetricReportService/collect",
            Traffic::KeepAlive => "/skywalking.v3.ManagementService/keepAlive",
        }
    }

    /// Whether each message is a call of its own.
    pub fn is_unary(self) -> bool {
        matches!(self, Traffic::Jvm | Traffic::KeepAlive)
    }
}

// === impl Template ===

impl Template {
    /// Messages of `agent` in `service` with bodies of `bytes` bytes, or as few as their fields need.
    pub(super) fn new(traffic: Traffic, agent: &str, service: &str, bytes: usize) -> Self {
        let sender = Sender { agent, service };
        let blank = |is_first| Blank::padded(bytes, |padding| sender.body(traffic, is_first, padding));
        Self { path: traffic.path(), is_unary: traffic.is_unary(), first: blank(true), later: blank(false) }
    }

    /// Appends message `number`, framed. Answers the bytes of its body.
    pub(super) fn put(&self, out: &mut BytesMut, is_first_of_stream: bool, number: u64) -> usize {
        if is_first_of_stream { self.first.put(out, number) } else { self.later.put(out, number) }
    }

    /// Bytes of a framed message behind the first.
    pub(super) fn framed_bytes(&self) -> usize {
        self.later.framed.len()
    }
}

impl Blank {
    /// The longest message up to `bytes`.
    fn padded(bytes: usize, body: impl Fn(&str) -> Vec<u8>) -> Self {
        let mut padding = bytes.saturating_sub(body("").len());
        let body = loop {
            let body = body(&".".repeat(padding));
            // Length prefixes grow with the padding.
            if body.len() <= bytes || padding == 0 {
                break body;
            }
            padding -= (body.len() - bytes).min(padding);
        };
        let framed = Run::of_body(&body).bytes().to_vec();
        let is_number = |window: &(usize, &[u8])| window.1 == NUMBER.as_bytes();
        let digits = framed.windows(NUMBER.len()).enumerate().filter(is_number).map(|(at, _)| at).collect();
        Self { framed, digits }
    }

    fn put(&self, out: &mut BytesMut, number: u64) -> usize {
        let start = out.len();
        out.extend_from_slice(&self.framed);
        let mut text = [b'0'; NUMBER.len()];
        let mut rest = number;
        for digit in text.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        for at in &self.digits {
            out[start + at..start + at + NUMBER.len()].copy_from_slice(&text);
        }
        self.framed.len() - PREFIX_BYTES
    }
}

// === impl Sender ===

impl Sender<'_> {
    fn body(&self, traffic: Traffic, is_first: bool, padding: &str) -> Vec<u8> {
        match traffic {
            Traffic::Trace | Traffic::Mixed => self.segment(padding).encode_to_vec(),
            Traffic::Log => self.log(is_first, padding).encode_to_vec(),
            Traffic::Als => self.access_log(is_first, padding).encode_to_vec(),
            Traffic::EnvoyMetrics => self.envoy_metrics(is_first, padding).encode_to_vec(),
            Traffic::Meter => self.meter(is_first, padding).encode_to_vec(),
            Traffic::MeterBatch => {
                v3::MeterDataCollection { meter_data: vec![self.meter(true, padding)] }.encode_to_vec()
            }
            Traffic::Jvm => {
                let jvm = v3::JvmMetricCollection {
                    metrics: vec![v3::JvmMetric { time: NOW_MS }],
                    service: self.service.into(),
                    service_instance: self.agent.into(),
                };
                self.with_private(jvm.encode_to_vec(), padding)
            }
            Traffic::KeepAlive => {
                let ping = v3::InstancePingPkg {
                    service: self.service.into(),
                    service_instance: self.agent.into(),
                    layer: "GENERAL".into(),
                };
                self.with_private(ping.encode_to_vec(), padding)
            }
        }
    }

    fn id(&self) -> String {
        format!("{}-{NUMBER}", self.agent)
    }

    fn segment(&self, padding: &str) -> v3::SegmentObject {
        let span = v3::SpanObject {
            parent_span_id: -1,
            start_time: NOW_MS,
            end_time: NOW_MS + 1,
            operation_name: format!("/{padding}"),
            ..Default::default()
        };
        v3::SegmentObject {
            trace_id: self.id(),
            trace_segment_id: self.id(),
            spans: vec![span],
            service: self.service.into(),
            service_instance: self.agent.into(),
        }
    }

    fn log(&self, is_first: bool, padding: &str) -> v3::LogData {
        v3::LogData {
            timestamp: NOW_MS,
            service: if is_first { self.service.into() } else { String::new() },
            service_instance: self.agent.into(),
            endpoint: self.id(),
            body: Some(v3::LogDataBody { r#type: String::new(), text: Some(v3::TextLog { text: padding.into() }) }),
            trace_context: None,
            tags: None,
            layer: "GENERAL".into(),
        }
    }

    fn access_log(&self, is_first: bool, padding: &str) -> StreamAccessLogsMessage {
        let request =
            HttpRequestProperties { path: format!("/{padding}"), user_agent: String::new(), request_id: self.id() };
        let entries = HttpAccessLogEntries { log_entry: vec![HttpAccessLogEntry { request: Some(request) }] };
        StreamAccessLogsMessage {
            identifier: is_first.then(|| LogIdentifier { node: Some(self.node()), log_name: "switchyard".into() }),
            log_entries: Some(LogEntries::HttpLogs(entries)),
        }
    }

    fn envoy_metrics(&self, is_first: bool, padding: &str) -> StreamMetricsMessage {
        let family = |name: &str, help: String| MetricFamily { name: name.into(), help };
        StreamMetricsMessage {
            identifier: is_first.then(|| MetricsIdentifier { node: Some(self.node()) }),
            envoy_metrics: vec![
                family("cluster.upstream_rq_total", self.id()),
                family("cluster.upstream_cx_total", padding.into()),
            ],
        }
    }

    /// One Envoy per service.
    fn node(&self) -> Node {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
        let labels = Struct { fields: [("app".to_owned(), text(self.service))].into() };
        let fields = [
            ("NAME".to_owned(), text(self.service)),
            ("NAMESPACE".to_owned(), text("test")),
            ("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(labels)) }),
        ];
        Node {
            id: format!("sidecar~10.0.0.1~{0}.test~test.svc.cluster.local", self.service),
            cluster: format!("{}.test", self.service),
            metadata: Some(Struct { fields: fields.into() }),
        }
    }

    fn meter(&self, has_names: bool, padding: &str) -> v3::MeterData {
        let label = |name: &str, value: String| v3::Label { name: name.into(), value };
        let value = v3::MeterSingleValue {
            name: "requests".into(),
            labels: vec![label("id", self.id()), label("padding", padding.into())],
            value: 1.0,
        };
        let name = |name: &str| if has_names { name.to_owned() } else { String::new() };
        v3::MeterData {
            metric: Some(v3::meter_data::Metric::SingleValue(value)),
            service: name(self.service),
            service_instance: name(self.agent),
            timestamp: if has_names { NOW_MS } else { 0 },
        }
    }

    fn with_private(&self, body: Vec<u8>, padding: &str) -> Vec<u8> {
        let mut out = BytesMut::from(&body[..]);
        put_bytes(&mut out, PRIVATE_ID, self.id().as_bytes());
        if !padding.is_empty() {
            put_bytes(&mut out, PRIVATE_PADDING, padding.as_bytes());
        }
        out.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::field::bytes_at;
    use crate::testkit::methods::MethodId;

    #[test]
    fn every_kind_has_the_asked_size_and_its_id_where_the_collector_looks() {
        for traffic in Traffic::PURE {
            let template = Template::new(traffic, "agent.0.7", "service-1", 400);
            for is_first in [true, false] {
                let mut out = BytesMut::new();
                let body = template.put(&mut out, is_first, 42);
                assert!(body == 400 || body == 399 || (is_first && body > 400), "{traffic:?}: {body}");
                let id = MethodId::find(traffic.path()).unwrap().method().id;
                assert_eq!(bytes_at(&out[PREFIX_BYTES..], id), Ok(Some(&b"agent.0.7-0000000042"[..])), "{traffic:?}");
            }
        }
    }
}
