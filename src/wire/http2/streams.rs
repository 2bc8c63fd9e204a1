//! The streams of a connection: what is known of each, and how they are found.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, request, response};

use super::frame::Reason;

/// The place of a stream; good until nobody holds it and both its directions are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

/// One stream.
///
/// The peer's direction is over when `has_ended` (its END_STREAM came), ours when `is_done` (ours was said, though it may
/// still wait in `unsent`). `broken` ends both at once.
#[derive(Debug)]
pub(super) struct Stream {
    pub id: u32,
    /// Handles to it.
    pub holders: u32,
    /// Whether anybody will read what arrives.
    pub has_reader: bool,
    /// Whether its first header block has come.
    pub has_head: bool,
    /// Whether the peer has ended its direction.
    pub has_ended: bool,
    /// Whether we have sent the head of our direction.
    pub has_begun: bool,
    /// Whether we have ended ours.
    pub is_done: bool,
    /// Whether it counts among those that are open.
    pub is_counted: bool,
    /// Whether it stands in the queue for the connection's window.
    pub is_waiting: bool,
    /// Why it is over before its time.
    pub broken: Option<Cause>,
    /// Arrived and not taken yet.
    pub arrived: Vec<u8>,
    /// Bytes of the largest chunk that was lately taken: what the next one may be.
    pub chunk_bytes: u32,
    /// Taken or waiting, and not released to the peer.
    pub held_bytes: u32,
    /// Released, and the peer not told.
    pub released_bytes: u32,
    /// What the peer may send.
    pub window: i64,
    /// What its content-length says is still to come.
    pub expected: Option<u64>,
    /// The head of a request or a response that nobody has taken yet, or trailers.
    pub head: Option<Box<Said>>,
    pub trailers: Option<Box<HeaderMap>>,
    /// What we may send.
    pub send_window: i64,
    /// Of the connection's window, what is reserved for this stream.
    pub granted: usize,
    /// What it wants to be granted.
    pub wanted: usize,
    /// Handed over and not sent, for want of window.
    pub unsent: Option<Box<Unsent>>,
    /// Who waits for something to read.
    pub reader: Waiting,
    /// Who waits for room to write, or for a reset.
    pub writer: Waiting,
}

/// One who may wait for something. The waker stays when it was used: mostly the same one waits again.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    waker: Option<Waker>,
    waits: bool,
}

/// A head as it arrived.
#[derive(Debug)]
pub(super) enum Said {
    Request(request::Parts),
    Response(response::Parts),
}

/// What waits for window.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    pub chunks: VecDeque<Bytes>,
    pub bytes: usize,
    /// What comes behind the chunks.
    pub end: Option<Ending>,
}

/// How our direction ends.
#[derive(Debug)]
pub(super) enum Ending {
    HalfClose,
    Trailers(HeaderMap),
}

/// Why a stream is over before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The peer reset it.
    Reset(Reason),
    /// We reset it, because nobody wanted it any more or for a fault of the peer's.
    Ours(Reason, &'static str),
    /// The peer said GOAWAY and will not look at it.
    NotProcessed,
    /// The connection is over.
    Lost,
}

/// All streams of a connection that are not over, or that somebody still holds.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Option<Stream>>,
    free: Vec<Place>,
    /// By id, which only ever grows.
    by_id: Vec<(u32, Place)>,
    /// The one found last: frames of a stream come in rows.
    last: Option<(u32, Place)>,
}

/// Streams we reset lately, whose frames may still be under way.
#[derive(Debug, Default)]
pub(super) struct Graves {
    /// Id, and the bytes the peer could still have sent.
    graves: VecDeque<(u32, i64)>,
    /// The highest id that was forgotten.
    forgotten: u32,
}

/// Graves that are remembered.
const GRAVES_MAX: usize = 256;

// === impl Stream ===

impl Stream {
    pub fn new(id: u32, window: i64, send_window: i64) -> Self {
        Self {
            id,
            holders: 0,
            has_reader: true,
            has_head: false,
            has_ended: false,
            has_begun: false,
            is_done: false,
            is_counted: true,
            is_waiting: false,
            broken: None,
            arrived: Vec::new(),
            chunk_bytes: 0,
            held_bytes: 0,
            released_bytes: 0,
            window,
            expected: None,
            head: None,
            trailers: None,
            send_window,
            granted: 0,
            wanted: 0,
            unsent: None,
            reader: Waiting::default(),
            writer: Waiting::default(),
        }
    }

    /// Whether both directions are over, also on the wire.
    pub fn is_over(&self) -> bool {
        self.broken.is_some() || (self.has_ended && self.is_done && self.unsent.is_none())
    }

