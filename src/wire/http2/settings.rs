//! SETTINGS: what we announce, and what a peer may announce (RFC 9113, section 6.5).

use super::frame::{Fault, INT31_MAX, PAYLOAD_BYTES_MAX, WINDOW_BYTES};

/// Identifiers.
const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// What we let a peer do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Streams it may have open at once.
    pub streams_max: u32,
    /// Bytes of a header list once it is decoded.
    pub header_list_bytes_max: u32,
    /// Bytes it may send on one stream ahead of being read.
    pub stream_window_bytes: u32,
    /// The same over all streams; at least the protocol's 65,535.
    pub connection_window_bytes: u32,
}

/// What a peer lets us do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theirs {
    /// Streams we may have open at once.
    pub streams_max: u32,
    /// What a stream's window begins with.
    pub window_bytes: u32,
    /// Bytes of a frame's payload.
    pub payload_bytes_max: usize,
}

/// One thing a peer announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    TableBytes(u32),
    StreamsMax(u32),
    WindowBytes(u32),
    PayloadBytes(usize),
    /// One that changes nothing here.
    Nothing,
}

// === impl Limits ===

impl Limits {
    /// The payload of a server's first SETTINGS, or of a client's.
    pub(super) fn announced(&self, is_server: bool) -> Vec<u8> {
        let first = match is_server {
            true => (MAX_CONCURRENT_STREAMS, self.streams_max),
            false => (ENABLE_PUSH, 0),
        };
        let rest =
            [(INITIAL_WINDOW_SIZE, self.stream_window_bytes), (MAX_HEADER_LIST_SIZE, self.header_list_bytes_max)];
        let mut payload = Vec::with_capacity(18);
        for (id, value) in [first].into_iter().chain(rest) {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        payload
    }
}

// === impl Theirs ===

impl Default for Theirs {
    /// As it is until a peer has said otherwise.
    fn default() -> Self {
        Self { streams_max: u32::MAX, window_bytes: WINDOW_BYTES, payload_bytes_max: PAYLOAD_BYTES_MAX }
    }
}

/// Reads the payload of a SETTINGS frame that is no acknowledgement.
///
/// # Errors
/// When a value is one that may not be.
pub(super) fn read(payload: &[u8], of_server: bool) -> Result<impl Iterator<Item = Setting>, Fault> {
    let (settings, rest) = payload.as_chunks::<6>();
    if !rest.is_empty() {
        return Err(Fault::size("SETTINGS of a length that no settings have"));
    }
    let read = move |setting: &[u8; 6]| {
        let [a, b, c, d, e, f] = *setting;
        setting_of(u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]), of_server)
    };
    settings.iter().try_for_each(|setting| read(setting).map(|_| ()))?;
    Ok(settings.iter().filter_map(move |setting| read(setting).ok()))
}

fn setting_of(id: u16, value: u32, of_server: bool) -> Result<Setting, Fault> {
    Ok(match id {
        HEADER_TABLE_SIZE => Setting::TableBytes(value),
        ENABLE_PUSH if value > 1 || (of_server && value == 1) => {
            return Err(Fault::protocol("SETTINGS_ENABLE_PUSH of a value it cannot have"));
        }
        MAX_CONCURRENT_STREAMS => Setting::StreamsMax(value),
        INITIAL_WINDOW_SIZE if value > INT31_MAX => {
            return Err(Fault::window("SETTINGS_INITIAL_WINDOW_SIZE is larger than a window can be"));
        }
        INITIAL_WINDOW_SIZE => Setting::WindowBytes(value),
        MAX_FRAME_SIZE if !(PAYLOAD_BYTES_MAX as u32..1 << 24).contains(&value) => {
            return Err(Fault::protocol("SETTINGS_MAX_FRAME_SIZE of a value it cannot have"));
        }
        MAX_FRAME_SIZE => Setting::PayloadBytes(value as usize),
        _ => Setting::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http2::frame::Reason;

    fn one(id: u16, value: u32) -> Vec<u8> {
        [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
    }

    fn fault(payload: &[u8], of_server: bool) -> Option<Reason> {
        read(payload, of_server).map(|_| ()).err().map(|fault| fault.reason)
    }

    #[test]
    fn values_that_cannot_be_are_faults() {
        assert_eq!(fault(&[0; 5], false), Some(Reason::FRAME_SIZE_ERROR));
        assert_eq!(fault(&one(ENABLE_PUSH, 2), false), Some(Reason::PROTOCOL_ERROR));
        assert_eq!(fault(&one(ENABLE_PUSH, 1), true), Some(Reason::PROTOCOL_ERROR));
        assert_eq!(fault(&one(ENABLE_PUSH, 1), false), None);
        assert_eq!(fault(&one(INITIAL_WINDOW_SIZE, 1 << 31), false), Some(Reason::FLOW_CONTROL_ERROR));
        assert_eq!(fault(&one(INITIAL_WINDOW_SIZE, INT31_MAX), false), None);
        for (value, expected) in [(16_383, true), (16_384, false), ((1 << 24) - 1, false), (1 << 24, true)] {
            assert_eq!(fault(&one(MAX_FRAME_SIZE, value), false).is_some(), expected, "{value}");
        }
    }

    #[test]
    fn settings_nobody_knows_change_nothing() {
        let read: Vec<_> = read(&[one(0x99, 7), one(MAX_CONCURRENT_STREAMS, 3)].concat(), true).unwrap().collect();
        assert_eq!(read, [Setting::Nothing, Setting::StreamsMax(3)]);
    }

    #[test]
    fn a_client_refuses_pushes_and_a_server_limits_calls() {
        let limits = Limits {
            streams_max: 7,
            header_list_bytes_max: 1,
            stream_window_bytes: 2,
            connection_window_bytes: WINDOW_BYTES,
        };
        assert_eq!(limits.announced(true)[..6], one(MAX_CONCURRENT_STREAMS, 7));
        assert_eq!(limits.announced(false)[..6], one(ENABLE_PUSH, 0));
    }
}
