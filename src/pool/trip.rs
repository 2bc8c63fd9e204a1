//! A trip: one outbound gRPC stream from its first message to its answer.
//!
//! ```text
//!   Filling ──close()──▶ Closing ──all sent──▶ Awaiting ──answer──▶ over: settled, or given back
//! ```

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::message::context::{self, Restated};
use crate::message::parcel::Parcel;
use crate::message::run::{Message, Run};
use crate::wire::stream::{Break, Outflow};

use super::TripSettings;
use super::backend::Owed;
use super::door::StreamSlot;
use super::ledger::Ledger;

/// Parcels from this size on are handed to the wire as they are; smaller ones are copied together, which is cheaper
/// than a DATA frame each and frees the read buffers they came in.
const COPY_BYTES_MAX: usize = 4 << 10;

/// What is copied together gets so much room at once: with thousands of trips open, more would be memory for nothing.
const ROOM_BYTES_MAX: usize = 16 << 10;

/// A trip that has had nothing to carry for this long is closed, so that its messages are answered for soon.
const IDLE: std::time::Duration = std::time::Duration::from_millis(250);

/// One outbound stream and the messages on it.
pub struct Trip {
    outflow: Outflow,
    phase: Phase,
    ledger: Ledger,
    /// Copied together and not yet cut off as a chunk.
    loading: BytesMut,
    /// The parcels in `loading`, and where; `None` where it stands there in other words than it came in.
    loaded: Vec<(Parcel, Option<Range<usize>>)>,
    /// What was said last of what may change within a stream.
    context: Option<Rc<context::Context>>,
    /// Chunks the peer's window has no room for yet.
    unsent: VecDeque<Bytes>,
    unsent_bytes: usize,
    /// When the peer's window last had room, if it has none.
    blocked_since: Option<Instant>,
    messages: u64,
    bytes: usize,
    opened: Instant,
    last_loaded: Instant,
    sent_anything: bool,
    reported_late: bool,
    _slot: StreamSlot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Filling,
    Closing { since: Instant },
    Awaiting { since: Instant },
}

/// Whether the answer is in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It is.
    InTime,
    /// It is not; said once.
    Late,
    /// It is so late that the messages should go elsewhere.
    Over,
}

// === impl Trip ===

impl Trip {
    /// A trip on a stream that has just been opened.
    pub fn new(outflow: Outflow, slot: StreamSlot, now: Instant) -> Self {
        Self {
            outflow,
            phase: Phase::Filling,
            ledger: Ledger::default(),
            loading: BytesMut::new(),
            loaded: Vec::new(),
            context: None,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            blocked_since: None,
            messages: 0,
            bytes: 0,
            opened: now,
            last_loaded: now,
            sent_anything: false,
            reported_late: false,
            _slot: slot,
        }
    }

    /// Loads a parcel; it is sent with the next [`Trip::pump`]. Messages reach the wire in the order they are loaded.
    pub fn load(&mut self, parcel: Parcel, now: Instant) {
        self.last_loaded = now;
        let restated = self.restate_first(&parcel);
        self.messages += u64::from(parcel.messages());
        self.bytes += parcel.bytes();
        match restated {
            Some(Restated { before, message }) => {
                let mut rest = parcel.run.clone();
                rest.take_front(usize::MAX, 1);
                let pieces = [before.as_ref(), Some(&message)].into_iter().flatten().map(Message::framed);
                let pieces: Vec<&Bytes> = pieces.chain([rest.bytes()]).collect();
                if pieces.iter().map(|piece| piece.len()).sum::<usize>() <= COPY_BYTES_MAX {
                    pieces.iter().for_each(|piece| self.loading.extend_from_slice(piece));
                    self.loaded.push((parcel, None));
                } else {
                    self.cut_chunk();
                    pieces.into_iter().cloned().for_each(|piece| self.put_off(piece));
                    self.ledger.enter(parcel);
                }
            }
            None if Self::copied_bytes(&parcel) == 0 => {
                self.cut_chunk();
                self.put_off(parcel.run.bytes().clone());
                self.ledger.enter(parcel);
            }
            None => {
                let start = self.loading.len();
                self.loading.extend_from_slice(parcel.run.bytes());
                self.loaded.push((parcel, Some(start..self.loading.len())));
            }
        }
    }

    /// The parcel's first message in the words it needs on this stream at this place; `None`: those it came in.
    fn restate_first(&mut self, parcel: &Parcel) -> Option<Restated> {
        let first = || parcel.run.iter().next().expect("a parcel has a message");
        let restated = match (&parcel.subject.opening, &parcel.context) {
            (Some(opening), _) if self.messages == 0 => opening.open(&first()),
            (None, Some(context)) => match self.context.replace(Rc::clone(context)) {
                Some(before) if Rc::ptr_eq(&before, context) => return None,
                Some(before) => context.follow(&before, &first()),
                None => context.open(&first()),
            },
            _ => return None,
        };
        // The sorter has read this message before; should it not parse after all, it goes as it is.
        let is_other = |Restated { before, message }: &Restated| {
            before.is_some() || message.framed().as_ptr() != parcel.run.bytes().as_ptr()
        };
        restated.ok().filter(is_other)
    }

