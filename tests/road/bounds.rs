//! What a backend is given at once, and the life of connections to it.

use std::time::{Duration, Instant};

use switchyard::pool::Policy;
use switchyard::testkit::agents::{Load, Traffic};
use switchyard::testkit::behaviour::Behaviour;
use switchyard::wire::grpc::Code;

use crate::caller::{Caller, framed};
use crate::ground::{Road, assert_once_each, collector, eventually};

#[test]
fn a_backend_with_as_many_messages_as_allowed_is_passed_over() {
    const MOST: u64 = 256;
    let hang = Behaviour { hang: true, ..Behaviour::default() };
    let collectors = vec![collector(hang), collector(Behaviour::default())];
    let road = Road::through(collectors, &[], |plan| {
        plan.pools[0].balance = Policy::RoundRobin;
        plan.pools[0].in_flight_messages_max = Some(MOST as usize);
        // It shall not count as late meanwhile.
        plan.pools[0].trip.answer_deadline = Duration::from_secs(60);
        plan.pools[0].trip.hard_deadline = Duration::from_secs(120);
    });
    let load = Load { connections: 4, rate: 2_000.0, messages: 1_500, ..road.load() };
    let outcome = load.start().unwrap().wait();
    // A worker looks before each parcel, which is up to 64 messages.
    let bound = MOST + 2 * 64;
    let held = |road: &Road| {
        let hung = &road.snapshot().backends[0];
        hung.in_flight_messages + hung.waiting_messages
    };
    eventually("the other one has all else", Duration::from_secs(20), || {
        road.snapshot().delivered >= 6_000 - bound && road.snapshot().held == held(&road)
    });
    let held = held(&road);
    assert!((64..=bound).contains(&held), "it holds {held}");
    road.collectors[0].set_behaviour(Behaviour::default());
    assert_eq!(outcome.abandoned, 0);
    road.wait_until_delivered(Duration::from_secs(10));
    assert_eq!(road.end().totals.delivered, 6_000);
}

/// Each connection to a backend is a port of ours: there are `channels` x flows x workers x backends, however many lanes
/// wait for a stream.
#[test]
fn ports_to_backends_are_a_bounded_few() {
    let limited = || Behaviour { streams_max: Some(1), ..Behaviour::default() };
    let road = Road::through((0..2).map(|_| collector(limited())).collect(), &[], |plan| {
        plan.pools[0].channels_max = 2;
    });
    let load = Load {
        traffic: Traffic::Log,
        connections: 8,
        streams: 5,
        services: 40,
        rate: 50.0,
        messages: 40,
        ..road.load()
    };
    let running = load.start().unwrap();
    let outcome = running.wait();
    road.wait_until_delivered(Duration::from_secs(20));
    assert_once_each(&road.verdict(&outcome));
    for collector in &road.collectors {
        let connections = collector.counts().connections;
        assert!((1..=4).contains(&connections), "two channels of two workers for one flow, not {connections}");
    }
    road.end();
}

#[test]
fn old_connections_to_backends_are_replaced_and_nobody_notices() {
    let road = Road::to_collectors_with(2, |plan| plan.pools[0].channel_age_max = Some(Duration::from_millis(500)));
    let since = Instant::now();
    let load = Load { connections: 2, streams: 2, rate: 200.0, messages: 700, ..road.load() };
    let running = load.start().unwrap();
    let relayed = road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut relayed = caller.open(crate::relay::PROFILE).await;
        relayed.send(framed(&[])).await;
        while since.elapsed() < Duration::from_millis(2_500) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        relayed.send(framed(&[])).await;
        relayed.half_close();
        relayed.answer().await
    });
    assert_eq!(relayed.code(), Code::Ok, "a call that is kept whole stays where it is: {relayed:?}");
    let outcome = running.wait();
    assert!(outcome.errors.is_empty() && outcome.abandoned == 0, "agents notice nothing: {outcome:?}");
    road.wait_until_delivered(Duration::from_secs(10));
    assert_once_each(&road.verdict(&outcome));
    let connections: u64 = road.collectors.iter().map(|collector| collector.counts().connections).sum();
    assert!(connections >= 8, "only {connections} connections were made");
    eventually("old ones are gone", Duration::from_secs(10), || {
        // One for each worker and flow, and one that is being replaced.
        road.collectors.iter().all(|collector| collector.counts().connections_open <= 6)
    });
    assert_eq!(road.end().totals.possible_duplicates, 0);
}
