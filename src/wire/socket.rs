//! A connection's socket, plain or TLS: read in big gulps, written in big pieces, without a buffer when idle.
//!
//! h2 reads 8 KiB at a time and flushes after every DATA frame. Measured, that is most of the cost of a forwarded
//! message: here one system call reads up to 64 KiB, which h2 then takes in its own portions, and what h2 writes
//! gathers until [`Socket::poll_flush`], which the owner of the connection calls once per poll.
//!
//! Under TLS the gulps are of records, for rustls would read 4 KiB at a time, and what was gathered is encrypted and
//! written at the flush. The session is boxed, so that a plain socket does not grow for it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

pub use super::gulp::Gulping;
use super::gulp::Portion;

/// A cheap handle; h2 holds one, the owner of the connection another to flush with.
#[derive(Clone)]
pub struct Socket(Rc<RefCell<State>>);

struct State {
    stream: Stream,
    /// Written by h2 and not yet sent.
    gathered: Portion,
}

enum Stream {
    Plain(Gulping),
    Tls(Box<Session>),
}

struct Session {
    stream: TlsStream<Gulping>,
    /// What ended it, if TLS did; h2 would keep no more of it than a text.
    fault: Option<rustls::Error>,
}

// === impl Socket ===

impl Socket {
    /// A socket without TLS.
    pub fn plain(stream: Gulping) -> Self {
        Self::over(Stream::Plain(stream))
    }

    /// A socket with TLS, hands shaken.
    pub fn tls(stream: TlsStream<Gulping>) -> Self {
        Self::over(Stream::Tls(Box::new(Session { stream, fault: None })))
    }

    fn over(stream: Stream) -> Self {
        Self(Rc::new(RefCell::new(State { stream, gathered: Portion::default() })))
    }

    /// Sends what was gathered. Ready when everything is sent; pending keeps the rest and wakes the task.
    ///
    /// # Errors
    /// As writing to the stream does.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        ready!(state.poll_send(cx))?;
        match &mut state.stream {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            // Records that the kernel had no room for, and what TLS itself has to say.
            Stream::Tls(session) => Pin::new(&mut session.stream).poll_flush(cx),
        }
    }

    /// Whether the peer's first byte was one of TLS, on a socket without: a handshake's (22) or an alert's (21).
    pub fn heard_tls(&self) -> bool {
        match &self.0.borrow().stream {
            Stream::Plain(stream) => matches!(stream.first_byte(), Some(21 | 22)),
            Stream::Tls(_) => false,
        }
    }

    /// The fault of TLS that ended the connection, if one did.
    pub fn fault(&self) -> Option<rustls::Error> {
        match &self.0.borrow().stream {
            Stream::Plain(_) => None,
            Stream::Tls(session) => session.fault.clone(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0.borrow_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, out),
            Stream::Tls(session) => session.poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.borrow_mut();
        if state.gathered.room() == 0 {
            ready!(state.poll_send(cx))?;
        }
        Poll::Ready(Ok(state.gathered.put(bytes)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.borrow_mut();
        if state.gathered.room() == 0 {
            ready!(state.poll_send(cx))?;
        }
        let mut taken = 0;
        for piece in pieces {
            let put = state.gathered.put(piece);
            taken += put;
            if put < piece.len() {
                break;
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing on purpose: h2 flushes after every DATA frame. The owner calls [`Socket::poll_flush`].
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        ready!(state.poll_send(cx))?;
        match &mut state.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(session) => Pin::new(&mut session.stream).poll_shutdown(cx),
        }
    }
}

// === impl State ===

impl State {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let bytes = self.gathered.bytes();
            let sent = match &mut self.stream {
                Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
                Stream::Tls(session) => Pin::new(&mut session.stream).poll_write(cx, bytes),
            };
            let sent = ready!(sent)?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(sent);
        }
        Poll::Ready(Ok(()))
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Socket::plain(Gulping::new(near, false)), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn nothing_is_sent_before_the_flush_and_all_of_it_after() {
        let (mut socket, mut far) = pair().await;
        socket.write_all(b"HEADERS").await.unwrap();
        socket.write_all(b"DATA").await.unwrap();
        socket.flush().await.unwrap();
        assert!(far.try_read(&mut [0; 16]).is_err());
        std::future::poll_fn(|cx| Socket::poll_flush(&socket, cx)).await.unwrap();
        let mut got = [0; 11];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"HEADERSDATA");
        assert!(!socket.0.borrow().gathered.owns_a_buffer());
    }

    #[tokio::test]
    async fn one_gulp_serves_many_small_reads_and_leaves_no_buffer_behind() {
        let (mut socket, mut far) = pair().await;
        let sent: Vec<u8> = (0..30_000u32).map(|at| at as u8).collect();
        far.write_all(&sent).await.unwrap();
        drop(far);
        let (mut got, mut piece) = (Vec::new(), [0; 1000]);
        loop {
            match socket.read(&mut piece).await.unwrap() {
                0 => break,
                read => got.extend_from_slice(&piece[..read]),
            }
        }
        assert_eq!(got, sent);
        let Stream::Plain(stream) = &socket.0.borrow().stream else { panic!("it is plain") };
        assert!(!stream.owns_a_buffer());
    }

    #[tokio::test]
    async fn more_than_a_buffer_is_written_when_the_peer_reads() {
        let (mut socket, mut far) = pair().await;
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            got.len()
        });
        socket.write_all(&vec![7; 5 << 20]).await.unwrap();
        socket.shutdown().await.unwrap();
        drop(socket);
        assert_eq!(reader.await.unwrap(), 5 << 20);
    }
}
