//! One inbound call that is kept whole: both directions pass independently, and so do ends, resets and statuses.

mod downstream;
mod exchange;
mod request;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, Request};
use tokio::time::Instant;

use crate::message::flow::Flow;
use crate::message::receipt::{Receipt, Ticket};
use crate::metrics::{self, LostReason};
use crate::pool::{self, Pool};
use crate::route::contract::{Relay, Replay};
use crate::route::key;
use crate::wire::grpc::{self, Code, Status};
use crate::wire::server::{Answering, Call};

use super::register::Entry;
use super::reply::Tone;
use super::worker::Worker;
use exchange::{Ended, Exchange};
use request::Request as Sent;

/// Metadata that is passed to a backend. Everything else stays here: `host`, `x-forwarded-*`, `authorization` and the
/// like speak of the hop that ends at the gateway. `grpc-timeout` is said anew, for time has passed.
const PASSED_METADATA: [&str; 9] = [
    "authentication",
    "agent-version",
    "grpc-encoding",
    "grpc-accept-encoding",
    "traceparent",
    "tracestate",
    "baggage",
    "sw8",
    "sw8-correlation",
];

/// A call that is being relayed.
pub struct RelayCall {
    /// Its worker.
    pub worker: Rc<Worker>,
    /// The path of the outbound call.
    pub path: String,
    /// Whose channels it uses.
    pub flow: Flow,
    /// What relaying must keep.
    pub relay: Relay,
    /// How its caller is spoken to.
    pub tone: Tone,
    /// The call.
    pub call: Call,
    /// Counts.
    pub received: Rc<metrics::Received>,
    /// Its place in the register.
    pub entry: Entry,
}

/// What of a call stays the same however often it is tried.
struct Attempt {
    worker: Rc<Worker>,
    path: String,
    flow: Flow,
    tone: Tone,
    metadata: HeaderMap,
    /// The caller's own deadline.
    deadline: Option<Instant>,
    key: Option<u64>,
    /// Backends that have failed this call, a bit each.
    failed: u64,
    /// The backend that has the call now, or had it last.
    member: Option<usize>,
}

