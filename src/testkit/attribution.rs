//! What a collector understood of every single item: under whose name, in which context, and what it was.
//!
//! Two ways from an agent to collectors mean the same when they leave the same [`Attributed`] behind. So everything a
//! receiver takes from elsewhere (earlier messages of the stream, wrappers around the item) goes into the attribution,
//! and nothing of how the item travelled does.

use std::collections::BTreeMap;

use twox_hash::XxHash3_64;

/// One item, as its receiver understood it. What is an item: a message, where no message may be cut; else the smallest
/// part that stands for itself (an access log's entry, a segment of a collection, a span); or a whole set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attribution {
    /// The packaged path of the method whose data it is. Methods that bring the same data share it.
    pub group: &'static str,
    /// Under whose name it is filed.
    pub source: String,
    /// Digest of what the receiver took from elsewhere, to the byte; 0 where it takes nothing.
    pub context: u64,
    /// Its id, as far as it has one, and the digest of what it says itself.
    pub item: String,
}

/// How often each item was filed.
pub type Attributed = BTreeMap<Attribution, u64>;

/// Digest of several byte strings; `("ab", "c")` and `("a", "bc")` differ.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut whole = Vec::new();
    for part in parts {
        whole.extend_from_slice(&(part.len() as u64).to_le_bytes());
        whole.extend_from_slice(part);
    }
    XxHash3_64::oneshot(&whole)
}

/// What an item is called: its id, if it has one, and its digest.
pub fn item_name(id: &[u8], digest: u64) -> String {
    let id = String::from_utf8_lossy(&id[..id.len().min(ID_BYTES_SHOWN)]);
    format!("{id}#{digest:016x}")
}

/// Ids are there to be read by people; the digest tells items apart.
const ID_BYTES_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_knows_where_one_part_ends() {
        assert_ne!(digest([&b"ab"[..], b"c"]), digest([&b"a"[..], b"bc"]));
        assert_ne!(digest([&b"a"[..], b""]), digest([&b"a"[..]]));
    }
}
