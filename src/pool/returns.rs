//! What becomes of messages that come back: sent again at once, found out one by one, or given up with a reason.
//!
//! A message is blamed on evidence only. A backend in trouble refuses everything, and for a moment all of them may;
//! so an error that may be anybody's fault counts against a lone message only if that backend has taken something
//! else since. Until then the message rests and is tried again, each time after a longer while.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::message::parcel::{Parcel, Suspicion};
use crate::metrics::LostReason;

use super::{Outcome, Pool, Refusal, bit};

/// Different backends that must have refused a message before it is given up.
const REFUSALS_MAX: u32 = 3;

/// The first rest of a refused message; doubles each time.
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(10);

/// After this long, refusals count without evidence: somewhere memory must end.
const UNDECIDED_MAX: Duration = Duration::from_secs(60);

impl Pool {
    /// Takes back a parcel that a channel could not bring to its end.
    pub(super) fn give_back(self: &Rc<Self>, parcel: Parcel, member: usize, outcome: Outcome) {
        match outcome {
            Outcome::Delivered | Outcome::NotProcessed => self.take(parcel),
            Outcome::Unknown => {
                self.count_again(&parcel, member);
                self.take(parcel);
            }
            Outcome::Refused(refusal) => {
                if refusal != Refusal::Unserved {
                    self.count_again(&parcel, member);
                }
                self.suspect(parcel, member, refusal);
            }
        }
    }

    /// The messages are sent again though a backend may have acted on them.
    fn count_again(&self, parcel: &Parcel, member: usize) {
        let messages = u64::from(parcel.messages());
        self.books.sent_again(messages);
        self.backend(member).handles().replayed_messages.increment(messages);
    }

    /// A backend refused the trip this parcel was on, alone or in company.
    fn suspect(self: &Rc<Self>, mut parcel: Parcel, member: usize, refusal: Refusal) {
        let now = Instant::now();
        let first = Suspicion { since: now, undecided: 0, refused_by: 0 };
        let was_alone = parcel.suspicion.is_some();
        let suspicion = parcel.suspicion.get_or_insert(first);
        if refusal == Refusal::Undecided && was_alone {
            let backend_works = self.backend(member).has_answered_since(suspicion.since);
            if !backend_works && now < suspicion.since + UNDECIDED_MAX {
                suspicion.undecided += 1;
                let rest = REST_MIN.saturating_mul(1 << suspicion.undecided.min(10)).min(REST_MAX);
                self.resting.borrow_mut().push((now + rest, parcel));
                return;
            }
        }
        if was_alone || refusal != Refusal::Undecided {
            suspicion.refused_by |= bit(member);
        }
        if suspicion.refused_by.count_ones() < REFUSALS_MAX.min(self.members.len() as u32) {
            return self.take(parcel);
        }
        if parcel.messages() > 1 {
            return parcel.take_apart().for_each(|alone| self.take(alone));
        }
        let (method, bytes) = (parcel.subject.path, parcel.bytes());
        tracing::error!(method, bytes, "a message is lost: every backend tried has refused it and taken others");
        parcel.ticket.lose(LostReason::Rejected);
    }

    /// Tries those again that have rested.
    pub(super) fn wake_resting(self: &Rc<Self>) {
        let now = Instant::now();
        let rested: Vec<Parcel> = {
            let mut resting = self.resting.borrow_mut();
            let (rested, still) = resting.drain(..).partition(|(until, _)| *until <= now);
            *resting = still;
            let rested: Vec<(Instant, Parcel)> = rested;
            rested.into_iter().map(|(_, parcel)| parcel).collect()
        };
        rested.into_iter().for_each(|parcel| self.take(parcel));
    }
}
