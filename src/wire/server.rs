//! The inbound side: an HTTP/2 connection that answers calls.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::grpc::Status;
use super::socket::{Gulping, Socket};
use super::stream::{Break, Inflow, Outflow};
use super::tls::{Refusal, ServerTls};

/// What a peer may ask of one connection.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Calls open at once.
    pub calls_max: u32,
    /// Bytes of a decoded header list.
    pub header_list_bytes_max: u32,
    /// Bytes a peer may send on one call ahead of being read.
    pub call_window_bytes: u32,
    /// The same over all calls of the connection.
    pub connection_window_bytes: u32,
}

/// One agent's connection. It does nothing unless [`Connection::poll_call`] is polled.
pub struct Connection {
    h2: h2::server::Connection<Socket, Bytes>,
    socket: Socket,
}

/// A call that has just begun.
pub struct Call {
    /// Method, path and metadata.
    pub head: http::request::Parts,
    /// What the caller sends.
    pub inflow: Inflow,
    /// Where the answer goes.
    pub answer: Answering,
}

/// The answer of one call; dropped unused, the call is cancelled.
pub struct Answering {
    respond: h2::server::SendResponse<Bytes>,
}

/// Unread DATA frames h2 tolerates, counted as 256 bytes less their length. Its automatic value ends the connection
/// of an honest agent that sends many small messages in one burst (RELIABILITY 0.2); what is unread here is bounded
/// by the windows.
const DATA_FRAME_BUDGET_BYTES: usize = 16 << 20;

/// Streams reset before we looked at them, after which a connection is ended (CVE-2023-44487).
const EARLY_RESETS_MAX: usize = 64;

/// Streams we had to reset for the peer's faults, after which a connection is ended (CVE-2025-8671).
const FAULT_RESETS_MAX: usize = 256;

/// Bytes of answers that may wait for a slow reader on one connection.
const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;

// === impl Connection ===

impl Connection {
    /// Shakes hands by TLS if that is spoken here, reads the preface and sends our SETTINGS.
    ///
    /// # Errors
    /// When the peer does not speak HTTP/2 or is not done with everything within `deadline`; a [`Refusal`] within the
    /// error when it is about TLS.
    pub async fn handshake(
        stream: TcpStream,
        tls: Option<&ServerTls>,
        settings: &Settings,
        deadline: Duration,
    ) -> io::Result<Self> {
        tokio::time::timeout(deadline, Self::greet(stream, tls, settings))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface in time"))?
    }

    async fn greet(stream: TcpStream, tls: Option<&ServerTls>, settings: &Settings) -> io::Result<Self> {
        let stream = Gulping::new(stream, true);
        let socket = match tls {
            None => Socket::plain(stream),
            // Boxed: the state of a handshake is larger than everything else a connection's task begins with.
            Some(tls) => Socket::tls(Box::pin(tls.accept(stream)).await?.into()),
        };
        let handshake = h2::server::Builder::new()
            .max_concurrent_streams(settings.calls_max)
            .max_header_list_size(settings.header_list_bytes_max)
            .initial_window_size(settings.call_window_bytes)
            .initial_connection_window_size(settings.connection_window_bytes)
            .max_pending_accept_reset_streams(EARLY_RESETS_MAX)
            .max_local_error_reset_streams(Some(FAULT_RESETS_MAX))
            .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
            .data_frame_budget(DATA_FRAME_BUDGET_BYTES)
            .handshake(socket.clone());
        let mut handshake = pin!(handshake);
        let flushing = std::future::poll_fn(|cx| {
            let done = handshake.as_mut().poll(cx);
            if let Poll::Ready(Err(error)) = socket.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            done.map_err(io::Error::other)
        });
        match flushing.await {
            Ok(h2) => Ok(Self { h2, socket }),
            Err(_) if socket.heard_tls() => {
                Err(Refusal::tls_without_need("it speaks TLS, and this port has none; give the port `tls`").into())
            }
            Err(error) => Err(error),
        }
    }

    /// Moves bytes both ways and answers the next call; `None` when the connection is closed in order.
    ///
    /// # Errors
    /// When the connection breaks; its calls break with it.
    pub fn poll_call(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Call, Break>>> {
        let accepted = self.h2.poll_accept(cx);
        if let Poll::Ready(Err(error)) = self.socket.poll_flush(cx) {
            return Poll::Ready(Some(Err(Break::lost(&error))));
        }
        Poll::Ready(match ready!(accepted) {
            Some(Ok((request, respond))) => {
                let (head, body) = request.into_parts();
                Some(Ok(Call { head, inflow: Inflow::new(body), answer: Answering { respond } }))
            }
            Some(Err(error)) => Some(Err(Break::from(error))),
            None => None,
        })
    }

    /// Asks the peer to go elsewhere: GOAWAY now, the last one once its view is known; open calls go on.
    pub fn go_away(&mut self) {
        self.h2.graceful_shutdown();
    }
}

// === impl Call ===

impl Call {
    /// The parts as h2 has them, for services that are not ours.
    pub(super) fn into_h2(self) -> (http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) {
        (http::Request::from_parts(self.head, self.inflow.into_h2()), self.answer.respond)
    }
}

// === impl Answering ===

impl Answering {
    /// Sends a head; the body follows on the [`Outflow`].
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn head(&mut self, head: http::Response<()>) -> Result<Outflow, Break> {
        self.respond.send_response(head, false).map(Outflow::new).map_err(Break::from)
    }

    /// Sends a status and nothing else. A stream that is gone has no use for it, so errors are not reported.
    pub fn status(&mut self, status: &Status) {
        let _ = self.respond.send_response(status.to_trailers_only(), true);
    }

    /// Ready when the peer cancelled the call.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Break> {
        match ready!(self.respond.poll_reset(cx)) {
            Ok(reason) => Poll::Ready(Break::of_reason(reason)),
            Err(error) => Poll::Ready(Break::from(error)),
        }
    }

    /// Resets the stream.
    pub fn cancel(&mut self) {
        self.respond.send_reset(h2::Reason::CANCEL);
    }
}

impl Break {
    pub(super) fn lost(error: &io::Error) -> Self {
        Self::new(super::stream::BreakKind::ConnectionLost, error.to_string())
    }
}
