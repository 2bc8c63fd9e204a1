//! Every gRPC method the collector answers: its path, how OAP reads its stream, where source and id stand, what it replies.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::receivers::{Rule, Signal};

/// A path into nested messages, by field number.
pub type Path = &'static [u32];

/// One method.
#[derive(Debug, Clone)]
pub struct Method {
    /// `/package.Service/Method`, exact.
    pub path: String,
    /// The path of the method whose data it brings: its own, unless several methods bring the same.
    pub group: String,
    /// Whether the client sends a stream.
    pub streams_in: bool,
    /// Whether the server answers with a stream.
    pub streams_out: bool,
    /// How the receiver reads it.
    pub rule: Rule,
    /// Where test traffic puts its id `<agent>-<seq>`; empty when nowhere.
    pub id: Path,
    /// What a good answer says.
    pub reply: Reply,
}

/// The message in a good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Zero bytes.
    Empty,
    /// `Commands` with one command.
    Command(&'static str),
    /// `EBPFReportProcessDownstream` with one process.
    Processes,
    /// `HealthCheckResponse` SERVING.
    Serving,
    /// No message at all: the receiver speaks for itself.
    Receiver,
}

/// The number of a method in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId(pub(super) usize);

static METHODS: LazyLock<Vec<Method>> = LazyLock::new(table);
static PATHS: LazyLock<HashMap<&'static str, MethodId>> =
    LazyLock::new(|| METHODS.iter().enumerate().map(|(at, method)| (method.path.as_str(), MethodId(at))).collect());

impl MethodId {
    /// The method of an exact path.
    pub fn find(path: &str) -> Option<Self> {
        PATHS.get(path).copied()
    }

    /// What the table says about it.
    pub fn method(self) -> &'static Method {
        &METHODS[self.0]
    }

    /// Every method.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..METHODS.len()).map(MethodId)
    }
}

/// Test traffic whose messages have no text field to put an id in says it in this field, which no schema has.
pub const PRIVATE_ID: u32 = 4095;

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const V2_OF_V3: [(&str, &str); 2] = [
    (
        "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
        "/envoy.service.accesslog.v2.AccessLogService/StreamAccessLogs",
    ),
    (
        "/envoy.service.metrics.v3.MetricsService/StreamMetrics",
        "/envoy.service.metrics.v2.MetricsService/StreamMetrics",
    ),
];
/// Methods that bring the same data in another form, so that a gateway may use the one for the other.
const SAME_DATA: [(&str, &str); 3] = [
    ("/skywalking.v3.TraceSegmentReportService/collectInSync", "/skywalking.v3.TraceSegmentReportService/collect"),
    ("/skywalking.v3.MeterReportService/collectBatch", "/skywalking.v3.MeterReportService/collect"),
    (
        "/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs",
        "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
    ),
];
/// Methods that agents before 8.8 call without the package.
const COMPAT: [&str; 12] = [
    "TraceSegmentReportService/collect",
    "TraceSegmentReportService/collectInSync",
    "MeterReportService/collect",
    "JVMMetricReportService/collect",
    "CLRMetricReportService/collect",
    "ManagementService/reportInstanceProperties",
    "ManagementService/keepAlive",
    "ProfileTask/getProfileTaskCommands",
    "ProfileTask/collectSnapshot",
    "ProfileTask/reportTaskFinish",
    "BrowserPerfService/collectPerfData",
    "BrowserPerfService/collectErrorLogs",
];

fn table() -> Vec<Method> {
    let mut methods = v3();
    methods.extend(v10());
    methods.extend(others());
    for (other, group) in SAME_DATA {
        let method = methods.iter_mut().find(|method| method.path == other).expect("named in the tables above");
        method.group = group.to_owned();
    }
    let again = |methods: &[Method], old: &str, path: String| {
        let method = methods.iter().find(|method| method.path == old).expect("named in the table above");
        Method { path, ..method.clone() }
    };
    for (v3, v2) in V2_OF_V3 {
        methods.push(again(&methods, v3, v2.to_owned()));
    }
    for name in COMPAT {
        methods.push(again(&methods, &format!("/skywalking.v3.{name}"), format!("/{name}")));
    }
    methods
}

