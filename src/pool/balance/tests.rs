//! What choices promise: shares, owners, who takes over when, and what holds whatever happens.

mod owners;
mod tiers;

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::affinity::Memory;
use super::rendezvous::mix;
use super::roster::Standing;
use super::*;
use crate::pool::found::Found;
use crate::pool::{Endpoint, Settings};

const WINDOW: Duration = Duration::from_secs(10);
const KEYS: u64 = 5_000;

/// Backends of a made-up pool; `start` is long ago, so that none is new unless a test says so.
struct Pool {
    settings: Settings,
    backends: Vec<Backend>,
    roster: Roster,
    start: Instant,
    now: Instant,
}

struct Backend {
    found: Found,
    is_up: bool,
    up_since: Instant,
    ramp: u32,
    is_full: bool,
    load: u64,
    waiting: u64,
    given: u64,
    turns: Cell<u64>,
}

fn named(name: &str) -> Found {
    Found { name: name.to_owned(), ..Found::at(Endpoint { host: name.to_owned(), port: 1 }) }
}

impl Pool {
    fn of(policy: Policy, count: usize) -> Self {
        Self::with(policy, (0..count).map(|at| named(&format!("collector-{at}:11800"))).collect())
    }

    fn with(policy: Policy, found: Vec<Found>) -> Self {
        let settings = Settings { balance: policy, hand_over: WINDOW, ..Settings::new("pool", Vec::new()) };
        let start = Instant::now();
        let roster = Roster::new(&settings, &[], start);
        let mut pool = Self { settings, backends: Vec::new(), roster, start, now: start };
        found.into_iter().for_each(|found| pool.add(found));
        pool.at(3_600.0);
        pool
    }

    fn weighing(policy: Policy, weights: &[u32]) -> Self {
        let found = |(at, weight): (usize, &u32)| Found { weight: *weight, ..named(&format!("collector-{at}:11800")) };
        Self::with(policy, weights.iter().enumerate().map(found).collect())
    }

    fn add(&mut self, found: Found) {
        let (load, waiting, given, turns) = Default::default();
        self.backends.push(Backend {
            found,
            is_up: true,
            up_since: self.now,
            ramp: 1_000,
            is_full: false,
            load,
            waiting,
            given,
            turns,
        });
        self.look();
    }

    /// So many seconds after the start.
    fn at(&mut self, seconds: f64) {
        self.now = self.start + Duration::from_secs_f64(seconds);
        self.look();
    }

    fn down(&mut self, at: usize) {
        self.backends[at].is_up = false;
        self.look();
    }

    fn up(&mut self, at: usize) {
        (self.backends[at].is_up, self.backends[at].up_since) = (true, self.now);
        self.look();
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut Found)) {
        change(&mut self.backends[at].found);
        self.look();
    }

    fn look(&mut self) {
        let now = self.now;
        let standings: Vec<Standing<'_>> = self
            .backends
            .iter()
            .map(|backend| Standing {
                is_up: backend.is_up,
                up_since: backend.up_since,
                ramp: backend.ramp,
                ..Standing::at_rest(&backend.found, now)
            })
            .collect();
        self.roster = Roster::new(&self.settings, &standings, self.now);
    }

    fn name(&self, at: usize) -> &str {
        &self.backends[at].found.name
    }

    /// Who owns each of many keys.
    fn owners(&self, tie: fn(u64) -> Tie) -> Vec<String> {
        let owner = |key| choose(Some(tie(mix(key))), 1, self, |_| 0).map(|at| self.name(at).to_owned());
        (0..KEYS).map(|key| owner(key).expect("somebody is usable")).collect()
    }

    /// The part of the messages each gets, if every parcel counts as load.
    fn shares(&mut self, parcels: u64, seed: u64) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut total, mut got) = (0, vec![0u64; self.backends.len()]);
        for _ in 0..parcels {
            let messages = random.u32(1..=64);
            let at = choose(None, messages, self, |below| random.usize(..below)).unwrap();
            self.backends[at].load += u64::from(messages);
            got[at] += u64::from(messages);
            total += u64::from(messages);
        }
        got.iter().map(|got| *got as f64 / total as f64).collect()
    }
}

