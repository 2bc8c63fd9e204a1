//! What arrives on an inbound stream and waits to be cut into messages.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use crate::message::frames::Frames;
use crate::wire::stream::{Chunk, Inflow};

/// Chunks below this size are copied together while they wait for a permit, for a run of many messages costs far less
/// than many runs. What arrives in one read is one chunk already.
const SMALL_CHUNK_BYTES: usize = 4 << 10;

/// The inbound stream. Chunks are popped as soon as they are there; what holds a sender back is its window, which is
/// released only for bytes that hold a permit.
pub(super) struct Arrivals {
    pub(super) inflow: Inflow,
    chunks: VecDeque<Bytes>,
    /// Small chunks that came one after another.
    small: BytesMut,
    bytes: usize,
    pub(super) end: Option<End>,
}

/// How a call's sending side ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    HalfClosed,
    /// Reset, or the connection is gone: nobody listens for a reply.
    Gone,
    /// We are shutting down.
    Closing,
}

// === impl Arrivals ===

impl Arrivals {
    pub(super) fn new(inflow: Inflow) -> Self {
        Self { inflow, chunks: VecDeque::new(), small: BytesMut::new(), bytes: 0, end: None }
    }

    /// Ready when there are bytes or the end is known.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        self.pop(cx);
        if self.bytes == 0 && self.end.is_none() {
            return Poll::Pending;
        }
        Poll::Ready(self.end.clone())
    }

    /// Pops every chunk that is there.
    pub(super) fn pop(&mut self, cx: &mut Context<'_>) {
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
    pub(super) fn take(&mut self, frames: &mut Frames) -> usize {
        self.seal_small();
        self.chunks.drain(..).for_each(|chunk| frames.push(chunk));
        std::mem::take(&mut self.bytes)
    }
}
