//! Frames on their way out: gathered in buffers of the worker's, which are lent only while something waits.
//!
//! Every frame lies whole in one buffer, so that the last one can still be changed until the socket was offered it: DATA
//! that follows DATA of the same stream makes one longer frame, and END_STREAM becomes a flag of what went before it.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::frame::{HEAD_BYTES, Head, flag, kind};
use crate::wire::gulp::{BUFFER_BYTES, give_back, lend};

/// A new buffer is begun rather than a frame shorter than this cut off at the end of the last one.
const PIECE_BYTES_MIN: usize = 1 << 10;

/// What waits to be written.
#[derive(Debug, Default)]
pub struct Output {
    portions: VecDeque<Portion>,
    /// Bytes in all portions.
    bytes: usize,
    /// Frames that answer or announce something, since the output was last empty.
    controls: usize,
    /// The last frame, if it is DATA that may still change.
    tail: Option<Tail>,
}

/// A lent buffer and the part of it that waits.
#[derive(Debug)]
struct Portion {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// A DATA frame in the last portion.
#[derive(Debug)]
struct Tail {
    head: Head,
    /// Where its head stands.
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
        let mut filled = 0;
        for (slice, portion) in slices.iter_mut().zip(&self.portions) {
            *slice = IoSlice::new(&portion.buffer[portion.start..portion.end]);
            filled += 1;
        }
        (slices, filled)
    }

    /// Forgets the first bytes, which were written.
    pub fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.portions.front_mut() {
            let length = first.end - first.start;
            if written < length {
                first.start += written;
                return;
            }
            written -= length;
            self.portions.pop_front();
        }
        self.controls = 0;
    }

    /// What a client says before its first frame.
    pub fn preface(&mut self, preface: &[u8]) {
        self.room_for(preface.len()).0.put(preface);
        self.bytes += preface.len();
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
    pub fn data(&mut self, stream: u32, bytes: &[u8], payload_bytes_max: usize) {
        let mut rest = self.lengthen(stream, bytes, payload_bytes_max);
        while !rest.is_empty() {
            let room = self.room_for(HEAD_BYTES + rest.len().min(PIECE_BYTES_MIN)).1 - HEAD_BYTES;
            let (piece, behind) = rest.split_at(rest.len().min(room).min(payload_bytes_max));
            let head = Head { length: piece.len() as u32, kind: kind::DATA, flags: 0, stream };
            let at = self.frame(head, piece);
            self.tail = Some(Tail { head, at });
            rest = behind;
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

    /// Adds to the last frame what there is room for in it; answers the rest.
    fn lengthen<'a>(&mut self, stream: u32, bytes: &'a [u8], payload_bytes_max: usize) -> &'a [u8] {
        let Some(Tail { mut head, at }) = self.tail.take().filter(|tail| tail.head.stream == stream) else {
            return bytes;
        };
        let Some(last) = self.portions.back_mut() else { return bytes };
        let room = payload_bytes_max.saturating_sub(head.length as usize).min(last.buffer.len() - last.end);
        let (added, rest) = bytes.split_at(bytes.len().min(room));
        last.put(added);
        self.bytes += added.len();
        head.length += added.len() as u32;
        self.rewrite(head, at);
        self.tail = Some(Tail { head, at });
        rest
    }

    fn rewrite(&mut self, head: Head, at: usize) {
        if let Some(last) = self.portions.back_mut() {
            last.buffer[at..at + HEAD_BYTES].copy_from_slice(&head.to_bytes());
        }
    }

    /// Writes a frame; answers where in the last portion it begins.
    fn frame(&mut self, head: Head, payload: &[u8]) -> usize {
        self.tail = None;
        let (last, _) = self.room_for(HEAD_BYTES + payload.len());
        let at = last.end;
        last.put(&head.to_bytes());
        last.put(payload);
        self.bytes += HEAD_BYTES + payload.len();
        at
    }

    /// A portion with room for so many bytes, and its room.
    fn room_for(&mut self, bytes: usize) -> (&mut Portion, usize) {
        if self.portions.back().is_none_or(|last| last.buffer.len() - last.end < bytes) {
            self.portions.push_back(Portion { buffer: lend(), start: 0, end: 0 });
        }
        let last = self.portions.back_mut().expect("put there just now");
        let room = last.buffer.len() - last.end;
        (last, room)
    }
}

// === impl Portion ===

impl Portion {
    fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &mut Output) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !output.is_empty() {
            let (slices, filled) = output.slices::<4>();
            let piece = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
            output.advance(piece.len());
            bytes.extend(piece);
        }
        bytes
    }

    /// Kind, flags, stream and payload of each frame.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
            let head = Head::parse(head);
            let (payload, behind) = rest.split_at(head.length as usize);
            frames.push((head.kind, head.flags, head.stream, payload.to_vec()));
            bytes = behind;
        }
        assert!(bytes.is_empty());
        frames
    }

    #[test]
    fn neighbours_of_one_stream_and_their_end_are_one_frame() {
        let mut output = Output::default();
        output.data(1, b"ab", 16_384);
        output.data(1, b"cd", 16_384);
        output.end(1);
        output.data(3, b"e", 16_384);
        output.data(5, b"f", 16_384);
        output.end(3);
        let frames = frames(&written(&mut output));
        let expected = [
            (kind::DATA, flag::END_STREAM, 1, b"abcd".to_vec()),
            (kind::DATA, 0, 3, b"e".to_vec()),
            (kind::DATA, 0, 5, b"f".to_vec()),
            (kind::DATA, flag::END_STREAM, 3, vec![]),
        ];
        assert_eq!(frames, expected);
    }

    #[test]
    fn what_was_offered_to_the_socket_does_not_change_any_more() {
        let mut output = Output::default();
        output.data(1, b"ab", 16_384);
        let _ = output.slices::<1>();
        output.data(1, b"cd", 16_384);
        output.end(1);
        let flags: Vec<_> = frames(&written(&mut output)).into_iter().map(|frame| (frame.1, frame.3)).collect();
        assert_eq!(flags, [(0, b"ab".to_vec()), (flag::END_STREAM, b"cd".to_vec())]);
    }

    #[test]
    fn long_bytes_become_frames_of_at_most_what_the_peer_takes_and_leave_no_buffer_behind() {
        let mut output = Output::default();
        let sent: Vec<u8> = (0..300_000u32).map(|at| at as u8).collect();
        sent.chunks(7_001).for_each(|chunk| output.data(1, chunk, 16_384));
        let frames = frames(&written(&mut output));
        assert!(frames.iter().all(|frame| (1..=16_384).contains(&frame.3.len())));
        assert_eq!(frames.into_iter().flat_map(|frame| frame.3).collect::<Vec<_>>(), sent);
        assert!(output.portions.is_empty());
    }

    #[test]
    fn a_long_header_block_continues() {
        let mut output = Output::default();
        output.headers(1, &[7; 40], true, 16);
        let flags: Vec<_> = frames(&written(&mut output)).into_iter().map(|frame| (frame.0, frame.1)).collect();
        let expected =
            [(kind::HEADERS, flag::END_STREAM), (kind::CONTINUATION, 0), (kind::CONTINUATION, flag::END_HEADERS)];
        assert_eq!(flags, expected);
    }

    #[test]
    fn answers_are_counted_until_all_is_written() {
        let mut output = Output::default();
        output.control(kind::PING, flag::ACK, 0, &[0; 8]);
        output.control(kind::PING, flag::ACK, 0, &[0; 8]);
        output.advance(20);
        assert_eq!(output.controls(), 2);
        output.advance(output.len());
        assert_eq!(output.controls(), 0);
    }
}