impl Candidates for Pool {
    fn roster(&self) -> &Roster {
        &self.roster
    }
    fn is_usable(&self, at: usize) -> bool {
        self.backends[at].is_up && !self.backends[at].is_full
    }
    fn load(&self, at: usize) -> u64 {
        self.backends[at].load
    }
    fn waiting(&self, at: usize) -> u64 {
        self.backends[at].waiting
    }
    fn given(&self, at: usize) -> u64 {
        self.backends[at].given
    }
    fn turns(&self, at: usize) -> &Cell<u64> {
        &self.backends[at].turns
    }
}

/// The part of two equally long lists that differs.
fn moved(before: &[String], after: &[String]) -> f64 {
    before.iter().zip(after).filter(|(before, after)| before != after).count() as f64 / before.len() as f64
}

fn part_of(owners: &[String], name: &str) -> f64 {
    owners.iter().filter(|owner| *owner == name).count() as f64 / owners.len() as f64
}

#[track_caller]
fn assert_near(shares: &[f64], expected: &[f64], within: f64) {
    let is_near = shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() <= within);
    assert!(is_near && shares.len() == expected.len(), "{shares:.3?} instead of {expected:?}");
}

proptest! {
    #[test]
    fn what_is_not_usable_is_never_chosen_and_what_is_usable_always_found(
        backends in prop::collection::vec((any::<bool>(), any::<bool>(), 0u32..3, 1u32..5, 0u64..4, prop::option::of(0u8..2)), 0..7),
        key in any::<u64>(), tied in 0u8..4, seed in any::<u64>(), seconds in 3_600.0f64..3_630.0,
    ) {
        for policy in Policy::ALL {
            let mut pool = Pool::of(policy, 0);
            pool.settings.zone = Some("1".to_owned());
            for (nth, (is_up, is_full, tier, weight, load, zone)) in backends.iter().enumerate() {
                let zone = zone.map(|zone| zone.to_string());
                pool.at(3_600.0 + nth as f64 * 5.0);
                pool.add(Found { priority: *tier, weight: *weight, zone, ..named(&nth.to_string()) });
                let backend = &mut pool.backends[nth];
                (backend.is_up, backend.is_full) = (*is_up, *is_full);
                (backend.load, backend.waiting, backend.given) = (*load, *load << 17, *load << 20);
            }
            pool.at(seconds);
            let tie = [None, Some(Tie::Sticky(key)), Some(Tie::Hashed(key)), Some(Tie::Affine(key))][tied as usize];
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..10 {
                let chosen = choose(tie, 3, &pool, |below| random.usize(..below));
                prop_assert_eq!(chosen.is_some(), (0..backends.len()).any(|at| pool.is_usable(at)));
                prop_assert!(chosen.is_none_or(|at| pool.is_usable(at)));
            }
        }
    }

    #[test]
    fn turns_are_exact_to_a_parcel_of_each(
        weights in prop::collection::vec(1u32..=9, 1..6), parcels in prop::collection::vec(1u32..=64, 1..400),
    ) {
        let pool = Pool::weighing(Policy::RoundRobin, &weights);
        let (mut got, mut total) = (vec![0f64; weights.len()], 0f64);
        for messages in parcels {
            got[choose(None, messages, &pool, |_| 0).unwrap()] += f64::from(messages);
            total += f64::from(messages);
        }
        let whole = f64::from(weights.iter().sum::<u32>());
        for (got, weight) in got.iter().zip(&weights) {
            // A parcel of 64 puts the others behind by as much for each of their weights.
            prop_assert!((got - total * f64::from(*weight) / whole).abs() <= 64.0 * (1.0 + f64::from(*weight)), "{got}");
        }
    }
}

#[test]
fn least_load_never_takes_the_more_loaded_of_two() {
    let mut pool = Pool::of(Policy::LeastLoad, 2);
    pool.backends[0].load = 10;
    let mut random = fastrand::Rng::with_seed(1);
    assert!((0..100).all(|_| choose(None, 1, &pool, |below| random.usize(..below)) == Some(1)));
}

