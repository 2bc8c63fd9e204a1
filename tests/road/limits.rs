//! What agents may take: connections of one source, calls of one port, descriptors that are not theirs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchyard::metrics;
use switchyard::testkit::agents::Traffic;
use switchyard::testkit::behaviour::Behaviour;
use switchyard::testkit::collector::Collector;
use switchyard::wire::grpc::Code;

use crate::caller::{Caller, framed};
use crate::ground::{Road, collector, eventually};
use crate::process::{GatewayProcess, Scratch, get};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Connects and says hello; whether the gateway did so as well.
fn is_let_in(to: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(PREFACE).ok()?;
    let mut settings = [0; 9];
    stream.read_exact(&mut settings).ok()?;
    Some(stream)
}

/// The value of a series in this process.
fn series(name: &str, labels: &[&str]) -> f64 {
    let text = metrics::install().render();
    let is_it = |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
    text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Waits until a connection takes no further calls. Asking does not keep it busy, for nothing is sent.
async fn closed_to_calls(caller: &Caller) {
    let until = Instant::now() + Duration::from_secs(10);
    while caller.can_open().await {
        assert!(Instant::now() < until, "it is never closed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_source_over_its_share_is_closed_at_once_and_has_it_again_when_its_connections_end() {
    let road = Road::to_collectors_with(1, |plan| plan.listeners[1].connections_per_source_max = Some(3));
    let labels = ["listener=\"access_logs\"", "reason=\"source\""];
    let refused = || series("switchyard_connections_refused_total", &labels);
    let (to, before) = (road.listener("access_logs"), refused());
    let held: Vec<TcpStream> = (0..3).filter_map(|_| is_let_in(to)).collect();
    assert_eq!(held.len(), 3);
    assert!(is_let_in(to).is_none() && is_let_in(to).is_none());
    assert_eq!(refused() - before, 2.0);
    assert!(is_let_in(road.agents()).is_some(), "the limit is of that port alone");
    drop(held);
    eventually("the source may come again", Duration::from_secs(5), || is_let_in(to).is_some());
    road.end();
}

#[test]
fn calls_over_a_ports_limit_are_refused_in_a_code_that_silences_nobody() {
    let road = Road::to_collectors_with(1, |plan| plan.listeners[0].calls_max = Some(2));
    let otlp = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    road.block_on(async {
        let callers = [Caller::connect(road.agents()).await, Caller::connect(road.agents()).await];
        let open = [callers[0].open(Traffic::Trace.path()).await, callers[1].open(Traffic::Trace.path()).await];
        // Frames of one connection are seen in order, those of two are not: both calls are known when this is answered.
        for caller in &callers {
            assert_eq!(caller.call(HEALTH, &[], &[Bytes::new()]).await.code(), Code::Ok);
        }
        assert_eq!(callers[0].call(Traffic::Trace.path(), &[], &[]).await.code(), Code::Aborted);
        assert_eq!(callers[1].call(otlp, &[], &[]).await.code(), Code::Unavailable);
        let health = callers[1].call(HEALTH, &[], &[Bytes::new()]).await;
        assert_eq!(health.code(), Code::Ok, "health is no agent's call");
        for mut call in open {
            call.half_close();
            assert_eq!(call.answer().await.code(), Code::Ok);
        }
        assert_eq!(callers[0].call(Traffic::Trace.path(), &[], &[]).await.code(), Code::Ok);
    });
    road.end();
}

#[test]
fn a_crowd_leaves_descriptors_for_admin_and_backends() {
    let scratch = Scratch::new("reserve");
    let collectors: Vec<Collector> = (0..2).map(|_| collector(Behaviour::default())).collect();
    let addresses: Vec<_> = collectors.iter().map(Collector::address).collect();
    let wrapper = ["prlimit", "--nofile=50:100"];
    let mut gateway = GatewayProcess::start_under(&wrapper, scratch.path(), &addresses, "");
    assert_eq!(gateway.metric("switchyard_descriptor_limit"), 100.0, "the soft limit is raised to the hard one");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let agents = gateway.agents;
    let mut call = runtime.block_on(async { Caller::connect(agents).await.open(Traffic::Trace.path()).await });
    let crowd: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(agents).unwrap()).collect();
    gateway.process.wait_for_line("nearly out of file descriptors");
    // Only now are there messages, and backends to connect to.
    runtime.block_on(async {
        call.send(framed(&[])).await;
        call.half_close();
        assert_eq!(call.answer().await.code(), Code::Ok);
    });
    eventually("a backend has it", Duration::from_secs(5), || gateway.snapshot().delivered == 1);
    for _ in 0..10 {
        assert_eq!(get(gateway.admin, "/ready").map(|(status, _)| status), Some(200));
    }
    assert!(gateway.metric("switchyard_open_descriptors") > 20.0);
    assert!(gateway.metric("switchyard_connections_refused_total") >= 1.0);
    drop(crowd);
    gateway.end(Duration::from_secs(10));
}

#[test]
fn descriptors_that_run_out_are_warned_of_before_they_do() {
    let scratch = Scratch::new("short");
    let collectors = [collector(Behaviour::default())];
    let wrapper = ["prlimit", "--nofile=100:100"];
    let mut gateway = GatewayProcess::start_under(&wrapper, scratch.path(), &[collectors[0].address()], "");
    gateway.process.wait_for_line("fewer file descriptors than limits.connections");
    assert_eq!(gateway.metric("switchyard_descriptors_short"), 0.0);
    // What a connection may take is half of all, and the process itself has some: askers of admin take the rest.
    let askers: Vec<TcpStream> = (0..70).filter_map(|_| TcpStream::connect(gateway.admin).ok()).collect();
    gateway.process.wait_for_line("four fifths of the file descriptors are open");
    drop(askers);
    eventually("the warning is over", Duration::from_secs(10), || {
        get(gateway.prometheus, "/metrics").is_some() && gateway.metric("switchyard_descriptors_short") == 0.0
    });
    gateway.end(Duration::from_secs(10));
}

#[test]
fn an_old_connections_endless_calls_are_ended_after_the_grace_and_nothing_is_lost() {
    let road = Road::to_collectors_with(2, |plan| {
        plan.limits.connection_age_max = Some(Duration::from_millis(300));
        plan.limits.connection_age_grace = Some(Duration::from_millis(300));
    });
    let before = series("switchyard_connections_retired_total", &["reason=\"age\""]);
    let since = Instant::now();
    let (sorted, relayed) = road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut sorted = caller.open(Traffic::Trace.path()).await;
        let relayed = caller.open(crate::relay::PROFILE).await;
        for _ in 0..5 {
            sorted.send(framed(&[])).await;
        }
        (sorted.answer().await, relayed.answer().await)
    });
    let lived = since.elapsed();
    // Not UNAVAILABLE: an agent would be silent for half a minute.
    assert_eq!((sorted.code(), relayed.code()), (Code::Aborted, Code::Aborted), "{sorted:?} {relayed:?}");
    assert!(lived >= Duration::from_millis(500), "ended after {lived:?}");
    assert!(series("switchyard_connections_retired_total", &["reason=\"age\""]) > before);
    road.wait_until_delivered(Duration::from_secs(5));
    assert_eq!(road.end().totals.delivered, 5);
}

