//! Deals the messages of one parcel to the backends their ties lead to; what goes to one backend goes as one parcel.
//!
//! Without it a stream with many keys would be a parcel for every message, and a parcel costs several times what is done
//! for a message beside it.

use std::rc::Rc;

use crate::message::parcel::Parcel;
use crate::message::run::Run;
use crate::message::tie::{Tie, Ties};

use super::{Member, Pool};

/// What one backend gets.
struct Hand {
    member: Rc<Member>,
    run: Vec<u8>,
    /// Bytes of its run once it is filled.
    bytes: usize,
    ties: Vec<Option<Tie>>,
}

impl Pool {
    /// Entrusts the messages of a parcel, each tied by its own, in their order; answers those behind the first one that no
    /// backend can take now.
    pub(super) fn deal(self: &Rc<Self>, mut parcel: Parcel, mut ties: Vec<Option<Tie>>) -> Option<Parcel> {
        let (mut hands, turns) = self.turns(&parcel, &ties);
        let mut left = parcel.run.clone();
        let left_ties = ties.split_off(turns.len());
        if let Some(run) = left.take_front(usize::MAX, turns.len() as u32) {
            match &mut hands[..] {
                [hand] => self.entrust_hand(&hand.member, &mut parcel, run, Ties::of_each(ties)),
                _ => {
                    hands.iter_mut().for_each(|hand| hand.run.reserve_exact(hand.bytes));
                    for ((message, tie), turn) in run.framed().zip(ties).zip(turns) {
                        hands[turn].run.extend_from_slice(message);
                        hands[turn].ties.push(tie);
                    }
                    for Hand { member, run, ties, .. } in hands {
                        let run = Run::of_framed(run.into(), ties.len() as u32);
                        self.entrust_hand(&member, &mut parcel, run, Ties::of_each(ties));
                    }
                }
            }
        }
        (left.messages() > 0).then(|| Parcel { run: left, ties: Ties::of_each(left_ties), ..parcel })
    }

    /// Whose turn it is with each message, as far as there is anybody who can take it.
    fn turns(&self, parcel: &Parcel, ties: &[Option<Tie>]) -> (Vec<Hand>, Vec<usize>) {
        let (mut hands, mut turns) = (Vec::<Hand>::new(), Vec::with_capacity(ties.len()));
        let wanted = self.wanted(parcel);
        for (message, tie) in parcel.run.framed().zip(ties) {
            let Some(member) = self.choose_for(wanted, *tie, message.len(), 1) else { break };
            let known = hands.iter().position(|hand| Rc::ptr_eq(&hand.member, &member));
            let turn = known.unwrap_or_else(|| {
                hands.push(Hand { member, run: Vec::new(), bytes: 0, ties: Vec::new() });
                hands.len() - 1
            });
            hands[turn].bytes += message.len();
            turns.push(turn);
        }
        (hands, turns)
    }

