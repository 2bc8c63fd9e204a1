//! The stamp in each message: which stream sent it, as its how manieth, and when it was due.
//!
//! In strings it is 32 hexadecimal characters, so that messages stay valid protobuf; they are made and read eight at a
//! time. Spans have it in their ids: a trace id of time, stream and first span, a span id of stream and span.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub stream: u32,
    pub sequence: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub due: u64,
}

pub const TEXT_BYTES: usize = 32;
pub const TRACE_ID_BYTES: usize = 16;
pub const SPAN_ID_BYTES: usize = 8;
/// Span ids of nothing but zeros are invalid, so streams are counted from here in them.
const SPAN_STREAMS: u32 = 1 << 31;
/// Every byte is this one.
const EACH: u64 = 0x0101_0101_0101_0101;

// === impl Stamp ===

impl Stamp {
    #[inline]
    pub fn write_text(self, text: &mut [u8]) {
        put_hex(&mut text[..8], self.stream);
        put_hex(&mut text[8..16], self.sequence);
        put_hex(&mut text[16..24], (self.due >> 32) as u32);
        put_hex(&mut text[24..32], self.due as u32);
    }

    /// `None`: it has not the length of one.
    #[inline]
    pub fn read_text(text: &[u8]) -> Option<Self> {
        let text: &[u8; TEXT_BYTES] = text.try_into().ok()?;
        let word = |at: usize| hex(&text[at..at + 8]);
        Some(Self { stream: word(0), sequence: word(8), due: u64::from(word(16)) << 32 | u64::from(word(24)) })
    }

    /// The id of a trace whose first span this stamp is of.
    pub fn write_trace_id(self, id: &mut [u8]) {
        id[..8].copy_from_slice(&self.due.to_be_bytes());
        id[8..12].copy_from_slice(&self.stream.to_be_bytes());
        id[12..16].copy_from_slice(&self.sequence.to_be_bytes());
    }

    pub fn write_span_id(self, id: &mut [u8]) {
        id[..4].copy_from_slice(&(self.stream | SPAN_STREAMS).to_be_bytes());
        id[4..8].copy_from_slice(&self.sequence.to_be_bytes());
    }

    /// `None`: these are not ids of ours.
    pub fn read_ids(trace: &[u8], span: &[u8]) -> Option<Self> {
        let trace: &[u8; TRACE_ID_BYTES] = trace.try_into().ok()?;
        let span: u64 = u64::from_be_bytes(span.try_into().ok()?);
        let due = u64::from_be_bytes(*trace.first_chunk()?);
        let stream = (span >> 32) as u32;
        (stream & SPAN_STREAMS != 0).then_some(Self { stream: stream & !SPAN_STREAMS, sequence: span as u32, due })
    }
}

/// Eight lower-case hexadecimal digits.
#[inline]
pub fn put_hex(text: &mut [u8], number: u32) {
    // One digit a byte, the highest in the lowest byte, which is the first in memory.
    let mut digits = u64::from(number.swap_bytes());
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits >> 4 | digits << 8) & 0x0f0f_0f0f_0f0f_0f0f;
    // Digits from ten on carry into their fifth bit when six is added.
    let letters = ((digits + EACH * 6) >> 4) & EACH;
    text.copy_from_slice(&(digits + EACH * u64::from(b'0') + letters * 39).to_le_bytes());
}

/// The number that eight hexadecimal digits are. What they are not gives some number, too: whoever asks judges it.
#[inline]
fn hex(text: &[u8]) -> u32 {
    let text = text.first_chunk().map_or(0, |text| u64::from_le_bytes(*text));
    let mut digits = (text & (EACH * 0x0f)) + ((text >> 6) & EACH) * 9;
    digits &= EACH * 0x0f;
    digits = (digits << 4 | digits >> 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits >> 8) & 0x0000_ffff_0000_ffff;
    ((digits | digits >> 16) as u32).swap_bytes()
}

/// Whether what is written is what is read; a bench has no tests to say it in.
pub fn holds() -> bool {
    [(0, 0, 0), (1, 2, 3), (0x0123_4567, 0x89ab_cdef, u64::MAX), (9, 0xa0b0_c0d0, 1 << 40)].into_iter().all(
        |(stream, sequence, due)| {
            let stamp = Stamp { stream, sequence, due };
            let (mut text, mut trace, mut span) = ([0; TEXT_BYTES], [0; TRACE_ID_BYTES], [0; SPAN_ID_BYTES]);
            stamp.write_text(&mut text);
            stamp.write_trace_id(&mut trace);
            stamp.write_span_id(&mut span);
            text == *format!("{stream:08x}{sequence:08x}{due:016x}").as_bytes()
                && Stamp::read_text(&text) == Some(stamp)
                && Stamp::read_ids(&trace, &span) == Some(stamp)
        },
    )
}
