//! A connection's socket, plain or TLS, without a buffer when idle.
//!
//! It is read into a buffer of the worker's, a gulp at a time, and written in as big pieces as there are. Under TLS the
//! gulps are of records, for rustls would read 4 KiB at a time. The session is boxed, so that a plain socket does not
//! grow for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

pub use super::gulp::Gulping;

/// A connected stream.
pub struct Socket(Stream);

enum Stream {
    Plain(Gulping),
    Tls(Box<Session>),
}

struct Session {
    stream: TlsStream<Gulping>,
    /// What ended it, if TLS did; the connection would keep no more of it than a text.
    fault: Option<rustls::Error>,
}

// === impl Socket ===

impl Socket {
    /// A socket without TLS.
    pub fn plain(stream: Gulping) -> Self {
        Self(Stream::Plain(stream))
    }

    /// A socket with TLS, hands shaken.
    pub fn tls(stream: TlsStream<Gulping>) -> Self {
        Self(Stream::Tls(Box::new(Session { stream, fault: None })))
    }

    /// Whether the peer's first byte was one of TLS, on a socket without: a handshake's (22) or an alert's (21).
    pub fn heard_tls(&self) -> bool {
        match &self.0 {
            Stream::Plain(stream) => matches!(stream.first_byte(), Some(21 | 22)),
            Stream::Tls(_) => false,
        }
    }

    /// The fault of TLS that ended the connection, if one did.
    pub fn fault(&self) -> Option<rustls::Error> {
        match &self.0 {
            Stream::Plain(_) => None,
            Stream::Tls(session) => session.fault.clone(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, out),
            Stream::Tls(session) => session.poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(session) => Pin::new(&mut session.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Stream::Tls(session) => Pin::new(&mut session.stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Records that the kernel had no room for, and what TLS itself has to say.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(session) => Pin::new(&mut session.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(session) => Pin::new(&mut session.stream).poll_shutdown(cx),
        }
    }
}

// === impl Session ===

impl Session {
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, out);
        if let Poll::Ready(Err(error)) = &read {
            self.fault = error.get_ref().and_then(|error| error.downcast_ref()).cloned();
        }
        read
    }
}