    fn entrust_hand(self: &Rc<Self>, member: &Rc<Member>, of: &mut Parcel, mut run: Run, mut ties: Ties) {
        let subject = Rc::clone(&of.subject);
        while let Some(run) = subject.take_parcel(&mut run) {
            let ties = ties.take_front(run.messages());
            self.entrust(member, of.part(run, ties));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::message::budget::Budget;
    use crate::message::flow::Flow;
    use crate::message::parcel::{PARCEL_BYTES_MAX, PARCEL_MESSAGES_MAX, Subject, cost};
    use crate::message::receipt::{Books, Receipt};
    use crate::pool::door::Errand;
    use crate::pool::{Backends, Endpoint, Settings, Share};

    /// The messages of a parcel by their numbers, and what ties each.
    type Seen = Vec<(u16, Option<Tie>)>;

    /// What the backends of a pool of so many were entrusted, by backend and parcel. No channel ever starts: nobody waits
    /// for it.
    fn dealt(backends: u16, messages: &[(Option<u64>, usize)]) -> Vec<Vec<Seen>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let endpoints = (1..=backends).map(|port| Endpoint { host: "127.0.0.1".into(), port });
            let books = Books::new();
            let backends = Backends::new(Settings::new("dealt", endpoints.collect()));
            let pool = Pool::new(&backends, Share { number: 0, workers: 1 }, &books);
            let body =
                |(number, (_, bytes)): (u16, &(_, usize))| [&number.to_be_bytes(), &vec![0; *bytes][..]].concat();
            let framed = (0..).zip(messages).flat_map(|message| Run::of_body(&body(message)).bytes().to_vec());
            let run = Run::of_framed(framed.collect::<Vec<_>>().into(), messages.len() as u32);
            let budget = Budget::new(1 << 30);
            let parcel = Parcel {
                permit: budget.try_reserve(Flow::Traces, cost(&run)).unwrap(),
                ticket: Receipt::open(&books).issue(run.messages()),
                ties: Ties::of_each(messages.iter().map(|(key, _)| key.map(Tie::Sticky)).collect()),
                run,
                subject: Rc::new(Subject::new("/a.B/c", Flow::Traces)),
                context: None,
                suspicion: None,
            };
            let whole = cost(&parcel.run);
            pool.take(parcel);
            assert_eq!((budget.used(), books.totals().held), (whole, messages.len() as u64));
            let errands = |member: &Rc<Member>| {
                let doors = member.doors();
                let errands = doors.iter().flat_map(|door| std::iter::from_fn(|| door.next_errand()));
                errands.map(|errand| if let Errand::Parcel(parcel) = errand { seen(parcel) } else { vec![] }).collect()
            };
            let dealt = pool.members().iter().map(errands).collect();
            assert_eq!((budget.used(), books.totals().delivered), (0, messages.len() as u64));
            dealt
        })
    }

    fn seen(parcel: Parcel) -> Seen {
        assert!(parcel.messages() <= PARCEL_MESSAGES_MAX);
        assert!(parcel.messages() == 1 || parcel.bytes() <= PARCEL_BYTES_MAX);
        assert_eq!((parcel.run.messages(), parcel.permit.bytes()), (parcel.messages(), cost(&parcel.run)));
        let mut ties = parcel.ties;
        let ties = std::iter::repeat_with(|| match ties.take_front(1) {
            Ties::Alike(tie) => tie,
            Ties::Each(_) => panic!("one message has one tie"),
        });
        let seen = parcel.run.bodies().map(|body| u16::from_be_bytes([body[0], body[1]])).zip(ties).collect();
        parcel.ticket.settle();
        seen
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_message_goes_where_its_tie_leads_in_order_and_as_few_parcels(
            messages in prop::collection::vec((prop::option::of(0u64..20), 0usize..2_000), 2..200), backends in 1u16..5,
        ) {
            let dealt = dealt(backends, &messages);
            let mut homes = HashMap::new();
            let mut all = Vec::new();
            for (backend, parcels) in dealt.iter().enumerate() {
                let came: Vec<_> = parcels.concat();
                prop_assert!(came.is_sorted_by_key(|(number, _)| *number), "{came:?}");
                for (number, tie) in &came {
                    prop_assert_eq!(*tie, messages[usize::from(*number)].0.map(Tie::Sticky));
                    if tie.is_some() {
                        prop_assert_eq!(*homes.entry(*tie).or_insert(backend), backend);
                    }
                }
                let bytes: usize = came.iter().map(|(number, _)| messages[usize::from(*number)].1 + 7).sum();
                let full = bytes / (PARCEL_BYTES_MAX - 2_007) + came.len() / PARCEL_MESSAGES_MAX as usize;
                prop_assert!(parcels.len() <= full + 1, "{} parcels of {bytes} bytes", parcels.len());
                all.extend(came.into_iter().map(|(number, _)| number));
            }
            all.sort_unstable();
            prop_assert_eq!(all, (0..messages.len() as u16).collect::<Vec<_>>());
        }
    }
}
