//! An agent: one stream at a time, opened again for ever, and what it still has to say on it.

use crate::h2::stamp::Stamp;
use crate::h2::{CANCEL, DATA, END_HEADERS, END_STREAM, HEAD_BYTES, HEADERS, RST_STREAM, WRITE_BYTES};
use crate::h2::{put_frame, put_head};

use super::Run;
use super::link::Link;
use super::message::Place;

/// How long an agent that lost its stream waits before it opens the next one.
const RETRY_NS: u64 = 10_000_000;

/// ```text
///   Idle ──open──▶ Sending ──half-close──▶ Awaiting ──reply──▶ Idle, or Done when nothing is left to say
///    ▲                └───────── reset, error, lost connection ────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Idle,
    Sending,
    Awaiting,
    Done,
}

/// What a step has put into the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    Nothing,
    /// A new message, perhaps only as much of it as windows allow.
    Message,
    /// The rest of one, or a half-close.
    Other,
}

pub struct Agent {
    /// The stream's number in stamps: it stays when the HTTP/2 stream is another.
    pub number: u32,
    pub stage: Stage,
    /// The connection its stream is on.
    pub link: usize,
    pub stream: u32,
    pub window: i64,
    /// When its next message is due.
    pub due: u64,
    /// Nanoseconds from one to the next; 0: it does not wait.
    pub interval: u64,
    /// Whether its message was due and could not be sent; then no timer is set for it.
    pub is_behind: bool,
    /// Whether its schedule has begun.
    pub is_started: bool,
    sequence: u32,
    /// Messages (calls) it will still begin.
    left: u64,
    /// Messages on this stream.
    said: u64,
    /// A message that was begun and did not fit the windows, and how much of it is out.
    rest: Vec<u8>,
    rest_at: usize,
    not_before: u64,
    closed_at: u64,
    pub http_status: Option<u32>,
    pub grpc_status: Option<u32>,
}

impl Agent {
    pub fn new(number: u32, interval: u64, left: u64) -> Self {
        Self {
            number,
            stage: Stage::Idle,
            link: usize::MAX,
            stream: 0,
            window: 0,
            due: 0,
            interval,
            is_behind: false,
            is_started: false,
            sequence: 0,
            left,
            said: 0,
            rest: Vec::new(),
            rest_at: 0,
            not_before: 0,
            closed_at: 0,
            http_status: None,
            grpc_status: None,
        }
    }

    /// Whether it goes on without a time of its own.
    pub fn is_eager(&self, run: &Run) -> bool {
        self.interval == 0 || run.is_over || self.is_cut()
    }

    /// Opens its first stream, whether it has anything to say or not.
    pub fn begin(&mut self, at: u32, link: &mut Link, run: &Run, out: &mut Vec<u8>) -> Did {
        if self.sequence > 0 || run.messages.is_unary || run.now < self.not_before || !link.may_open() {
            return Did::Nothing;
        }
        self.open(at, link, run, out);
        Did::Other
    }

    /// Messages that are due and not begun. The youngest does not count: it may be due this very moment.
    pub fn overdue(&self, now: u64) -> u64 {
        let late = if self.is_started { now.saturating_sub(self.due) } else { 0 };
        late.checked_div(self.interval).unwrap_or_default().min(self.left)
    }

    /// Messages that went onto its stream whole.
    pub fn said_on_stream(&self, run: &Run) -> u64 {
        (self.said - u64::from(self.is_cut())) * u64::from(run.messages.stamps)
    }

    fn is_cut(&self) -> bool {
        self.rest_at < self.rest.len()
    }

    /// Does the next thing it can do, as frames in `out`.
    #[inline]
    pub fn step(&mut self, at: u32, link: &mut Link, run: &mut Run, out: &mut Vec<u8>) -> Did {
        match self.stage {
            Stage::Done | Stage::Awaiting => return Did::Nothing,
            Stage::Idle if run.now < self.not_before || !link.may_open() => return Did::Nothing,
            Stage::Idle => self.open(at, link, run, out),
            Stage::Sending => {}
        }
        if self.is_cut() {
            return self.go_on(link, run, out);
        }
        if self.is_at_its_end(run) {
            self.half_close(run, out);
            return Did::Other;
        }
        if self.window.min(link.window) <= 0 {
            return Did::Nothing;
        }
        self.say(link, run, out);
        if self.stage == Stage::Sending && !self.is_cut() && self.is_at_its_end(run) {
            self.half_close(run, out);
        }
        Did::Message
    }

