//! What is one item, and what its attribution must tell apart.

use bytes::BytesMut;
use prost::Message as _;

use super::uploads::jfr;
use super::*;
use crate::message::field::put_bytes;
use crate::proto::envoy::service::accesslog::v3::stream_access_logs_message::{
    HttpAccessLogEntries, Identifier, LogEntries,
};
use crate::proto::envoy::service::accesslog::v3::{HttpAccessLogEntry, HttpRequestProperties};

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const SEGMENT_COLLECTION: &str = "/skywalking.v3.TraceSegmentReportService/collectInSync";
const MESH: &str = "/skywalking.v3.ServiceMeshMetricService/collect";
const KEEP_ALIVE: &str = "/skywalking.v3.ManagementService/keepAlive";

/// What one call of these messages leaves behind.
fn items<M: prost::Message>(path: &'static str, messages: &[M]) -> Vec<Attribution> {
    let mut call = Call::of(path);
    messages.iter().for_each(|message| assert_eq!(call.say(message), Ok(None)));
    call.items(End::Clean)
}

/// An encoded message with some field no schema knows.
fn with_unknown(message: &impl prost::Message) -> Vec<u8> {
    let mut body = BytesMut::from(&message.encode_to_vec()[..]);
    put_bytes(&mut body, 3_000, b"new in the next version");
    body.to_vec()
}

fn entries(node: &str, ids: &[&str]) -> StreamAccessLogsMessage {
    let entry = |id: &&str| HttpAccessLogEntry {
        request: Some(HttpRequestProperties { request_id: (*id).into(), ..Default::default() }),
    };
    let log_entry = ids.iter().map(entry).collect();
    StreamAccessLogsMessage {
        log_entries: Some(LogEntries::HttpLogs(HttpAccessLogEntries { log_entry })),
        ..access_log(node)
    }
}

#[test]
fn each_entry_of_an_access_log_message_is_an_item() {
    let together = items(ALS, &[entries("a", &["1", "2"]), entries("", &["3"])]);
    let apart = items(ALS, &[entries("a", &["1"]), entries("a", &["2"]), entries("a", &["3"])]);
    assert_eq!((together.len(), &together), (3, &apart));
    assert!(together[0].source == "a" && together[0].item.starts_with("1#"), "{together:?}");
}

#[test]
fn an_entry_knows_the_identifier_to_the_byte() {
    let other_log = |mut message: StreamAccessLogsMessage| {
        message.identifier = message.identifier.map(|identifier| Identifier { log_name: "other".into(), ..identifier });
        message
    };
    let one = items(ALS, &[entries("a", &["1"])]);
    assert_ne!(items(ALS, &[other_log(entries("a", &["1"]))]), one);
    let mut twice = BytesMut::from(&entries("a", &["1"]).encode_to_vec()[..]);
    twice.extend_from_slice(&StreamAccessLogsMessage { log_entries: None, ..entries("a", &[]) }.encode_to_vec());
    let mut call = Call::of(ALS);
    call.say_bytes(&twice).unwrap();
    assert_ne!(call.items(End::Clean), one, "an identifier said on top of another is not the same");
}

#[test]
fn unknown_fields_of_a_message_belong_to_its_items() {
    let mut call = Call::of(ALS);
    call.say_bytes(&with_unknown(&entries("a", &["1"]))).unwrap();
    assert_ne!(call.items(End::Clean), items(ALS, &[entries("a", &["1"])]));
    let mut call = Call::of(LOGS);
    call.say_bytes(&with_unknown(&log("shop"))).unwrap();
    assert_ne!(call.items(End::Clean), items(LOGS, &[log("shop")]));
}

#[test]
fn a_log_is_the_same_whether_it_names_its_service_itself_or_inherits_it() {
    let inherited = items(LOGS, &[log("shop"), log("")]);
    assert_eq!(inherited, items(LOGS, &[log("shop"), log("shop")]));
    assert_ne!(inherited, items(LOGS, &[log("bank"), log("")]));
    let instance = |name: &str| v3::LogData { service_instance: name.into(), ..log("shop") };
    assert_ne!(items(LOGS, &[instance("1"), instance("")]), items(LOGS, &[instance("1"), instance("1")]));
}

#[test]
fn a_meter_set_is_one_item_and_differs_once_it_is_split_merged_or_dated_anew() {
    let sample = |name: &str, service: &str| v3::MeterData {
        metric: Some(v3::meter_data::Metric::SingleValue(v3::MeterSingleValue {
            name: name.into(),
            ..Default::default()
        })),
        ..meter(service, service, i64::from(!service.is_empty()))
    };
    let set = [sample("requests", "shop"), sample("errors", "")];
    let whole = items(METERS, &set);
    assert_eq!(whole.len(), 1);
    assert!(whole[0].item.starts_with("2 samples at 1#"), "{whole:?}");
    let batch = v3::MeterDataCollection { meter_data: set.to_vec() };
    assert_eq!(items(METER_BATCH, &[batch]), whole, "the same set in one message");
    assert_ne!(items(METERS, &[sample("requests", "shop"), sample("errors", ""), sample("more", "")]), whole);
    let split = [items(METERS, &set[..1]), items(METERS, &[sample("errors", "shop")])].concat();
    assert!(!split.contains(&whole[0]));
    let later = v3::MeterData { timestamp: 2, ..sample("errors", "") };
    assert_ne!(items(METERS, &[sample("requests", "shop"), later]), whole);
}