impl RelayCall {
    /// Relays until both directions are over. A backend that fails before it answered is replaced by another where
    /// the contract allows.
    pub async fn run(self) {
        let Call { head, inflow, mut answer } = self.call;
        let listener = self.entry.listener();
        let mut attempt = Attempt {
            deadline: grpc::timeout(&head.headers).map(|timeout| Instant::now() + timeout),
            metadata: passed(&head.headers),
            key: None,
            failed: 0,
            member: None,
            path: self.path,
            flow: self.flow,
            tone: self.tone,
            worker: Rc::clone(&self.worker),
        };
        let receipt = Receipt::open(&self.worker.books);
        let counts =
            Counts { receipt, ticket: None, bytes: 0, received: self.received, entry: self.entry, worker: self.worker };
        let mut sent = Sent::new(inflow, counts, self.flow, self.relay.replay == Replay::Always);
        if !self.relay.sticky.is_empty() {
            let find = |body: &[u8]| key::of_paths(body, self.relay.sticky).ok().flatten();
            let mut ear = attempt.worker.closing.ear();
            let named = while_caller_waits(&mut answer, sent.first_message_within(find));
            let mut named = pin!(named);
            let named = poll_fn(|cx| match ear.must_end(cx) {
                true => Poll::Ready(None),
                false => named.as_mut().poll(cx),
            });
            // A call that does not name its source in time goes to any backend.
            attempt.key = tokio::time::timeout_at(attempt.open_until(), named).await.ok().flatten().flatten();
        }
        let ended = attempt.until_answered(&mut sent, &mut answer).await;
        let worker = &attempt.worker;
        match ended {
            Ended::Answered { code } => {
                sent.counts.close(attempt.member.filter(|_| code == Code::Ok));
                worker.replied(listener, code);
            }
            // What a caller sent before it reset the call was passed on, and so was the reset.
            Ended::CallerGone { all_passed } => sent.counts.close(all_passed.then_some(attempt.member).flatten()),
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
}

impl Attempt {
    /// Tries one backend after the other until one has answered or none may be tried again.
    async fn until_answered(&mut self, sent: &mut Sent, answer: &mut Answering) -> Ended {
        let until = self.open_until();
        loop {
            let pool = Rc::clone(&self.worker.pool);
            let opening = pool.open(self.flow, &self.path, self.key, self.failed, |authority| self.head(authority));
            let opened = tokio::time::timeout_at(until, while_caller_waits(answer, opening)).await;
            let (member, open) = match opened {
                Ok(Some(opened)) => opened,
                Ok(None) => return Ended::CallerGone { all_passed: false },
                Err(_) => return Ended::failed(self.tone.no_backend()),
            };
            self.member = Some(member);
            let patience = Patience { deadline: self.deadline, first_answer: self.worker.shared.limits.relay_deadline };
            let ended = Exchange::new(sent, answer, open, self.tone).run(patience).await;
            match ended {
                Ended::Failed { may_retry: true, untouched, status } if Instant::now() < until => {
                    if status.code == Code::Unimplemented {
                        pool.backend(member).lack(&self.path);
                    }
                    if !self.fail(&pool, member) {
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

    /// Notes that a backend has failed the call; answers whether another try makes sense. A backend that is out by now
    /// may well serve it once it is back; when all that are up have failed it, nobody will.
    fn fail(&mut self, pool: &Pool, member: usize) -> bool {
        if !pool.backend(member).is_up() {
            return true;
        }
        self.failed |= pool::bit(member);
        let untried = |member: &usize| self.failed & pool::bit(*member) == 0;
        (0..pool.members()).any(|member| untried(&member))
    }

    /// When waiting for a backend ends, counted from now.
    fn open_until(&self) -> Instant {
        let limit = Instant::now() + self.worker.shared.limits.relay_deadline;
        self.deadline.map_or(limit, |deadline| deadline.min(limit))
    }

    fn head(&self, authority: &str) -> Request<()> {
        let mut head = grpc::request_head(authority, &self.path).expect("endpoints and routed paths are URIs");
        head.headers_mut().extend(self.metadata.clone());
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            head.headers_mut().insert("grpc-timeout", grpc::timeout_value(left));
        }
        head
    }
}

/// How long an exchange may take.
pub(super) struct Patience {
    /// The caller's own deadline.
    pub deadline: Option<Instant>,
    /// Without one: how long a backend may take to begin its answer once the caller has half-closed.
    pub first_answer: Duration,
}

/// Messages of a relayed call: held while it is open, then delivered or lost together.
pub(super) struct Counts {
    pub worker: Rc<Worker>,
    receipt: Receipt,
    ticket: Option<Ticket>,
    bytes: usize,
    received: Rc<metrics::Received>,
    entry: Entry,
}

impl Counts {
    pub fn add(&mut self, messages: u32, bytes: usize) {
        self.bytes += bytes;
        self.received.bytes.increment(bytes as u64);
        self.entry.received(u64::from(messages), bytes as u64);
        if messages == 0 {
            return;
        }
        self.received.messages.increment(u64::from(messages));
        self.worker.relayed.set(self.worker.relayed.get() + u64::from(messages));
        let ticket = self.receipt.issue(messages);
        match &mut self.ticket {
            Some(held) => held.merge(ticket),
            None => self.ticket = Some(ticket),
        }
    }

    /// The call is said again though a backend may have acted on it.
    fn sent_again(&self) {
        let messages = self.ticket.as_ref().map_or(0, Ticket::messages);
        self.worker.books.sent_again(u64::from(messages));
    }

    /// The call is over: delivered to a backend, or lost.
    fn close(&mut self, delivered_to: Option<usize>) {
        let Some(ticket) = self.ticket.take() else { return };
        let messages = u64::from(ticket.messages());
        self.worker.relayed.set(self.worker.relayed.get() - messages);
        match delivered_to {
            Some(member) => {
                self.worker.pool.backend(member).relayed(messages, self.bytes as u64);
                ticket.settle();
            }
            None => ticket.lose(LostReason::Relay),
        }
    }
}

/// A relay that is torn down in the middle loses nothing silently.
impl Drop for Counts {
    fn drop(&mut self) {
        self.close(None);
    }
}

/// The metadata a backend may see.
fn passed(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for name in PASSED_METADATA {
        for value in headers.get_all(name) {
            passed.append(name, value.clone());
        }
    }
    passed
}

/// `future`, or `None` as soon as the caller has gone.
async fn while_caller_waits<T>(answer: &mut Answering, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if answer.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

impl Ended {
    fn failed(status: Status) -> Self {
        Ended::Failed { status, may_retry: false, untouched: true }
    }
}