    /// The peer has ended its stream, or it is lost for `why`. It opens another one if there is anything to say.
    pub fn ended(&mut self, why: Option<&str>, run: &mut Run) {
        if why.is_some() {
            run.in_doubt += self.said_on_stream(run);
        }
        self.rest.clear();
        self.rest_at = 0;
        self.stream = 0;
        self.stage = Stage::Idle;
        match why {
            Some(why) => {
                run.error(why);
                self.not_before = run.now + RETRY_NS;
                run.wakes.push((self.not_before, self.number - run.first));
            }
            None => {
                run.replies += 1;
                run.reply.record(run.now.saturating_sub(self.closed_at));
            }
        }
        if run.is_over || self.left == 0 {
            self.stage = Stage::Done;
            run.done += 1;
        }
    }

    /// Judges what the peer ended its stream with; a stream that still sends is cancelled.
    pub fn replied(&mut self, run: &mut Run, out: &mut Vec<u8>) {
        let is_sending = self.stage == Stage::Sending;
        if is_sending {
            put_frame(out, RST_STREAM, 0, self.stream, &CANCEL.to_be_bytes());
        }
        match (self.grpc_status, self.http_status) {
            (Some(0), _) if !is_sending => self.ended(None, run),
            (Some(0), _) => self.ended(Some("OK before the half-close"), run),
            (Some(code), _) => self.ended(Some(&format!("grpc-status {code}")), run),
            (None, Some(status)) => self.ended(Some(&format!("HTTP status {status} without grpc-status")), run),
            (None, None) => self.ended(Some("no status at all"), run),
        }
    }

    fn is_at_its_end(&self, run: &Run) -> bool {
        run.is_over || self.left == 0 || self.said >= run.per_stream
    }

    fn open(&mut self, at: u32, link: &mut Link, run: &Run, out: &mut Vec<u8>) {
        self.stream = link.open(at);
        self.window = link.peer.window;
        self.said = 0;
        (self.http_status, self.grpc_status) = (None, None);
        self.stage = Stage::Sending;
        put_frame(out, HEADERS, END_HEADERS, self.stream, &run.head);
    }

    fn half_close(&mut self, run: &Run, out: &mut Vec<u8>) {
        put_head(out, 0, DATA, END_STREAM, self.stream);
        self.await_reply(run.now);
    }

    fn await_reply(&mut self, since: u64) {
        self.stage = Stage::Awaiting;
        self.closed_at = since;
    }

    #[inline]
    fn say(&mut self, link: &mut Link, run: &mut Run, out: &mut Vec<u8>) {
        let is_opening = self.said == 0;
        let due = if self.interval == 0 { run.now } else { self.due };
        let flags = if run.messages.is_unary { END_STREAM } else { 0 };
        let stamp = Stamp { stream: self.number, sequence: self.sequence, due };
        let place = Place { stream: self.stream, flags, stamp, is_opening };
        let bytes = run.messages.bytes(is_opening);
        self.sequence += run.messages.stamps;
        self.said += 1;
        self.left -= 1;
        if self.left == 0 {
            run.senders -= 1;
        }
        if run.messages.is_unary {
            self.closed_at = due;
        }
        if bytes <= link.peer.frame_bytes_max && bytes as i64 <= self.window.min(link.window) {
            run.messages.put(out, place);
            self.window -= bytes as i64;
            link.window -= bytes as i64;
            self.said_whole(run);
        } else {
            self.rest.clear();
            run.messages.put(&mut self.rest, place);
            self.rest_at = HEAD_BYTES;
            self.go_on(link, run, out);
        }
    }

    /// As much of a message that was begun as windows allow.
    fn go_on(&mut self, link: &mut Link, run: &mut Run, out: &mut Vec<u8>) -> Did {
        let mut did = Did::Nothing;
        // The buffer ends somewhere: a large message takes several turns.
        while self.is_cut() && out.len() < WRITE_BYTES {
            let left = self.rest.len() - self.rest_at;
            let allowed = self.window.min(link.window).max(0) as usize;
            let bytes = left.min(allowed).min(link.peer.frame_bytes_max);
            if bytes == 0 {
                return did;
            }
            let flags = if bytes == left && run.messages.is_unary { END_STREAM } else { 0 };
            put_frame(out, DATA, flags, self.stream, &self.rest[self.rest_at..self.rest_at + bytes]);
            self.rest_at += bytes;
            self.window -= bytes as i64;
            link.window -= bytes as i64;
            did = Did::Other;
        }
        if !self.is_cut() {
            // Its memory is kept: the next message is as large.
            self.rest.clear();
            self.rest_at = 0;
            self.said_whole(run);
        }
        did
    }

    fn said_whole(&mut self, run: &mut Run) {
        run.sent += u64::from(run.messages.stamps);
        if run.messages.is_unary {
            self.await_reply(self.closed_at);
        }
    }
}