#[test]
fn an_ebpf_log_knows_both_the_node_in_force_and_its_connection_s_own() {
    let with_log = |node: &str, service: &str| {
        let mut body = BytesMut::from(&ebpf_log(node, service).encode_to_vec()[..]);
        put_bytes(&mut body, 3, b"kernel log");
        body
    };
    let said = |messages: &[(&str, &str)]| {
        let mut call = Call::of(EBPF_LOGS);
        messages.iter().for_each(|(node, service)| assert_eq!(call.say_bytes(&with_log(node, service)), Ok(None)));
        call.items(End::Clean)
    };
    assert_eq!(said(&[("n", "a"), ("", "")]), said(&[("n", "a"), ("n", "a")]));
    let moved = said(&[("n", "a"), ("m", "")]);
    assert_eq!(moved.iter().map(|item| &item.source[..]).collect::<Vec<_>>(), ["n/a", "n/a"]);
    assert_ne!(moved[0].context, moved[1].context, "times are read by the new node");
    assert!(said(&[("m", "a")]).iter().all(|paired| !moved.contains(paired)));
    let mut primed = Call::of(EBPF_LOGS);
    primed.say(&ebpf_log("n", "a")).unwrap();
    primed.say_bytes(&with_log("m", "")).unwrap();
    assert_eq!(primed.items(End::Clean), moved[1..=1], "node and connection said without a log are no item");
}

#[test]
fn a_profile_differs_once_another_stream_s_chunk_got_into_it() {
    let chunk = |payload: &str, is_last| v3::GoProfileData { task_id: "t".into(), payload: payload.into(), is_last };
    let own = items(GO_PROFILE, &[chunk("a", false), chunk("b", true)]);
    assert_eq!(own.len(), 1);
    assert_ne!(items(GO_PROFILE, &[chunk("a", false), chunk("x", false), chunk("b", true)]), own);
    assert_ne!(items(GO_PROFILE, &[chunk("b", true)]), own);
}

#[test]
fn an_upload_is_one_item_however_it_was_cut_into_chunks() {
    let content = |bytes: &[u8]| v10::AsyncProfilerData {
        meta_data: None,
        result: Some(v10::async_profiler_data::Result::Content(bytes.to_vec())),
    };
    let upload = |chunks: &[&[u8]]| {
        let mut call = Call::of(ASYNC);
        call.say(&jfr(v10::AsyncProfilingStatus::ProfilingSuccess, 4)).unwrap();
        chunks.iter().for_each(|chunk| assert_eq!(call.say(&content(chunk)), Ok(None)));
        call.items(End::Clean)
    };
    assert_eq!(upload(&[b"abcd"]), upload(&[b"ab", b"cd"]));
    assert_ne!(upload(&[b"abcd"]), upload(&[b"cd", b"ab"]));
    assert_ne!(upload(&[b"abcd"]), upload(&[b"ab"]));
}

#[test]
fn a_collection_of_segments_is_its_segments() {
    let segment =
        |id: &str| v3::SegmentObject { trace_segment_id: id.into(), service: "s".into(), ..Default::default() };
    let collection = v3::SegmentCollection { segments: vec![segment("1"), segment("2")] };
    assert_eq!(items(SEGMENT_COLLECTION, &[collection]), items(SEGMENTS, &[segment("2"), segment("1")]));
}

#[test]
fn each_metric_of_a_mesh_is_an_item_between_two_services() {
    let metric = |to: &str| v3::HttpServiceMeshMetric { source_service_name: "a".into(), dest_service_name: to.into() };
    let metrics = v3::HttpServiceMeshMetrics { metrics: vec![metric("b"), metric("c")] };
    let message = v3::ServiceMeshMetrics { metrics: Some(v3::service_mesh_metrics::Metrics::HttpMetrics(metrics)) };
    let items = items(MESH, &[message]);
    assert_eq!(items.iter().map(|item| &item.source[..]).collect::<Vec<_>>(), ["a/b", "a/c"]);
}

#[test]
fn a_unary_request_is_read_at_its_half_close_and_not_before() {
    let ping = v3::InstancePingPkg { service: "s".into(), ..Default::default() };
    let mut call = Call::of(KEEP_ALIVE);
    call.say(&ping).unwrap();
    assert_eq!(call.items(End::Broken), []);
    assert_eq!(items(KEEP_ALIVE, std::slice::from_ref(&ping)).len(), 1);
    let mut call = Call::of(KEEP_ALIVE);
    call.say(&ping).unwrap();
    assert_eq!(call.say(&ping), Err(Code::Internal), "a unary call has one request");
}

#[test]
fn what_was_asked_is_said_in_the_answer() {
    let path = "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations";
    let answer = |service: &str| {
        let mut call = Call::of(path);
        call.say(&v3::ConfigurationSyncRequest { service: service.into(), uuid: String::new() }).unwrap();
        call.receiver.end(End::Clean, &mut call.tally).unwrap().unwrap()
    };
    assert_eq!(answer("a"), answer("a"));
    assert_ne!(answer("a"), answer("b"));
}
