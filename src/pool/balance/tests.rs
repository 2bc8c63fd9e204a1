//! What choices promise: shares, owners, who takes over when, and what holds whatever happens.

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
fn replicas_with_shuffled_lists_agree_on_every_key() {
    for weights in [vec![1; 7], vec![1, 2, 3, 4, 5, 6, 7]] {
        let pool = Pool::weighing(Policy::Hash, &weights);
        let mut found: Vec<Found> = pool.backends.iter().map(|backend| backend.found.clone()).collect();
        fastrand::Rng::with_seed(5).shuffle(&mut found);
        let other = Pool::with(Policy::LeastLoad, found);
        for tie in [Tie::Sticky, Tie::Hashed] {
            assert_eq!(pool.owners(tie), other.owners(tie));
        }
    }
}

#[test]
fn owners_of_before_weights_are_owners_still() {
    let pool = Pool::of(Policy::Hash, 5);
    let before = |key: u64| (0..5).max_by_key(|at| mix(key ^ hash_of_name(pool.name(*at)))).unwrap();
    let same = pool.owners(Tie::Sticky).iter().zip(0..).all(|(owner, key)| owner == pool.name(before(mix(key))));
    assert!(same);
}

#[test]
fn the_first_in_order_owns_the_key_and_the_next_inherits_it() {
    let mut pool = Pool::weighing(Policy::Hash, &[1, 3, 1, 2, 5]);
    for key in 0..200 {
        let order = pool.roster.in_order(key);
        assert_eq!(choose(Some(Tie::Sticky(key)), 1, &pool, |_| 0), Some(order[0]));
        pool.backends[order[0]].is_full = true;
        assert_eq!(choose(Some(Tie::Sticky(key)), 1, &pool, |_| 0), Some(order[1]));
        pool.backends[order[0]].is_full = false;
    }
}

#[test]
fn keys_are_shared_out_by_weight() {
    let pool = Pool::weighing(Policy::Hash, &[1, 2, 3, 4]);
    let owners = pool.owners(Tie::Sticky);
    let parts: Vec<f64> = (0..4).map(|at| part_of(&owners, pool.name(at))).collect();
    assert_near(&parts, &[0.1, 0.2, 0.3, 0.4], 0.02);
}

#[test]
fn adding_one_of_n_moves_no_more_than_its_share_and_only_to_it() {
    for count in [1, 2, 4, 9, 30, 299] {
        let mut pool = Pool::of(Policy::Hash, count);
        let before = pool.owners(Tie::Sticky);
        pool.add(named("new:1"));
        pool.at(3_700.0);
        let after = pool.owners(Tie::Sticky);
        let share = 1.0 / (count + 1) as f64;
        let moved = moved(&before, &after);
        assert!(moved <= share + 0.02 && moved >= share * 0.8, "{moved:.4} of {count} + 1");
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || after == "new:1"));
    }
}

#[test]
fn a_tenth_more_weight_moves_about_that_part_and_only_to_it() {
    let mut pool = Pool::weighing(Policy::Hash, &[10, 10, 10, 10]);
    let before = pool.owners(Tie::Sticky);
    pool.change(2, |found| found.weight = 11);
    let after = pool.owners(Tie::Sticky);
    // From 10 of 40 to 11 of 41.
    let moved = moved(&before, &after);
    assert!((moved - (11.0 / 41.0 - 0.25)).abs() < 0.005, "{moved}");
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || after == pool.name(2)));
}

#[test]
fn a_lost_backend_moves_its_own_keys_only_and_at_once() {
    let mut pool = Pool::of(Policy::Hash, 5);
    let before = pool.owners(Tie::Sticky);
    pool.down(2);
    let after = pool.owners(Tie::Sticky);
    assert!(before.iter().zip(&after).all(|(before, after)| (before != after) == (before == pool.name(2))));
}

