//! The two tables of RFC 7541: the static one of appendix A, and the dynamic one a peer fills.

use std::collections::VecDeque;

use bytes::Bytes;
use http::HeaderName;

use super::{ENTRY_OVERHEAD_BYTES, TABLE_BYTES};

/// Appendix A; index 1 is the first.
pub const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The name of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// One that begins with a colon and that RFC 9113 knows.
    Pseudo(Pseudo),
    /// One of letters as they should be: lower case.
    Field(HeaderName),
    /// Anything else. Its block is malformed, but the table has to take it.
    Wrong(Bytes),
}

/// The pseudo-headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the protocol's own")]
pub enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Status,
}

/// The dynamic table: what the peer wants remembered, newest first. It costs nothing until it is used.
#[derive(Debug)]
pub struct Table {
    entries: VecDeque<(Name, Bytes)>,
    bytes: usize,
    bytes_max: usize,
}

// === impl Name ===

impl Name {
    /// The name these bytes are.
    pub fn of(bytes: &[u8]) -> Self {
        let pseudo = match bytes {
            b":method" => Pseudo::Method,
            b":scheme" => Pseudo::Scheme,
            b":authority" => Pseudo::Authority,
            b":path" => Pseudo::Path,
            b":status" => Pseudo::Status,
            // Refuses upper case, too, but lets the one pass that no token has: RFC 9110, section 5.6.2.
            _ => {
                return match HeaderName::from_lowercase(bytes) {
                    Ok(name) if !bytes.contains(&b'"') => Name::Field(name),
                    _ => Name::Wrong(Bytes::copy_from_slice(bytes)),
                };
            }
        };
        Name::Pseudo(pseudo)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Name::Pseudo(pseudo) => pseudo.as_str().as_bytes(),
            Name::Field(name) => name.as_str().as_bytes(),
            Name::Wrong(bytes) => bytes,
        }
    }
}

// === impl Pseudo ===

impl Pseudo {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Pseudo::Method => ":method",
            Pseudo::Scheme => ":scheme",
            Pseudo::Authority => ":authority",
            Pseudo::Path => ":path",
            Pseudo::Status => ":status",
        }
    }
}

// === impl Table ===

impl Table {
    /// An empty one of the default size.
    pub fn new() -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES }
    }

    /// The field of an index, static or dynamic; `None` when there is none.
    pub fn get(&self, index: usize) -> Option<(Name, Bytes)> {
        match index.checked_sub(1)? {
            at if at < STATIC.len() => {
                let (name, value) = STATIC[at];
                Some((Name::of(name.as_bytes()), Bytes::from_static(value.as_bytes())))
            }
            at => self.entries.get(at - STATIC.len()).cloned(),
        }
    }

    /// Adds a field, for which old ones go. One that is larger than the table empties it.
    pub fn add(&mut self, name: Name, value: Bytes) {
        let bytes = size(&name, &value);
        self.shrink_to(self.bytes_max.saturating_sub(bytes));
        if bytes <= self.bytes_max {
            self.bytes += bytes;
            self.entries.push_front((name, value));
        }
    }

    /// Sets how large it may be, as the peer's encoder wants it.
    pub fn resize(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.shrink_to(bytes_max);
    }

    /// What it holds, as RFC 7541 counts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn shrink_to(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let Some((name, value)) = self.entries.pop_back() else { return };
            self.bytes -= size(&name, &value);
        }
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

/// What a field costs, in the table and in a header list.
pub fn size(name: &Name, value: &[u8]) -> usize {
    name.as_bytes().len() + value.len() + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &'static str) -> (Name, Bytes) {
        (Name::of(name.as_bytes()), Bytes::from_static(value.as_bytes()))
    }

    #[test]
    fn the_newest_entry_stands_right_behind_the_static_ones() {
        let mut table = Table::new();
        for (name, value) in [field("a", "1"), field("b", "2")] {
            table.add(name, value);
        }
        assert_eq!(table.get(0), None);
        assert_eq!(table.get(8), Some(field(":status", "200")));
        assert_eq!(table.get(62), Some(field("b", "2")));
        assert_eq!(table.get(63), Some(field("a", "1")));
        assert_eq!(table.get(64), None);
    }

    #[test]
    fn old_entries_go_when_there_is_no_room() {
        let mut table = Table::new();
        table.resize(2 * (2 + ENTRY_OVERHEAD_BYTES));
        for (name, value) in [field("a", "1"), field("b", "2"), field("c", "3")] {
            table.add(name, value);
        }
        assert_eq!((table.get(63), table.get(64)), (Some(field("b", "2")), None));
        let (name, value) = field("large", "larger than all of the table, and then some more to be sure");
        table.add(name, value);
        assert_eq!((table.get(62), table.bytes()), (None, 0));
    }

    #[test]
    fn upper_case_and_unknown_pseudo_headers_are_wrong_names() {
        for name in ["Upper", ":unknown", "", "a b"] {
            assert!(matches!(Name::of(name.as_bytes()), Name::Wrong(_)), "{name}");
        }
    }

    #[test]
    fn a_name_is_of_the_letters_a_token_has_and_of_no_others() {
        for letter in 0..=u8::MAX {
            let may_be = matches!(letter, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(&letter);
            for name in [vec![letter], vec![b'a', letter], [b"a".repeat(90), vec![letter]].concat()] {
                assert_eq!(matches!(Name::of(&name), Name::Field(_)), may_be, "{}", name.escape_ascii());
            }
        }
    }
}
