//! Six endless streams, one sending twenty times what the others send: the load is spread by message, not by stream.

use std::time::Duration;

use switchyard::listener::Reply;
use switchyard::pool::Policy;
use switchyard::testkit::agents::Load;

use crate::ground::{Road, assert_once_each, eventually, max_over_mean};

/// Streams that end only when everything was sent.
fn endless(road: &Road) -> Load {
    Load { connections: 6, rate: 150.0, skew: 20.0, messages: 240, ..road.load() }
}

fn spread(road: Road, load: Load) {
    let outcome = load.start().unwrap().wait();
    assert_eq!((outcome.errors.len(), outcome.answered, outcome.abandoned), (0, 6, 0), "{outcome:?}");
    assert_eq!(outcome.sent, 240 * 25);
    road.wait_until_delivered(Duration::from_secs(5));
    assert_once_each(&road.verdict(&outcome));
    let shares: Vec<u64> = road.collectors.iter().map(|collector| collector.counts().messages).collect();
    let skew = max_over_mean(&shares);
    // Workers add up by themselves and tell when they rest; those that never do, once a second.
    eventually("what came is told", Duration::from_millis(500), || {
        road.snapshot().listeners.iter().map(|listener| listener.messages).sum::<u64>() == 6_000
    });
    let summary = road.end();
    assert_eq!((summary.totals.received, summary.totals.delivered), (6_000, 6_000));
    assert_eq!(summary.totals.possible_duplicates, 0);
    let told: Vec<u64> = summary.backends.iter().map(|backend| backend.delivered_messages).collect();
    assert_eq!(told, shares, "the gateway's figures are the collectors'");
    assert!(skew <= 1.05, "max/mean is {skew:.3}: {shares:?}");
}

#[test]
fn a_stream_that_sends_twenty_times_the_others_is_spread_over_all_backends() {
    let road = Road::to_collectors(3);
    let load = endless(&road);
    spread(road, load);
}

#[test]
fn it_is_spread_as_well_in_turn() {
    let road = Road::to_collectors_with(3, |plan| plan.pools[0].balance = Policy::RoundRobin);
    let load = endless(&road);
    spread(road, load);
}

#[test]
fn it_is_spread_as_well_when_replies_wait_for_delivery() {
    let road = Road::to_collectors_with(3, |plan| plan.reply = Reply::Delivered);
    let load = endless(&road);
    spread(road, load);
}

#[test]
fn a_hog_as_fast_as_it_can_is_spread_too() {
    let road = Road::to_collectors(3);
    let load = Load { rate: 0.0, messages: 1_000, ..endless(&road) };
    let outcome = load.start().unwrap().wait();
    assert_eq!((outcome.errors.len(), outcome.answered), (0, 6), "{outcome:?}");
    road.wait_until_delivered(Duration::from_secs(10));
    assert_once_each(&road.verdict(&outcome));
    let shares: Vec<u64> = road.collectors.iter().map(|collector| collector.counts().messages).collect();
    road.end();
    let skew = max_over_mean(&shares);
    assert!(skew <= 1.05, "max/mean is {skew:.3}: {shares:?}");
}
