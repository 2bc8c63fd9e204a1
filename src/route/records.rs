//! Taking apart the batches of OTLP exporters, so that all that has one key meets one backend, and putting answers together.
//!
//! An Export request is three wrappers deep: the request, its `Resource*` elements, their `Scope*` elements, and in
//! those the items (PROTOCOLS 2.4). [`Plan::draw`] reads tags and says which item belongs into which piece;
//! [`Plan::cut`] copies ranges of the request and repeats around each group what its wrappers say beside it: resource,
//! scope, both schema URLs and every field this version does not know. Nothing is decoded. Wrappers of different
//! senders never become one, and order stays within each piece.
//!
//! What has no key of its own (a log without a trace, a scope without items) goes by its resource.

pub mod answer;
mod cut;
mod plan;
mod resource;
#[cfg(test)]
mod tests;

use crate::message::field::Malformed;

pub use cut::Piece;
pub use plan::{CutError, Limits, Plan, Shape};
pub use resource::Resource;

use super::contract::Wish;
use super::rule::Rule;

/// The contract of a method whose one message is a batch that may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Records {
    /// What its items are.
    pub signal: Signal,
    /// What decides where they go; `None` leaves it to the pool, request by request.
    pub key: Option<RecordKey>,
}

/// What the items of a batch are; decides how deep it may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans: each may stand alone with its wrappers.
    Traces,
    /// Metrics: a `ResourceMetrics` is one set and never cut (PROTOCOLS 1.2.9).
    Metrics,
    /// Log records: each may stand alone with its wrappers.
    Logs,
}

/// What decides where an item goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKey {
    /// Its trace, for collectors that sample whole traces. Metrics have none and go by their resource.
    TraceId,
    /// The name of its service, for collectors that sum up by service.
    Service,
    /// Who sent it, for collectors that compute rates.
    Resource,
}

/// Where a `Resource*` element goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// All of it to the bucket that owns this key.
    Key(u64),
    /// All of it to this bucket. Buckets are counted from 0.
    Bucket(usize),
    /// Each item by its trace.
    ByItem,
    /// Nowhere.
    Drop,
}

// === impl Records ===

impl Records {
    /// A batch any backend may take.
    pub const fn of(signal: Signal) -> Self {
        Self { signal, key: None }
    }

    /// A batch of which each resource keeps meeting one backend.
    pub const fn by_resource(signal: Signal) -> Self {
        Self { key: Some(RecordKey::Resource), ..Self::of(signal) }
    }

    /// The same contract with a key in any case, for a pool that hashes: a trace stays together, a sender's logs do.
    pub fn hashed(self) -> Self {
        let usual = match self.signal {
            Signal::Traces => RecordKey::TraceId,
            Signal::Metrics | Signal::Logs => RecordKey::Resource,
        };
        Self { key: self.key.or(Some(usual)), ..self }
    }

    /// The same contract with the key that counts under a rule: the rule's own, or the contract's, or, where the rule's
    /// pool hashes, the usual one.
    pub fn under(self, rule: &Rule, wishes: &[Wish]) -> Self {
        match rule.record_key {
            Some(key) => Self { key: Some(key), ..self },
            None if wishes.get(rule.pool) == Some(&Wish::Hash) => self.hashed(),
            None => self,
        }
    }

    /// Where an element goes by the key alone; without one everything is one bucket.
    ///
    /// # Errors
    /// When the attributes that have to be read do not parse.
    pub fn place(&self, resource: &Resource<'_>) -> Result<Place, Malformed> {
        match self.key {
            None => Ok(Place::Bucket(0)),
            Some(RecordKey::TraceId) => Ok(Place::ByItem),
            Some(RecordKey::Service) => resource.service_key().map(Place::Key),
            Some(RecordKey::Resource) => resource.key().map(Place::Key),
        }
    }
}

// === impl Signal ===

impl Signal {
    /// The field of an item that holds its trace id; `None` where items are not cut apart.
    fn trace_field(self) -> Option<u32> {
        match self {
            Signal::Traces => Some(1),
            Signal::Metrics => None,
            Signal::Logs => Some(9),
        }
    }
}
