//! Who of a pool's backends gets the next parcel: pure functions of what is known now.

use std::cell::Cell;

use twox_hash::XxHash3_64;

use super::Policy;

/// What a choice is made from.
pub trait Candidates {
    /// How many backends there are, usable or not.
    fn count(&self) -> usize;
    /// Whether this one may take a parcel now.
    fn is_usable(&self, at: usize) -> bool;
    /// The bytes that speak against it.
    fn load(&self, at: usize) -> u64;
    /// A number made from its name, the same on every replica.
    fn name_hash(&self, at: usize) -> u64;
    /// Messages it was given in turn.
    fn given(&self, at: usize) -> &Cell<u64>;
}

/// The backend for a parcel of so many messages, or `None` when none may take one. `draw` gives a random number below its argument.
///
/// A sticky key goes by rendezvous whatever the policy: the usable backend of the highest rank.
pub fn choose(
    policy: Policy,
    key: Option<u64>,
    messages: u32,
    candidates: &impl Candidates,
    draw: impl FnMut(usize) -> usize,
) -> Option<usize> {
    match (key, policy) {
        (Some(key), _) => by_rendezvous(key, candidates),
        (None, Policy::RoundRobin) => in_turn(messages, candidates),
        (None, Policy::LeastLoad | Policy::Hash) => by_load(candidates, draw),
    }
}

/// Whoever was given the fewest messages so far: parcels differ in size, so turns are counted in messages. One that
/// was not usable, or not there, does not get what it missed.
fn in_turn(messages: u32, candidates: &impl Candidates) -> Option<usize> {
    let usable = |at: &usize| candidates.is_usable(*at);
    let given = |at: usize| candidates.given(at).get();
    let chosen = (0..candidates.count()).filter(usable).min_by_key(|at| given(*at))?;
    let least = given(chosen);
    (0..candidates.count()).for_each(|at| candidates.given(at).set(given(at).max(least)));
    candidates.given(chosen).set(least + u64::from(messages));
    Some(chosen)
}

/// The better of two drawn at random. Drawing two and not all keeps workers that decide at the same moment from
/// rushing at the same backend.
fn by_load(candidates: &impl Candidates, mut draw: impl FnMut(usize) -> usize) -> Option<usize> {
    let count = candidates.count();
    let first = next_usable(draw(count.max(1)), candidates)?;
    let second = next_usable((first + 1 + draw(count.max(2) - 1)) % count, candidates)?;
    Some(if candidates.load(second) < candidates.load(first) { second } else { first })
}

/// The usable backend with the highest weight for this key: every replica finds the same, and when one goes only its
/// own keys move.
fn by_rendezvous(key: u64, candidates: &impl Candidates) -> Option<usize> {
    (0..candidates.count()).filter(|at| candidates.is_usable(*at)).max_by_key(|at| rank(key, candidates.name_hash(*at)))
}

/// How much a backend of this name wants this key: it belongs to the one that wants it most.
pub(super) fn rank(key: u64, name_hash: u64) -> u64 {
    mix(key ^ name_hash)
}

/// The backends of these names in the order in which a key wants them, the first one first.
pub fn in_order(key: u64, names: &[&str]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(rank(key, hash_of_name(names[*at]))));
    order
}

/// The number a backend's name stands for; part of what replicas agree on, so it never changes.
pub fn hash_of_name(name: &str) -> u64 {
    XxHash3_64::oneshot(name.as_bytes())
}

/// `start` or the first usable one behind it.
fn next_usable(start: usize, candidates: &impl Candidates) -> Option<usize> {
    let count = candidates.count();
    (0..count).map(|step| (start + step) % count).find(|at| candidates.is_usable(*at))
}

