//! The receivers that need more than one message before they can file anything: meters, Go profiles.

use super::clerk::Clerk;
use super::reading::{digest_of_rest, elements, has, number, text};
use crate::message::field::{Malformed, bytes_at};
use crate::testkit::attribution::digest;
use crate::testkit::methods::Path;

/// The samples of one meter set (PROTOCOLS 1.2.2).
#[derive(Debug, Default)]
pub(super) struct MeterSet {
    service: Vec<u8>,
    instance: Vec<u8>,
    /// Milliseconds since 1970; 0 while none was said.
    timestamp: u64,
    /// Digests of what the samples say beside the names.
    samples: Vec<u64>,
    messages: u64,
    bytes: usize,
    ids: Vec<Vec<u8>>,
    /// Messages with neither value nor histogram: skipped, names and all.
    empty: u64,
}

/// The chunks of one Go profile (PROTOCOLS 1.2.6).
#[derive(Debug, Default)]
pub(super) struct Chunks {
    task: Vec<u8>,
    /// Digests of the chunks.
    chunks: Vec<u64>,
    bytes: usize,
    ids: Vec<Vec<u8>>,
}

/// A meter's names and time: they hold for the whole set.
const METER_SOURCE: [u32; 3] = [3, 4, 5];

fn keep_id(ids: &mut Vec<Vec<u8>>, message: &[u8], id: Path) -> Result<(), Malformed> {
    if !id.is_empty() {
        ids.extend(bytes_at(message, id)?.map(<[u8]>::to_vec));
    }
    Ok(())
}

/// Digest of digests, in their order.
fn digest_of_all(digests: &[u64]) -> u64 {
    let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.to_le_bytes()).collect();
    digest([&bytes[..]])
}

// === impl MeterSet ===

impl MeterSet {
    /// The set that one `MeterDataCollection` is.
    pub(super) fn batch(body: &[u8], clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
        let mut set = Self::default();
        for meter in elements(body, 1) {
            set.add(meter?, clerk.method().id.get(1..).unwrap_or_default(), clerk)?;
        }
        // Counted as the one message it came in.
        set.bytes = body.len();
        set.messages = set.messages.min(1);
        set.empty = u64::from(set.messages == 0);
        set.file(clerk);
        Ok(())
    }

    /// One message of a stream that is a set.
    pub(super) fn message(&mut self, meter: &[u8], clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
        self.add(meter, clerk.method().id, clerk)
    }

    fn add(&mut self, meter: &[u8], id: Path, clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
        if !has(meter, &[1, 2]) {
            self.empty += 1;
            return Ok(());
        }
        for (number, known) in [(3, &mut self.service), (4, &mut self.instance)] {
            let said = text(meter, number)?;
            if !said.is_empty() {
                said.clone_into(known);
            }
        }
        let timestamp = number(meter, 5)?;
        if timestamp.cast_signed() > 0 {
            self.timestamp = timestamp;
        }
        self.messages += 1;
        self.bytes += meter.len();
        if clerk.records() {
            keep_id(&mut self.ids, meter, id)?;
        }
        if clerk.attributes() {
            self.samples.push(digest_of_rest(meter, &METER_SOURCE)?.unwrap_or_default());
        }
        Ok(())
    }

    /// The set is complete, or as complete as it gets.
    pub(super) fn file(self, clerk: &mut Clerk<'_>) {
        clerk.discard("no sample", self.empty);
        if self.service.is_empty() || self.instance.is_empty() || self.timestamp == 0 {
            clerk.discard("no service, instance or time", self.messages);
            return;
        }
        let source = clerk.source(&self.service, &self.instance);
        clerk.count(source, self.messages, self.bytes);
        for id in &self.ids {
            clerk.tally.record(clerk.id, source, id);
        }
        if clerk.attributes() {
            let name = format!("{} samples at {}", self.samples.len(), self.timestamp);
            clerk.attribute(source, 0, name.as_bytes(), digest_of_all(&self.samples));
        }
    }

    /// The call was ended by the server: its handler is told nothing and the set is gone (PROTOCOLS 5, 27).
    pub(super) fn discard(self, clerk: &mut Clerk<'_>) {
        clerk.discard("call ended by the server", self.messages + self.empty);
    }
}

// === impl Chunks ===

impl Chunks {
    pub(super) fn message(&mut self, chunk: &[u8], clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
        let task = text(chunk, 1)?;
        if task.is_empty() {
            clerk.discard("no task", 1);
            return Ok(());
        }
        if self.task != task {
            let next = Self { task: task.to_vec(), ..Self::default() };
            std::mem::replace(self, next).discard(clerk);
        }
        self.bytes += chunk.len();
        self.chunks.push(if clerk.attributes() { digest([chunk]) } else { 0 });
        if clerk.records() {
            keep_id(&mut self.ids, chunk, clerk.method().id)?;
        }
        if number(chunk, 3)? != 0 {
            std::mem::take(self).file(clerk);
        }
        Ok(())
    }

    /// The call is over: what has no last chunk is no profile.
    pub(super) fn discard(self, clerk: &mut Clerk<'_>) {
        clerk.discard("unfinished profile", self.chunks.len() as u64);
    }

    fn file(self, clerk: &mut Clerk<'_>) {
        let source = clerk.source(&self.task, b"");
        clerk.count(source, self.chunks.len() as u64, self.bytes);
        for id in &self.ids {
            clerk.tally.record(clerk.id, source, id);
        }
        if clerk.attributes() {
            let name = format!("{} chunks", self.chunks.len());
            clerk.attribute(source, 0, name.as_bytes(), digest_of_all(&self.chunks));
        }
    }
}
