//! What goes out on streams, as windows allow: each stream has its own, and all share the connection's in turns.

use bytes::Bytes;
use http::HeaderMap;

use super::Session;
use super::frame::{Fault, INT31_MAX, Reason};
use super::streams::{Cause, Ending, Place, Waiting};

/// Bytes of messages that may wait for the socket. A peer that opens its windows and does not read gets no more.
const OUTPUT_BYTES_MAX: usize = 256 << 10;

/// What a stream gets of a scarce window before the next one has its turn.
const TURN_BYTES: usize = 16 << 10;

impl Session {
    /// Of the connection's window and of the memory for its output, what nobody has yet.
    fn credit(&self) -> usize {
        let window = self.send_window.max(0) as usize;
        let memory = OUTPUT_BYTES_MAX.saturating_sub(self.output.len());
        window.min(memory).saturating_sub(self.granted)
    }

    /// Reserves room for a stream to send so many bytes in all.
    pub(super) fn want(&mut self, place: Place, bytes: usize) {
        let stream = &mut self.streams[place];
        stream.wanted = bytes;
        let wanted = bytes.max(stream.unsent.as_ref().map_or(0, |unsent| unsent.bytes));
        if stream.granted > wanted {
            // It needs less than it did.
            self.granted -= stream.granted - wanted;
            stream.granted = wanted;
            return self.share_out();
        }
        self.grant(place);
    }

    /// What a stream wants, could have by its own window, and has not.
    fn missing(&self, place: Place) -> usize {
        let stream = &self.streams[place];
        let wanted = stream.wanted.max(stream.unsent.as_ref().map_or(0, |unsent| unsent.bytes));
        wanted.min(stream.send_window.max(0) as usize).saturating_sub(stream.granted)
    }

    /// Gives a stream what it is missing. Where others wait for the same it gets in line.
    pub(super) fn grant(&mut self, place: Place) {
        let missing = self.missing(place);
        if missing == 0 || self.streams[place].broken.is_some() || self.over.is_some() {
            return;
        }
        let is_first = self.waiting.is_empty();
        let given = if is_first { missing.min(self.credit()) } else { 0 };
        if given < missing && !std::mem::replace(&mut self.streams[place].is_waiting, true) {
            self.waiting.push_back(place);
        }
        self.give(place, given);
        if !is_first {
            self.share_out();
        }
    }

    /// Gives what there is to those that wait, in turns.
    pub(super) fn share_out(&mut self) {
        // A stream that gets the last it needs ends, and its end comes back here: one at a time is enough.
        if self.over.is_some() || std::mem::replace(&mut self.is_sharing, true) {
            return;
        }
        while let Some(place) = self.waiting.front().copied() {
            let credit = self.credit();
            if credit == 0 {
                break;
            }
            self.waiting.pop_front();
            let missing = self.missing(place);
            let given = missing.min(credit).min(TURN_BYTES);
            let goes_on = given < missing;
            self.streams[place].is_waiting = goes_on;
            if goes_on {
                self.waiting.push_back(place);
            }
            self.give(place, given);
        }
        self.is_sharing = false;
    }

    fn give(&mut self, place: Place, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.granted += bytes;
        let stream = &mut self.streams[place];
        stream.granted += bytes;
        match stream.unsent {
            Some(_) => self.send_unsent(place),
            None => stream.writer.wake(),
        }
    }

    /// Sends bytes; what there is no room for waits in memory, behind what waits already.
    pub(super) fn send(&mut self, place: Place, mut bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if self.streams[place].unsent.is_none() {
            let now = bytes.split_to(self.streams[place].room().min(bytes.len()));
            self.put(place, now);
        }
        if !bytes.is_empty() {
            let unsent = self.streams[place].unsent.get_or_insert_default();
            unsent.bytes += bytes.len();
            unsent.chunks.push_back(bytes);
            self.grant(place);
        }
    }

    /// Ends our direction, behind all that was sent.
    pub(super) fn finish(&mut self, place: Place, ending: Ending) {
        let stream = &mut self.streams[place];
        stream.is_done = true;
        match &mut stream.unsent {
            Some(unsent) => unsent.end = Some(ending),
            None => self.say_end(place, ending),
        }
    }

    fn say_end(&mut self, place: Place, ending: Ending) {
        let id = self.streams[place].id;
        match ending {
            Ending::HalfClose => {
                self.output.end(id);
                self.wake_task();
            }
            Ending::Trailers(trailers) => self.send_trailers(id, &trailers),
        }
        // What it was granted and did not need is for others.
        let stream = &mut self.streams[place];
        stream.wanted = 0;
        self.granted -= std::mem::take(&mut stream.granted);
        self.count_if_over(place);
        self.share_out();
        self.settle(place);
    }

