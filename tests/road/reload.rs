//! Other plans while agents' streams go on.

use std::sync::Arc;
use std::time::Duration;

use switchyard::listener::Reply;
use switchyard::pool::{self, Policy};
use switchyard::route::rule::Rule;
use switchyard::route::{Routes, catalogue};
use switchyard::testkit::agents::{Load, Traffic};
use switchyard::testkit::behaviour::Behaviour;

use crate::ground::{Road, assert_once_each, collector, eventually, found};

const PATIENCE: Duration = Duration::from_secs(10);

fn messages(road: &Road, collector: usize) -> u64 {
    road.collectors[collector].counts().messages
}

#[test]
fn an_endless_stream_follows_the_rules_of_a_new_plan() {
    let mut road = Road::through((0..2).map(|_| collector(Behaviour::default())).collect(), &[], |plan| {
        plan.pools[0].backends.truncate(1);
    });
    let running = Load { streams: 2, rate: 300.0, ..road.load() }.start().unwrap();
    eventually("messages come", PATIENCE, || messages(&road, 0) > 100);
    let other =
        pool::Settings { backends: vec![found(&road.collectors[1])], ..pool::Settings::new("other", Vec::new()) };
    road.reload(|plan| {
        plan.pools.push(other);
        let all_there = |_: &_| vec![Rule { pool: 1, ..Arc::into_inner(Rule::for_the_rest()).unwrap() }.into()];
        plan.routes = Routes::new(catalogue::methods(), all_there).into();
    });
    eventually("the other pool gets them", PATIENCE, || messages(&road, 1) > 100);
    let left = messages(&road, 0);
    eventually("more come", PATIENCE, || messages(&road, 1) > 300);
    assert!(messages(&road, 0) <= left + 64, "what was on its way");
    road.reload(|plan| {
        plan.pools.truncate(1);
        plan.routes = Routes::of_catalogue().into();
    });
    eventually("the first pool gets them again", PATIENCE, || messages(&road, 0) > left + 100);
    eventually("the other pool's channels close", PATIENCE, || road.collectors[1].counts().connections_open == 0);
    let outcome = running.stop();
    assert_eq!((outcome.errors.len(), outcome.abandoned), (0, 0), "{outcome:?}");
    road.wait_until_delivered(PATIENCE);
    assert_once_each(&road.verdict(&outcome));
    road.end();
}

#[test]
fn many_plans_under_load_break_no_stream() {
    let mut road = Road::to_collectors(3);
    let load = Load { traffic: Traffic::Log, connections: 2, streams: 3, services: 3, rate: 500.0, ..road.load() };
    let running = load.start().unwrap();
    eventually("messages come", PATIENCE, || road.snapshot().delivered > 100);
    for round in 0..100 {
        road.reload(|plan| {
            let pool = &mut plan.pools[0];
            pool.balance = [Policy::LeastLoad, Policy::RoundRobin, Policy::Hash][round % 3];
            pool.trip.messages_max = 500 + round as u32;
            pool.backends.rotate_left(1);
            plan.reply = [Reply::Received, Reply::Delivered][round % 2];
            plan.limits.message_bytes_max = (1 << 20) + round;
        });
    }
    let outcome = running.stop();
    assert_eq!((outcome.errors.len(), outcome.abandoned), (0, 0), "{outcome:?}");
    road.wait_until_delivered(PATIENCE);
    assert_once_each(&road.verdict(&outcome));
    road.end();
}

#[test]
fn a_listener_moves_and_its_connections_stay() {
    let mut road = Road::to_collectors(1);
    let before = road.agents();
    let running = Load { rate: 200.0, ..road.load() }.start().unwrap();
    eventually("messages come", PATIENCE, || messages(&road, 0) > 50);
    road.reload(|plan| plan.listeners[0].address = "127.0.0.2:0".parse().unwrap());
    let now = road.agents();
    assert_ne!(before, now);
    eventually("the old port is closed", PATIENCE, || std::net::TcpStream::connect(before).is_err());
    let so_far = messages(&road, 0);
    eventually("open streams go on", PATIENCE, || messages(&road, 0) > so_far + 50);
    let outcome = running.stop();
    assert_eq!(outcome.errors.len(), 0, "{outcome:?}");
    let again = Load { messages: 50, name: "again".to_owned(), ..road.load() }.start().unwrap().wait();
    assert_eq!((again.errors.len(), again.answered), (0, again.calls), "{again:?}");
    road.wait_until_delivered(PATIENCE);
    road.end();
}

#[test]
fn a_port_that_cannot_be_had_leaves_everything_as_it_was() {
    let mut road = Road::to_collectors(1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let before = road.agents();
    let refused = road.try_reload(|plan| {
        plan.listeners[0].address = taken.local_addr().unwrap();
        plan.limits.message_bytes_max = 1;
    });
    assert!(refused.unwrap_err().to_string().contains("cannot listen on"));
    assert_eq!(road.agents(), before);
    let outcome = Load { messages: 50, ..road.load() }.start().unwrap().wait();
    assert_eq!((outcome.errors.len(), outcome.answered), (0, outcome.calls), "{outcome:?}");
    road.wait_until_delivered(PATIENCE);
    road.end();
}
