//! What peers do below gRPC: tiny and empty frames, silence, half a preface, too many connections, no descriptors left.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use switchyard::config::Plan;
use switchyard::proto::skywalking::v3::SegmentObject;
use switchyard::testkit::agents::{Load, Traffic};
use switchyard::testkit::behaviour::Behaviour;
use switchyard::testkit::collector::Collector;
use switchyard::wire::grpc::Code;

use crate::caller::{Caller, framed};
use crate::ground::{Road, assert_once_each, collector};
use crate::process::{GatewayProcess, Scratch};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// How long a raw connection stays open, and what it was told.
fn life_of(to: SocketAddr, said: &[u8]) -> (Duration, Vec<u8>) {
    let since = Instant::now();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(said).unwrap();
    let mut told = Vec::new();
    let ended = stream.read_to_end(&mut told);
    assert!(ended.is_ok() || since.elapsed() < Duration::from_secs(10), "it is never closed");
    (since.elapsed(), told)
}

fn assert_closed_at(deadline: Duration, said: &[u8], change: impl FnOnce(&mut Plan)) {
    let road = Road::to_collectors_with(1, change);
    let (lived, _) = life_of(road.agents(), said);
    assert!(lived >= deadline.mul_f64(0.8) && lived < deadline + Duration::from_secs(1), "it lived {lived:?}");
    road.end();
}

#[test]
fn a_silent_connection_is_closed_at_the_handshake_deadline() {
    let deadline = Duration::from_millis(400);
    assert_closed_at(deadline, b"", |plan| plan.limits.handshake_deadline = deadline);
}

#[test]
fn half_a_preface_is_closed_then_too() {
    let deadline = Duration::from_millis(400);
    assert_closed_at(deadline, &PREFACE[..11], |plan| plan.limits.handshake_deadline = deadline);
}

#[test]
fn a_preface_without_settings_is_closed_then_too() {
    let deadline = Duration::from_millis(400);
    assert_closed_at(deadline, PREFACE, |plan| {
        plan.limits.handshake_deadline = deadline;
        plan.limits.first_call_deadline = deadline;
    });
}

#[test]
fn a_connection_without_a_call_is_closed_at_the_first_call_deadline() {
    let deadline = Duration::from_millis(500);
    let said = [PREFACE, &SETTINGS].concat();
    assert_closed_at(deadline, &said, |plan| plan.limits.first_call_deadline = deadline);
}

#[test]
fn something_that_is_not_http_2_is_closed_at_once() {
    let road = Road::to_collectors(1);
    let (lived, _) = life_of(road.agents(), b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(lived < Duration::from_secs(1), "it lived {lived:?}");
    road.end();
}

#[test]
fn a_message_begun_and_not_finished_ends_its_call_at_the_message_deadline() {
    let road = Road::to_collectors_with(1, |plan| plan.limits.message_deadline = Duration::from_millis(400));
    let answer = road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(Traffic::Trace.path()).await;
        call.send(Bytes::from_static(&[0, 0, 0, 0, 100, 1, 2, 3])).await;
        call.answer().await
    });
    assert_eq!(answer.code(), Code::DeadlineExceeded);
    road.end();
}

/// One byte every 50 ms keeps the stream lively and the message unfinished.
#[test]
fn a_message_that_drips_in_ends_its_call_at_the_message_deadline_too() {
    let road = Road::to_collectors_with(1, |plan| plan.limits.message_deadline = Duration::from_millis(400));
    let (sent, answer) = road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(Traffic::Trace.path()).await;
        call.send(Bytes::from_static(&[0, 0, 0, 0, 100])).await;
        let mut sent = 0;
        while sent < 60 && call.is_open().await {
            call.send(Bytes::from_static(&[1])).await;
            sent += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (sent, call.answer().await)
    });
    assert_eq!(answer.code(), Code::DeadlineExceeded);
    assert!((4..30).contains(&sent), "{sent} bytes were let drip in");
    road.end();
}

fn segment(agent: &str, number: usize) -> Bytes {
    let id = format!("{agent}-{number}");
    framed(&SegmentObject { trace_segment_id: id, ..SegmentObject::default() }.encode_to_vec())
}

/// Messages in DATA frames of one byte to forty, as many small agents at once would send them.
#[test]
fn tiny_frames_by_the_thousand_on_stalled_streams_do_not_end_the_connection() {
    const STREAMS: usize = 12;
    const MESSAGES: usize = 400;
    let seed = 7;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let stall = Behaviour { stall: true, ..Behaviour::default() };
    let road = Road::through(vec![collector(stall)], &[], |plan| plan.memory_bytes = 256 << 10);
    let addresses = road.agents();
    let calls = road.block_on(async {
        let caller = Caller::connect(addresses).await;
        let mut calls = Vec::new();
        for number in 0..STREAMS {
            let mut call = caller.open(Traffic::Trace.path()).await;
            let mut whole: Bytes = (0..MESSAGES).flat_map(|at| segment(&format!("tiny.{number}"), at)).collect();
            call.send.reserve_capacity(whole.len());
            // h2 keeps what the window has no room for and cuts it only there: each send is a frame.
            while !whole.is_empty() {
                let piece = whole.split_to(random.usize(1..=40).min(whole.len()));
                call.send.send_data(piece, false).unwrap();
            }
            call.half_close();
            calls.push(call);
        }
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        calls
    });
    road.all_behave(&Behaviour::default());
    road.block_on(async {
        for call in calls {
            let answer = call.answer().await;
            assert!(answer.lost.is_none() && answer.reset.is_none(), "{answer:?}");
            assert_eq!(answer.code(), Code::Ok);
        }
    });
    road.wait_until_delivered(Duration::from_secs(10));
    assert_eq!(road.collectors[0].counts().ids.unique, (STREAMS * MESSAGES) as u64);
    road.end();
}

