//! One sentence per rule of PROTOCOLS.md section 1.2.

use super::*;
use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::accesslog::v3::{StreamAccessLogsMessage, stream_access_logs_message};
use crate::proto::envoy::service::metrics::v3::{StreamMetricsMessage, stream_metrics_message};
use crate::proto::google::protobuf::{Struct, value::Kind};
use crate::proto::skywalking::{v3, v10};
use crate::testkit::attribution::Attribution;
use crate::testkit::tally::MethodCounts;

mod items;
mod otlp;
mod uploads;

const LOGS: &str = "/skywalking.v3.LogReportService/collect";
const ALS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const SATELLITE_ALS: &str = "/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs";
const ENVOY_METRICS: &str = "/envoy.service.metrics.v3.MetricsService/StreamMetrics";
const METERS: &str = "/skywalking.v3.MeterReportService/collect";
const METER_BATCH: &str = "/skywalking.v3.MeterReportService/collectBatch";
const EBPF_LOGS: &str = "/skywalking.v3.EBPFAccessLogService/collect";
const EBPF_PROFILING: &str = "/skywalking.v3.EBPFProfilingService/collectProfilingData";
const GO_PROFILE: &str = "/skywalking.v3.ProfileTask/goProfileReport";
const EVENTS: &str = "/skywalking.v3.EventService/collect";
const ASYNC: &str = "/skywalking.v10.AsyncProfilerTask/collect";
const PPROF: &str = "/skywalking.v10.PprofTask/collect";

struct Call {
    path: &'static str,
    receiver: Receiver,
    tally: Tally,
}

impl Call {
    fn of(path: &'static str) -> Self {
        let id = MethodId::find(path).unwrap();
        let mut tally = Tally::new(Detail::Items, None).unwrap();
        tally.call(id);
        Self { path, receiver: Receiver::new(id), tally }
    }

    fn say(&mut self, message: &impl prost::Message) -> Result<Option<Bytes>, Code> {
        self.receiver.message(&message.encode_to_vec(), &mut self.tally).map_err(|status| status.code)
    }

    fn say_bytes(&mut self, body: &[u8]) -> Result<Option<Bytes>, Code> {
        self.receiver.message(body, &mut self.tally).map_err(|status| status.code)
    }

    /// Ends the call and lists every item filed, as often as it was.
    fn items(mut self, end: End) -> Vec<Attribution> {
        self.receiver.end(end, &mut self.tally).unwrap();
        let attributed = self.tally.attributed();
        attributed.iter().flat_map(|(item, times)| std::iter::repeat_n(item.clone(), *times as usize)).collect()
    }

    fn counts(&self) -> MethodCounts {
        self.tally.counts().methods.remove(self.path).unwrap()
    }

    fn end(mut self, end: End) -> (Vec<(String, u64)>, u64) {
        self.receiver.end(end, &mut self.tally).unwrap();
        let counts = self.counts();
        let filed = counts.sources.into_iter().filter(|(_, filed)| filed.messages > 0);
        (filed.map(|(name, filed)| (name, filed.messages)).collect(), counts.discarded.values().sum())
    }
}

