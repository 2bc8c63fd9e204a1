//! Who of a pool's backends gets the next parcel: pure functions of what is known now.
//!
//! A parcel that is tied to a backend by a key goes by rendezvous (`rendezvous`), one that is not by the pool's policy.
//! Both choose among the backends that may take it, as the [`Roster`] has them stand: by tier, by zone, new or not.

pub mod affinity;
mod draw;
mod rendezvous;
pub mod roster;
#[cfg(test)]
mod tests;

use std::cell::Cell;

use super::Policy;
use crate::message::tie::Tie;

use draw::Urn;
pub use rendezvous::hash_of_name;
use roster::Roster;

/// What a choice is made from.
pub trait Candidates {
    /// How the backends stand.
    fn roster(&self) -> &Roster;
    /// Whether this one may take a parcel now.
    fn is_usable(&self, at: usize) -> bool;
    /// The bytes that speak against it.
    fn load(&self, at: usize) -> u64;
    /// The bytes that wait for it.
    fn waiting(&self, at: usize) -> u64;
    /// The bytes it was given in about the last second.
    fn given(&self, at: usize) -> u64;
    /// What it was given in turn, in [`TURN`]s for its weight.
    fn turns(&self, at: usize) -> &Cell<u64>;
}

/// One message for a weight of one in [`Candidates::turns`]: so large that the share of the heaviest is no fraction.
pub const TURN: u64 = 1 << 32;

/// Bytes that a backend may be given in a second by one worker without being asked whether that is more than its share:
/// so little is nobody's burden, and of few messages one always has more than its share.
const UNBOUNDED_BYTES: u64 = 1 << 20;

/// The backend for a parcel of so many messages, or `None` when none may take one. `draw` gives a random number below its
/// argument.
pub fn choose(
    tie: Option<Tie>,
    messages: u32,
    candidates: &impl Candidates,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<usize> {
    match (tie, candidates.roster().policy) {
        // Whatever the key: the first one gets everything.
        (_, Policy::PickFirst) => candidates.roster().owner(0, usable(candidates)),
        (Some(Tie::Sticky(key)), _) => candidates.roster().owner(key, usable(candidates)),
        (Some(Tie::Hashed(key)), _) => within_bound(key, candidates),
        (Some(Tie::Affine(_)) | None, _) => untied(messages, candidates, &mut draw),
    }
}

/// The backend for a parcel that may go anywhere: near ones first, unless bytes wait for them already.
fn untied(messages: u32, candidates: &impl Candidates, draw: &mut impl FnMut(usize) -> usize) -> Option<usize> {
    let roster = candidates.roster();
    let near = among(&roster.near, candidates, draw).filter(|at| candidates.waiting(*at) <= roster.zone_spill);
    let chosen = near
        .or_else(|| among(&roster.serving, candidates, draw))
        // Nobody of the tier that serves may take it: the next tier does.
        .or_else(|| roster.nearest(usable(candidates)))?;
    if roster.policy == Policy::RoundRobin {
        take_turn(chosen, messages, candidates);
    }
    Some(chosen)
}

/// One of these, by the policy.
fn among(urn: &Urn, candidates: &impl Candidates, draw: &mut impl FnMut(usize) -> usize) -> Option<usize> {
    let roster = candidates.roster();
    let is_usable = |at: usize| candidates.is_usable(at);
    match roster.policy {
        // Whoever was given the fewest messages for its weight.
        Policy::RoundRobin => urn.positions().filter(|at| is_usable(*at)).min_by_key(|at| candidates.turns(*at).get()),
        Policy::Weighted => urn.one(&is_usable, draw),
        // Drawing two and not all keeps workers that decide at the same moment from rushing at the same backend.
        Policy::LeastLoad | Policy::Hash | Policy::PickFirst => {
            let (one, other) = urn.two(&is_usable, draw)?;
            // Load for weight, without a division.
            let load =
                |at: usize, against: usize| u128::from(candidates.load(at)) * u128::from(roster.member(against).ramped);
            Some(if one != other && load(other, one) < load(one, other) { other } else { one })
        }
    }
}

/// Counts a turn in messages, because parcels differ in size. One that was not usable, or not there, does not get later
/// what it missed.
fn take_turn(chosen: usize, messages: u32, candidates: &impl Candidates) {
    let least = candidates.turns(chosen).get();
    for at in 0..candidates.roster().count() {
        let turns = candidates.turns(at);
        // Counted from the one that had least, so that the numbers never grow.
        turns.set(turns.get().saturating_sub(least));
    }
    let weight = candidates.roster().member(chosen).ramped.max(1);
    candidates.turns(chosen).set(u64::from(messages) * TURN / weight);
}

/// The owner of a key that may move, or, where that has been given too much, the next that wants it and has not.
fn within_bound(key: u64, candidates: &impl Candidates) -> Option<usize> {
    let roster = candidates.roster();
    let owner = roster.owner_now(key, usable(candidates))?;
    let Some(percent) = roster.hash_bound.filter(|_| candidates.given(owner) > UNBOUNDED_BYTES) else {
        return Some(owner);
    };
    let tier = roster.member(owner).tier;
    let peers = || usable(candidates).filter(|at| roster.member(*at).tier == tier);
    let (given, weight) = peers().fold((0u128, 0u128), |(given, weight), at| {
        (given + u128::from(candidates.given(at)), weight + u128::from(roster.member(at).weight))
    });
    // given(at) / (total * weight(at) / weights) > percent / 100
    let has_too_much = |at: usize| {
        let fair = given * u128::from(roster.member(at).weight) * u128::from(percent);
        candidates.given(at) > UNBOUNDED_BYTES && u128::from(candidates.given(at)) * weight * 100 > fair
    };
    if !has_too_much(owner) {
        return Some(owner);
    }
    roster.owner_now(key, peers().filter(|at| !has_too_much(*at))).or(Some(owner))
}

/// Who may take a parcel now.
pub(super) fn usable<C: Candidates>(candidates: &C) -> impl Iterator<Item = usize> + '_ {
    (0..candidates.roster().count()).filter(|at| candidates.is_usable(*at))
}
