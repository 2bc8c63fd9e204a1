//! Calls that are kept whole: both directions, ends, resets, statuses, metadata and deadlines pass as they were said.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use switchyard::proto::skywalking::v3::{MeterData, MeterSingleValue, meter_data::Metric};
use switchyard::route::Routes;
use switchyard::route::contract::Split;
use switchyard::testkit::methods::MethodId;
use switchyard::wire::grpc::{Code, Status};

use crate::backend::{Backend, End};
use crate::caller::{Caller, framed};
use crate::ground::{Road, eventually};

pub const PROFILE: &str = "/skywalking.v10.PprofTask/collect";
pub const UPLOAD: &str = "/skywalking.v10.AsyncProfilerTask/collect";
pub const QUERY: &str = "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations";
pub const METERS: &str = "/skywalking.v3.MeterReportService/collect";

/// A gateway before one scripted backend.
pub fn before(backend: &Backend) -> Road {
    Road::through(Vec::new(), &[backend.address], |_| {})
}

fn meter(service: &str) -> Bytes {
    use prost::Message as _;
    let metric = MeterSingleValue { name: "requests".into(), labels: Vec::new(), value: 1.0 };
    let meter = MeterData {
        metric: Some(Metric::SingleValue(metric)),
        service: service.into(),
        service_instance: "one".into(),
        timestamp: 1,
    };
    meter.encode_to_vec().into()
}

#[test]
fn every_method_of_the_protos_that_is_not_sorted_passes_both_ways() {
    let routes = Routes::of_catalogue();
    let is_kept_whole = |path: &str| {
        let contract = routes.find(path, None).map(|route| &route.method.contract);
        contract.is_ok_and(|contract| contract.is_kept_whole() || matches!(contract.split, Split::Records(_)))
    };
    let backend = Backend::start(|mut call| async move {
        call.read().await;
        let said = [b"answer to ".to_vec(), call.messages().concat()].concat();
        call.answer(&[&said], &Status::ok(), &[("x-seen-by", "oap")]);
    });
    let road = before(&backend);
    let mut passed = 0;
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        for method in MethodId::all().map(MethodId::method) {
            if !is_kept_whole(&method.path) {
                continue;
            }
            // Batches are read for their keys, so these have to be some.
            let is_batch = method.path.starts_with("/opentelemetry.");
            let body = if is_batch { Bytes::from_static(&[0x0a, 0]) } else { meter(&method.path) };
            let answer = caller.call(&method.path, &[], std::slice::from_ref(&body)).await;
            assert_eq!(answer.status(), Status::ok(), "{}", method.path);
            assert_eq!(answer.messages(), [Bytes::from([&b"answer to "[..], &body].concat())], "{}", method.path);
            assert_eq!(answer.trailers["x-seen-by"], "oap", "{}", method.path);
            passed += 1;
        }
    });
    let seen = backend.seen();
    assert_eq!((seen.len(), passed >= 32), (passed, true), "{passed} methods");
    for (seen, path) in seen.iter().map(|seen| (seen, &seen.path)) {
        assert!(path.contains('.'), "package-less paths leave under their packaged name: {path}");
        assert_eq!((seen.end, seen.messages.len()), (End::HalfClosed, 1), "{path}");
    }
    let totals = road.end().totals;
    assert_eq!((totals.received, totals.delivered), (passed as u64, passed as u64));
}

#[test]
fn a_half_close_that_comes_later_than_the_messages_passes_as_a_half_close() {
    let backend = Backend::good();
    let road = before(&backend);
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        for path in [PROFILE, METERS] {
            let mut call = caller.open(path).await;
            call.send(framed(&meter("shop"))).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            call.half_close();
            assert_eq!(call.answer().await.status(), Status::ok(), "{path}");
        }
    });
    assert!(backend.seen().iter().all(|seen| seen.end == End::HalfClosed && seen.messages.len() == 1));
    assert_eq!(road.end().totals.delivered, 2);
}

#[test]
fn a_profiler_upload_shakes_hands_in_both_directions() {
    let backend = Backend::start(|mut call| async move {
        let mut answer = call.begin();
        call.read_messages(1).await;
        answer.message(b"go on");
        assert_eq!(call.read().await, End::HalfClosed);
        answer.message(b"got it");
        answer.end(&Status::ok());
    });
    let road = before(&backend);
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut call = caller.open(UPLOAD).await;
        call.send(framed(b"metadata")).await;
        assert_eq!(call.body_of(10).await, framed(b"go on"));
        for part in 0..50u8 {
            call.send(framed(&vec![part; 20_000])).await;
        }
        call.half_close();
        let answer = call.answer().await;
        assert_eq!((answer.code(), answer.messages()), (Code::Ok, vec!["go on".into(), "got it".into()]));
    });
    let seen = &backend.seen()[0];
    assert_eq!((seen.messages.len(), seen.messages[50].len()), (51, 20_000));
    assert_eq!(road.end().totals.delivered, 51);
}

