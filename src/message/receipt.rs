//! Who answers for a message: its call holds the receipt, its parcel the ticket, its worker the books.
//!
//! The books keep the conservation law `received = delivered + held + lost{reason}` by construction: a ticket moves
//! its messages from held to exactly one of the other two, and a ticket dropped unsettled counts as lost.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::metrics::{self, LostReason};

/// What one worker received and what became of it. Lives on its worker's thread.
pub struct Books {
    received: Cell<u64>,
    delivered: Cell<u64>,
    held: Cell<u64>,
    lost: [Cell<u64>; LostReason::ALL.len()],
    possible_duplicates: Cell<u64>,
    /// The drain deadline has passed: what is dropped now is lost to that, not to a defect.
    is_shutting_down: Cell<bool>,
    totals: metrics::Totals,
    /// Whether these are the books of copies, which are given up rather than sent again.
    is_of_copies: bool,
}

/// A copy of the books at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that were complete in the gateway.
    pub received: u64,
    /// Messages a backend answered for.
    pub delivered: u64,
    /// Messages queued or in flight.
    pub held: u64,
    /// Messages given up, by [`LostReason::index`].
    pub lost: [u64; LostReason::ALL.len()],
    /// Messages sent again though a backend may have had them.
    pub possible_duplicates: u64,
}

/// Held by a call: knows when every ticket it issued is settled.
#[derive(Clone)]
pub struct Receipt {
    call: Rc<Outstanding>,
}

/// Held by a parcel: settles its messages exactly once.
pub struct Ticket {
    call: Rc<Outstanding>,
    messages: u32,
}

struct Outstanding {
    books: Rc<Books>,
    unsettled: Cell<u64>,
    lost: Cell<u64>,
    /// The call, while it waits for its last ticket.
    waker: RefCell<Option<Waker>>,
}

// === impl Books ===

impl Books {
    /// Empty books.
    pub fn new() -> Rc<Self> {
        Self::with(metrics::Totals::resolve(), false)
    }

    /// Empty books for copies of messages: they are no part of the conservation law.
    pub fn of_copies() -> Rc<Self> {
        Self::with(metrics::Totals::of_copies(), true)
    }

    fn with(totals: metrics::Totals, is_of_copies: bool) -> Rc<Self> {
        Rc::new(Self {
            received: Cell::default(),
            delivered: Cell::default(),
            held: Cell::default(),
            lost: Default::default(),
            possible_duplicates: Cell::default(),
            is_shutting_down: Cell::default(),
            totals,
            is_of_copies,
        })
    }

    /// The figures now.
    pub fn totals(&self) -> Totals {
        Totals {
            received: self.received.get(),
            delivered: self.delivered.get(),
            held: self.held.get(),
            lost: std::array::from_fn(|reason| self.lost[reason].get()),
            possible_duplicates: self.possible_duplicates.get(),
        }
    }

    /// The figures when nothing more will be delivered: what is held is lost to the shutdown.
    pub fn at_end(&self) -> Totals {
        let mut totals = self.totals();
        totals.lost[LostReason::Shutdown.index()] += std::mem::take(&mut totals.held);
        totals
    }

    /// Notes that messages of unknown outcome are sent again.
    pub fn sent_again(&self, messages: u64) {
        self.possible_duplicates.set(self.possible_duplicates.get() + messages);
        self.totals.possible_duplicates.increment(messages);
    }

    /// The drain deadline has passed: tickets dropped from now on are lost to the shutdown.
    pub fn shut_down(&self) {
        self.is_shutting_down.set(true);
    }

    fn receive(&self, messages: u64) {
        self.received.set(self.received.get() + messages);
        self.held.set(self.held.get() + messages);
        self.totals.held.rise(messages);
    }

    fn deliver(&self, messages: u64) {
        self.held.set(self.held.get() - messages);
        self.delivered.set(self.delivered.get() + messages);
        self.totals.held.fall(messages);
        self.totals.delivered.add(messages);
    }

    fn lose(&self, messages: u64, reason: LostReason) {
        let lost = &self.lost[reason.index()];
        self.held.set(self.held.get() - messages);
        lost.set(lost.get() + messages);
        self.totals.held.fall(messages);
        self.totals.lost(reason).increment(messages);
    }
}

// === impl Totals ===

impl Totals {
    /// Messages lost for whatever reason.
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// Whether no message is unaccounted for.
    pub fn is_conserved(&self) -> bool {
        self.received == self.delivered + self.held + self.lost_total()
    }
}

