//! What an operator decides about listeners, and what any one peer may ask of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::message::flow::Flow;
use crate::wire::tls::ServerTls;

/// Every listener there can be: its name, and the only flow it serves if there is one.
pub const LISTENERS: [(&str, Option<Flow>); 3] =
    [("agents", None), ("access_logs", Some(Flow::AccessLogs)), ("metrics", Some(Flow::Metrics))];

/// One port agents connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The operator's word for it (`agents`, `access_logs`, `metrics`); a metric label.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    /// The only flow it serves; `None` serves every flow.
    pub only: Option<Flow>,
    /// Connections open at once on this listener; more wait in the kernel's backlog.
    pub connections_max: usize,
    /// How its certificate is shown and whose is asked for; `None`: TLS is not spoken.
    pub tls: Option<Arc<ServerTls>>,
    /// Calls open at once on this listener; more are refused. `None`: as many as come.
    pub calls_max: Option<usize>,
    /// Connections open at once on this listener from one source, see [`SourcePrefix`]; more are closed at once.
    /// `None`: as many as come.
    pub connections_per_source_max: Option<usize>,
    /// What one source is.
    pub source_prefix: SourcePrefix,
}

/// What counts as one source: addresses that have their first bits in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePrefix {
    /// Of an IPv4 address.
    pub ipv4_bits: u32,
    /// Of an IPv6 address; one machine commonly has a /64 to itself.
    pub ipv6_bits: u32,
}

impl Settings {
    /// Its place among [`LISTENERS`], the same whichever of them there are.
    pub fn number(&self) -> usize {
        LISTENERS.iter().position(|(name, _)| *name == self.name).expect("a plan has no other listeners")
    }
}

/// When a call of a sortable method is answered `OK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reply {
    /// Once its messages are in the gateway's memory budget.
    #[default]
    Received,
    /// Once a backend has answered for every one of its messages.
    Delivered,
}

/// What any one peer may ask of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once over all listeners.
    pub connections_max: usize,
    /// Calls open at once on one connection (HTTP/2 MAX_CONCURRENT_STREAMS).
    pub calls_per_connection: u32,
    /// Bytes of one message's body, after decompression too.
    pub message_bytes_max: usize,
    /// Bytes of one call's decoded header list.
    pub header_list_bytes_max: u32,
    /// From accept to a complete HTTP/2 preface and SETTINGS, TLS included.
    pub handshake_deadline: Duration,
    /// From the handshake to the first call.
    pub first_call_deadline: Duration,
    /// From the first byte of a message to its last.
    pub message_deadline: Duration,
    /// Age at which a connection is asked to go elsewhere (GOAWAY), give or take 10 %; `None`: never.
    pub connection_age_max: Option<Duration>,
    /// From then on until calls that are still open are ended; `None`: they stay as long as they like.
    pub connection_age_grace: Option<Duration>,
    /// Without a call for this long a connection is asked to go; `None`: it may stay.
    pub connection_idle_max: Option<Duration>,
    /// How long a relayed call without a deadline of its own may wait for a backend.
    pub relay_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            calls_per_connection: 1_024,
            message_bytes_max: 4 << 20,
            header_list_bytes_max: 16 << 10,
            handshake_deadline: Duration::from_secs(5),
            first_call_deadline: Duration::from_secs(10),
            message_deadline: Duration::from_secs(30),
            connection_age_max: None,
            connection_age_grace: None,
            connection_idle_max: None,
            relay_deadline: Duration::from_secs(20),
        }
    }
}

impl Default for SourcePrefix {
    fn default() -> Self {
        Self { ipv4_bits: 32, ipv6_bits: 64 }
    }
}
