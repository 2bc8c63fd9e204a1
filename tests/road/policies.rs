//! Who gets what, on the road: weights, tiers, zones, affinity, and keys that stay where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use http::HeaderName;
use switchyard::config::Plan;
use switchyard::pool::found::Found;
use switchyard::pool::{Affinity, AffinityBy, Endpoint, Policy};
use switchyard::testkit::agents::{Load, Traffic};
use switchyard::testkit::behaviour::Behaviour;
use switchyard::wire::grpc::Code;

use crate::backend::Backend;
use crate::caller::Caller;
use crate::contracts::say;
use crate::ground::{Road, assert_once_each, eventually};

const PATIENCE: Duration = Duration::from_secs(15);
const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const METER_SETS: &str = "/skywalking.v3.MeterReportService/collectBatch";

/// Messages that each collector has got.
fn messages(road: &Road) -> Vec<u64> {
    road.collectors.iter().map(|collector| collector.counts().messages).collect()
}

fn found(address: SocketAddr) -> Found {
    Found::at(Endpoint { host: address.ip().to_string(), port: address.port() })
}

/// Which backends have seen a key, for every key; `key` reads it from a message.
fn owners(backends: &[Backend], key: impl Fn(&[u8]) -> Option<String>) -> BTreeMap<String, BTreeSet<usize>> {
    let mut owners: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (at, backend) in backends.iter().enumerate() {
        for message in backend.seen().iter().flat_map(|seen| &seen.messages) {
            if let Some(key) = key(message) {
                owners.entry(key).or_default().insert(at);
            }
        }
    }
    owners
}

fn text(message: &[u8], number: u32) -> Option<String> {
    let bytes = switchyard::message::field::last_bytes(message, number).ok()??;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn segment(trace: &str, service: &str) -> bytes::Bytes {
    say(&[(1, trace.as_bytes()), (2, b"segment"), (4, service.as_bytes())])
}

/// A meter set of an instance, with a word of ours in a field nobody knows.
fn meter_set(instance: &str, word: &str) -> bytes::Bytes {
    say(&[(1, &say(&[(3, b"shop"), (4, instance.as_bytes()), (15, word.as_bytes())]))])
}

/// The instance of a meter set with this word.
fn instance_of(set: &[u8], word: &str) -> Option<String> {
    let meter = switchyard::message::field::last_bytes(set, 1).ok()??;
    text(meter, 15).filter(|said| said == word).and_then(|_| text(meter, 4))
}

/// Sends messages on one call of a connection of its own.
async fn send(caller: &Caller, path: &str, metadata: &[(&str, &str)], messages: &[bytes::Bytes]) {
    assert_eq!(caller.call(path, metadata, messages).await.code(), Code::Ok);
}

#[test]
fn backends_get_what_they_weigh() {
    for policy in [Policy::LeastLoad, Policy::RoundRobin, Policy::Weighted] {
        let road = Road::to_collectors_with(2, |plan| {
            plan.pools[0].balance = policy;
            plan.pools[0].backends[1].weight = 3;
        });
        let load = Load { connections: 6, rate: 300.0, messages: 1_000, ..road.load() };
        let outcome = load.start().unwrap().wait();
        road.wait_until_delivered(PATIENCE);
        assert_once_each(&road.verdict(&outcome));
        let shares = messages(&road);
        let heavy = shares[1] as f64 / shares.iter().sum::<u64>() as f64;
        assert!((0.70..0.80).contains(&heavy), "{policy:?}: {heavy:.3} of {shares:?}");
        road.end();
    }
}

#[test]
fn a_tier_stands_in_and_gives_back() {
    let mut road = Road::to_collectors_with(3, |plan| {
        plan.pools[0].backends[2].priority = 1;
        plan.pools[0].hand_over = Duration::from_millis(500);
    });
    let running = Load { connections: 4, rate: 100.0, ..road.load() }.start().unwrap();
    eventually("the first tier serves", PATIENCE, || messages(&road)[..2].iter().all(|messages| *messages > 50));
    assert_eq!(messages(&road)[2], 0, "the second stands by");
    road.collectors[0].kill();
    let before = messages(&road)[1];
    eventually("the first tier serves on", PATIENCE, || messages(&road)[1] > before + 50);
    assert_eq!(messages(&road)[2], 0, "one of two is enough");
    road.collectors[1].kill();
    eventually("the second stands in", PATIENCE, || messages(&road)[2] > 50);
    road.collectors[0].restart().unwrap();
    let before = messages(&road)[0];
    eventually("the first has it back", PATIENCE, || messages(&road)[0] > before + 50);
    // What was on its way by then has arrived a second later.
    std::thread::sleep(Duration::from_millis(1_000));
    let stands_by = messages(&road)[2];
    let before = messages(&road)[0];
    eventually("the first serves", PATIENCE, || messages(&road)[0] > before + 100);
    assert_eq!(messages(&road)[2], stands_by, "the second stands by again");
    let outcome = running.stop();
    assert_eq!((outcome.errors.len(), outcome.abandoned), (0, 0), "{outcome:?}");
    road.end();
}

/// A pool of three with affinity.
fn with_affinity(by: AffinityBy, ttl: Duration) -> impl FnOnce(&mut Plan) {
    move |plan: &mut Plan| plan.pools[0].affinity = Some(Affinity { by, ttl, entries_max: 1_000 })
}

fn three() -> (Vec<Backend>, Vec<SocketAddr>) {
    let backends: Vec<Backend> = (0..3).map(|_| Backend::good()).collect();
    let addresses = backends.iter().map(|backend| backend.address).collect();
    (backends, addresses)
}

#[test]
fn a_caller_stays_with_its_backend_whichever_connection_it_comes_on() {
    let (backends, addresses) = three();
    let road = Road::through(Vec::new(), &addresses, with_affinity(AffinityBy::Peer, Duration::from_secs(600)));
    road.block_on(async {
        for turn in 0..5 {
            for host in 1..=12 {
                let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1, host));
                let caller = Caller::connect_from(from, road.agents()).await;
                let trace = format!("trace-{turn}");
                send(&caller, SEGMENTS, &[], &[segment(&trace, &from.to_string())]).await;
            }
        }
    });
    road.wait_until_delivered(PATIENCE);
    let owners = owners(&backends, |message| text(message, 4));
    assert_eq!(owners.len(), 12);
    assert!(owners.values().all(|backends| backends.len() == 1), "{owners:?}");
    assert!(owners.values().flatten().collect::<BTreeSet<_>>().len() > 1, "they are spread: {owners:?}");
    road.end();
}