#[test]
fn sticky_keys_go_to_a_new_backend_once_it_has_lasted_and_others_at_once() {
    let mut pool = Pool::of(Policy::Hash, 4);
    let before = pool.owners(Tie::Sticky);
    pool.add(named("new:1"));
    assert_eq!(pool.owners(Tie::Sticky), before);
    let hashed = pool.owners(Tie::Hashed);
    assert!(part_of(&hashed, "new:1") > 0.15);
    pool.at(3_609.9);
    assert_eq!(pool.owners(Tie::Sticky), before);
    pool.at(3_610.0);
    assert_eq!(pool.owners(Tie::Sticky), hashed);
}

#[test]
fn flapping_within_the_window_moves_nothing() {
    let mut pool = Pool::of(Policy::Hash, 4);
    pool.down(1);
    let without = pool.owners(Tie::Sticky);
    for turn in 0..5 {
        pool.at(3_601.0 + f64::from(turn) * 12.0);
        pool.up(1);
        pool.at(3_610.5 + f64::from(turn) * 12.0);
        assert_eq!(pool.owners(Tie::Sticky), without);
        pool.down(1);
        assert_eq!(pool.owners(Tie::Sticky), without);
    }
}

#[test]
fn no_key_jumps_twice_when_one_backend_dies_and_comes_back() {
    let mut pool = Pool::of(Policy::Hash, 3);
    let mut seen = vec![pool.owners(Tie::Sticky)];
    for step in 1..40 {
        match step {
            10 => pool.down(0),
            15 => pool.up(0),
            _ => pool.at(3_600.0 + f64::from(step)),
        }
        seen.push(pool.owners(Tie::Sticky));
    }
    let jumps = |key: usize| seen.windows(2).filter(|two| two[0][key] != two[1][key]).count();
    let most = (0..KEYS as usize).map(jumps).max();
    // To another at its death, and back.
    assert_eq!((most, moved(&seen[0], &seen[39])), (Some(2), 0.0));
}

