//! The answer of a relayed call on its way to the caller.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use crate::wire::grpc::Code;
use crate::wire::stream::{Break, Outflow};
use crate::wire::unsent::Unsent;

/// Chunks and the end of an answer, as the caller's window allows.
///
/// `trailers` come with the code they say.
pub(super) struct Downstream {
    pub(super) outflow: Outflow,
    unsent: Unsent,
    pub(super) trailers: Option<(HeaderMap, Code)>,
}

// === impl Downstream ===

impl Downstream {
    pub(super) fn new(outflow: Outflow) -> Self {
        Self { outflow, unsent: Unsent::default(), trailers: None }
    }

    pub(super) fn put(&mut self, chunk: Bytes) {
        self.unsent.put(chunk);
    }

    /// Sends as the caller's window allows; answers the bytes sent and, at the end, the code of the status.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(usize, Option<Code>), Break>> {
        let before = self.unsent.sent();
        self.unsent.send(&mut self.outflow, cx)?;
        let sent = self.unsent.sent() - before;
        if !self.unsent.is_empty() {
            return Poll::Ready(Ok((sent, None)));
        }
        let Some((trailers, code)) = self.trailers.take() else { return Poll::Ready(Ok((sent, None))) };
        self.outflow.send_trailers(trailers)?;
        Poll::Ready(Ok((sent, Some(code))))
    }
}
