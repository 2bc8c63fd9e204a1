//! Shares of messages: who is in one is decided by a key, so that replicas and restarts decide alike.

use crate::message::path::FieldPath;
use crate::metrics::LostReason;
use crate::route::key;
use crate::route::reading::{Part, Reading};

use super::{Action, Rule, Share};

impl Rule {
    /// Why the messages must go no further, if they must not; `messages` of them count alike.
    pub fn stops(&self, message: &Reading<'_>, messages: u32) -> Option<LostReason> {
        match &self.action {
            Action::Drop { .. } => return Some(LostReason::Dropped),
            Action::Sample(share) if !share.has(message) => return Some(LostReason::Sampled),
            Action::Sample(_) | Action::Send => {}
        }
        self.over_limit(message, messages)
    }

    /// Whether the messages are more than may pass; if not, they are counted.
    pub fn over_limit(&self, message: &Reading<'_>, messages: u32) -> Option<LostReason> {
        let within = self.limit.as_ref().is_none_or(|limit| limit.lets_pass(message, messages));
        (!within).then_some(LostReason::Limited)
    }
}

impl Share {
    /// So many parts of a million, by what stands at these places.
    pub fn of_million(parts: u32, by: Vec<FieldPath>) -> Self {
        let below = match parts {
            1_000_000.. => u64::MAX,
            // 2^64 times the share; less than 2^64, for it is less than all.
            parts => ((u128::from(parts) << 64) / 1_000_000) as u64,
        };
        Self { below, by }
    }

    /// Whether a message is in it. One without the key is judged by its own bytes and what is carried into it.
    pub fn has(&self, message: &Reading<'_>) -> bool {
        self.has_key_of(|| self.hash(message))
    }

    /// Whether messages of this key are in it.
    pub fn has_key(&self, key: u64) -> bool {
        self.has_key_of(|| key)
    }

    fn has_key_of(&self, key: impl FnOnce() -> u64) -> bool {
        self.below == u64::MAX || key() < self.below
    }

    fn hash(&self, message: &Reading<'_>) -> u64 {
        let carried = message.carried.iter().filter_map(|(_, value)| value.as_deref());
        hash_of(&self.by, message).unwrap_or_else(|| key::of_parts([message.body].into_iter().chain(carried)))
    }
}

/// A number made from the values at these places; `None` where there are none.
pub(super) fn hash_of(by: &[FieldPath], message: &Reading<'_>) -> Option<u64> {
    let read = |path| message.part(path).ok().flatten();
    if let [path] = by {
        return read(path).map(|part| key::of_parts([part.bytes()]));
    }
    let parts: Vec<Option<Part<'_>>> = by.iter().map(read).collect();
    let bytes = parts.iter().map(|part| part.as_ref().map_or(&b""[..], Part::bytes));
    parts.iter().any(Option::is_some).then(|| key::of_parts(bytes))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::message::field;

    fn message(trace: &[u8], rest: u64) -> BytesMut {
        let mut body = BytesMut::new();
        field::put_varint(&mut body, 7 << 3);
        field::put_varint(&mut body, rest);
        if !trace.is_empty() {
            field::put_bytes(&mut body, 1, trace);
        }
        body
    }

    fn has(share: &Share, body: &[u8]) -> bool {
        share.has(&Reading { body, carried: &[] })
    }

    fn by_trace(parts: u32) -> Share {
        Share::of_million(parts, vec![FieldPath::of(&[1])])
    }

    #[test]
    fn a_share_is_as_large_as_it_says() {
        for parts in [1_000, 50_000, 500_000, 990_000] {
            let share = by_trace(parts);
            let seen = (0..100_000_u32).filter(|number| has(&share, &message(&number.to_le_bytes(), 1))).count();
            let expected = parts as f64 / 10.0;
            // Four standard deviations of a binomial distribution.
            let allowed = 4.0 * (expected * (1.0 - expected / 100_000.0)).sqrt();
            assert!((seen as f64 - expected).abs() < allowed, "{parts}: {seen} of 100000");
        }
        assert!((0..1_000).all(|number| has(&by_trace(1_000_000), &message(b"", number))));
        assert!((0..1_000).all(|number| !has(&by_trace(0), &message(b"", number))));
    }

    #[test]
    fn shares_never_change_between_versions() {
        let seen: Vec<u32> =
            (0..40).filter(|number: &u32| has(&by_trace(100_000), &message(&number.to_le_bytes(), 1))).collect();
        assert_eq!(seen, [4, 9, 10, 13, 32, 33, 35, 37]);
    }

    proptest! {
        #[test]
        fn what_is_in_a_share_is_in_every_larger_one(trace in prop::collection::vec(0u8..=255, 0..20), parts in 0u32..=1_000_000, more in 0u32..=1_000_000) {
            let (small, large) = (by_trace(parts.min(more)), by_trace(parts.max(more)));
            let body = message(&trace, 3);
            prop_assert!(!has(&small, &body) || has(&large, &body));
        }

        #[test]
        fn equal_keys_share_their_fate(trace in prop::collection::vec(0u8..=255, 1..20), one in 0u64.., other in 0u64..) {
            let share = by_trace(500_000);
            prop_assert_eq!(has(&share, &message(&trace, one)), has(&share, &message(&trace, other)));
        }

        #[test]
        fn a_number_is_a_key_as_well_as_a_text(number in 1u64.., parts in 0u32..=1_000_000) {
            let share = Share::of_million(parts, vec![FieldPath::of(&[7])]);
            prop_assert_eq!(has(&share, &message(b"a", number)), has(&share, &message(b"b", number)));
        }
    }

    #[test]
    fn without_the_key_messages_are_judged_one_by_one() {
        let share = by_trace(500_000);
        let of_source = |number: u32| [(2, Some(bytes::Bytes::from(number.to_string())))];
        let seen = (0..1_000).filter(|number| share.has(&Reading { body: b"", carried: &of_source(*number) })).count();
        assert!((400..600).contains(&seen), "{seen} of 1000 sources");
        let seen = (0..1_000).filter(|number| has(&share, &message(b"", *number))).count();
        assert!((400..600).contains(&seen), "{seen} of 1000");
    }
}
