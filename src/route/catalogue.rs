//! The catalogue: every method of PROTOCOLS.md section 1, its flow and its contract, one row a method.

use crate::message::flow::Flow;

use super::Route;
use super::contract::{Carry, Contract, Relay, Replay, Sort, SortKey};

/// One method; outbound it always has its packaged name.
struct Row {
    path: &'static str,
    /// What agents before SkyWalking 8 call it.
    package_less: Option<&'static str>,
    flow: Flow,
    contract: Contract,
}

/// Segments need nothing from their neighbours (PROTOCOLS table A); where the pool hashes, a trace stays together.
const SEGMENTS: Contract = Contract::Sort(Sort { carry: None, key: Some(SortKey::Text { field: 1 }), sticky: false });
const RELAY: Contract = Contract::relay();

/// One log service per stream: the receiver files everything under the first (PROTOCOLS 1.2.1).
const LOGS: Contract = Contract::Sort(Sort {
    carry: Some(Carry::FirstNonEmptyText { field: 2 }),
    key: Some(SortKey::Carried),
    sticky: false,
});

/// One Envoy per stream: the receiver reads the identifier of the first message only (PROTOCOLS 1.2.3).
const ENVOY_LOGS: Contract = Contract::Sort(Sort {
    carry: Some(Carry::FirstMessageOnly { field: 1 }),
    key: Some(SortKey::EnvoyNode),
    sticky: false,
});

/// The same, and one backend per Envoy: rates are computed in the receiver's memory.
const ENVOY_METRICS: Contract = Contract::Sort(Sort {
    carry: Some(Carry::FirstMessageOnly { field: 1 }),
    key: Some(SortKey::EnvoyNode),
    sticky: true,
});

/// Each message is one set, and one backend per instance (PROTOCOLS 1.2.2).
const METER_BATCH: Contract = Contract::Sort(Sort { carry: None, key: Some(SortKey::MeterCollection), sticky: true });

/// The whole call is one set, computed at its end; a collector that died has computed nothing (PROTOCOLS 1.2.2).
const METERS: Contract = Contract::Relay(Relay { sticky: &[&[3], &[4]], replay: Replay::Always });

const fn row(path: &'static str, flow: Flow, contract: Contract) -> Row {
    Row { path, package_less: None, flow, contract }
}

const fn compat(path: &'static str, short: &'static str, flow: Flow, contract: Contract) -> Row {
    Row { path, package_less: Some(short), flow, contract }
}

#[rustfmt::skip]
const ROWS: [Row; 41] = [
    // SkyWalking v3
    compat("/skywalking.v3.TraceSegmentReportService/collect", "/TraceSegmentReportService/collect", Flow::Traces, SEGMENTS),
    compat("/skywalking.v3.TraceSegmentReportService/collectInSync", "/TraceSegmentReportService/collectInSync", Flow::Traces, RELAY),
    row("/skywalking.v3.SpanAttachedEventReportService/collect", Flow::Traces, RELAY),
    row("/skywalking.v3.LogReportService/collect", Flow::Logs, LOGS),
    compat("/skywalking.v3.MeterReportService/collect", "/MeterReportService/collect", Flow::Metrics, METERS),
    row("/skywalking.v3.MeterReportService/collectBatch", Flow::Metrics, METER_BATCH),
    compat("/skywalking.v3.JVMMetricReportService/collect", "/JVMMetricReportService/collect", Flow::Metrics, RELAY),
    compat("/skywalking.v3.CLRMetricReportService/collect", "/CLRMetricReportService/collect", Flow::Metrics, RELAY),
    row("/skywalking.v3.EventService/collect", Flow::Logs, RELAY),
    compat("/skywalking.v3.ManagementService/reportInstanceProperties", "/ManagementService/reportInstanceProperties", Flow::Control, RELAY),
    compat("/skywalking.v3.ManagementService/keepAlive", "/ManagementService/keepAlive", Flow::Control, RELAY),
    row("/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations", Flow::Control, RELAY),
    compat("/skywalking.v3.ProfileTask/getProfileTaskCommands", "/ProfileTask/getProfileTaskCommands", Flow::Control, RELAY),
    compat("/skywalking.v3.ProfileTask/collectSnapshot", "/ProfileTask/collectSnapshot", Flow::Profiles, RELAY),
    row("/skywalking.v3.ProfileTask/goProfileReport", Flow::Profiles, RELAY),
    compat("/skywalking.v3.ProfileTask/reportTaskFinish", "/ProfileTask/reportTaskFinish", Flow::Control, RELAY),
    row("/skywalking.v3.EBPFProcessService/reportProcesses", Flow::Control, RELAY),
    row("/skywalking.v3.EBPFProcessService/keepAlive", Flow::Control, RELAY),
    row("/skywalking.v3.EBPFProfilingService/queryTasks", Flow::Control, RELAY),
    row("/skywalking.v3.EBPFProfilingService/collectProfilingData", Flow::Profiles, RELAY),
    row("/skywalking.v3.ContinuousProfilingService/queryPolicies", Flow::Control, RELAY),
    row("/skywalking.v3.ContinuousProfilingService/reportProfilingTask", Flow::Control, RELAY),
    row("/skywalking.v3.EBPFAccessLogService/collect", Flow::AccessLogs, RELAY),
    row("/skywalking.v3.ServiceMeshMetricService/collect", Flow::Metrics, RELAY),
    compat("/skywalking.v3.BrowserPerfService/collectPerfData", "/BrowserPerfService/collectPerfData", Flow::Metrics, RELAY),
    row("/skywalking.v3.BrowserPerfService/collectWebVitalsPerfData", Flow::Metrics, RELAY),
    row("/skywalking.v3.BrowserPerfService/collectResourcePerfData", Flow::Metrics, RELAY),
    row("/skywalking.v3.BrowserPerfService/collectWebInteractionsPerfData", Flow::Metrics, RELAY),
    compat("/skywalking.v3.BrowserPerfService/collectErrorLogs", "/BrowserPerfService/collectErrorLogs", Flow::Logs, RELAY),
    // SkyWalking v10
    row("/skywalking.v10.AsyncProfilerTask/collect", Flow::Profiles, RELAY),
    row("/skywalking.v10.AsyncProfilerTask/getAsyncProfilerTaskCommands", Flow::Control, RELAY),
    row("/skywalking.v10.PprofTask/collect", Flow::Profiles, RELAY),
    row("/skywalking.v10.PprofTask/getPprofTaskCommands", Flow::Control, RELAY),
    // Envoy
    row("/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs", Flow::AccessLogs, ENVOY_LOGS),
    row("/envoy.service.accesslog.v2.AccessLogService/StreamAccessLogs", Flow::AccessLogs, ENVOY_LOGS),
    row("/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs", Flow::AccessLogs, RELAY),
    row("/envoy.service.metrics.v3.MetricsService/StreamMetrics", Flow::Metrics, ENVOY_METRICS),
    row("/envoy.service.metrics.v2.MetricsService/StreamMetrics", Flow::Metrics, ENVOY_METRICS),
    // OTLP
    row("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Flow::Traces, RELAY),
    row("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", Flow::Metrics, RELAY),
    row("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Flow::Logs, RELAY),
];

/// Every path agents may call, with its route.
pub fn routes() -> impl Iterator<Item = (&'static str, Route)> {
    ROWS.into_iter().flat_map(|row| {
        let route = Route { method: Some(row.path), flow: row.flow, contract: row.contract };
        [Some(row.path), row.package_less].into_iter().flatten().map(move |path| (path, route.clone()))
    })
}
