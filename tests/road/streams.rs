//! Backends that limit streams, and ports where nobody is: no lane waits for ever, and nobody is hammered.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use switchyard::testkit::agents::{Load, Traffic};
use switchyard::testkit::behaviour::Behaviour;

use crate::ground::{Road, assert_once_each, collector};
use crate::process::free_addresses;

fn limited(streams: u32) -> Behaviour {
    Behaviour { streams_max: Some(streams), ..Behaviour::default() }
}

/// Logs of twenty services: as many lanes on each worker and backend.
fn many_lanes(road: &Road) -> Load {
    let traffic = Traffic::Log;
    Load { traffic, connections: 4, streams: 10, services: 20, rate: 50.0, messages: 60, ..road.load() }
}

fn all_delivered(road: Road, load: Load, during: impl FnOnce(&Road)) {
    let running = load.start().unwrap();
    during(&road);
    let outcome = running.wait();
    assert!(outcome.errors.is_empty() && outcome.abandoned == 0, "agents notice nothing: {outcome:?}");
    road.wait_until_delivered(Duration::from_secs(20));
    assert_once_each(&road.verdict(&outcome));
    assert_eq!(road.end().totals.possible_duplicates, 0);
}

#[test]
fn one_stream_at_a_time_is_enough_for_twenty_lanes() {
    let road = Road::through((0..3).map(|_| collector(limited(1))).collect(), &[], |_| {});
    let load = Load { messages: 30, ..many_lanes(&road) };
    all_delivered(road, load, |_| {});
}

#[test]
fn one_stream_on_one_connection_is_enough_for_many_lanes() {
    let road =
        Road::through((0..3).map(|_| collector(limited(1))).collect(), &[], |plan| plan.pools[0].channels_max = 1);
    let load = Load { services: 8, messages: 20, ..many_lanes(&road) };
    all_delivered(road, load, |_| {});
}

#[test]
fn lanes_that_want_a_stream_get_it_before_others_grow_old() {
    let road = Road::through((0..3).map(|_| collector(limited(1))).collect(), &[], |_| {});
    let load = many_lanes(&road);
    let outcome = load.start().unwrap().wait();
    road.wait_until_delivered(Duration::from_millis(1_500));
    assert_once_each(&road.verdict(&outcome));
    road.end();
}

#[test]
fn a_limit_that_falls_to_nothing_and_rises_again_loses_nothing() {
    let road = Road::to_collectors(3);
    let load = Load { messages: 100, ..many_lanes(&road) };
    all_delivered(road, load, |road| {
        for streams in [100, 1, 0, 100] {
            road.collectors[0].set_behaviour(limited(streams));
            std::thread::sleep(Duration::from_millis(400));
        }
    });
}

#[test]
fn a_limit_of_nothing_everywhere_is_waited_out() {
    let road = Road::to_collectors(3);
    let load = many_lanes(&road);
    all_delivered(road, load, |road| {
        std::thread::sleep(Duration::from_millis(200));
        road.all_behave(&limited(0));
        std::thread::sleep(Duration::from_millis(1_500));
        road.all_behave(&limited(100));
    });
}

#[test]
fn a_closed_port_among_three_is_not_noticed() {
    let [closed] = free_addresses();
    let collectors = vec![collector(Behaviour::default()), collector(Behaviour::default())];
    let road = Road::through(collectors, &[closed], |_| {});
    let load = many_lanes(&road);
    all_delivered(road, load, |_| {});
}

/// Accepts connections, does `then` with them and counts them.
fn counting(then: impl Fn(std::net::TcpStream) + Send + 'static) -> (std::net::SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            counted.fetch_add(1, Relaxed);
            then(stream);
        }
    });
    (address, count)
}

#[test]
fn a_port_that_accepts_and_closes_is_not_hammered() {
    let (address, connects) = counting(drop);
    let road =
        Road::through(vec![collector(Behaviour::default()), collector(Behaviour::default())], &[address], |_| {});
    let load = Load { messages: 150, ..many_lanes(&road) };
    all_delivered(road, load, |_| {});
    let connects = connects.load(Relaxed);
    // Three seconds of load; a back-off from 100 ms to 2 s makes some ten.
    assert!(connects <= 20, "{connects} connects in three seconds");
}

#[test]
fn a_port_that_accepts_and_says_nothing_holds_nobody_up() {
    let (address, connects) = counting(|mut stream| {
        std::thread::spawn(move || drop(stream.read_to_end(&mut Vec::new())));
    });
    let road =
        Road::through(vec![collector(Behaviour::default()), collector(Behaviour::default())], &[address], |plan| {
            plan.pools[0].connect_deadline = Duration::from_millis(500);
        });
    let load = Load { messages: 150, ..many_lanes(&road) };
    all_delivered(road, load, |_| {});
    assert!(connects.load(Relaxed) <= 20, "{} connects in three seconds", connects.load(Relaxed));
}
