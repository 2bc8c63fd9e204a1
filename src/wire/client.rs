//! The outbound side: an HTTP/2 connection to a backend that opens calls.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, response};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::grpc::Status;
use super::socket::{Gulping, Socket};
use super::stream::{Break, BreakKind, Chunk, Inflow, Outflow};
use super::tls::{ClientTls, Refusal};

/// A connection to a backend. It moves bytes only while [`Connection::poll`] is polled.
pub struct Connection {
    h2: h2::client::Connection<Socket, Bytes>,
    requests: h2::client::SendRequest<Bytes>,
    socket: Socket,
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
    stage: Stage,
}

enum Stage {
    Waiting(h2::client::ResponseFuture),
    /// The head came; the rest is read from the inflow. The status is set when the head was all of the answer.
    Begun {
        inflow: Inflow,
        head_status: Option<Status>,
        http_status: http::StatusCode,
    },
}

/// An idle connection is probed by the kernel, never by HTTP/2 pings: grpc-java allows one in five minutes.
const TCP_KEEPALIVE: Duration = Duration::from_secs(10);

/// Answers are small; what a backend may send ahead of being read.
const ANSWER_WINDOW_BYTES: u32 = 256 << 10;
const ANSWERS_WINDOW_BYTES: u32 = 1 << 20;

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
        Self::greet(socket.clone()).await.map_err(|error| target.explain(&socket, error))
    }

    async fn greet(socket: Socket) -> io::Result<Self> {
        let (requests, h2) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(ANSWER_WINDOW_BYTES)
            .initial_connection_window_size(ANSWERS_WINDOW_BYTES)
            // Zero until the peer's SETTINGS say otherwise: that is how we notice that they came.
            .initial_max_send_streams(0)
            .handshake(socket.clone())
            .await
            .map_err(io::Error::other)?;
        let mut connection = Self { h2, requests, socket };
        poll_fn(|cx| match connection.poll(cx) {
            Poll::Ready(lost) => Poll::Ready(Err(io::Error::other(lost))),
            Poll::Pending if connection.streams_max() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        Ok(connection)
    }

    /// Moves bytes both ways; ready only when the connection is gone.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Break> {
        let driven = Pin::new(&mut self.h2).poll(cx);
        if let Poll::Ready(Err(error)) = self.socket.poll_flush(cx) {
            return Poll::Ready(Break::lost(&error));
        }
        Poll::Ready(match ready!(driven) {
            Ok(()) => Break::new(BreakKind::ConnectionLost, "the backend closed the connection"),
            Err(error) => Break { kind: BreakKind::ConnectionLost, ..Break::from(error) },
        })
    }

    /// Calls the peer allows at once. Opening more makes them wait silently inside h2, so nobody should.
    pub fn streams_max(&self) -> usize {
        self.requests.current_max_send_streams()
    }

    /// Whether calls can be opened; not when the peer said GOAWAY.
    pub fn poll_usable(&mut self, cx: &mut Context<'_>) -> bool {
        !matches!(self.requests.poll_ready(cx), Poll::Ready(Err(_)))
    }

    /// Opens a call. The caller counts the streams it has open and stays below [`Connection::streams_max`].
    ///
    /// # Errors
    /// When the connection is going away or gone: the call was not processed.
    pub fn call(&mut self, head: Request<()>) -> Result<(Outflow, Answer), Break> {
        let (response, stream) = self
            .requests
            .send_request(head, false)
            .map_err(|error| Break { kind: BreakKind::NotProcessed, ..Break::from(error) })?;
        Ok((Outflow::new(stream), Answer { stage: Stage::Waiting(response) }))
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
        let Stage::Waiting(response) = &mut self.stage else {
            return Poll::Ready(Err(Break::new(BreakKind::Reset, "the answer's head was read already")));
        };
        let (head, body) = ready!(Pin::new(response).poll(cx)).map_err(Break::from)?.into_parts();
        self.stage = Stage::Begun {
            inflow: Inflow::new(body),
            head_status: Status::from_headers(&head.headers),
            http_status: head.status,
        };
        Poll::Ready(Ok(head))
    }

    /// The next chunk of the body, once the head was read.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Chunk> {
        match &mut self.stage {
            Stage::Begun { inflow, .. } => inflow.poll_chunk(cx),
            Stage::Waiting(_) => Poll::Pending,
        }
    }

    /// Lets the peer send `bytes` more.
    pub fn release(&mut self, bytes: usize) {
        if let Stage::Begun { inflow, .. } = &mut self.stage {
            inflow.release(bytes);
        }
    }

    /// What the answer's end means: the status in its trailers, or in its head when that was all.
    pub fn status(&self, trailers: Option<&http::HeaderMap>) -> Status {
        let Stage::Begun { head_status, http_status, .. } = &self.stage else {
            return Status::from_http(http::StatusCode::OK);
        };
        trailers
            .and_then(Status::from_headers)
            .or_else(|| head_status.clone())
            .unwrap_or_else(|| Status::from_http(*http_status))
    }

    /// Reads the answer to its end, throws its messages away and gives its status.
    pub fn poll_status(&mut self, cx: &mut Context<'_>) -> Poll<Result<Status, Break>> {
        if matches!(self.stage, Stage::Waiting(_)) {
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