#[test]
fn a_pool_that_is_new_itself_hands_nothing_over_later() {
    let mut pool = Pool::of(Policy::Hash, 0);
    pool.at(0.0);
    pool.add(named("a:1"));
    pool.at(4.0);
    pool.add(named("b:1"));
    pool.at(9.0);
    pool.add(named("c:1"));
    let from_the_start = pool.owners(Tie::Sticky);
    assert!(["a:1", "b:1", "c:1"].iter().all(|name| part_of(&from_the_start, name) > 0.3));
    for seconds in [10.0, 14.0, 19.0, 60.0] {
        pool.at(seconds);
        assert_eq!(pool.owners(Tie::Sticky), from_the_start);
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
fn the_first_by_tier_and_name_gets_everything_and_gets_it_back_once_it_lasts() {
    let tiers = [("c:1", 0), ("b:1", 0), ("a:1", 1)];
    let found = tiers.map(|(name, priority)| Found { priority, ..named(name) });
    let mut pool = Pool::with(Policy::PickFirst, found.to_vec());
    let all = |pool: &Pool| {
        let mut to: Vec<String> =
            [Tie::Sticky, Tie::Hashed, Tie::Affine].iter().flat_map(|tie| pool.owners(*tie)).collect();
        to.dedup();
        to
    };
    assert_eq!(all(&pool), ["b:1"]);
    pool.down(1);
    assert_eq!(all(&pool), ["c:1"]);
    pool.down(0);
    assert_eq!(all(&pool), ["a:1"]);
    pool.up(1);
    assert_eq!(all(&pool), ["a:1"], "until it has lasted");
    pool.at(3_611.0);
    assert_eq!(all(&pool), ["b:1"]);
}

#[test]
fn a_tier_stands_by_until_the_one_before_it_has_too_little_left() {
    let found = |at: usize| Found { priority: u32::from(at >= 4), ..named(&at.to_string()) };
    for (fail_over_below, serving_after) in [(0, [0, 0, 0, 1]), (50, [0, 0, 1, 1]), (100, [1, 1, 1, 1])] {
        let mut pool = Pool::with(Policy::LeastLoad, (0..6).map(found).collect());
        pool.settings.fail_over_below = fail_over_below;
        pool.look();
        assert_eq!(pool.roster.tier(), 0);
        for (gone, serving) in serving_after.into_iter().enumerate() {
            pool.down(gone);
            assert_eq!(pool.roster.tier(), serving, "below {fail_over_below}%, without {}", gone + 1);
            let shares = pool.shares(2_000, 9);
            let second: f64 = shares[4..].iter().sum();
            assert_eq!(second, f64::from(serving));
            assert!(pool.owners(Tie::Sticky).iter().all(|owner| (owner.as_str() >= "4") == (serving == 1)));
        }
        // Nobody at all: the first tier is what is left to hope for; somebody: it serves.
        (4..6).for_each(|at| pool.down(at));
        assert_eq!((pool.roster.tier(), choose(None, 1, &pool, |_| 0)), (0, None));
        pool.up(5);
        assert_eq!((pool.roster.tier(), choose(None, 1, &pool, |_| 0)), (1, Some(5)));
    }
}

#[test]
fn a_tier_serves_again_once_it_lasts_and_what_it_cannot_take_goes_on_meanwhile() {
    let found = |at: usize| Found { priority: u32::from(at == 1), ..named(&at.to_string()) };
    let mut pool = Pool::with(Policy::LeastLoad, (0..2).map(found).collect());
    pool.backends[0].is_full = true;
    assert_eq!(choose(None, 1, &pool, |_| 0), Some(1));
    pool.backends[0].is_full = false;
    pool.down(0);
    assert_eq!(pool.roster.tier(), 1);
    pool.up(0);
    assert_eq!(choose(None, 1, &pool, |_| 0), Some(1));
    pool.at(3_610.0);
    assert_eq!(choose(None, 1, &pool, |_| 0), Some(0));
}

#[test]
fn what_leaves_for_good_is_no_loss_to_its_tier() {
    let found = |at: usize| Found { priority: u32::from(at == 2), ..named(&at.to_string()) };
    let mut pool = Pool::with(Policy::LeastLoad, (0..3).map(found).collect());
    pool.settings.fail_over_below = 80;
    pool.change(0, |found| found.is_leaving = true);
    pool.down(0);
    assert_eq!(pool.roster.tier(), 0);
    pool.change(0, |found| found.is_leaving = false);
    assert_eq!(pool.roster.tier(), 1);
}

#[test]
fn what_is_not_tied_stays_in_the_zone_until_bytes_wait_there() {
    for policy in [Policy::LeastLoad, Policy::RoundRobin, Policy::Weighted] {
        let found = |at: usize| Found { zone: Some(["near", "far"][at % 2].to_owned()), ..named(&at.to_string()) };
        let mut pool = Pool::with(policy, (0..4).map(found).collect());
        pool.settings.zone = Some("near".to_owned());
        pool.look();
        assert_near(&pool.shares(4_000, 1), &[0.5, 0.0, 0.5, 0.0], 0.03);
        let owners = pool.owners(Tie::Sticky);
        assert!((0..4).all(|at| part_of(&owners, pool.name(at)) > 0.2), "keys know no zones");
        pool.backends.iter_mut().for_each(|backend| backend.load = 0);
        [0, 2].into_iter().for_each(|at| pool.backends[at].waiting = 1 << 20);
        let shares = pool.shares(4_000, 2);
        assert!(shares[1] > 0.2 && shares[3] > 0.2, "{shares:?}");
        pool.down(0);
        pool.down(2);
        assert_near(&pool.shares(4_000, 3), &[0.0, 0.5, 0.0, 0.5], 0.03);
        pool.settings.zone_spill = None;
        [0, 2].into_iter().for_each(|at| pool.up(at));
        pool.backends.iter_mut().for_each(|backend| backend.load = 0);
        assert_near(&pool.shares(4_000, 4), &[0.25; 4], 0.03);
    }
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
