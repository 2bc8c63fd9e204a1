//! Who stands where: the facts choices are made from, put together when the list changes and every tick, so that a choice
//! reads no clock and counts nothing that stands still.
//!
//! **Tiers.** One tier serves at a time: the first whose usable part of its weight is not below `fail_over_below`, or,
//! where there is none, the first with anything usable. What none of its backends can take goes to the next.
//!
//! **Handing over.** A backend that was added or came back may not yet own what must not move needlessly (keys of
//! receivers that keep state, the first place of `pick_first`, its tier's right to serve): first it has to be up for the
//! window `hand_over`. So a key moves to it once, and not at all if it goes again meanwhile. Where the pool itself is
//! new, there is nothing to take over: backends that came up within one window of the oldest own at once. A backend that
//! dies loses its keys at once. All this is a function of when backends came up and of now, so replicas that see the same
//! differ for no longer than they see it apart; outside of windows they agree on every key. Downside: while the window of
//! one backend runs, a key of another that dies may go to a third first and to the new one after the window.

use std::cmp::Reverse;
use std::time::Duration;

use tokio::time::Instant;

use super::draw::Urn;
use super::rendezvous::{Want, hash_of_name};
use crate::pool::found::Found;
use crate::pool::health::RAMP_TO;
use crate::pool::{Policy, Settings};

/// What is known of one backend at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// As its source describes it.
    pub found: &'a Found,
    /// See [`hash_of_name`].
    pub name_hash: u64,
    /// Whether it may be sent new messages.
    pub is_up: bool,
    /// Since when it has been up without a break.
    pub up_since: Instant,
    /// The part of its weight that counts while it starts slowly, in thousandths.
    pub ramp: u32,
}

/// The backends of a pool as they stand; positions are those of the list it was made of.
#[derive(Debug, Clone)]
pub struct Roster {
    members: Vec<Member>,
    pub(super) policy: Policy,
    /// How much more than its fair share a backend may be given of keys that may move, in percent of that share.
    pub(super) hash_bound: Option<u32>,
    /// Bytes that may wait for a backend of our zone before others are asked.
    pub(super) zone_spill: u64,
    /// The tier that serves.
    tier: u32,
    /// Whether all weigh the same: then draws alone decide who owns a key.
    are_alike: bool,
    /// Whether moreover nobody is new or in another tier: then draws alone decide, whatever is asked.
    is_level: bool,
    /// Who of the serving tier is up.
    pub(super) serving: Urn,
    /// Those of them in our zone; empty when that does not count.
    pub(super) near: Urn,
}

/// One backend's place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub name_hash: u64,
    pub weight: u32,
    /// The weight while it starts slowly, in thousandths.
    pub ramped: u64,
    pub tier: u32,
    pub is_up: bool,
    /// Whether it may own what must not move needlessly.
    pub may_own: bool,
    /// Its place by tier and name.
    place: usize,
}

/// How far from serving a backend is; the least comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    Serving,
    /// In the tier that serves, but new.
    New,
    /// In another tier.
    Tier(u32),
}

// === impl Standing ===

impl<'a> Standing<'a> {
    /// A backend that is up and whole.
    pub fn at_rest(found: &'a Found, up_since: Instant) -> Self {
        Self { name_hash: hash_of_name(&found.name), found, is_up: true, up_since, ramp: RAMP_TO }
    }
}

// === impl Roster ===

