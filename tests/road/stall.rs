//! All collectors stop reading while agents push as fast as they can: memory stays bounded and nobody is cut off.

use std::time::Duration;

use switchyard::testkit::agents::{Load, Traffic};
use switchyard::testkit::behaviour::Behaviour;
use switchyard::testkit::check::{check, check_logs};
use switchyard::testkit::collector::Collector;
use switchyard::wire::grpc::Code;

use crate::caller::Caller;
use crate::contracts::say;
use crate::ground::{Road, assert_once_each, collector, eventually};
use crate::process::{CollectorProcess, GatewayProcess, Scratch};
use crate::records::batches::framed_gzip;

const MEMORY: usize = 16 << 20;
const ALLOWED: usize = MEMORY + (64 << 20);

fn stalled() -> Behaviour {
    Behaviour { stall: true, ..Behaviour::default() }
}

/// Agents push into a gateway whose collectors are stalled for `stall`, then good.
fn push_against_a_stall(name: &str, settings: &str, stall: Duration, load: impl FnOnce(String) -> Load) {
    let scratch = Scratch::new(name);
    let collectors: Vec<Collector> = (0..3).map(|_| collector(stalled())).collect();
    let addresses: Vec<_> = collectors.iter().map(Collector::address).collect();
    let more = format!("limits: {{ memory: 16MiB }}\n{settings}");
    let mut gateway = GatewayProcess::start(scratch.path(), &addresses, &more);
    let running = load(gateway.agents.to_string()).start().unwrap();
    std::thread::sleep(stall);
    let is_half_full = || {
        let budget = gateway.snapshot().budget;
        budget.used_bytes >= budget.limit_bytes / 2
    };
    eventually("the budget is filled", Duration::from_secs(60), is_half_full);
    let now = gateway.assert_books_balance();
    assert!(now.budget.used_bytes <= now.budget.limit_bytes, "{:?}", now.budget);
    assert_eq!(now.delivered, 0);
    assert!(!running.is_finished(), "the load is too small to be held back");
    let held_back_at = gateway.process.peak_memory();
    collectors.iter().for_each(|collector| collector.set_behaviour(Behaviour::default()));
    let outcome = running.wait();
    assert!(outcome.errors.is_empty() && outcome.abandoned == 0, "{:?} {}", outcome.errors, outcome.abandoned);
    assert_eq!((outcome.connects, outcome.answered), (4, 16), "nobody was cut off");
    eventually("everything is delivered", Duration::from_secs(30), || gateway.snapshot().held == 0);
    let peak = gateway.process.peak_memory();
    let evidence: Vec<_> = collectors.iter().map(Collector::evidence).collect();
    let verdict = check(&outcome.agents, &evidence);
    let last = gateway.end(Duration::from_secs(5));
    println!("{name}: {} MiB stalled, {} MiB at most; {last}", held_back_at >> 20, peak >> 20);
    assert_once_each(&verdict);
    assert!(
        peak <= ALLOWED,
        "{} MiB resident, {} MiB allowed; {} when stalled",
        peak >> 20,
        ALLOWED >> 20,
        held_back_at >> 20
    );
}

#[test]
fn a_stall_of_all_collectors_holds_agents_back_and_memory_flat() {
    push_against_a_stall("stall", "", Duration::from_millis(1_500), |to| Load {
        to,
        connections: 4,
        streams: 4,
        bytes: 1_000,
        messages: 3_000,
        ..Load::default()
    });
}

#[test]
fn small_messages_against_a_stall_stay_within_the_budget_too() {
    push_against_a_stall("stall-small", "", Duration::from_secs(2), |to| Load {
        to,
        connections: 4,
        streams: 4,
        traffic: Traffic::Log,
        services: 5,
        bytes: 60,
        messages: 15_000,
        ..Load::default()
    });
}

