//! One inbound call whose messages may be sorted: chunks in, parcels out, a reply at the end.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::message::budget::Permit;
use crate::message::flow::Flow;
use crate::message::frames::Frames;
use crate::message::parcel::{MESSAGE_OVERHEAD_BYTES, PARCEL_BYTES_MAX, PARCEL_MESSAGES_MAX, Parcel};
use crate::message::receipt::Receipt;
use crate::message::run::{Message, Run};
use crate::metrics::{self, LostReason};
use crate::route::sorter::{Sorted, Sorter};
use crate::wire::compression::Encoding;
use crate::wire::grpc::Code;
use crate::wire::server::Answering;
use crate::wire::stream::{Chunk, Inflow};

use super::Reply;
use super::register::Entry;
use super::reply::{self, Complaint};
use super::worker::{Ear, Worker};

/// Chunks below this size are copied together while they wait: each would otherwise keep a whole read buffer.
///
/// It also makes one run of many: agents send one message a DATA frame, so that even a full socket would yield runs of
/// one, and a parcel each costs far more than a copy.
const SMALL_CHUNK_BYTES: usize = 4 << 10;

/// A call that is being sorted.
pub struct SortCall {
    /// Its worker.
    pub worker: Rc<Worker>,
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
}

/// What the call's loop works with.
struct Road {
    worker: Rc<Worker>,
    flow: Flow,
    arrivals: Arrivals,
    frames: Frames,
    encoding: Encoding,
    sorter: Sorter,
    /// Parcels' worth of messages, until their permit is there.
    sorted: Vec<Sorted>,
    ear: Ear,
    receipt: Receipt,
    /// When the message that is not whole yet began; time spent waiting for its permit does not count.
    begun: Option<Instant>,
    /// For messages that have begun and are not whole, and for what is being dispatched.
    permit: Option<Permit>,
    received: Rc<metrics::Received>,
    entry: Entry,
}

/// The inbound stream. DATA frames are popped as soon as they are there, for h2 counts unread ones against the peer;
/// what holds a sender back is its window, which is released only for bytes that hold a permit.
struct Arrivals {
    inflow: Inflow,
    chunks: VecDeque<Bytes>,
    /// Small chunks that came one after another.
    small: BytesMut,
    bytes: usize,
    end: Option<End>,
}

/// How a call's sending side ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    HalfClosed,
    /// Reset, or the connection is gone: nobody listens for a reply.
    Gone,
    /// We are shutting down.
    Closing,
}

impl SortCall {
    /// Sorts until the call ends and replies. A caller that is gone ends it; the messages it sent do not.
    pub async fn run(self) {
        let mut road = Road {
            frames: Frames::new(self.worker.shared.limits.message_bytes_max),
            receipt: Receipt::open(&self.worker.books),
            arrivals: Arrivals::new(self.inflow),
            sorted: Vec::new(),
            ear: self.worker.closing.ear(),
            begun: None,
            permit: None,
            worker: self.worker,
            flow: self.flow,
            encoding: self.encoding,
            sorter: self.sorter,
            received: self.received,
            entry: self.entry,
        };
        let answering = self.answering;
        let listener = road.entry.listener();
        match road.travel().await {
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
            let taken = self.arrivals.take(&mut self.frames);
            let cut = self.cut();
            let is_another = !self.sorted.is_empty();
            let has_waited = self.pay().await;
            self.begun = match self.begun {
                _ if !self.frames.is_mid_message() => None,
                Some(begun) if !is_another && !has_waited => Some(begun),
                _ => Some(Instant::now()),
            };
            self.arrivals.inflow.release(taken);
            self.dispatch();
            cut?;
            match end {
                Some(End::HalfClosed) if self.frames.is_mid_message() => return Err(Complaint::truncated()),
                Some(end) => return Ok(end),
                None => {}
            }
        }
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
        let deadline = self.worker.shared.limits.message_deadline;
        tokio::time::timeout_at(begun + deadline, waiting).await.map_err(|_| Complaint::stalled(deadline))
    }