impl std::ops::Add for Totals {
    type Output = Totals;

    fn add(self, other: Totals) -> Totals {
        Totals {
            received: self.received + other.received,
            delivered: self.delivered + other.delivered,
            held: self.held + other.held,
            lost: std::array::from_fn(|reason| self.lost[reason] + other.lost[reason]),
            possible_duplicates: self.possible_duplicates + other.possible_duplicates,
        }
    }
}

// === impl Receipt ===

impl Receipt {
    /// The receipt of a new call.
    pub fn open(books: &Rc<Books>) -> Self {
        Self {
            call: Rc::new(Outstanding {
                books: Rc::clone(books),
                unsettled: Cell::new(0),
                lost: Cell::new(0),
                waker: RefCell::new(None),
            }),
        }
    }

    /// Takes `messages` into the books and issues the ticket that answers for them.
    pub fn issue(&self, messages: u32) -> Ticket {
        self.call.books.receive(u64::from(messages));
        self.call.unsettled.set(self.call.unsettled.get() + u64::from(messages));
        Ticket { call: Rc::clone(&self.call), messages }
    }

    /// Ready once no ticket of this call is out, with the number of messages lost.
    pub fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<u64> {
        if self.call.unsettled.get() == 0 {
            return Poll::Ready(self.call.lost.get());
        }
        *self.call.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

// === impl Ticket ===

impl Ticket {
    /// Messages this ticket answers for.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Whether its messages are copies of others.
    pub fn is_of_copies(&self) -> bool {
        self.call.books.is_of_copies
    }

    /// Whether the call waits for its last ticket.
    pub fn is_awaited(&self) -> bool {
        self.call.waker.borrow().is_some()
    }

    /// A backend answered for the messages.
    pub fn settle(mut self) {
        let messages = u64::from(std::mem::take(&mut self.messages));
        self.call.books.deliver(messages);
        self.call.leave(messages);
    }

    /// The messages are given up.
    pub fn lose(mut self, reason: LostReason) {
        self.give_up(reason);
    }

    /// The messages go nowhere, as they should: their call is not told.
    pub fn write_off(mut self, reason: LostReason) {
        let messages = u64::from(std::mem::take(&mut self.messages));
        self.call.books.lose(messages, reason);
        self.call.leave(messages);
    }

    /// Splits off a ticket for `messages` of these.
    pub fn split(&mut self, messages: u32) -> Ticket {
        let messages = messages.min(self.messages);
        self.messages -= messages;
        Ticket { call: Rc::clone(&self.call), messages }
    }

    /// Takes the messages of another ticket of the same call into this one.
    pub fn merge(&mut self, mut other: Ticket) {
        debug_assert!(Rc::ptr_eq(&self.call, &other.call), "tickets of different calls never merge");
        self.messages += std::mem::take(&mut other.messages);
    }

    fn give_up(&mut self, reason: LostReason) {
        let messages = u64::from(std::mem::take(&mut self.messages));
        if messages == 0 {
            return;
        }
        self.call.books.lose(messages, reason);
        self.call.lost.set(self.call.lost.get() + messages);
        self.call.leave(messages);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let is_shutting_down = self.call.books.is_shutting_down.get();
        self.give_up(if is_shutting_down { LostReason::Shutdown } else { LostReason::Unsettled });
    }
}

impl Outstanding {
    fn leave(&self, messages: u64) {
        self.unsettled.set(self.unsettled.get() - messages);
        if self.unsettled.get() == 0
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ticket_ends_in_exactly_one_column_of_the_books() {
        let books = Books::new();
        let receipt = Receipt::open(&books);
        let (delivered, mut halves, dropped) = (receipt.issue(5), receipt.issue(7), receipt.issue(2));
        assert_eq!(books.totals().held, 14);
        delivered.settle();
        halves.split(3).lose(LostReason::Rejected);
        halves.split(1).write_off(LostReason::Dropped);
        halves.settle();
        drop(dropped);
        let totals = books.totals();
        assert_eq!((totals.received, totals.delivered, totals.held), (14, 8, 0));
        assert_eq!(totals.lost[LostReason::Rejected.index()], 3);
        assert_eq!(totals.lost[LostReason::Unsettled.index()], 2);
        assert!(totals.is_conserved());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(receipt.poll_settled(&mut cx), Poll::Ready(5));
    }
}
