//! One inbound connection of the sink: frames in, window updates and replies out.

use std::io::{self, ErrorKind};

use crate::h2::clock;
use crate::h2::socket::{Beginning, Socket};
use crate::h2::{ACK, ById, DATA, END_HEADERS, END_STREAM, HEAD_BYTES, HEADERS, Head, INITIAL_WINDOW_SIZE, PING};
use crate::h2::{PREFACE, Peer, RST_STREAM, SETTINGS, WINDOW_BYTES, WINDOW_UPDATE};
use crate::h2::{number, put_field, put_frame, put_settings, put_window_update};

use super::Ways;
use super::books::Books;
use super::stream::Stream;

/// A connection's window by that of a stream.
const STREAMS_OF_WINDOW: u32 = 16;
/// A reply's message: not compressed, nothing in it. Every reply of every method here may be empty.
const EMPTY_MESSAGE: [u8; 5] = [0; 5];

/// What a stream has to be looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chore {
    Work,
    Answer,
}

pub struct Connection {
    pub socket: Socket,
    /// The address it came to, by its place.
    pub address: usize,
    pub is_blocked: bool,
    out: Vec<u8>,
    streams: ById<Stream>,
    beginning: Beginning,
    preface_left: usize,
    unreleased: u32,
    peer: Peer,
    /// What the peer takes of replies.
    window: i64,
    /// Replies that wait for it.
    waiting: Vec<u32>,
}

impl Connection {
    pub fn new(socket: Socket, address: usize, ways: &Ways) -> Self {
        let mut out = Vec::new();
        put_settings(&mut out, &[(INITIAL_WINDOW_SIZE, ways.window_bytes)]);
        let more = (ways.window_bytes.saturating_mul(STREAMS_OF_WINDOW) & 0x7fff_ffff).saturating_sub(WINDOW_BYTES);
        if more > 0 {
            put_window_update(&mut out, 0, more);
        }
        Self {
            socket,
            address,
            is_blocked: false,
            out,
            streams: ById::default(),
            beginning: Beginning::default(),
            preface_left: PREFACE.len(),
            unreleased: 0,
            peer: Peer::default(),
            window: i64::from(WINDOW_BYTES),
            waiting: Vec::new(),
        }
    }

