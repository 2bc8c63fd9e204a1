//! Collectors die in the middle: what was promised comes at least once, nothing under another's name, and sets whole.

use std::time::Duration;

use switchyard::listener::Reply;
use switchyard::testkit::collector::Collector;
use switchyard::wire::grpc::Code;

use crate::draw::{Case, Draw, seeds};
use crate::reading::{Stream, read};
use crate::stage::{Audience, Heard, play};
use crate::traffic::{Ending, Traffic};
use crate::verdict::{assert_none, shortcomings, sum};
use crate::ways::{Setting, road};

/// Methods whose callers must not notice that a collector died.
const PROMISED: [&str; 16] = [
    "/skywalking.v3.TraceSegmentReportService/collect",
    "/TraceSegmentReportService/collect",
    "/skywalking.v3.TraceSegmentReportService/collectInSync",
    "/skywalking.v3.SpanAttachedEventReportService/collect",
    "/skywalking.v3.LogReportService/collect",
    "/skywalking.v3.MeterReportService/collectBatch",
    "/skywalking.v3.EventService/collect",
    "/skywalking.v3.ProfileTask/collectSnapshot",
    "/skywalking.v3.EBPFProfilingService/collectProfilingData",
    "/skywalking.v3.EBPFAccessLogService/collect",
    "/skywalking.v3.ServiceMeshMetricService/collect",
    "/skywalking.v3.BrowserPerfService/collectErrorLogs",
    "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
    "/envoy.service.accesslog.v2.AccessLogService/StreamAccessLogs",
    "/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs",
    "/envoy.service.metrics.v3.MetricsService/StreamMetrics",
];
/// Methods that may fail a call whose collector died; what is answered well must have come.
const ANSWERED: [&str; 4] = [
    "/skywalking.v3.MeterReportService/collect",
    "/skywalking.v3.ProfileTask/goProfileReport",
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
];

/// Agents of many kinds at once.
fn mixed(draw: &mut Draw) -> Traffic {
    draw.steady = true;
    let parts = PROMISED.iter().chain(&ANSWERED).map(|path| Traffic::draw(path, draw)).collect();
    Traffic::together(parts, draw)
}

/// Kills the first collector after a third of the traffic; after another third it is back and the second dies.
fn kill_in_the_middle(name: &str, reply: Reply) {
    for seed in seeds(name) {
        let case = Case { name, seed };
        let mut draw = Draw::brief(case.seed);
        let traffic = mixed(&mut draw);
        assert!(traffic.calls.iter().all(|call| call.ending == Ending::HalfClose));
        let mut road = road(Setting::plain(reply));
        let mut collectors = std::mem::take(&mut road.collectors);
        let steps = traffic.steps.len();
        let heard = road.block_on(play(&traffic, road.agents(), Audience::new(&[]), |step| match step {
            _ if step == steps / 3 => collectors[0].kill(),
            _ if step == steps * 2 / 3 => {
                collectors[0].restart().expect("its port is still free");
                collectors[1].kill();
            }
            _ => {}
        }));
        collectors[1].restart().expect("its port is still free");
        road.wait_until_delivered(Duration::from_secs(20));
        let possible = road.end_with_losses().totals.possible_duplicates;
        let calls = || traffic.calls.iter().zip(&heard);
        let failed = calls().filter(|(call, heard)| PROMISED.contains(&&call.path[..]) && !is_good(heard));
        let failed: Vec<_> = failed.map(|(call, heard)| (&call.path, heard)).collect();
        assert!(failed.is_empty(), "calls that noticed a collector's death: {failed:?}");
        let answered: Vec<Stream> =
            calls().filter(|(_, heard)| is_good(heard)).map(|(call, _)| Stream::of(call)).collect();
        let all: Vec<Stream> = traffic.calls.iter().map(Stream::of).collect();
        let found = sum(collectors.iter().map(Collector::attributed));
        assert_none(&shortcomings(&read(&answered), &read(&all), &found), "after two kills");
        let twice: u64 = found.values().map(|times| times - 1).sum();
        println!(
            "{name}: {} of {} calls answered well, {twice} items twice, {possible} thought possible",
            answered.len(),
            all.len()
        );
    }
}

fn is_good(heard: &Heard) -> bool {
    matches!(heard, Heard::Answer(Code::Ok, _))
}

#[test]
fn two_kills_misattribute_nothing_when_calls_are_answered_once_received() {
    kill_in_the_middle("answered_once_received", Reply::Received);
}

#[test]
fn two_kills_misattribute_nothing_when_calls_are_answered_once_delivered() {
    kill_in_the_middle("answered_once_delivered", Reply::Delivered);
}
