//! One HTTP/2 connection without its socket: bytes in, bytes out, and the state between.
//!
//! A session belongs to one thread. The task that owns the socket feeds it ([`Session::receive`]) and empties it; the
//! handles of its streams change it in between. Nobody is woken for a frame: each direction of a stream has at most one
//! waker, and it is there only while somebody waits.

use std::collections::VecDeque;
use std::task::Waker;

use super::fields::Malformed;
use super::frame::{Fault, INT31_MAX, PREFACE, Reason, WINDOW_BYTES, kind};
use super::hpack::decode::Decoder;
use super::hpack::encode::Encoder;
use super::output::Output;
use super::patience::{self, Nuisance, Patience};
use super::receive::Reading;
use super::settings::{Limits, Theirs};
use super::streams::{Cause, Graves, Place, Stream, Streams};

/// A connection's state.
#[derive(Debug)]
pub struct Session {
    pub(super) is_server: bool,
    pub(super) limits: Limits,
    pub(super) theirs: Theirs,
    /// Whether their SETTINGS came.
    pub(super) is_greeted: bool,
    /// Whether they have acknowledged ours.
    pub(super) is_acknowledged: bool,
    pub(super) reading: Reading,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) output: Output,
    pub(super) streams: Streams,
    pub(super) graves: Graves,
    pub(super) patience: Patience,
    /// Calls that have begun and that nobody has taken.
    pub(super) begun: VecDeque<Place>,
    /// The highest stream of theirs.
    pub(super) last_theirs: u32,
    /// The next stream of ours.
    pub(super) next_ours: u32,
    /// What they may send, over all streams.
    pub(super) window: i64,
    /// Released, and they not told.
    pub(super) released_bytes: u32,
    /// What we may send, over all streams.
    pub(super) send_window: i64,
    /// Reserved of it for streams.
    pub(super) granted: usize,
    /// Streams that want more of it than there is.
    pub(super) waiting: VecDeque<Place>,
    pub(super) leaving: Leaving,
    /// The last stream of ours they will look at, once they have said GOAWAY.
    pub(super) looked_at_max: Option<u32>,
    pub(super) over: Option<Over>,
    /// Streams that are not over.
    pub(super) open: usize,
    /// Whether those that wait for window are being given theirs right now.
    pub(super) is_sharing: bool,
    /// The task that owns the socket.
    task: Option<Waker>,
    /// Whether it is at work here, or was woken: either way it will look at the output.
    is_awake: bool,
}

/// How far we are with leaving (RFC 9113, section 6.8).
///
/// ```text
///   Staying ──go_away()──▶ Asked: GOAWAY(2^31-1), PING ──its answer──▶ Left: GOAWAY(last stream)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    Staying,
    /// The peer was asked to open no more; what it opened before it heard of it is still served.
    Asked,
    /// It has heard of it: streams above this one are not served.
    Left(u32),
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// For people.
    pub why: String,
    /// What the peer was told, if it was its fault.
    pub reason: Option<Reason>,
    /// Whether nothing was under way.
    pub is_in_order: bool,
}

/// What our PING after the first GOAWAY says.
const LEAVING: [u8; 8] = *b"leaving!";

// === impl Session ===

impl Session {
    /// The side that is called. Its SETTINGS wait to be written.
    pub fn server(limits: Limits) -> Self {
        Self::new(true, limits)
    }

    /// The side that calls. The preface and its SETTINGS wait to be written.
    pub fn client(limits: Limits) -> Self {
        Self::new(false, limits)
    }

