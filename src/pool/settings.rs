//! What an operator decides about one pool.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::wire::grpc::AUTHENTICATION;
use crate::wire::tls::ClientTls;

use super::found::Found;

/// What an operator decides about one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The operator's word for it; a metric label.
    pub name: String,
    /// The backends the operator named; no two of a name. Those that a source finds come later.
    pub backends: Vec<Found>,
    /// Who of the backends gets the next parcel.
    pub balance: Policy,
    /// When a trip ends and how long its answer may take.
    pub trip: TripSettings,
    /// How long a worker may let messages gather before it looks at its sockets again; zero looks at once.
    pub linger: Duration,
    /// Bytes one backend may hold unanswered, over all workers; a backend at its bound is passed over.
    pub in_flight_bytes_max: usize,
    /// Messages one backend may hold unanswered, over all workers; `None`: as many as the bytes allow.
    pub in_flight_messages_max: Option<usize>,
    /// Bytes of one message its backends take; batches that are larger are cut to fit. `None`: whatever we take.
    pub message_bytes_max: Option<usize>,
    /// HTTP/2 connections one worker may open to one backend for one flow when the peer limits its streams.
    pub channels_max: usize,
    /// Age at which a connection is replaced by another, give or take 10 %; `None`: never.
    pub channel_age_max: Option<Duration>,
    /// Failed trips in a row after which a backend is ejected.
    pub eject_after: u32,
    /// Time to open a connection, HTTP/2 handshake included.
    pub connect_deadline: Duration,
    /// The token its backends want, said instead of the callers' own.
    pub authentication: Option<HeaderValue>,
    /// How its backends' certificates are looked at, and ours shown; `None`: TLS is not spoken.
    pub tls: Option<Arc<ClientTls>>,
}

/// Where a backend listens. Its text is `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// A DNS name or an IP address (IPv6 without brackets).
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Who gets the next parcel. Contracts that need the same backend for the same key use `Hash` whatever is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The better of two backends drawn at random, by bytes that wait and bytes sent lately.
    #[default]
    LeastLoad,
    /// Each in turn.
    RoundRobin,
    /// By the message's key (a trace's id, a log's service, an Envoy's node), the same on every replica; without a key
    /// as `LeastLoad`.
    Hash,
}

/// When a trip ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TripSettings {
    /// Messages after which it is half-closed.
    pub messages_max: u32,
    /// Bytes after which it is half-closed.
    pub bytes_max: usize,
    /// Age at which it is half-closed.
    pub age_max: Duration,
    /// Time its answer may take before the backend counts as late and gets no new messages.
    pub answer_deadline: Duration,
    /// Time its answer may take before its messages are given to another backend.
    pub hard_deadline: Duration,
}

impl Settings {
    /// A pool of these backends with everything else at its default.
    pub fn new(name: impl Into<String>, endpoints: Vec<Endpoint>) -> Self {
        Self {
            name: name.into(),
            backends: endpoints.into_iter().map(Found::at).collect(),
            balance: Policy::default(),
            trip: TripSettings::default(),
            linger: Duration::from_millis(1),
            in_flight_bytes_max: 64 << 20,
            message_bytes_max: None,
            in_flight_messages_max: None,
            channels_max: 8,
            channel_age_max: None,
            eject_after: 3,
            connect_deadline: Duration::from_secs(3),
            authentication: None,
            tls: None,
        }
    }
}

impl Settings {
    /// Says the backends' own token, if they have one.
    pub fn authenticate(&self, metadata: &mut HeaderMap) {
        if let Some(token) = &self.authentication {
            metadata.insert(AUTHENTICATION, token.clone());
        }
    }
}

impl Default for TripSettings {
    fn default() -> Self {
        Self {
            messages_max: 4_096,
            bytes_max: 1 << 20,
            age_max: Duration::from_secs(1),
            answer_deadline: Duration::from_secs(2),
            hard_deadline: Duration::from_secs(30),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}