#[test]
fn a_stall_that_gets_every_collector_ejected_as_late_loses_and_doubles_nothing() {
    let settings = "pool: { trip: { answer_deadline: 300ms, hard_deadline: 20s } }";
    push_against_a_stall("stall-late", settings, Duration::from_millis(2_500), |to| Load {
        to,
        connections: 4,
        streams: 4,
        bytes: 1_000,
        messages: 3_000,
        ..Load::default()
    });
}

/// A long garbage collection: the kernel goes on acknowledging, the process reads nothing, and the TCP window closes.
#[test]
fn a_collector_frozen_for_five_seconds_is_late_and_not_dead_so_nothing_is_said_twice() {
    let scratch = Scratch::new("frozen");
    let collectors = ["a", "b", "c"].map(|name| CollectorProcess::start(scratch.path(), name));
    let addresses: Vec<_> = collectors.iter().map(|collector| collector.address).collect();
    let road = Road::through(Vec::new(), &addresses, |plan| plan.memory_bytes = 64 << 20);
    let load = Load { connections: 4, streams: 4, bytes: 2_000, rate: 120.0, messages: 840, ..road.load() };
    let running = load.start().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    collectors[0].signal("STOP");
    std::thread::sleep(Duration::from_secs(5));
    let others_served = road.snapshot();
    collectors[0].signal("CONT");
    let outcome = running.wait();
    assert!(outcome.errors.is_empty() && outcome.abandoned == 0, "{:?} {}", outcome.errors, outcome.abandoned);
    road.wait_until_delivered(Duration::from_secs(20));
    let verdict = check_logs(&outcome.agents, &collectors.each_ref().map(|collector| &collector.log)).unwrap();
    let summary = road.end();
    assert!(others_served.delivered > outcome.sent / 3, "the other two went on: {}", others_served.delivered);
    assert_eq!(summary.totals.possible_duplicates, 0, "late is not dead: {verdict:?}");
    assert_once_each(&verdict);
}

/// Little on the wire is much in memory once it is decompressed.
#[test]
fn compressed_messages_against_a_stall_are_not_decompressed_before_there_is_memory_for_them() {
    const CALLS: usize = 24;
    const MESSAGES: usize = 6;
    let scratch = Scratch::new("stall-compressed");
    let collectors = [collector(stalled())];
    let mut gateway = GatewayProcess::start(scratch.path(), &[collectors[0].address()], "limits: { memory: 16MiB }\n");
    let to = gateway.agents;
    let callers = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let body = vec![b'x'; 1 << 20];
        let zip = |call: usize, number: usize| {
            framed_gzip(&say(&[(2, format!("zip{call}-{number}").as_bytes()), (5, &body)]))
        };
        runtime.block_on(futures_util::future::join_all((0..CALLS).map(|number| async move {
            let all: Vec<u8> = (0..MESSAGES).flat_map(|message| zip(number, message)).collect();
            let caller = Caller::connect(to).await;
            let mut call = caller.open_with(Traffic::Trace.path(), &[("grpc-encoding", "gzip")]).await;
            call.send(all.into()).await;
            call.half_close();
            call.answer().await.code()
        })))
    });
    // A message is decompressed once there is room for the largest it may become, so the last quarter stays free.
    let is_full = || gateway.snapshot().budget.used_bytes >= (MEMORY / 3) as u64;
    eventually("the budget is filled", Duration::from_secs(60), is_full);
    std::thread::sleep(Duration::from_millis(500));
    gateway.assert_books_balance();
    collectors[0].set_behaviour(Behaviour::default());
    assert_eq!(callers.join().unwrap(), [Code::Ok; CALLS]);
    eventually("everything is delivered", Duration::from_secs(30), || gateway.snapshot().held == 0);
    let peak = gateway.process.peak_memory();
    assert_eq!(collectors[0].counts().ids.unique, (CALLS * MESSAGES) as u64);
    println!("stall-compressed: {} MiB at most; {}", peak >> 20, gateway.end(Duration::from_secs(5)));
    assert!(peak <= ALLOWED, "{} MiB resident, {} MiB allowed", peak >> 20, ALLOWED >> 20);
}