#[test]
fn a_tenant_stays_with_its_backend_until_it_is_forgotten() {
    let (backends, addresses) = three();
    let tenant = HeaderName::from_static("x-tenant");
    let ttl = Duration::from_millis(600);
    let road = Road::through(Vec::new(), &addresses, with_affinity(AffinityBy::Metadata(tenant), ttl));
    let say = |trace: &str| {
        road.block_on(async {
            let caller = Caller::connect(road.agents()).await;
            send(&caller, SEGMENTS, &[("x-tenant", "acme")], &[segment(trace, "shop")]).await;
        });
    };
    let seen = |trace: &str| owners(&backends, |message| text(message, 1).filter(|text| text.starts_with(trace)));
    (0..20).for_each(|turn| say(&format!("held-{turn}")));
    road.wait_until_delivered(PATIENCE);
    let held: BTreeSet<usize> = seen("held").into_values().flatten().collect();
    assert_eq!(held.len(), 1, "{held:?}");
    let mut turn = 0;
    eventually("it is forgotten and goes elsewhere", Duration::from_secs(60), || {
        std::thread::sleep(ttl * 2);
        turn += 1;
        say(&format!("forgotten-{turn}"));
        road.wait_until_delivered(PATIENCE);
        seen("forgotten").values().any(|backends| !backends.is_subset(&held))
    });
    road.end();
}

#[test]
fn the_own_zone_comes_first_and_spills_when_it_cannot_keep_up() {
    let road = Road::to_collectors_with(3, |plan| {
        let pool = &mut plan.pools[0];
        pool.zone = Some("near".to_owned());
        for (backend, zone) in pool.backends.iter_mut().zip(["near", "far", "far"]) {
            backend.zone = Some(zone.to_owned());
        }
    });
    // Less in all than may wait for it, so that it gets everything however slow it is.
    let few = Load { connections: 4, rate: 200.0, bytes: 2_000, messages: 25, name: "few".to_owned(), ..road.load() };
    assert_eq!(few.start().unwrap().wait().sent, 100);
    road.wait_until_delivered(PATIENCE);
    assert_eq!(messages(&road), [100, 0, 0]);
    let running = Load { connections: 4, rate: 300.0, bytes: 4_000, ..road.load() }.start().unwrap();
    road.collectors[0].set_behaviour(Behaviour { message_delay: Duration::from_millis(50), ..Behaviour::default() });
    eventually("the far ones help", PATIENCE, || messages(&road)[1..].iter().all(|messages| *messages > 50));
    road.collectors[0].set_behaviour(Behaviour::default());
    let outcome = running.stop();
    assert_eq!((outcome.errors.len(), outcome.abandoned), (0, 0), "{outcome:?}");
    road.wait_until_delivered(Duration::from_secs(60));
    road.end();
}

