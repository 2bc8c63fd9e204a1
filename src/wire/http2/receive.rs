//! What comes in: cut into frames, and each frame made to what it means.
//!
//! Frames that are not DATA are handled whole. DATA is not: what has arrived of a payload goes to its stream at once, so
//! that nothing is kept for the connection between two reads, however the peer's frames lie in them.

use super::Session;
use super::frame::{Fault, HEAD_BYTES, Head, PAYLOAD_BYTES_MAX, PREFACE, Reason, flag, kind, unpadded};
use super::patience::Nuisance;
use super::streams::Place;

/// Where in the peer's bytes we are.
#[derive(Debug)]
pub(super) struct Reading {
    stage: Stage,
    /// The beginning of a frame that is not whole.
    partial: Vec<u8>,
    /// A header block that is not whole.
    pub(super) block: Option<Box<Block>>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// Between frames, or inside one of which the beginning is kept.
    Frame,
    /// Inside the payload of a DATA frame; without a place the bytes are of no use to anybody.
    Data { place: Option<Place>, left: u32, ends: bool },
}

/// HEADERS without END_HEADERS, and what followed.
#[derive(Debug)]
pub(super) struct Block {
    pub stream: u32,
    pub ends: bool,
    pub bytes: Vec<u8>,
    pub continuations: u32,
}

// === impl Reading ===

impl Reading {
    pub fn new(of_client: bool) -> Self {
        let stage = if of_client { Stage::Preface(0) } else { Stage::Frame };
        Self { stage, partial: Vec::new(), block: None }
    }

    /// A stream is no more: what still comes of its frame is for nobody.
    pub fn forget(&mut self, gone: Place) {
        if let Stage::Data { place, .. } = &mut self.stage
            && *place == Some(gone)
        {
            *place = None;
        }
    }
}

// === impl Session ===

impl Session {
    /// Takes in what was read, all of it. What it means shows in the streams, in the output and in [`Session::over`].
    pub fn receive(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.over.is_none() {
            let step = match self.reading.stage {
                Stage::Frame => self.receive_frame(&mut bytes),
                Stage::Data { place, left, ends } => self.receive_data(&mut bytes, place, left, ends),
                Stage::Preface(matched) => self.receive_preface(&mut bytes, matched),
            };
            if let Err(fault) = step {
                self.fail(fault);
            }
        }
    }

    fn receive_preface(&mut self, bytes: &mut &[u8], matched: usize) -> Result<(), Fault> {
        let expected = &PREFACE[matched..];
        let length = expected.len().min(bytes.len());
        let (said, rest) = bytes.split_at(length);
        if said != &expected[..length] {
            return Err(Fault::protocol("no HTTP/2 preface"));
        }
        *bytes = rest;
        let is_whole = matched + length == PREFACE.len();
        self.reading.stage = if is_whole { Stage::Frame } else { Stage::Preface(matched + length) };
        Ok(())
    }

