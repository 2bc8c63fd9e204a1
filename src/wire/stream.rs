//! The two directions of one HTTP/2 stream, and how a stream may break.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;

use super::grpc::{Code, Status};

/// What arrives: chunks of a gRPC byte stream, then its end.
pub struct Inflow {
    stream: h2::RecvStream,
}

/// The next thing that arrived.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes, at least one; the peer may not send more in their place before [`Inflow::release`].
    Data(Bytes),
    /// The peer half-closed, with trailers if it sent any.
    End(Option<HeaderMap>),
    /// The stream is gone.
    Broken(Break),
}

/// What leaves.
pub struct Outflow {
    stream: h2::SendStream<Bytes>,
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
    pub(super) fn new(stream: h2::RecvStream) -> Self {
        Self { stream }
    }

    pub(super) fn into_h2(self) -> h2::RecvStream {
        self.stream
    }

    /// The next chunk (never empty), the end, or the break. Not to be polled after one of the latter two.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Chunk> {
        loop {
            match ready!(self.stream.poll_data(cx)) {
                // A peer may half-close by an empty DATA frame; the end that follows says all there is to say.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Poll::Ready(Chunk::Data(data)),
                Some(Err(error)) => return Poll::Ready(Chunk::Broken(Break::from(error))),
                None => break,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Chunk::End(trailers),
            Err(error) => Chunk::Broken(Break::from(error)),
        })
    }

    /// Lets the peer send `bytes` more, on this stream and on the connection.
    pub fn release(&mut self, bytes: usize) {
        // Refused only for more than was received, which no caller does; a stream already gone accepts anything.
        let released = self.stream.flow_control().release_capacity(bytes);
        debug_assert!(released.is_ok(), "released more than was received");
    }
}

// === impl Outflow ===

impl Outflow {
    pub(super) fn new(stream: h2::SendStream<Bytes>) -> Self {
        Self { stream }
    }

    /// Asks for room for `bytes` in all, counting what is granted already.
    pub fn want(&mut self, bytes: usize) {
        self.stream.reserve_capacity(bytes);
    }

    /// Bytes that may be sent now.
    pub fn room(&self) -> usize {
        self.stream.capacity()
    }

    /// Waits for the room to change; answers the room, or why the stream is gone.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Break>> {
        match ready!(self.stream.poll_capacity(cx)) {
            Some(Ok(room)) => Poll::Ready(Ok(room)),
            Some(Err(error)) => Poll::Ready(Err(Break::from(error))),
            None => Poll::Ready(Err(Break::closed())),
        }
    }

    /// Ready when the peer has reset the stream.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Break> {
        match ready!(self.stream.poll_reset(cx)) {
            Ok(reason) => Poll::Ready(Break::of_reason(reason)),
            Err(error) => Poll::Ready(Break::from(error)),
        }
    }

    /// Sends `bytes`; beyond the room they wait in memory.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn send(&mut self, bytes: Bytes) -> Result<(), Break> {
        self.stream.send_data(bytes, false).map_err(Break::from)
    }

    /// Half-closes: END_STREAM behind all that was sent.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn half_close(&mut self) -> Result<(), Break> {
        self.stream.send_data(Bytes::new(), true).map_err(Break::from)
    }

    /// Ends the stream with trailers.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), Break> {
        self.stream.send_trailers(trailers).map_err(Break::from)
    }

    /// Resets the stream: the peer sees a cancelled call, not an end.
    pub fn cancel(&mut self) {
        self.stream.send_reset(Reason::CANCEL);
    }
}

// === impl Break ===

impl Break {
    /// A break noticed on this side.
    pub fn new(kind: BreakKind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into() }
    }

    fn closed() -> Self {
        Self::new(BreakKind::Reset, "the stream is closed already")
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

impl From<h2::Error> for Break {
    /// A remote GOAWAY reaches exactly the streams above its last stream id, which were not processed; streams
    /// below it break, if at all, with the connection's own end (h2 0.4.20, `proto/streams/streams.rs`,
    /// `recv_go_away`).
    fn from(error: h2::Error) -> Self {
        let why = error.to_string();
        match error.reason() {
            Some(reason) if error.is_reset() && error.is_remote() => Self::of_reason(reason),
            Some(_) if error.is_go_away() && error.is_remote() => Self::new(BreakKind::NotProcessed, why),
            Some(_) if error.is_reset() => Self::new(BreakKind::Reset, why),
            _ => Self::new(BreakKind::ConnectionLost, why),
        }
    }
}
