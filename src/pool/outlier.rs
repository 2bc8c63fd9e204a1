//! Who of the judged backends of a pool is used all the same: a pure function of how all of them stand.
//!
//! A judgement compares a backend with what is expected of it. When most of a pool falls short, the expectation is wrong or
//! the trouble lies behind them all, and leaving them out only buries the rest. So judged backends are spared, beyond a
//! share of the pool and when too few are left. Those that are gone are never used: there is nobody to take the messages.

use tokio::time::Instant;

/// How one backend of a pool stands. Those that are leaving or drained do not stand at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It takes messages.
    Up,
    /// It is thought to be slow or failing.
    Judged {
        /// Since when.
        since: Instant,
    },
    /// It was seen to take none: unreachable, or unhealthy by its own word.
    Gone,
}

/// Whom of these to spare. At most `eject_max` of a hundred stay out as judged, those first that have been longest; with
/// less than `panic_below` of a hundred up, none does.
///
/// Where there is a second backend one may always be out, however small the share.
pub fn spared(standings: &[Standing], eject_max: u32, panic_below: u32) -> Vec<bool> {
    let count = standings.len() as u64;
    let up = standings.iter().filter(|standing| **standing == Standing::Up).count() as u64;
    let mut judged: Vec<(Instant, usize)> = standings
        .iter()
        .enumerate()
        .filter_map(|(at, standing)| match standing {
            Standing::Judged { since } => Some((*since, at)),
            Standing::Up | Standing::Gone => None,
        })
        .collect();
    judged.sort_unstable();
    let is_panic = up * 100 < count * u64::from(panic_below);
    let share = count * u64::from(eject_max) / 100;
    let out_max = match () {
        () if is_panic || eject_max == 0 => 0,
        () if count > 1 => share.max(1),
        () => share,
    };
    let mut spared = vec![false; standings.len()];
    for (_, at) in judged.into_iter().skip(out_max as usize) {
        spared[at] = true;
    }
    spared
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn drawn(start: Instant) -> impl Strategy<Value = Standing> {
        prop_oneof![
            3 => Just(Standing::Up),
            2 => (0u64..5).prop_map(move |after| Standing::Judged { since: start + Duration::from_secs(after) }),
            1 => Just(Standing::Gone),
        ]
    }

    fn is_judged(standing: &Standing) -> bool {
        matches!(standing, Standing::Judged { .. })
    }

    #[test]
    fn the_one_frozen_of_three_stays_out_and_three_slow_ones_are_all_used() {
        let now = Instant::now();
        let judged = Standing::Judged { since: now };
        assert_eq!(spared(&[Standing::Up, judged, Standing::Up], 50, 50), [false, false, false]);
        assert_eq!(spared(&[judged, judged, judged], 50, 50), [true, true, true]);
        assert_eq!(spared(&[judged], 50, 50), [true], "a backend that is alone is used however slow it is");
        assert_eq!(spared(&[judged, Standing::Up], 50, 50), [false, false]);
    }

    #[test]
    fn without_panic_the_share_alone_decides_and_the_first_to_go_stay_out() {
        let start = Instant::now();
        let since = |second| Standing::Judged { since: start + Duration::from_secs(second) };
        assert_eq!(spared(&[since(3), since(1), since(2), Standing::Up], 50, 0), [true, false, false, false]);
        assert_eq!(spared(&[since(3), since(1), since(2), Standing::Up], 10, 0), [true, false, true, false]);
        assert_eq!(spared(&[since(1), Standing::Up], 0, 0), [true, false], "a share of 0 ejects nobody");
        assert_eq!(spared(&[since(1), since(2)], 100, 0), [false, false]);
    }

    proptest! {
        #[test]
        fn the_share_is_never_exceeded_and_nobody_who_is_gone_or_up_is_spared(
            standings in prop::collection::vec(drawn(Instant::now()), 0..12), eject_max in 0u32..=100, panic_below in 0u32..=100,
        ) {
            let spared = spared(&standings, eject_max, panic_below);
            prop_assert_eq!(spared.len(), standings.len());
            prop_assert!(standings.iter().zip(&spared).all(|(standing, spared)| !spared || is_judged(standing)));
            let count = standings.len();
            let out = standings.iter().zip(&spared).filter(|(standing, spared)| is_judged(standing) && !**spared).count();
            let one = if eject_max > 0 { 100 } else { 0 };
            prop_assert!(out * 100 <= (count * eject_max as usize).max(one));
            let up = standings.iter().filter(|standing| **standing == Standing::Up).count();
            if up * 100 < count * panic_below as usize {
                prop_assert_eq!(out, 0, "too few are up, so everybody who may be used is");
            }
        }

        #[test]
        fn the_order_of_the_list_does_not_matter(
            standings in prop::collection::vec(drawn(Instant::now()), 0..8), eject_max in 0u32..=100, panic_below in 0u32..=100,
        ) {
            let count = |spared: Vec<bool>| spared.into_iter().filter(|spared| *spared).count();
            let reversed: Vec<Standing> = standings.iter().rev().copied().collect();
            prop_assert_eq!(
                count(spared(&standings, eject_max, panic_below)),
                count(spared(&reversed, eject_max, panic_below))
            );
        }
    }
}
