//! Drawing backends at random, each as often as its weight says.

/// Backends to draw from, by their positions in the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Urn {
    positions: Vec<usize>,
    /// Beside each position, the weights up to it, its own among them.
    until: Vec<u64>,
}

// === impl Urn ===

impl Urn {
    /// An urn of these positions with their weights.
    pub(super) fn of(weighted: impl Iterator<Item = (usize, u64)>) -> Self {
        let mut urn = Self::default();
        for (position, weight) in weighted {
            let before = urn.total();
            urn.positions.push(position);
            urn.until.push(before + weight.max(1));
        }
        urn
    }

    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(super) fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.positions.iter().copied()
    }

    /// One that may be used, drawn by weight; where the drawn one may not, the next behind it. `draw` gives a random
    /// number below its argument.
    pub(super) fn one(
        &self,
        is_usable: &impl Fn(usize) -> bool,
        draw: &mut impl FnMut(usize) -> usize,
    ) -> Option<usize> {
        let first = self.first(is_usable, draw)?;
        Some(self.positions[first])
    }

    /// Two that may be used, drawn by weight; the same one twice when there is no other.
    pub(super) fn two(
        &self,
        is_usable: &impl Fn(usize) -> bool,
        draw: &mut impl FnMut(usize) -> usize,
    ) -> Option<(usize, usize)> {
        let first = self.first(is_usable, draw)?;
        let (before, until) = (self.before(first), self.until[first]);
        let others = self.total() - (until - before);
        if others == 0 {
            return Some((self.positions[first], self.positions[first]));
        }
        let drawn = draw_below(others, draw);
        let drawn = self.at(if drawn < before { drawn } else { drawn + (until - before) });
        let is_other = |at: usize| at != self.positions[first] && is_usable(at);
        let second = self.next_usable(drawn, &is_other).unwrap_or(first);
        Some((self.positions[first], self.positions[second]))
    }

    fn first(&self, is_usable: &impl Fn(usize) -> bool, draw: &mut impl FnMut(usize) -> usize) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        self.next_usable(self.at(draw_below(self.total(), draw)), is_usable)
    }

    fn next_usable(&self, start: usize, is_usable: &impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.positions.len();
        let mut behind = (start..count).chain(0..start);
        behind.find(|at| is_usable(self.positions[*at]))
    }

    /// Whom a number below the total stands for.
    fn at(&self, number: u64) -> usize {
        self.until.partition_point(|until| *until <= number)
    }

    fn before(&self, at: usize) -> u64 {
        at.checked_sub(1).map_or(0, |before| self.until[before])
    }

    fn total(&self) -> u64 {
        self.until.last().copied().unwrap_or(0)
    }
}

fn draw_below(bound: u64, draw: &mut impl FnMut(usize) -> usize) -> u64 {
    draw(usize::try_from(bound).unwrap_or(usize::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_is_drawn_as_often_as_it_weighs() {
        let urn = Urn::of([(4, 1), (7, 2), (9, 5)].into_iter());
        let mut random = fastrand::Rng::with_seed(11);
        let mut drawn = [0u32; 10];
        (0..80_000).for_each(|_| drawn[urn.one(&|_| true, &mut |below| random.usize(..below)).unwrap()] += 1);
        for (at, expected) in [(4, 10_000), (7, 20_000), (9, 50_000)] {
            assert!(drawn[at].abs_diff(expected) < 800, "{at}: {drawn:?}");
        }
    }

    proptest! {
        #[test]
        fn two_are_different_wherever_there_are_two(
            weights in prop::collection::vec(1u64..1_000, 1..8), usable in any::<u8>(), seed in any::<u64>(),
        ) {
            let urn = Urn::of(weights.iter().copied().enumerate());
            let is_usable = |at: usize| usable >> at & 1 == 1;
            let count = (0..weights.len()).filter(|at| is_usable(*at)).count();
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..20 {
                let two = urn.two(&is_usable, &mut |below| random.usize(..below));
                prop_assert_eq!(two.is_some(), count > 0);
                let Some((one, other)) = two else { continue };
                prop_assert!(is_usable(one) && is_usable(other));
                prop_assert_eq!(one == other, count == 1);
            }
        }
    }
}
