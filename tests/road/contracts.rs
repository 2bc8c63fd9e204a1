//! Calls are taken apart exactly as far as their receivers allow, and backends that know less get what they know.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use switchyard::message::field;
use switchyard::wire::grpc::{Code, Status};

use crate::backend::{Backend, End, Seen};
use crate::caller::{Caller, framed};
use crate::ground::{Road, eventually, lost};

const STANDARD: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const SATELLITE: &str = "/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs";
const METER_SETS: &str = "/skywalking.v3.MeterReportService/collectBatch";
const METERS: &str = "/skywalking.v3.MeterReportService/collect";
const EVENTS: &str = "/skywalking.v3.EventService/collect";
const GO_PROFILES: &str = "/skywalking.v3.ProfileTask/goProfileReport";
const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const BATCHES: &str = "/skywalking.v3.TraceSegmentReportService/collectInSync";
const EBPF_LOGS: &str = "/skywalking.v3.EBPFAccessLogService/collect";

/// A message with these fields.
pub fn say(fields: &[(u32, &[u8])]) -> Bytes {
    let mut body = BytesMut::new();
    for (number, bytes) in fields {
        field::put_bytes(&mut body, *number, bytes);
    }
    body.freeze()
}

fn chunk(task: &str, payload: &str, is_last: bool) -> Bytes {
    let mut body = BytesMut::from(&say(&[(1, task.as_bytes()), (2, payload.as_bytes())])[..]);
    if is_last {
        body.extend_from_slice(&[3 << 3, 1]);
    }
    body.freeze()
}

/// The value of a field of one message.
fn of(message: &Bytes, number: u32) -> Option<String> {
    field::last_bytes(message, number).unwrap().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A backend that answers UNIMPLEMENTED to one path.
fn without(path: &'static str) -> Backend {
    Backend::start(move |mut call| async move {
        if call.path() == path {
            return call.status(Code::Unimplemented, "unknown method");
        }
        if call.read().await == End::HalfClosed {
            call.ok(b"");
        }
    })
}

fn served(backend: &Backend) -> Vec<Seen> {
    backend.seen().into_iter().filter(|seen| seen.end == End::HalfClosed).collect()
}

/// What an access log's receiver that re-reads identifiers files its messages under.
fn filed_latest(seen: &[Seen]) -> BTreeSet<(String, String)> {
    let mut filed = BTreeSet::new();
    for call in seen {
        let mut identifier = String::new();
        for message in &call.messages {
            identifier = of(message, 1).unwrap_or(identifier);
            filed.insert((identifier.clone(), of(message, 2).unwrap()));
        }
    }
    filed
}

/// Three callers that say who they are once and take turns with their logs.
fn take_turns(road: &Road, path: &str) -> BTreeSet<(String, String)> {
    let mut sent = BTreeSet::new();
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut calls = Vec::new();
        for _ in 0..3 {
            calls.push(caller.open(path).await);
        }
        for turn in 0..20 {
            for (who, call) in calls.iter_mut().enumerate() {
                let (who, log) = (format!("envoy-{who}"), format!("log-{who}-{turn}"));
                let fields = [(1, who.as_bytes()), (2, log.as_bytes())];
                call.send(framed(&say(if turn == 0 { &fields } else { &fields[1..] }))).await;
                sent.insert((who, log));
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        for mut call in calls {
            call.half_close();
            assert_eq!(call.answer().await.code(), Code::Ok);
        }
    });
    road.wait_until_delivered(Duration::from_secs(5));
    sent
}

#[test]
fn satellite_access_logs_of_many_envoys_share_a_stream_and_stay_theirs() {
    let backend = Backend::good();
    let road = Road::through(Vec::new(), &[backend.address], |plan| plan.workers = 1);
    let sent = take_turns(&road, SATELLITE);
    assert_eq!(filed_latest(&served(&backend)), sent);
    assert!(backend.seen().len() < 3, "{} streams", backend.seen().len());
    road.end();
}

#[test]
fn a_backend_without_satellite_s_service_gets_a_standard_stream_for_each_envoy() {
    let backend = without(SATELLITE);
    let road = Road::through(Vec::new(), &[backend.address], |_| {});
    let sent = take_turns(&road, SATELLITE);
    let standard: Vec<Seen> = served(&backend).into_iter().filter(|seen| seen.path == STANDARD).collect();
    let mut filed = BTreeSet::new();
    for call in &standard {
        let who = of(&call.messages[0], 1).expect("the first message names the Envoy");
        assert!(call.messages[1..].iter().all(|message| of(message, 1).is_none_or(|said| said == who)));
        filed.extend(call.messages.iter().map(|message| (who.clone(), of(message, 2).unwrap())));
    }
    assert_eq!(filed, sent);
    road.end();
}

#[test]
fn a_backend_without_meter_batches_gets_each_as_a_stream() {
    let backend = without(METER_SETS);
    let road = Road::through(Vec::new(), &[backend.address], |_| {});
    let set = |instance: &str| {
        let meter = |name: &str| say(&[(1, name.as_bytes()), (3, b"shop"), (4, instance.as_bytes())]);
        say(&[(1, &meter("one")), (1, &meter("two")), (1, &meter("three"))])
    };
    road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(METER_SETS).await;
        for instance in ["a", "b", "a"] {
            call.send(framed(&set(instance))).await;
        }
        call.half_close();
        assert_eq!(call.answer().await.code(), Code::Ok);
    });
    road.wait_until_delivered(Duration::from_secs(5));
    let streams: Vec<Seen> = served(&backend).into_iter().filter(|seen| seen.path == METERS).collect();
    let mut instances: Vec<String> = streams.iter().map(|seen| of(&seen.messages[0], 4).unwrap()).collect();
    instances.sort();
    assert_eq!(instances, ["a", "a", "b"]);
    assert!(streams.iter().all(|seen| seen.messages.len() == 3), "a set is never split nor merged");
    let summary = road.end();
    assert_eq!((summary.totals.received, summary.totals.delivered), (3, 3));
}