/// The finaliser of SplitMix64: spreads every input bit over the output. Part of the hash that replicas agree on, so
/// it never changes.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Fixed(Vec<(String, bool, u64, Cell<u64>)>);

    impl Fixed {
        fn names(count: usize) -> Self {
            Self((0..count).map(|at| (format!("collector-{at}:11800"), true, 0, Cell::default())).collect())
        }
    }

    impl Candidates for Fixed {
        fn count(&self) -> usize {
            self.0.len()
        }
        fn is_usable(&self, at: usize) -> bool {
            self.0[at].1
        }
        fn load(&self, at: usize) -> u64 {
            self.0[at].2
        }
        fn name_hash(&self, at: usize) -> u64 {
            hash_of_name(&self.0[at].0)
        }
        fn given(&self, at: usize) -> &Cell<u64> {
            &self.0[at].3
        }
    }

    fn owners(candidates: &Fixed, keys: u64) -> Vec<String> {
        let name = |key| candidates.0[by_rendezvous(mix(key), candidates).unwrap()].0.clone();
        (0..keys).map(name).collect()
    }

    proptest! {
        #[test]
        fn what_is_not_usable_is_never_chosen(
            usable in prop::collection::vec(any::<bool>(), 0..6), key in prop::option::of(any::<u64>()), seed in any::<u64>(),
        ) {
            let candidates = Fixed(usable.iter().map(|usable| (String::from("x"), *usable, 0, Cell::default())).collect());
            let mut rng = fastrand::Rng::with_seed(seed);
            for policy in [Policy::LeastLoad, Policy::RoundRobin, Policy::Hash] {
                let chosen = choose(policy, key, 1, &candidates, |below| rng.usize(..below));
                prop_assert_eq!(chosen.is_some(), usable.contains(&true));
                prop_assert!(chosen.is_none_or(|at| usable[at]));
            }
        }
    }

    #[test]
    fn least_load_never_takes_the_most_loaded_of_two() {
        let mut candidates = Fixed::names(2);
        candidates.0[0].2 = 10;
        let mut rng = fastrand::Rng::with_seed(1);
        assert!((0..100).all(|_| by_load(&candidates, |below| rng.usize(..below)) == Some(1)));
    }

    #[test]
    fn replicas_with_shuffled_lists_agree_on_every_key() {
        let candidates = Fixed::names(7);
        let mut shuffled = Fixed::names(7);
        shuffled.0.reverse();
        assert_eq!(owners(&candidates, 10_000), owners(&shuffled, 10_000));
    }

    #[test]
    fn the_first_in_order_owns_the_key_and_the_next_inherits_it() {
        let mut candidates = Fixed::names(5);
        for key in 0..200 {
            let names: Vec<&str> = candidates.0.iter().map(|(name, ..)| name.as_str()).collect();
            let order = in_order(key, &names);
            assert_eq!(by_rendezvous(key, &candidates), Some(order[0]));
            candidates.0[order[0]].1 = false;
            assert_eq!(by_rendezvous(key, &candidates), Some(order[1]));
            candidates.0[order[0]].1 = true;
        }
    }

    #[test]
    fn a_lost_backend_moves_only_its_own_keys_and_a_new_one_takes_its_share() {
        let (before, mut fewer) = (Fixed::names(5), Fixed::names(5));
        fewer.0[2].1 = false;
        let (old, new) = (owners(&before, 10_000), owners(&fewer, 10_000));
        assert!(old.iter().zip(&new).all(|(old, new)| old == new || old == "collector-2:11800"));
        let moved =
            owners(&before, 10_000).iter().zip(owners(&Fixed::names(6), 10_000)).filter(|(a, b)| *a != b).count();
        assert!((1_400..1_940).contains(&moved), "{moved} of 10,000 keys moved to the sixth backend");
    }

    #[test]
    fn round_robin_takes_turns_over_the_usable() {
        let mut candidates = Fixed::names(3);
        candidates.0[1].1 = false;
        let mut taken = [0; 3];
        for _ in 0..300 {
            taken[choose(Policy::RoundRobin, None, 1, &candidates, |_| 0).unwrap()] += 1;
        }
        assert_eq!((taken[0] + taken[2], taken[1]), (300, 0));
    }

    #[test]
    fn turns_are_counted_in_messages_and_nobody_gets_what_it_missed() {
        let mut candidates = Fixed::names(3);
        let mut taken = [0u64; 3];
        let mut rng = fastrand::Rng::with_seed(3);
        let mut give = |candidates: &Fixed, taken: &mut [u64; 3]| {
            let messages = rng.u32(1..=64);
            let at = choose(Policy::RoundRobin, None, messages, candidates, |_| 0).unwrap();
            taken[at] += u64::from(messages);
        };
        (0..300).for_each(|_| give(&candidates, &mut taken));
        assert!(taken.iter().max().unwrap() - taken.iter().min().unwrap() <= 64, "{taken:?}");
        candidates.0[1].1 = false;
        (0..300).for_each(|_| give(&candidates, &mut taken));
        (candidates.0[1].1, taken) = (true, [0; 3]);
        (0..300).for_each(|_| give(&candidates, &mut taken));
        assert!(taken.iter().max().unwrap() - taken.iter().min().unwrap() <= 128, "{taken:?}");
    }
}
