//! Chooses among one worker's backends: what is known of them now goes to the balancer, its choice comes back.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use crate::message::flow::Flow;
use crate::message::parcel::Parcel;
use crate::message::tie::Tie;
use crate::metrics;

use super::balance::roster::{Roster, Standing};
use super::balance::{self, affinity};
use super::load::Usable;
use super::{Member, Policy, Pool};

/// Bytes the heaviest backend may be ahead of the least loaded one, every [`COOLING`]; others as their weight is.
const AHEAD_MAX: u64 = 64 << 10;

/// What messages ask of a backend beside their ties.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    flow: Flow,
    /// The backends that have refused them, a bit each.
    avoid: u64,
    /// Those that are believed not to serve their method.
    lacking: u64,
}

impl Pool {
    /// What a parcel asks of a backend.
    pub(super) fn wanted(&self, parcel: &Parcel) -> Wanted {
        let lacking = if parcel.subject.stand_in.is_some() { 0 } else { self.lacking(parcel.subject.path) };
        Wanted { flow: parcel.subject.flow, avoid: parcel.refused_by(), lacking }
    }

    /// A backend for messages of a parcel: one that is known to serve their method if there is any, none that has refused
    /// them.
    pub(super) fn choose_for(
        &self,
        wanted: Wanted,
        tie: Option<Tie>,
        bytes: usize,
        messages: u32,
    ) -> Option<Rc<Member>> {
        let Wanted { flow, avoid, lacking } = wanted;
        match lacking {
            0 if tie.is_none() && avoid == 0 && self.goes_by_load() => self.choose_together(flow, bytes, messages),
            0 => self.choose(flow, tie, avoid, messages),
            lacking => {
                self.choose(flow, tie, avoid | lacking, messages).or_else(|| self.choose(flow, tie, avoid, messages))
            }
        }
    }

    /// Whether what may go anywhere goes by load: then a few parcels more or less at one backend do not matter.
    fn goes_by_load(&self) -> bool {
        matches!(self.settings.borrow().balance, Policy::LeastLoad | Policy::Hash)
    }

    /// A backend for messages that may go anywhere: where the last ones went, for a while.
    fn choose_together(&self, flow: Flow, bytes: usize, messages: u32) -> Option<Rc<Member>> {
        let stay = &self.stays[flow.index()];
        let is_usable = |member: &Rc<Member>| self.is_usable(member, 0);
        if let Some(member) = stay.with_the_last(bytes, messages).filter(is_usable) {
            return Some(member);
        }
        let member = self.choose(flow, None, 0, messages)?;
        stay.begin(&member, bytes, messages);
        Some(member)
    }

    /// The backends that are believed not to serve a method.
    pub(super) fn lacking(&self, path: &str) -> u64 {
        let members = self.members.borrow();
        let lacks = members.iter().map(|member| member.backend()).filter(|backend| backend.lacks(path));
        lacks.fold(0, |lacking, backend| lacking | backend.bit())
    }

    pub(super) fn choose(&self, flow: Flow, tie: Option<Tie>, avoid: u64, messages: u32) -> Option<Rc<Member>> {
        let (members, roster) = (self.members.borrow(), self.roster.borrow());
        let usable = Usable { pool: self, members: &members, roster: &roster, avoid, flow };
        let choose = || balance::choose(tie, messages, &usable, |below| fastrand::usize(..below));
        let chosen = match (tie, &*self.memory.borrow()) {
            (Some(Tie::Affine(key)), Some(memory)) => affinity::choose(memory, key, self.moment.get(), &usable, choose),
            _ => choose(),
        };
        chosen.map(|at| Rc::clone(&members[at]))
    }

    /// Whether a backend may take a parcel now.
    pub(super) fn is_usable(&self, member: &Member, avoid: u64) -> bool {
        let (backend, load) = (member.backend(), &member.load);
        avoid & backend.bit() == 0
            && backend.is_up()
            && !load.starved.get()
            && load.held.get() < self.held_bytes_max.get()
            && self.held_messages_max.get().is_none_or(|most| member.held_messages() < most)
    }

    /// Notes how the backends stand now: choices read no clock.
    pub(super) fn look_around(&self) {
        let (now, members, settings) = (Instant::now(), self.members(), self.settings());
        members.iter().for_each(|member| member.backend().grow());
        let found: Vec<_> = members.iter().map(|member| member.backend().found()).collect();
        let standing = |(member, found)| Standing {
            found,
            name_hash: Member::backend(member).name_hash(),
            is_up: member.backend().is_up(),
            up_since: member.backend().up_since(),
            ramp: member.backend().ramp(),
        };
        let standings: Vec<Standing<'_>> =
            members.iter().map(Rc::as_ref).zip(found.iter().map(Arc::as_ref)).map(standing).collect();
        let before = self.roster.replace(Rc::new(Roster::new(&settings, &standings, now)));
        let memory = self.memory.borrow();
        self.moment.set(memory.as_ref().map(|memory| memory.moment(now)).unwrap_or_default());
        // Said once, not by every worker.
        if self.share.number == 0 {
            self.tell(&settings.name, &before, memory.as_deref());
        }
    }

    /// Tells people which tier serves and how much is remembered.
    fn tell(&self, pool: &str, before: &Roster, memory: Option<&affinity::Memory>) {
        let tier = self.roster.borrow().tier();
        if tier != before.tier() && before.count() > 0 {
            tracing::warn!(pool, before = before.tier(), tier, "another tier of backends serves from now on");
        }
        metrics::pool_tier(pool).set(f64::from(tier));
        if let Some(memory) = memory {
            metrics::affinity_entries(pool).set(memory.len() as f64);
        }
    }

    /// Lets what was sent lately count for less. Nobody may be far ahead of the least loaded: a backend that took a
    /// backlog alone would be left alone for seconds, and one that is new would get everything.
    pub(super) fn cool(&self) {
        let (members, roster) = (self.members(), Rc::clone(&self.roster.borrow()));
        members.iter().for_each(|member| member.load.cool());
        let Some(heaviest) = roster.asked_first().map(|at| roster.weight_now(at)).max() else { return };
        for flow in Flow::ALL {
            let recent = |at: usize| &members[at].load.recent[flow.index()];
            let for_weight = |at: usize| recent(at).get() as f64 / roster.weight_now(at) as f64;
            let least = roster.asked_first().map(for_weight).fold(f64::INFINITY, f64::min);
            let most = least + AHEAD_MAX as f64 / heaviest as f64;
            for at in roster.asked_first() {
                recent(at).set(recent(at).get().min((most * roster.weight_now(at) as f64) as u64));
            }
        }
    }
}