#[test]
fn connections_keep_their_node_on_streams_they_share() {
    let backend = Backend::good();
    let road = Road::through(Vec::new(), &[backend.address], |plan| plan.workers = 1);
    let connection = |who: usize| say(&[(1, format!("socket-{who}").as_bytes())]);
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut calls = Vec::new();
        for _ in 0..3 {
            calls.push(caller.open(EBPF_LOGS).await);
        }
        for turn in 0..12 {
            for (who, call) in calls.iter_mut().enumerate() {
                let (node, log) = (format!("node-{who}"), format!("node-{who}/{turn}"));
                let (connection, mut fields) = (connection(who), Vec::new());
                if turn == 0 {
                    fields.push((1, node.as_bytes()));
                }
                if turn % 4 == 0 {
                    fields.push((2, &connection[..]));
                }
                fields.push((3, log.as_bytes()));
                call.send(framed(&say(&fields))).await;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        calls.iter_mut().for_each(crate::caller::Call::half_close);
    });
    road.wait_until_delivered(Duration::from_secs(5));
    let mut logs = 0;
    for call in served(&backend) {
        let (mut node, mut under) = (String::new(), (String::new(), String::new()));
        for message in &call.messages {
            node = of(message, 1).unwrap_or(node);
            if let Some(connection) = of(message, 2) {
                under = (node.clone(), connection);
            }
            let owner = of(message, 3).unwrap();
            assert!(owner.starts_with(&format!("{}/", under.0)), "{owner} was filed under {under:?}");
            assert!(under.1.ends_with(under.0.strip_prefix("node-").unwrap()), "{under:?}");
            logs += 1;
        }
    }
    assert_eq!(logs, 36);
    road.end();
}

#[test]
fn profiles_of_an_endless_stream_leave_whole_and_go_to_every_backend() {
    let backends = [Backend::good(), Backend::good(), Backend::good()];
    let road = Road::through(Vec::new(), &backends.each_ref().map(|backend| backend.address), |_| {});
    let mut call = road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(GO_PROFILES).await;
        for profile in 0..60 {
            for part in 0..4 {
                // Large enough that load moves them about.
                let payload = format!("{profile}").repeat(10_000);
                call.send(framed(&chunk("task", &payload, part == 3))).await;
            }
        }
        call.send(framed(&chunk("task", "unfinished", false))).await;
        call
    });
    let delivered = || road.snapshot().delivered == 240;
    eventually("every whole profile is delivered while the stream goes on", Duration::from_secs(5), delivered);
    for backend in &backends {
        let seen = served(backend);
        assert!(seen.len() > 10, "{} profiles", seen.len());
        for call in seen {
            let payloads: BTreeSet<_> = call.messages.iter().map(|message| of(message, 2).unwrap()).collect();
            assert_eq!((call.messages.len(), payloads.len()), (4, 1));
        }
    }
    call.reset();
    eventually("the broken-off profile is given up", Duration::from_secs(5), || road.snapshot().held == 0);
    assert_eq!(lost(&road.end_with_losses()), [("unfinished", 1)]);
}

#[test]
fn an_event_without_a_layer_is_refused_alone_and_its_caller_is_told() {
    let road = Road::to_collectors(3);
    let status = road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(EVENTS).await;
        for number in 0..30 {
            let uuid = format!("event-{number}");
            let fields = [(1, uuid.as_bytes()), (9, &b"GENERAL"[..])];
            call.send(framed(&say(if number == 7 { &fields[..1] } else { &fields }))).await;
        }
        call.half_close();
        call.answer().await.status()
    });
    assert_eq!(status.code, Code::InvalidArgument);
    assert!(status.message.contains("1 messages") && status.message.contains("layer"), "{status}");
    road.wait_until_delivered(Duration::from_secs(5));
    let arrived: u64 = road.collectors.iter().map(|collector| collector.counts().ids.unique).sum();
    assert_eq!(arrived, 29);
    assert_eq!(lost(&road.end_with_losses()), [("malformed", 1)]);
}

#[test]
fn a_batch_of_segments_comes_apart() {
    let road = Road::to_collectors(1);
    let status = road.block_on(async {
        let segment = |number: usize| say(&[(2, format!("batch-{number}").as_bytes()), (4, b"shop")]);
        let segments: Vec<Bytes> = (0..100).map(segment).collect();
        let batch: Vec<(u32, &[u8])> = segments.iter().map(|segment| (1, &segment[..])).collect();
        Caller::connect(road.agents()).await.call(BATCHES, &[], &[say(&batch)]).await.status()
    });
    assert_eq!(status, Status::ok());
    road.wait_until_delivered(Duration::from_secs(5));
    let counts = road.collectors[0].counts();
    assert_eq!(
        (counts.ids.unique, counts.methods.keys().cloned().collect::<Vec<_>>()),
        (100, vec![SEGMENTS.to_owned()])
    );
    let totals = road.end().totals;
    assert_eq!((totals.received, totals.delivered), (100, 100));
}
