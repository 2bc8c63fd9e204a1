//! A TCP stream with buffers that belong to the worker: read in big gulps, written in big pieces, empty when idle.
//!
//! h2 reads 8 KiB at a time and flushes after every DATA frame. Measured, that is most of the cost of a forwarded
//! message: here one system call reads up to 64 KiB, which h2 then takes in its own portions, and what h2 writes
//! gathers until [`Socket::poll_flush`], which the owner of the connection calls once per poll.
//!
//! The buffers come from a pool of the thread and are lent to a socket only while it has bytes that were read and
//! not yet taken, or written and not yet sent. An idle connection owns none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::pace;

/// Bytes of one gulp or one gathered write: four HTTP/2 DATA frames of the default size.
const BUFFER_BYTES: usize = 64 << 10;

/// Buffers a thread keeps for the next gulp; more than this are freed.
const SPARE_BUFFERS_MAX: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A cheap handle; h2 holds one, the owner of the connection another to flush with.
#[derive(Clone)]
pub struct Socket(Rc<RefCell<State>>);

struct State {
    stream: TcpStream,
    /// Whether reading sets the pace of the worker.
    is_agents: bool,
    /// Read from the kernel and not yet taken.
    gulp: Portion,
    /// Written by h2 and not yet sent.
    gathered: Portion,
}

/// A lent buffer and the part of it that counts.
#[derive(Default)]
struct Portion {
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

// === impl Socket ===

impl Socket {
    /// Takes over a connected stream and sets TCP_NODELAY: writes are gathered here, not in the kernel.
    pub fn new(stream: TcpStream) -> Self {
        // A socket that refuses the option still works, only slower.
        let _ = stream.set_nodelay(true);
        let (gulp, gathered) = Default::default();
        Self(Rc::new(RefCell::new(State { stream, is_agents: false, gulp, gathered })))
    }

    /// The same for an agent's stream: what is read from it sets the pace, see [`pace`].
    pub fn of_agent(stream: TcpStream) -> Self {
        let socket = Self::new(stream);
        socket.0.borrow_mut().is_agents = true;
        socket
    }

    /// Sends what was gathered. Ready when everything is sent; pending keeps the rest and wakes the task.
    ///
    /// # Errors
    /// As writing to the stream does.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        if state.gulp.is_empty() {
            if out.remaining() >= BUFFER_BYTES {
                return Pin::new(&mut state.stream).poll_read(cx, out);
            }
            ready!(state.poll_gulp(cx))?;
        }
        state.gulp.take_into(out);
        Poll::Ready(Ok(()))
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
        Pin::new(&mut state.stream).poll_shutdown(cx)
    }
}

// === impl State ===

impl State {
    fn poll_gulp(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = lend();
        let mut whole = ReadBuf::new(&mut buffer);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut whole);
        let filled = whole.filled().len();
        match read {
            Poll::Ready(Ok(())) if filled > 0 => {
                if self.is_agents {
                    pace::note_read(filled);
                }
                self.gulp = Portion { buffer: Some(buffer), start: 0, end: filled };
                Poll::Ready(Ok(()))
            }
            other => {
                give_back(buffer);
                other
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, self.gathered.bytes()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

// === impl Portion ===

impl Portion {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.as_deref().map_or(&[], |buffer| &buffer[self.start..self.end])
    }

    fn room(&self) -> usize {
        BUFFER_BYTES - self.end
    }

    /// Copies as much of `bytes` as there is room for.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.len().min(self.room());
        if length > 0 {
            let buffer = self.buffer.get_or_insert_with(lend);
            buffer[self.end..self.end + length].copy_from_slice(&bytes[..length]);
            self.end += length;
        }
        length
    }

    fn take_into(&mut self, out: &mut ReadBuf<'_>) {
        let length = out.remaining().min(self.end - self.start);
        out.put_slice(&self.bytes()[..length]);
        self.advance(length);
    }

    fn give_back(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            give_back(buffer);
        }
    }

    /// Forgets the first `length` bytes and gives an emptied buffer back.
    fn advance(&mut self, length: usize) {
        self.start += length;
        if self.is_empty() {
            self.give_back();
            (self.start, self.end) = (0, 0);
        }
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn lend() -> Box<[u8]> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
}

fn give_back(buffer: Box<[u8]>) {
    // At thread exit the pool may be gone already; then the buffer is simply freed.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Socket::new(near), listener.accept().await.unwrap().0)
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
        assert!(socket.0.borrow().gathered.buffer.is_none());
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
        assert!(socket.0.borrow().gulp.buffer.is_none());
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
