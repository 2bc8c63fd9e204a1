//! What a caller gets wrong is its own call's trouble: it is told how to mend it, and its neighbours notice nothing.

use std::io::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::write::GzEncoder;
use prost::Message as _;
use switchyard::proto::skywalking::v3::{LogData, SegmentObject};
use switchyard::wire::grpc::{Code, Status};

use crate::caller::{Call, Caller, framed};
use crate::ground::{Road, lost};

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const LOGS: &str = "/skywalking.v3.LogReportService/collect";
const ACCESS_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const QUERY: &str = "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations";

fn segment(id: &str) -> Bytes {
    SegmentObject { trace_segment_id: id.into(), service: "shop".into(), ..SegmentObject::default() }
        .encode_to_vec()
        .into()
}

fn log(id: usize) -> Bytes {
    LogData { service: "shop".into(), endpoint: format!("log-{id}"), ..LogData::default() }.encode_to_vec().into()
}

/// Five good messages on a path, then whatever `then` does, beside a neighbour on the same connection. Answers what
/// the bad call was told; its good messages and the neighbour's must have arrived.
fn beside_a_neighbour(
    path: &str,
    metadata: &[(&str, &str)],
    good: impl Fn(usize) -> Bytes,
    then: Bytes,
    malformed: u64,
) -> Status {
    let road = Road::to_collectors(1);
    let status = road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut neighbour = caller.open(SEGMENTS).await;
        neighbour.send(framed(&segment("neighbour-0"))).await;
        let mut bad = caller.open_with(path, metadata).await;
        for number in 0..5 {
            bad.send(framed(&good(number))).await;
        }
        bad.send(then).await;
        bad.half_close();
        let status = bad.answer().await.status();
        neighbour.send(framed(&segment("neighbour-1"))).await;
        neighbour.half_close();
        assert_eq!(neighbour.answer().await.status(), Status::ok(), "the neighbour is unharmed");
        status
    });
    road.wait_until_delivered(std::time::Duration::from_secs(5));
    let evidence = road.collectors[0].evidence();
    assert!(evidence.has("neighbour", 0) && evidence.has("neighbour", 1), "the neighbour's messages arrive");
    let name = if path == LOGS { "log" } else { "good" };
    assert!((0..5).all(|number| evidence.has(name, number)), "messages before the bad one arrive");
    let summary = road.end_with_losses();
    assert_eq!(summary.totals.delivered, 7);
    assert_eq!(lost(&summary).iter().map(|(_, messages)| messages).sum::<u64>(), malformed, "{:?}", lost(&summary));
    status
}

fn good_segment(number: usize) -> Bytes {
    segment(&format!("good-{number}"))
}

#[track_caller]
fn assert_told(status: &Status, code: Code, words: &[&str]) {
    assert_eq!(status.code, code, "{status}");
    for word in words {
        assert!(status.message.contains(word), "{word:?} is not in {status}");
    }
}

/// What a call with this path and one message is told.
fn told(listener: &str, path: &str, metadata: &[(&str, &str)]) -> (Status, Road) {
    let road = Road::to_collectors(1);
    let at = road.listener(listener);
    let status = road.block_on(async {
        let caller = Caller::connect(at).await;
        let mut call = caller.open_with(path, metadata).await;
        call.half_close();
        let status = call.answer().await.status();
        if listener == "agents" {
            let after = caller.call(SEGMENTS, &[], &[segment("after-0")]).await;
            assert_eq!(after.status(), Status::ok(), "the connection lives on");
        }
        status
    });
    (status, road)
}

#[test]
fn an_unknown_path_is_unimplemented_and_says_how_to_have_it_served() {
    let (status, road) = told("agents", "/shop.Orders/Watch", &[]);
    assert_told(&status, Code::Unimplemented, &["/shop.Orders/Watch", "methods:", "switchyard.yaml"]);
    road.end();
}

#[test]
fn the_collectors_own_bus_never_passes() {
    for path in ["/RemoteService/call", "/RemoteService/syncStatus"] {
        let (status, road) = told("agents", path, &[]);
        assert_told(&status, Code::Unimplemented, &["RemoteService"]);
        assert!(!road.collectors[0].counts().methods.contains_key(path));
        road.end();
    }
}

#[test]
fn a_path_that_is_almost_one_is_none() {
    let near = ["/extra", "?x=1", "/", "/../collect", "//", "%2F", ";a=b"];
    let road = Road::to_collectors(1);
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        for suffix in near {
            let answer = caller.call(&format!("{SEGMENTS}{suffix}"), &[], &[segment("near-0")]).await;
            assert_eq!(answer.code(), Code::Unimplemented, "{suffix}");
        }
        for path in ["/skywalking.v3.TraceSegmentReportService/Collect", "/a/../skywalking.v3.LogReportService/collect"]
        {
            assert_eq!(caller.call(path, &[], &[segment("near-0")]).await.code(), Code::Unimplemented, "{path}");
        }
    });
    assert_eq!(road.collectors[0].counts().messages, 0);
    assert_eq!(road.end().totals.received, 0);
}

