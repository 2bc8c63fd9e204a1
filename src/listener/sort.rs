//! One inbound call whose messages may be sorted: chunks in, parcels out, a reply at the end.

mod arrivals;
mod complaints;

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::message::budget::Permit;
use crate::message::flow::Flow;
use crate::message::frames::Frames;
use crate::message::parcel::{MESSAGE_OVERHEAD_BYTES, cost};
use crate::message::receipt::Receipt;
use crate::message::run::{Message, PREFIX_BYTES, Run};
use crate::metrics::{self, BadInput, LostReason};
use crate::route::sorter::{Gone, Sorter, Sorting};
use crate::wire::compression::{Encoding, InflateError};
use crate::wire::grpc::Code;
use crate::wire::pace;
use crate::wire::server::Answering;
use crate::wire::stream::Inflow;

use super::Reply;
use super::affinity;
use super::held::Held;
use super::register::Entry;
use super::reply::{self, Complaint};
use super::terms::Terms;
use super::worker::{Closing, Ear, Worker};
use arrivals::{Arrivals, End};
use complaints::Complaints;

/// A call that is being sorted.
pub struct SortCall {
    /// Its worker.
    pub worker: Rc<Worker>,
    /// Ends it.
    pub closing: Rc<Closing>,
    /// Whose budget it uses.
    pub flow: Flow,
    /// What the caller sends.
    pub inflow: Inflow,
    /// Where the reply goes.
    pub answering: Answering,
    /// How messages are compressed.
    pub encoding: Encoding,
    /// Makes messages able to stand elsewhere.
    pub sorter: Sorter,
    /// Counts.
    pub received: Rc<metrics::Received>,
    /// Its place in the register.
    pub entry: Entry,
    /// What it began under.
    pub terms: Rc<Terms>,
    /// What it is asked about when the terms change.
    pub caller: Caller,
}

/// Who calls, for as long as a call may have to be sorted by other terms.
pub struct Caller {
    /// The call's path.
    pub path: &'static str,
    /// The only flow its listener serves.
    pub only: Option<Flow>,
    /// Where from.
    pub peer: IpAddr,
    /// What it said when it began.
    pub metadata: Box<[(HeaderName, HeaderValue)]>,
}

/// What the call's loop works with.
struct Road {
    worker: Rc<Worker>,
    terms: Rc<Terms>,
    caller: Caller,
    flow: Flow,
    arrivals: Arrivals,
    frames: Frames,
    encoding: Encoding,
    sorter: Sorter,
    /// Messages until their permit is there.
    sorting: Sorting,
    /// The messages in `sorting` and those the sorter holds back.
    held: Held,
    /// What the caller is told of messages that were refused, once it asks.
    complaints: Complaints,
    ear: Ear,
    receipt: Receipt,
    /// When the message or the data set that is not whole yet was last added to; time spent waiting for its permit does
    /// not count.
    begun: Option<Instant>,
    /// For messages that have begun and are not whole, and for what is being dispatched.
    permit: Option<Permit>,
    /// Whether a permit had to be waited for since bytes last arrived.
    has_waited: bool,
    received: Rc<metrics::Received>,
    entry: Entry,
}

impl SortCall {
    /// Sorts until the call ends and replies. A caller that is gone ends it; the messages it sent do not.
    pub async fn run(self) {
        let mut road = Road {
            frames: Frames::new(self.terms.limits().message_bytes_max),
            receipt: Receipt::open(&self.worker.books),
            arrivals: Arrivals::new(self.inflow),
            sorting: Sorting::default(),
            held: Held::new(&self.worker),
            complaints: Complaints::default(),
            ear: self.closing.ear(),
            begun: None,
            permit: None,
            has_waited: false,
            worker: self.worker,
            terms: self.terms,
            caller: self.caller,
            flow: self.flow,
            encoding: self.encoding,
            sorter: self.sorter,
            received: self.received,
            entry: self.entry,
        };
        let answering = self.answering;
        let listener = road.entry.listener();
        let ended = road.travel().await;
        road.end(ended == Ok(End::HalfClosed)).await;
        match ended {
            Ok(End::HalfClosed) => road.reply(answering).await,
            Ok(End::Closing) => road.worker.reply(answering, listener, &reply::going_away()),
            Ok(End::Gone) => {}
            Err(complaint) => road.worker.refuse(answering, listener, &complaint),
        }
    }
}

