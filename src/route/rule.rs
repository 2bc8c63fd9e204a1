//! Content rules: what the operator wants done with messages beyond what their contract asks for. First match wins.
//!
//! A rule is compiled for each method: what depends on the method alone is decided when the plan is made, what depends
//! on the call (its listener, its metadata) when the call begins, and only what is left is asked of each message.

pub mod decide;
pub mod glob;
mod limit;
mod share;

use std::sync::{Arc, OnceLock};

use http::HeaderName;
use memchr::memmem::Finder;

use crate::message::path::FieldPath;
use crate::metrics::{self, LostReason, RouteOutcome};

use super::contract::Key;
use super::records::RecordKey;
pub use limit::{Limit, Rate};

/// One rule as it stands for one method.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The operator's word for it, or its place in the list (`routes[2]`); a metric label.
    pub name: Arc<str>,
    /// Which messages it is for.
    pub test: Test,
    /// What becomes of them.
    pub action: Action,
    /// The pool they go to, by its place in the plan.
    pub pool: usize,
    /// What decides the backend instead of the contract's own key; equal keys then meet one backend.
    pub key: Option<Key>,
    /// What keeps the records of a request together instead of the contract's own key; for methods that are cut into
    /// records, which have no [`Rule::key`].
    pub record_key: Option<RecordKey>,
    /// A share of them goes to another pool, too.
    pub mirror: Option<Mirror>,
    /// How many of them may pass.
    pub limit: Option<Limit>,
    /// What becomes of messages that do not parse.
    pub malformed: Malformed,
    /// Metric handles, resolved when the first message is counted: a plan is made before anything counts.
    pub counts: OnceLock<metrics::Route>,
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is delivered.
    Send,
    /// It is dropped, for this reason.
    Drop {
        /// The operator's word; a metric label.
        reason: Arc<str>,
    },
    /// Only this share is delivered.
    Sample(Share),
}

/// A share of messages, chosen by a key, so that replicas and restarts choose the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Keys below this are in it: the share times 2^64, the whole of them at `u64::MAX`.
    pub below: u64,
    /// What is hashed; empty: the message itself.
    pub by: Vec<FieldPath>,
}

/// A share of messages that goes to another pool as well. Copies never hold anything up: what that pool cannot take at
/// once is not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The other pool, by its place in the plan.
    pub pool: usize,
    /// How much of it.
    pub share: Share,
}

/// What becomes of a message that does not parse where something of it must be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Malformed {
    /// It is refused alone and counted as `lost{reason="malformed"}`.
    #[default]
    Refuse,
    /// It goes wherever what could be read of it leads.
    Pass,
}

/// A condition.
#[derive(Debug, Clone)]
pub enum Test {
    /// Holds.
    Always,
    /// Does not.
    Never,
    /// The call came to the listener of this name.
    Listener(Arc<str>),
    /// The call's metadata has this.
    Metadata(HeaderName, Match),
    /// The message has this, what it carries filled in; any element of repeated fields will do.
    Field(FieldPath, Match),
    /// All of these hold.
    All(Vec<Test>),
    /// One of these holds.
    Any(Vec<Test>),
    /// This does not hold.
    Not(Box<Test>),
}

/// What a value is compared with. Texts are compared byte by byte.
#[derive(Debug, Clone)]
pub enum Match {
    /// It is there; a text is not empty.
    Present,
    /// It is this text.
    Equals(Box<[u8]>),
    /// It begins with this.
    Prefix(Box<[u8]>),
    /// It ends with this.
    Suffix(Box<[u8]>),
    /// It has this in it.
    Contains(Box<Finder<'static>>),
    /// It matches this pattern: a glob or a regular expression. Shared, for its memory is large.
    Pattern(Arc<regex::bytes::Regex>),
    /// It is one of these texts.
    OneOf(Vec<Box<[u8]>>),
    /// It is one of these numbers (integers, booleans, enums; negative ones as their 64-bit two's complement).
    Numbers(Vec<u64>),
    /// It is what any of these want.
    AnyOf(Vec<Match>),
}

// === impl Rule ===

impl Rule {
    /// The rule for what no other is for: it goes to the first pool as its contract says.
    pub fn for_the_rest() -> Arc<Self> {
        Arc::new(Self {
            name: Arc::from("default"),
            test: Test::Always,
            action: Action::Send,
            pool: 0,
            key: None,
            record_key: None,
            mirror: None,
            limit: None,
            malformed: Malformed::default(),
            counts: OnceLock::new(),
        })
    }

    /// Counts what became of messages under this rule, once a run: they were sent, or `stopped` for this reason.
    pub fn count(&self, stopped: Option<LostReason>, messages: u32) {
        let counts = self.counts.get_or_init(|| {
            let reason = if let Action::Drop { reason } = &self.action { Some(&**reason) } else { None };
            metrics::Route::of(&self.name, reason)
        });
        let outcome = match stopped {
            None => RouteOutcome::Sent,
            Some(LostReason::Sampled) => RouteOutcome::Sampled,
            Some(LostReason::Limited) => RouteOutcome::Limited,
            Some(_) => RouteOutcome::Dropped,
        };
        counts.count(outcome, messages);
    }

    /// Whether it sends everything on and counts nothing.
    pub fn only_sends(&self) -> bool {
        self.action == Action::Send && !self.asks_each()
    }

    /// Whether it has to look at each message, or count it.
    pub fn asks_each(&self) -> bool {
        matches!(self.action, Action::Sample(_)) || self.mirror.is_some() || self.limit.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_messages_is_counted_by_route_and_reason() {
        // Rules of one route for different methods count as one.
        let rest = || Arc::into_inner(Rule::for_the_rest()).unwrap();
        let action = Action::Drop { reason: Arc::from("nobody reads it") };
        let dropping = Rule { name: Arc::from("counted"), action, ..rest() };
        let sending = Rule { name: Arc::from("counted"), ..rest() };
        let prometheus = metrics::install();
        dropping.count(Some(LostReason::Dropped), 3);
        sending.count(None, 5);
        dropping.count(Some(LostReason::Dropped), 4);
        let text = prometheus.render();
        for line in [
            "switchyard_route_messages_total{route=\"counted\",outcome=\"dropped\"} 7",
            "switchyard_route_messages_total{route=\"counted\",outcome=\"sent\"} 5",
            "switchyard_route_messages_total{route=\"counted\",outcome=\"limited\"} 0",
            "switchyard_route_dropped_messages_total{route=\"counted\",reason=\"nobody reads it\"} 7",
        ] {
            assert!(text.lines().any(|counted| counted == line), "{line}");
        }
    }
}
