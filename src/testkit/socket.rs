//! A socket under h2, TCP or TLS, that reads in gulps and, if asked to, gathers what h2 writes into few system calls.
//!
//! h2 issues one write per DATA frame above 256 bytes. The [`Pump`] owns the moment of writing instead: h2 fills the
//! outbox, the connection's task pumps it after each poll of the connection. It also lets a server announce another
//! MAX_CONCURRENT_STREAMS on an open connection, which h2 itself cannot.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// Bytes the outbox takes before h2 has to wait.
const OUTBOX_BYTES: usize = 256 << 10;

const FRAME_HEAD_BYTES: usize = 9;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// When written bytes go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// At each of h2's flushes: one system call per DATA frame above 256 bytes, as agents under no pressure do.
    AtOnce,
    /// When the pump runs.
    Gathered,
}

/// What h2 holds.
#[derive(Debug)]
pub struct Socket {
    pump: Pump,
    inbox: Box<[u8]>,
    /// The unread part of `inbox`.
    unread: std::ops::Range<usize>,
}

/// What the connection's task holds: the writing end of the same socket.
#[derive(Debug, Clone)]
pub struct Pump {
    transport: Rc<RefCell<Transport>>,
    outbox: Rc<RefCell<Outbox>>,
}

/// What bytes travel by.
#[derive(Debug)]
pub enum Transport {
    /// The bare connection.
    Tcp(TcpStream),
    /// TLS, hands shaken.
    Tls(Box<TlsStream<TcpStream>>),
}

#[derive(Debug)]
struct Outbox {
    writes: Writes,
    bytes: BytesMut,
    /// While set, the next SETTINGS frame gets MAX_CONCURRENT_STREAMS appended, and nothing behind `scanned` goes out.
    announce: Option<u32>,
    /// Start of the first frame not looked at; only kept while `announce` is set.
    scanned: usize,
}

impl Socket {
    /// Wraps a connected socket. One read asks for `gulp_bytes`; gathered bytes wait for
    /// [`Pump::poll_write_out`].
    pub fn new(transport: Transport, writes: Writes, gulp_bytes: usize) -> (Self, Pump) {
        let outbox = Outbox { writes, bytes: BytesMut::new(), announce: None, scanned: 0 };
        let pump = Pump { transport: Rc::new(RefCell::new(transport)), outbox: Rc::new(RefCell::new(outbox)) };
        (Self { pump: pump.clone(), inbox: vec![0; gulp_bytes].into_boxed_slice(), unread: 0..0 }, pump)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unread.is_empty() {
            let mut inbox = ReadBuf::new(&mut this.inbox);
            ready!(this.pump.transport.borrow_mut().poll_read(cx, &mut inbox))?;
            this.unread = 0..inbox.filled().len();
        }
        let length = this.unread.len().min(out.remaining());
        out.put_slice(&this.inbox[this.unread.start..this.unread.start + length]);
        this.unread.start += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.pump.outbox.borrow().bytes.len() >= OUTBOX_BYTES {
            ready!(self.pump.poll_write_out(cx))?;
        }
        let mut outbox = self.pump.outbox.borrow_mut();
        slices.iter().for_each(|slice| outbox.bytes.put_slice(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writes = self.pump.outbox.borrow().writes;
        match writes {
            Writes::AtOnce => self.pump.poll_write_out(cx),
            Writes::Gathered => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.pump.poll_write_out(cx))?;
        self.pump.transport.borrow_mut().poll_shutdown(cx)
    }
}

impl Pump {
    /// Writes what is in the outbox; ready when it is empty.
    pub fn poll_write_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbox = self.outbox.borrow_mut();
        let end = outbox.announced_up_to();
        let mut left = end;
        let mut transport = self.transport.borrow_mut();
        while left > 0 {
            let written = ready!(transport.poll_write(cx, &outbox.bytes[..left]))?;
            outbox.bytes.advance(written);
            outbox.scanned = outbox.scanned.saturating_sub(written);
            left -= written;
        }
        transport.poll_flush(cx)
    }

    /// Adds MAX_CONCURRENT_STREAMS to the next SETTINGS frame h2 writes. h2's own counting is not touched: whoever
    /// announces a limit enforces it. Call it between polls of the connection, where frames are whole.
    pub fn announce_streams_max(&self, streams_max: u32) {
        let mut outbox = self.outbox.borrow_mut();
        if outbox.announce.replace(streams_max).is_none() {
            outbox.scanned = outbox.bytes.len();
        }
    }
}

impl Transport {
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_read(cx, out),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, out),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(_) => Poll::Ready(Ok(())),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl Outbox {
    /// Bytes that may go out: all of them, or those before the frame that may still have to be changed.
    fn announced_up_to(&mut self) -> usize {
        while let Some(streams_max) = self.announce {
            let Some(head) = self.bytes.get(self.scanned..self.scanned + FRAME_HEAD_BYTES) else {
                return self.scanned;
            };
            let payload_bytes = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let is_settings = head[3] == SETTINGS && head[4] & ACK == 0;
            let end = self.scanned + FRAME_HEAD_BYTES + payload_bytes;
            if end > self.bytes.len() {
                return self.scanned;
            }
            if !is_settings {
                self.scanned = end;
                continue;
            }
            let rest = self.bytes.split_off(end);
            self.bytes.put_u16(MAX_CONCURRENT_STREAMS);
            self.bytes.put_u32(streams_max);
            let length = (payload_bytes + 6) as u32;
            self.bytes[self.scanned..self.scanned + 3].copy_from_slice(&length.to_be_bytes()[1..]);
            self.bytes.unsplit(rest);
            self.announce = None;
        }
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(bytes: &[u8], announce: Option<u32>) -> Outbox {
        Outbox { writes: Writes::Gathered, bytes: BytesMut::from(bytes), announce, scanned: 0 }
    }

    #[test]
    fn the_next_settings_frame_and_no_ack_carries_the_announcement() {
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let ack = [0, 0, 0, 4, 1, 0, 0, 0, 0];
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0];
        let wire = [&ping[..], &ack, &settings, &ping].concat();
        let mut outbox = outbox(&wire, Some(7));
        assert_eq!(outbox.announced_up_to(), wire.len() + 6);
        let changed = [&ping[..], &ack, &[0, 0, 12], &settings[3..], &[0, 3, 0, 0, 0, 7], &ping].concat();
        assert_eq!(outbox.bytes, changed);
        assert_eq!(outbox.announce, None);
    }

    #[test]
    fn bytes_are_held_back_only_from_the_frame_that_is_not_whole() {
        let ack = [0, 0, 0, 4, 1, 0, 0, 0, 0];
        let mut outbox = outbox(&[&ack[..], &[0, 0, 6, 4, 0]].concat(), Some(1));
        assert_eq!(outbox.announced_up_to(), 9);
    }
}