    /// Bytes that may be sent now.
    pub fn room(&self) -> usize {
        self.granted.min(self.send_window.max(0) as usize)
    }
}

// === impl Waiting ===

impl Waiting {
    /// Somebody waits here; what it waits for is not there.
    pub fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
        self.waits = true;
        Poll::Pending
    }

    /// Wakes whoever waits, once.
    pub fn wake(&mut self) {
        if std::mem::take(&mut self.waits)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }
}

// === impl Streams ===

impl Streams {
    /// Adds a stream whose id is higher than any before it.
    pub fn add(&mut self, stream: Stream) -> Place {
        let id = stream.id;
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                // One at a time: most connections have one stream for ever.
                self.slots.reserve_exact(if self.slots.len() < 4 { 1 } else { self.slots.len() });
                self.slots.push(None);
                Place(self.slots.len() as u32 - 1)
            }
        };
        self.slots[place.0 as usize] = Some(stream);
        self.by_id.push((id, place));
        place
    }

    /// Where the stream of an id is.
    #[inline]
    pub fn find(&mut self, id: u32) -> Option<Place> {
        if let Some((last, place)) = self.last
            && last == id
        {
            return Some(place);
        }
        let at = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.last = Some(self.by_id[at]);
        Some(self.by_id[at].1)
    }

    /// Takes a stream out.
    pub fn remove(&mut self, place: Place) {
        let Some(stream) = self.slots[place.0 as usize].take() else { return };
        if let Ok(at) = self.by_id.binary_search_by_key(&stream.id, |(id, _)| *id) {
            self.by_id.remove(at);
        }
        self.last = None;
        if self.by_id.is_empty() {
            // A connection that is idle now may be so for hours.
            *self = Self::default();
        } else {
            self.free.push(place);
        }
    }

    /// All of them, in order of their ids.
    pub fn places(&self) -> Vec<Place> {
        self.by_id.iter().map(|(_, place)| *place).collect()
    }
}

impl Index<Place> for Streams {
    type Output = Stream;

    fn index(&self, place: Place) -> &Stream {
        self.slots[place.0 as usize].as_ref().expect("a place is good while its stream is not removed")
    }
}

impl IndexMut<Place> for Streams {
    fn index_mut(&mut self, place: Place) -> &mut Stream {
        self.slots[place.0 as usize].as_mut().expect("a place is good while its stream is not removed")
    }
}

// === impl Graves ===

impl Graves {
    /// Remembers a stream and what its peer may still send.
    pub fn add(&mut self, id: u32, window: i64) {
        if self.graves.len() == GRAVES_MAX
            && let Some((id, _)) = self.graves.pop_front()
        {
            self.forgotten = self.forgotten.max(id);
        }
        self.graves.push_back((id, window));
    }

    /// Counts bytes that came late; `None` when nothing is known of the stream, else whether they were allowed.
    pub fn late(&mut self, id: u32, bytes: u32) -> Option<bool> {
        let Some((_, window)) = self.graves.iter_mut().rev().find(|(grave, _)| *grave == id) else {
            return (id <= self.forgotten).then_some(true);
        };
        *window -= i64::from(bytes);
        Some(*window >= 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_costs_less_than_three_hundred_bytes() {
        assert!(size_of::<Option<Stream>>() < 300, "{}", size_of::<Option<Stream>>());
    }

    #[test]
    fn streams_are_found_by_their_ids_and_places_are_used_again() {
        let mut streams = Streams::default();
        let places: Vec<_> = (0..50).map(|at| streams.add(Stream::new(2 * at + 1, 0, 0))).collect();
        assert_eq!(streams.find(41), Some(places[20]));
        streams.remove(places[20]);
        assert_eq!((streams.find(41), streams.find(43)), (None, Some(places[21])));
        assert_eq!(streams.add(Stream::new(101, 0, 0)), places[20]);
        assert_eq!((streams.places().len(), streams[places[20]].id), (50, 101));
        streams.places().into_iter().for_each(|place| streams.remove(place));
        assert_eq!(streams.slots.capacity(), 0, "an idle connection keeps nothing");
    }

    #[test]
    fn what_comes_late_is_allowed_as_far_as_it_was_promised() {
        let mut graves = Graves::default();
        graves.add(3, 10);
        assert_eq!((graves.late(3, 10), graves.late(3, 1), graves.late(5, 0)), (Some(true), Some(false), None));
        (0..GRAVES_MAX as u32).for_each(|at| graves.add(5 + 2 * at, 0));
        assert_eq!(graves.late(3, 1), Some(true), "it is forgotten, so nothing is held against it");
    }
}
