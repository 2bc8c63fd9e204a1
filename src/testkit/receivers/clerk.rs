//! Files what receivers have read: counts it under its source, records its id, attributes it.

use super::reading::digest_of_rest;
use crate::message::field::{Malformed, bytes_at};
use crate::testkit::attribution::item_name;
use crate::testkit::methods::{Method, MethodId, Path};
use crate::testkit::tally::{Detail, SourceId, Tally};

/// Files on behalf of one call.
pub(super) struct Clerk<'a> {
    pub(super) id: MethodId,
    pub(super) memo: &'a mut Memo,
    pub(super) tally: &'a mut Tally,
}

/// The source of a call's last message: looking it up again would cost more than comparing its name.
#[derive(Debug, Default)]
pub(super) struct Memo {
    name: Vec<u8>,
    /// Bytes of the service in `name`.
    service_bytes: usize,
    id: Option<SourceId>,
}

impl Clerk<'_> {
    pub(super) fn method(&self) -> &'static Method {
        self.id.method()
    }

    /// Whether anything but messages is counted.
    pub(super) fn files(&self) -> bool {
        self.tally.detail() >= Detail::Sources
    }

    /// Whether ids are recorded.
    pub(super) fn records(&self) -> bool {
        self.tally.detail() >= Detail::Ids
    }

    /// Whether every item is attributed.
    pub(super) fn attributes(&self) -> bool {
        self.tally.detail() >= Detail::Items
    }

    /// The source called `service/instance`, or `service` when there is no instance.
    pub(super) fn source(&mut self, service: &[u8], instance: &[u8]) -> SourceId {
        if let Some(id) = self.memo.id {
            let known = self.memo.name.split_at(self.memo.service_bytes);
            if known.0 == service && known.1.strip_prefix(b"/").unwrap_or_default() == instance {
                return id;
            }
        }
        self.memo.name.clear();
        self.memo.name.extend_from_slice(service);
        self.memo.service_bytes = service.len();
        if !instance.is_empty() {
            self.memo.name.push(b'/');
            self.memo.name.extend_from_slice(instance);
        }
        *self.memo.id.insert(self.tally.source(self.id, &self.memo.name))
    }

    /// Counts under a source.
    pub(super) fn count(&mut self, source: SourceId, messages: u64, bytes: usize) {
        self.tally.file(self.id, source, messages, bytes);
    }

    /// Counts what OAP would drop without a word.
    pub(super) fn discard(&mut self, reason: &'static str, messages: u64) {
        self.tally.discard(self.id, reason, messages);
    }

    /// Records the id that stands at `path`.
    pub(super) fn record(&mut self, source: SourceId, message: &[u8], path: Path) -> Result<(), Malformed> {
        if self.records()
            && !path.is_empty()
            && let Some(id) = bytes_at(message, path)?
        {
            self.tally.record(self.id, source, id);
        }
        Ok(())
    }

    /// Attributes an item.
    pub(super) fn attribute(&mut self, source: SourceId, context: u64, id: &[u8], digest: u64) {
        self.tally.attribute(self.id, source, context, item_name(id, digest));
    }

    /// Counts and records a message. It is also the item, but for the fields in `carried`, which are what the receiver
    /// takes from elsewhere and has digested into `context`; a message that says nothing else is none.
    pub(super) fn file(
        &mut self,
        source: SourceId,
        context: u64,
        message: &[u8],
        carried: &[u32],
    ) -> Result<(), Malformed> {
        let id = self.method().id;
        self.count(source, 1, message.len());
        self.record(source, message, id)?;
        if self.attributes()
            && let Some(digest) = digest_of_rest(message, carried)?
        {
            self.attribute(source, context, id_at(message, id), digest);
        }
        Ok(())
    }
}

/// The id at a path, for people to read; empty when it is not there.
pub(super) fn id_at(message: &[u8], path: Path) -> &[u8] {
    let id = if path.is_empty() { None } else { bytes_at(message, path).ok().flatten() };
    id.unwrap_or_default()
}
