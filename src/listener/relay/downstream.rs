//! The answer of a relayed call on its way to the caller.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use crate::wire::grpc::Code;
use crate::wire::stream::{Break, Outflow};

/// Chunks and the end of an answer, as the caller's window allows.
///
/// `trailers` come with the code they say.
pub(super) struct Downstream {
    pub(super) outflow: Outflow,
    pub(super) unsent: VecDeque<Bytes>,
    pub(super) unsent_bytes: usize,
    pub(super) trailers: Option<(HeaderMap, Code)>,
}

// === impl Downstream ===

impl Downstream {
    pub(super) fn new(outflow: Outflow) -> Self {
        Self { outflow, unsent: VecDeque::new(), unsent_bytes: 0, trailers: None }
    }

    pub(super) fn put(&mut self, chunk: Bytes) {
        self.unsent_bytes += chunk.len();
        self.unsent.push_back(chunk);
    }

    /// Sends as the caller's window allows; answers the bytes sent and, at the end, the code of the status.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(usize, Option<Code>), Break>> {
        let mut sent = 0;
        while let Some(chunk) = self.unsent.front_mut() {
            self.outflow.want(self.unsent_bytes);
            let room = self.outflow.room().min(chunk.len());
            if room == 0 {
                match self.outflow.poll_room(cx) {
                    Poll::Ready(Ok(_)) => continue,
                    Poll::Ready(Err(lost)) => return Poll::Ready(Err(lost)),
                    Poll::Pending => return Poll::Ready(Ok((sent, None))),
                }
            }
            let piece = chunk.split_to(room);
            if chunk.is_empty() {
                self.unsent.pop_front();
            }
            self.unsent_bytes -= room;
            sent += room;
            self.outflow.send(piece)?;
        }
        let Some((trailers, code)) = self.trailers.take() else { return Poll::Ready(Ok((sent, None))) };
        self.outflow.send_trailers(trailers)?;
        Poll::Ready(Ok((sent, Some(code))))
    }
}
