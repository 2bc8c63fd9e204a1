//! How a call may be taken apart: the promise a receiver's source makes about its method.

use crate::message::parcel::StandIn;
use crate::message::path::FieldPath;
use crate::message::tie::Tie;

use super::records::Records;
use super::rule::Rule;

/// The contract of one method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// How far the call comes apart.
    pub split: Split,
    /// What decides the backend; `None` leaves it to the pool.
    pub key: Option<Key>,
    /// Whether equal keys must meet one backend. If not, the key counts only where the operator asks for hashing.
    pub sticky: bool,
    /// Whether messages of equal keys must arrive in the order they were sent: they share a backend and a lane.
    pub ordered: bool,
    /// Who answers the call.
    pub reply: Replier,
    /// Whether messages that a backend may have acted on may be said again.
    pub replay: Replay,
    /// Whether a receiver processes what came before a reset as if the caller had half-closed; then it is said so. Else a
    /// reset stays a reset: turned into a half-close, a truncated upload would be taken for a whole one.
    pub flushes: bool,
    /// What a message must have: without any one of the fields of each group its receiver would end the whole call.
    pub needs: Vec<Need>,
    /// What a backend that does not serve the method is sent instead.
    pub stand_in: Option<StandIn>,
}

/// How far a call comes apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Split {
    /// Messages need nothing from their neighbours.
    Each,
    /// Something is said once per stream and must be said again on another stream.
    Carry(Carry),
    /// A run of messages up to one in which this field is set is one data set; nothing may come between.
    Sets {
        /// The boolean field of a set's last message.
        last: u32,
        /// The field that names the set: a message that names another begins another.
        name: u32,
    },
    /// The elements of this repeated field are messages of another method.
    Elements {
        /// The repeated field.
        field: u32,
        /// The method whose messages they are.
        path: &'static str,
    },
    /// A unary request whose records may go to different backends; the answers are merged.
    Records(Records),
    /// The whole call is one data set and stays on one outbound call.
    Whole,
    /// Request and answer pass through: the answer has content the caller acts on.
    Relay,
}

/// What a stream says once. How the receiver reads it decides how it is said again elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carry {
    /// The fields, in the order in which later ones depend on earlier ones: a change of one says those behind it anew.
    pub fields: Vec<u32>,
    /// How the receiver reads them.
    pub mode: CarryMode,
}

/// How a receiver reads what is said once per stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarryMode {
    /// One text; its first non-empty value holds for the stream and overrides later ones (OAP
    /// `LogReportServiceGrpcHandler`).
    FirstNonEmpty,
    /// Read from the first message, present or not, and never again (OAP `AccessLogServiceGRPCHandler`,
    /// `MetricServiceGRPCHandler`).
    FirstMessage,
    /// Read whenever present; absent, what was read last holds (OAP `AccessLogServiceHandler` and others).
    Latest,
}

/// What decides the backend of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The values at these places of the message, what it carries filled in. Where none is there: the carried fields
    /// as a whole, or no key.
    Fields(Vec<FieldPath>),
    /// The last non-empty values at these places over the elements of a repeated field: what OAP's `MeterProcessor`
    /// files a `MeterDataCollection` under.
    LastOfElements {
        /// The repeated field.
        field: u32,
        /// Places within an element.
        paths: Vec<FieldPath>,
    },
}

/// What a pool wants keys for that neither contract nor rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// Nothing: what may go anywhere goes anywhere.
    #[default]
    Nothing,
    /// To hash them.
    Hash,
    /// To keep them at the backend that had them before.
    Affinity,
}

/// Fields of which a message must have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Any of these; a text must not be empty.
    pub any_of: Vec<u32>,
    /// What is wrong without, as its caller is told.
    pub complaint: &'static str,
}

/// Who answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replier {
    /// The answer is empty whatever happens (PROTOCOLS "ACK-ONLY"), so the gateway may give it.
    Gateway,
    /// The backend's answer is what the caller waits for (PROTOCOLS "SYNC").
    Backend,
}

/// When messages that a backend may have acted on may be said again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Always, while all that was sent is still in memory and nothing was answered.
    Always,
    /// Only when the backend has provably not looked at them.
    NotProcessed,
}

// === impl Contract ===

impl Contract {
    /// A contract of this split and nothing else: no key, answered by the gateway where it may, replayed if need be.
    pub fn of(split: Split) -> Self {
        let is_relay = matches!(split, Split::Relay);
        Self {
            reply: match split {
                Split::Relay | Split::Records(_) => Replier::Backend,
                _ => Replier::Gateway,
            },
            replay: if is_relay { Replay::NotProcessed } else { Replay::Always },
            split,
            key: None,
            sticky: false,
            ordered: false,
            flushes: false,
            needs: Vec::new(),
            stand_in: None,
        }
    }

    /// A call passed through whole, said twice only when that is provably safe.
    pub fn relay() -> Self {
        Self::of(Split::Relay)
    }

    /// The key that counts under a rule: the rule's own, or the contract's where it is sticky or the rule's pool wants it.
    /// `wishes` says that of each pool.
    pub fn key_under<'a>(&'a self, rule: &'a Rule, wishes: &[Wish]) -> Option<&'a Key> {
        let is_wanted = self.sticky || wishes.get(rule.pool).is_some_and(|wish| *wish != Wish::Nothing);
        rule.key.as_ref().or_else(|| self.key.as_ref().filter(|_| is_wanted))
    }

    /// How a key that counts under a rule ties messages to a backend.
    pub fn tie_under(&self, rule: &Rule, wishes: &[Wish], key: u64) -> Tie {
        match wishes.get(rule.pool) {
            _ if self.sticky => Tie::Sticky(key),
            Some(Wish::Affinity) => Tie::Affine(key),
            _ if rule.key.is_some() => Tie::Sticky(key),
            Some(Wish::Hash | Wish::Nothing) | None => Tie::Hashed(key),
        }
    }

    /// Whether the call is kept on one outbound call.
    pub fn is_kept_whole(&self) -> bool {
        matches!(self.split, Split::Whole | Split::Relay)
    }
}

impl Split {
    /// The word for it in config, catalogue and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Split::Each => "each",
            Split::Carry(_) => "carry",
            Split::Sets { .. } => "sets",
            Split::Elements { .. } | Split::Records(_) => "records",
            Split::Whole => "whole",
            Split::Relay => "relay",
        }
    }
}

impl CarryMode {
    /// The word for it in config and catalogue.
    pub fn name(self) -> &'static str {
        match self {
            CarryMode::FirstNonEmpty => "first_non_empty",
            CarryMode::FirstMessage => "first_message",
            CarryMode::Latest => "latest",
        }
    }
}
