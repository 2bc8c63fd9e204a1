//! The rows: what is sent, and what is looked at.

use std::time::Duration;

/// One load, the same for both sides.
pub struct Row {
    pub name: &'static str,
    /// For people.
    pub load: &'static str,
    /// Flags of `switchyard agents`.
    pub agents: &'static str,
    /// Flags of each of the three `switchyard collector`s.
    pub collectors: &'static str,
    pub look: Look,
}

/// What a row looks at.
#[derive(Clone, Copy)]
pub enum Look {
    /// Cost over a window, after `warm`.
    Steady { warm: Duration, quick: Duration, long: Duration },
    /// Memory per connection once every stream has sent a message, `after` the start.
    Memory { connections: u64, after: Duration },
    /// Messages that arrive nowhere when a collector is killed so long `after` the start.
    Kill { after: Duration },
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn steady(warm: u64) -> Look {
    Look::Steady { warm: ms(warm), quick: ms(2_000), long: ms(6_000) }
}

/// In the order they run.
pub const ROWS: [Row; 7] = [
    Row {
        name: "saturated-200",
        load: "as fast as it takes them, 32 streams (4 connections), 200 B",
        agents: "--connections 4 --streams 8 --bytes 200",
        collectors: "--detail counts",
        look: steady(1_000),
    },
    Row {
        name: "saturated-1k",
        load: "as fast as it takes them, 32 streams (4 connections), 1 KiB",
        agents: "--connections 4 --streams 8 --bytes 1024",
        collectors: "--detail counts",
        look: steady(1_000),
    },
    Row {
        name: "paced",
        load: "16 connections, 1 stream each, 2,000 msg/s, 1 KiB; streams renewed every 2,000 messages",
        agents: "--connections 16 --streams 1 --rate 2000 --bytes 1024 --messages-per-stream 2000",
        collectors: "--detail counts",
        look: steady(1_000),
    },
    Row {
        name: "many",
        load: "2,000 connections, 1 stream each, 10 msg/s, 500 B",
        agents: "--connections 2000 --streams 1 --rate 10 --bytes 500",
        collectors: "--detail counts",
        look: steady(3_000),
    },
    Row {
        name: "memory",
        load: "2,000 connections, 1 open stream each, 200 B every 5 s",
        agents: "--connections 2000 --streams 1 --rate 0.2 --bytes 200",
        collectors: "--detail counts",
        look: Look::Memory { connections: 2_000, after: ms(6_000) },
    },
    Row {
        name: "skew",
        load: "6 connections, 1 endless stream each, 400 msg/s and the first 8,000 msg/s, 500 B",
        agents: "--connections 6 --streams 1 --rate 400 --skew 20 --bytes 500",
        collectors: "--detail counts",
        look: steady(1_000),
    },
    Row {
        name: "kill",
        load: "64,000 messages at 16,000/s, 32 streams renewed every 100 messages; 1 of 3 slow collectors killed (SIGKILL)",
        agents: "--connections 4 --streams 8 --rate 500 --messages 2000 --messages-per-stream 100",
        collectors: "--detail ids --message-delay 300us --answer-delay 50ms",
        look: Look::Kill { after: ms(1_500) },
    },
];
