//! What SkyWalking's agents call and OAP serves (PROTOCOLS tables A and B).

use crate::message::flow::Flow::{AccessLogs, Control, Logs, Metrics, Profiles, Traces};
use crate::message::parcel::StandIn;
use crate::message::path::FieldPath;
use crate::route::Method;
use crate::route::contract::CarryMode::{FirstNonEmpty, Latest};
use crate::route::contract::{Contract, Key, Need, Split};

use super::{carry, each, relay, row, whole};

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const METERS: &str = "/skywalking.v3.MeterReportService/collect";

#[rustfmt::skip]
pub(super) fn methods() -> Vec<Method> {
    vec![
        row(SEGMENTS, Traces, each().hashed_by(&[&[1]]), "trace_id=1 segment_id=2 service=4 instance=5").package_less(),
        row("/skywalking.v3.TraceSegmentReportService/collectInSync", Traces, segments(), "trace_id=1 segment_id=2 service=4 instance=5").package_less(),
        row("/skywalking.v3.SpanAttachedEventReportService/collect", Traces, each().hashed_by(&[&[6, 2]]), "trace_id=6.2 segment_id=6.3"),
        row("/skywalking.v3.LogReportService/collect", Logs, carry(FirstNonEmpty, &[2]).hashed_by(&[&[2]]), "service=2 instance=3 endpoint=4 trace_id=6.1 layer=8"),
        row(METERS, Metrics, meters(), "service=3 instance=4").package_less(),
        row("/skywalking.v3.MeterReportService/collectBatch", Metrics, meter_batch(), "service=1.3 instance=1.4"),
        row("/skywalking.v3.JVMMetricReportService/collect", Metrics, whole().hashed_by(&[&[2], &[3]]), "service=2 instance=3").package_less(),
        row("/skywalking.v3.CLRMetricReportService/collect", Metrics, whole().hashed_by(&[&[2], &[3]]), "service=2 instance=3").package_less(),
        row("/skywalking.v3.EventService/collect", Logs, events(), "uuid=1 service=2.1 instance=2.2 endpoint=2.3 name=3 layer=9"),
        row("/skywalking.v3.ManagementService/reportInstanceProperties", Control, whole().hashed_by(&[&[1], &[2]]), "service=1 instance=2 layer=4").package_less(),
        row("/skywalking.v3.ManagementService/keepAlive", Control, whole().hashed_by(&[&[1], &[2]]), "service=1 instance=2 layer=3").package_less(),
        row("/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations", Control, relay().sticky_by(&[&[1]]), "service=1"),
        row("/skywalking.v3.ProfileTask/getProfileTaskCommands", Control, relay().sticky_by(&[&[1], &[2]]), "service=1 instance=2").package_less(),
        row("/skywalking.v3.ProfileTask/collectSnapshot", Profiles, each().hashed_by(&[&[1]]), "task_id=1 segment_id=2").package_less(),
        row("/skywalking.v3.ProfileTask/goProfileReport", Profiles, Contract::of(Split::Sets { last: 3, name: 1 }), "task_id=1 is_last=3"),
        row("/skywalking.v3.ProfileTask/reportTaskFinish", Control, relay().sticky_by(&[&[1], &[2]]), "service=1 instance=2 task_id=3").package_less(),
        row("/skywalking.v3.EBPFProcessService/reportProcesses", Control, relay().sticky_by(&[&[2]]), "agent_id=2"),
        row("/skywalking.v3.EBPFProcessService/keepAlive", Control, whole().hashed_by(&[&[2]]), "agent_id=2"),
        row("/skywalking.v3.EBPFProfilingService/queryTasks", Control, relay().sticky_by(&[&[1]]), "agent_id=1"),
        row("/skywalking.v3.EBPFProfilingService/collectProfilingData", Profiles, ebpf_profiling(), "task=1 task_id=1.1 process_id=1.2"),
        row("/skywalking.v3.ContinuousProfilingService/queryPolicies", Control, relay().sticky_by(&[&[1, 1]]), "service=1.1"),
        row("/skywalking.v3.ContinuousProfilingService/reportProfilingTask", Control, relay().sticky_by(&[&[2], &[3]]), "service=2 instance=3"),
        row("/skywalking.v3.EBPFAccessLogService/collect", AccessLogs, carry(Latest, &[1, 2]).hashed_by(&[&[1, 1]]), "node=1.1 cluster=1.4 node_info=1 connection=2"),
        row("/skywalking.v3.ServiceMeshMetricService/collect", Metrics, each().hashed_by(&[&[1, 1, 5], &[2, 1, 5]]), "service=1.1.5 source=1.1.3"),
        row("/skywalking.v3.BrowserPerfService/collectPerfData", Metrics, whole().hashed_by(&[&[1]]), "service=1 version=2 page=4").package_less(),
        row("/skywalking.v3.BrowserPerfService/collectWebVitalsPerfData", Metrics, whole().hashed_by(&[&[1]]), "service=1 version=2 page=4"),
        row("/skywalking.v3.BrowserPerfService/collectResourcePerfData", Metrics, whole().hashed_by(&[&[1]]), "service=1 version=2 page=4"),
        row("/skywalking.v3.BrowserPerfService/collectWebInteractionsPerfData", Metrics, whole().hashed_by(&[&[1]]), "service=1 version=2 page=4"),
        row("/skywalking.v3.BrowserPerfService/collectErrorLogs", Logs, each().hashed_by(&[&[2]]), "service=2 version=3 page=5").package_less(),
        row("/skywalking.v10.AsyncProfilerTask/collect", Profiles, relay().said_once(), "service=1.1 instance=1.2 task_id=1.3"),
        row("/skywalking.v10.AsyncProfilerTask/getAsyncProfilerTaskCommands", Control, relay().sticky_by(&[&[1], &[2]]), "service=1 instance=2"),
        row("/skywalking.v10.PprofTask/collect", Profiles, relay().said_once(), "service=1.1 instance=1.2 task_id=1.3"),
        row("/skywalking.v10.PprofTask/getPprofTaskCommands", Control, relay().sticky_by(&[&[1], &[2]]), "service=1 instance=2"),
    ]
}

