//! Messages of a call that a backend answers for itself: held while it is open, then delivered or lost together.

use std::rc::Rc;

use crate::message::receipt::{Receipt, Ticket};
use crate::metrics::{self, LostReason};
use crate::pool::backend::Backend;

use super::held::Held;
use super::register::Entry;
use super::worker::{Closing, Worker};

/// What one call brought and what became of it.
pub(super) struct Counts {
    pub worker: Rc<Worker>,
    /// Ends the call.
    pub closing: Rc<Closing>,
    receipt: Receipt,
    held: Held,
    bytes: usize,
    received: Rc<metrics::Received>,
    entry: Entry,
}

impl Counts {
    pub fn open(worker: Rc<Worker>, closing: Rc<Closing>, received: Rc<metrics::Received>, entry: Entry) -> Self {
        let (receipt, held) = (Receipt::open(&worker.books), Held::new(&worker));
        Self { receipt, held, bytes: 0, received, entry, worker, closing }
    }

    pub fn add(&mut self, messages: u32, bytes: usize) {
        self.bytes += bytes;
        self.received.count(u64::from(messages), bytes as u64);
        self.entry.received(u64::from(messages), bytes as u64);
        if messages == 0 {
            return;
        }
        self.held.add(self.receipt.issue(messages));
    }

    /// The call is said again though a backend may have acted on it.
    pub fn sent_again(&self) {
        self.worker.books.sent_again(u64::from(self.held.messages()));
    }

    /// Bytes that came so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The listener the call came to.
    pub fn listener(&self) -> &'static str {
        self.entry.listener()
    }

    /// The call is over: delivered to one backend, or lost.
    pub fn close(&mut self, delivered_to: Option<&Backend>) {
        match delivered_to {
            Some(backend) => {
                backend.relayed(u64::from(self.held.messages()), self.bytes as u64);
                self.settle();
            }
            None => self.lose(LostReason::Relay),
        }
    }

    /// All of it was answered for.
    pub fn settle(&mut self) {
        self.held.take_all().into_iter().for_each(Ticket::settle);
    }

    /// All of it is given up.
    pub fn lose(&mut self, reason: LostReason) {
        self.held.take_all().into_iter().for_each(|ticket| ticket.lose(reason));
    }
}

/// A call that is torn down in the middle loses nothing silently.
impl Drop for Counts {
    fn drop(&mut self) {
        self.lose(LostReason::Relay);
    }
}
