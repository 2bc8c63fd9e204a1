//! The outbound side: an HTTP/2 connection to a backend that opens calls.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, response};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::grpc::Status;
use super::http2::Session;
use super::http2::handle::Handle;
use super::http2::link::Link;
use super::http2::settings::Limits;
use super::socket::{Gulping, Socket};
use super::stream::{Break, BreakKind, Chunk, Inflow, Outflow};
use super::tls::{ClientTls, Refusal};

/// A connection to a backend. It moves bytes only in passes: [`Connection::poll_read`], then [`Connection::poll_write`].
pub struct Connection {
    link: Link<Socket>,
}

/// Where to connect, and as what.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// A DNS name or an IP address.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// How its certificate is looked at; `None`: TLS is not spoken.
    pub tls: Option<&'a ClientTls>,
    /// Whom its certificate has to name, if not the host; the operator's own word in `tls` goes before it.
    pub server_name: Option<&'a str>,
}

/// The answer to one call.
pub struct Answer {
    stream: Handle,
    inflow: Inflow,
    /// Set once the head came.
    begun: Option<Begun>,
}

/// What is kept of an answer's head.
struct Begun {
    /// Set when the head was all of the answer.
    status: Option<Status>,
    http_status: http::StatusCode,
}

/// An idle connection is probed by the kernel, never by HTTP/2 pings: grpc-java allows one in five minutes.
const TCP_KEEPALIVE: Duration = Duration::from_secs(10);

/// Answers are small; what a backend may send ahead of being read.
const ANSWER_WINDOW_BYTES: u32 = 256 << 10;
const ANSWERS_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes of a decoded header list of an answer: several times the 8 KiB that gRPC clients are used to allow.
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;

// === impl Connection ===

impl Connection {
    /// Connects and waits for the peer's SETTINGS, so that what answers is known to speak HTTP/2.
    ///
    /// From then on the kernel declares the peer gone when bytes stay unacknowledged for `silence_max`, rather than
    /// after its own quarter of an hour. It must not be shorter than the patience with a peer that is merely stopped:
    /// Linux counts the time a peer's window is closed, too, though the peer's kernel answers every probe.
    ///
    /// # Errors
    /// When no address of the host accepts, or not all of it is done within `deadline`. Trouble with TLS is logged here,
    /// in words of its own.
    pub async fn open(target: Target<'_>, deadline: Duration, silence_max: Duration) -> io::Result<Self> {
        let opened = tokio::time::timeout(deadline, Self::connect(target, silence_max))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no HTTP/2 answer within {deadline:?}")))?;
        if let Err(error) = &opened {
            target.tell(error);
        }
        opened
    }

    async fn connect(target: Target<'_>, silence_max: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect((target.host, target.port)).await?;
        let options = SockRef::from(&stream);
        options.set_tcp_user_timeout(Some(silence_max))?;
        options.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE))?;
        let stream = Gulping::new(stream, false);
        let socket = match target.tls {
            None => Socket::plain(stream),
            // Boxed: the state of a handshake is larger than everything else here.
            Some(tls) => {
                let name = target.server_name.unwrap_or(target.host);
                Socket::tls(Box::pin(tls.connect(name, stream)).await?.into())
            }
        };
        let limits = Limits {
            streams_max: 0,
            header_list_bytes_max: HEADER_LIST_BYTES_MAX,
            stream_window_bytes: ANSWER_WINDOW_BYTES,
            connection_window_bytes: ANSWERS_WINDOW_BYTES,
        };
        let mut link = Link::new(Rc::new(RefCell::new(Session::client(limits))), socket);
        match poll_fn(|cx| link.poll_greeted(cx)).await {
            Ok(()) => Ok(Self { link }),
            Err(error) => Err(target.explain(link.socket(), error)),
        }
    }

    /// The first half of a pass: takes in what has come.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) {
        self.link.poll_read(cx);
    }

    /// The second half: writes what was said meanwhile. Ready only when the connection is gone.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Break> {
        ready!(self.link.poll_write(cx));
        let session = self.link.session().borrow();
        let why = session.over().map_or("the backend closed the connection", |over| &over.why);
        Poll::Ready(Break::new(BreakKind::ConnectionLost, why))
    }

    /// Calls the peer allows at once. Opening more is a mistake it may end the connection for.
    pub fn streams_max(&self) -> usize {
        self.link.session().borrow().streams_max()
    }

    /// Whether the connection is gone, as [`Connection::poll_write`] is about to say.
    pub fn is_over(&self) -> bool {
        self.link.session().borrow().over().is_some()
    }

    /// Whether calls can be opened; not when the peer said GOAWAY.
    pub fn is_usable(&self) -> bool {
        self.link.session().borrow().is_usable()
    }

    /// Opens a call. The caller counts the streams it has open and stays below [`Connection::streams_max`].
    ///
    /// # Errors
    /// When the connection is going away or gone: the call was not processed.
    pub fn call(&mut self, head: Request<()>) -> Result<(Outflow, Answer), Break> {
        let stream = Handle::call(self.link.session(), head)?;
        let answer = Answer { stream: stream.clone(), inflow: Inflow::new(stream.clone()), begun: None };
        Ok((Outflow::new(stream), answer))
    }
}

