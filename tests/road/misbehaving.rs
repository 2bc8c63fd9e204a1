//! One backend, or all, do what no backend should: nothing is lost, and nothing is said twice that need not be.

use std::time::Duration;

use switchyard::config::Plan;
use switchyard::gateway::Summary;
use switchyard::testkit::agents::{Load, Traffic};
use switchyard::testkit::behaviour::Behaviour;
use switchyard::testkit::check::Verdict;
use switchyard::wire::grpc::Code;

use crate::ground::{Road, collector, eventually};

/// The usual load: eight agents, 1,600 messages a second, most of them on endless streams.
fn load(road: &Road) -> Load {
    Load { connections: 4, streams: 2, rate: 200.0, messages: 240, ..road.load() }
}

/// Runs a load before collectors of which the first `bad` misbehave; nothing may be lost.
fn with_bad(bad: usize, behaviour: Behaviour, change: impl FnOnce(&mut Plan)) -> (Summary, Verdict, Seen) {
    let behaviours = (0..3).map(|number| if number < bad { behaviour.clone() } else { Behaviour::default() });
    let road = Road::through(behaviours.map(collector).collect(), &[], change);
    let outcome = load(&road).start().unwrap().wait();
    assert!(outcome.errors.is_empty() && outcome.abandoned == 0, "agents notice nothing: {outcome:?}");
    road.wait_until_delivered(Duration::from_secs(10));
    let verdict = road.verdict(&outcome);
    let seen = Seen { counts: road.collectors.iter().map(|collector| collector.counts().calls).collect() };
    let summary = road.end();
    assert_eq!((summary.totals.received, verdict.lost, verdict.lost_unsure), (outcome.sent, 0, 0), "{verdict:?}");
    assert!(verdict.duplicated <= summary.totals.possible_duplicates, "{verdict:?} {summary:?}");
    (summary, verdict, seen)
}

/// Calls each collector saw.
struct Seen {
    counts: Vec<u64>,
}

#[test]
fn a_backend_that_refuses_every_stream_costs_nothing() {
    let (summary, verdict, _) = with_bad(1, Behaviour { refuse: true, ..Behaviour::default() }, |_| {});
    assert_eq!((summary.totals.possible_duplicates, verdict.duplicated), (0, 0));
}

#[test]
fn backends_that_all_say_goaway_again_and_again_cost_nothing() {
    let goaway_every = Some(Duration::from_millis(130));
    let (summary, verdict, _) = with_bad(3, Behaviour { goaway_every, ..Behaviour::default() }, |_| {});
    assert_eq!((summary.totals.possible_duplicates, verdict.duplicated), (0, 0));
}

#[test]
fn an_ok_that_comes_before_the_end_of_a_trip_answers_for_nothing() {
    let (summary, ..) = with_bad(1, Behaviour { answer_after: Some(10), ..Behaviour::default() }, |_| {});
    assert!(summary.totals.possible_duplicates > 0, "it did answer early");
}

#[test]
fn a_backend_that_never_answers_is_taken_out_and_its_messages_go_elsewhere() {
    let hang = Behaviour { hang: true, ..Behaviour::default() };
    let collectors = vec![collector(hang), collector(Behaviour::default()), collector(Behaviour::default())];
    let road = Road::through(collectors, &[], |plan| {
        plan.pools[0].trip.answer_deadline = Duration::from_millis(300);
        plan.pools[0].trip.hard_deadline = Duration::from_millis(900);
    });
    let running = load(&road).start().unwrap();
    eventually("it is out", Duration::from_secs(3), || road.snapshot().backends[0].state == "late");
    let outcome = running.wait();
    assert!(outcome.errors.is_empty(), "{outcome:?}");
    road.wait_until_delivered(Duration::from_secs(10));
    let verdict = road.verdict(&outcome);
    let by_others = road.collectors[1].counts().messages + road.collectors[2].counts().messages;
    let summary = road.end();
    assert_eq!((verdict.lost, verdict.lost_unsure), (0, 0), "{verdict:?}");
    assert!(by_others >= outcome.sent, "what it took is said to the others: {by_others} of {}", outcome.sent);
    assert!(verdict.duplicated <= summary.totals.possible_duplicates);
}

#[test]
fn a_backend_that_answers_errors_that_are_its_own_loses_nothing_and_is_taken_out() {
    for code in [Code::Unavailable, Code::ResourceExhausted] {
        let behaviour = Behaviour { status: code as u8, answer_after: Some(0), ..Behaviour::default() };
        let (_, _, seen) = with_bad(1, behaviour, |_| {});
        assert!(seen.counts[0] <= 40, "{code}: it is left alone, but was called {} times", seen.counts[0]);
    }
}

#[test]
fn a_backend_that_answers_errors_that_may_be_the_messages_own_loses_nothing() {
    for code in [Code::Unknown, Code::InvalidArgument] {
        let behaviour = Behaviour { status: code as u8, ..Behaviour::default() };
        with_bad(1, behaviour, |_| {});
    }
}

#[test]
fn a_backend_that_does_not_know_a_method_costs_nothing() {
    // A server that does not know a method says so at once and reads nothing.
    let behaviour = Behaviour { status: Code::Unimplemented as u8, answer_after: Some(0), ..Behaviour::default() };
    let (summary, verdict, seen) = with_bad(1, behaviour, |_| {});
    println!("{:?} calls, {} possible duplicates", seen.counts, summary.totals.possible_duplicates);
    assert_eq!(verdict.duplicated, 0);
}

#[test]
fn an_internal_error_of_all_backends_that_passes_loses_nothing() {
    let broken = Behaviour { status: Code::Internal as u8, ..Behaviour::default() };
    let road = Road::through((0..3).map(|_| collector(broken.clone())).collect(), &[], |_| {});
    let running = Load { messages: 500, ..load(&road) }.start().unwrap();
    std::thread::sleep(Duration::from_millis(1_800));
    road.all_behave(&Behaviour::default());
    let outcome = running.wait();
    road.wait_until_delivered(Duration::from_secs(10));
    let verdict = road.verdict(&outcome);
    road.end();
    assert_eq!((verdict.lost, verdict.lost_unsure), (0, 0), "{verdict:?}");
}

#[test]
fn resets_after_every_few_messages_lose_nothing() {
    with_bad(2, Behaviour { reset_after: Some(40), ..Behaviour::default() }, |_| {});
}

#[test]
fn a_slow_backend_gets_less_and_the_others_are_not_held_up() {
    let slow = Behaviour { message_delay: Duration::from_millis(50), ..Behaviour::default() };
    let collectors = vec![collector(slow), collector(Behaviour::default()), collector(Behaviour::default())];
    let road = Road::through(collectors, &[], |_| {});
    let load = Load { traffic: Traffic::Log, services: 4, bytes: 40_000, messages: 150, ..load(&road) };
    let outcome = load.start().unwrap().wait();
    assert!(outcome.errors.is_empty(), "{outcome:?}");
    let others = || road.collectors[1..].iter().map(|collector| collector.counts().messages).sum::<u64>();
    let now = road.snapshot();
    let slow_waits = now.backends[0].waiting_messages + now.backends[0].in_flight_messages;
    assert!(slow_waits < outcome.sent / 4, "{slow_waits} of {} wait for the slow one", outcome.sent);
    eventually("the others have the rest", Duration::from_secs(5), || others() >= outcome.sent * 3 / 4);
    road.all_behave(&Behaviour::default());
    road.wait_until_delivered(Duration::from_secs(10));
    assert_eq!(road.verdict(&outcome).lost, 0);
    road.end();
}
