//! One inbound call that is kept whole: both directions pass independently, and so do ends, resets and statuses.

mod direction;
mod downstream;
mod exchange;
mod request;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::message::flow::Flow;
use crate::message::tie::Tie;
use crate::pool::{Member, Pool};
use crate::wire::grpc::{Code, Status};
use crate::wire::server::{Answering, Call};

use super::call::Routed;
use super::counts::Counts;
use super::outbound::{Outbound, while_caller_waits};
use super::reply::Tone;
use super::terms::Terms;
use super::worker::Worker;
use direction::Direction;
use exchange::{Ended, Exchange};
use request::Request as Sent;

/// What of a call stays the same however often it is tried.
struct Attempt {
    worker: Rc<Worker>,
    terms: Rc<Terms>,
    pool: Rc<Pool>,
    outbound: Outbound,
    flow: Flow,
    tone: Tone,
    tie: Option<Tie>,
    /// Backends that have failed this call, a bit each.
    failed: u64,
    /// The backend that has the call now, or had it last.
    member: Option<Rc<Member>>,
}

/// Relays until both directions are over. A backend that fails before it answered is replaced by another where
/// the contract allows.
pub(super) async fn run(routed: Routed) {
    let Call { head, inflow, mut answer } = routed.call;
    let listener = routed.entry.listener();
    let (worker, terms, method) = (Rc::clone(&routed.worker), Rc::clone(&routed.terms), &routed.route.method);
    let outbound = Outbound::of(method.path, &head.headers, &terms.decided.identity);
    let counts = Counts::open(Rc::clone(&worker), routed.closing, routed.received, routed.entry);
    let mut sent = Sent::new(inflow, counts, method, &head.headers, terms.limits().message_bytes_max);
    let mut direction = Direction::new(&routed.route, listener, &head.headers, &terms, routed.callers);
    if direction.must_read() {
        let open_until = outbound.until(terms.limits().relay_deadline);
        let mut ear = sent.counts.closing.ear();
        // A caller that goes ends it, too, but what it said before is read first.
        let mut named = pin!(sent.first_message_within(|body| direction.read(body)));
        let named = poll_fn(|cx| match ear.must_end(cx) {
            true => Poll::Ready(None),
            false => named.as_mut().poll(cx),
        });
        // A call that does not name its source in time goes to any backend.
        let _ = tokio::time::timeout_at(open_until, named).await;
    }
    if let Some(reason) = direction.stopped {
        return sent.give_up(answer, &routed.route, reason).await;
    }
    let (pool, tie) = direction.ends_at();
    let pool = Rc::clone(&terms.pools[pool]);
    let mut attempt = Attempt {
        outbound,
        tie,
        failed: 0,
        member: None,
        flow: method.flow,
        tone: Tone::of(method.path),
        pool,
        terms,
        worker,
    };
    let ended = attempt.until_answered(&mut sent, &mut answer).await;
    let worker = &attempt.worker;
    match ended {
        Ended::Answered { code } => {
            sent.counts.close(attempt.member.as_ref().filter(|_| code == Code::Ok).map(|member| &**member.backend()));
            worker.replied(listener, code);
        }
        // What a caller sent before it reset the call was passed on, and so was the reset.
        Ended::CallerGone { all_passed } => {
            sent.counts.close(attempt.member.as_ref().filter(|_| all_passed).map(|member| &**member.backend()));
        }
        Ended::Refused(complaint) => {
            sent.counts.close(None);
            worker.refuse(answer, listener, &complaint);
        }
        Ended::Failed { status, .. } => {
            sent.counts.close(None);
            worker.reply(answer, listener, &status);
        }
    }
}

impl Attempt {
    /// Tries one backend after the other until one has answered or none may be tried again.
    async fn until_answered(&mut self, sent: &mut Sent, answer: &mut Answering) -> Ended {
        let until = self.outbound.until(self.terms.limits().relay_deadline);
        loop {
            let pool = Rc::clone(&self.pool);
            let head = |authority: &str| self.outbound.head(authority);
            let opening = pool.open(self.flow, self.outbound.path, self.tie, self.failed, head);
            let opening = async {
                // What goes on without its caller does not wait for it either.
                match sent.flushes {
                    true => Some(opening.await),
                    false => while_caller_waits(answer, opening).await,
                }
            };
            let opened = tokio::time::timeout_at(until, opening).await;
            let (member, open) = match opened {
                Ok(Some(opened)) => opened,
                Ok(None) => return Ended::CallerGone { all_passed: false },
                Err(_) => return Ended::failed(self.tone.no_backend()),
            };
            self.member = Some(Rc::clone(&member));
            let patience = Patience {
                deadline: self.outbound.deadline,
                first_answer: self.terms.limits().relay_deadline,
                late: pool.settings().trip.answer_deadline,
            };
            let ended = Exchange::new(sent, answer, open, member.backend(), self.tone).run(patience).await;
            // What a call brought is known at its end; from then on it counts as sent lately.
            drop(pool.carry(&member, self.flow, sent.counts.bytes()));
            match ended {
                Ended::Failed { may_retry: true, untouched, status } if Instant::now() < until => {
                    if status.code == Code::Unimplemented {
                        member.backend().lack(self.outbound.path);
                    }
                    if !pool.strike(&mut self.failed, &member) {
                        return Ended::failed(status);
                    }
                    if !untouched {
                        sent.counts.sent_again();
                    }
                    sent.rewind();
                }
                ended => return ended,
            }
        }
    }
}

/// How long an exchange may take.
pub(super) struct Patience {
    /// The caller's own deadline.
    pub deadline: Option<Instant>,
    /// Without one: how long a backend may take to begin its answer once the caller has half-closed.
    pub first_answer: Duration,
    /// When a backend that has said nothing to anybody since then is doubted.
    pub late: Duration,
}

impl Ended {
    fn failed(status: Status) -> Self {
        Ended::Failed { status, may_retry: false, untouched: true }
    }
}