    /// Bytes of a parcel that will be copied together with others': all of them, if they are few.
    pub fn copied_bytes(parcel: &Parcel) -> usize {
        if parcel.bytes() <= COPY_BYTES_MAX { parcel.bytes() } else { 0 }
    }

    /// Makes room for `bytes` more to be copied together. A trip that goes on being loaded with little gets room for as
    /// much as it has carried already, so that a small parcel is no allocation of its own.
    pub fn expect(&mut self, bytes: usize) {
        if self.loading.capacity() - self.loading.len() < bytes {
            self.loading.reserve(bytes.max(self.bytes.min(ROOM_BYTES_MAX)));
        }
    }

    /// Sends what the peer's window has room for; answers how many bytes that was.
    ///
    /// # Errors
    /// When the stream is gone. Its answer will say why.
    pub fn pump(&mut self, now: Instant) -> Result<usize, Break> {
        self.cut_chunk();
        let mut sent = 0;
        while let Some(chunk) = self.unsent.front_mut() {
            self.outflow.want(self.unsent_bytes);
            let room = self.outflow.room().min(chunk.len());
            if room == 0 {
                break;
            }
            let piece = chunk.split_to(room);
            if chunk.is_empty() {
                self.unsent.pop_front();
            }
            self.unsent_bytes -= room;
            sent += room;
            self.sent_anything = true;
            self.outflow.send(piece)?;
        }
        let blocked_since = self.blocked_since.filter(|_| sent == 0).unwrap_or(now);
        self.blocked_since = self.is_blocked().then_some(blocked_since);
        if let (Phase::Closing { .. }, true) = (self.phase, self.unsent.is_empty()) {
            self.phase = Phase::Awaiting { since: now };
            self.outflow.half_close()?;
        }
        Ok(sent)
    }

    /// Whether it waits for the peer's window.
    pub fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Registers for the window to open; ready when it did, or when the stream is gone.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.outflow.poll_room(cx).map(|_| ())
    }

    /// Nothing more is loaded; the stream is half-closed once all is sent.
    pub fn close(&mut self, now: Instant) {
        if self.phase == Phase::Filling {
            self.phase = Phase::Closing { since: now };
        }
    }

    /// Gives the stream up: the peer sees a cancelled call.
    pub fn cancel(&mut self) {
        self.outflow.cancel();
    }

    /// Whether it has carried as much as a trip may.
    pub fn is_full(&self, settings: &TripSettings) -> bool {
        self.messages >= u64::from(settings.messages_max) || self.bytes >= settings.bytes_max
    }

    /// Whether it should be closed though there is room: it is old, or has had nothing to carry for a while.
    pub fn is_due(&self, settings: &TripSettings, now: Instant) -> bool {
        self.phase == Phase::Filling && (now >= self.opened + settings.age_max || now >= self.last_loaded + IDLE)
    }

    /// Whether it may still be loaded.
    pub fn is_filling(&self) -> bool {
        self.phase == Phase::Filling
    }

    /// How the wait for the answer stands.
    pub fn patience(&mut self, settings: &TripSettings, now: Instant) -> Patience {
        let (Phase::Closing { since } | Phase::Awaiting { since }) = self.phase else {
            return Patience::InTime;
        };
        if now >= since + settings.hard_deadline {
            return Patience::Over;
        }
        if now >= since + settings.answer_deadline && !self.reported_late {
            self.reported_late = true;
            return Patience::Late;
        }
        Patience::InTime
    }

    /// What the backend owes it, and since when; `None` while it fills and there is room, and once it was reported late:
    /// that has been judged.
    pub fn owed(&self) -> Option<(Owed, Instant)> {
        match self.phase {
            _ if self.reported_late => None,
            Phase::Awaiting { since } => Some((Owed::Answer, since)),
            Phase::Filling | Phase::Closing { .. } => self.blocked_since.map(|since| (Owed::Room, since)),
        }
    }

    /// How long ago it was half-closed; `None` before that, when an `OK` answers for nothing.
    pub fn half_closed_for(&self, now: Instant) -> Option<std::time::Duration> {
        match self.phase {
            Phase::Awaiting { since } => Some(now - since),
            _ => None,
        }
    }

    /// Whether the peer can have seen any message of it.
    pub fn sent_anything(&self) -> bool {
        self.sent_anything
    }

    /// Messages on it.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes the peer's window had no room for.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// The trip is over; its ledger says what was on it.
    pub fn into_ledger(mut self) -> Ledger {
        self.cut_chunk();
        self.ledger
    }

    /// Cuts what was copied together off as one chunk and lets its parcels point into it.
    fn cut_chunk(&mut self) {
        if self.loaded.is_empty() {
            return;
        }
        let chunk = self.loading.split().freeze();
        for (mut parcel, range) in self.loaded.drain(..) {
            if let Some(range) = range {
                parcel.run = Run::of_framed(chunk.slice(range), parcel.run.messages());
            }
            self.ledger.enter(parcel);
        }
        self.put_off(chunk);
    }

    fn put_off(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.unsent_bytes += chunk.len();
            self.unsent.push_back(chunk);
        }
    }
}
