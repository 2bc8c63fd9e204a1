//! How OAP reads each kind of stream: what it remembers from one message for the next, and under whose name it files them.
//!
//! PROTOCOLS.md section 1.2 names the handler behind each rule. A message that OAP would silently drop is counted as
//! discarded and its id is not recorded: for the checker it is lost, as it is for the user.

use bytes::{Bytes, BytesMut};

use super::methods::{Method, MethodId, Path};
use super::tally::{Detail, SourceId, Tally};
use crate::message::field::{self, Malformed, Value, bytes_at, fields, first_bytes, last_bytes};
use crate::message::run::Run;
use crate::wire::grpc::{Code, Status};

mod datasets;
mod names;
#[cfg(test)]
mod tests;

use datasets::{Chunks, MeterSet, Upload};

/// How the messages of a method's streams are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Every message names its source.
    Each {
        /// Where the service stands.
        service: Path,
        /// Where the instance stands; empty when it is no part of the source.
        instance: Path,
    },
    /// A batch in field 1 whose elements name their sources.
    Elements {
        /// Where an element's service stands.
        service: Path,
        /// Where an element's instance stands.
        instance: Path,
        /// Where an element's id stands.
        id: Path,
    },
    /// The first service of the stream is pinned and overwrites later ones; messages before it are dropped.
    Logs,
    /// The stream is one set, filed at its end, clean or not, under the last service and instance it named.
    MeterStream,
    /// Each message is such a set.
    MeterBatch,
    /// Every message names its source; one without a layer ends the call with INVALID_ARGUMENT.
    Events,
    /// Chunks of one task up to `isLast` are one profile; a broken stream drops the unfinished one.
    GoProfile,
    /// The task said last holds; a message without samples ends the call.
    EbpfProfiling,
    /// Node and connection said last hold; a connection belongs to the node in force when it was said.
    EbpfAccessLog,
    /// The identifier of the first message holds for the stream.
    AccessLog {
        /// Whether later identifiers are read too (Satellite's service).
        every_message: bool,
    },
    /// The identifier of the first message holds; a stream whose first message names nobody is dropped.
    EnvoyMetrics,
    /// Each element of field 1 has a resource that names its service.
    Otlp,
    /// Metadata, go-on, content, end.
    AsyncProfiler,
    /// The same in pprof's variant.
    Pprof,
}

/// How a stream of messages came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client half-closed.
    Clean,
    /// Reset, connection lost, or ended by us.
    Broken,
}

/// The receiver of one call.
#[derive(Debug)]
pub struct Receiver {
    id: MethodId,
    method: &'static Method,
    /// The source of the last message: looking it up again would cost more than comparing its name.
    memo: Memo,
    /// Whether a message has been read.
    begun: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing is remembered.
    Plain,
    Logs {
        service: Vec<u8>,
    },
    Meters(MeterSet),
    GoProfile(Chunks),
    /// The source in force; `None`: messages are dropped.
    Carried(Option<SourceId>),
    Ebpf {
        node: Vec<u8>,
        source: Option<SourceId>,
    },
    Upload(Upload),
}

#[derive(Debug, Default)]
struct Memo {
    name: Vec<u8>,
    /// Bytes of the service in `name`.
    service_bytes: usize,
    id: Option<SourceId>,
}

// === impl Receiver ===

impl Receiver {
    /// The receiver of a call that begins.
    pub fn new(id: MethodId) -> Self {
        let method = id.method();
        let state = match method.rule {
            Rule::Logs => State::Logs { service: Vec::new() },
            Rule::MeterStream => State::Meters(MeterSet::default()),
            Rule::GoProfile => State::GoProfile(Chunks::default()),
            Rule::EbpfProfiling | Rule::AccessLog { .. } | Rule::EnvoyMetrics => State::Carried(None),
            Rule::EbpfAccessLog => State::Ebpf { node: Vec::new(), source: None },
            Rule::AsyncProfiler | Rule::Pprof => State::Upload(Upload::new(method.rule == Rule::Pprof)),
            _ => State::Plain,
        };
        Self { id, method, memo: Memo::default(), begun: false, state }
    }

    /// Whether messages have to be shown to the receiver at this level of detail.
    pub fn looks_at_messages(&self, detail: Detail) -> bool {
        detail > Detail::Counts || matches!(self.state, State::Upload(_))
    }