    fn new(is_server: bool, limits: Limits) -> Self {
        let mut output = Output::default();
        if !is_server {
            output.preface(PREFACE);
        }
        output.control(kind::SETTINGS, 0, 0, &limits.announced(is_server));
        let more = limits.connection_window_bytes.saturating_sub(WINDOW_BYTES);
        if more > 0 {
            output.control(kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
        Self {
            is_server,
            theirs: Theirs::default(),
            is_greeted: false,
            is_acknowledged: false,
            reading: Reading::new(is_server),
            decoder: Decoder::new(),
            encoder: Encoder::default(),
            output,
            streams: Streams::default(),
            graves: Graves::default(),
            patience: Patience::new(),
            begun: VecDeque::new(),
            last_theirs: 0,
            next_ours: 1,
            window: i64::from(limits.connection_window_bytes.max(WINDOW_BYTES)),
            released_bytes: 0,
            send_window: i64::from(WINDOW_BYTES),
            granted: 0,
            waiting: VecDeque::new(),
            leaving: Leaving::Staying,
            looked_at_max: None,
            over: None,
            open: 0,
            is_sharing: false,
            task: None,
            is_awake: false,
            limits,
        }
    }

    /// Whether the peer's SETTINGS came: it speaks HTTP/2.
    pub fn is_greeted(&self) -> bool {
        self.is_greeted
    }

    /// Why the connection is over, if it is.
    pub fn over(&self) -> Option<&Over> {
        self.over.as_ref()
    }

    /// Whether it came to its end in order: one side said GOAWAY and nothing is left to be done or written.
    pub fn is_done(&self) -> bool {
        let is_leaving = matches!(self.leaving, Leaving::Left(_)) || self.looked_at_max.is_some() && !self.is_server;
        is_leaving && self.open == 0 && self.output.is_empty()
    }

    /// What waits to be written.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Tells the session that so many bytes of its output were written.
    pub fn written(&mut self, bytes: usize) {
        self.output.advance(bytes);
        if !self.waiting.is_empty() {
            self.share_out();
        }
    }

    /// Streams the peer allows at once; 0 until its SETTINGS came.
    pub fn streams_max(&self) -> usize {
        if self.is_greeted { self.theirs.streams_max as usize } else { 0 }
    }

    /// Whether streams can be opened: not once the peer has said GOAWAY, the connection is over or the ids are used up.
    pub fn is_usable(&self) -> bool {
        self.over.is_none() && self.looked_at_max.is_none() && self.next_ours <= INT31_MAX
    }

    /// Asks the peer to open no more streams; those that are open go on.
    pub fn go_away(&mut self) {
        if self.leaving == Leaving::Staying && self.over.is_none() {
            self.leaving = Leaving::Asked;
            self.say_goaway(INT31_MAX, Reason::NO_ERROR, "");
            self.output.control(kind::PING, 0, 0, &LEAVING);
            self.wake_task();
        }
    }

    /// The peer has answered a PING: if it was the one behind our GOAWAY, no stream above its last one is to come.
    pub(super) fn ponged(&mut self, payload: &[u8]) {
        if self.leaving == Leaving::Asked && payload == LEAVING {
            self.leaving = Leaving::Left(self.last_theirs);
            self.say_goaway(self.last_theirs, Reason::NO_ERROR, "");
        }
    }

    /// The socket is gone or at its end.
    pub fn lose(&mut self, why: impl Into<String>) {
        if self.over.is_none() {
            self.end(Over { why: why.into(), reason: None, is_in_order: self.open == 0 });
        }
    }

    /// The peer has made a mistake that ends the connection. What was said before it still counts.
    pub(super) fn fail(&mut self, fault: Fault) {
        if self.over.is_none() {
            // Streams behind our last GOAWAY were not looked at, and what it said cannot be taken back.
            let last = match self.leaving {
                Leaving::Left(last) => last,
                Leaving::Staying | Leaving::Asked => self.last_theirs,
            };
            self.say_goaway(last, fault.reason, fault.why);
            let why = format!("{}: {}", fault.reason, fault.why);
            self.end(Over { why, reason: Some(fault.reason), is_in_order: false });
        }
    }

    fn end(&mut self, over: Over) {
        self.over = Some(over);
        for place in self.streams.places() {
            self.break_off(place, Cause::Lost);
        }
        self.wake_task();
    }

    fn say_goaway(&mut self, last: u32, reason: Reason, why: &str) {
        let payload = [&last.to_be_bytes()[..], &reason.0.to_be_bytes(), why.as_bytes()].concat();
        self.output.control(kind::GOAWAY, 0, 0, &payload);
    }

    /// Ends both directions of a stream. What arrived before can still be read.
    pub(super) fn break_off(&mut self, place: Place, cause: Cause) {
        let stream = &mut self.streams[place];
        if !stream.is_over() {
            stream.broken = Some(cause);
        }
        self.count_if_over(place);
        let stream = &mut self.streams[place];
        stream.unsent = None;
        stream.wanted = 0;
        if std::mem::take(&mut stream.is_waiting) {
            self.waiting.retain(|waiting| *waiting != place);
        }
        self.granted -= std::mem::take(&mut stream.granted);
        stream.reader.wake();
        stream.writer.wake();
        self.share_out();
        self.remove_if_over(place);
    }

    /// Resets a stream, and remembers it for what is still under way.
    pub(super) fn reset(&mut self, place: Place, reason: Reason, why: &'static str) {
        let stream = &self.streams[place];
        if stream.is_over() || self.over.is_some() {
            return;
        }
        let (id, window, has_ended) = (stream.id, stream.window, stream.has_ended);
        if !has_ended {
            self.graves.add(id, window);
        }
        self.say_reset(id, reason);
        self.break_off(place, Cause::Ours(reason, why));
    }

    pub(super) fn say_reset(&mut self, id: u32, reason: Reason) {
        self.output.control(kind::RST_STREAM, 0, id, &reason.0.to_be_bytes());
        self.wake_task();
    }

    /// Resets a stream for a mistake of the peer's.
    pub(super) fn reset_for(&mut self, place: Place, reason: Reason, why: &'static str) -> Result<(), Fault> {
        self.reset(place, reason, why);
        self.charge(Nuisance::Fault, "too many streams had to be reset")
    }

    /// The same for a message that is none.
    pub(super) fn reset_malformed(&mut self, place: Place, malformed: Malformed) -> Result<(), Fault> {
        self.reset_for(place, Reason::PROTOCOL_ERROR, malformed.0)
    }

    pub(super) fn charge(&mut self, nuisance: Nuisance, why: &'static str) -> Result<(), Fault> {
        if self.patience.charge(nuisance) { Ok(()) } else { Err(Fault::calm(why)) }
    }

    /// Forgets a stream that is over and that nobody holds. What it had not released is.
    pub(super) fn remove_if_over(&mut self, place: Place) {
        let stream = &self.streams[place];
        if stream.holders > 0 || !stream.is_over() || self.begun.contains(&place) {
            return;
        }
        let held = stream.held_bytes;
        self.reading.forget(place);
        self.streams.remove(place);
        self.release_connection(held);
    }

    /// Counts a stream that has just come to its end. The last one may be what the end of the connection waits for.
    pub(super) fn count_if_over(&mut self, place: Place) {
        let stream = &mut self.streams[place];
        if stream.is_over() && std::mem::take(&mut stream.is_counted) {
            self.open -= 1;
            if stream.broken.is_none() {
                self.patience.useful(patience::CALL_BYTES);
            }
            if self.open == 0 {
                self.wake_task();
            }
        }
    }

    /// Lets the peer send so many bytes more on the connection; it is told once they are half a window.
    pub(super) fn release_connection(&mut self, bytes: u32) {
        if bytes == 0 || self.over.is_some() {
            return;
        }
        self.released_bytes += bytes;
        if self.released_bytes >= self.limits.connection_window_bytes.max(WINDOW_BYTES) / 2 {
            let more = std::mem::take(&mut self.released_bytes);
            self.window += i64::from(more);
            self.output.control(kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
            self.wake_task();
        }
    }

    /// The same for a stream.
    pub(super) fn release_stream(&mut self, place: Place, bytes: u32) {
        let threshold = (self.limits.stream_window_bytes / 2).max(1);
        let stream = &mut self.streams[place];
        stream.released_bytes += bytes;
        if stream.released_bytes >= threshold && !stream.has_ended && stream.broken.is_none() && self.over.is_none() {
            let more = std::mem::take(&mut stream.released_bytes);
            stream.window += i64::from(more);
            let id = stream.id;
            self.output.control(kind::WINDOW_UPDATE, 0, id, &more.to_be_bytes());
            self.wake_task();
        }
    }

    /// A new stream of either side.
    pub(super) fn add_stream(&mut self, id: u32) -> Place {
        // Until it has acknowledged our SETTINGS, a peer may believe in the window everything begins with.
        let ours = self.limits.stream_window_bytes;
        let window = if self.is_acknowledged { ours } else { ours.max(WINDOW_BYTES) };
        self.open += 1;
        self.streams.add(Stream::new(id, i64::from(window), i64::from(self.theirs.window_bytes)))
    }

    /// Something waits to be written, or to be noticed by who owns the socket.
    pub(super) fn wake_task(&mut self) {
        if let Some(task) = &self.task
            && !std::mem::replace(&mut self.is_awake, true)
        {
            task.wake_by_ref();
        }
    }

    /// Something has changed that who opens streams has to know.
    pub(super) fn wake_owner(&self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }

    /// The task that owns the socket begins a pass: until its end it need not be woken.
    pub fn begin_pass(&mut self, task: &Waker) {
        self.is_awake = true;
        match &mut self.task {
            Some(known) => known.clone_from(task),
            None => self.task = Some(task.clone()),
        }
    }

    /// It has written what there was and rests.
    pub fn end_pass(&mut self) {
        self.is_awake = false;
    }

    /// Whether their SETTINGS acknowledgement is one we wait for.
    pub(super) fn acknowledged(&mut self) {
        if std::mem::replace(&mut self.is_acknowledged, true) {
            return;
        }
        let less = i64::from(WINDOW_BYTES.saturating_sub(self.limits.stream_window_bytes));
        for place in self.streams.places() {
            self.streams[place].window -= less;
        }
    }
}
