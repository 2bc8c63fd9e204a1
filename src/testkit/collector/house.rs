//! What all connections of one running collector share on its thread.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, MutexGuard};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::{Options, Shared};
use crate::testkit::behaviour::Behaviour;
use crate::testkit::tally::Tally;

pub(super) struct House {
    pub(super) options: Options,
    shared: Arc<Shared>,
    started: Instant,
    /// Calls that began since the start.
    calls: Cell<u64>,
    /// Messages read since the start.
    messages: Cell<u64>,
    connections: Cell<usize>,
    dead: Cell<bool>,
    died: Notify,
    /// Set when connections are to end by GOAWAY.
    leaving: watch::Sender<bool>,
    left: Notify,
}

/// An open connection, as counted by the house.
pub(super) struct Guest(Rc<House>);

impl House {
    pub(super) fn new(options: Options, shared: Arc<Shared>) -> Self {
        Self {
            options,
            shared,
            started: Instant::now(),
            calls: Cell::new(0),
            messages: Cell::new(0),
            connections: Cell::new(0),
            dead: Cell::new(false),
            died: Notify::new(),
            leaving: watch::channel(false).0,
            left: Notify::new(),
        }
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.shared.tally()
    }

    pub(super) fn behaviour(&self) -> watch::Receiver<Behaviour> {
        self.shared.behaviour.subscribe()
    }

    /// The number of a call that begins, from 1.
    pub(super) fn next_call(&self) -> u64 {
        self.calls.set(self.calls.get() + 1);
        self.calls.get()
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages.get()
    }

    pub(super) fn add_messages(&self, messages: u64) {
        self.messages.set(self.messages.get() + messages);
    }

    // --- death ---

    /// Dies: with the whole process, or by ending the accept loop, which drops everything.
    pub(super) fn die(&self) {
        if self.options.exit_on_death {
            std::process::exit(137);
        }
        self.dead.set(true);
        self.died.notify_one();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.get()
    }

    pub(super) async fn death(&self) {
        self.died.notified().await;
    }

    // --- leaving ---

    pub(super) fn enter(self: &Rc<Self>) -> Guest {
        self.connections.set(self.connections.get() + 1);
        self.tally().connections_open += 1;
        Guest(Rc::clone(self))
    }

    /// Resolves when connections are asked to leave.
    pub(super) fn asked_to_leave(&self) -> watch::Receiver<bool> {
        self.leaving.subscribe()
    }

    /// Asks every connection to leave and waits until they have.
    pub(super) async fn leave(&self) {
        self.leaving.send_replace(true);
        while self.connections.get() > 0 {
            self.left.notified().await;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.tally().connections_open -= 1;
        self.0.left.notify_one();
    }
}
