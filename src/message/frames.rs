//! Cuts a gRPC byte stream (DATA chunks of any size) into runs of whole messages without copying them.
//!
//! A gRPC message on the wire is a 5-byte prefix (one flag byte: 0 plain, 1 compressed; four bytes of
//! big-endian length) and a body. Messages and HTTP/2 DATA frames do not line up. A [`Run`] is what lies whole
//! in one chunk, prefixes kept, so that it can be written out again as it is. Only a message that straddles
//! chunks is copied, into a buffer that grows by what was *received*: a claim alone gets little.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::run::{PREFIX_BYTES, Run};

/// A message that straddles chunks gets room for so much at once, whatever of it was received.
const SHORT_BYTES: usize = 2 << 10;

/// Why a byte stream is not a sequence of acceptable gRPC messages. Fatal for the call, harmless to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The prefix announces more than the limit.
    #[error(
        "a message of {announced} bytes is over the limit of {limit} bytes; raise limits.message or send smaller messages"
    )]
    Oversize {
        /// Bytes the prefix announces.
        announced: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The flag byte of a prefix is neither 0 nor 1.
    #[error("message flag {0:#04x} is neither 0 (plain) nor 1 (compressed): this is not a gRPC message")]
    BadFlag(u8),
}

/// The frame reader of one call.
#[derive(Debug)]
pub struct Frames {
    message_bytes_max: usize,
    /// Chunks not yet cut, in order. Whole messages never sit here after `next_run` answered `None`.
    chunks: VecDeque<Bytes>,
    /// The message that straddles chunks; empty when there is none.
    partial: BytesMut,
    /// An error behind whole messages, which come out first.
    broken: Option<FrameError>,
}

/// Counts the messages of a byte stream that is passed on as it is.
#[derive(Debug)]
pub struct Counter {
    message_bytes_max: usize,
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    body_left: usize,
}

// === impl Counter ===

impl Counter {
    /// A counter that refuses messages whose body is over `message_bytes_max` bytes.
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, prefix: [0; PREFIX_BYTES], prefix_len: 0, body_left: 0 }
    }

    /// How many messages end in this chunk.
    ///
    /// # Errors
    /// As [`Frames::next_run`].
    pub fn count(&mut self, mut chunk: &[u8]) -> Result<u32, FrameError> {
        let mut messages = 0;
        while !chunk.is_empty() || (self.prefix_len == PREFIX_BYTES && self.body_left == 0) {
            if self.prefix_len < PREFIX_BYTES {
                let taken = (PREFIX_BYTES - self.prefix_len).min(chunk.len());
                self.prefix[self.prefix_len..self.prefix_len + taken].copy_from_slice(&chunk[..taken]);
                self.prefix_len += taken;
                chunk = &chunk[taken..];
                self.body_left = announced(&self.prefix[..self.prefix_len], self.message_bytes_max)?.unwrap_or(0);
                continue;
            }
            let taken = self.body_left.min(chunk.len());
            self.body_left -= taken;
            chunk = &chunk[taken..];
            if self.body_left == 0 {
                self.prefix_len = 0;
                messages += 1;
            }
        }
        Ok(messages)
    }

    /// Whether a message has begun and not ended.
    pub fn is_mid_message(&self) -> bool {
        self.prefix_len > 0
    }
}

// === impl Frames ===

impl Frames {
    /// A reader that refuses messages whose body is over `message_bytes_max` bytes.
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, chunks: VecDeque::new(), partial: BytesMut::new(), broken: None }
    }

    /// Takes the next chunk of the stream. Empty chunks are fine.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next run of whole messages, or `None` when more bytes are needed. Whole messages before an error come out
    /// before it does.
    ///
    /// # Errors
    /// After an error the reader is at no message border any more: end the call.
    pub fn next_run(&mut self) -> Result<Option<Run>, FrameError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        while let Some(mut chunk) = self.chunks.pop_front() {
            if !self.partial.is_empty() {
                let whole = self.complete_partial(&mut chunk)?;
                if !chunk.is_empty() {
                    self.chunks.push_front(chunk);
                }
                match whole {
                    Some(run) => return Ok(Some(run)),
                    None => continue,
                }
            }
            let (length, messages, compressed) = self.whole_messages(&chunk)?;
            let run = chunk.split_to(length);
            if !chunk.is_empty() {
                self.begin_partial(&chunk);
            }
            if messages > 0 {
                return Ok(Some(Run::new(run, messages, compressed)));
            }
        }
        Ok(None)
    }

    /// Whether the stream stands inside a message: an end now would be a truncated message.
    pub fn is_mid_message(&self) -> bool {
        !self.partial.is_empty() || !self.chunks.is_empty()
    }

    /// Bytes held of a message that is not whole yet.
    pub fn partial_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Bytes and number of the whole messages at the start of `chunk`, and whether any is compressed.
    fn whole_messages(&mut self, chunk: &[u8]) -> Result<(usize, u32, bool), FrameError> {
        let (mut at, mut messages, mut flags) = (0, 0, 0);
        loop {
            let body = match announced(&chunk[at..], self.message_bytes_max) {
                Ok(Some(body)) => body,
                Ok(None) => break,
                Err(error) if messages == 0 => return Err(error),
                Err(error) => {
                    self.broken = Some(error);
                    break;
                }
            };
            let end = at + PREFIX_BYTES + body;
            if end > chunk.len() {
                break;
            }
            flags |= chunk[at];
            at = end;
            messages += 1;
        }
        Ok((at, messages, flags == 1))
    }

    /// Keeps the front of a message that straddles chunks, with room for all of it if it is short.
    fn begin_partial(&mut self, front: &[u8]) {
        let announced = announced(front, self.message_bytes_max).ok().flatten();
        let whole = announced.map_or(0, |body| PREFIX_BYTES + body);
        self.partial.reserve(whole.min(SHORT_BYTES).max(front.len()));
        self.partial.extend_from_slice(front);
    }

    /// Moves bytes from `chunk` to the straddling message; answers it once it is whole.
    fn complete_partial(&mut self, chunk: &mut Bytes) -> Result<Option<Run>, FrameError> {
        let missing = PREFIX_BYTES.saturating_sub(self.partial.len()).min(chunk.len());
        self.partial.extend_from_slice(&chunk.split_to(missing));
        let Some(body) = announced(&self.partial, self.message_bytes_max)? else {
            return Ok(None);
        };
        let missing = (PREFIX_BYTES + body - self.partial.len()).min(chunk.len());
        self.partial.extend_from_slice(&chunk[..missing]);
        chunk.advance(missing);
        if self.partial.len() < PREFIX_BYTES + body {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.partial).freeze();
        let compressed = bytes[0] == 1;
        Ok(Some(Run::new(bytes, 1, compressed)))
    }
}