fn filed(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

fn log(service: &str) -> v3::LogData {
    v3::LogData { service: service.into(), endpoint: "agent-1".into(), ..Default::default() }
}

fn meter(service: &str, instance: &str, timestamp: i64) -> v3::MeterData {
    let value = v3::MeterSingleValue { name: "m".into(), ..Default::default() };
    v3::MeterData {
        service: service.into(),
        service_instance: instance.into(),
        timestamp,
        metric: Some(v3::meter_data::Metric::SingleValue(value)),
    }
}

fn access_log(node: &str) -> StreamAccessLogsMessage {
    let identifier = (!node.is_empty()).then(|| stream_access_logs_message::Identifier {
        node: Some(Node { id: node.into(), ..Default::default() }),
        log_name: "log".into(),
    });
    StreamAccessLogsMessage { identifier, log_entries: None }
}

fn metadata(entries: Vec<(&str, Kind)>) -> Struct {
    let value = |kind| crate::proto::google::protobuf::Value { kind: Some(kind) };
    Struct { fields: entries.into_iter().map(|(key, kind)| (key.to_owned(), value(kind))).collect() }
}

fn envoy_metrics(metadata: Option<Struct>) -> StreamMetricsMessage {
    let node = Node { id: "node".into(), metadata, ..Default::default() };
    StreamMetricsMessage {
        identifier: Some(stream_metrics_message::Identifier { node: Some(node) }),
        envoy_metrics: vec![],
    }
}

#[test]
fn the_first_service_of_a_log_stream_swallows_every_later_one() {
    let mut call = Call::of(LOGS);
    for service in ["shop", "", "bank"] {
        call.say(&log(service)).unwrap();
    }
    assert_eq!(call.end(End::Clean), (filed(&[("shop", 3)]), 0));
}

#[test]
fn logs_before_the_first_service_are_dropped_and_leave_no_id() {
    let mut call = Call::of(LOGS);
    call.say(&log("")).unwrap();
    assert_eq!(call.tally.counts().ids.unique, 0);
    call.say(&log("shop")).unwrap();
    assert_eq!(call.tally.counts().ids.unique, 1);
    assert_eq!(call.end(End::Clean), (filed(&[("shop", 1)]), 1));
}

#[test]
fn the_standard_access_log_service_reads_the_first_identifier_only() {
    let mut call = Call::of(ALS);
    for node in ["sidecar~a", "", "sidecar~b"] {
        call.say(&access_log(node)).unwrap();
    }
    assert_eq!(call.end(End::Clean), (filed(&[("sidecar~a", 3)]), 0));
}

#[test]
fn access_logs_without_an_identifier_in_message_one_belong_to_nobody() {
    let mut call = Call::of(ALS);
    for node in ["", "sidecar~b"] {
        call.say(&access_log(node)).unwrap();
    }
    assert_eq!(call.end(End::Clean), (filed(&[("", 2)]), 0));
}

#[test]
fn the_satellite_access_log_service_reads_every_identifier() {
    let mut call = Call::of(SATELLITE_ALS);
    for node in ["sidecar~a", "", "sidecar~b", ""] {
        call.say(&access_log(node)).unwrap();
    }
    assert_eq!(call.end(End::Clean), (filed(&[("sidecar~a", 2), ("sidecar~b", 2)]), 0));
}

#[test]
fn envoy_metrics_are_filed_under_the_metadata_of_message_one() {
    let labels = metadata(vec![("app", Kind::StringValue("reviews".into()))]);
    let node = |name: &str| {
        metadata(vec![
            ("LABELS", Kind::StructValue(labels.clone())),
            ("NAME", Kind::StringValue(name.into())),
            ("NAMESPACE", Kind::StringValue("shop".into())),
        ])
    };
    let mut call = Call::of(ENVOY_METRICS);
    call.say(&envoy_metrics(Some(node("pod-1")))).unwrap();
    call.say(&envoy_metrics(Some(node("pod-2")))).unwrap();
    assert_eq!(call.end(End::Clean), (filed(&[("reviews.shop/pod-1", 2)]), 0));
}

#[test]
fn envoy_metrics_of_a_stream_that_names_nobody_at_first_are_all_dropped() {
    let named = metadata(vec![("SERVICE", Kind::StringValue("s".into())), ("NAME", Kind::StringValue("n".into()))]);
    let mut call = Call::of(ENVOY_METRICS);
    call.say(&envoy_metrics(None)).unwrap();
    call.say(&envoy_metrics(Some(named))).unwrap();
    assert_eq!(call.end(End::Clean), (vec![], 2));
}

#[test]
fn the_last_names_of_a_meter_stream_claim_every_sample_at_half_close_and_at_a_reset() {
    for end in [End::Clean, End::Broken] {
        let mut call = Call::of(METERS);
        for (service, instance, time) in [("a", "a-1", 1), ("", "", 0), ("b", "b-1", 0)] {
            call.say(&meter(service, instance, time)).unwrap();
        }
        assert_eq!(call.end(end), (filed(&[("b/b-1", 3)]), 0));
    }
}

#[test]
fn a_meter_stream_without_service_instance_or_time_is_dropped() {
    for incomplete in [meter("", "i", 1), meter("s", "", 1), meter("s", "i", 0)] {
        let mut call = Call::of(METERS);
        call.say(&incomplete).unwrap();
        assert_eq!(call.end(End::Clean), (vec![], 1));
    }
}

#[test]
fn a_meter_stream_that_the_server_ended_itself_is_lost() {
    let mut call = Call::of(METERS);
    call.say(&meter("s", "i", 1)).unwrap();
    assert_eq!(call.say_bytes(&[0x0a, 200]), Err(Code::Internal));
    assert_eq!(call.end(End::Closed), (vec![], 1));
}

#[test]
fn a_meter_without_a_value_is_skipped_names_and_all() {
    let mut call = Call::of(METERS);
    call.say(&v3::MeterData { metric: None, ..meter("s", "i", 1) }).unwrap();
    call.say(&meter("", "", 1)).unwrap();
    assert_eq!(call.end(End::Clean), (vec![], 2));
}

#[test]
fn each_meter_batch_is_a_set_of_its_own() {
    let mut call = Call::of(METER_BATCH);
    let batch = |meters: &[v3::MeterData]| v3::MeterDataCollection { meter_data: meters.to_vec() };
    call.say(&batch(&[meter("a", "1", 1), meter("", "", 0)])).unwrap();
    call.say(&batch(&[meter("", "", 1)])).unwrap();
    call.say(&batch(&[meter("b", "1", 1), meter("b", "2", 1)])).unwrap();
    assert_eq!(call.end(End::Clean), (filed(&[("a/1", 1), ("b/2", 1)]), 1));
}

fn ebpf_log(node: &str, service: &str) -> v3::EbpfAccessLogMessage {
    let address = v3::connection_address::Address::Kubernetes(v3::KubernetesProcessAddress {
        service_name: service.into(),
        pod_name: String::new(),
    });
    v3::EbpfAccessLogMessage {
        node: (!node.is_empty()).then(|| v3::EbpfAccessLogNodeInfo { name: node.into(), ..Default::default() }),
        connection: (!service.is_empty()).then_some(v3::AccessLogConnection {
            local: Some(v3::ConnectionAddress { address: Some(address) }),
            remote: None,
        }),
    }
}

#[test]
fn an_ebpf_connection_keeps_the_node_in_force_when_it_was_said() {
    let mut call = Call::of(EBPF_LOGS);
    for (node, service) in [("n1", "a"), ("n2", ""), ("", "b")] {
        call.say(&ebpf_log(node, service)).unwrap();
    }
    assert_eq!(call.end(End::Clean), (filed(&[("n1/a", 2), ("n2/b", 1)]), 0));
}

#[test]
fn ebpf_logs_before_any_connection_are_dropped_and_a_first_message_without_node_has_none() {
    let mut call = Call::of(EBPF_LOGS);
    for (node, service) in [("", ""), ("", "a")] {
        call.say(&ebpf_log(node, service)).unwrap();
    }
    assert_eq!(call.end(End::Clean), (filed(&[("/a", 1)]), 1));
}

fn ebpf_profile(task: &str, samples: bool) -> v3::EbpfProfilingData {
    v3::EbpfProfilingData {
        task: (!task.is_empty()).then(|| v3::EbpfProfilingTaskMetadata { task_id: task.into(), ..Default::default() }),
        profiling: samples
            .then_some(v3::ebpf_profiling_data::Profiling::OnCpu(v3::EbpfOnCpuProfiling { dump_count: 1 })),
    }
}

#[test]
fn the_ebpf_profiling_task_said_last_holds() {
    let mut call = Call::of(EBPF_PROFILING);
    for task in ["t1", "", "t2", ""] {
        call.say(&ebpf_profile(task, true)).unwrap();
    }
    assert_eq!(call.end(End::Clean), (filed(&[("t1", 2), ("t2", 2)]), 0));
}

#[test]
fn an_ebpf_connection_without_an_address_is_none_and_takes_the_place_of_one() {
    let mut call = Call::of(EBPF_LOGS);
    let nowhere = v3::AccessLogConnection { local: Some(v3::ConnectionAddress { address: None }), remote: None };
    call.say(&ebpf_log("n", "a")).unwrap();
    call.say(&v3::EbpfAccessLogMessage { node: None, connection: Some(nowhere) }).unwrap();
    call.say(&ebpf_log("", "")).unwrap();
    call.say(&ebpf_log("", "b")).unwrap();
    assert_eq!(call.end(End::Clean), (filed(&[("n/a", 1), ("n/b", 1)]), 2));
}

#[test]
fn an_ebpf_connection_known_by_its_remote_end_alone_is_called_after_that() {
    let remote = v3::ConnectionAddress {
        address: Some(v3::connection_address::Address::Ip(v3::IpAddress { host: "10.0.0.9".into(), port: 80 })),
    };
    let connection = v3::AccessLogConnection { local: None, remote: Some(remote) };
    let mut call = Call::of(EBPF_LOGS);
    call.say(&v3::EbpfAccessLogMessage { connection: Some(connection), ..ebpf_log("n", "") }).unwrap();
    assert_eq!(call.end(End::Clean), (filed(&[("n/10.0.0.9", 1)]), 0));
}

#[test]
fn an_ebpf_task_is_read_from_message_one_even_when_it_is_not_there_and_may_be_empty_later() {
    let mut call = Call::of(EBPF_PROFILING);
    call.say(&ebpf_profile("", true)).unwrap();
    call.say(&ebpf_profile("t", true)).unwrap();
    let empty = v3::EbpfProfilingTaskMetadata::default();
    call.say(&v3::EbpfProfilingData { task: Some(empty), ..ebpf_profile("", true) }).unwrap();
    assert_eq!(call.end(End::Clean), (filed(&[("", 2), ("t", 1)]), 0));
}

#[test]
fn ebpf_profiling_data_without_samples_ends_the_call() {
    assert_eq!(Call::of(EBPF_PROFILING).say(&ebpf_profile("t", false)), Err(Code::Unknown));
}

#[test]
fn a_go_profile_is_filed_when_its_last_chunk_came_and_dropped_when_another_task_cuts_in() {
    let chunk = |task: &str, is_last| v3::GoProfileData { task_id: task.into(), is_last, ..Default::default() };
    let mut call = Call::of(GO_PROFILE);
    for (task, last) in [("t1", false), ("t1", true), ("t2", false), ("t3", true), ("", true), ("t4", false)] {
        call.say(&chunk(task, last)).unwrap();
    }
    assert_eq!(call.end(End::Broken), (filed(&[("t1", 2), ("t3", 1)]), 3));
}

#[test]
fn an_event_without_a_layer_ends_the_call_with_invalid_argument() {
    let mut call = Call::of(EVENTS);
    let source = v3::Source { service: "s".into(), ..Default::default() };
    let event = v3::Event { source: Some(source), layer: "GENERAL".into(), ..Default::default() };
    call.say(&event).unwrap();
    assert_eq!(call.say(&v3::Event { layer: String::new(), ..event }), Err(Code::InvalidArgument));
    assert_eq!(call.end(End::Broken), (filed(&[("s", 1)]), 0));
}
