//! The receivers that take from earlier messages of the stream what a message does not say: logs, Envoy, eBPF.

use super::clerk::{Clerk, id_at};
use super::reading::{digest_of_rest, elements, has, one_of, part, text, text_at};
use super::{Thrown, names};
use crate::message::field::Malformed;
use crate::testkit::attribution::digest;
use crate::testkit::tally::SourceId;
use crate::wire::grpc::Code;

/// The first service of a log stream (PROTOCOLS 1.2.1).
#[derive(Debug, Default)]
pub(super) struct LogService(Vec<u8>);

/// Who Envoy says it is, for access logs and metrics (PROTOCOLS 1.2.3).
#[derive(Debug, Default)]
pub(super) struct Identifier {
    /// As it was said; `None` before the first message.
    said: Option<Vec<u8>>,
    /// Digest of `said`.
    context: u64,
    /// `None`: it names nobody.
    source: Option<SourceId>,
}

/// The profiling task in force (PROTOCOLS 1.2.5).
#[derive(Debug, Default)]
pub(super) struct Task(Option<Said>);

/// Node and connection in force (PROTOCOLS 1.2.4).
#[derive(Debug, Default)]
pub(super) struct NodeAndConnection {
    /// `None` before the first message.
    node: Option<Vec<u8>>,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Said {
    context: u64,
    source: SourceId,
}

/// A connection, with the node that was in force when it was said.
#[derive(Debug)]
struct Connection {
    node: Vec<u8>,
    said: Vec<u8>,
    /// Whether it has an address at either end. OAP drops a little more, but for that it asks its cluster's registry.
    is_valid: bool,
    source: SourceId,
}

/// A `LogData` says it itself or inherits it.
const LOG_SERVICE: u32 = 2;
const IDENTIFIER: u32 = 1;
const HTTP_LOGS: u32 = 2;
const TCP_LOGS: u32 = 3;
const TASK: u32 = 1;
const NODE: u32 = 1;
const CONNECTION: u32 = 2;

// === impl LogService ===

impl LogService {
    pub(super) fn message(&mut self, body: &[u8], clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
        if self.0.is_empty() {
            text(body, LOG_SERVICE)?.clone_into(&mut self.0);
        }
        if self.0.is_empty() {
            clerk.discard("no service", 1);
            return Ok(());
        }
        let source = clerk.source(&self.0, text(body, 3)?);
        clerk.file(source, 0, body, &[LOG_SERVICE])
    }
}

// === impl Identifier ===

impl Identifier {
    /// One message of an access log stream. `every_message`: Satellite's service reads later identifiers, too.
    pub(super) fn access_logs(
        &mut self,
        every_message: bool,
        body: &[u8],
        clerk: &mut Clerk<'_>,
    ) -> Result<(), Malformed> {
        let said = part(body, IDENTIFIER)?;
        if self.said.is_none() || (every_message && said.is_some()) {
            let said = said.unwrap_or_default().into_owned();
            self.source = Some(clerk.source(&text_at(&said, &[1, 1])?, b""));
            self.learn(said);
        }
        let Some(source) = self.source else { return Ok(()) };
        clerk.count(source, 1, body.len());
        clerk.record(source, body, clerk.method().id)?;
        if clerk.attributes() { self.entries(source, body, clerk) } else { Ok(()) }
    }

    /// Each entry is an item. What else the message says belongs to all of them.
    fn entries(&self, source: SourceId, body: &[u8], clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
        let Some((kind, logs)) = one_of(body, &[HTTP_LOGS, TCP_LOGS])? else { return Ok(()) };
        let around = digest_of_rest(body, &[IDENTIFIER, HTTP_LOGS, TCP_LOGS])?.unwrap_or(0).to_le_bytes();
        for entry in elements(&logs, 1) {
            let entry = entry?;
            let digest = digest([&[kind as u8][..], &around, entry]);
            clerk.attribute(source, self.context, id_at(entry, &[3, 9]), digest);
        }
        Ok(())
    }

    /// One message of a metrics stream: it is evaluated as a whole.
    pub(super) fn metrics(&mut self, body: &[u8], clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
        if self.said.is_none() {
            let said = part(body, IDENTIFIER)?.unwrap_or_default().into_owned();
            let node = part(&said, 1)?.unwrap_or_default();
            self.source = names::of_node(&node).map(|(service, instance)| clerk.source(&service, &instance));
            self.learn(said);
        }
        match self.source {
            Some(source) => clerk.file(source, self.context, body, &[IDENTIFIER]),
            None => {
                clerk.discard("no node", 1);
                Ok(())
            }
        }
    }

    fn learn(&mut self, said: Vec<u8>) {
        self.context = digest([&said[..]]);
        self.said = Some(said);
    }
}

// === impl Task ===

impl Task {
    pub(super) fn message(&mut self, body: &[u8], clerk: &mut Clerk<'_>) -> Result<(), Thrown> {
        let said = part(body, TASK)?;
        if self.0.is_none() || said.is_some() {
            let said = said.unwrap_or_default();
            let source = clerk.source(text(&said, 1)?, b"");
            self.0 = Some(Said { context: digest([&said[..]]), source });
        }
        if !has(body, &[2, 3]) {
            return Err(Thrown::status(Code::Unknown, "the profiling data not set"));
        }
        match &self.0 {
            Some(task) => Ok(clerk.file(task.source, task.context, body, &[TASK])?),
            None => Ok(()),
        }
    }
}

// === impl NodeAndConnection ===

impl NodeAndConnection {
    pub(super) fn message(&mut self, body: &[u8], clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
        let said = part(body, NODE)?;
        if self.node.is_none() || said.is_some() {
            self.node = Some(said.unwrap_or_default().into_owned());
        }
        let node = self.node.as_deref().unwrap_or_default();
        if let Some(said) = part(body, CONNECTION)? {
            self.connection = Some(Connection::of(node, &said, clerk)?);
        }
        match &self.connection {
            Some(connection) if connection.is_valid => {
                // Times and interfaces are read by the node in force now, names by the connection's own.
                let context = digest([node, &connection.node, &connection.said]);
                clerk.file(connection.source, context, body, &[NODE, CONNECTION])
            }
            _ => {
                clerk.discard("no connection", 1);
                Ok(())
            }
        }
    }
}

impl Connection {
    fn of(node: &[u8], said: &[u8], clerk: &mut Clerk<'_>) -> Result<Self, Malformed> {
        let (mut is_valid, mut name) = (false, Vec::new());
        for end in [1, 2] {
            let Some(address) = part(said, end)? else { continue };
            let Some((_, address)) = one_of(&address, &[1, 2])? else { continue };
            // The local process names the source; a connection known by its remote end alone is called after that.
            if !is_valid {
                text(&address, 1)?.clone_into(&mut name);
            }
            is_valid = true;
        }
        let source = clerk.source(text(node, 1)?, &name);
        Ok(Self { node: node.to_vec(), said: said.to_vec(), is_valid, source })
    }
}
