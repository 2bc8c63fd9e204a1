//! What ties the messages of a run to backends.

/// What ties a message to a backend: a key, and how much it binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tie {
    /// Equal keys must meet one backend, on every replica: their receiver keeps state, or the operator says so.
    Sticky(u64),
    /// Equal keys meet one backend, on every replica, unless that has far more than its share.
    Hashed(u64),
    /// Equal keys meet the backend that had them before.
    Affine(u64),
}

/// The ties of all messages of a run, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ties {
    /// The same for all of them, or none.
    Alike(Option<Tie>),
    /// One for each message.
    Each(Vec<Option<Tie>>),
}

// === impl Ties ===

impl Ties {
    /// Adds the tie of one more message behind `before` others.
    pub fn push(&mut self, tie: Option<Tie>, before: u32) {
        match self {
            Ties::Alike(same) if *same == tie => {}
            Ties::Alike(same) => {
                let mut each = Vec::with_capacity(EACH_MIN.max(2 * before as usize));
                each.resize(before as usize, *same);
                each.push(tie);
                *self = Ties::Each(each);
            }
            Ties::Each(each) => each.push(tie),
        }
    }

    /// Takes the ties of the first `messages` messages off.
    pub fn take_front(&mut self, messages: u32) -> Ties {
        match self {
            Ties::Alike(tie) => Ties::Alike(*tie),
            Ties::Each(each) if each.len() <= messages as usize => Ties::of_each(std::mem::take(each)),
            Ties::Each(each) => Ties::of_each(each.drain(..messages as usize).collect()),
        }
    }

    /// These ties, of one message each.
    pub fn of_each(each: Vec<Option<Tie>>) -> Ties {
        match each.split_first() {
            Some((first, rest)) if rest.iter().any(|tie| tie != first) => Ties::Each(each),
            first => Ties::Alike(first.and_then(|(first, _)| *first)),
        }
    }
}

/// A run in which one tie follows another is likely to have more of them.
const EACH_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(ties: &Ties, messages: usize) -> Vec<Option<Tie>> {
        match ties {
            Ties::Alike(tie) => vec![*tie; messages],
            Ties::Each(each) => each.clone(),
        }
    }

    proptest! {
        #[test]
        fn ties_come_off_in_the_order_they_were_added(
            keys in prop::collection::vec(prop::option::of(0u64..3), 1..40), piece in 1u32..10,
        ) {
            let all: Vec<_> = keys.into_iter().map(|key| key.map(Tie::Hashed)).collect();
            let mut ties = Ties::Alike(all[0]);
            (1..).zip(&all[1..]).for_each(|(before, tie)| ties.push(*tie, before));
            prop_assert_eq!(of(&ties, all.len()), all.clone());
            let mut off = Vec::new();
            while off.len() < all.len() {
                let front = piece.min((all.len() - off.len()) as u32);
                off.extend(of(&ties.take_front(front), front as usize));
            }
            prop_assert_eq!(off, all);
        }
    }
}
