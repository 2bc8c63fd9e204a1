//! What the caller of a relayed call sends, kept so that it can be said again to another backend.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use crate::message::budget::Permit;
use crate::message::flow::Flow;
use crate::message::frames::{Counter, Frames};
use crate::message::run::Message;
use crate::metrics::LostReason;
use crate::route::contract::{Replay, Replier};
use crate::route::{Method, Route};
use crate::wire::compression::Encoding;
use crate::wire::grpc::{Code, Status};
use crate::wire::pace;
use crate::wire::server::Answering;
use crate::wire::stream::{Chunk, Inflow};
use crate::wire::unsent::Unsent;

use crate::listener::counts::Counts;
use crate::listener::reply::{self, Complaint};

/// Bytes of a call that are kept so that it can be said again elsewhere. What is longer has only one try.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// What the caller sends, kept across attempts.
pub(super) struct Request {
    pub(super) inflow: Inflow,
    pub(super) counts: Counts,
    pub(super) counter: Counter,
    pub(super) replay_always: bool,
    /// Whether what came before a reset is to be processed, as at a half-close.
    pub(super) flushes: bool,
    /// How messages are compressed, if we know how.
    encoding: Option<Encoding>,
    /// Set when the caller has gone though its messages go on.
    pub(super) caller_gone: bool,
    /// All chunks so far, while they are few enough to be said again.
    pub(super) kept: Option<Vec<Bytes>>,
    /// For what is kept; without it nothing is.
    permit: Option<Permit>,
    flow: Flow,
    pub(super) kept_bytes: usize,
    /// Chunks this attempt has not sent yet.
    pub(super) unsent: Unsent,
    /// Bytes whose window was given back to the caller.
    released: usize,
    pub(super) end: Option<RequestEnd>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestEnd {
    HalfClosed,
    Gone,
    Refused(Complaint),
}

// === impl Request ===

impl Request {
    pub fn new(
        inflow: Inflow,
        counts: Counts,
        method: &Method,
        metadata: &HeaderMap,
        message_bytes_max: usize,
    ) -> Self {
        let counter = Counter::new(message_bytes_max);
        Self {
            inflow,
            counts,
            counter,
            replay_always: method.contract.replay == Replay::Always,
            flushes: method.contract.flushes,
            encoding: Encoding::of(metadata).ok(),
            caller_gone: false,
            kept: Some(Vec::new()),
            permit: None,
            flow: method.flow,
            kept_bytes: 0,
            unsent: Unsent::default(),
            released: 0,
            end: None,
        }
    }

    /// Reads on until `find` finds something in one of the first messages; `None` when the call ended or its first
    /// part is too long without.
    pub async fn first_message_within<T>(&mut self, mut find: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
        let mut seen = 0;
        let (mut frames, encoding) = (Frames::new(KEPT_BYTES_MAX), self.encoding);
        let plain = |message: &Message| match (message.is_compressed(), encoding) {
            (true, Some(encoding)) => encoding.inflate(&message.body(), KEPT_BYTES_MAX).ok(),
            (true, None) => None,
            (false, _) => Some(message.body()),
        };
        loop {
            poll_fn(|cx| {
                let before = self.unsent.len();
                self.pop(cx);
                if self.unsent.len() > before || self.end.is_some() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            self.unsent.chunks().skip(seen).for_each(|chunk| frames.push(chunk.clone()));
            seen = self.unsent.len();
            while let Ok(Some(run)) = frames.next_run() {
                if let Some(found) = run.iter().find_map(|message| find(&plain(&message)?)) {
                    return Some(found);
                }
            }
            if self.end.is_some() || self.unsent.bytes() >= KEPT_BYTES_MAX / 4 {
                return None;
            }
        }
    }

    /// Reads the call to its end and lets it go nowhere, as the operator wants.
    pub async fn give_up(mut self, answering: Answering, route: &Route, reason: LostReason) {
        poll_fn(|cx| {
            self.pop(cx);
            self.inflow.release(std::mem::take(&mut self.unsent).bytes());
            if self.end.is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.counts.lose(reason);
        let (worker, listener) = (Rc::clone(&self.counts.worker), self.counts.listener());
        match (self.end, route.method.contract.reply) {
            (Some(RequestEnd::Refused(complaint)), _) => worker.refuse(answering, listener, &complaint),
            (_, Replier::Gateway) => {
                reply::ok(answering);
                worker.replied(listener, Code::Ok);
            }
            // Nobody can answer in the backend's place.
            (_, Replier::Backend) => {
                let status =
                    Status::new(Code::FailedPrecondition, "a rule of this gateway lets this call pass to no backend");
                worker.reply(answering, listener, &status);
            }
        }
    }

    /// Prepares everything to be said again; only asked for when all of it was kept.
    pub fn rewind(&mut self) {
        if let Some(kept) = &self.kept {
            self.unsent = kept.iter().cloned().collect();
        }
    }

    /// Gives the caller the window back for what was sent, once however often it is.
    pub(super) fn release_sent(&mut self) {
        let sent = self.unsent.sent();
        if sent > self.released {
            self.inflow.release(sent - self.released);
            self.released = sent;
        }
    }

    /// Pops every chunk that is there. They stay within the caller's window until they were sent.
    pub(super) fn pop(&mut self, cx: &mut Context<'_>) {
        while self.end.is_none() {
            match self.inflow.poll_chunk(cx) {
                Poll::Ready(Chunk::Data(chunk)) => {
                    match self.counter.count(&chunk) {
                        Ok(messages) => self.counts.add(messages, chunk.len()),
                        Err(error) => self.end = Some(RequestEnd::Refused(error.into())),
                    }
                    self.keep(&chunk);
                    self.unsent.put(chunk);
                }
                Poll::Ready(Chunk::End(_)) => {
                    pace::note_awaited();
                    self.end = Some(RequestEnd::HalfClosed);
                }
                Poll::Ready(Chunk::Broken(_)) => {
                    self.caller_gone = self.flushes && !self.counter.is_mid_message();
                    self.end = Some(if self.caller_gone { RequestEnd::HalfClosed } else { RequestEnd::Gone });
                }
                Poll::Pending => return,
            }
        }
    }

    /// Keeps a chunk if the call is short enough and the budget has room; a call that is not kept has only one try.
    fn keep(&mut self, chunk: &Bytes) {
        let Some(kept) = &mut self.kept else { return };
        self.kept_bytes += chunk.len();
        let fits = self.kept_bytes <= KEPT_BYTES_MAX;
        match self.counts.worker.shared.budget.try_reserve(self.flow, chunk.len()).filter(|_| fits) {
            Some(permit) => {
                kept.push(chunk.clone());
                permit.add_to(&mut self.permit);
            }
            None => (self.kept, self.permit) = (None, None),
        }
    }

    /// Whether a break of this kind leaves the call free to be said to another backend.
    pub(super) fn may_retry(&self, provably_not_processed: bool) -> bool {
        self.kept.is_some() && (self.replay_always || provably_not_processed)
    }
}
