//! What the rest of the house holds of a stream: reads, writes and waits through its session.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, request, response};

use super::Session;
use super::frame::Reason;
use super::streams::{Cause, Ending, Place, Said, Stream};
use crate::wire::stream::{Break, BreakKind, Chunk};

/// A session its streams share.
pub type Shared = Rc<RefCell<Session>>;

/// No more room is made for a chunk before it has come, however large the last ones were: half of what one pass may bring.
const CHUNK_BYTES_MAX: usize = 128 << 10;

/// One holder of a stream. When the last one is dropped before its end the stream is reset.
#[derive(Debug)]
pub struct Handle {
    session: Shared,
    place: Place,
}

// === impl Handle ===

impl Handle {
    /// The next call a peer has begun.
    pub fn accept(session: &Shared) -> Option<(request::Parts, Handle)> {
        let (place, head) = session.borrow_mut().take_call()?;
        Some((head, Handle { session: Rc::clone(session), place }))
    }

    /// Opens a stream to call the peer.
    ///
    /// # Errors
    /// When the peer is going away or gone.
    pub fn call(session: &Shared, head: Request<()>) -> Result<Handle, Break> {
        let place = session.borrow_mut().open(head)?;
        Ok(Handle { session: Rc::clone(session), place })
    }

    /// The head of the answer. Ready once.
    pub fn poll_response(&self, cx: &mut Context<'_>) -> Poll<Result<response::Parts, Break>> {
        let session = &mut *self.session.borrow_mut();
        let stream = &mut session.streams[self.place];
        match stream.head.take().map(|head| *head) {
            Some(Said::Response(head)) => return Poll::Ready(Ok(head)),
            other => stream.head = other.map(Box::new),
        }
        match stream.broken {
            Some(cause) => Poll::Ready(Err(session.break_of(cause))),
            None => stream.reader.wait(cx),
        }
    }

    /// The next chunk, all that has arrived; the end; or the break.
    pub fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Chunk> {
        let session = &mut *self.session.borrow_mut();
        let stream = &mut session.streams[self.place];
        if !stream.arrived.is_empty() {
            return Poll::Ready(Chunk::Data(take_arrived(stream)));
        }
        if stream.has_ended {
            return Poll::Ready(Chunk::End(stream.trailers.take().map(|trailers| *trailers)));
        }
        match stream.broken {
            Some(cause) => Poll::Ready(Chunk::Broken(session.break_of(cause))),
            None => stream.reader.wait(cx),
        }
    }

    /// Lets the peer send so many bytes more.
    pub fn release(&self, bytes: usize) {
        let session = &mut *self.session.borrow_mut();
        let stream = &mut session.streams[self.place];
        debug_assert!(bytes <= stream.held_bytes as usize, "released more than was received");
        let bytes = (bytes as u32).min(stream.held_bytes);
        stream.held_bytes -= bytes;
        session.release_connection(bytes);
        session.release_stream(self.place, bytes);
    }

    /// Nobody reads any more.
    pub fn stop_reading(&self) {
        self.session.borrow_mut().stop_reading(self.place);
    }

    /// Asks for room for so many bytes in all.
    pub fn want(&self, bytes: usize) {
        self.session.borrow_mut().want(self.place, bytes);
    }

    /// Bytes that may be sent now.
    pub fn room(&self) -> usize {
        self.session.borrow().streams[self.place].room()
    }

