//! Messages that make a receiver end the call: directly, all behind them is lost; through a gateway, no more than that.
//!
//! The difference is allowed (PROTOCOLS 5, 26): a gateway may refuse just that message and deliver the rest. So what is
//! understood lies between what one collector understands directly and what it would if nobody had sent the poison, or it
//! had been none.

use std::time::Duration;

use switchyard::listener::Reply;
use switchyard::testkit::agents::{Load, Running};
use switchyard::testkit::attribution::Attributed;
use switchyard::testkit::collector::Collector;
use switchyard::testkit::receivers::{End, Rule};

use crate::draw::{Case, Draw, method, seeds};
use crate::gateways::right;
use crate::ground::{Road, eventually};
use crate::reading::{Stream, read};
use crate::stage::{Audience, play};
use crate::traffic::{Cast, Ending, Traffic};
use crate::verdict::{assert_none, shortcomings, sum};
use crate::ways::{Setting, directly, road};
use crate::wire::Draft;

/// No set of several messages among them: one taken out makes another set.
const MALFORMED: [&str; 11] = [
    "/skywalking.v3.TraceSegmentReportService/collect",
    "/skywalking.v3.SpanAttachedEventReportService/collect",
    "/skywalking.v3.LogReportService/collect",
    "/skywalking.v3.MeterReportService/collectBatch",
    "/skywalking.v3.ProfileTask/collectSnapshot",
    "/skywalking.v3.EBPFAccessLogService/collect",
    "/skywalking.v3.ServiceMeshMetricService/collect",
    "/skywalking.v3.BrowserPerfService/collectErrorLogs",
    "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
    "/envoy.service.metrics.v3.MetricsService/StreamMetrics",
    "/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs",
];
const WITNESS: &str = "witness";
/// Messages a second: few enough for moments in which none of them is held.
const WITNESS_RATE: f64 = 20.0;
const EVENTS: &str = "/skywalking.v3.EventService/collect";
const EBPF_PROFILING: &str = "/skywalking.v3.EBPFProfilingService/collectProfilingData";
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// Plays it both ways and holds the gateway's between the least and the most.
fn assert_between(traffic: &Traffic, ideal: &Attributed) {
    let least = directly(traffic).attributed;
    // Whoever waits for delivery waits for the poison, too, and a message that only one trip at a time can blame takes
    // its time.
    let mut road = road(Setting::plain(Reply::Received));
    let witness = witness(&road);
    road.block_on(play(traffic, road.agents(), Audience::new(&[]), |_| {}));
    eventually("every call is over and the poison found out", Duration::from_secs(30), || {
        let snapshot = road.snapshot();
        snapshot.calls_total == 1 && snapshot.held == 0
    });
    witness.stop();
    road.wait_until_delivered(Duration::from_secs(30));
    let collectors = std::mem::take(&mut road.collectors);
    road.end_with_losses();
    let mut found = sum(collectors.iter().map(Collector::attributed));
    found.retain(|item, _| !item.source.contains(WITNESS));
    assert_none(&shortcomings(&least, ideal, &found), "with poison, through a gateway");
}

/// Somebody who sends good messages meanwhile: a gateway blames a message only for what its company is spared.
fn witness(road: &Road) -> Running {
    let load =
        Load { name: WITNESS.to_owned(), rate: WITNESS_RATE, messages: 0, messages_per_stream: 0, ..road.load() };
    load.start().expect("a thread can be had")
}

/// What would be understood had nobody sent the poison, or had nothing been wrong with it: what it says for later
/// messages may hold for them, for they were sent behind it.
fn ideal(traffic: &Traffic) -> Attributed {
    let (mut without, mut mended) = (Vec::new(), Vec::new());
    for call in &traffic.calls {
        let mut call = call.clone();
        for said in &mut call.messages {
            said.body = said.mended.clone().unwrap_or(std::mem::take(&mut said.body));
        }
        mended.push(Stream::of(&call));
        call.messages.retain(|said| said.mended.is_none());
        without.push(Stream::of(&call));
    }
    sum([read(&without), read(&mended)])
}

