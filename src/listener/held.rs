//! Messages that a call holds itself: counted in the books, not yet handed to a pool.

use std::rc::Rc;

use crate::message::receipt::Ticket;

use super::worker::Worker;

/// The ticket for them, and their place in the worker's own count.
pub struct Held {
    worker: Rc<Worker>,
    ticket: Option<Ticket>,
}

// === impl Held ===

impl Held {
    /// Nothing yet.
    pub fn new(worker: &Rc<Worker>) -> Self {
        Self { worker: Rc::clone(worker), ticket: None }
    }

    /// Holds these, too.
    pub fn add(&mut self, ticket: Ticket) {
        let held = &self.worker.held_by_calls;
        held.set(held.get() + u64::from(ticket.messages()));
        match &mut self.ticket {
            Some(all) => all.merge(ticket),
            None => self.ticket = Some(ticket),
        }
    }

    /// The ticket for `messages` of them, which are held no longer.
    ///
    /// # Panics
    /// When nothing is held.
    pub fn take(&mut self, messages: u32) -> Ticket {
        let ticket = self.ticket.as_mut().expect("only what is held is taken").split(messages);
        let held = &self.worker.held_by_calls;
        held.set(held.get() - u64::from(ticket.messages()));
        ticket
    }

    /// The ticket for all of them, which are held no longer; `None` when there are none.
    pub fn take_all(&mut self) -> Option<Ticket> {
        let messages = self.messages();
        (messages > 0).then(|| self.take(messages))
    }

    /// How many.
    pub fn messages(&self) -> u32 {
        self.ticket.as_ref().map_or(0, Ticket::messages)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let held = &self.worker.held_by_calls;
        held.set(held.get() - u64::from(self.messages()));
    }
}