impl Roster {
    /// The backends of a pool with these settings as they stand now.
    pub fn new(settings: &Settings, standings: &[Standing<'_>], now: Instant) -> Self {
        let owners = owners(standings, settings.hand_over, now);
        let mut members: Vec<Member> =
            standings.iter().zip(owners).map(|(standing, owns)| Member::of(standing, owns)).collect();
        let mut places: Vec<usize> = (0..members.len()).collect();
        places.sort_by_key(|at| (standings[*at].found.priority, &standings[*at].found.name));
        places.iter().enumerate().for_each(|(place, at)| members[*at].place = place);
        let tier = serving_tier(standings, &members, settings.fail_over_below);
        let serves = |at: &usize| members[*at].tier == tier && members[*at].is_up;
        let is_near = |at: &usize| settings.zone.is_some() && standings[*at].found.zone == settings.zone;
        let weighted = |at: usize| (at, members[at].ramped);
        let near = match settings.zone_spill {
            Some(_) => Urn::of((0..members.len()).filter(serves).filter(is_near).map(weighted)),
            None => Urn::default(),
        };
        let are_alike = members.windows(2).all(|two| two[0].weight == two[1].weight);
        Self {
            serving: Urn::of((0..members.len()).filter(serves).map(weighted)),
            near,
            policy: settings.balance,
            hash_bound: settings.hash_bound,
            zone_spill: settings.zone_spill.map_or(u64::MAX, |bytes| bytes as u64),
            tier,
            is_level: are_alike
                && settings.balance != Policy::PickFirst
                && members.iter().all(|at| at.tier == tier && at.may_own),
            are_alike,
            members,
        }
    }

    /// The backends as they stand when nothing has happened yet: all up, none of them new.
    pub fn at_rest(settings: &Settings) -> Self {
        let now = Instant::now();
        let standings: Vec<Standing<'_>> =
            settings.backends.iter().map(|found| Standing::at_rest(found, now)).collect();
        Self::new(settings, &standings, now)
    }

    /// How many backends there are, usable or not.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// The tier that serves; 0 is the first.
    pub fn tier(&self) -> u32 {
        self.tier
    }

    /// Who of these owns a key that must not move needlessly. Every replica that sees the same backends up, none of them
    /// new, finds the same.
    pub fn owner(&self, key: u64, of: impl Iterator<Item = usize>) -> Option<usize> {
        self.best(key, of, |at| self.distance(at))
    }

    /// Who of these owns a key that may move: new backends do at once.
    pub(super) fn owner_now(&self, key: u64, of: impl Iterator<Item = usize>) -> Option<usize> {
        self.best(key, of, |at| match self.distance(at) {
            Distance::New if self.policy != Policy::PickFirst => Distance::Serving,
            distance => distance,
        })
    }

    /// All backends in the order in which a key that must not move wants them.
    pub fn in_order(&self, key: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.count()).collect();
        order.sort_by_key(|at| (self.distance(*at), Reverse(self.want(key, *at))));
        order
    }

    /// All backends by tier, those of our zone first where that counts; where nothing else tells, as they are listed, or
    /// by name where the first one gets everything.
    pub fn in_tiers(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.count()).collect();
        order.sort_by_key(|at| match self.policy {
            Policy::PickFirst => (self.distance(*at), false, self.members[*at].place),
            _ => (self.distance(*at), !self.is_near(*at), *at),
        });
        order
    }

    /// Who is asked first for what may go anywhere.
    pub fn asked_first(&self) -> impl Iterator<Item = usize> + '_ {
        if self.near.is_empty() { self.serving.positions() } else { self.near.positions() }
    }

    /// What a backend weighs now, in thousandths: less while it starts slowly.
    pub fn weight_now(&self, at: usize) -> u64 {
        self.members[at].ramped
    }

    /// Whether it is in the zone of this gateway, and that counts.
    pub fn is_near(&self, at: usize) -> bool {
        self.near.positions().any(|near| near == at)
    }

    pub(super) fn member(&self, at: usize) -> &Member {
        &self.members[at]
    }

    /// Where the backend of this name is.
    pub(super) fn find(&self, name_hash: u64) -> Option<usize> {
        self.members.iter().position(|member| member.name_hash == name_hash)
    }

    /// Whether it is up and in the tier that serves.
    pub(super) fn is_serving(&self, at: usize) -> bool {
        self.members[at].is_up && self.members[at].tier == self.tier
    }

    /// The nearest of these, by tier.
    pub(super) fn nearest(&self, of: impl Iterator<Item = usize>) -> Option<usize> {
        of.min_by_key(|at| self.distance(*at))
    }

    fn best(&self, key: u64, of: impl Iterator<Item = usize>, distance: impl Fn(usize) -> Distance) -> Option<usize> {
        if self.is_level {
            return of.max_by_key(|at| Want::alike(key, self.members[*at].name_hash));
        }
        let mut best: Option<(Distance, Want, usize)> = None;
        for at in of {
            let distance = distance(at);
            // What is farther away need not be asked how much it wants the key.
            if best.as_ref().is_some_and(|(nearer, ..)| *nearer < distance) {
                continue;
            }
            let want = self.want(key, at);
            if best.as_ref().is_none_or(|(nearest, most, _)| (distance, Reverse(want)) < (*nearest, Reverse(*most))) {
                best = Some((distance, want, at));
            }
        }
        best.map(|(.., at)| at)
    }

    fn want(&self, key: u64, at: usize) -> Want {
        let member = &self.members[at];
        match self.policy {
            Policy::PickFirst => Want::in_order(member.place),
            _ if self.are_alike => Want::alike(key, member.name_hash),
            _ => Want::weighted(key, member.name_hash, member.weight),
        }
    }

    fn distance(&self, at: usize) -> Distance {
        let member = &self.members[at];
        match (member.tier == self.tier, member.may_own) {
            (true, true) => Distance::Serving,
            (true, false) => Distance::New,
            (false, _) => Distance::Tier(member.tier),
        }
    }
}