/// A batch of segments is as many messages of the streaming method.
fn segments() -> Contract {
    Contract::of(Split::Elements { field: 1, path: SEGMENTS }).hashed_by(&[&[1]])
}

/// The call is one set, computed at its end, clean or not (PROTOCOLS 1.2.2).
fn meters() -> Contract {
    Contract { flushes: true, ..whole().sticky_by(&[&[3], &[4]]) }
}

/// Each message is one set, and one backend per instance, for OAP computes rates in its memory (PROTOCOLS 1.2.2).
/// Before OAP 8.9 a set can only be a stream.
fn meter_batch() -> Contract {
    let paths = vec![FieldPath::of(&[3]), FieldPath::of(&[4])];
    Contract {
        key: Some(Key::LastOfElements { field: 1, paths }),
        sticky: true,
        stand_in: Some(StandIn::Elements { field: 1, path: METERS }),
        ..each()
    }
}

/// Start and end of an event have one uuid, and where a store overwrites by it the later arrival wins (PROTOCOLS
/// 1.2.8). OAP ends the call of an event without a layer.
fn events() -> Contract {
    let needs = vec![Need { any_of: vec![9], complaint: "an event must name its layer" }];
    Contract { ordered: true, needs, ..each().sticky_by(&[&[1]]) }
}

/// OAP ends the call of data that is neither on CPU nor off CPU (PROTOCOLS 1.2.5).
fn ebpf_profiling() -> Contract {
    let needs = vec![Need { any_of: vec![2, 3], complaint: "profiling data must be on CPU or off CPU" }];
    Contract { needs, ..carry(Latest, &[1]).hashed_by(&[&[1, 1], &[1, 2]]) }
}
