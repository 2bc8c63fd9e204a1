//! Chunks that wait to be sent on a stream, as its window allows.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::stream::{Break, Outflow};

/// What is still to be sent, and how much was.
#[derive(Debug, Default)]
pub struct Unsent {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    sent: usize,
}

// === impl Unsent ===

impl Unsent {
    /// Adds a chunk behind the others. Empty ones would be empty DATA frames, and are left out.
    pub fn put(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// The chunks that were not handed over whole.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    /// How many those are.
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether everything was handed over.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes handed over so far.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Sends what there is room for. What is left is left to the next call, for which the task is woken.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn send(&mut self, outflow: &mut Outflow, cx: &mut Context<'_>) -> Result<(), Break> {
        while let Some(chunk) = self.chunks.front_mut() {
            outflow.want(self.bytes);
            let room = outflow.room().min(chunk.len());
            if room == 0 {
                match outflow.poll_room(cx) {
                    Poll::Ready(room) => room?,
                    Poll::Pending => return Ok(()),
                };
                continue;
            }
            let piece = chunk.split_to(room);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            self.bytes -= room;
            self.sent += room;
            outflow.send(piece)?;
        }
        Ok(())
    }
}

impl FromIterator<Bytes> for Unsent {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let mut unsent = Self::default();
        chunks.into_iter().for_each(|chunk| unsent.put(chunk));
        unsent
    }
}
