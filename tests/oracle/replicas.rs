//! Data that must keep meeting one collector does, over connections, calls and gateways that never talk to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use switchyard::testkit::collector::Collector;

use crate::draw::{Case, Draw, method, seeds};
use crate::ground::Road;
use crate::reading::{Stream, read};
use crate::stage::{Audience, play};
use crate::traffic::{Cast, Ending, Source, Traffic};
use crate::verdict::{assert_none, differences, sum};
use crate::ways::{Setting, collector};

const SOURCES: u64 = 24;
const CALLS: usize = 60;

/// Agents that stay who they are, as real ones do: what a stream turns out to be only at its end has no key before.
fn steady(path: &str, draw: &mut Draw) -> Traffic {
    draw.steady = true;
    let sources = (0..SOURCES).map(|number| Source {
        service: draw.tag("shop"),
        instance: draw.tag("pod"),
        number: number % 3,
        is_long: false,
    });
    let cast = Cast { sources: sources.collect(), ..Cast::draw(method(path), draw) };
    Traffic::with(&cast, CALLS, draw)
}

/// Sends half of the calls through a gateway and half through another that knows the same collectors in another order.
/// Agents use few words: what names a stream only behind its first 64 KiB names it too late.
fn assert_sticky(name: &str, path: &str, draw: fn(u64) -> Draw) {
    for seed in seeds(name).into_iter().take(2) {
        let case = Case { name, seed };
        let mut draw = draw(case.seed);
        let traffic = steady(path, &mut draw);
        let expected = read(&traffic.calls.iter().map(Stream::of).collect::<Vec<_>>());
        let halves = traffic.halves();
        let settings = [Setting::draw(&mut draw), Setting::draw(&mut draw)];
        let collectors: Vec<Collector> = (0..3).map(|_| collector()).collect();
        let mut addresses: Vec<_> = collectors.iter().map(Collector::address).collect();
        for (half, setting) in halves.iter().zip(settings) {
            let road = Road::through(Vec::new(), &addresses, |plan| setting.apply(plan));
            road.block_on(play(half, road.agents(), Audience::new(&[]), |_| {}));
            road.wait_until_delivered(Duration::from_secs(10));
            road.end();
            addresses.rotate_left(1);
            addresses.swap(0, 1);
        }
        let met = collectors_met(&collectors);
        let torn: Vec<_> = met.iter().filter(|(_, collectors)| collectors.len() > 1).collect();
        assert!(torn.is_empty(), "sources that met several collectors: {torn:?}");
        let used: BTreeSet<usize> = met.values().flatten().copied().collect();
        assert!(used.len() > 1, "{} sources all met one collector", met.len());
        let [one, other] = halves.map(|half| sources(&half));
        assert!(one.intersection(&other).count() > 5, "both gateways see some of the same sources");
        assert_none(&differences(&expected, &sum(collectors.iter().map(Collector::attributed))), name);
    }
}

/// Which collectors each source has met.
fn collectors_met(collectors: &[Collector]) -> BTreeMap<String, BTreeSet<usize>> {
    let mut met: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (at, collector) in collectors.iter().enumerate() {
        for item in collector.attributed().into_keys() {
            met.entry(item.source).or_default().insert(at);
        }
    }
    met
}

fn sources(traffic: &Traffic) -> BTreeSet<String> {
    read(&traffic.calls.iter().map(Stream::of).collect::<Vec<_>>()).into_keys().map(|item| item.source).collect()
}

const METERS: &str = "/skywalking.v3.MeterReportService/collect";
const METER_BATCHES: &str = "/skywalking.v3.MeterReportService/collectBatch";
const ENVOY_METRICS: &str = "/envoy.service.metrics.v3.MetricsService/StreamMetrics";
const OTLP_METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

#[test]
fn meter_batches_of_an_instance_meet_one_collector_through_any_gateway() {
    assert_sticky("meter_batches_of_an_instance", METER_BATCHES, Draw::brief);
}

#[test]
fn metrics_of_an_envoy_meet_one_collector_through_any_gateway() {
    assert_sticky("metrics_of_an_envoy", ENVOY_METRICS, Draw::brief);
}

#[test]
fn metrics_of_a_resource_meet_one_collector_through_any_gateway() {
    assert_sticky("metrics_of_a_resource", OTLP_METRICS, Draw::brief);
}

#[test]
fn metrics_of_a_resource_in_two_halves_meet_one_collector_through_any_gateway() {
    assert_sticky("metrics_of_a_resource_in_two_halves", OTLP_METRICS, Draw::fearless);
}

#[test]
fn meter_streams_of_an_instance_meet_one_collector_through_any_gateway() {
    assert_sticky("meter_streams_of_an_instance", METERS, Draw::brief);
}

impl Traffic {
    /// Every other call, and the rest, each in its own order.
    fn halves(&self) -> [Traffic; 2] {
        assert!(self.calls.iter().all(|call| call.ending == Ending::HalfClose));
        [0, 1].map(|half| self.only(|call| call % 2 == half))
    }
}
