//! The rows: what is sent, and what is looked at.

use std::time::Duration;

use crate::spec::{Ends, Pace, Traffic};

/// One load, the same for every peer.
#[derive(Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    pub group: Group,
    /// For people.
    pub load: &'static str,
    pub traffic: Traffic,
    pub connections: u32,
    /// Streams at a time on each connection.
    pub streams: u32,
    /// Bytes of a message.
    pub bytes: u32,
    pub pace: Pace,
    /// Messages a second of the first stream, instead.
    pub busy: Option<f64>,
    /// Messages of a stream.
    pub renewed_after: Option<u64>,
    pub look: Look,
    pub tls: bool,
    /// Backends: addresses of one sink; of a row that kills one, processes.
    pub backends: u32,
    /// Worker threads (nginx: processes) of the gateway. With one, the gateway has a core to itself, and the generator
    /// and the sink share another.
    pub workers: u32,
    /// Whether the naive forwarder runs, too. It cannot do TLS, and the table has to end somewhere.
    pub naive: bool,
}

/// Rows with a table of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Saturated,
    Paced,
    Connections,
    Kill,
}

/// What a row looks at.
#[derive(Clone, Copy)]
pub enum Look {
    /// Cost over a window, after `warm`.
    Steady { warm: Duration, quick: Duration, long: Duration },
    /// Memory per connection, and CPU over a window, `after` the connections are there.
    Held { after: Duration, window: Duration },
    /// Messages that arrive nowhere when a sink is killed so long `after` the start; `sent` are sent in all.
    Kill { after: Duration, sent: u64 },
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn steady(warm: u64) -> Look {
    Look::Steady { warm: ms(warm), quick: ms(1_500), long: ms(4_000) }
}

/// As many streams as keep a gateway busy on few connections, as proxies and collectors in a chain have them.
const SATURATED: Row = Row {
    name: "saturated-1k",
    group: Group::Saturated,
    load: "segments of 1 KiB, 32 streams on 4 connections",
    traffic: Traffic::Segments,
    connections: 4,
    streams: 8,
    bytes: 1_024,
    pace: Pace::Saturate,
    busy: None,
    renewed_after: None,
    look: steady(1_000),
    tls: false,
    backends: 3,
    workers: 2,
    naive: false,
};

/// Busy agents: a connection and a stream each, renewed now and then as real ones do.
pub const PACED: Row = Row {
    name: "paced",
    group: Group::Paced,
    load: "segments of 1 KiB, 16 connections with a stream each, 2,000 msg/s a stream, renewed every 2,000 messages",
    connections: 16,
    streams: 1,
    pace: Pace::PerSecond(2_000.0),
    renewed_after: Some(2_000),
    ..SATURATED
};

const HELD: Row = Row { group: Group::Connections, streams: 1, bytes: 200, ..SATURATED };

/// In the order they run.
pub const ROWS: [Row; 17] = [
    Row {
        name: "saturated-200",
        load: "segments of 200 B, 32 streams on 4 connections",
        bytes: 200,
        naive: true,
        ..SATURATED
    },
    Row { naive: true, ..SATURATED },
    Row {
        name: "access-logs",
        load: "Envoy's access logs, messages of 16 KiB, an identifier of 4 KiB a stream, 16 streams on 4 connections",
        traffic: Traffic::AccessLogs { identifier_bytes: 4_096, entries: 16 },
        streams: 4,
        bytes: 16_384,
        ..SATURATED
    },
    Row {
        name: "keyed",
        load: "meter batches of 500 B from 10,000 (service, instance) pairs in turn, each pair at one backend; 32 streams \
               on 4 connections",
        traffic: Traffic::Meters { keys: 10_000 },
        bytes: 500,
        ..SATURATED
    },
    Row {
        name: "otlp",
        load: "OTLP requests of 64 spans of 200 B, 8 of one trace together, cut by trace id; 32 calls at a time on 4 \
               connections. A message is a span",
        traffic: Traffic::Spans { per_request: 64, traces: 8 },
        bytes: 200,
        ..SATURATED
    },
    Row { name: "tls", load: "saturated-1k with TLS on both sides", tls: true, ..SATURATED },
    Row {
        name: "one-core",
        load: "saturated-1k with one worker that has a core to itself; generator and sink share the other",
        workers: 1,
        ..SATURATED
    },
    Row { naive: true, ..PACED },
    Row {
        name: "paced-access-logs",
        load: "access logs as above, 16 connections with a stream each, 100 msg/s a stream",
        traffic: Traffic::AccessLogs { identifier_bytes: 4_096, entries: 16 },
        bytes: 16_384,
        pace: Pace::PerSecond(100.0),
        renewed_after: None,
        ..PACED
    },
    Row {
        name: "paced-keyed",
        load: "meter batches of 500 B from 10,000 pairs, 16 connections with a stream each, 2,000 msg/s a stream",
        traffic: Traffic::Meters { keys: 10_000 },
        bytes: 500,
        renewed_after: None,
        ..PACED
    },
    Row {
        name: "paced-otlp",
        load: "OTLP requests as above, 16 connections, 50 requests/s each: 51,200 spans/s",
        traffic: Traffic::Spans { per_request: 64, traces: 8 },
        bytes: 200,
        pace: Pace::PerSecond(50.0),
        renewed_after: None,
        ..PACED
    },
    Row { name: "paced-tls", load: "paced with TLS on both sides", tls: true, ..PACED },
    Row {
        name: "many",
        load: "segments of 500 B, 2,000 connections with an endless stream each, 10 msg/s a stream",
        connections: 2_000,
        bytes: 500,
        pace: Pace::PerSecond(10.0),
        renewed_after: None,
        look: steady(2_000),
        naive: true,
        ..PACED
    },
    Row {
        name: "skew",
        load: "segments of 500 B, 6 connections with an endless stream each, 400 msg/s and the first 8,000 msg/s",
        connections: 6,
        bytes: 500,
        pace: Pace::PerSecond(400.0),
        busy: Some(8_000.0),
        renewed_after: None,
        naive: true,
        ..PACED
    },
    Row {
        name: "memory",
        load: "2,000 connections with an open stream each, 200 B every 5 s",
        connections: 2_000,
        pace: Pace::PerSecond(0.2),
        look: Look::Held { after: ms(5_000), window: ms(1_500) },
        naive: true,
        ..HELD
    },
    Row {
        name: "idle",
        load: "10,000 connections with an open stream each on which nothing is said",
        connections: 10_000,
        pace: Pace::PerSecond(0.000_1),
        look: Look::Held { after: ms(1_500), window: ms(4_000) },
        ..HELD
    },
    Row {
        name: "kill",
        group: Group::Kill,
        load: "64,000 segments of 500 B at 16,000/s, 32 streams on 4 connections renewed every 100 messages; the sinks take \
               0.3 ms a message on a stream and answer after 50 ms; one of the three gets SIGKILL after 1.5 s",
        bytes: 500,
        pace: Pace::PerSecond(500.0),
        renewed_after: Some(100),
        look: Look::Kill { after: ms(1_500), sent: 64_000 },
        naive: true,
        ..SATURATED
    },
];

// === impl Row ===

impl Row {
    /// Time over which its connections are opened: a thousand take half a second.
    pub fn ramp(&self) -> Duration {
        ms(u64::from(self.connections) / 2)
    }

    /// How long the generator sends, counted from the end of the ramp.
    pub fn ends(&self, quick: bool) -> Ends {
        match self.look {
            Look::Kill { sent, .. } => Ends::AfterMessages(sent),
            _ => Ends::AfterSeconds((self.until_window() + self.window(quick) + MARGIN).as_secs_f64()),
        }
    }

    /// From the end of the ramp to the window.
    pub fn until_window(&self) -> Duration {
        match self.look {
            Look::Steady { warm, .. } => warm,
            Look::Held { after, .. } | Look::Kill { after, .. } => after,
        }
    }

    pub fn window(&self, quick: bool) -> Duration {
        match self.look {
            Look::Steady { quick: window, .. } if quick => window,
            Look::Steady { long: window, .. } | Look::Held { window, .. } => window,
            Look::Kill { .. } => Duration::ZERO,
        }
    }
}

/// The generator goes on a little longer than anybody looks.
pub const MARGIN: Duration = ms(300);
