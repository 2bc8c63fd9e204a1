//! One test a method: the same traffic directly and through a gateway.

use switchyard::testkit::methods::MethodId;

use crate::draw::{Case, Draw, seeds};
use crate::traffic::Traffic;
use crate::ways::{Setting, assert_alike};

/// Tries a method's seeds.
fn attributed_alike(name: &str, path: &str) {
    for seed in seeds(name) {
        let case = Case { name, seed };
        let mut draw = case.draw();
        let traffic = Traffic::draw(path, &mut draw);
        assert_alike(&traffic, Setting::draw(&mut draw));
    }
}

/// A test for each path, and the list of all.
macro_rules! methods {
    ($($name:ident: $path:literal,)*) => {
        $(#[test] fn $name() { attributed_alike(stringify!($name), $path); })*
        const TESTED: &[&str] = &[$($path),*];
    };
}

methods! {
    segments: "/skywalking.v3.TraceSegmentReportService/collect",
    segments_in_sync: "/skywalking.v3.TraceSegmentReportService/collectInSync",
    span_attached_events: "/skywalking.v3.SpanAttachedEventReportService/collect",
    logs: "/skywalking.v3.LogReportService/collect",
    meters: "/skywalking.v3.MeterReportService/collect",
    meter_batches: "/skywalking.v3.MeterReportService/collectBatch",
    jvm_metrics: "/skywalking.v3.JVMMetricReportService/collect",
    clr_metrics: "/skywalking.v3.CLRMetricReportService/collect",
    events: "/skywalking.v3.EventService/collect",
    instance_properties: "/skywalking.v3.ManagementService/reportInstanceProperties",
    keep_alive: "/skywalking.v3.ManagementService/keepAlive",
    configurations: "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations",
    profile_commands: "/skywalking.v3.ProfileTask/getProfileTaskCommands",
    snapshots: "/skywalking.v3.ProfileTask/collectSnapshot",
    go_profiles: "/skywalking.v3.ProfileTask/goProfileReport",
    task_finishes: "/skywalking.v3.ProfileTask/reportTaskFinish",
    processes: "/skywalking.v3.EBPFProcessService/reportProcesses",
    process_keep_alive: "/skywalking.v3.EBPFProcessService/keepAlive",
    ebpf_tasks: "/skywalking.v3.EBPFProfilingService/queryTasks",
    ebpf_profiling: "/skywalking.v3.EBPFProfilingService/collectProfilingData",
    continuous_policies: "/skywalking.v3.ContinuousProfilingService/queryPolicies",
    continuous_tasks: "/skywalking.v3.ContinuousProfilingService/reportProfilingTask",
    ebpf_access_logs: "/skywalking.v3.EBPFAccessLogService/collect",
    mesh_metrics: "/skywalking.v3.ServiceMeshMetricService/collect",
    browser_perf: "/skywalking.v3.BrowserPerfService/collectPerfData",
    browser_web_vitals: "/skywalking.v3.BrowserPerfService/collectWebVitalsPerfData",
    browser_resources: "/skywalking.v3.BrowserPerfService/collectResourcePerfData",
    browser_interactions: "/skywalking.v3.BrowserPerfService/collectWebInteractionsPerfData",
    browser_error_logs: "/skywalking.v3.BrowserPerfService/collectErrorLogs",
    async_profiler_uploads: "/skywalking.v10.AsyncProfilerTask/collect",
    async_profiler_commands: "/skywalking.v10.AsyncProfilerTask/getAsyncProfilerTaskCommands",
    pprof_uploads: "/skywalking.v10.PprofTask/collect",
    pprof_commands: "/skywalking.v10.PprofTask/getPprofTaskCommands",
    envoy_access_logs: "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
    envoy_access_logs_v2: "/envoy.service.accesslog.v2.AccessLogService/StreamAccessLogs",
    satellite_access_logs: "/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs",
    envoy_metrics: "/envoy.service.metrics.v3.MetricsService/StreamMetrics",
    envoy_metrics_v2: "/envoy.service.metrics.v2.MetricsService/StreamMetrics",
    otlp_traces: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    otlp_metrics: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    otlp_logs: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    old_segments: "/TraceSegmentReportService/collect",
    old_segments_in_sync: "/TraceSegmentReportService/collectInSync",
    old_meters: "/MeterReportService/collect",
    old_jvm_metrics: "/JVMMetricReportService/collect",
    old_clr_metrics: "/CLRMetricReportService/collect",
    old_instance_properties: "/ManagementService/reportInstanceProperties",
    old_keep_alive: "/ManagementService/keepAlive",
    old_profile_commands: "/ProfileTask/getProfileTaskCommands",
    old_snapshots: "/ProfileTask/collectSnapshot",
    old_task_finishes: "/ProfileTask/reportTaskFinish",
    old_browser_perf: "/BrowserPerfService/collectPerfData",
    old_browser_error_logs: "/BrowserPerfService/collectErrorLogs",
}

#[test]
fn all_methods_at_once_on_the_same_connections() {
    let name = "all_methods_at_once_on_the_same_connections";
    for seed in seeds(name).into_iter().take(2) {
        let case = Case { name, seed };
        let mut draw = Draw::brief(case.seed);
        let parts = TESTED.iter().map(|path| Traffic::draw(path, &mut draw)).collect();
        let traffic = Traffic::together(parts, &mut draw);
        assert_alike(&traffic, Setting::draw(&mut draw));
    }
}

#[test]
fn every_method_of_the_test_kit_but_health_is_tested() {
    let known = MethodId::all().map(|id| &id.method().path[..]).filter(|path| !path.contains("grpc.health"));
    let untested: Vec<&str> = known.filter(|path| !TESTED.contains(path)).collect();
    assert_eq!((untested, TESTED.len()), (Vec::new(), MethodId::all().count() - 1));
}
