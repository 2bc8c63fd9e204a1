//! One inbound stream of the sink: its messages cut out of frames, its window, and what it is still working at.

use std::collections::VecDeque;
use std::io;

use crate::h2::broken;
use crate::h2::stamp::Stamp;

use super::books::Books;
use super::stamps::Stamps;

const PREFIX_BYTES: usize = 5;

/// What one frame brought to a sink that takes its time.
struct Work {
    done_at: u64,
    /// Bytes of window it keeps.
    bytes: u32,
    stamps: Vec<Option<Stamp>>,
}

#[derive(Default)]
pub struct Stream {
    /// What there is of a message that is not whole.
    beginning: Vec<u8>,
    /// Window that was used and not yet given back.
    pub unreleased: u32,
    /// What the peer takes of our reply, beyond its initial window.
    pub credit: i64,
    pub is_half_closed: bool,
    work: VecDeque<Work>,
    /// When all work that is there will be done.
    busy_until: u64,
}

// === impl Stream ===

impl Stream {
    /// Takes a frame's bytes; messages count as they arrive.
    ///
    /// # Errors
    /// When a message is compressed, or the books cannot be written.
    #[inline]
    pub fn take(&mut self, bytes: &[u8], stamps: Stamps, books: &mut Books, now: u64) -> io::Result<()> {
        self.unreleased += bytes.len() as u32;
        self.cut(bytes, |message| stamps.read(message, |stamp| books.enter(stamp, now))).map(drop)
    }

    /// Takes a frame's bytes; messages count, and give their window back, once they have been worked at. Answers
    /// when, if somebody has to look then.
    ///
    /// # Errors
    /// When a message is compressed.
    pub fn take_slowly(&mut self, bytes: &[u8], stamps: Stamps, take_ns: u64, now: u64) -> io::Result<Option<u64>> {
        let mut found = Vec::new();
        let messages = self.cut(bytes, |message| stamps.read(message, |stamp| found.push(stamp)))?;
        if messages == 0 {
            // A part of a message: nobody can work at it, and the rest needs the window.
            self.unreleased += bytes.len() as u32;
            return Ok(None);
        }
        self.busy_until = self.busy_until.max(now) + take_ns * messages;
        self.work.push_back(Work { done_at: self.busy_until, bytes: bytes.len() as u32, stamps: found });
        // Before the first one somebody looks already.
        Ok((self.work.len() == 1).then_some(self.busy_until))
    }

    /// Counts what is done; answers when the next one will be.
    pub fn work(&mut self, books: &mut Books, now: u64) -> Option<u64> {
        while let Some(work) = self.work.front() {
            if work.done_at > now {
                return Some(work.done_at);
            }
            self.unreleased += work.bytes;
            for stamp in &work.stamps {
                books.enter(*stamp, now);
            }
            self.work.pop_front();
        }
        None
    }

    pub fn is_working(&self) -> bool {
        !self.work.is_empty()
    }

    /// Cuts whole messages out of the stream's bytes and answers how many there were.
    #[inline]
    fn cut(&mut self, mut bytes: &[u8], mut whole: impl FnMut(&[u8])) -> io::Result<u64> {
        let mut messages = 0;
        if !self.beginning.is_empty() {
            let before = self.beginning.len();
            // First as much as says how long it is, then as much as that.
            if before < PREFIX_BYTES {
                self.beginning.extend_from_slice(&bytes[..bytes.len().min(PREFIX_BYTES - before)]);
            }
            let Some(length) = length_of(&self.beginning)? else {
                return Ok(0);
            };
            bytes = &bytes[self.beginning.len() - before..];
            let missing = (length - self.beginning.len()).min(bytes.len());
            self.beginning.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.beginning.len() < length {
                return Ok(0);
            }
            whole(&self.beginning[PREFIX_BYTES..]);
            self.beginning.clear();
            messages = 1;
        }
        while let Some(length) = length_of(bytes)? {
            let Some((message, rest)) = bytes.split_at_checked(length) else { break };
            whole(&message[PREFIX_BYTES..]);
            bytes = rest;
            messages += 1;
        }
        self.beginning.extend_from_slice(bytes);
        Ok(messages)
    }
}

/// Bytes of the message that begins here, its prefix included; `None`: there is less than a prefix.
#[inline]
fn length_of(bytes: &[u8]) -> io::Result<Option<usize>> {
    match *bytes {
        [0, l0, l1, l2, l3, ..] => Ok(Some(PREFIX_BYTES + u32::from_be_bytes([l0, l1, l2, l3]) as usize)),
        [0, ..] | [] => Ok(None),
        _ => Err(broken("a compressed message, though nobody was told that we read them")),
    }
}
