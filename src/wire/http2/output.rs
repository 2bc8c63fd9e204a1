//! Frames on their way out. Heads and what is small are copied into buffers of the worker's, which are lent only while
//! something waits; what is large waits as it is, between its head and the next, and goes out by a gathered write.
//!
//! The last frame can still be changed until the socket was offered it: DATA that follows DATA of the same stream makes
//! one longer frame, and END_STREAM becomes a flag of what went before it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::frame::{HEAD_BYTES, Head, flag, kind};
use crate::wire::gulp::{BUFFER_BYTES, give_back, lend};

/// Bytes from this size on are not copied: a piece more in a gathered write costs less.
const SHARED_BYTES_MIN: usize = 4 << 10;

/// A new buffer is begun rather than a frame shorter than this cut off at the end of the last one.
const PIECE_BYTES_MIN: usize = 1 << 10;

/// What waits to be written.
#[derive(Debug, Default)]
pub struct Output {
    pieces: VecDeque<Piece>,
    /// Where the copied pieces stand, one behind the other.
    buffers: VecDeque<Buffer>,
    /// Bytes in all pieces.
    bytes: usize,
    /// Frames that answer or announce something, since the output was last empty.
    controls: usize,
    /// The last frame, if it is DATA that may still change.
    tail: Option<Tail>,
}

/// What goes out in one piece.
#[derive(Debug)]
enum Piece {
    /// So many of the bytes in the buffers; they may stand in two.
    Copied(usize),
    Shared(Bytes),
}

/// A lent buffer and the part of it that waits.
#[derive(Debug)]
struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

/// The DATA frame at the end.
#[derive(Debug)]
struct Tail {
    head: Head,
    /// Where its head stands in the last buffer.
    at: usize,
}

// === impl Output ===

impl Output {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Frames that answer or announce something and came since the output was last empty. A peer that lets them pile
    /// up is not to be read from.
    pub fn controls(&self) -> usize {
        self.controls
    }

    /// What waits, for a gathered write; at most `N` pieces of it. No frame changes any more after that.
    pub fn slices<const N: usize>(&mut self) -> ([IoSlice<'_>; N], usize) {
        self.tail = None;
        let mut slices = [IoSlice::new(&[]); N];
        let (mut filled, mut buffer, mut gone) = (0, 0, 0);
        'filling: for piece in &self.pieces {
            let mut left = match piece {
                Piece::Shared(bytes) if filled < N => {
                    slices[filled] = IoSlice::new(bytes);
                    filled += 1;
                    continue;
                }
                Piece::Copied(length) => *length,
                Piece::Shared(_) => break,
            };
            while left > 0 {
                if filled == N {
                    break 'filling;
                }
                let copied = &self.buffers[buffer].waiting()[gone..];
                let length = copied.len().min(left);
                slices[filled] = IoSlice::new(&copied[..length]);
                filled += 1;
                left -= length;
                (buffer, gone) = if length < copied.len() { (buffer, gone + length) } else { (buffer + 1, 0) };
            }
        }
        (slices, filled)
    }