// === impl Road ===

impl Road {
    /// The main road: chunk, runs, permit, window, parcels.
    async fn travel(&mut self) -> Result<End, Complaint> {
        loop {
            let end = self.arrived().await?;
            let is_bound = self.worker.is_current(&self.terms) || self.follow();
            let taken = self.arrivals.take(&mut self.frames);
            let held_back = self.sorter.held();
            self.has_waited = false;
            let cut = self.cut().await;
            let is_another = !self.sorting.sorted.is_empty() || self.sorter.held() != held_back;
            self.pay().await;
            self.begun = match self.begun {
                _ if !self.frames.is_mid_message() && self.sorter.held().1 == 0 => None,
                Some(begun) if !is_another && !self.has_waited => Some(begun),
                _ => Some(Instant::now()),
            };
            self.arrivals.inflow.release(taken);
            self.dispatch();
            cut?;
            match end {
                Some(End::HalfClosed) if self.frames.is_mid_message() => return Err(Complaint::truncated()),
                Some(end) => return Ok(end),
                // What can no longer be taken apart as the call began is asked to begin again.
                None if !is_bound => return Ok(End::Closing),
                None => {}
            }
        }
    }

    /// Goes on under the terms of now; not when they read the method's messages in another way.
    fn follow(&mut self) -> bool {
        let (terms, caller) = (self.worker.terms(), &self.caller);
        let Ok(route) = terms.decided.routes.find(caller.path, caller.only) else { return false };
        let metadata: HeaderMap = caller.metadata.iter().cloned().collect();
        let separating = terms.decided.identity.metadata(&metadata);
        let callers = affinity::of_caller(&terms.pools, caller.peer, &metadata);
        let listener = self.entry.listener();
        let follows = self.sorter.follow(route, listener, &metadata, separating, callers, &terms.sorters);
        if follows {
            self.terms = terms;
        }
        follows
    }

    /// Nothing more comes: what the sorter holds back goes on or is given up.
    async fn end(&mut self, half_closed: bool) {
        self.sorter.end(half_closed, &mut self.sorting);
        self.pay().await;
        self.dispatch();
    }

    /// Waits for bytes or for the end, which comes with whatever bytes came before it.
    async fn arrived(&mut self) -> Result<Option<End>, Complaint> {
        let (arrivals, ear) = (&mut self.arrivals, &mut self.ear);
        let waiting = poll_fn(|cx| {
            if ear.must_end(cx) {
                arrivals.pop(cx);
                arrivals.end.get_or_insert(End::Closing);
            }
            arrivals.poll(cx)
        });
        let Some(begun) = self.begun else { return Ok(waiting.await) };
        let deadline = self.terms.limits().message_deadline;
        tokio::time::timeout_at(begun + deadline, waiting).await.map_err(|_| Complaint::stalled(deadline))
    }

