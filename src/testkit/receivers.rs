//! How OAP reads each kind of stream: what it remembers from one message for the next, and under whose name it files them.
//!
//! PROTOCOLS.md section 1.2 names the handler behind each rule. A message that OAP would silently drop is counted as
//! discarded and its id is not recorded: for the checker it is lost, as it is for the user.

use bytes::Bytes;

use super::methods::{Method, MethodId, Path, Reply};
use super::tally::{Detail, Tally};
use crate::message::field::Malformed;
use crate::wire::grpc::{Code, Status};

mod alone;
mod carried;
mod clerk;
mod datasets;
mod names;
mod otlp;
mod reading;
mod replies;
#[cfg(test)]
mod tests;
mod upload;

use carried::{Identifier, LogService, NodeAndConnection, Task};
use clerk::{Clerk, Memo};
use datasets::{Chunks, MeterSet};
pub use otlp::Signal;
use upload::Upload;

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
    /// A batch of segments, each of which names its source.
    Segments,
    /// Metrics of a service mesh, each of which names both its ends.
    Mesh,
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
    Otlp(Signal),
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
    /// Reset, or the connection is lost.
    Broken,
    /// We ended it with an error, which the handler is not told.
    Closed,
}

/// The receiver of one call.
#[derive(Debug)]
pub struct Receiver {
    id: MethodId,
    method: &'static Method,
    memo: Memo,
    /// The one request of a unary call; its handler is called at the half-close.
    request: Option<Vec<u8>>,
    state: State,
}

/// What is remembered from one message for the next.
#[derive(Debug)]
enum State {
    Nothing,
    Logs(LogService),
    Meters(MeterSet),
    GoProfile(Chunks),
    Envoy(Identifier),
    EbpfProfiling(Task),
    EbpfAccessLog(NodeAndConnection),
    Upload(Upload),
}

/// Why a receiver ends the call.
#[derive(Debug)]
enum Thrown {
    Malformed(Malformed),
    Status(Status),
}

/// Digest of what a message says itself, without what its stream says once; `None` when that is nothing. A gateway that
/// does right does not change it.
pub fn own_words(id: MethodId, body: &[u8]) -> Option<u64> {
    let said_once: &[u32] = match id.method().rule {
        Rule::Logs => &[2],
        Rule::AccessLog { .. } | Rule::EnvoyMetrics | Rule::EbpfProfiling => &[1],
        Rule::EbpfAccessLog => &[1, 2],
        _ => &[],
    };
    reading::digest_of_rest(body, said_once).ok().flatten()
}

// === impl Receiver ===

impl Receiver {
    /// The receiver of a call that begins.
    pub fn new(id: MethodId) -> Self {
        let method = id.method();
        let state = match method.rule {
            Rule::Logs => State::Logs(LogService::default()),
            Rule::MeterStream => State::Meters(MeterSet::default()),
            Rule::GoProfile => State::GoProfile(Chunks::default()),
            Rule::AccessLog { .. } | Rule::EnvoyMetrics => State::Envoy(Identifier::default()),
            Rule::EbpfProfiling => State::EbpfProfiling(Task::default()),
            Rule::EbpfAccessLog => State::EbpfAccessLog(NodeAndConnection::default()),
            Rule::AsyncProfiler | Rule::Pprof => State::Upload(Upload::new(method.rule == Rule::Pprof)),
            _ => State::Nothing,
        };
        Self { id, method, memo: Memo::default(), request: None, state }
    }

    /// Whether messages have to be shown to the receiver at this level of detail.
    pub fn looks_at_messages(&self, detail: Detail) -> bool {
        let speaks = matches!(self.method.reply, Reply::Receiver | Reply::Command(_) | Reply::Processes);
        detail > Detail::Counts || speaks
    }

    /// Reads one message (without its prefix, decompressed). Answers the message to send back now, if any.
    ///
    /// # Errors
    /// The status that ends the call.
    pub fn message(&mut self, body: &[u8], tally: &mut Tally) -> Result<Option<Bytes>, Status> {
        reading::check(body).map_err(Thrown::from)?;
        if tally.detail() >= Detail::Items
            && let Some(own) = own_words(self.id, body)
        {
            tally.read_words(own);
        }
        if self.method.streams_in {
            return Ok(self.read(body, tally)?);
        }
        match self.request.replace(body.to_vec()) {
            None => Ok(None),
            Some(_) => Err(Status::new(Code::Internal, "Too many requests")),
        }
    }

    /// The call is over. Answers the message of a good answer, if it was half-closed.
    ///
    /// # Errors
    /// The status to answer instead, where a unary call's handler throws.
    pub fn end(&mut self, end: End, tally: &mut Tally) -> Result<Option<Bytes>, Status> {
        let request = self.request.take().filter(|_| end == End::Clean);
        if let Some(request) = &request
            && tally.detail() >= Detail::Sources
        {
            self.read(request, tally)?;
        }
        let state = std::mem::replace(&mut self.state, State::Nothing);
        let mut clerk = Clerk { id: self.id, memo: &mut self.memo, tally };
        match state {
            State::Meters(set) if end == End::Closed => set.discard(&mut clerk),
            State::Meters(set) => set.file(&mut clerk),
            State::GoProfile(chunks) => chunks.discard(&mut clerk),
            State::Upload(upload) => upload.end(end, &mut clerk),
            _ => {}
        }
        let reply = || replies::to(&request.unwrap_or_default(), self.method.reply);
        Ok(if end == End::Clean { reply() } else { None })
    }

    fn read(&mut self, body: &[u8], tally: &mut Tally) -> Result<Option<Bytes>, Thrown> {
        let mut clerk = Clerk { id: self.id, memo: &mut self.memo, tally };
        let clerk = &mut clerk;
        match (&mut self.state, self.method.rule) {
            (State::Logs(logs), _) => logs.message(body, clerk)?,
            (State::Meters(set), _) => set.message(body, clerk)?,
            (State::GoProfile(chunks), _) => chunks.message(body, clerk)?,
            (State::Envoy(envoy), Rule::AccessLog { every_message }) => {
                envoy.access_logs(every_message, body, clerk)?
            }
            (State::Envoy(envoy), _) => envoy.metrics(body, clerk)?,
            (State::EbpfProfiling(task), _) => task.message(body, clerk)?,
            (State::EbpfAccessLog(said), _) => said.message(body, clerk)?,
            (State::Upload(upload), _) => return upload.message(body, clerk),
            (State::Nothing, Rule::Each { service, instance }) => alone::each(body, service, instance, clerk)?,
            (State::Nothing, Rule::Segments) => alone::segments(body, clerk)?,
            (State::Nothing, Rule::Mesh) => alone::mesh(body, clerk)?,
            (State::Nothing, Rule::Events) => alone::event(body, clerk)?,
            (State::Nothing, Rule::MeterBatch) => MeterSet::batch(body, clerk)?,
            (State::Nothing, Rule::Otlp(signal)) => signal.request(body, clerk)?,
            (State::Nothing, _) => {}
        }
        Ok(None)
    }
}

// === impl Thrown ===

impl Thrown {
    fn status(code: Code, message: &str) -> Self {
        Thrown::Status(Status::new(code, message))
    }
}

impl From<Malformed> for Thrown {
    fn from(broken: Malformed) -> Self {
        Thrown::Malformed(broken)
    }
}

impl From<Thrown> for Status {
    fn from(thrown: Thrown) -> Self {
        match thrown {
            Thrown::Malformed(broken) => {
                Status::new(Code::Internal, format!("Invalid protobuf byte sequence: {broken}"))
            }
            Thrown::Status(status) => status,
        }
    }
}
