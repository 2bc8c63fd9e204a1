//! Where keys went before: a bounded memory, so that whoever was served by a backend stays with it.
//!
//! Shared by the workers of a pool, for the connections of one peer may be on any of them. Each shard keeps two halves:
//! what is asked for moves to the young one, and when that is full the old one is dropped. So the last half of the
//! entries is always remembered, and memory never holds more than all of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Candidates;

/// The memory of one pool.
#[derive(Debug)]
pub struct Memory {
    shards: Vec<Mutex<Shard>>,
    /// Entries of one half of one shard.
    half: usize,
    /// Age since its last use at which an entry is forgotten.
    ttl_millis: u64,
    started: Instant,
}

/// A moment as a [`Memory`] counts, in milliseconds since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<u64, Entry>,
    old: HashMap<u64, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The backend, by the hash of its name: positions change.
    name_hash: u64,
    used: Moment,
}

/// Few enough that a small memory still has room in each, many enough that workers seldom wait for each other.
const SHARDS: usize = 16;

// === impl Memory ===

impl Memory {
    /// An empty memory for so many keys, each remembered for `ttl` after its last use.
    pub fn new(entries_max: usize, ttl: Duration) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            half: (entries_max / SHARDS / 2).max(1),
            ttl_millis: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            started: Instant::now(),
        }
    }

    /// What an instant is to this memory. Choices are made with the moment of the last tick: they read no clock.
    pub fn moment(&self, now: Instant) -> Moment {
        Moment(u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX))
    }

    /// The backend that had this key last, by the hash of its name; asking keeps it fresh.
    pub fn recall(&self, key: u64, now: Moment) -> Option<u64> {
        let mut shard = self.shard(key);
        if let Some(entry) = shard.young.get_mut(&key) {
            let is_fresh = self.is_fresh(entry, now);
            entry.used = entry.used.max(now);
            return is_fresh.then_some(entry.name_hash);
        }
        let entry = shard.old.remove(&key).filter(|entry| self.is_fresh(entry, now))?;
        self.put(&mut shard, key, Entry { used: entry.used.max(now), ..entry });
        Some(entry.name_hash)
    }

    /// From now on the key is this backend's.
    pub fn remember(&self, key: u64, name_hash: u64, now: Moment) {
        let mut shard = self.shard(key);
        shard.old.remove(&key);
        self.put(&mut shard, key, Entry { name_hash, used: now });
    }

    /// Keys it holds, forgotten ones among them until their place is needed.
    pub fn len(&self) -> usize {
        let held = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(held).sum()
    }

    /// Whether it holds no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn put(&self, shard: &mut Shard, key: u64, entry: Entry) {
        if shard.young.len() >= self.half && !shard.young.contains_key(&key) {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key, entry);
    }

    fn is_fresh(&self, entry: &Entry, now: Moment) -> bool {
        // Workers' ticks differ a little: an entry may be from what one of them still calls the future.
        now.0.saturating_sub(entry.used.0) < self.ttl_millis
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        // Keys are hashes; the map below hashes them again, with a secret of this process.
        self.shards[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The backend that had the key last, while it serves; else the one that `otherwise` chooses, which has it from now on.
/// Where the one that had it cannot take just this parcel, another gets the parcel and the key stays.
pub(in crate::pool) fn choose(
    memory: &Memory,
    key: u64,
    now: Moment,
    candidates: &impl Candidates,
    otherwise: impl FnOnce() -> Option<usize>,
) -> Option<usize> {
    let roster = candidates.roster();
    let before = memory.recall(key, now).and_then(|name_hash| roster.find(name_hash));
    match before.filter(|at| roster.is_serving(*at)) {
        Some(at) if candidates.is_usable(at) => Some(at),
        Some(_) => otherwise(),
        None => {
            let chosen = otherwise()?;
            memory.remember(key, roster.member(chosen).name_hash, now);
            Some(chosen)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_millis(1_000);

    #[test]
    fn a_key_is_remembered_as_long_as_it_is_used() {
        let memory = Memory::new(64, TTL);
        memory.remember(7, 70, Moment(0));
        for now in (900..9_000).step_by(900) {
            assert_eq!(memory.recall(7, Moment(now)), Some(70));
        }
        assert_eq!(memory.recall(7, Moment(9_899)), None);
        memory.remember(7, 71, Moment(9_900));
        assert_eq!(memory.recall(7, Moment(9_900)), Some(71));
        assert_eq!(memory.recall(8, Moment(9_900)), None);
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_the_last_half_is_never_forgotten(
            keys in prop::collection::vec(0u64..400, 1..600), each in 1usize..12,
        ) {
            let memory = Memory::new(each * 2 * SHARDS, TTL);
            for (at, key) in keys.iter().enumerate() {
                if memory.recall(*key, Moment(0)).is_none() {
                    memory.remember(*key, key + 1_000, Moment(0));
                }
                prop_assert!(memory.len() <= each * 2 * SHARDS);
                // Of one shard, the last `each` different keys are there.
                let mut last = HashSet::new();
                for recent in keys[..=at].iter().rev().filter(|recent| *recent % SHARDS as u64 == key % SHARDS as u64) {
                    if last.len() == each {
                        break;
                    }
                    last.insert(*recent);
                }
                let shard = memory.shard(*key);
                prop_assert!(last.iter().all(|key| shard.young.contains_key(key) || shard.old.contains_key(key)));
            }
        }
    }
}
