//! The receivers of async-profiler's and pprof's uploads: a hand-shake, then one file (PROTOCOLS 1.2.7).

use bytes::{Bytes, BytesMut};

use super::clerk::Clerk;
use super::reading::{has, number, part, text};
use super::{End, Thrown};
use crate::message::field::{Malformed, put_varint};
use crate::message::run::Run;
use crate::testkit::attribution::digest;
use crate::wire::grpc::Code;

/// One upload.
#[derive(Debug)]
pub(super) struct Upload {
    is_pprof: bool,
    /// Set by the first metadata; later ones are not looked at.
    metadata: Option<Metadata>,
    /// What was announced; `None` unless the client was told to go on.
    file: Option<Announced>,
    messages: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Metadata {
    service: Vec<u8>,
    instance: Vec<u8>,
    digest: u64,
}

#[derive(Debug)]
struct Announced {
    bytes_left: usize,
    content: Vec<u8>,
}

/// OAP's default for both kinds.
const UPLOAD_BYTES_MAX: i32 = 31_457_280;
const METADATA: u32 = 1;
const CONTENT: u32 = 3;

/// Both enums have the same numbers.
const SUCCESS: u64 = 0;
const TASK_ERROR: u64 = 1;
const OVERSIZE: u64 = 2;

// === impl Upload ===

impl Upload {
    pub(super) fn new(is_pprof: bool) -> Self {
        Self { is_pprof, metadata: None, file: None, messages: 0, bytes: 0 }
    }

    /// Answers the framed reply to metadata.
    pub(super) fn message(&mut self, body: &[u8], clerk: &mut Clerk<'_>) -> Result<Option<Bytes>, Thrown> {
        self.messages += 1;
        self.bytes += body.len();
        if let (None, Some(metadata)) = (&self.metadata, part(body, METADATA)?) {
            return self.begin(&metadata, clerk);
        }
        if !has(body, &[CONTENT]) {
            return Ok(None);
        }
        match &mut self.file {
            Some(file) => {
                let content = text(body, CONTENT)?;
                let left = file.bytes_left.checked_sub(content.len());
                file.bytes_left = left.ok_or_else(|| Thrown::status(Code::Unknown, "more content than announced"))?;
                if clerk.attributes() {
                    file.content.extend_from_slice(content);
                }
                Ok(None)
            }
            None if self.is_pprof => Ok(None),
            None => Err(Thrown::status(Code::Unknown, "content before metadata")),
        }
    }

    fn begin(&mut self, said: &[u8], clerk: &mut Clerk<'_>) -> Result<Option<Bytes>, Thrown> {
        let metadata = Metadata::read(said)?;
        let (kind, announced) = (number(said, 4)?, number(said, 5)? as i32);
        let reply = match kind {
            SUCCESS if announced > UPLOAD_BYTES_MAX => Some(OVERSIZE),
            SUCCESS => {
                let bytes_left = usize::try_from(announced)
                    .map_err(|_| Thrown::status(Code::Unknown, "a file of less than no bytes"))?;
                self.file = Some(Announced { bytes_left, content: Vec::new() });
                Some(SUCCESS)
            }
            // async-profiler says nothing here: its client half-closes at once.
            _ => self.is_pprof.then_some(TASK_ERROR),
        };
        if self.file.is_none() {
            // A line in the task's log, written at once.
            metadata.file(b"error report", &[], (1, self.bytes), clerk);
        }
        self.metadata = Some(metadata);
        Ok(reply.map(|status| framed_varint(1, status)))
    }

    /// The call is over; only a half-close makes a profile of what was uploaded.
    pub(super) fn end(self, end: End, clerk: &mut Clerk<'_>) {
        match (self.metadata, self.file) {
            (Some(metadata), Some(file)) if end == End::Clean => {
                let name = format!("profile of {} bytes, {} missing", file.content.len(), file.bytes_left);
                metadata.file(name.as_bytes(), &file.content, (self.messages, self.bytes), clerk);
            }
            (Some(_), None) => {}
            _ if clerk.files() => clerk.discard("unfinished upload", self.messages),
            _ => {}
        }
    }
}

impl Metadata {
    fn read(said: &[u8]) -> Result<Self, Malformed> {
        Ok(Self { service: text(said, 1)?.to_vec(), instance: text(said, 2)?.to_vec(), digest: digest([said]) })
    }

    fn file(&self, name: &[u8], content: &[u8], (messages, bytes): (u64, usize), clerk: &mut Clerk<'_>) {
        if !clerk.files() {
            return;
        }
        let source = clerk.source(&self.service, &self.instance);
        clerk.count(source, messages, bytes);
        if clerk.attributes() {
            clerk.attribute(source, self.digest, name, digest([content]));
        }
    }
}

/// A framed message with one varint field, or an empty one.
fn framed_varint(number: u32, value: u64) -> Bytes {
    let mut body = BytesMut::new();
    if value > 0 {
        put_varint(&mut body, u64::from(number) << 3);
        put_varint(&mut body, value);
    }
    Run::of_body(&body).bytes().clone()
}
