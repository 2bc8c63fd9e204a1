//! What speaks against a backend, in bytes, as one worker sees it.

use std::cell::Cell;
use std::rc::Rc;

use crate::message::flow::Flow;
use crate::message::parcel::Parcel;

use super::balance::Candidates;
use super::{Member, Pool};

/// What speaks against a backend, in bytes, as one worker sees it. No reply is needed to notice a slow one: its
/// windows close and its trips stay unanswered.
#[derive(Default)]
pub struct Load {
    /// Entrusted to its channels and not settled: the bound.
    pub(super) held: Cell<usize>,
    /// Entrusted and not loaded onto a trip yet.
    pub(super) waiting: Cell<usize>,
    /// The same in messages, for people.
    pub(super) waiting_messages: Cell<u64>,
    /// Entrusted lately, by flow; shrinks by a tenth every tenth of a second, so it is about what the last second
    /// brought. Each flow evens out on its own: a byte of metrics costs a collector something else than a byte of logs,
    /// and rates that people watch should not follow each other's sizes.
    pub(super) recent: [Cell<u64>; Flow::ALL.len()],
    /// It allows no stream at all and something has waited for one too long.
    pub(super) starved: Cell<bool>,
}

/// What a byte that waits counts for in the load, against one that was sent lately: a backend that lets bytes wait is
/// left alone long before it has fallen a second behind.
const WAITING_WEIGHT: u64 = 4;

/// The backends of a moment without those to be avoided.
pub(super) struct Usable<'a> {
    pub pool: &'a Pool,
    pub members: &'a [Rc<Member>],
    pub avoid: u64,
    pub flow: Flow,
}

// === impl Load ===

impl Load {
    /// A parcel has been entrusted and is not on a trip yet.
    pub(super) fn wait(&self, parcel: &Parcel) {
        self.waiting.set(self.waiting.get() + parcel.bytes());
        self.waiting_messages.set(self.waiting_messages.get() + u64::from(parcel.messages()));
    }

    /// A parcel waits no longer.
    pub(super) fn wait_over(&self, parcel: &Parcel) {
        self.waiting.set(self.waiting.get() - parcel.bytes());
        self.waiting_messages.set(self.waiting_messages.get() - u64::from(parcel.messages()));
    }

    pub(super) fn cool(&self) {
        self.recent.iter().for_each(|recent| recent.set(recent.get() - recent.get() / 10));
    }
}

// === impl Usable ===

impl Candidates for Usable<'_> {
    fn count(&self) -> usize {
        self.members.len()
    }

    fn is_usable(&self, at: usize) -> bool {
        self.pool.is_usable(&self.members[at], self.avoid)
    }

    fn load(&self, at: usize) -> u64 {
        let member = &self.members[at];
        let held_up = member.load.waiting.get() + member.blocked_bytes();
        held_up as u64 * WAITING_WEIGHT + member.load.recent[self.flow.index()].get()
    }

    fn name_hash(&self, at: usize) -> u64 {
        self.members[at].backend().name_hash()
    }

    fn given(&self, at: usize) -> &Cell<u64> {
        &self.members[at].given
    }
}
