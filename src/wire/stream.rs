//! The two directions of one HTTP/2 stream, and how a stream may break.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use super::grpc::{Code, Status};
use super::http2::frame::Reason;
use super::http2::handle::Handle;

/// What arrives: chunks of a gRPC byte stream, then its end.
pub struct Inflow {
    stream: Handle,
}

/// The next thing that arrived.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes, at least one: all that has arrived since the last chunk. The peer may not send more in their place before
    /// [`Inflow::release`].
    Data(Bytes),
    /// The peer half-closed, with trailers if it sent any.
    End(Option<HeaderMap>),
    /// The stream is gone.
    Broken(Break),
}

/// What leaves.
pub struct Outflow {
    stream: Handle,
}

/// Why a stream ended without a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Break {
    /// What it means for what was sent on the stream.
    pub kind: BreakKind,
    /// For people.
    pub why: String,
}

/// What a break says about the peer and about the bytes it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakKind {
    /// The peer has provably not looked at the stream: REFUSED_STREAM, or GOAWAY with a lower last stream.
    NotProcessed,
    /// The peer cancelled the call.
    Cancelled,
    /// The peer reset the stream for another reason.
    Reset,
    /// The connection is gone.
    ConnectionLost,
}

// === impl Inflow ===

impl Inflow {
    pub(super) fn new(stream: Handle) -> Self {
        Self { stream }
    }

    /// The next chunk (never empty), the end, or the break. Not to be polled after one of the latter two.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Chunk> {
        self.stream.poll_chunk(cx)
    }

    /// Lets the peer send `bytes` more, on this stream and on the connection.
    pub fn release(&mut self, bytes: usize) {
        self.stream.release(bytes);
    }
}

impl Drop for Inflow {
    /// What arrives from now on does not use up the connection's window.
    fn drop(&mut self) {
        self.stream.stop_reading();
    }
}

// === impl Outflow ===

impl Outflow {
    pub(super) fn new(stream: Handle) -> Self {
        Self { stream }
    }

    /// Asks for room for `bytes` in all, counting what is granted already.
    pub fn want(&mut self, bytes: usize) {
        self.stream.want(bytes);
    }

    /// Bytes that may be sent now.
    pub fn room(&self) -> usize {
        self.stream.room()
    }

    /// Waits for room; answers how much there is, or why the stream is gone.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Break>> {
        self.stream.poll_room(cx)
    }

    /// Ready when the peer has reset the stream.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Break> {
        self.stream.poll_reset(cx)
    }

    /// Sends `bytes`; beyond the room they wait in memory.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn send(&mut self, bytes: Bytes) -> Result<(), Break> {
        self.stream.send(bytes)
    }

    /// Half-closes: END_STREAM behind all that was sent.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn half_close(&mut self) -> Result<(), Break> {
        self.stream.half_close()
    }

    /// Ends the stream with trailers.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), Break> {
        self.stream.send_trailers(trailers)
    }

    /// Resets the stream: the peer sees a cancelled call, not an end.
    pub fn cancel(&mut self) {
        self.stream.reset(Reason::CANCEL);
    }

    pub(super) fn fail(&mut self) {
        self.stream.reset(Reason::INTERNAL_ERROR);
    }
}

// === impl Break ===

impl Break {
    /// A break noticed on this side.
    pub fn new(kind: BreakKind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into() }
    }

    pub(super) fn of_reason(reason: Reason) -> Self {
        let kind = match reason {
            Reason::REFUSED_STREAM => BreakKind::NotProcessed,
            Reason::CANCEL => BreakKind::Cancelled,
            _ => BreakKind::Reset,
        };
        Self::new(kind, format!("the peer reset the stream: {reason}"))
    }

    /// The status a caller gets for it where nothing better is known.
    pub fn to_status(&self) -> Status {
        let code = match self.kind {
            BreakKind::Cancelled => Code::Cancelled,
            BreakKind::NotProcessed | BreakKind::ConnectionLost => Code::Unavailable,
            BreakKind::Reset => Code::Internal,
        };
        Status::new(code, self.why.clone())
    }
}