    #[inline]
    fn receive_frame(&mut self, bytes: &mut &[u8]) -> Result<(), Fault> {
        if !self.reading.partial.is_empty() {
            return self.receive_rest(bytes);
        }
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            let length = bytes.len();
            return self.keep(bytes, length);
        };
        let head = Head::parse(head);
        self.check_head(&head)?;
        if head.kind == kind::DATA && !head.has(flag::PADDED) {
            *bytes = rest;
            return self.data_begins(head);
        }
        match rest.split_at_checked(head.length as usize) {
            Some((payload, behind)) => {
                *bytes = behind;
                self.whole_frame(head, payload)
            }
            None => {
                let length = bytes.len();
                self.keep(bytes, length)
            }
        }
    }

    /// Goes on with a frame of which the beginning is kept.
    fn receive_rest(&mut self, bytes: &mut &[u8]) -> Result<(), Fault> {
        if self.reading.partial.len() < HEAD_BYTES {
            let missing = HEAD_BYTES - self.reading.partial.len();
            let length = missing.min(bytes.len());
            self.keep(bytes, length)?;
            let Some(head) = self.reading.partial.first_chunk::<HEAD_BYTES>() else { return Ok(()) };
            let head = Head::parse(head);
            self.check_head(&head)?;
            if head.kind == kind::DATA && !head.has(flag::PADDED) {
                self.reading.partial = Vec::new();
                return self.data_begins(head);
            }
        }
        let Some(head) = self.reading.partial.first_chunk::<HEAD_BYTES>() else { return Ok(()) };
        let head = Head::parse(head);
        let missing = HEAD_BYTES + head.length as usize - self.reading.partial.len();
        let length = missing.min(bytes.len());
        self.keep(bytes, length)?;
        if self.reading.partial.len() < HEAD_BYTES + head.length as usize {
            return Ok(());
        }
        let whole = std::mem::take(&mut self.reading.partial);
        self.whole_frame(head, &whole[HEAD_BYTES..])
    }

    fn keep(&mut self, bytes: &mut &[u8], length: usize) -> Result<(), Fault> {
        let (kept, rest) = bytes.split_at(length);
        self.reading.partial.extend_from_slice(kept);
        *bytes = rest;
        Ok(())
    }

    /// What can be said of a frame before its payload has come.
    #[inline]
    fn check_head(&self, head: &Head) -> Result<(), Fault> {
        if head.length as usize > PAYLOAD_BYTES_MAX {
            return Err(Fault::size("a frame is longer than SETTINGS_MAX_FRAME_SIZE"));
        }
        if let Some(block) = &self.reading.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return Err(Fault::protocol("a header block is interrupted"));
        }
        if !self.is_greeted && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Fault::protocol("the first frame is not SETTINGS"));
        }
        Ok(())
    }

    fn data_begins(&mut self, head: Head) -> Result<(), Fault> {
        let ends = head.has(flag::END_STREAM);
        let place = self.admit_data(head, head.length, head.length)?;
        match head.length {
            0 => place.map_or(Ok(()), |place| self.data_ended(place, ends)),
            left => {
                self.reading.stage = Stage::Data { place, left, ends };
                Ok(())
            }
        }
    }

    #[inline]
    fn receive_data(&mut self, bytes: &mut &[u8], place: Option<Place>, left: u32, ends: bool) -> Result<(), Fault> {
        let (piece, rest) = bytes.split_at(bytes.len().min(left as usize));
        *bytes = rest;
        let left = left - piece.len() as u32;
        self.reading.stage = if left > 0 { Stage::Data { place, left, ends } } else { Stage::Frame };
        match place {
            Some(place) => {
                self.arrive(place, piece);
                if left == 0 { self.data_ended(place, ends) } else { Ok(()) }
            }
            None => {
                self.release_connection(piece.len() as u32);
                Ok(())
            }
        }
    }

    /// Counts a DATA frame against its windows; answers the stream that takes it. `message_bytes` are without padding.
    fn admit_data(&mut self, head: Head, flow_bytes: u32, message_bytes: u32) -> Result<Option<Place>, Fault> {
        if head.stream == 0 {
            return Err(Fault::protocol("DATA on no stream"));
        }
        self.window -= i64::from(flow_bytes);
        if self.window < 0 {
            return Err(Fault::window("DATA beyond the connection's window"));
        }
        let ends = head.has(flag::END_STREAM);
        if message_bytes == 0 && !ends {
            self.charge(Nuisance::Empty, "too many DATA frames without data")?;
        }
        let Some(place) = self.streams.find(head.stream) else {
            self.late_frame(head.stream, flow_bytes)?;
            return Ok(None);
        };
        let stream = &mut self.streams[place];
        stream.window -= i64::from(flow_bytes);
        if stream.broken.is_some() {
            // It is remembered, too, and counted there.
            self.late_frame(head.stream, flow_bytes)?;
            return Ok(None);
        }
        if stream.has_ended {
            return Err(Fault::new(Reason::STREAM_CLOSED, "DATA behind END_STREAM"));
        }
        if stream.window < 0 {
            self.reset_for(place, Reason::FLOW_CONTROL_ERROR, "DATA beyond the stream's window")?;
            return Ok(None);
        }
        if !stream.has_head {
            self.reset_for(place, Reason::PROTOCOL_ERROR, "DATA before HEADERS")?;
            return Ok(None);
        }
        if let Some(expected) = &mut stream.expected {
            match expected.checked_sub(u64::from(message_bytes)) {
                Some(left) => *expected = left,
                None => {
                    self.reset_for(place, Reason::PROTOCOL_ERROR, "more than its content-length")?;
                    return Ok(None);
                }
            }
        }
        Ok(Some(place))
    }

    /// Gives bytes to their stream.
    #[inline]
    fn arrive(&mut self, place: Place, bytes: &[u8]) {
        let length = bytes.len() as u32;
        self.patience.useful(bytes.len());
        let stream = &mut self.streams[place];
        if stream.broken.is_some() || !stream.has_reader {
            return self.release_connection(length);
        }
        stream.held_bytes += length;
        if stream.arrived.is_empty() {
            // As much as it has lately been at most: to grow is to copy, to be cut off at the end is not.
            stream.arrived.reserve_exact(bytes.len().max(stream.chunk_bytes as usize));
            stream.arrived.extend_from_slice(bytes);
            stream.reader.wake();
        } else {
            stream.arrived.extend_from_slice(bytes);
        }
    }

    fn data_ended(&mut self, place: Place, ends: bool) -> Result<(), Fault> {
        if ends { self.peer_ended(place) } else { Ok(()) }
    }

    /// The peer's direction is over.
    pub(super) fn peer_ended(&mut self, place: Place) -> Result<(), Fault> {
        let stream = &mut self.streams[place];
        if stream.broken.is_some() {
            return Ok(());
        }
        if stream.expected.is_some_and(|left| left > 0) {
            return self.reset_for(place, Reason::PROTOCOL_ERROR, "less than its content-length");
        }
        stream.has_ended = true;
        stream.reader.wake();
        self.count_if_over(place);
        self.remove_if_over(place);
        Ok(())
    }

    /// A frame for a stream that is over, or never was.
    pub(super) fn late_frame(&mut self, id: u32, bytes: u32) -> Result<(), Fault> {
        if self.is_idle(id) {
            return Err(Fault::protocol("a frame for a stream that was never opened"));
        }
        match self.graves.late(id, bytes) {
            Some(true) => Ok(()),
            Some(false) => Err(Fault::window("DATA beyond the window of a stream that was reset")),
            None => Err(Fault::new(Reason::STREAM_CLOSED, "a frame for a stream that is over")),
        }
    }

    pub(super) fn is_idle(&self, id: u32) -> bool {
        let is_theirs = (id % 2 == 1) == self.is_server;
        if is_theirs { id > self.last_theirs } else { id >= self.next_ours }
    }

    fn whole_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        match head.kind {
            kind::DATA => {
                let kept = unpadded(head, payload)?;
                let padding = (payload.len() - kept.len()) as u32;
                let place = self.admit_data(head, head.length, kept.len() as u32)?;
                self.release_connection(padding);
                let Some(place) = place else {
                    self.release_connection(kept.len() as u32);
                    return Ok(());
                };
                self.release_stream(place, padding);
                if !kept.is_empty() {
                    self.arrive(place, kept);
                }
                self.data_ended(place, head.has(flag::END_STREAM))
            }
            kind::HEADERS => self.headers_frame(head, payload),
            kind::CONTINUATION => self.continuation_frame(head, payload),
            kind::PRIORITY if head.stream == 0 => Err(Fault::protocol("PRIORITY on no stream")),
            kind::PRIORITY if payload.len() != 5 => Err(Fault::size("PRIORITY of a wrong length")),
            kind::RST_STREAM => self.reset_frame(head, payload),
            kind::SETTINGS => self.settings_frame(head, payload),
            kind::PUSH_PROMISE => Err(Fault::protocol("PUSH_PROMISE, which is not allowed here")),
            kind::PING => self.ping_frame(head, payload),
            kind::GOAWAY => self.goaway_frame(head, payload),
            kind::WINDOW_UPDATE => self.window_frame(head, payload),
            // PRIORITY means nothing any more (RFC 9113, section 5.3.2), and unknown kinds never did.
            _ => self.charge(Nuisance::Small, "too many frames that mean nothing"),
        }
    }
}