// === impl Target ===

impl Target<'_> {
    /// What an HTTP/2 connection that never came up says of TLS, if it does.
    fn explain(&self, socket: &Socket, error: io::Error) -> io::Error {
        match (self.tls, socket.fault()) {
            (Some(tls), Some(fault)) => tls.refusal(&fault).into(),
            _ if socket.heard_tls() => {
                Refusal::tls_without_need("it speaks TLS, and its pool has none; give the pool `tls`").into()
            }
            _ => error,
        }
    }

    fn tell(&self, error: &io::Error) {
        let Some(refusal) = Refusal::of(error) else { return };
        if let Some(left_out) = refusal.may_be_told() {
            tracing::warn!(host = self.host, port = self.port, why = %refusal, left_out, "backend refused: TLS");
        }
    }
}

// === impl Answer ===

impl Answer {
    /// The head of the answer; afterwards the body is read with [`Answer::poll_chunk`].
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<response::Parts, Break>> {
        if self.begun.is_some() {
            return Poll::Ready(Err(Break::new(BreakKind::Reset, "the answer's head was read already")));
        }
        let head = ready!(self.stream.poll_response(cx))?;
        self.begun = Some(Begun { status: Status::from_headers(&head.headers), http_status: head.status });
        Poll::Ready(Ok(head))
    }

    /// The next chunk of the body, once the head was read.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Chunk> {
        match self.begun {
            Some(_) => self.inflow.poll_chunk(cx),
            None => Poll::Pending,
        }
    }

    /// Lets the peer send `bytes` more.
    pub fn release(&mut self, bytes: usize) {
        self.inflow.release(bytes);
    }

    /// What the answer's end means: the status in its trailers, or in its head when that was all.
    pub fn status(&self, trailers: Option<&http::HeaderMap>) -> Status {
        let Some(begun) = &self.begun else {
            return Status::from_http(http::StatusCode::OK);
        };
        trailers
            .and_then(Status::from_headers)
            .or_else(|| begun.status.clone())
            .unwrap_or_else(|| Status::from_http(begun.http_status))
    }

    /// Reads the answer to its end, throws its messages away and gives its status.
    pub fn poll_status(&mut self, cx: &mut Context<'_>) -> Poll<Result<Status, Break>> {
        if self.begun.is_none() {
            ready!(self.poll_head(cx))?;
        }
        loop {
            match ready!(self.poll_chunk(cx)) {
                Chunk::Data(data) => self.release(data.len()),
                Chunk::End(trailers) => return Poll::Ready(Ok(self.status(trailers.as_ref()))),
                Chunk::Broken(lost) => return Poll::Ready(Err(lost)),
            }
        }
    }
}
