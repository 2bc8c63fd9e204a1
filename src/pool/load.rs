//! What speaks against a backend, in bytes, as one worker sees it.

use std::cell::Cell;

use crate::message::parcel::Parcel;

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
    /// Entrusted lately; shrinks by a tenth every tenth of a second, so it is about what the last second brought.
    pub(super) recent: Cell<u64>,
    /// It allows no stream at all and something has waited for one too long.
    pub(super) starved: Cell<bool>,
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
        self.recent.set(self.recent.get() - self.recent.get() / 10);
    }
}
