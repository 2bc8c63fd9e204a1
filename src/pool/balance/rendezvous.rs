//! Whom a key belongs to: rendezvous hashing with weights, alike on every replica, platform and version.
//!
//! Every backend draws a number for every key, and the key belongs to the highest. With weights a draw `u` between 0 and
//! 1 counts as `-weight / ln(u)`: the share of keys a backend gets is exactly its part of all weights, and a change of
//! one weight moves keys to or from that backend only.

use std::f64::consts::LN_2;

use twox_hash::XxHash3_64;

/// How much a backend wants a key: it belongs to the one that wants it most. Only compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Want {
    /// The bits of the weighted draw, which is positive, so that they are in the order of the numbers.
    weighted: u64,
    /// The draw itself, where weights do not tell.
    rank: u64,
}

// === impl Want ===

impl Want {
    /// Among backends of one weight: the highest draw.
    pub(super) fn alike(key: u64, name_hash: u64) -> Self {
        Self { weighted: 0, rank: rank(key, name_hash) }
    }

    /// Among backends of different weights. Of two that weigh the same the order is that of [`Want::alike`].
    pub(super) fn weighted(key: u64, name_hash: u64, weight: u32) -> Self {
        let rank = rank(key, name_hash);
        Self { weighted: (f64::from(weight) / minus_ln(rank)).to_bits(), rank }
    }

    /// By a fixed order, the first one wants everything.
    pub(super) fn in_order(place: usize) -> Self {
        Self { weighted: 0, rank: u64::MAX - place as u64 }
    }
}

/// The number a backend's name stands for; part of what replicas agree on, so it never changes.
pub fn hash_of_name(name: &str) -> u64 {
    XxHash3_64::oneshot(name.as_bytes())
}

/// A backend's draw for a key.
fn rank(key: u64, name_hash: u64) -> u64 {
    mix(key ^ name_hash)
}

/// The finaliser of SplitMix64: spreads every input bit over the output. Part of the hash that replicas agree on, so
/// it never changes.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// `-ln(rank / 2^64)`, right to eight digits; never zero. The logarithm of the standard library is each platform's own
/// and differs in the last bits; additions, products and quotients are the same everywhere, and only they are used here.
fn minus_ln(rank: u64) -> f64 {
    // Zero has no logarithm.
    let rank = rank.max(1);
    let halvings = rank.leading_zeros();
    // What is missing to 1 once the leading bit is moved to the front: a number near 1 keeps all its digits so.
    let missing = !(rank << halvings);
    f64::from(halvings) * LN_2 + minus_ln_of_one_less((missing as f64 + 0.5) / TWO_TO_64)
}

const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

/// `-ln(1 - missing)` for what is missing to 1, up to a half: the series of the area tangent, of which the rest is below
/// 1e-8 of the whole.
fn minus_ln_of_one_less(missing: f64) -> f64 {
    let s = missing / (2.0 - missing);
    let square = s * s;
    let rest = 2.0 / 9.0 + square * (2.0 / 11.0 + square * (2.0 / 13.0 + square * (2.0 / 15.0)));
    s * (2.0 + square * (2.0 / 3.0 + square * (2.0 / 5.0 + square * (2.0 / 7.0 + square * rest))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn draws_and_their_logarithms_never_change_between_versions() {
        assert_eq!(hash_of_name("collector-0:11800"), HASH);
        assert_eq!(rank(0x1234_5678_9abc_def0, HASH), RANK);
        let bits = [0, 1, 1 << 32, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1, u64::MAX]
            .map(|rank| minus_ln(rank).to_bits());
        assert_eq!(bits, BITS, "{bits:#x?}");
    }

    const HASH: u64 = 0x71e2_a7e3_2235_4678;
    const RANK: u64 = 0x9cca_b729_e28d_2b61;
    /// By the same sums done elsewhere.
    const BITS: [u64; 7] = [
        0x4046_2e42_fef8_0dbe,
        0x4046_2e42_fef8_0dbe,
        0x4036_2e42_fef5_e18e,
        0x3fe6_2e42_fefa_39ef,
        0x3fe6_2e42_fe6f_2dc4,
        0x3bf8_0000_0000_0000,
        0x3be0_0000_0000_0000,
    ];

    proptest! {
        #[test]
        fn the_logarithm_is_one(rank in any::<u64>()) {
            let exact = match rank >= 1 << 63 {
                true => -(-(!rank as f64 + 0.5) / TWO_TO_64).ln_1p(),
                false => -(rank.max(1) as f64 / TWO_TO_64).ln(),
            };
            prop_assert!((minus_ln(rank) - exact).abs() <= 2e-8 * exact, "{} {exact}", minus_ln(rank));
        }

        #[test]
        fn of_one_weight_the_order_is_the_one_without_weights(
            key in any::<u64>(), names in prop::collection::vec(any::<u64>(), 2..9), weight in 1u32..=1_000,
        ) {
            let best = |want: &dyn Fn(u64) -> Want| names.iter().copied().max_by_key(|name| want(*name));
            prop_assert_eq!(
                best(&|name| Want::alike(key, name)),
                best(&|name| Want::weighted(key, name, weight))
            );
        }
    }
}