// === impl Member ===

impl Member {
    fn of(standing: &Standing<'_>, may_own: bool) -> Self {
        let weight = standing.found.weight.max(1);
        Self {
            name_hash: standing.name_hash,
            weight,
            ramped: u64::from(weight) * u64::from(standing.ramp.clamp(1, RAMP_TO)),
            tier: standing.found.priority,
            is_up: standing.is_up,
            may_own,
            place: 0,
        }
    }
}

/// Of each backend, whether it may own what must not move needlessly: it has been up for the window, or came up within
/// one window of the oldest that is up.
fn owners(standings: &[Standing<'_>], window: Duration, now: Instant) -> Vec<bool> {
    let oldest = standings.iter().filter(|standing| standing.is_up).map(|standing| standing.up_since).min();
    let owns = |standing: &Standing<'_>| {
        let lasts = now.saturating_duration_since(standing.up_since) >= window;
        lasts || oldest.is_some_and(|oldest| standing.up_since.saturating_duration_since(oldest) < window)
    };
    standings.iter().map(|standing| standing.is_up && (window.is_zero() || owns(standing))).collect()
}

/// The tier that serves. Whether one does is decided without those that are new, so that it fails back once they last;
/// what is going away for good is not missed.
fn serving_tier(standings: &[Standing<'_>], members: &[Member], fail_over_below: u32) -> u32 {
    let mut tiers: Vec<u32> = members.iter().map(|member| member.tier).collect();
    tiers.sort_unstable();
    tiers.dedup();
    let weight = |tier: u32, counts: &dyn Fn(usize) -> bool| {
        let of_tier = (0..members.len()).filter(|at| members[*at].tier == tier && counts(*at));
        of_tier.map(|at| u64::from(members[at].weight)).sum::<u64>()
    };
    let usable = |tier: u32| weight(tier, &|at| members[at].may_own);
    let is_sound = |tier: &u32| {
        let whole = weight(*tier, &|at| !standings[at].found.is_leaving);
        usable(*tier) > 0 && usable(*tier) * 100 >= whole * u64::from(fail_over_below)
    };
    let has_any = |tier: &u32| usable(*tier) > 0;
    let is_up = |tier: &u32| weight(*tier, &|at| members[at].is_up) > 0;
    let mut candidates =
        [tiers.iter().find(|tier| is_sound(tier)), tiers.iter().find(|tier| has_any(tier))].into_iter();
    let serving = candidates.find_map(|tier| tier).or_else(|| tiers.iter().find(|tier| is_up(tier)));
    serving.or(tiers.first()).copied().unwrap_or(0)
}