    /// Waits for room; ready when there is some, or when the stream is gone.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, Break>> {
        let session = &mut *self.session.borrow_mut();
        if let Err(cause) = session.sending(self.place) {
            return Poll::Ready(Err(session.break_of_sending(cause)));
        }
        match session.streams[self.place].room() {
            0 => session.streams[self.place].writer.wait(cx),
            room => Poll::Ready(Ok(room)),
        }
    }

    /// Ready when the stream is broken.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<Break> {
        let session = &mut *self.session.borrow_mut();
        match session.streams[self.place].broken {
            Some(cause) => Poll::Ready(session.break_of(cause)),
            None => session.streams[self.place].writer.wait(cx),
        }
    }

    /// Sends the head of an answer.
    ///
    /// # Errors
    /// When the stream is gone, or has its head already.
    pub fn respond(&self, head: &response::Parts, ends: bool) -> Result<(), Break> {
        let session = &mut *self.session.borrow_mut();
        session.check_sending(self.place)?;
        let stream = &mut session.streams[self.place];
        if std::mem::replace(&mut stream.has_begun, true) {
            return Err(session.break_of_sending(None));
        }
        let id = stream.id;
        let mut block = Vec::with_capacity(64);
        session.encoder.response(head.status, &head.headers, &mut block);
        session.send_block(id, &block, ends);
        if ends {
            session.ended(self.place);
        }
        Ok(())
    }

    /// Sends bytes; beyond the room they wait in memory.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn send(&self, bytes: Bytes) -> Result<(), Break> {
        let session = &mut *self.session.borrow_mut();
        session.check_sending(self.place)?;
        session.send(self.place, bytes);
        Ok(())
    }

    /// Ends our direction.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn half_close(&self) -> Result<(), Break> {
        self.finish(Ending::HalfClose)
    }

    /// Ends our direction with trailers.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn send_trailers(&self, trailers: HeaderMap) -> Result<(), Break> {
        self.finish(Ending::Trailers(trailers))
    }

    fn finish(&self, ending: Ending) -> Result<(), Break> {
        let session = &mut *self.session.borrow_mut();
        session.check_sending(self.place)?;
        session.finish(self.place, ending);
        Ok(())
    }

    /// Resets the stream.
    pub fn reset(&self, reason: Reason) {
        self.session.borrow_mut().reset(self.place, reason, "it was given up here");
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        self.session.borrow_mut().streams[self.place].holders += 1;
        Self { session: Rc::clone(&self.session), place: self.place }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.session.borrow_mut().let_go(self.place);
    }
}

/// Takes what has arrived. Its memory is about what it needs, and the next chunk's is about the same.
fn take_arrived(stream: &mut Stream) -> Bytes {
    let mut arrived = std::mem::take(&mut stream.arrived);
    let usual = stream.chunk_bytes - stream.chunk_bytes / 8;
    stream.chunk_bytes = usual.max(arrived.len().min(CHUNK_BYTES_MAX) as u32);
    // What messages hold of the memory is what their permits say.
    if arrived.capacity() - arrived.len() > arrived.len() / 8 {
        arrived.shrink_to_fit();
    }
    Bytes::from(arrived)
}

// === impl Session ===

impl Session {
    /// Opens a stream and sends its head; its first holder is the caller.
    fn open(&mut self, head: Request<()>) -> Result<Place, Break> {
        if !self.is_usable() {
            let why = self.over.as_ref().map_or("the peer is going away", |over| &over.why);
            return Err(Break::new(BreakKind::NotProcessed, why));
        }
        let id = self.next_ours;
        self.next_ours += 2;
        let place = self.add_stream(id);
        let stream = &mut self.streams[place];
        (stream.holders, stream.has_begun) = (1, true);
        let mut block = Vec::with_capacity(128);
        self.encoder.request(&head.into_parts().0, &mut block);
        self.send_block(id, &block, false);
        Ok(place)
    }

    /// Our direction has ended with the block that was just written.
    fn ended(&mut self, place: Place) {
        self.streams[place].is_done = true;
        self.count_if_over(place);
    }

    fn check_sending(&self, place: Place) -> Result<(), Break> {
        self.sending(place).map_err(|cause| self.break_of_sending(cause))
    }

    fn break_of_sending(&self, cause: Option<Cause>) -> Break {
        cause.map_or_else(|| Break::new(BreakKind::Reset, "the stream is closed already"), |cause| self.break_of(cause))
    }

    fn break_of(&self, cause: Cause) -> Break {
        match cause {
            Cause::Reset(reason) => Break::of_reason(reason),
            Cause::Ours(reason, why) => {
                Break::new(BreakKind::Reset, format!("the stream was reset here: {reason}: {why}"))
            }
            Cause::NotProcessed => {
                Break::new(BreakKind::NotProcessed, "the peer is going away and has not looked at the stream")
            }
            Cause::Lost => {
                let why = self.over.as_ref().map_or("the connection is gone", |over| &over.why);
                Break::new(BreakKind::ConnectionLost, why)
            }
        }
    }
}
