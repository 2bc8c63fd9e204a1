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

use super::{Member, Outcome, Pool, Refusal};

/// Different backends that must have refused a message before it is given up.
const REFUSALS_MAX: u32 = 3;

/// The first rest of a refused message; doubles each time.
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(10);

/// After this long, refusals count without evidence: somewhere memory must end.
const UNDECIDED_MAX: Duration = Duration::from_secs(60);

impl Pool {
    /// Takes back a parcel that a channel could not bring to its end.
    pub(super) fn give_back(self: &Rc<Self>, parcel: Parcel, member: &Member, outcome: Outcome) {
        match outcome {
            _ if parcel.ticket.is_of_copies() => parcel.ticket.lose(LostReason::Limited),
            Outcome::Delivered | Outcome::NotProcessed => self.take(parcel),
            Outcome::Unknown if parcel.subject.said_once => {
                let (method, messages) = (parcel.subject.path, parcel.messages());
                tracing::warn!(
                    method,
                    messages,
                    "lost: a backend may have acted on these, and they must not be said twice"
                );
                parcel.ticket.lose(LostReason::InDoubt);
            }
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
    fn count_again(&self, parcel: &Parcel, member: &Member) {
        let messages = u64::from(parcel.messages());
        self.books.sent_again(messages);
        member.backend().handles().replayed_messages.increment(messages);
    }

    /// A backend refused the trip this parcel was on, alone or in company.
    fn suspect(self: &Rc<Self>, mut parcel: Parcel, member: &Member, refusal: Refusal) {
        if let (Refusal::Unserved, Some(_)) = (refusal, parcel.subject.stand_in) {
            member.backend().lack(parcel.subject.path);
            return self.take(parcel);
        }
        let was_alone = parcel.is_alone();
        let first = Suspicion { since: Instant::now(), alone: false, undecided: 0, refused_by: 0 };
        let suspicion = parcel.suspicion.get_or_insert(first);
        match refusal {
            Refusal::Unserved => member.backend().lack(parcel.subject.path),
            Refusal::TheirFault => suspicion.alone = true,
            Refusal::Undecided if !was_alone => {
                suspicion.alone = true;
                return self.take(parcel);
            }
            Refusal::Undecided => {
                let is_blamed = member.backend().has_answered_since(suspicion.since);
                if !is_blamed && suspicion.since.elapsed() < UNDECIDED_MAX {
                    suspicion.undecided += 1;
                    return self.rest(parcel);
                }
            }
        }
        suspicion.refused_by |= member.backend().bit();
        let refused_by = suspicion.refused_by.count_ones();
        // What nobody serves is known only when everybody was asked; what is broken, sooner.
        let enough = if refusal == Refusal::Unserved { u64::BITS } else { REFUSALS_MAX };
        match refused_by >= enough.min(self.members.borrow().len() as u32) {
            true => self.refused_by_all(parcel, refusal),
            false => self.take(parcel),
        }
    }

    /// Everybody who counts has refused these: find out which of them is to blame, or give them up.
    fn refused_by_all(self: &Rc<Self>, parcel: Parcel, refusal: Refusal) {
        if parcel.messages() > 1 && !parcel.subject.alone && refusal != Refusal::Unserved {
            return parcel.take_apart().for_each(|alone| self.take(alone));
        }
        let (method, messages, bytes) = (parcel.subject.path, parcel.messages(), parcel.bytes());
        tracing::error!(method, messages, bytes, ?refusal, "lost: every backend tried has refused this");
        parcel.ticket.lose(LostReason::Rejected);
    }

    /// Lets a refused parcel wait apart from the others, longer each time it could not be decided about. One that has
    /// been refused by those who are there and waits in vain for the rest is given up in the end.
    pub(super) fn rest(self: &Rc<Self>, parcel: Parcel) {
        let suspicion = parcel.suspicion.expect("only refused parcels rest");
        if suspicion.since.elapsed() >= UNDECIDED_MAX && suspicion.refused_by != 0 {
            return self.refused_by_all(parcel, Refusal::TheirFault);
        }
        let rest = REST_MIN.saturating_mul(1 << suspicion.undecided.min(10)).min(REST_MAX);
        self.resting.borrow_mut().push((Instant::now() + rest, parcel));
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