    /// Reads one message (without its prefix, decompressed). Answers the message to send back now, if any.
    ///
    /// # Errors
    /// The status that ends the call.
    pub fn message(&mut self, body: &[u8], tally: &mut Tally) -> Result<Option<Bytes>, Status> {
        let first = !std::mem::replace(&mut self.begun, true);
        let malformed =
            |broken: Malformed| Status::new(Code::Internal, format!("Invalid protobuf byte sequence: {broken}"));
        match &mut self.state {
            State::Upload(upload) => return upload.message(body),
            State::Plain => self.plain(body, tally)?,
            State::Logs { .. } => self.log(body, tally).map_err(malformed)?,
            State::Meters(set) => set.add(body, id_path(self.method, tally)).map_err(malformed)?,
            State::GoProfile(_) => self.go_chunk(body, tally).map_err(malformed)?,
            State::Carried(_) => self.carried(first, body, tally)?,
            State::Ebpf { .. } => self.ebpf(first, body, tally).map_err(malformed)?,
        }
        Ok(None)
    }

    /// The call is over.
    pub fn end(&mut self, end: End, tally: &mut Tally) {
        match std::mem::replace(&mut self.state, State::Plain) {
            State::Meters(set) => set.file(self.id, tally),
            State::GoProfile(chunks) => chunks.discard(self.id, "unfinished profile", tally),
            State::Upload(upload) if tally.detail() > Detail::Counts => upload.end(self.id, end, tally),
            _ => {}
        }
    }

    /// Messages that need nothing from their neighbours.
    fn plain(&mut self, body: &[u8], tally: &mut Tally) -> Result<(), Status> {
        let malformed = |broken: Malformed| Status::new(Code::Internal, broken.to_string());
        match self.method.rule {
            Rule::Each { service, instance } => self.each(body, service, instance, self.method.id, tally),
            Rule::Elements { service, instance, id } => {
                elements(body, 1).try_for_each(|element| self.each(element?, service, instance, id, tally))
            }
            Rule::Events => {
                if first_bytes(body, 9).map_err(malformed)?.unwrap_or_default().is_empty() {
                    return Err(Status::new(Code::InvalidArgument, "layer field is required since v9.0.0"));
                }
                self.each(body, &[2, 1], &[2, 2], self.method.id, tally)
            }
            Rule::MeterBatch => {
                let mut set = MeterSet::default();
                let id = id_path(self.method, tally);
                elements(body, 1)
                    .try_for_each(|meter| set.add(meter?, id.get(1..).unwrap_or_default()))
                    .map(|()| set.counted_once(body.len()).file(self.id, tally))
            }
            Rule::Otlp => elements(body, 1).try_for_each(|resource| self.otlp(resource?, tally)),
            _ => Ok(()),
        }
        .map_err(malformed)
    }

    fn each(
        &mut self,
        body: &[u8],
        service: Path,
        instance: Path,
        id: Path,
        tally: &mut Tally,
    ) -> Result<(), Malformed> {
        let at = |path: Path| if path.is_empty() { Ok(None) } else { bytes_at(body, path) };
        let (service, instance) = (at(service)?.unwrap_or_default(), at(instance)?.unwrap_or_default());
        let source = self.memo.source(self.id, service, instance, tally);
        self.file(source, body, id, tally)
    }

    /// Files one item and records its id.
    fn file(&self, source: SourceId, body: &[u8], id: Path, tally: &mut Tally) -> Result<(), Malformed> {
        tally.file(self.id, source, 1, body.len());
        if tally.detail() < Detail::Ids || id.is_empty() {
            return Ok(());
        }
        if let Some(id) = bytes_at(body, id)? {
            tally.record(self.id, source, id);
        }
        Ok(())
    }

    fn log(&mut self, body: &[u8], tally: &mut Tally) -> Result<(), Malformed> {
        let State::Logs { service: pinned } = &mut self.state else { return Ok(()) };
        if pinned.is_empty() {
            pinned.extend_from_slice(last_bytes(body, 2)?.unwrap_or_default());
        }
        if pinned.is_empty() {
            tally.discard(self.id, "no service", 1);
            return Ok(());
        }
        let instance = first_bytes(body, 3)?.unwrap_or_default();
        let source = self.memo.source(self.id, pinned, instance, tally);
        self.file(source, body, self.method.id, tally)
    }

    fn go_chunk(&mut self, body: &[u8], tally: &mut Tally) -> Result<(), Malformed> {
        let State::GoProfile(chunks) = &mut self.state else { return Ok(()) };
        let task = last_bytes(body, 1)?.unwrap_or_default();
        if task.is_empty() {
            tally.discard(self.id, "no task", 1);
            return Ok(());
        }
        if chunks.task() != task {
            std::mem::replace(chunks, Chunks::of(task)).discard(self.id, "unfinished profile", tally);
        }
        chunks.add(body, id_path(self.method, tally))?;
        if fields(body).flatten().any(|field| field.number == 3 && field.value == Value::Varint(1)) {
            std::mem::take(chunks).file(self.id, tally);
        }
        Ok(())
    }

