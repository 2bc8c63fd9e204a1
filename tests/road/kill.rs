//! Collectors are killed as the kernel kills, again and again under load: nothing is lost, and what may be double is counted.

use std::time::Duration;

use switchyard::config::Plan;
use switchyard::listener::Reply;
use switchyard::pool::Policy;
use switchyard::testkit::agents::{Load, Traffic};
use switchyard::testkit::check::check_logs;

use crate::ground::Road;
use crate::process::{CollectorProcess, Scratch};

const KILLS: u64 = 10;
const WORKERS: u64 = 2;
/// Messages of a trip, and of the parcel that may stand over its edge.
const TRIP: u32 = 64;
const PARCEL: u64 = 64;

/// Kills one of three after the other while the load runs, and holds what arrived against what was sent.
fn kill_under(name: &str, change: impl FnOnce(&mut Plan), load: impl FnOnce(&Road) -> Load) {
    let scratch = Scratch::new(name);
    let mut collectors = ["a", "b", "c"].map(|name| CollectorProcess::start(scratch.path(), name));
    let addresses: Vec<_> = collectors.iter().map(|collector| collector.address).collect();
    let road = Road::through(Vec::new(), &addresses, |plan| {
        plan.pools[0].trip.messages_max = TRIP;
        change(plan);
    });
    let running = load(&road).start().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    for kill in 0..KILLS as usize {
        let victim = &mut collectors[kill % 3];
        victim.kill();
        std::thread::sleep(Duration::from_millis(150));
        victim.restart();
        std::thread::sleep(Duration::from_millis(150));
    }
    let outcome = running.wait();
    assert!(outcome.errors.is_empty() && outcome.abandoned == 0, "agents notice nothing: {outcome:?}");
    assert_eq!(outcome.answered, outcome.calls);
    road.wait_until_delivered(Duration::from_secs(10));
    let verdict = check_logs(&outcome.agents, &collectors.each_ref().map(|collector| &collector.log)).unwrap();
    let summary = road.end();
    assert_eq!((verdict.lost, verdict.lost_unsure, verdict.foreign), (0, 0, 0), "{verdict:?}");
    assert_eq!(verdict.arrived, outcome.sent);
    let possible = summary.totals.possible_duplicates;
    assert!(verdict.duplicated <= possible, "{} doubles, {possible} were thought possible", verdict.duplicated);
    // Each worker has a filling trip and those that wait for their answer; an answer takes less than a trip's filling.
    let open_trips = WORKERS * 3;
    let bound = KILLS * open_trips * (u64::from(TRIP) + PARCEL);
    assert!(possible <= bound, "{possible} possible duplicates, more than {bound}");
    println!("{name}: {} sent, {} doubled, {possible} possible, bound {bound}", outcome.sent, verdict.duplicated);
}

#[test]
fn ten_kills_under_endless_streams_lose_nothing() {
    kill_under(
        "kill-endless",
        |_| {},
        |road| Load { connections: 4, streams: 2, rate: 300.0, messages: 1_200, ..road.load() },
    );
}

#[test]
fn ten_kills_under_calls_that_wait_for_delivery_lose_nothing() {
    kill_under(
        "kill-delivered",
        |plan| plan.reply = Reply::Delivered,
        |road| Load {
            traffic: Traffic::Log,
            connections: 4,
            streams: 2,
            services: 3,
            rate: 300.0,
            messages: 1_200,
            messages_per_stream: 100,
            ..road.load()
        },
    );
}

/// A parcel that comes back is dealt anew: its messages are tied by keys of their own, and go to whoever has those by then.
#[test]
fn ten_kills_under_messages_that_each_have_a_key_lose_nothing() {
    kill_under(
        "kill-keyed",
        |plan| plan.pools[0].balance = Policy::Hash,
        |road| Load { connections: 2, rate: 4_000.0, messages: 16_000, ..road.load() },
    );
}