    fn send_trailers(&mut self, id: u32, trailers: &HeaderMap) {
        let mut block = Vec::with_capacity(32);
        self.encoder.trailers(trailers, &mut block);
        self.send_block(id, &block, true);
    }

    fn send_unsent(&mut self, place: Place) {
        let Some(mut unsent) = self.streams[place].unsent.take() else { return };
        while let Some(chunk) = unsent.chunks.front_mut() {
            let piece = chunk.split_to(self.streams[place].room().min(chunk.len()));
            if piece.is_empty() {
                break;
            }
            unsent.bytes -= piece.len();
            if chunk.is_empty() {
                unsent.chunks.pop_front();
            }
            self.put(place, piece);
        }
        if !unsent.chunks.is_empty() {
            self.streams[place].unsent = Some(unsent);
        } else if let Some(ending) = unsent.end {
            self.say_end(place, ending);
        } else {
            self.streams[place].writer.wake();
        }
    }

    /// Writes bytes for which there is room.
    fn put(&mut self, place: Place, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let stream = &mut self.streams[place];
        stream.send_window -= bytes.len() as i64;
        stream.granted -= bytes.len();
        stream.wanted = stream.wanted.saturating_sub(bytes.len());
        self.granted -= bytes.len();
        self.send_window -= bytes.len() as i64;
        self.patience.useful(bytes.len());
        let was_empty = self.output.is_empty();
        self.output.data(stream.id, bytes, self.theirs.payload_bytes_max);
        if was_empty {
            self.wake_task();
        }
    }

    /// The peer's SETTINGS_INITIAL_WINDOW_SIZE: all windows move by as much as it does, below zero if need be.
    pub(super) fn resize_windows(&mut self, bytes: u32) -> Result<(), Fault> {
        let more = i64::from(bytes) - i64::from(self.theirs.window_bytes);
        self.theirs.window_bytes = bytes;
        for place in self.streams.places() {
            let stream = &mut self.streams[place];
            if stream.is_over() {
                continue;
            }
            stream.send_window += more;
            if stream.send_window > i64::from(INT31_MAX) {
                return Err(Fault::window("SETTINGS make a stream's window larger than one can be"));
            }
            let over = stream.granted - stream.room();
            stream.granted -= over;
            self.granted -= over;
        }
        for place in self.streams.places() {
            self.grant(place);
        }
        self.share_out();
        Ok(())
    }

    /// One handle fewer. A stream that nobody holds goes on only to say what was handed over.
    pub(super) fn let_go(&mut self, place: Place) {
        self.streams[place].holders -= 1;
        if self.streams[place].holders == 0 {
            self.streams[place].has_reader = false;
            self.settle(place);
        }
    }

    /// Brings a stream that nobody holds to its end: forgets it when it is over, else resets it.
    fn settle(&mut self, place: Place) {
        let stream = &self.streams[place];
        if stream.holders > 0 || self.begun.contains(&place) {
            return;
        }
        match (stream.is_over(), stream.is_done) {
            (true, _) => self.remove_if_over(place),
            // What is still unsent of an answer is said first; then this comes again. The rest of a request would be
            // followed by a reset, so it is of no use, and its receiver may be waiting for us in the same way.
            (false, true) if self.is_server && stream.unsent.is_some() => {}
            // We have said all there is to say, and need no more of the request (RFC 9113, section 8.1).
            (false, true) if self.is_server => self.reset(place, Reason::NO_ERROR, "answered"),
            (false, _) => self.reset(place, Reason::CANCEL, "nobody waits for it any more"),
        }
    }

    /// Nobody reads any more: what has arrived or will is given back to the connection's window.
    pub(super) fn stop_reading(&mut self, place: Place) {
        let stream = &mut self.streams[place];
        stream.has_reader = false;
        stream.reader = Waiting::default();
        stream.arrived = Vec::new();
        let held = std::mem::take(&mut stream.held_bytes);
        self.release_connection(held);
    }

    /// Whether anything can still be sent on a stream.
    pub(super) fn sending(&self, place: Place) -> Result<(), Option<Cause>> {
        let stream = &self.streams[place];
        match stream.broken {
            Some(cause) => Err(Some(cause)),
            None if stream.is_done => Err(None),
            None => Ok(()),
        }
    }
}
