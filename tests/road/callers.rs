//! What callers may do, however odd: vanish, share a connection under several tokens, use old paths, come and go in crowds.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use switchyard::proto::skywalking::v3::SegmentObject;
use switchyard::testkit::agents::{Load, Traffic};
use switchyard::testkit::behaviour::Behaviour;
use switchyard::wire::grpc::Status;

use crate::backend::Backend;
use crate::caller::{Caller, framed};
use crate::ground::{Road, collector, eventually};

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

fn segment(agent: &str, number: u64) -> Bytes {
    let id = format!("{agent}-{number}");
    framed(&SegmentObject { trace_segment_id: id, service: "shop".into(), ..SegmentObject::default() }.encode_to_vec())
}

#[test]
fn the_whole_messages_of_a_caller_that_vanishes_are_delivered() {
    let road = Road::to_collectors(2);
    let mut call = road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut call = caller.open(SEGMENTS).await;
        for number in 0..100 {
            call.send(segment("reset", number)).await;
        }
        call.send(segment("reset", 100).slice(..9)).await;
        call
    });
    // A reset overtakes what h2 has not written.
    eventually("all are read", Duration::from_secs(5), || road.snapshot().received == 100);
    call.reset();
    let brief = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    brief.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(SEGMENTS).await;
        for number in 0..100 {
            call.send(segment("lost", number)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    });
    drop(brief);
    eventually("all have come", Duration::from_secs(5), || road.snapshot().received == 200);
    road.wait_until_delivered(Duration::from_secs(5));
    let ids: u64 = road.collectors.iter().map(|collector| collector.counts().ids.unique).sum();
    assert_eq!(ids, 200);
    assert_eq!(road.end().totals.received, 200);
}

#[test]
fn a_caller_that_vanishes_while_the_budget_is_full_loses_nothing_it_had_sent() {
    let stall = Behaviour { stall: true, ..Behaviour::default() };
    let road = Road::through(vec![collector(stall)], &[], |plan| plan.memory_bytes = 64 << 10);
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut call = caller.open(SEGMENTS).await;
        let whole: Bytes = (0..1_000).flat_map(|number| segment("vanished", number)).collect();
        call.send(whole).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        call.reset();
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    road.all_behave(&Behaviour::default());
    road.wait_until_delivered(Duration::from_secs(5));
    let ids = || road.collectors[0].counts().ids.unique;
    eventually("all have come", Duration::from_secs(5), || ids() == 1_000);
    assert_eq!(road.end().totals.delivered, 1_000);
}

#[test]
fn messages_of_different_tokens_never_share_a_stream() {
    let backend = Backend::good();
    let road = Road::through(Vec::new(), &[backend.address], |_| {});
    let tokens = [Some("alpha"), Some("beta"), None, Some("")];
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut calls = Vec::new();
        for token in tokens {
            let metadata: Vec<_> = token.iter().map(|token| ("authentication", *token)).collect();
            calls.push((token.unwrap_or_default(), caller.open_with(SEGMENTS, &metadata).await));
        }
        for number in 0..50 {
            for (token, call) in &mut calls {
                call.send(segment(if token.is_empty() { "none" } else { token }, number)).await;
            }
        }
        for (_, mut call) in calls {
            call.half_close();
            assert_eq!(call.answer().await.status(), Status::ok());
        }
    });
    road.wait_until_delivered(Duration::from_secs(5));
    for seen in backend.seen() {
        let said = seen.headers.get("authentication").map(|token| token.to_str().unwrap().to_owned());
        let owner = |message: &Bytes| {
            let id = SegmentObject::decode(message.clone()).unwrap().trace_segment_id;
            id.split('-').next().unwrap().to_owned()
        };
        let owners: BTreeSet<String> = seen.messages.iter().map(owner).collect();
        assert_eq!(owners, BTreeSet::from([said.unwrap_or_else(|| "none".to_owned())]));
    }
    assert_eq!(road.end().totals.delivered, 200);
}

#[test]
fn old_paths_of_sorted_methods_leave_under_the_name_collectors_know() {
    const OLD: &str = "/TraceSegmentReportService/collect";
    const V2: [&str; 2] = [
        "/envoy.service.accesslog.v2.AccessLogService/StreamAccessLogs",
        "/envoy.service.metrics.v2.MetricsService/StreamMetrics",
    ];
    let backend = Backend::good();
    let road = Road::through(Vec::new(), &[backend.address], |_| {});
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        for path in [OLD, V2[0], V2[1]] {
            let mut call = caller.open(path).await;
            call.send(framed(b"\x0a\x03one")).await;
            call.half_close();
            assert_eq!(call.answer().await.status(), Status::ok(), "{path}");
        }
    });
    road.wait_until_delivered(Duration::from_secs(5));
    let paths: BTreeSet<String> = backend.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, BTreeSet::from([SEGMENTS.to_owned(), V2[0].to_owned(), V2[1].to_owned()]));
    assert_eq!(road.end().totals.delivered, 3);
}

#[test]
fn a_crowd_of_calls_opened_and_reset_harms_nobody_else() {
    let road = Road::to_collectors(2);
    let load = Load { rate: 200.0, messages: 200, ..road.load() };
    let running = load.start().unwrap();
    road.block_on(async {
        for _ in 0..20 {
            let tcp = tokio::net::TcpStream::connect(road.agents()).await.unwrap();
            let (requests, connection) = h2::client::handshake(tcp).await.unwrap();
            tokio::spawn(async move { drop(connection.await) });
            for _ in 0..300 {
                let Ok(mut ready) = requests.clone().ready().await else { break };
                let request = http::Request::post(format!("http://x{SEGMENTS}")).body(()).unwrap();
                let Ok((_, mut send)) = ready.send_request(request, false) else { break };
                send.send_reset(h2::Reason::CANCEL);
                tokio::task::yield_now().await;
            }
        }
    });
    let outcome = running.wait();
    assert_eq!((outcome.errors.len(), outcome.answered, outcome.abandoned), (0, 1, 0), "{outcome:?}");
    eventually("no call is left open", Duration::from_secs(5), || road.snapshot().calls_total == 0);
    assert_eq!(road.end().totals.delivered, 200);
}

#[test]
fn headers_beyond_the_limit_end_only_their_own_call() {
    let road = Road::to_collectors(1);
    let long = "x".repeat(20 << 10);
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut neighbour = caller.open(SEGMENTS).await;
        neighbour.send(segment("neighbour", 0)).await;
        let mut call = caller.open_with(SEGMENTS, &[("agent-version", &long)]).await;
        call.half_close();
        let answer = call.answer().await;
        assert!(answer.lost.is_none(), "the connection lives on: {answer:?}");
        neighbour.send(segment("neighbour", 1)).await;
        neighbour.half_close();
        assert_eq!(neighbour.answer().await.status(), Status::ok());
    });
    road.wait_until_delivered(Duration::from_secs(5));
    assert_eq!(road.end().totals.delivered, 2);
}

#[test]
fn agents_of_every_kind_on_one_connection_are_all_served() {
    let road = Road::to_collectors(3);
    let load = Load {
        traffic: Traffic::Mixed,
        connections: 2,
        streams: 16,
        services: 4,
        messages: 60,
        messages_per_stream: 20,
        ..road.load()
    };
    let outcome = load.start().unwrap().wait();
    assert!(outcome.errors.is_empty(), "{outcome:?}");
    road.wait_until_delivered(Duration::from_secs(5));
    crate::ground::assert_once_each(&road.verdict(&outcome));
    assert_eq!(road.end().totals.delivered, outcome.sent);
}