    /// Reads and takes everything that is there; `later` gets what has to be looked at, and when. Answers the bytes.
    ///
    /// # Errors
    /// When the connection is lost, or the peer breaks the protocol.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        ways: &Ways,
        books: &mut Books,
        later: &mut impl FnMut(u64, u32, Chore),
    ) -> io::Result<u64> {
        let mut bytes = 0;
        loop {
            let gulp = match self.beginning.read(&mut self.socket, buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(bytes),
                gulp => gulp?,
            };
            bytes += gulp.bytes as u64;
            let now = clock::now();
            let mut rest = &buffer[..gulp.bytes];
            let preface = self.preface_left.min(rest.len());
            self.preface_left -= preface;
            rest = &rest[preface..];
            while let Some(head) = Head::read(rest) {
                let Some(payload) = rest.get(HEAD_BYTES..HEAD_BYTES + head.length) else { break };
                self.take(head, payload, now, ways, books, later)?;
                rest = &rest[HEAD_BYTES + head.length..];
            }
            self.beginning.keep(rest);
            bytes -= rest.len() as u64;
            if !gulp.is_more {
                return Ok(bytes);
            }
        }
    }

    /// Does what was put off.
    pub fn look(
        &mut self,
        id: u32,
        chore: Chore,
        ways: &Ways,
        books: &mut Books,
        later: &mut impl FnMut(u64, u32, Chore),
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let now = clock::now();
        match chore {
            Chore::Answer => self.reply(id),
            Chore::Work => {
                let next = stream.work(books, now);
                release(&mut self.out, id, stream, ways);
                match next {
                    Some(at) => later(at, id, Chore::Work),
                    None if stream.is_half_closed => self.half_closed(id, now, ways, later),
                    None => {}
                }
            }
        }
    }

    /// Writes what there is to say.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn write(&mut self) -> io::Result<()> {
        if self.is_blocked {
            return Ok(());
        }
        let written = if self.out.is_empty() { self.socket.flush().map(|()| 0) } else { self.socket.write(&self.out) };
        match written {
            Ok(written) => {
                self.is_blocked = written < self.out.len();
                self.out.drain(..written);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_blocked = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    #[inline]
    fn take(
        &mut self,
        head: Head,
        payload: &[u8],
        now: u64,
        ways: &Ways,
        books: &mut Books,
        later: &mut impl FnMut(u64, u32, Chore),
    ) -> io::Result<()> {
        if head.kind == DATA {
            self.data(head, payload, now, ways, books, later)?;
        } else if head.kind == HEADERS {
            self.streams.entry(head.stream).or_default();
        } else {
            self.control(head, payload);
            return Ok(());
        }
        if head.has(END_STREAM)
            && let Some(stream) = self.streams.get_mut(&head.stream)
        {
            stream.is_half_closed = true;
            if !stream.is_working() {
                self.half_closed(head.stream, now, ways, later);
            }
        }
        Ok(())
    }

    #[inline]
    fn data(
        &mut self,
        head: Head,
        payload: &[u8],
        now: u64,
        ways: &Ways,
        books: &mut Books,
        later: &mut impl FnMut(u64, u32, Chore),
    ) -> io::Result<()> {
        self.unreleased += head.length as u32;
        if self.unreleased >= ways.window_bytes.saturating_mul(STREAMS_OF_WINDOW / 2).min(1 << 30) {
            put_window_update(&mut self.out, 0, self.unreleased);
            self.unreleased = 0;
        }
        // One that was reset.
        let Some(stream) = self.streams.get_mut(&head.stream) else { return Ok(()) };
        let content = head.content(payload)?;
        stream.unreleased += (payload.len() - content.len()) as u32;
        if ways.take_ns == 0 {
            stream.take(content, ways.stamps, books, now)?;
        } else if let Some(at) = stream.take_slowly(content, ways.stamps, ways.take_ns, now)? {
            later(at, head.stream, Chore::Work);
        }
        release(&mut self.out, head.stream, stream, ways);
        Ok(())
    }

    /// Header blocks are not read: whatever is asked for, the answer is the same, and nobody needs the table.
    fn control(&mut self, head: Head, payload: &[u8]) {
        match head.kind {
            RST_STREAM => drop(self.streams.remove(&head.stream)),
            SETTINGS if !head.has(ACK) => {
                // Streams count from the initial window, so a change needs no more than the new number.
                self.peer.take(payload);
                put_frame(&mut self.out, SETTINGS, ACK, 0, &[]);
                self.reply_to_waiting();
            }
            PING if !head.has(ACK) => put_frame(&mut self.out, PING, ACK, 0, payload),
            WINDOW_UPDATE => {
                let bytes = i64::from(number(payload) & 0x7fff_ffff);
                if head.stream == 0 {
                    self.window += bytes;
                } else if let Some(stream) = self.streams.get_mut(&head.stream) {
                    stream.credit += bytes;
                }
                self.reply_to_waiting();
            }
            _ => {}
        }
    }

    fn half_closed(&mut self, id: u32, now: u64, ways: &Ways, later: &mut impl FnMut(u64, u32, Chore)) {
        if ways.answer_after_ns == 0 {
            self.reply(id);
        } else {
            later(now + ways.answer_after_ns, id, Chore::Answer);
        }
    }

    fn reply_to_waiting(&mut self) {
        for id in std::mem::take(&mut self.waiting) {
            self.reply(id);
        }
    }

    fn reply(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id) else { return };
        let needed = EMPTY_MESSAGE.len() as i64;
        if self.window < needed || self.peer.window + stream.credit < needed {
            return self.waiting.push(id);
        }
        self.window -= needed;
        self.streams.remove(&id);
        // From the static table (RFC 7541, appendix A): status 200.
        let mut block = vec![0x88];
        put_field(&mut block, "content-type", "application/grpc");
        put_frame(&mut self.out, HEADERS, END_HEADERS, id, &block);
        put_frame(&mut self.out, DATA, 0, id, &EMPTY_MESSAGE);
        block.clear();
        put_field(&mut block, "grpc-status", "0");
        put_frame(&mut self.out, HEADERS, END_HEADERS | END_STREAM, id, &block);
    }
}

/// Gives window back in halves, so that updates are few.
#[inline]
fn release(out: &mut Vec<u8>, id: u32, stream: &mut Stream, ways: &Ways) {
    if stream.unreleased >= ways.window_bytes / 2 && !stream.is_half_closed {
        put_window_update(out, id, stream.unreleased);
        stream.unreleased = 0;
    }
}
