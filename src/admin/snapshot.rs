//! What is going on at one moment, as the admin port says it in JSON.
//!
//! Counts are since the start of the process. Numbers that are not counts are finite, so that JSON can say them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Calls listed in one snapshot, the largest; `calls_total` says how many there are.
pub const CALLS_MAX: usize = 100;
/// Lanes listed in one snapshot; `lanes_total` says how many there are.
pub const LANES_MAX: usize = 100;
/// Characters of a word of an agent that are shown.
pub const WORD_CHARS_MAX: usize = 80;

/// Everything `/snapshot` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Switchyard's version.
    pub version: String,
    /// Since the process started.
    pub uptime_seconds: f64,
    /// Whole messages received.
    pub received: u64,
    /// Messages a backend answered `OK` for.
    pub delivered: u64,
    /// Messages queued, in flight or spooled now.
    pub held: u64,
    /// Messages that will reach no backend, by reason.
    pub lost: BTreeMap<String, u64>,
    /// The sum of `lost`.
    pub lost_total: u64,
    /// Messages given to a second backend that a first may have taken.
    pub possible_duplicates: u64,
    /// The memory of messages.
    pub budget: Budget,
    /// The ports agents connect to.
    pub listeners: Vec<Listener>,
    /// Open calls, at most [`CALLS_MAX`] of them.
    pub calls: Vec<Call>,
    /// All open calls.
    pub calls_total: u64,
    /// Every backend of every pool.
    pub backends: Vec<Backend>,
    /// Lanes, at most [`LANES_MAX`] of them.
    pub lanes: Vec<Lane>,
    /// All lanes.
    pub lanes_total: u64,
}

/// The byte budget of messages in memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Bytes under permits now.
    pub used_bytes: u64,
    /// Bytes the permits may sum up to.
    pub limit_bytes: u64,
}

/// One port agents connect to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// The operator's word for it.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Connections open now.
    pub connections: u64,
    /// Calls open now.
    pub calls: u64,
    /// Messages received on it.
    pub messages: u64,
}

/// One open call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Call {
    /// The listener it came in by.
    pub listener: String,
    /// The method's path.
    pub method: String,
    /// The agent's address.
    pub peer: String,
    /// Since it began.
    pub age_seconds: f64,
    /// Messages it has carried.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One backend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backend {
    /// Its pool.
    pub pool: String,
    /// `host:port`.
    pub name: String,
    /// `up`, `ejected`, `connecting`, `leaving`: one word.
    pub state: String,
    /// Messages it answered `OK` for.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Its part of its pool's messages in the last seconds, 0 to 1.
    pub share: f64,
    /// Messages answered `OK` in the last second.
    pub messages_per_second: f64,
    /// Bytes written and not yet answered for.
    pub in_flight_bytes: u64,
    /// Messages written and not yet answered for.
    pub in_flight_messages: u64,
    /// Messages queued for it and not yet written.
    pub waiting_messages: u64,
    /// From a trip's half-close to its answer, smoothed.
    pub answer_ms: f64,
}

/// One lane: a method and its carried context on the way to one backend, from one worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lane {
    /// The worker thread's number.
    pub worker: u64,
    /// The backend's name.
    pub backend: String,
    /// The method's path.
    pub method: String,
    /// What the stream has said that holds for all its messages; see [`printable`].
    pub context: String,
    /// Trips filling or waiting for their answer.
    pub trips_open: u64,
    /// Messages not yet on a trip.
    pub queued_messages: u64,
    /// Messages written since the lane began.
    pub messages: u64,
}

/// What a person may safely read of bytes that an agent sent.
///
/// At most [`WORD_CHARS_MAX`] characters; control characters (which move a terminal's cursor) and those that turn
/// or hide text become `·`.
pub fn printable(bytes: &[u8]) -> String {
    // Four bytes a character at most; the longest prefix that can matter, so that 61 KB identifiers cost nothing.
    let head = &bytes[..bytes.len().min(4 * (WORD_CHARS_MAX + 1))];
    let text = String::from_utf8_lossy(head);
    let mut word: String = text.chars().take(WORD_CHARS_MAX).map(|it| if is_plain(it) { it } else { '·' }).collect();
    if text.chars().nth(WORD_CHARS_MAX).is_some() {
        word.push('…');
    }
    word
}

/// Neither a control character nor one of Unicode's marks for direction and invisibility.
fn is_plain(it: char) -> bool {
    !it.is_control()
        && !matches!(it, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffd}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn printable_is_short_and_plain(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let word = printable(&bytes);
            prop_assert!(word.chars().count() <= WORD_CHARS_MAX + 1);
            prop_assert!(word.chars().all(is_plain));
        }
    }

    #[test]
    fn a_terminal_s_commands_become_dots() {
        assert_eq!(printable(b"web\x1b[2Jshop\r\n"), "web·[2Jshop··");
        assert_eq!(printable("naïve ✓".as_bytes()), "naïve ✓");
        assert_eq!(printable(&[b'x'; 81]), format!("{}…", "x".repeat(80)));
    }

    #[test]
    fn a_newer_or_older_snapshot_still_reads() {
        let snapshot: Snapshot = serde_json::from_str(r#"{"received": 3, "tomorrow": true}"#).unwrap();
        assert_eq!(snapshot.received, 3);
    }

    #[test]
    fn the_docs_show_every_field() {
        let docs = include_str!("../../docs/admin.md");
        let (_, rest) = docs.split_once("```json\n").unwrap();
        let example: serde_json::Value = serde_json::from_str(rest.split_once("```").unwrap().0).unwrap();
        let snapshot: Snapshot = serde_json::from_value(example.clone()).unwrap();
        assert_eq!(serde_json::to_value(&snapshot).unwrap(), example);
        assert_eq!(snapshot.received, snapshot.delivered + snapshot.held + snapshot.lost_total);
        assert!(crate::metrics::LostReason::ALL.iter().all(|reason| snapshot.lost.contains_key(reason.name())));
    }
}