    /// Forgets the first bytes, which were written.
    pub fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        self.tail = None;
        while let Some(first) = self.pieces.front_mut() {
            let is_over = match first {
                Piece::Shared(bytes) => {
                    let gone = written.min(bytes.len());
                    bytes.advance(gone);
                    written -= gone;
                    bytes.is_empty()
                }
                Piece::Copied(length) => {
                    let gone = written.min(*length);
                    written -= gone;
                    *length -= gone;
                    let is_over = *length == 0;
                    self.forget_copied(gone);
                    is_over
                }
            };
            if !is_over {
                return;
            }
            self.pieces.pop_front();
        }
        self.controls = 0;
    }

    fn forget_copied(&mut self, mut bytes: usize) {
        while let Some(first) = self.buffers.front_mut() {
            let gone = bytes.min(first.end - first.start);
            first.start += gone;
            bytes -= gone;
            if first.start < first.end {
                return;
            }
            self.buffers.pop_front();
        }
    }

    /// What a client says before its first frame.
    pub fn preface(&mut self, preface: &[u8]) {
        self.room_for(preface.len());
        self.copy(preface);
    }

    /// A frame with a small payload.
    pub fn control(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.controls += 1;
        self.frame(Head { length: payload.len() as u32, kind, flags, stream }, payload);
    }

    /// A header block, as HEADERS and as many CONTINUATIONs as it takes.
    pub fn headers(&mut self, stream: u32, block: &[u8], ends: bool, payload_bytes_max: usize) {
        let mut kind = kind::HEADERS;
        let mut flags = if ends { flag::END_STREAM } else { 0 };
        let mut rest = block;
        loop {
            let (piece, behind) = rest.split_at(rest.len().min(payload_bytes_max.min(BUFFER_BYTES - HEAD_BYTES)));
            rest = behind;
            if rest.is_empty() {
                flags |= flag::END_HEADERS;
            }
            self.frame(Head { length: piece.len() as u32, kind, flags, stream }, piece);
            if rest.is_empty() {
                return;
            }
            (kind, flags) = (kind::CONTINUATION, 0);
        }
    }

    /// Bytes of a stream.
    pub fn data(&mut self, stream: u32, mut bytes: Bytes, payload_bytes_max: usize) {
        while !bytes.is_empty() {
            let tail = self.tail.take().filter(|tail| tail.head.stream == stream);
            let Tail { mut head, at } = match tail {
                Some(tail) if (tail.head.length as usize) < payload_bytes_max => tail,
                _ => self.data_head(stream, bytes.len()),
            };
            let room = payload_bytes_max - head.length as usize;
            let taken = if bytes.len().min(room) >= SHARED_BYTES_MIN {
                self.share(bytes.split_to(bytes.len().min(room)))
            } else {
                let taken = bytes.len().min(room).min(self.room());
                self.copy(&bytes[..taken]);
                bytes.advance(taken);
                taken
            };
            if taken > 0 {
                head.length += taken as u32;
                self.rewrite(head, at);
                self.tail = Some(Tail { head, at });
            }
        }
    }

    /// The end of a stream's bytes.
    pub fn end(&mut self, stream: u32) {
        if let Some(Tail { mut head, at }) = self.tail.take().filter(|tail| tail.head.stream == stream) {
            head.flags |= flag::END_STREAM;
            self.rewrite(head, at);
        } else {
            self.frame(Head { length: 0, kind: kind::DATA, flags: flag::END_STREAM, stream }, &[]);
        }
    }

    /// Begins a DATA frame where some of so many bytes have room behind its head.
    fn data_head(&mut self, stream: u32, bytes: usize) -> Tail {
        let head = Head { length: 0, kind: kind::DATA, flags: 0, stream };
        let copied = if bytes >= SHARED_BYTES_MIN { 0 } else { bytes.min(PIECE_BYTES_MIN) };
        self.room_for(HEAD_BYTES + copied);
        let at = self.buffers.back().map_or(0, |last| last.end);
        self.copy(&head.to_bytes());
        Tail { head, at }
    }

    fn rewrite(&mut self, head: Head, at: usize) {
        if let Some(last) = self.buffers.back_mut() {
            last.bytes[at..at + HEAD_BYTES].copy_from_slice(&head.to_bytes());
        }
    }

    /// Writes a frame whole.
    fn frame(&mut self, head: Head, payload: &[u8]) {
        self.tail = None;
        self.room_for(HEAD_BYTES + payload.len());
        self.copy(&head.to_bytes());
        self.copy(payload);
    }

    /// Sees to it that the last buffer has room for so many bytes.
    fn room_for(&mut self, bytes: usize) {
        if self.buffers.is_empty() || self.room() < bytes {
            self.buffers.push_back(Buffer { bytes: lend(), start: 0, end: 0 });
        }
    }

    /// Room in the last buffer.
    fn room(&self) -> usize {
        self.buffers.back().map_or(0, |last| last.bytes.len() - last.end)
    }

    /// Puts bytes into the last buffer, which has room for them.
    fn copy(&mut self, bytes: &[u8]) {
        let Some(last) = self.buffers.back_mut().filter(|_| !bytes.is_empty()) else { return };
        last.bytes[last.end..last.end + bytes.len()].copy_from_slice(bytes);
        last.end += bytes.len();
        self.bytes += bytes.len();
        match self.pieces.back_mut() {
            Some(Piece::Copied(length)) => *length += bytes.len(),
            _ => self.pieces.push_back(Piece::Copied(bytes.len())),
        }
    }

    /// Puts bytes behind the others as they are; answers how many.
    fn share(&mut self, bytes: Bytes) -> usize {
        let length = bytes.len();
        self.bytes += length;
        self.pieces.push_back(Piece::Shared(bytes));
        length
    }
}

// === impl Buffer ===

impl Buffer {
    fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests;
