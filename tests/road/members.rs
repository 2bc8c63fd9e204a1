//! Backends that come and go under a load: no agent notices, nothing is lost.

use std::time::Duration;

use switchyard::pool::found::Found;
use switchyard::testkit::agents::{Load, Running};
use switchyard::testkit::check::Verdict;

use crate::ground::{Road, assert_once_each, eventually, found, max_over_mean};

const PATIENCE: Duration = Duration::from_secs(10);

/// How long after its going a backend may still get what was on its way.
const GOING: Duration = Duration::from_millis(100);

/// A gateway before the first of four collectors' first `at` ones, under a load that lasts until it is ended.
fn under_load(at: &[usize]) -> (Road, Running) {
    let road = Road::to_collectors(4);
    road.found(at);
    let load = Load { connections: 2, streams: 4, rate: 400.0, ..road.load() };
    let running = load.start().unwrap();
    (road, running)
}

fn ends_well(road: Road, running: Running) -> Verdict {
    let outcome = running.stop();
    assert_eq!((outcome.errors.len(), outcome.abandoned), (0, 0), "agents notice nothing: {outcome:?}");
    road.wait_until_delivered(PATIENCE);
    let verdict = road.verdict(&outcome);
    road.end();
    verdict
}

fn messages(road: &Road, collector: usize) -> u64 {
    road.collectors[collector].counts().messages
}

/// How many messages each of these got from now on, until they got so many.
fn shares(road: &Road, collectors: &[usize], until: u64) -> Vec<u64> {
    let before: Vec<u64> = collectors.iter().map(|at| messages(road, *at)).collect();
    let now = || collectors.iter().zip(&before).map(|(at, before)| messages(road, *at) - before).collect::<Vec<_>>();
    eventually("enough messages have come", PATIENCE, || now().iter().sum::<u64>() >= until);
    now()
}

#[test]
fn one_that_comes_gets_its_share() {
    let (road, running) = under_load(&[0, 1]);
    shares(&road, &[0, 1], 500);
    assert_eq!(messages(&road, 2), 0);
    road.found(&[2, 1, 0]);
    eventually("the new one is in use", PATIENCE, || messages(&road, 2) > 0);
    shares(&road, &[0, 1, 2], 2_000);
    let shares = shares(&road, &[0, 1, 2], 3_000);
    assert!(max_over_mean(&shares) < 1.15, "{shares:?}");
    assert_once_each(&ends_well(road, running));
}

#[test]
fn one_that_goes_finishes_what_it_has_and_gets_nothing_more() {
    let (road, running) = under_load(&[0, 1, 2]);
    shares(&road, &[0, 1, 2], 1_000);
    road.found(&[0, 2]);
    std::thread::sleep(GOING);
    let left = messages(&road, 1);
    eventually("its channels close", PATIENCE, || road.collectors[1].counts().connections_open == 0);
    shares(&road, &[0, 2], 1_000);
    assert_eq!(messages(&road, 1), left);
    assert_once_each(&ends_well(road, running));
}

#[test]
fn one_that_is_terminating_gets_nothing_more_and_stays_known() {
    let (road, running) = under_load(&[0, 1]);
    shares(&road, &[0, 1], 500);
    let leaving = Found { is_leaving: true, ..found(&road.collectors[1]) };
    road.say(vec![found(&road.collectors[0]), leaving]);
    std::thread::sleep(GOING);
    let left = messages(&road, 1);
    shares(&road, &[0], 500);
    assert_eq!((messages(&road, 1), road.snapshot().backends[1].state.as_str()), (left, "leaving"));
    assert_once_each(&ends_well(road, running));
}

#[test]
fn one_that_is_drained_comes_back_when_it_is_undrained() {
    let (road, running) = under_load(&[0, 1]);
    shares(&road, &[0, 1], 500);
    road.backend(1).drain();
    std::thread::sleep(GOING);
    let left = messages(&road, 1);
    eventually("its channels close", PATIENCE, || road.collectors[1].counts().connections_open == 0);
    shares(&road, &[0], 500);
    assert_eq!(messages(&road, 1), left);
    road.backend(1).undrain();
    eventually("it is in use again", PATIENCE, || messages(&road, 1) > left);
    assert_once_each(&ends_well(road, running));
}

#[test]
fn all_may_be_replaced_at_once() {
    let (road, running) = under_load(&[0, 1]);
    for round in 0..10 {
        let now = if round % 2 == 0 { [2, 3] } else { [0, 1] };
        road.found(&now);
        shares(&road, &now, 200);
    }
    assert_once_each(&ends_well(road, running));
}

#[test]
fn with_none_at_all_messages_wait() {
    let (road, running) = under_load(&[]);
    eventually("messages have come", PATIENCE, || road.snapshot().received > 200);
    assert_eq!(road.snapshot().delivered, 0);
    road.found(&[0]);
    shares(&road, &[0], 500);
    assert_once_each(&ends_well(road, running));
}