#[test]
fn every_policy_that_shares_out_follows_the_weights() {
    for policy in [Policy::LeastLoad, Policy::RoundRobin, Policy::Weighted, Policy::Hash] {
        let shares = Pool::weighing(policy, &[1, 3]).shares(20_000, 3);
        assert_near(&shares, &[0.25, 0.75], 0.02);
        let shares = Pool::weighing(policy, &[1, 1, 1, 1, 1, 1, 1, 13]).shares(20_000, 4);
        assert_near(&shares[7..], &[0.65], 0.03);
    }
}

#[test]
fn one_that_starts_slowly_gets_its_part() {
    for policy in [Policy::LeastLoad, Policy::RoundRobin, Policy::Weighted] {
        let mut pool = Pool::of(policy, 3);
        pool.backends[1].ramp = 100;
        pool.look();
        assert_near(&pool.shares(20_000, 5), &[0.476, 0.048, 0.476], 0.02);
    }
}

#[test]
fn turns_are_counted_in_messages_and_nobody_gets_what_it_missed() {
    let mut pool = Pool::of(Policy::RoundRobin, 3);
    assert_near(&pool.shares(300, 3), &[0.333; 3], 0.01);
    pool.down(1);
    assert_near(&pool.shares(300, 4), &[0.5, 0.0, 0.5], 0.01);
    pool.up(1);
    assert_near(&pool.shares(300, 5), &[0.333; 3], 0.015);
}

#[test]
fn a_backend_with_too_much_passes_on_what_may_move_and_keeps_what_may_not() {
    let mut pool = Pool::of(Policy::Hash, 4);
    let before = pool.owners(Tie::Hashed);
    // Of 12 MiB a fair share is 3; 1.25 of that is 3.75.
    for (given, is_too_much) in [(3, false), (4, true)] {
        pool.backends.iter_mut().for_each(|backend| backend.given = (12 - given) << 20 >> 2);
        pool.backends[0].given = given << 20;
        let rest = (12 - given) << 20;
        (1..4).for_each(|at| pool.backends[at].given = rest / 3);
        let after = pool.owners(Tie::Hashed);
        assert!(
            before
                .iter()
                .zip(&after)
                .all(|(before, after)| (before != after) == (is_too_much && before == pool.name(0)))
        );
        assert_eq!(pool.owners(Tie::Sticky), before);
    }
    pool.settings.hash_bound = None;
    pool.look();
    assert_eq!(pool.owners(Tie::Hashed), before, "off is off");
}

#[test]
fn of_little_nobody_has_too_much() {
    let mut pool = Pool::of(Policy::Hash, 4);
    let before = pool.owners(Tie::Hashed);
    pool.backends[0].given = UNBOUNDED_BYTES;
    assert_eq!(pool.owners(Tie::Hashed), before);
}

#[test]
fn a_key_stays_where_it_was_while_that_serves() {
    let mut pool = Pool::of(Policy::LeastLoad, 3);
    let memory = Memory::new(10_000, Duration::from_secs(60));
    let now = memory.moment(pool.now);
    let mut random = fastrand::Rng::with_seed(6);
    let mut all = |pool: &mut Pool| -> Vec<usize> {
        let mut each = |key: u64| {
            let otherwise = || choose(None, 1, pool, |below| random.usize(..below));
            let at = affinity::choose(&memory, mix(key), now, pool, otherwise).unwrap();
            pool.backends[at].load += 1;
            at
        };
        (0..1_000).map(&mut each).collect()
    };
    let first = all(&mut pool);
    assert!((0..3).all(|at| first.iter().filter(|to| **to == at).count().abs_diff(333) < 40));
    pool.backends[0].load = 1 << 40;
    pool.add(named("better:1"));
    assert_eq!(all(&mut pool), first, "a better one moves nothing");
    pool.backends[1].is_full = true;
    let meanwhile = all(&mut pool);
    assert!(meanwhile.iter().all(|at| *at != 1));
    pool.backends[1].is_full = false;
    assert_eq!(all(&mut pool), first, "one that is full for a moment keeps its keys");
    pool.down(1);
    let after = all(&mut pool);
    assert!(first.iter().zip(&after).all(|(first, after)| (first == after) == (*first != 1)));
    pool.up(1);
    assert_eq!(all(&mut pool), after, "what has moved stays");
}