#[test]
fn a_dedicated_port_names_the_port_that_serves_the_flow() {
    let (status, road) = told("access_logs", SEGMENTS, &[]);
    assert_told(&status, Code::Unimplemented, &["access_logs", &road.agents().port().to_string()]);
    road.end();
    let (status, road) = told("metrics", ACCESS_LOGS, &[]);
    assert_eq!(status.code, Code::Unimplemented);
    let serve = [road.agents().port(), road.listener("access_logs").port()];
    assert!(serve.iter().any(|port| status.message.contains(&port.to_string())), "{status}");
    road.end();
}

#[test]
fn a_request_that_is_no_grpc_is_told_so() {
    let road = Road::to_collectors(1);
    let at = road.agents();
    road.block_on(async {
        let tcp = tokio::net::TcpStream::connect(at).await.unwrap();
        let (requests, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        for request in [
            http::Request::get(format!("http://{at}{SEGMENTS}")).body(()).unwrap(),
            http::Request::post(format!("http://{at}{SEGMENTS}"))
                .header("content-type", "text/plain")
                .body(())
                .unwrap(),
        ] {
            let mut requests = requests.clone().ready().await.unwrap();
            let response = requests.send_request(request, true).unwrap().0.await.expect("an answer and no reset");
            let told = Status::from_headers(response.headers()).map(|status| status.message).unwrap_or_default();
            assert!(response.status() == 415 || told.contains("gRPC"), "{} {told}", response.status());
        }
    });
    road.end();
}

#[test]
fn a_length_beyond_the_limit_ends_only_its_own_call() {
    for length in [(4u32 << 20) + 1, u32::MAX] {
        let mut prefix = BytesMut::new();
        prefix.put_u8(0);
        prefix.put_u32(length);
        let status = beside_a_neighbour(SEGMENTS, &[], good_segment, prefix.freeze(), 0);
        assert_told(&status, Code::InvalidArgument, &["limits.message"]);
        assert!(!status.message.contains("message_bytes"), "the setting is called limits.message: {status}");
    }
}

#[test]
fn a_message_cut_short_by_the_half_close_ends_only_its_own_call() {
    let cut = framed(&segment("cut-0")).slice(..12);
    let status = beside_a_neighbour(SEGMENTS, &[], good_segment, cut, 0);
    assert_told(&status, Code::Internal, &["inside a message"]);
}

#[test]
fn a_flag_that_is_neither_0_nor_1_ends_only_its_own_call() {
    let garbage = Bytes::from_static(&[7, 0, 0, 0, 1, 0]);
    let status = beside_a_neighbour(SEGMENTS, &[], good_segment, garbage, 0);
    assert_told(&status, Code::Internal, &[]);
}

#[test]
fn a_body_that_is_no_protobuf_ends_only_its_own_call_where_it_has_to_be_read() {
    let garbage = framed(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let status = beside_a_neighbour(LOGS, &[], log, garbage, 1);
    assert_told(&status, Code::InvalidArgument, &[]);
}

fn flagged(body: &[u8]) -> Bytes {
    let mut message = BytesMut::from(&framed(body)[..]);
    message[0] = 1;
    message.freeze()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_compressed_flag_without_an_encoding_ends_only_its_own_call() {
    let status = beside_a_neighbour(SEGMENTS, &[], good_segment, flagged(&gzip(&segment("x-0"))), 1);
    assert_told(&status, Code::Internal, &["grpc-encoding"]);
}

#[test]
fn an_unknown_encoding_is_refused_with_those_that_are_known() {
    let (status, road) = told("agents", SEGMENTS, &[("grpc-encoding", "snappy")]);
    assert_told(&status, Code::Unimplemented, &["snappy", "gzip"]);
    road.end();
}

#[test]
fn a_gzip_bomb_ends_only_its_own_call() {
    let bomb = flagged(&gzip(&vec![0; 200 << 20]));
    assert!(bomb.len() < 1 << 20, "it is small on the wire");
    let status = beside_a_neighbour(SEGMENTS, &[("grpc-encoding", "gzip")], good_segment, bomb, 1);
    assert_told(&status, Code::InvalidArgument, &["limits.message"]);
}

#[test]
fn broken_gzip_ends_only_its_own_call() {
    let mut broken = gzip(&segment("x-0"));
    broken.truncate(broken.len() - 9);
    let status = beside_a_neighbour(SEGMENTS, &[("grpc-encoding", "gzip")], good_segment, flagged(&broken), 1);
    assert_told(&status, Code::Internal, &[]);
}

#[test]
fn gzip_within_the_limits_is_read_and_delivered() {
    let road = Road::to_collectors(3);
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        for (path, message) in [(SEGMENTS, segment("zipped-0")), (LOGS, log(0))] {
            let mut call: Call = caller.open_with(path, &[("grpc-encoding", "gzip")]).await;
            call.send(flagged(&gzip(&message))).await;
            call.half_close();
            assert_eq!(call.answer().await.status(), Status::ok());
        }
        // What is relayed passes as it came, encoding and all.
        let mut call = caller.open_with(QUERY, &[("grpc-encoding", "gzip")]).await;
        call.send(flagged(&gzip(b""))).await;
        call.half_close();
        assert_eq!(call.answer().await.status(), Status::ok());
    });
    road.wait_until_delivered(std::time::Duration::from_secs(5));
    let has = |agent| road.collectors.iter().any(|collector| collector.evidence().has(agent, 0));
    assert!(has("zipped") && has("log"));
    assert_eq!(road.end().totals.delivered, 3);
}
