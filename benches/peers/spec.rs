//! What the driver asks of generator and sink, and what they answer: each is one line of JSON.
//!
//! With TLS both ends offer TLS 1.3 with AES-128-GCM and nothing else, so that all peers encrypt alike.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the messages are, so that they are routed as that kind is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Traffic {
    /// SkyWalking trace segments, each independent.
    Segments,
    /// SkyWalking meter batches of `keys` (service, instance) pairs in turn.
    Meters { keys: u32 },
    /// Envoy's access logs; the first message of a stream says who the Envoy is, in about `identifier_bytes`.
    AccessLogs { identifier_bytes: u32, entries: u32 },
    /// OTLP traces: calls of one request with `per_request` spans, `traces` neighbours of one trace each.
    Spans { per_request: u32, traces: u32 },
}

/// How fast a stream sends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Pace {
    /// As fast as flow control and the socket allow.
    Saturate,
    /// Messages (of [`Traffic::Spans`]: requests) a second and stream, each due at its own time.
    PerSecond(f64),
}

/// When the generator stops sending.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Ends {
    /// Seconds after the ramp.
    AfterSeconds(f64),
    /// Messages (of [`Traffic::Spans`]: spans) in all, shared evenly by the streams.
    AfterMessages(u64),
}

/// One run of the generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadSpec {
    pub to: SocketAddr,
    /// The authority (PEM) that signed the certificate of `to`, which has to name `localhost`.
    pub tls: Option<PathBuf>,
    pub connections: u32,
    /// They are opened with their connection (HEADERS sent), whether a message is due or not: idle rows have idle streams.
    pub streams_per_connection: u32,
    pub traffic: Traffic,
    /// Bytes of a message without its gRPC prefix; of [`Traffic::Spans`], of a span.
    pub message_bytes: u32,
    pub pace: Pace,
    /// Messages a second of the first stream, instead of `pace`.
    pub busy: Option<f64>,
    /// Messages after which a stream is half-closed, its reply awaited and the next one opened; `None`: never.
    pub messages_per_stream: Option<u64>,
    pub ends: Ends,
    /// Milliseconds over which connections are opened.
    pub ramp_ms: u32,
    /// The number of the first stream. Loads of one run need numbers of their own.
    pub first_stream: u32,
}

/// What came of a load.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LoadOutcome {
    /// Messages (spans) handed to a socket.
    pub sent: u64,
    /// Messages of paced streams that were due and had not been begun by the end.
    pub unsent: u64,
    /// Calls answered OK after their half-close.
    pub replies: u64,
    /// Messages on calls that ended in anything else: what became of them nobody has said.
    pub in_doubt: u64,
    /// Everything else that happened to calls and connections, by name.
    pub errors: BTreeMap<String, u64>,
    /// From the half-close (unary: from when the call was due) to the reply.
    pub reply: Latency,
    /// CPU of this process.
    pub cpu_us: f64,
    /// How long after they were due messages were handed to the socket; paced streams only.
    pub late: Latency,
}

/// One run of the sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkSpec {
    /// Port 0 asks for any; the addresses are the sink's first line of JSON.
    pub listen: Vec<SocketAddr>,
    /// Certificate chain and key, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub traffic: Traffic,
    /// Microseconds each message of a stream is worked at, one after the other: its window stays closed meanwhile.
    pub take_us: u32,
    /// Milliseconds between a half-close and its reply.
    pub answer_after_ms: u32,
    /// Bytes of a stream's receive window; a connection has sixteen times as much.
    pub window_bytes: u32,
    /// A file (made new) that gets stream and sequence of each arrival, two little-endian u32, before any answer to it
    /// is sent: what a sink that gets SIGKILL cannot report any more. The driver adds up those of several sinks.
    pub books: Option<PathBuf>,
}

/// What a sink has seen, as answer to each line on its stdin.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SinkReport {
    /// CLOCK_MONOTONIC.
    pub at_us: u64,
    /// Messages (spans) by address.
    pub received: Vec<u64>,
    /// Connections that are open, by address.
    pub connections: Vec<u32>,
    /// Distinct messages.
    pub arrived_once: u64,
    /// Arrivals of messages that had arrived before.
    pub twice: u64,
    /// Messages without a readable stamp; there should be none.
    pub unreadable: u64,
    /// From when they were due to their arrival, of messages since the last report.
    pub latency: Latency,
    /// Bytes read from sockets.
    pub bytes: u64,
    /// CPU of this process.
    pub cpu_us: f64,
}

/// Percentiles in microseconds, within 1 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}
