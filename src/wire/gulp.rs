//! A TCP stream that is read in big gulps into a buffer of the worker's, and handed on in whatever portions are asked for.
//!
//! The buffers come from a pool of the thread and are lent only while there are bytes that were read and not yet taken.
//! Whoever asks for as much as a buffer holds is served without one.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::pace;

/// Bytes of one gulp or one gathered write: four HTTP/2 DATA frames of the default size.
pub const BUFFER_BYTES: usize = 64 << 10;

/// Buffers a thread keeps for the next gulp; more than this are freed.
const SPARE_BUFFERS_MAX: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// The stream, and what was read ahead. Under TLS it is what the records come from.
pub struct Gulping {
    stream: TcpStream,
    /// Whether reading sets the pace of the worker.
    is_agents: bool,
    /// The first byte that ever came: it tells TLS from HTTP/2.
    first_byte: Option<u8>,
    /// Read from the kernel and not yet taken.
    gulp: Portion,
}

/// A lent buffer and the part of it that counts.
#[derive(Default)]
struct Portion {
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

// === impl Gulping ===

impl Gulping {
    /// Takes over a connected stream and sets TCP_NODELAY: writes are gathered by us, not in the kernel. What is read
    /// from an agent's stream sets the pace, see [`pace`].
    pub fn new(stream: TcpStream, is_agents: bool) -> Self {
        // A socket that refuses the option still works, only slower.
        let _ = stream.set_nodelay(true);
        Self { stream, is_agents, first_byte: None, gulp: Portion::default() }
    }

    /// The first byte that ever came.
    pub fn first_byte(&self) -> Option<u8> {
        self.first_byte
    }

    /// Whether it is not idle.
    #[cfg(test)]
    pub fn owns_a_buffer(&self) -> bool {
        self.gulp.owns_a_buffer()
    }

    /// Reads from the kernel, once.
    fn poll_kernel(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, out);
        if let [first, ..] = &out.filled()[before..] {
            self.first_byte.get_or_insert(*first);
            if self.is_agents {
                pace::note_read(out.filled().len() - before);
            }
        }
        read
    }

    fn poll_gulp(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = lend();
        let mut whole = ReadBuf::new(&mut buffer);
        let read = self.poll_kernel(cx, &mut whole);
        let filled = whole.filled().len();
        match read {
            Poll::Ready(Ok(())) if filled > 0 => {
                self.gulp = Portion { buffer: Some(buffer), start: 0, end: filled };
                Poll::Ready(Ok(()))
            }
            other => {
                give_back(buffer);
                other
            }
        }
    }
}

impl AsyncRead for Gulping {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.gulp.is_empty() {
            if out.remaining() >= BUFFER_BYTES {
                return self.poll_kernel(cx, out);
            }
            ready!(self.poll_gulp(cx))?;
        }
        self.gulp.take_into(out);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gulping {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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

    fn take_into(&mut self, out: &mut ReadBuf<'_>) {
        let length = out.remaining().min(self.end - self.start);
        out.put_slice(&self.bytes()[..length]);
        self.advance(length);
    }

    /// Forgets the first `length` bytes and gives an emptied buffer back.
    fn advance(&mut self, length: usize) {
        self.start += length;
        if self.is_empty() {
            self.give_back();
            (self.start, self.end) = (0, 0);
        }
    }

    /// Whether it is not idle.
    #[cfg(test)]
    fn owns_a_buffer(&self) -> bool {
        self.buffer.is_some()
    }

    fn give_back(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            give_back(buffer);
        }
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A buffer of [`BUFFER_BYTES`]; what is in it is of no meaning.
pub fn lend() -> Box<[u8]> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
}

/// Takes a buffer back for whoever needs one next.
pub fn give_back(buffer: Box<[u8]>) {
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

    #[tokio::test]
    async fn one_gulp_serves_many_small_reads_and_leaves_no_buffer_behind() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut near, mut far) = (Gulping::new(near, false), listener.accept().await.unwrap().0);
        let sent: Vec<u8> = (0..30_000u32).map(|at| at as u8).collect();
        far.write_all(&sent).await.unwrap();
        drop(far);
        let (mut got, mut piece) = (Vec::new(), [0; 1000]);
        loop {
            match near.read(&mut piece).await.unwrap() {
                0 => break,
                read => got.extend_from_slice(&piece[..read]),
            }
        }
        assert_eq!(got, sent);
        assert!(!near.owns_a_buffer());
        assert_eq!(near.first_byte(), Some(0));
    }
}