    /// Identifier or task, said once and carried.
    fn carried(&mut self, first: bool, body: &[u8], tally: &mut Tally) -> Result<(), Status> {
        let malformed = |broken: Malformed| Status::new(Code::Internal, broken.to_string());
        let State::Carried(source) = &mut self.state else { return Ok(()) };
        let said = first_bytes(body, 1).map_err(malformed)?;
        let reread = match self.method.rule {
            Rule::AccessLog { every_message } => every_message && said.is_some(),
            Rule::EbpfProfiling => said.is_some(),
            _ => false,
        };
        if first || reread {
            let said = said.unwrap_or_default();
            *source = match self.method.rule {
                Rule::EnvoyMetrics => names::of_node(bytes_at(said, &[1]).map_err(malformed)?.unwrap_or_default())
                    .map(|(service, instance)| self.memo.source(self.id, &service, instance, tally)),
                Rule::AccessLog { .. } => {
                    let node = bytes_at(said, &[1, 1]).map_err(malformed)?.unwrap_or_default();
                    Some(self.memo.source(self.id, node, b"", tally))
                }
                _ => {
                    let task = first_bytes(said, 1).map_err(malformed)?.unwrap_or_default();
                    Some(self.memo.source(self.id, task, b"", tally))
                }
            };
        }
        if self.method.rule == Rule::EbpfProfiling && !has_any(body, &[2, 3]) {
            return Err(Status::new(Code::Unknown, "the profiling data is neither on CPU nor off CPU"));
        }
        match *source {
            Some(source) => self.file(source, body, self.method.id, tally).map_err(malformed),
            None => {
                tally.discard(self.id, "no node", 1);
                Ok(())
            }
        }
    }

    fn ebpf(&mut self, first: bool, body: &[u8], tally: &mut Tally) -> Result<(), Malformed> {
        let State::Ebpf { node, source } = &mut self.state else { return Ok(()) };
        let said = first_bytes(body, 1)?;
        if first || said.is_some() {
            let name = first_bytes(said.unwrap_or_default(), 1)?.unwrap_or_default();
            name.clone_into(node);
        }
        if let Some(connection) = first_bytes(body, 2)? {
            let service = bytes_at(connection, &[1, 1, 1])?.unwrap_or_default();
            *source = Some(self.memo.source(self.id, node, service, tally));
        }
        match *source {
            Some(source) => self.file(source, body, self.method.id, tally),
            None => {
                tally.discard(self.id, "no connection", 1);
                Ok(())
            }
        }
    }

    fn otlp(&mut self, element: &[u8], tally: &mut Tally) -> Result<(), Malformed> {
        let (mut service, mut id) = (&b""[..], None);
        for attribute in elements(first_bytes(element, 1)?.unwrap_or_default(), 1) {
            let attribute = attribute?;
            match first_bytes(attribute, 1)? {
                Some(b"service.name") => service = bytes_at(attribute, &[2, 1])?.unwrap_or_default(),
                Some(b"switchyard.id") => id = bytes_at(attribute, &[2, 1])?,
                _ => {}
            }
        }
        let source = self.memo.source(self.id, service, b"", tally);
        tally.file(self.id, source, 1, element.len());
        if let Some(id) = id.filter(|_| tally.detail() == Detail::Ids) {
            tally.record(self.id, source, id);
        }
        Ok(())
    }
}

impl Memo {
    fn source(&mut self, method: MethodId, service: &[u8], instance: &[u8], tally: &mut Tally) -> SourceId {
        if let Some(id) = self.id {
            let known = self.name.split_at(self.service_bytes);
            if known.0 == service && known.1.strip_prefix(b"/").unwrap_or_default() == instance {
                return id;
            }
        }
        self.name.clear();
        self.name.extend_from_slice(service);
        self.service_bytes = service.len();
        if !instance.is_empty() {
            self.name.push(b'/');
            self.name.extend_from_slice(instance);
        }
        *self.id.insert(tally.source(method, &self.name))
    }
}

/// Every occurrence of length-delimited field `number`.
fn elements(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    fields(message).filter_map(move |field| match field {
        Ok(field::Field { number: n, value: Value::Bytes(bytes), .. }) if n == number => Some(Ok(bytes)),
        Ok(_) => None,
        Err(broken) => Some(Err(broken)),
    })
}

/// Where ids stand, if they are to be recorded at all.
fn id_path(method: &Method, tally: &Tally) -> Path {
    if tally.detail() == Detail::Ids { method.id } else { &[] }
}

fn has_any(message: &[u8], numbers: &[u32]) -> bool {
    fields(message).flatten().any(|field| numbers.contains(&field.number))
}

/// A framed message with one varint field, or an empty one.
fn framed_varint(number: u32, value: u64) -> Bytes {
    let mut body = BytesMut::new();
    if value > 0 {
        field::put_varint(&mut body, u64::from(number) << 3);
        field::put_varint(&mut body, value);
    }
    Run::of_body(&body).bytes().clone()
}