#[test]
fn an_answer_may_come_before_the_caller_has_said_anything() {
    let backend = Backend::start(|mut call| async move {
        let mut answer = call.begin();
        answer.message(b"first word");
        call.read().await;
        answer.end(&Status::ok());
    });
    let road = before(&backend);
    road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(UPLOAD).await;
        assert_eq!(call.body_of(15).await, framed(b"first word"));
        call.half_close();
        assert_eq!(call.answer().await.code(), Code::Ok);
    });
    road.end();
}

#[test]
fn a_reset_arrives_as_a_reset_unless_its_receiver_would_go_on_with_what_it_has() {
    let backend = Backend::good();
    let road = before(&backend);
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        for path in [PROFILE, UPLOAD, METERS] {
            let mut call = caller.open(path).await;
            call.send(framed(&meter("shop"))).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            call.reset();
        }
    });
    let ended = || backend.seen().iter().filter(|seen| seen.end != End::Unread).count() == 3;
    eventually("the backend has seen three ends", Duration::from_secs(5), ended);
    for seen in backend.seen() {
        // OAP evaluates a meter set at a reset, too (PROTOCOLS 1.2.2), and a reset may overtake what it should follow.
        let end = if seen.path == METERS { End::HalfClosed } else { End::Reset(Reason::CANCEL) };
        assert_eq!((seen.end, seen.messages.len()), (end, 1), "{}", seen.path);
    }
    road.end();
}

#[test]
fn a_caller_whose_connection_breaks_is_a_reset_too() {
    let backend = Backend::good();
    let road = before(&backend);
    let brief = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    brief.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(PROFILE).await;
        call.send(framed(b"part")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    drop(brief);
    let ended = || backend.seen().first().is_some_and(|seen| seen.end != End::Unread);
    eventually("the backend has seen the end", Duration::from_secs(5), ended);
    assert_eq!(backend.seen()[0].end, End::Reset(Reason::CANCEL));
    road.end();
}

#[test]
fn a_status_of_the_backend_passes_with_its_message() {
    let backend = Backend::start(|mut call| async move {
        call.read().await;
        call.status(Code::NotFound, "no such task: 7");
    });
    let road = before(&backend);
    let status =
        road.block_on(async { Caller::connect(road.agents()).await.call(QUERY, &[], &["q".into()]).await.status() });
    assert_eq!(status, Status::new(Code::NotFound, "no such task: 7"));
    assert_eq!(road.end_with_losses().totals.received, 1);
}

#[test]
fn a_status_behind_messages_passes_too() {
    let backend = Backend::start(|mut call| async move {
        call.read().await;
        call.answer(&[b"half of it"], &Status::new(Code::DataLoss, "the rest is gone"), &[]);
    });
    let road = before(&backend);
    let answer = road.block_on(async { Caller::connect(road.agents()).await.call(QUERY, &[], &["q".into()]).await });
    assert_eq!(answer.messages(), ["half of it"]);
    assert_eq!(answer.status(), Status::new(Code::DataLoss, "the rest is gone"));
    road.end_with_losses();
}

#[test]
fn a_deadline_passes_with_less_time_and_is_kept_when_the_backend_does_not() {
    let backend = Backend::start(|mut call| async move {
        call.read().await;
        std::future::pending::<()>().await;
    });
    let road = before(&backend);
    let since = Instant::now();
    let metadata = [("grpc-timeout", "400m")];
    let status = road
        .block_on(async { Caller::connect(road.agents()).await.call(QUERY, &metadata, &["q".into()]).await.status() });
    let waited = since.elapsed();
    assert_eq!(status.code, Code::DeadlineExceeded);
    assert!((Duration::from_millis(350)..Duration::from_millis(1_500)).contains(&waited), "{waited:?}");
    let passed = switchyard::wire::grpc::timeout(&backend.seen()[0].headers).expect("a deadline passed");
    assert!(passed <= Duration::from_millis(400) && passed > Duration::from_millis(100), "{passed:?}");
    road.end_with_losses();
}

#[test]
fn metadata_passes_by_an_allow_list() {
    let backend = Backend::good();
    let road = before(&backend);
    let metadata = [
        ("authentication", "token-7"),
        ("agent-version", "9.9"),
        ("traceparent", "00-1-2-01"),
        ("authorization", "Bearer secret"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("cookie", "a=b"),
        ("x-anything", "else"),
    ];
    road.block_on(async { Caller::connect(road.agents()).await.call(QUERY, &metadata, &["q".into()]).await.status() });
    let headers = &backend.seen()[0].headers;
    for (name, value) in &metadata[..3] {
        assert_eq!(headers.get(*name).map(|value| value.as_bytes()), Some(value.as_bytes()), "{name}");
    }
    for (name, _) in &metadata[3..] {
        assert_eq!(headers.get(*name), None, "{name}");
    }
    road.end();
}
