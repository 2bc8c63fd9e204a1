//! Header blocks that come in: calls that begin, answers that begin, trailers, and those that may not be.

use http::{HeaderMap, StatusCode};

use super::Session;
use super::fields::Fields;
use super::frame::{Fault, Head, PAYLOAD_BYTES_MAX, Reason, flag, unpadded};
use super::patience::Nuisance;
use super::receive::Block;
use super::session::Leaving;
use super::streams::{Cause, Place, Said};

/// Header lists may be so much larger than allowed before that ends the connection rather than the stream.
const ABUSE_FACTOR: usize = 4;

impl Session {
    pub(super) fn headers_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream == 0 {
            return Err(Fault::protocol("HEADERS on no stream"));
        }
        // Clients open the odd ones, and nobody may push.
        if head.stream.is_multiple_of(2) {
            return Err(Fault::protocol("HEADERS on a stream the peer cannot open"));
        }
        let mut block = unpadded(head, payload)?;
        if head.has(flag::PRIORITY) {
            block = block.get(5..).ok_or(Fault::size("HEADERS shorter than their priority"))?;
        }
        let ends = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.block_whole(head.stream, ends, block);
        }
        let block = Block { stream: head.stream, ends, bytes: block.to_vec(), continuations: 0 };
        self.reading.block = Some(Box::new(block));
        Ok(())
    }

    pub(super) fn continuation_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        let Some(mut block) = self.reading.block.take() else {
            return Err(Fault::protocol("CONTINUATION of nothing"));
        };
        block.continuations += 1;
        block.bytes.extend_from_slice(payload);
        // A block is hardly ever longer than the list in it, and what is worth continuing fills its frames
        // (CVE-2024-27316: CONTINUATION without end).
        let bytes_max = ABUSE_FACTOR * self.limits.header_list_bytes_max as usize;
        let frames_max = 8 + (bytes_max / PAYLOAD_BYTES_MAX) as u32;
        if block.bytes.len() > bytes_max.max(PAYLOAD_BYTES_MAX) || block.continuations > frames_max {
            return Err(Fault::calm("a header block without end"));
        }
        if !head.has(flag::END_HEADERS) {
            self.reading.block = Some(block);
            return Ok(());
        }
        self.block_whole(block.stream, block.ends, &block.bytes)
    }

    /// Reads a block, whatever becomes of it: the next one builds on its table.
    fn block_whole(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<(), Fault> {
        let bytes_max = self.limits.header_list_bytes_max as usize;
        let mut fields = Fields::new(bytes_max);
        if self.decoder.decode(block, |name, value| fields.put(name, value)).is_err() {
            return Err(Fault::new(Reason::COMPRESSION_ERROR, "a header block that cannot be read"));
        }
        if fields.bytes() > ABUSE_FACTOR * bytes_max {
            return Err(Fault::calm("a header list far over the limit"));
        }
        match self.streams.find(id) {
            Some(place) if self.streams[place].broken.is_some() => self.late_block(id),
            Some(place) if self.streams[place].has_ended => {
                Err(Fault::new(Reason::STREAM_CLOSED, "HEADERS behind END_STREAM"))
            }
            Some(place) if self.streams[place].has_head => self.trailers(place, ends, fields),
            Some(place) => self.response(place, ends, fields),
            None if self.is_server && id > self.last_theirs => self.request(id, ends, fields),
            None => self.late_block(id),
        }
    }

    fn late_block(&mut self, id: u32) -> Result<(), Fault> {
        self.late_frame(id, 0)?;
        self.charge(Nuisance::Small, "too many header blocks for streams that are over")
    }

    fn request(&mut self, id: u32, ends: bool, fields: Fields) -> Result<(), Fault> {
        self.last_theirs = id;
        let window = i64::from(self.limits.stream_window_bytes);
        if let Leaving::Left(last) = self.leaving
            && id > last
        {
            // Our GOAWAY says that nobody looks at it.
            self.graves.add(id, window);
            return self.charge(Nuisance::Fault, "streams are opened again and again behind GOAWAY");
        }
        if self.open >= self.limits.streams_max as usize {
            self.graves.add(id, window);
            self.say_reset(id, Reason::REFUSED_STREAM);
            return self.charge(Nuisance::Fault, "too many streams beyond SETTINGS_MAX_CONCURRENT_STREAMS");
        }
        let place = self.add_stream(id);
        if fields.is_too_large() {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            let mut block = Vec::new();
            self.encoder.response(status, &HeaderMap::new(), &mut block);
            self.output.headers(id, &block, true, self.theirs.payload_bytes_max);
            return self.reset_for(place, Reason::NO_ERROR, "the header list is over the limit");
        }
        let expected = fields.content_length();
        let request = match fields.into_request() {
            Ok(request) => request,
            Err(malformed) => return self.reset_malformed(place, malformed),
        };
        let stream = &mut self.streams[place];
        stream.has_head = true;
        stream.expected = expected;
        stream.head = Some(Box::new(Said::Request(request)));
        self.begun.push_back(place);
        if ends { self.peer_ended(place) } else { Ok(()) }
    }

    fn response(&mut self, place: Place, ends: bool, fields: Fields) -> Result<(), Fault> {
        if fields.is_interim() && !ends {
            return self.charge(Nuisance::Small, "too many interim responses");
        }
        let expected = fields.content_length();
        let response = match fields.into_response() {
            Ok(response) => response,
            Err(malformed) => return self.reset_malformed(place, malformed),
        };
        let stream = &mut self.streams[place];
        stream.has_head = true;
        stream.expected = expected;
        stream.head = Some(Box::new(Said::Response(response)));
        stream.reader.wake();
        if ends { self.peer_ended(place) } else { Ok(()) }
    }

    fn trailers(&mut self, place: Place, ends: bool, fields: Fields) -> Result<(), Fault> {
        if !ends {
            return self.reset_for(place, Reason::PROTOCOL_ERROR, "trailers without END_STREAM");
        }
        match fields.into_trailers() {
            Ok(trailers) => {
                self.streams[place].trailers = Some(Box::new(trailers));
                self.peer_ended(place)
            }
            Err(malformed) => self.reset_malformed(place, malformed),
        }
    }

    /// The next call that has begun, with a holder of its own. Those reset before anybody looked are left out; what was
    /// brought by a connection that is gone is not.
    pub(super) fn take_call(&mut self) -> Option<(Place, http::request::Parts)> {
        while let Some(place) = self.begun.pop_front() {
            if self.begun.is_empty() {
                // An idle connection keeps nothing.
                self.begun = Default::default();
            }
            let stream = &mut self.streams[place];
            let head = stream.head.take().map(|head| *head);
            match head {
                Some(Said::Request(head)) if matches!(stream.broken, None | Some(Cause::Lost)) => {
                    stream.holders += 1;
                    return Some((place, head));
                }
                _ => self.remove_if_over(place),
            }
        }
        None
    }

    /// Sends a header block of ours.
    pub(super) fn send_block(&mut self, id: u32, block: &[u8], ends: bool) {
        self.output.headers(id, block, ends, self.theirs.payload_bytes_max);
        self.wake_task();
    }
}
