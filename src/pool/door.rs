//! Where a channel is handed its work: an inbox on the same thread, and what others may know of the channel.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};

use http::Request;
use tokio::sync::oneshot;

use crate::message::parcel::Parcel;
use crate::wire::client::Answer;
use crate::wire::stream::Outflow;

/// The near side of a channel.
pub struct Door {
    inbox: RefCell<VecDeque<Errand>>,
    channel: RefCell<Option<Waker>>,
    /// The channel was woken and has not looked yet: once is enough for all that is entrusted in one pass.
    rang: Cell<bool>,
    /// Somebody waits for answers: trips are closed rather than filled.
    hurried: Cell<bool>,
    /// The peer allows no further stream and something waits for one.
    starved: Cell<bool>,
    /// The channel takes nothing more.
    closed: Cell<bool>,
    /// Another channel has taken its place; nothing speaks against the backend.
    gave_way: Cell<bool>,
    /// The channel is gone.
    over: Cell<bool>,
    /// Messages entrusted and not settled or given back. Kept beside the books, so that one can audit the other.
    held_messages: Cell<u64>,
    /// Streams in use, trips and calls together.
    streams_open: Cell<usize>,
    /// Bytes that wait for the peer's windows.
    blocked_bytes: Cell<usize>,
    lanes: RefCell<Vec<LaneFigures>>,
}

/// One thing for a channel to do.
pub enum Errand {
    /// Carry these messages.
    Parcel(Parcel),
    /// Open a call for somebody who relays one.
    Call(CallErrand),
}

/// A call to be opened. Dropped unanswered, it was not opened and may be tried elsewhere.
pub struct CallErrand {
    /// The head to send.
    pub head: Request<()>,
    /// Who waits for it.
    pub opened: oneshot::Sender<OpenCall>,
}

/// An open outbound call.
pub struct OpenCall {
    /// What is sent.
    pub outflow: Outflow,
    /// What comes back.
    pub answer: Answer,
    /// Its place among the streams the peer allows.
    pub slot: StreamSlot,
}

/// One of the streams a channel has open; dropping it lets another one open.
pub struct StreamSlot(Rc<Door>);

/// What a lane is doing, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneFigures {
    /// The method its messages belong to.
    pub method: &'static str,
    /// What was said once per stream, cut to a printable piece.
    pub context: String,
    /// Trips filling, closing or waiting for their answer.
    pub trips_open: usize,
    /// Messages not yet written.
    pub queued_messages: u64,
    /// Messages carried since the lane began.
    pub messages: u64,
}

// === impl Door ===

impl Door {
    /// The door of a channel that is about to start.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            inbox: RefCell::default(),
            channel: RefCell::default(),
            rang: Cell::default(),
            hurried: Cell::default(),
            starved: Cell::default(),
            closed: Cell::default(),
            gave_way: Cell::default(),
            over: Cell::default(),
            held_messages: Cell::default(),
            streams_open: Cell::default(),
            blocked_bytes: Cell::default(),
            lanes: RefCell::default(),
        })
    }

    /// Hands over messages. The caller has seen that the door is open.
    pub fn entrust(&self, parcel: Parcel) {
        self.held_messages.set(self.held_messages.get() + u64::from(parcel.messages()));
        self.inbox.borrow_mut().push_back(Errand::Parcel(parcel));
        self.wake();
    }

    /// Asks for the answers of all that was entrusted: open trips are closed at the next write.
    pub fn hurry(&self) {
        self.hurried.set(true);
        self.wake();
    }

    /// Asks for a call.
    pub fn ask(&self, errand: CallErrand) {
        self.inbox.borrow_mut().push_back(Errand::Call(errand));
        self.wake();
    }

    /// Whether the channel takes nothing more.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The backend is to get nothing more: the channel finishes what it has and ends.
    pub fn retire(&self) {
        self.gave_way.set(false);
        self.close();
        self.wake();
    }

    /// Another channel takes its place: it takes nothing more and ends when everything it has open is over.
    pub fn give_way(&self) {
        self.retire();
        self.gave_way.set(true);
    }

    /// Whether another channel has taken its place.
    pub fn has_given_way(&self) -> bool {
        self.gave_way.get()
    }

    /// Whether the channel is gone.
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Whether the peer's stream limit holds work up.
    pub fn is_starved(&self) -> bool {
        self.starved.get()
    }

    /// How much waits here, to compare doors by.
    pub fn backlog(&self) -> usize {
        self.inbox.borrow().len() + self.streams_open.get()
    }

    /// Bytes that wait for the peer's windows.
    pub fn blocked_bytes(&self) -> usize {
        self.blocked_bytes.get()
    }

    /// Messages entrusted and not settled or given back.
    pub fn held_messages(&self) -> u64 {
        self.held_messages.get()
    }

    /// The lanes as of the last second.
    pub fn lanes(&self) -> Vec<LaneFigures> {
        self.lanes.borrow().clone()
    }

    /// Wakes the channel.
    pub fn wake(&self) {
        if !self.rang.replace(true)
            && let Some(waker) = &*self.channel.borrow()
        {
            waker.wake_by_ref();
        }
    }

    // The far side: what the channel itself does here.

    pub(super) fn listen(&self, cx: &Context<'_>) {
        self.rang.set(false);
        let mut channel = self.channel.borrow_mut();
        match &mut *channel {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *channel = Some(cx.waker().clone()),
        }
    }

    pub(super) fn next_errand(&self) -> Option<Errand> {
        self.inbox.borrow_mut().pop_front()
    }

    /// Whether trips should be closed now; asking answers it.
    pub(super) fn take_hurry(&self) -> bool {
        self.hurried.replace(false)
    }

    pub(super) fn set_blocked_bytes(&self, bytes: usize) {
        self.blocked_bytes.set(bytes);
    }

    pub(super) fn set_starved(&self, starved: bool) {
        self.starved.set(starved);
    }

    pub(super) fn close(&self) {
        self.closed.set(true);
    }

    pub(super) fn end(&self) {
        self.over.set(true);
    }

    pub(super) fn let_go(&self, messages: u64) {
        self.held_messages.set(self.held_messages.get() - messages);
    }

    pub(super) fn streams_open(&self) -> usize {
        self.streams_open.get()
    }

    pub(super) fn take_stream(self: &Rc<Self>) -> StreamSlot {
        self.streams_open.set(self.streams_open.get() + 1);
        StreamSlot(Rc::clone(self))
    }

    pub(super) fn show_lanes(&self, lanes: Vec<LaneFigures>) {
        *self.lanes.borrow_mut() = lanes;
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.streams_open.set(self.0.streams_open.get() - 1);
        if self.0.starved.get() {
            self.0.wake();
        }
    }
}