#[test]
fn without_a_grace_an_old_connection_keeps_its_calls() {
    let road = Road::to_collectors_with(1, |plan| plan.limits.connection_age_max = Some(Duration::from_millis(200)));
    let sorted = road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut sorted = caller.open(Traffic::Trace.path()).await;
        sorted.send(framed(&[])).await;
        closed_to_calls(&caller).await;
        // Longer than a connection without calls is given to go.
        tokio::time::sleep(Duration::from_secs(6)).await;
        sorted.send(framed(&[])).await;
        sorted.half_close();
        sorted.answer().await
    });
    assert_eq!(sorted.code(), Code::Ok);
    road.wait_until_delivered(Duration::from_secs(5));
    assert_eq!(road.end().totals.delivered, 2);
}

#[test]
fn a_connection_without_calls_is_closed_when_it_was_idle_for_long_and_one_with_a_call_stays() {
    let road = Road::to_collectors_with(1, |plan| plan.limits.connection_idle_max = Some(Duration::from_millis(1_500)));
    road.block_on(async {
        let (idle, busy) = (Caller::connect(road.agents()).await, Caller::connect(road.agents()).await);
        let mut open = busy.open(Traffic::Trace.path()).await;
        for _ in 0..4 {
            assert_eq!(idle.call(Traffic::Trace.path(), &[], &[Bytes::new()]).await.code(), Code::Ok);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert!(idle.can_open().await, "each call begins its time anew");
        closed_to_calls(&idle).await;
        assert!(busy.can_open().await);
        open.half_close();
        assert_eq!(open.answer().await.code(), Code::Ok);
    });
    road.wait_until_delivered(Duration::from_secs(5));
    road.end();
}