#[test]
fn a_hot_key_is_passed_on_if_it_may_move() {
    for (traffic, bound, may_move) in
        [(Traffic::Log, Some(125), true), (Traffic::Log, None, false), (Traffic::MeterBatch, Some(125), false)]
    {
        let road = Road::to_collectors_with(3, |plan| {
            plan.pools[0].balance = Policy::Hash;
            plan.pools[0].hash_bound = bound;
        });
        // One key, far more than a worker may give one backend in a second without asking.
        let load = Load { traffic, bytes: 8_000, rate: 0.0, messages: 1_500, ..road.load() };
        let outcome = load.start().unwrap().wait();
        assert_eq!((outcome.errors.len(), outcome.answered), (0, 1), "{outcome:?}");
        road.wait_until_delivered(PATIENCE);
        let shares = messages(&road);
        let served = shares.iter().filter(|messages| **messages > 0).count();
        assert_eq!(served > 1, may_move, "{traffic:?} {bound:?}: {shares:?}");
        road.end();
    }
}

#[test]
fn two_gateways_agree_on_every_key_and_hand_over_once() {
    let backends: Vec<Backend> = (0..4).map(|_| Backend::good()).collect();
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let window = Duration::from_secs(3);
    let weighted = |at: usize| Found { weight: 1 + at as u32, ..found(addresses[at]) };
    let gateways: Vec<Road> = (0..2)
        .map(|_| {
            Road::through(Vec::new(), &addresses[..3], |plan| {
                (plan.pools[0].balance, plan.pools[0].hand_over) = (Policy::Hash, window);
            })
        })
        .collect();
    gateways[0].say((0..3).map(weighted).collect());
    gateways[1].say((0..3).rev().map(weighted).collect());
    let instances: Vec<String> = (0..80).map(|number| format!("instance-{number}")).collect();
    let owners_at = |round: &str| -> BTreeMap<String, usize> {
        for road in &gateways {
            road.block_on(async {
                let caller = Caller::connect(road.agents()).await;
                let sets: Vec<_> = instances.iter().map(|instance| meter_set(instance, round)).collect();
                send(&caller, METER_SETS, &[], &sets).await;
            });
            road.wait_until_delivered(PATIENCE);
        }
        let found = owners(&backends, |set| instance_of(set, round));
        assert_eq!(found.len(), instances.len());
        assert!(found.values().all(|owners| owners.len() == 1), "both gateways agree: {found:?}");
        found.into_iter().filter_map(|(instance, owners)| Some((instance, owners.into_iter().next()?))).collect()
    };
    let before = owners_at("before");
    assert_eq!(before.values().collect::<BTreeSet<_>>().len(), 3);
    // Nobody is new any more when the fourth comes.
    std::thread::sleep(window + Duration::from_millis(500));
    let came = Instant::now();
    gateways.iter().for_each(|road| road.say((0..4).map(weighted).collect()));
    let meanwhile = owners_at("meanwhile");
    // A machine so slow that the window was over by then proves nothing here.
    assert!(meanwhile == before || came.elapsed() > window, "nothing moves to what is new");
    std::thread::sleep(window + Duration::from_millis(500));
    let after = owners_at("after");
    let moved: Vec<(&usize, &usize)> = before.values().zip(after.values()).filter(|(old, new)| old != new).collect();
    assert!(moved.iter().all(|(_, new)| **new == 3), "{moved:?}");
    assert!((16..50).contains(&moved.len()), "4 of 10 are its part: {} of 80", moved.len());
    gateways.into_iter().for_each(|road| {
        road.end();
    });
}

#[test]
fn another_policy_breaks_no_stream() {
    let mut road = Road::to_collectors(3);
    let running = Load { connections: 3, rate: 200.0, ..road.load() }.start().unwrap();
    for policy in Policy::ALL.into_iter().cycle().take(11) {
        let before: u64 = messages(&road).iter().sum();
        road.reload(|plan| {
            plan.pools[0].balance = policy;
            with_affinity(AffinityBy::Peer, Duration::from_secs(60))(plan);
        });
        eventually("it goes on", PATIENCE, || messages(&road).iter().sum::<u64>() > before + 60);
    }
    let outcome = running.stop();
    assert_eq!((outcome.errors.len(), outcome.abandoned), (0, 0), "{outcome:?}");
    road.wait_until_delivered(PATIENCE);
    assert_once_each(&road.verdict(&outcome));
    road.end();
}