/// The body length a prefix announces, or `None` when the prefix itself is not whole.
fn announced(bytes: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    if prefix[0] > 1 {
        return Err(FrameError::BadFlag(prefix[0]));
    }
    let announced = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if announced > limit {
        return Err(FrameError::Oversize { announced, limit });
    }
    Ok(Some(announced))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(bodies: &[Vec<u8>]) -> Vec<u8> {
        bodies.iter().flat_map(|body| Run::of_body(body).bytes().to_vec()).collect()
    }

    /// Everything `frames` can cut now.
    fn drain(frames: &mut Frames) -> Vec<Run> {
        std::iter::from_fn(|| frames.next_run().expect("valid input")).collect()
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_the_stream_is_chunked(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..40),
            cuts in prop::collection::vec(0usize..4000, 0..30),
        ) {
            let stream = Bytes::from(wire(&bodies));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut frames = Frames::new(4096);
            let mut out = Vec::new();
            for window in cuts.windows(2) {
                frames.push(stream.slice(window[0]..window[1]));
                for run in drain(&mut frames) {
                    prop_assert_eq!(run.messages() as usize, run.iter().count());
                    out.extend(run.iter().map(|message| message.body().to_vec()));
                }
            }
            prop_assert!(!frames.is_mid_message());
            prop_assert_eq!(out, bodies);
        }

        #[test]
        fn a_counter_counts_what_frames_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20), piece in 1usize..50,
        ) {
            let mut counter = Counter::new(4096);
            let counted: u32 = wire(&bodies).chunks(piece).map(|chunk| counter.count(chunk).unwrap()).sum();
            prop_assert_eq!(counted as usize, bodies.len());
        }

        #[test]
        fn arbitrary_bytes_never_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16)) {
            let mut frames = Frames::new(1 << 16);
            for chunk in chunks {
                frames.push(Bytes::from(chunk));
                while let Ok(Some(run)) = frames.next_run() {
                    let _ = run.iter().count();
                }
            }
        }
    }

    #[test]
    fn a_run_shares_the_memory_of_its_chunk() {
        let stream = Bytes::from(wire(&[vec![1; 100], vec![2; 100]]));
        let mut frames = Frames::new(4096);
        frames.push(stream.clone());
        let run = frames.next_run().expect("valid").expect("whole");
        assert_eq!(run.bytes().as_ptr(), stream.as_ptr());
    }

    #[test]
    fn an_oversize_prefix_is_refused_before_its_body_arrives() {
        let mut frames = Frames::new(1000);
        frames.push(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]));
        assert_eq!(frames.next_run(), Err(FrameError::Oversize { announced: 0xffff_ffff, limit: 1000 }));
    }

    #[test]
    fn whole_messages_before_an_error_come_out_before_it() {
        let mut frames = Frames::new(1000);
        let mut stream = wire(&[vec![1; 10], vec![2; 10]]);
        stream.extend([9, 9, 9, 9, 9]);
        frames.push(stream.into());
        assert_eq!(frames.next_run().unwrap().unwrap().messages(), 2);
        assert_eq!(frames.next_run(), Err(FrameError::BadFlag(9)));
    }

    #[test]
    fn a_claimed_length_allocates_little() {
        let mut frames = Frames::new(64 << 20);
        frames.push(Bytes::from_static(&[0, 0x03, 0, 0, 0, 7]));
        assert_eq!(frames.next_run(), Ok(None));
        assert!(frames.partial.capacity() <= SHORT_BYTES);
    }

    #[test]
    fn a_bad_flag_is_not_grpc() {
        let mut frames = Frames::new(1000);
        frames.push(Bytes::from_static(b"GET / HTTP/1.1"));
        assert_eq!(frames.next_run(), Err(FrameError::BadFlag(b'G')));
    }
}
