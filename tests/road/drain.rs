//! SIGTERM under load: the gateway says so, takes nothing it would lose, and leaves in time with empty hands.

use std::time::{Duration, Instant};

use bytes::Bytes;
use switchyard::testkit::agents::{Load, Traffic};
use switchyard::testkit::behaviour::Behaviour;
use switchyard::testkit::check::check;
use switchyard::testkit::collector::Collector;
use switchyard::wire::grpc::Code;

use crate::caller::{Caller, framed};
use crate::ground::{Road, collector};
use crate::process::{GatewayProcess, Scratch};

fn received(last: &str) -> u64 {
    last.split(' ').nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Terminates a gateway under a load and checks that all it received arrived.
fn terminate_under(name: &str, behaviour: &Behaviour, more: &str, load: impl FnOnce(String) -> Load) {
    let scratch = Scratch::new(name);
    let collectors: Vec<Collector> = (0..3).map(|_| collector(behaviour.clone())).collect();
    let addresses: Vec<_> = collectors.iter().map(Collector::address).collect();
    let mut gateway = GatewayProcess::start(scratch.path(), &addresses, more);
    let running = load(gateway.agents.to_string()).start().unwrap();
    std::thread::sleep(Duration::from_millis(800));
    gateway.assert_books_balance();
    let since = Instant::now();
    let last = gateway.end(Duration::from_secs(8));
    let took = since.elapsed();
    let outcome = running.stop();
    let evidence: Vec<_> = collectors.iter().map(Collector::evidence).collect();
    let verdict = check(&outcome.agents, &evidence);
    println!("{name}: {last}; gone in {took:?}; {verdict:?}");
    assert_eq!(verdict.lost, 0, "what was answered OK arrived: {verdict:?}");
    assert_eq!((verdict.arrived, verdict.foreign), (received(&last), 0), "what was received arrived: {verdict:?}");
    assert!(took < Duration::from_secs(4), "it took {took:?}");
}

#[test]
fn endless_streams_do_not_keep_a_gateway_and_nothing_it_received_is_lost() {
    terminate_under("drain-endless", &Behaviour::default(), "", |to| Load {
        to,
        connections: 4,
        streams: 2,
        rate: 200.0,
        ..Load::default()
    });
}

#[test]
fn agents_as_fast_as_they_can_do_not_keep_it_either() {
    terminate_under("drain-fast", &Behaviour::default(), "limits: { memory: 32MiB }", |to| Load {
        to,
        traffic: Traffic::Log,
        connections: 2,
        streams: 2,
        services: 2,
        bytes: 1_000,
        ..Load::default()
    });
}

#[test]
fn calls_that_wait_for_delivery_are_answered_before_it_goes() {
    let slow = Behaviour { answer_delay: Duration::from_millis(200), ..Behaviour::default() };
    terminate_under("drain-delivered", &slow, "reply: delivered", |to| Load {
        to,
        connections: 4,
        streams: 2,
        rate: 200.0,
        messages_per_stream: 20,
        ..Load::default()
    });
}

#[test]
fn an_open_relayed_call_does_not_keep_it_until_the_drain_deadline() {
    let road = Road::to_collectors(1);
    let call = road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open("/skywalking.v3.ProfileTask/goProfileReport").await;
        call.send(Bytes::from_static(&[0])).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        call
    });
    let since = Instant::now();
    let summary = road.end();
    let took = since.elapsed();
    drop(call);
    assert!(took < Duration::from_secs(4), "it took {took:?}: {summary:?}");
}

/// What health says on a listener: the status field of the answer.
async fn health(caller: &Caller) -> Option<u8> {
    let answer = caller.call("/grpc.health.v1.Health/Check", &[], &[Bytes::new()]).await;
    answer.messages().first().and_then(|message| message.get(1).copied())
}

#[test]
fn while_it_drains_health_and_ready_say_so() {
    const SERVING: u8 = 1;
    const NOT_SERVING: u8 = 2;
    let scratch = Scratch::new("drain-health");
    let hang = Behaviour { hang: true, ..Behaviour::default() };
    let collectors = [collector(hang)];
    let more = "drain_deadline: 2500ms";
    let mut gateway = GatewayProcess::start(scratch.path(), &[collectors[0].address()], more);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let caller = Caller::connect(gateway.agents).await;
        assert_eq!(health(&caller).await, Some(SERVING));
        // One message that will not be answered keeps the drain going.
        let mut call = caller.open(Traffic::Trace.path()).await;
        call.send(framed(b"\x1a\x01a")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Open before: health may be asked on any connection a prober keeps.
        let mut asked = caller.open("/grpc.health.v1.Health/Check").await;
        gateway.process.signal("TERM");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(gateway.ready(), Some(503), "/ready while draining");
        asked.send(framed(b"")).await;
        asked.half_close();
        let answer = asked.answer().await;
        let said = answer.messages().first().and_then(|message| message.get(1).copied());
        assert_eq!(said, Some(NOT_SERVING), "{answer:?}");
        let told = call.answer().await;
        assert_eq!(told.code(), Code::Aborted, "an endless call is told to come again elsewhere");
    });
    let status = gateway.process.wait(Duration::from_secs(5));
    assert_eq!(status.code(), Some(1), "one message was lost to the shutdown: {:?}", gateway.process.said());
    assert!(gateway.process.said().iter().any(|line| line.contains("received 1 = delivered 0 + held 0 + lost 1")));
    drop(gateway);
}
