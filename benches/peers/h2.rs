//! HTTP/2 as far as generator and sink need it: frames as bytes, over sockets that never block.
//!
//! It is small because it may cost less than any gateway it measures: no tasks, no frame objects, nothing allocated for
//! a message. Both ends share it; neither judges its peer beyond what it needs to go on.

pub mod clock;
pub mod socket;
pub mod stamp;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;

/// What a client says first (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const HEAD_BYTES: usize = 9;
/// Largest frame we take, and the largest we send unless the peer allows more: the RFC's default.
pub const FRAME_BYTES_MAX: usize = 16_384;
/// Window of a stream or connection nothing was said about.
pub const WINDOW_BYTES: u32 = 65_535;
/// Most of a write, and four of the largest frames.
pub const WRITE_BYTES: usize = 64 << 10;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;

pub const CANCEL: u32 = 8;

/// The nine bytes before a frame's payload.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

/// What the peer allows, as its SETTINGS say.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub window: i64,
    pub frame_bytes_max: usize,
    pub streams_max: u32,
}

/// Streams of a connection by their id. The ids are the peer's or our own, and our peers do not attack us: one
/// multiplication spreads them well enough.
pub type ById<T> = HashMap<u32, T, BuildHasherDefault<Spread>>;

#[derive(Debug, Default)]
pub struct Spread(u64);

// === impl Head ===

impl Head {
    /// The head of the frame that begins here; `None`: there is less than a head of it.
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *head;
        Some(Self {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// A DATA or HEADERS payload without padding and priority.
    ///
    /// # Errors
    /// When the padding is longer than the payload.
    #[inline]
    pub fn content<'a>(&self, payload: &'a [u8]) -> io::Result<&'a [u8]> {
        if !self.has(PADDED) && (self.kind != HEADERS || !self.has(PRIORITY)) {
            return Ok(payload);
        }
        let (padding, rest) = match (self.has(PADDED), payload) {
            (true, [padding, rest @ ..]) => (usize::from(*padding), rest),
            (true, []) => return Err(broken("a padded frame without its padding's length")),
            (false, all) => (0, all),
        };
        let before = if self.kind == HEADERS && self.has(PRIORITY) { 5 } else { 0 };
        let end = rest.len().checked_sub(padding).ok_or_else(|| broken("more padding than payload"))?;
        rest.get(before..end).ok_or_else(|| broken("more padding than payload"))
    }
}

// === impl Peer ===

impl Default for Peer {
    fn default() -> Self {
        Self { window: i64::from(WINDOW_BYTES), frame_bytes_max: FRAME_BYTES_MAX, streams_max: u32::MAX }
    }
}

impl Peer {
    /// Takes the payload of a SETTINGS frame and answers by how much the windows of open streams change.
    pub fn take(&mut self, payload: &[u8]) -> i64 {
        let before = self.window;
        for setting in payload.chunks_exact(6) {
            let value = number(&setting[2..]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                MAX_CONCURRENT_STREAMS => self.streams_max = value,
                INITIAL_WINDOW_SIZE => self.window = i64::from(value),
                MAX_FRAME_SIZE => self.frame_bytes_max = value as usize,
                _ => {}
            }
        }
        self.window - before
    }
}

// === impl Spread ===

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The first four bytes as a number; 0 when there are fewer.
pub fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

pub fn put_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, l0, l1, l2] = (length as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    out.extend_from_slice(&[l0, l1, l2, kind, flags, s0, s1, s2, s3]);
}

pub fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    put_head(out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
}

pub fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_head(out, settings.len() * 6, SETTINGS, 0, 0);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub fn put_window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    put_frame(out, WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
}

/// A field for a header block that is never indexed, with a name of its own.
pub fn put_field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    put_string(block, name);
    put_string(block, value);
}

/// A string of a header block, not Huffman. What we say is shorter than the 127 bytes one byte can count.
pub fn put_string(block: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() < 127, "longer strings need a length of more bytes");
    block.push(text.len() as u8);
    block.extend_from_slice(text.as_bytes());
}

/// The peer does what HTTP/2 or gRPC does not allow.
pub fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