fn stream(path: &str, rule: Rule, id: Path) -> Method {
    Method {
        path: path.to_owned(),
        group: path.to_owned(),
        streams_in: true,
        streams_out: false,
        rule,
        id,
        reply: Reply::Empty,
    }
}

fn unary(path: &str, rule: Rule, reply: Reply) -> Method {
    Method { streams_in: false, reply, ..stream(path, rule, &[PRIVATE_ID]) }
}

fn each(service: Path, instance: Path) -> Rule {
    Rule::Each { service, instance }
}

/// Package `skywalking.v3`.
fn v3() -> Vec<Method> {
    let stream = |name: &str, rule, id| stream(&format!("/skywalking.v3.{name}"), rule, id);
    let unary = |name: &str, rule, reply| unary(&format!("/skywalking.v3.{name}"), rule, reply);
    let said = each(&[1], &[2]);
    let runtime = each(&[2], &[3]);
    let page = each(&[1], &[]);
    vec![
        stream("TraceSegmentReportService/collect", each(&[4], &[5]), &[2]),
        Method { id: &[2], ..unary("TraceSegmentReportService/collectInSync", Rule::Segments, Reply::Empty) },
        stream("SpanAttachedEventReportService/collect", each(&[6, 2], &[]), &[2]),
        stream("LogReportService/collect", Rule::Logs, &[4]),
        stream("MeterReportService/collect", Rule::MeterStream, &[1, 2, 2]),
        stream("MeterReportService/collectBatch", Rule::MeterBatch, &[1, 1, 2, 2]),
        unary("JVMMetricReportService/collect", runtime, Reply::Empty),
        unary("CLRMetricReportService/collect", runtime, Reply::Empty),
        stream("EventService/collect", Rule::Events, &[1]),
        unary("ManagementService/reportInstanceProperties", said, Reply::Empty),
        unary("ManagementService/keepAlive", said, Reply::Empty),
        unary(
            "ConfigurationDiscoveryService/fetchConfigurations",
            page,
            Reply::Command("ConfigurationDiscoveryCommand"),
        ),
        unary("ProfileTask/getProfileTaskCommands", said, Reply::Command("ProfileTaskQuery")),
        stream("ProfileTask/collectSnapshot", page, &[2]),
        stream("ProfileTask/goProfileReport", Rule::GoProfile, &[2]),
        unary("ProfileTask/reportTaskFinish", said, Reply::Empty),
        unary("EBPFProcessService/reportProcesses", each(&[2], &[]), Reply::Processes),
        unary("EBPFProcessService/keepAlive", each(&[2], &[]), Reply::Empty),
        unary("EBPFProfilingService/queryTasks", page, Reply::Command("EBPFProfilingTaskQuery")),
        stream("EBPFProfilingService/collectProfilingData", Rule::EbpfProfiling, &[PRIVATE_ID]),
        unary(
            "ContinuousProfilingService/queryPolicies",
            each(&[1, 1], &[]),
            Reply::Command("ContinuousProfilingPolicyQuery"),
        ),
        unary(
            "ContinuousProfilingService/reportProfilingTask",
            each(&[2], &[3]),
            Reply::Command("ContinuousProfilingReportTask"),
        ),
        stream("EBPFAccessLogService/collect", Rule::EbpfAccessLog, &[PRIVATE_ID]),
        stream("ServiceMeshMetricService/collect", Rule::Mesh, &[PRIVATE_ID]),
        unary("BrowserPerfService/collectPerfData", each(&[1], &[2]), Reply::Empty),
        unary("BrowserPerfService/collectWebVitalsPerfData", each(&[1], &[2]), Reply::Empty),
        unary("BrowserPerfService/collectResourcePerfData", each(&[1], &[2]), Reply::Empty),
        unary("BrowserPerfService/collectWebInteractionsPerfData", each(&[1], &[2]), Reply::Empty),
        stream("BrowserPerfService/collectErrorLogs", each(&[2], &[3]), &[1]),
    ]
}

