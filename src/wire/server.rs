//! The inbound side: an HTTP/2 connection that answers calls.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;

use super::grpc::Status;
use super::http2::Session;
use super::http2::frame::Reason;
use super::http2::handle::Handle;
use super::http2::link::Link;
use super::http2::settings::Limits;
use super::socket::{Gulping, Socket};
use super::stream::{Break, BreakKind, Inflow, Outflow};
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

/// One agent's connection. Who owns it makes passes: reads, lets calls work, writes.
pub struct Connection {
    link: Link<Socket>,
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
    stream: Handle,
}

// === impl Connection ===

impl Connection {
    /// Shakes hands by TLS if that is spoken here, sends our SETTINGS and waits for the preface and the peer's.
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
        let limits = Limits {
            streams_max: settings.calls_max,
            header_list_bytes_max: settings.header_list_bytes_max,
            stream_window_bytes: settings.call_window_bytes,
            connection_window_bytes: settings.connection_window_bytes,
        };
        let mut link = Link::new(Rc::new(RefCell::new(Session::server(limits))), socket);
        match poll_fn(|cx| link.poll_greeted(cx)).await {
            Ok(()) => Ok(Self { link }),
            Err(_) if link.socket().heard_tls() => {
                Err(Refusal::tls_without_need("it speaks TLS, and this port has none; give the port `tls`").into())
            }
            Err(error) => Err(error),
        }
    }

    /// The first half of a pass: takes in what has come. Then come the calls that have begun, those that are open, and
    /// [`Connection::poll_write`].
    pub fn poll_read(&mut self, cx: &mut Context<'_>) {
        self.link.poll_read(cx);
    }

    /// The next call that has begun.
    pub fn next_call(&mut self) -> Option<Call> {
        let (head, stream) = Handle::accept(self.link.session())?;
        Some(Call { head, inflow: Inflow::new(stream.clone()), answer: Answering { stream } })
    }

    /// The second half: writes what calls have said meanwhile. Ready when the connection is over, in order or not; its
    /// calls are over with it.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Break>> {
        ready!(self.link.poll_write(cx));
        let session = self.link.session().borrow();
        Poll::Ready(match session.over() {
            Some(over) if !over.is_in_order => Err(Break::new(BreakKind::ConnectionLost, &over.why)),
            _ => Ok(()),
        })
    }

    /// Asks the peer to go elsewhere: GOAWAY now, the last one once its view is known; open calls go on.
    pub fn go_away(&mut self) {
        self.link.session().borrow_mut().go_away();
    }
}

// === impl Answering ===

impl Answering {
    /// Sends a head; the body follows on the [`Outflow`].
    ///
    /// # Errors
    /// When the stream is gone, or a head was sent before.
    pub fn head(&mut self, head: http::Response<()>) -> Result<Outflow, Break> {
        self.stream.respond(&head.into_parts().0, false)?;
        Ok(Outflow::new(self.stream.clone()))
    }

    /// Sends a head that is all of the answer.
    ///
    /// # Errors
    /// As [`Answering::head`].
    pub(super) fn only_head(&mut self, head: http::Response<()>) -> Result<(), Break> {
        self.stream.respond(&head.into_parts().0, true)
    }

    /// Sends a status and nothing else. A stream that is gone has no use for it, so errors are not reported.
    pub fn status(&mut self, status: &Status) {
        let _ = self.only_head(status.to_trailers_only());
    }

    /// Ready when the peer cancelled the call.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Break> {
        self.stream.poll_reset(cx)
    }

    /// Resets the stream.
    pub fn cancel(&mut self) {
        self.stream.reset(Reason::CANCEL);
    }

    pub(super) fn refuse(&mut self) {
        self.stream.reset(Reason::REFUSED_STREAM);
    }
}
