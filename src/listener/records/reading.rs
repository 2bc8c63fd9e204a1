//! Reads the one message of a unary call, piece by piece as the byte budget allows.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use crate::message::budget::Permit;
use crate::message::flow::Flow;
use crate::message::frames::Counter;
use crate::message::parcel::MESSAGE_OVERHEAD_BYTES;
use crate::message::run::PREFIX_BYTES;
use crate::metrics::BadInput;
use crate::wire::grpc::{Code, Status};
use crate::wire::pace;
use crate::wire::stream::{Chunk, Inflow};

use super::Ended;
use super::division::Piece;
use crate::listener::counts::Counts;
use crate::listener::reply::{self, Complaint};
use crate::listener::terms::Terms;
use crate::listener::worker::{Ear, Worker};

/// A call whose message is being read.
pub(super) struct Reading {
    inflow: Inflow,
    worker: Rc<Worker>,
    terms: Rc<Terms>,
    flow: Flow,
    /// The caller's own deadline.
    deadline: Option<Instant>,
    ear: Ear,
    counter: Counter,
    /// Popped from the stream and not paid for; its window is released once it is.
    arrived: VecDeque<Bytes>,
    end: Option<End>,
    /// When the message began; time spent waiting for its permit does not count.
    begun: Option<Instant>,
    permit: Option<Permit>,
    chunks: Vec<Bytes>,
    bytes: usize,
    is_whole: bool,
}

#[derive(Clone, Copy)]
enum End {
    HalfClosed,
    Gone,
    Closing,
}

// === impl Reading ===

impl Reading {
    pub fn new(inflow: Inflow, counts: &Counts, terms: Rc<Terms>, flow: Flow, deadline: Option<Instant>) -> Self {
        let worker = Rc::clone(&counts.worker);
        Self {
            inflow,
            flow,
            deadline,
            ear: counts.closing.ear(),
            counter: Counter::new(terms.limits().message_bytes_max),
            arrived: VecDeque::new(),
            end: None,
            begun: None,
            permit: None,
            chunks: Vec::new(),
            bytes: 0,
            is_whole: false,
            worker,
            terms,
        }
    }

    /// The message, once the caller has half-closed behind it.
    pub async fn message(mut self, counts: &mut Counts) -> Result<Piece, Ended> {
        loop {
            self.arrive().await?;
            while let Some(chunk) = self.arrived.pop_front() {
                let ended = self.counter.count(&chunk).map_err(Complaint::from)?;
                let length = chunk.len();
                if self.is_whole {
                    return Err(more_than_one().into());
                }
                self.pay(length).await?;
                self.inflow.release(length);
                self.bytes += length;
                self.chunks.push(chunk);
                if ended > 0 {
                    self.is_whole = true;
                    counts.add(1, self.framed_bytes());
                    if self.bytes > self.framed_bytes() {
                        return Err(more_than_one().into());
                    }
                }
            }
            match (self.end, self.permit.take()) {
                (None, permit) => self.permit = permit,
                (Some(End::Gone), _) => return Err(Ended::Gone),
                (Some(End::HalfClosed), Some(permit)) if self.is_whole => {
                    return Ok(Piece::of_message(self.chunks, self.bytes, permit));
                }
                (Some(End::HalfClosed), Some(_)) => return Err(Complaint::truncated().into()),
                (Some(End::HalfClosed), None) => return Err(none_at_all().into()),
                (Some(End::Closing), _) => return Err(Ended::Failed(reply::going_away())),
            }
        }
    }

    /// Waits for chunks or the end.
    async fn arrive(&mut self) -> Result<(), Ended> {
        let message_deadline = self.terms.limits().message_deadline;
        let (stalls, deadline) = (self.begun.map(|begun| begun + message_deadline), self.deadline);
        let waiting = poll_fn(|cx| {
            self.pop(cx);
            if self.end.is_none() && self.ear.must_end(cx) {
                self.end = Some(End::Closing);
            }
            if self.arrived.is_empty() && self.end.is_none() { Poll::Pending } else { Poll::Ready(()) }
        });
        let Some(until) = [stalls, deadline].into_iter().flatten().min() else {
            waiting.await;
            return Ok(());
        };
        tokio::time::timeout_at(until, waiting).await.map_err(|_| match deadline == Some(until) {
            true => Ended::Failed(Status::new(Code::DeadlineExceeded, "the request did not arrive in time")),
            false => Complaint::stalled(message_deadline).into(),
        })
    }

    /// Pops every chunk that is there.
    fn pop(&mut self, cx: &mut Context<'_>) {
        while self.end.is_none() {
            match self.inflow.poll_chunk(cx) {
                Poll::Ready(Chunk::Data(chunk)) => {
                    self.begun.get_or_insert_with(Instant::now);
                    self.arrived.push_back(chunk);
                }
                Poll::Ready(Chunk::End(_)) => {
                    pace::note_awaited();
                    self.end = Some(End::HalfClosed);
                }
                Poll::Ready(Chunk::Broken(_)) => self.end = Some(End::Gone),
                Poll::Pending => return,
            }
        }
    }

    /// Gets a permit for a chunk. However many wait while they hold what they have, each gives up in time.
    async fn pay(&mut self, length: usize) -> Result<(), Ended> {
        let cost = length + if self.permit.is_none() { MESSAGE_OVERHEAD_BYTES } else { 0 };
        let budget = &self.worker.shared.budget;
        let permit = match budget.try_reserve(self.flow, cost) {
            Some(permit) => permit,
            None => {
                let mut reserve = pin!(budget.reserve(self.flow, cost));
                let until = self.deadline.unwrap_or_else(|| Instant::now() + self.terms.limits().relay_deadline);
                let worker = Rc::clone(&self.worker);
                let waiting = poll_fn(|cx| {
                    self.pop(cx);
                    reserve.as_mut().poll(cx)
                });
                let permit = worker.wait_for_permit(until, waiting).await.map_err(Ended::Failed)?;
                self.begun = Some(Instant::now());
                permit
            }
        };
        permit.add_to(&mut self.permit);
        Ok(())
    }

    /// Bytes of the message with its prefix, which is there.
    fn framed_bytes(&self) -> usize {
        let length = self.chunks.iter().flatten().skip(1).take(PREFIX_BYTES - 1);
        PREFIX_BYTES + length.fold(0, |length, byte| length << 8 | usize::from(*byte))
    }
}

/// What gRPC servers say to a unary call that goes on after its message.
fn more_than_one() -> Complaint {
    Complaint::new(BadInput::NotGrpc, Code::Internal, "a unary call must bring one message, this one brought more")
}

/// And to one that brings none.
fn none_at_all() -> Complaint {
    Complaint::new(BadInput::Truncated, Code::Internal, "a unary call must bring one message, this one brought none")
}