/// Package `skywalking.v10`.
fn v10() -> Vec<Method> {
    let upload = |path: &str, rule| Method { streams_out: true, reply: Reply::Receiver, ..stream(path, rule, &[]) };
    vec![
        upload("/skywalking.v10.AsyncProfilerTask/collect", Rule::AsyncProfiler),
        unary(
            "/skywalking.v10.AsyncProfilerTask/getAsyncProfilerTaskCommands",
            each(&[1], &[2]),
            Reply::Command("AsyncProfilerTaskQuery"),
        ),
        upload("/skywalking.v10.PprofTask/collect", Rule::Pprof),
        unary("/skywalking.v10.PprofTask/getPprofTaskCommands", each(&[1], &[2]), Reply::Command("PprofTaskQuery")),
    ]
}

/// Envoy, OTLP, health.
fn others() -> Vec<Method> {
    let entry: Path = &[2, 1, 3, 9];
    vec![
        stream(
            "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
            Rule::AccessLog { every_message: false },
            entry,
        ),
        stream(
            "/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs",
            Rule::AccessLog { every_message: true },
            entry,
        ),
        stream("/envoy.service.metrics.v3.MetricsService/StreamMetrics", Rule::EnvoyMetrics, &[2, 2]),
        unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Rule::Otlp(Signal::Traces), Reply::Empty),
        unary(
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Rule::Otlp(Signal::Metrics),
            Reply::Empty,
        ),
        unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Rule::Otlp(Signal::Logs), Reply::Empty),
        unary(HEALTH, Rule::Each { service: &[], instance: &[] }, Reply::Serving),
    ]
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::message::field::{Value, fields};
    use crate::proto::DESCRIPTOR_SET;

    fn sub(message: &[u8], number: u32) -> Vec<&[u8]> {
        fields(message)
            .filter_map(|field| match field.expect("a descriptor set").value {
                Value::Bytes(bytes) => Some((field_number(message, bytes), bytes)),
                _ => None,
            })
            .filter_map(|(n, bytes)| (n == number).then_some(bytes))
            .collect()
    }

    /// The number of the field that holds exactly `bytes`.
    fn field_number(message: &[u8], bytes: &[u8]) -> u32 {
        fields(message)
            .map(|field| field.expect("a descriptor set"))
            .find(|field| matches!(field.value, Value::Bytes(found) if std::ptr::eq(found, bytes)))
            .map(|field| field.number)
            .expect("taken from this message")
    }

    fn text(message: &[u8], number: u32) -> String {
        sub(message, number).first().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    }

    fn flag(message: &[u8], number: u32) -> bool {
        fields(message).any(|field| {
            let field = field.expect("a descriptor set");
            field.number == number && field.value == Value::Varint(1)
        })
    }

    #[test]
    fn every_method_of_the_protos_is_in_the_table_with_the_same_shape() {
        // descriptor.proto: FileDescriptorSet.file=1, .package=2, .service=6; ServiceDescriptor.name=1, .method=2;
        // MethodDescriptor.name=1, .client_streaming=5, .server_streaming=6.
        let mut seen = 0;
        for file in sub(DESCRIPTOR_SET, 1) {
            let package = text(file, 2);
            for service in sub(file, 6) {
                let service_name =
                    if package.is_empty() { text(service, 1) } else { format!("{package}.{}", text(service, 1)) };
                for method in sub(service, 2) {
                    let path = format!("/{service_name}/{}", text(method, 1));
                    let known = MethodId::find(&path).unwrap_or_else(|| panic!("{path} is not in the table")).method();
                    assert_eq!((known.streams_in, known.streams_out), (flag(method, 5), flag(method, 6)), "{path}");
                    seen += 1;
                }
            }
        }
        // Health and the two v2 paths have no proto here.
        assert_eq!(seen + 3, MethodId::all().count());
    }

    #[test]
    fn generated_types_use_the_numbers_the_table_scans_for() {
        let segment = crate::proto::skywalking::v3::SegmentObject {
            trace_segment_id: "agent-1".into(),
            service: "a".into(),
            ..Default::default()
        };
        let body = segment.encode_to_vec();
        let method = MethodId::find("/skywalking.v3.TraceSegmentReportService/collect").unwrap().method();
        assert_eq!(crate::message::field::bytes_at(&body, method.id), Ok(Some(&b"agent-1"[..])));
    }
}