    /// Cuts what arrived into runs and sorts them. Messages before an error are kept.
    async fn cut(&mut self) -> Result<(), Complaint> {
        loop {
            let run = match self.frames.next_run() {
                Ok(Some(run)) => run,
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            match run.any_compressed() {
                false => self.sort(run),
                true => self.sort_compressed(run).await?,
            }
        }
    }

    fn sort(&mut self, run: Run) {
        let bytes = run.bytes().len() as u64;
        let messages = self.sorter.sort(run, &mut self.sorting);
        self.count(messages, bytes);
        self.held.add(self.receipt.issue(messages));
    }

    /// Sorts messages of which some are compressed. One that cannot be read ends the call, and what is behind it in the
    /// run is received and lost: decompressing goes on for nobody who sends such things.
    async fn sort_compressed(&mut self, run: Run) -> Result<(), Complaint> {
        for (before, message) in (0..).zip(run.iter()) {
            let plain = match message.is_compressed() {
                false => Ok(message),
                true => self.inflate(message).await,
            };
            match plain {
                Ok(plain) => self.sort(Run::of_message(plain)),
                Err(error) => {
                    let unread = run.messages() - before;
                    self.count(unread, 0);
                    self.receipt.issue(unread).lose(LostReason::Malformed);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Decompresses a message under a permit for as much as it may become: little may be made into much, and nothing
    /// that was decompressed waits for memory.
    async fn inflate(&mut self, message: Message) -> Result<Message, InflateError> {
        let limit = self.terms.limits().message_bytes_max;
        let most = limit + PREFIX_BYTES + MESSAGE_OVERHEAD_BYTES;
        let mut permit = match self.worker.shared.budget.try_reserve(self.flow, most) {
            Some(permit) => permit,
            None => {
                // What is ready goes first: it may be what the memory waits for.
                self.pay().await;
                self.dispatch();
                self.wait_for_permit(most).await
            }
        };
        let plain = self.encoding.inflate(&message.body(), limit).map(|body| Message::of_body(&body))?;
        permit.split(plain.framed().len() + MESSAGE_OVERHEAD_BYTES).add_to(&mut self.permit);
        Ok(plain)
    }

    fn count(&self, messages: u32, bytes: u64) {
        self.received.count(u64::from(messages), bytes);
        self.entry.received(u64::from(messages), bytes);
    }

    /// Gets the permit that covers these parcels and the message that has begun. Bytes that arrive meanwhile are popped
    /// and stay in their window.
    async fn pay(&mut self) {
        let sorted: usize = self.sorting.sorted.iter().map(|part| cost(&part.run)).sum();
        let held = self.permit.as_ref().map_or(0, Permit::bytes);
        let missing = (sorted + self.cost_of_unfinished()).saturating_sub(held);
        if missing == 0 {
            return;
        }
        let permit = match self.worker.shared.budget.try_reserve(self.flow, missing) {
            Some(permit) => permit,
            None => self.wait_for_permit(missing).await,
        };
        permit.add_to(&mut self.permit);
    }

    /// What has begun and is not whole: a message, a data set.
    fn cost_of_unfinished(&self) -> usize {
        let (held_back, messages) = self.sorter.held();
        held_back + messages as usize * MESSAGE_OVERHEAD_BYTES + self.frames.partial_bytes()
    }

    async fn wait_for_permit(&mut self, bytes: usize) -> Permit {
        let mut reserve = pin!(self.worker.shared.budget.reserve(self.flow, bytes));
        let arrivals = &mut self.arrivals;
        let waiting = poll_fn(|cx| {
            arrivals.pop(cx);
            reserve.as_mut().poll(cx)
        });
        let permit = self.worker.count_wait(waiting).await;
        self.has_waited = true;
        permit
    }

    /// Hands parcels to their pools, which never wait, and closes the books on what goes nowhere.
    fn dispatch(&mut self) {
        for Gone { messages, reason, complaint } in self.sorting.gone.drain(..) {
            let ticket = self.held.take(messages);
            if let Some(complaint) = complaint {
                self.worker.bad_input(self.entry.listener(), BadInput::Malformed, messages);
                self.complaints.add(messages, complaint);
            }
            // Who is to blame hears it from the complaints.
            ticket.write_off(reason);
        }
        for mut sorted in self.sorting.sorted.drain(..) {
            if let Some(mirror) = sorted.mirror {
                self.worker.mirror(&self.terms.pools[mirror], &sorted);
            }
            while let Some(taken) = sorted.take() {
                let permit = self.permit.as_mut().expect("paid for above").split(cost(&taken.0));
                let ticket = self.held.take(taken.0.messages());
                self.terms.pools[sorted.pool].take(sorted.parcel(taken, ticket, permit));
            }
        }
        // What was refused or dropped was paid for, too.
        let needed = self.cost_of_unfinished();
        if let Some(permit) = &mut self.permit
            && permit.bytes() > needed
        {
            drop(permit.split(permit.bytes() - needed));
        }
    }

    /// The caller half-closed with every message whole: answers as the operator wants it.
    async fn reply(self, mut answering: Answering) {
        if let Some(status) = self.complaints.status() {
            return self.worker.reply(answering, self.entry.listener(), &status);
        }
        if self.terms.decided.reply == Reply::Received {
            return self.reply_ok(answering);
        }
        self.terms.pools.iter().for_each(|pool| pool.hurry(self.flow));
        pace::note_awaited();
        let lost = poll_fn(|cx| {
            if answering.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            self.receipt.poll_settled(cx).map(Some)
        });
        match lost.await {
            Some(0) => self.reply_ok(answering),
            Some(lost) => self.worker.reply(answering, self.entry.listener(), &reply::lost(lost)),
            None => {}
        }
    }

    fn reply_ok(&self, answering: Answering) {
        reply::ok(answering);
        self.worker.replied(self.entry.listener(), Code::Ok);
    }
}