    /// Cuts what arrived into runs and makes them stand alone. Messages before an error are kept; those of the run it
    /// stands in are received and lost.
    fn cut(&mut self) -> Result<(), Complaint> {
        loop {
            let run = match self.frames.next_run() {
                Ok(Some(run)) => run,
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.received.messages.increment(u64::from(run.messages()));
            self.received.bytes.increment(run.bytes().len() as u64);
            self.entry.received(u64::from(run.messages()), run.bytes().len() as u64);
            let (messages, before) = (run.messages(), self.sorted_messages());
            let outcome = match run.any_compressed() {
                false => self.sorter.sort(run, &mut self.sorted).map_err(Complaint::from),
                true => self.sort_compressed(run),
            };
            if let Err(complaint) = outcome {
                let unsorted = messages - (self.sorted_messages() - before);
                self.receipt.issue(unsorted).lose(LostReason::Malformed);
                return Err(complaint);
            }
        }
    }

    fn sorted_messages(&self) -> u32 {
        self.sorted.iter().map(|part| part.run.messages()).sum()
    }

    fn sort_compressed(&mut self, run: Run) -> Result<(), Complaint> {
        for message in run.iter() {
            let plain = match message.is_compressed() {
                true => {
                    let limit = self.worker.shared.limits.message_bytes_max;
                    Message::of_body(&self.encoding.inflate(&message.body(), limit)?)
                }
                false => message,
            };
            self.sorter.sort(Run::of_message(plain), &mut self.sorted)?;
        }
        Ok(())
    }

    /// Gets the permit that covers these parcels and the message that has begun; answers whether it had to wait. Bytes that arrive meanwhile are
    /// popped and stay in their window.
    async fn pay(&mut self) -> bool {
        let cost: usize = self.sorted.iter().map(|part| cost(&part.run)).sum::<usize>() + self.frames.partial_bytes();
        let held = self.permit.as_ref().map_or(0, Permit::bytes);
        let Some(missing) = cost.checked_sub(held).filter(|missing| *missing > 0) else { return false };
        let free = self.worker.shared.budget.try_reserve(self.flow, missing);
        let has_waited = free.is_none();
        let permit = match free {
            Some(permit) => permit,
            None => self.wait_for_permit(missing).await,
        };
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
        has_waited
    }

    async fn wait_for_permit(&mut self, bytes: usize) -> Permit {
        let since = Instant::now();
        let mut reserve = pin!(self.worker.shared.budget.reserve(self.flow, bytes));
        let arrivals = &mut self.arrivals;
        let permit = poll_fn(|cx| {
            arrivals.pop(cx);
            reserve.as_mut().poll(cx)
        })
        .await;
        self.worker.budget_metrics.waits.increment(1);
        self.worker.budget_metrics.wait_seconds.record(since.elapsed().as_secs_f64());
        permit
    }

    /// Issues tickets and hands parcels to the pool, which never waits.
    fn dispatch(&mut self) {
        for Sorted { mut run, subject, key } in self.sorted.drain(..) {
            while let Some(run) = run.take_front(PARCEL_BYTES_MAX, PARCEL_MESSAGES_MAX) {
                let permit = self.permit.as_mut().expect("paid for above").split(cost(&run));
                let ticket = self.receipt.issue(run.messages());
                let subject = Rc::clone(&subject);
                self.worker.pool.take(Parcel { run, subject, key, ticket, permit, suspicion: None });
            }
        }
    }

    /// The caller half-closed with every message whole: answers as the operator wants it.
    async fn reply(self, mut answering: Answering) {
        if self.worker.shared.reply == Reply::Received {
            return self.reply_ok(answering);
        }
        self.worker.pool.hurry(self.flow);
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

/// What a run costs in the budget until it is settled.
fn cost(run: &Run) -> usize {
    run.bytes().len() + run.messages() as usize * MESSAGE_OVERHEAD_BYTES
}

// === impl Arrivals ===

impl Arrivals {
    fn new(inflow: Inflow) -> Self {
        Self { inflow, chunks: VecDeque::new(), small: BytesMut::new(), bytes: 0, end: None }
    }

    /// Ready when there are bytes or the end is known.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        self.pop(cx);
        if self.bytes == 0 && self.end.is_none() {
            return Poll::Pending;
        }
        Poll::Ready(self.end.clone())
    }

    /// Pops every DATA frame that is there.
    fn pop(&mut self, cx: &mut Context<'_>) {
        while self.end.is_none() {
            match self.inflow.poll_chunk(cx) {
                Poll::Ready(Chunk::Data(chunk)) => self.put(chunk),
                Poll::Ready(Chunk::End(_)) => self.end = Some(End::HalfClosed),
                Poll::Ready(Chunk::Broken(_)) => self.end = Some(End::Gone),
                Poll::Pending => return,
            }
        }
    }

    fn put(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        // One small chunk alone is passed on as it is; from the second on they are copied together.
        let follows_small = self.chunks.back().is_some_and(|last| last.len() < SMALL_CHUNK_BYTES);
        if chunk.len() < SMALL_CHUNK_BYTES && (follows_small || !self.small.is_empty()) {
            if self.small.is_empty() {
                let last = self.chunks.pop_back().expect("seen above");
                self.small.extend_from_slice(&last);
            }
            self.small.extend_from_slice(&chunk);
            return;
        }
        self.seal_small();
        self.chunks.push_back(chunk);
    }

    fn seal_small(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push_back(self.small.split().freeze());
        }
    }

    /// Moves what arrived to the frame reader; answers how many bytes that was.
    fn take(&mut self, frames: &mut Frames) -> usize {
        self.seal_small();
        self.chunks.drain(..).for_each(|chunk| frames.push(chunk));
        std::mem::take(&mut self.bytes)
    }
}
