//! The receivers that need more than one message before they can file anything: meters, Go profiles, uploads.

use bytes::Bytes;

use super::{End, framed_varint, has_any};
use crate::message::field::{Malformed, Value, bytes_at, fields, first_bytes, last_bytes};
use crate::testkit::methods::{MethodId, Path};
use crate::testkit::tally::Tally;
use crate::wire::grpc::{Code, Status};

/// The samples of one meter set.
#[derive(Debug, Default)]
pub(super) struct MeterSet {
    service: Vec<u8>,
    instance: Vec<u8>,
    dated: bool,
    messages: u64,
    bytes: usize,
    ids: Vec<Vec<u8>>,
    /// Messages with neither value nor histogram: skipped, names and all.
    empty: u64,
}

/// The chunks of one Go profile.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    task: Vec<u8>,
    messages: u64,
    bytes: usize,
    ids: Vec<Vec<u8>>,
}

/// One upload of async-profiler or pprof.
#[derive(Debug)]
pub(super) struct Upload {
    pprof: bool,
    source: Option<Vec<u8>>,
    content_bytes_left: Option<usize>,
    messages: u64,
    bytes: usize,
}

/// OAP's default for both kinds.
const UPLOAD_BYTES_MAX: u64 = 31_457_280;

/// An empty path keeps nothing.
fn keep_id(ids: &mut Vec<Vec<u8>>, message: &[u8], id: Path) -> Result<(), Malformed> {
    if !id.is_empty() {
        ids.extend(bytes_at(message, id)?.map(<[u8]>::to_vec));
    }
    Ok(())
}

// === impl MeterSet ===

impl MeterSet {
    pub(super) fn add(&mut self, meter: &[u8], id: Path) -> Result<(), Malformed> {
        if !has_any(meter, &[1, 2]) {
            self.empty += 1;
            return Ok(());
        }
        for (number, known) in [(3, &mut self.service), (4, &mut self.instance)] {
            if let Some(said) = last_bytes(meter, number)?.filter(|said| !said.is_empty()) {
                said.clone_into(known);
            }
        }
        self.dated |= fields(meter)
            .flatten()
            .any(|field| field.number == 5 && matches!(field.value, Value::Varint(time) if time.cast_signed() > 0));
        self.messages += 1;
        self.bytes += meter.len();
        keep_id(&mut self.ids, meter, id)
    }

    /// The same set counted as the one message it came in.
    pub(super) fn counted_once(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self.messages = self.messages.min(1);
        self.empty = u64::from(self.messages == 0);
        self
    }

    pub(super) fn file(self, method: MethodId, tally: &mut Tally) {
        tally.discard(method, "no sample", self.empty);
        if self.service.is_empty() || self.instance.is_empty() || !self.dated {
            tally.discard(method, "no service, instance or time", self.messages);
            return;
        }
        let source = tally.source(method, &[&self.service[..], b"/", &self.instance].concat());
        tally.file(method, source, self.messages, self.bytes);
        for id in &self.ids {
            tally.record(method, source, id);
        }
    }
}

// === impl Chunks ===

impl Chunks {
    pub(super) fn of(task: &[u8]) -> Self {
        Self { task: task.to_vec(), ..Self::default() }
    }

    pub(super) fn task(&self) -> &[u8] {
        &self.task
    }

    pub(super) fn add(&mut self, chunk: &[u8], id: Path) -> Result<(), Malformed> {
        self.messages += 1;
        self.bytes += chunk.len();
        keep_id(&mut self.ids, chunk, id)
    }

    pub(super) fn file(self, method: MethodId, tally: &mut Tally) {
        let source = tally.source(method, &self.task);
        tally.file(method, source, self.messages, self.bytes);
        for id in &self.ids {
            tally.record(method, source, id);
        }
    }

    pub(super) fn discard(self, method: MethodId, reason: &'static str, tally: &mut Tally) {
        tally.discard(method, reason, self.messages);
    }
}

// === impl Upload ===

impl Upload {
    pub(super) fn new(pprof: bool) -> Self {
        Self { pprof, source: None, content_bytes_left: None, messages: 0, bytes: 0 }
    }

    /// Answers the framed reply to metadata. Only the first metadata of a call is used.
    pub(super) fn message(&mut self, body: &[u8]) -> Result<Option<Bytes>, Status> {
        self.messages += 1;
        self.bytes += body.len();
        let unknown = |what: &str| Status::new(Code::Unknown, what);
        let malformed = |broken: Malformed| Status::new(Code::Internal, broken.to_string());
        let metadata = first_bytes(body, 1).map_err(malformed)?;
        if let (Some(metadata), None) = (metadata, &self.source) {
            return self.metadata(metadata).map_err(malformed);
        }
        let content = first_bytes(body, 3).map_err(malformed)?.map_or(0, <[u8]>::len);
        match &mut self.content_bytes_left {
            Some(left) => {
                *left = left.checked_sub(content).ok_or_else(|| unknown("more content than announced"))?;
            }
            None if self.pprof || content == 0 => {}
            None => return Err(unknown("content before metadata")),
        }
        Ok(None)
    }

    fn metadata(&mut self, metadata: &[u8]) -> Result<Option<Bytes>, Malformed> {
        let text = |number| first_bytes(metadata, number).map(Option::unwrap_or_default);
        self.source = Some([text(1)?, b"/", text(2)?].concat());
        let number = |wanted| {
            fields(metadata).flatten().find_map(|field| match field.value {
                Value::Varint(value) if field.number == wanted => Some(value),
                _ => None,
            })
        };
        let (kind, content_bytes) = (number(4).unwrap_or(0), number(5).unwrap_or(0));
        // Both enums say 0 success, 1 task error, 2 oversize.
        Ok(match (kind, content_bytes) {
            (0, ..=UPLOAD_BYTES_MAX) => {
                self.content_bytes_left = Some(content_bytes as usize);
                Some(framed_varint(1, 0))
            }
            (0, _) => Some(framed_varint(1, 2)),
            _ if self.pprof => Some(framed_varint(1, 1)),
            _ => None,
        })
    }

    pub(super) fn end(self, method: MethodId, end: End, tally: &mut Tally) {
        let Some(source) = self.source.filter(|_| end == End::Clean) else {
            tally.discard(method, "unfinished upload", self.messages);
            return;
        };
        let source = tally.source(method, &source);
        tally.file(method, source, self.messages, self.bytes);
    }
}
