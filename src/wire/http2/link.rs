//! Ties a session to its socket: reads gulps into it, writes out what it gathers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handle::Shared;
use crate::wire::gulp::{give_back, lend};

/// Pieces that go out in one system call: sixteen frames of large messages.
const SLICES: usize = 32;

/// Answers and announcements that may wait for a peer that does not read. With more it is not read from either.
const CONTROLS_MAX: usize = 4_000;

/// Gulps that are thrown away behind our last word, so that the kernel does not take it back.
const LINGER_GULPS_MAX: usize = 32;

/// Bytes that are taken in before what they bring is worked on. The more, the more messages meet in a chunk and in a
/// parcel, and most of what a message costs is paid by those; but it should find room in a core's own cache, and others
/// wait meanwhile.
const PASS_BYTES_MAX: usize = 256 << 10;

/// A session and its socket.
pub struct Link<S> {
    session: Shared,
    socket: S,
    /// The last pass stopped reading because it had enough, not because there was nothing.
    may_have_more: bool,
}

// === impl Link ===

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// Ties the two together.
    pub fn new(session: Shared, socket: S) -> Self {
        Self { session, socket, may_have_more: false }
    }

    /// The session.
    pub fn session(&self) -> &Shared {
        &self.session
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// The first half of a pass: takes in what has come, up to `PASS_BYTES_MAX` and a gulp. Until [`Link::poll_write`] ends
    /// the pass, what is said on streams wakes nobody.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) {
        self.session.borrow_mut().begin_pass(cx.waker());
        let mut taken = 0;
        while taken < PASS_BYTES_MAX && self.session.borrow().over().is_none() {
            match self.poll_gulp(cx) {
                Poll::Ready(Ok(0)) => self.session.borrow_mut().lose("the peer closed the connection"),
                Poll::Ready(Ok(bytes)) => taken += bytes,
                Poll::Ready(Err(error)) => self.session.borrow_mut().lose(error.to_string()),
                Poll::Pending => break,
            }
        }
        self.may_have_more = taken >= PASS_BYTES_MAX;
    }

    /// The second half: writes what there is to write. Ready when the connection is over; [`super::Session::over`] says
    /// why.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            self.session.borrow_mut().lose(error.to_string());
        }
        let mut session = self.session.borrow_mut();
        session.end_pass();
        if session.is_done() {
            session.lose("closed in order");
        }
        if session.over().is_none() {
            if std::mem::take(&mut self.may_have_more) {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        drop(session);
        // Whatever comes of it: there is nobody left to tell.
        let _ = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.linger(cx);
        Poll::Ready(())
    }

    /// The passes until the peer's SETTINGS have come: from then on it is known to speak HTTP/2.
    ///
    /// # Errors
    /// When the connection ends before that.
    pub fn poll_greeted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read(cx);
        let is_over = self.poll_write(cx).is_ready();
        let session = self.session.borrow();
        match session.over() {
            _ if session.is_greeted() => Poll::Ready(Ok(())),
            Some(over) if is_over => Poll::Ready(Err(io::Error::other(over.why.clone()))),
            _ => Poll::Pending,
        }
    }

    /// Writes what waits; ready when all of it was written.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut session = self.session.borrow_mut();
            if session.output().is_empty() {
                return Pin::new(&mut self.socket).poll_flush(cx);
            }
            let (slices, filled) = session.output().slices::<SLICES>();
            match ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..filled]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => session.written(written),
            }
        }
    }

    fn poll_gulp(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.session.borrow_mut().output().controls() > CONTROLS_MAX {
            ready!(self.poll_flush(cx))?;
        }
        let mut buffer = lend();
        let mut whole = ReadBuf::new(&mut buffer);
        let read = Pin::new(&mut self.socket).poll_read(cx, &mut whole);
        let read = read.map_ok(|()| {
            let bytes = whole.filled();
            self.session.borrow_mut().receive(bytes);
            bytes.len()
        });
        give_back(buffer);
        read
    }

    /// Takes in what has come meanwhile. Unread bytes would make the kernel reset the connection, and with it what the
    /// peer has not read yet: our GOAWAY, a last answer.
    fn linger(&mut self, cx: &mut Context<'_>) {
        let mut buffer = lend();
        for _ in 0..LINGER_GULPS_MAX {
            let mut whole = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.socket).poll_read(cx, &mut whole) {
                Poll::Ready(Ok(())) if !whole.filled().is_empty() => {}
                _ => break,
            }
        }
        give_back(buffer);
    }
}

impl<S> Drop for Link<S> {
    /// Streams that outlive it are told that nothing moves any more.
    fn drop(&mut self) {
        self.session.borrow_mut().lose("the connection was given up here");
    }
}
