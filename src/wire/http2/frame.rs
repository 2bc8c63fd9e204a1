//! Frames: their heads, kinds, flags and error codes (RFC 9113, sections 4, 6 and 7).

use std::fmt;

/// What a client says first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 9;

/// The longest payload nobody has to be asked about: SETTINGS_MAX_FRAME_SIZE as it is unless said otherwise. We never
/// say otherwise, so it is also the longest we take.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 10;

/// The largest window, stream id and increment.
pub const INT31_MAX: u32 = (1 << 31) - 1;

/// The window everything begins with.
pub const WINDOW_BYTES: u32 = 65_535;

/// Frame kinds.
#[allow(missing_docs, reason = "the names are the protocol's own")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags. Two kinds share a bit, for no kind has both.
#[allow(missing_docs, reason = "the names are the protocol's own")]
pub mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// What stands before every payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the payload.
    pub length: u32,
    /// See [`kind`]; others are ignored.
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// The stream, 0 for the connection.
    pub stream: u32,
}

/// An error code, as it stands in RST_STREAM and GOAWAY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u32);

/// A mistake of the peer's that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What it is told.
    pub reason: Reason,
    /// For people; sent as debug data.
    pub why: &'static str,
}

// === impl Head ===

impl Head {
    /// Reads nine bytes; any nine bytes are a head.
    #[inline]
    pub fn parse(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([d, e, f, g]) & INT31_MAX,
        }
    }

    /// The nine bytes.
    #[inline]
    pub fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let [_, a, b, c] = self.length.to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    /// Whether this flag is set.
    #[inline]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

// === impl Reason ===

#[allow(missing_docs, reason = "the names are the protocol's own")]
impl Reason {
    pub const NO_ERROR: Self = Self(0);
    pub const PROTOCOL_ERROR: Self = Self(1);
    pub const INTERNAL_ERROR: Self = Self(2);
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    pub const SETTINGS_TIMEOUT: Self = Self(4);
    pub const STREAM_CLOSED: Self = Self(5);
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    pub const REFUSED_STREAM: Self = Self(7);
    pub const CANCEL: Self = Self(8);
    pub const COMPRESSION_ERROR: Self = Self(9);
    pub const CONNECT_ERROR: Self = Self(10);
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
    pub const INADEQUATE_SECURITY: Self = Self(12);
    pub const HTTP_1_1_REQUIRED: Self = Self(13);
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {:#x}", self.0),
        }
    }
}

// === impl Fault ===

impl Fault {
    pub(super) const fn new(reason: Reason, why: &'static str) -> Self {
        Self { reason, why }
    }

    pub(super) const fn protocol(why: &'static str) -> Self {
        Self::new(Reason::PROTOCOL_ERROR, why)
    }

    pub(super) const fn size(why: &'static str) -> Self {
        Self::new(Reason::FRAME_SIZE_ERROR, why)
    }

    pub(super) const fn window(why: &'static str) -> Self {
        Self::new(Reason::FLOW_CONTROL_ERROR, why)
    }

    pub(super) const fn calm(why: &'static str) -> Self {
        Self::new(Reason::ENHANCE_YOUR_CALM, why)
    }
}

/// A payload without the padding its flag announces.
///
/// # Errors
/// When it is all padding, or the padding is longer than it.
pub(super) fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], Fault> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let (pad, rest) = payload.split_first().ok_or(Fault::size("a padded frame without its pad length"))?;
    let kept = rest.len().checked_sub(usize::from(*pad)).ok_or(Fault::protocol("padding is longer than its frame"))?;
    Ok(&rest[..kept])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_head_reads_back(length in 0u32..1 << 24, kind: u8, flags: u8, stream in 0..=INT31_MAX) {
            let head = Head { length, kind, flags, stream };
            prop_assert_eq!(Head::parse(&head.to_bytes()), head);
        }

        #[test]
        fn padding_never_panics(flags: u8, payload in prop::collection::vec(any::<u8>(), 0..40)) {
            let head = Head { length: payload.len() as u32, kind: kind::DATA, flags, stream: 1 };
            if let Ok(kept) = unpadded(head, &payload) {
                prop_assert!(kept.len() <= payload.len());
            }
        }
    }

    #[test]
    fn the_reserved_bit_is_ignored() {
        assert_eq!(Head::parse(&[0, 0, 0, 0, 0, 0x80, 0, 0, 7]).stream, 7);
    }

    #[test]
    fn padding_as_long_as_the_frame_is_a_fault() {
        let head = Head { length: 3, kind: kind::DATA, flags: flag::PADDED, stream: 1 };
        assert_eq!(unpadded(head, &[2, 0, 0]), Ok(&[][..]));
        assert_eq!(unpadded(head, &[3, 0, 0]).unwrap_err().reason, Reason::PROTOCOL_ERROR);
        assert_eq!(unpadded(head, &[]).unwrap_err().reason, Reason::FRAME_SIZE_ERROR);
    }

    #[test]
    fn unknown_codes_have_a_name_too() {
        assert_eq!(Reason::CANCEL.to_string(), "CANCEL");
        assert_eq!(Reason(99).to_string(), "error code 0x63");
    }
}