fn poisoned(path: &str, draw: &mut Draw) -> Traffic {
    let cast = Cast { poisonous: true, ..Cast::draw(method(path), draw) };
    let mut traffic = Traffic::of(&cast, draw);
    // A reset would wait for messages nobody reads any more.
    traffic.calls.iter_mut().for_each(|call| call.ending = Ending::HalfClose);
    traffic
}

/// Breaks some messages off in their last field.
fn break_some(traffic: &mut Traffic, draw: &mut Draw) {
    for said in traffic.calls.iter_mut().flat_map(|call| &mut call.messages) {
        if draw.chance(8) {
            said.mended = Some(said.body.clone());
            said.body.extend([0x7a, 0x7f, b'x']);
        }
    }
}

/// Traffic to all of these methods at once, some of it spoiled.
fn assert_poison_stays_alone(name: &str, paths: &[&str], spoil: impl Fn(&mut Traffic, &mut Draw)) {
    for seed in seeds(name).into_iter().take(2) {
        let case = Case { name, seed };
        let mut draw = Draw::brief(case.seed);
        let parts = paths.iter().map(|path| poisoned(path, &mut draw)).collect();
        let mut traffic = Traffic::together(parts, &mut draw);
        spoil(&mut traffic, &mut draw);
        assert!(traffic.calls.iter().flat_map(|call| &call.messages).any(|said| said.mended.is_some()));
        assert_between(&traffic, &ideal(&traffic));
    }
}

#[test]
fn a_message_that_does_not_parse_costs_no_more_than_directly() {
    assert_poison_stays_alone("a_message_that_does_not_parse", &MALFORMED, break_some);
}

#[test]
fn events_without_a_layer_and_profiles_without_samples_cost_no_more_than_directly() {
    assert_poison_stays_alone("events_without_a_layer", &[EVENTS, EBPF_PROFILING], |_, _| {});
}

#[test]
fn a_resource_that_cannot_be_read_costs_no_more_than_directly() {
    let name = "a_resource_that_cannot_be_read";
    for (path, cut) in [(METRICS, right::resources as fn(&[u8]) -> _), (TRACES, right::items)] {
        assert!(matches!(method(path).rule, Rule::Otlp(_)));
        for seed in seeds(name).into_iter().take(2) {
            let case = Case { name, seed };
            let mut draw = Draw::brief(case.seed);
            let mut traffic = poisoned(path, &mut draw);
            for said in traffic.calls.iter_mut().flat_map(|call| &mut call.messages) {
                said.body = spoiled(&said.body);
            }
            let alone = |call: &crate::traffic::Call| {
                let requests = call.messages.iter().flat_map(|said| cut(&said.body)).collect::<Vec<Vec<u8>>>();
                let path = call.path.clone();
                requests.into_iter().map(move |request| Stream {
                    path: path.clone(),
                    messages: vec![request],
                    end: End::Clean,
                })
            };
            let all = read(&traffic.calls.iter().flat_map(alone).collect::<Vec<_>>());
            assert_between(&traffic, &all);
        }
    }
}

/// A request with one more resource in front, between its own and at its end: whose metric has no data and whose span
/// no ids.
fn spoiled(request: &[u8]) -> Vec<u8> {
    let mut bad = Draft::default();
    let item = Draft::default().text(15, "neither data nor ids").encode();
    bad.part(1, |resource| {
        resource.part(1, |attribute| {
            attribute.text(1, "service.name").texts(&[(&[2, 1], "poisoner")]);
        });
    });
    bad.part(2, |scope| {
        scope.bytes(2, &item);
    });
    [request.to_vec(), Draft::default().bytes(1, &bad.encode()).encode(), request.to_vec()].concat()
}
