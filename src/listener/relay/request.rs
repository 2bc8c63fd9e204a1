//! What the caller of a relayed call sends, kept so that it can be said again to another backend.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::message::budget::Permit;
use crate::message::flow::Flow;
use crate::message::frames::{Counter, Frames};
use crate::wire::stream::{Chunk, Inflow};

use super::Counts;
use crate::listener::reply::Complaint;

/// Bytes of a call that are kept so that it can be said again elsewhere. What is longer has only one try.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// What the caller sends, kept across attempts.
pub(super) struct Request {
    pub(super) inflow: Inflow,
    pub(super) counts: Counts,
    pub(super) counter: Counter,
    pub(super) replay_always: bool,
    /// All chunks so far, while they are few enough to be said again.
    pub(super) kept: Option<Vec<Bytes>>,
    /// For what is kept; without it nothing is.
    permit: Option<Permit>,
    flow: Flow,
    pub(super) kept_bytes: usize,
    /// Chunks this attempt has not sent yet.
    pub(super) unsent: VecDeque<Bytes>,
    pub(super) unsent_bytes: usize,
    /// Bytes sent by this attempt, and bytes whose window was given back to the caller.
    pub(super) sent: usize,
    pub(super) released: usize,
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
    pub fn new(inflow: Inflow, counts: Counts, flow: Flow, replay_always: bool) -> Self {
        let counter = Counter::new(counts.worker.shared.limits.message_bytes_max);
        Self {
            inflow,
            counts,
            counter,
            replay_always,
            kept: Some(Vec::new()),
            permit: None,
            flow,
            kept_bytes: 0,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            sent: 0,
            released: 0,
            end: None,
        }
    }

    /// Reads on until `find` finds something in one of the first messages; `None` when the call ended or its first
    /// part is too long without.
    pub async fn first_message_within<T>(&mut self, find: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let mut seen = 0;
        let mut frames = Frames::new(KEPT_BYTES_MAX);
        loop {
            poll_fn(|cx| {
                let before = self.unsent.len();
                self.pop(cx);
                if self.unsent.len() > before || self.end.is_some() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            self.unsent.iter().skip(seen).for_each(|chunk| frames.push(chunk.clone()));
            seen = self.unsent.len();
            while let Ok(Some(run)) = frames.next_run() {
                if let Some(found) = run.iter().find_map(|message| find(&message.body())) {
                    return Some(found);
                }
            }
            if self.end.is_some() || self.unsent_bytes >= KEPT_BYTES_MAX / 4 {
                return None;
            }
        }
    }

    /// Prepares everything to be said again; only asked for when all of it was kept.
    pub fn rewind(&mut self) {
        if let Some(kept) = &self.kept {
            self.unsent = kept.iter().cloned().collect();
            self.unsent_bytes = self.kept_bytes;
            self.sent = 0;
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
                    self.unsent_bytes += chunk.len();
                    self.keep(&chunk);
                    self.unsent.push_back(chunk);
                }
                Poll::Ready(Chunk::End(_)) => self.end = Some(RequestEnd::HalfClosed),
                Poll::Ready(Chunk::Broken(_)) => self.end = Some(RequestEnd::Gone),
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
                match &mut self.permit {
                    Some(held) => held.merge(permit),
                    None => self.permit = Some(permit),
                }
            }
            None => (self.kept, self.permit) = (None, None),
        }
    }

    /// Whether a break of this kind leaves the call free to be said to another backend.
    pub(super) fn may_retry(&self, provably_not_processed: bool) -> bool {
        self.kept.is_some() && (self.replay_always || provably_not_processed)
    }
}
