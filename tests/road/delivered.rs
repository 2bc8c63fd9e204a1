//! `reply: delivered`: a call is answered when backends have answered for all of it, and no later than that.

use std::time::{Duration, Instant};

use switchyard::listener::Reply;
use switchyard::testkit::agents::{Load, Traffic};
use switchyard::testkit::behaviour::Behaviour;
use switchyard::wire::grpc::Code;

use crate::caller::{Caller, framed};
use crate::ground::{Road, assert_once_each};

fn road(collectors: usize) -> Road {
    Road::to_collectors_with(collectors, |plan| plan.reply = Reply::Delivered)
}

#[test]
fn a_call_is_answered_only_after_a_backend_has_answered() {
    let road = road(1);
    let answers_after = Duration::from_millis(700);
    road.all_behave(&Behaviour { answer_delay: answers_after, ..Behaviour::default() });
    let waited = road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(Traffic::Trace.path()).await;
        call.send(framed(b"\x1a\x01a")).await;
        call.half_close();
        let since = Instant::now();
        assert_eq!(call.answer().await.code(), Code::Ok);
        since.elapsed()
    });
    assert!(waited >= answers_after, "answered after {waited:?}");
    assert!(waited < answers_after + Duration::from_millis(250), "a trip is not left to age: {waited:?}");
    assert_eq!(road.snapshot().delivered, 1);
    road.end();
}

#[test]
fn an_answer_does_not_wait_for_a_trip_to_grow_old() {
    for traffic in [Traffic::Trace, Traffic::Log, Traffic::Als, Traffic::EnvoyMetrics, Traffic::MeterBatch] {
        let road = road(3);
        let load = Load {
            traffic,
            connections: 2,
            streams: 3,
            services: 3,
            messages: 60,
            messages_per_stream: 5,
            ..road.load()
        };
        let outcome = load.start().unwrap().wait();
        assert_eq!((outcome.errors.len(), outcome.answered), (0, 72), "{outcome:?}");
        let snapshot = road.snapshot();
        assert_eq!((snapshot.held, snapshot.delivered), (0, 360), "answered is delivered");
        assert_once_each(&road.verdict(&outcome));
        road.end();
        let p99 = Duration::from_micros(outcome.reply_us.p99);
        assert!(p99 < Duration::from_millis(200), "{traffic:?}: 99 of 100 replies within {p99:?}");
    }
}

#[test]
fn a_call_beside_endless_streams_is_answered_as_soon() {
    let road = road(3);
    let endless = Load { name: "endless".into(), connections: 2, streams: 2, rate: 200.0, ..road.load() };
    let running = endless.start().unwrap();
    let load = Load { rate: 100.0, messages: 200, messages_per_stream: 10, ..road.load() };
    let outcome = load.start().unwrap().wait();
    running.stop();
    assert_eq!((outcome.errors.len(), outcome.answered), (0, 20), "{outcome:?}");
    road.end();
    let p99 = Duration::from_micros(outcome.reply_us.p99);
    assert!(p99 < Duration::from_millis(200), "99 of 100 replies within {p99:?}");
}

#[test]
fn what_goes_to_a_second_backend_is_hurried_there_too() {
    let mut road = road(2);
    let hang = Behaviour { answer_delay: Duration::from_millis(300), ..Behaviour::default() };
    road.all_behave(&hang);
    let addresses = road.agents();
    let call = road.block_on(async move {
        let mut call = Caller::connect(addresses).await.open(Traffic::Trace.path()).await;
        for _ in 0..20 {
            call.send(framed(b"\x1a\x01a")).await;
        }
        call.half_close();
        tokio::time::sleep(Duration::from_millis(100)).await;
        call
    });
    let since = Instant::now();
    road.collectors[0].kill();
    let told = road.block_on(call.answer());
    let waited = since.elapsed();
    assert_eq!(told.code(), Code::Ok);
    assert!(waited < Duration::from_millis(300 + 200), "replayed messages do not wait for a trip to age: {waited:?}");
    road.end();
}