#[test]
fn a_few_empty_frames_between_messages_do_no_harm() {
    let road = Road::to_collectors(1);
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        for path in [Traffic::Trace.path(), crate::relay::PROFILE] {
            let mut call = caller.open(path).await;
            for number in 0..20 {
                call.send.send_data(Bytes::new(), false).unwrap();
                call.send(segment("empty", number)).await;
            }
            call.half_close();
            assert_eq!(call.answer().await.code(), Code::Ok, "{path}");
        }
    });
    road.wait_until_delivered(Duration::from_secs(5));
    assert_eq!(road.end().totals.delivered, 40);
}

#[test]
fn connections_over_the_limit_wait_and_are_served_when_others_leave() {
    let road = Road::to_collectors_with(1, |plan| plan.limits.connections_max = 3);
    let load = |name: &str| Load { name: name.into(), connections: 3, messages: 40, rate: 100.0, ..road.load() };
    let first = load("first").start().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let second = load("second").start().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(road.snapshot().listeners[0].connections, 3);
    let outcomes = [first.wait(), second.wait()];
    for outcome in &outcomes {
        assert_eq!((outcome.errors.len(), outcome.answered), (0, 3), "{outcome:?}");
    }
    road.wait_until_delivered(Duration::from_secs(5));
    let mut sent = outcomes[0].clone();
    sent.agents.extend(outcomes[1].agents.clone());
    assert_once_each(&road.verdict(&sent));
    road.end();
}

#[test]
fn out_of_descriptors_open_streams_are_served_and_the_processor_rests() {
    let scratch = Scratch::new("emfile");
    let collectors: Vec<Collector> = (0..2).map(|_| collector(Behaviour::default())).collect();
    let addresses: Vec<_> = collectors.iter().map(Collector::address).collect();
    let wrapper = ["prlimit", "--nofile=64:64"];
    let mut gateway = GatewayProcess::start_under(&wrapper, scratch.path(), &addresses, "");
    let load = Load { to: gateway.agents.to_string(), connections: 2, rate: 100.0, messages: 300, ..Load::default() };
    let running = load.start().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let said = [PREFACE, &SETTINGS].concat();
    let crowd: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway.agents).unwrap();
            stream.write_all(&said).unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let before = gateway.process.cpu();
    std::thread::sleep(Duration::from_secs(1));
    let used = gateway.process.cpu() - before;
    let outcome = running.wait();
    drop(crowd);
    assert_eq!((outcome.errors.len(), outcome.answered, outcome.abandoned), (0, 2, 0), "{outcome:?}");
    assert!(used < Duration::from_millis(400), "{used:?} of processor time in a second");
    let said = gateway.process.said();
    let complaints = said.iter().filter(|line| line.contains("out of file descriptors")).count();
    assert!((1..100).contains(&complaints), "it says so, but not without end: {said:#?}");
    gateway.end(Duration::from_secs(5));
}

/// Java agents open a call per batch: what a call leaves behind would fill the memory in days.
#[test]
fn many_short_calls_leave_no_memory_behind() {
    let scratch = Scratch::new("short");
    let collectors = [collector(Behaviour::default())];
    let mut gateway = GatewayProcess::start(scratch.path(), &[collectors[0].address()], "");
    let round = |number: usize| {
        let load = Load {
            to: gateway.agents.to_string(),
            name: format!("round{number}"),
            connections: 2,
            streams: 8,
            messages: 400,
            messages_per_stream: 1,
            ..Load::default()
        };
        let outcome = load.start().unwrap().wait();
        assert_eq!((outcome.errors.len(), outcome.answered), (0, 6_400));
        std::thread::sleep(Duration::from_millis(400));
        gateway.process.peak_memory()
    };
    // The peak grows in some rounds for reasons of the allocator; what calls leave behind would grow it in every one.
    let peaks: Vec<_> = (0..5).map(round).collect();
    let grown = peaks.windows(2).map(|pair| pair[1].saturating_sub(pair[0]) / 6_400).min().unwrap();
    gateway.end(Duration::from_secs(5));
    assert!(grown < 60, "{grown} bytes stay behind per call: {peaks:?}");
}

/// A frame of h2's own making is never seen by us, but its length field may be anything.
#[test]
fn frames_of_nonsense_end_only_their_own_connection() {
    let seed = 11;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let road = Road::to_collectors(1);
    for _ in 0..40 {
        let mut said = BytesMut::from(PREFACE);
        said.put_slice(&SETTINGS);
        (0..random.usize(20..400)).for_each(|_| said.put_u8(random.u8(..)));
        let mut stream = TcpStream::connect(road.agents()).unwrap();
        let _ = stream.write_all(&said);
    }
    let load = Load { messages: 50, ..road.load() };
    let outcome = load.start().unwrap().wait();
    assert_eq!(outcome.answered, 1);
    road.end();
}
