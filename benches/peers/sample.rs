//! What one run showed.

use std::time::Instant;

use serde::Serialize;

use crate::process::Usage;
use crate::spec::{Latency, LoadOutcome};

/// Figures of one run. Rates and costs are of the window.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sample {
    /// Messages sinks received in the window.
    pub messages: u64,
    pub messages_per_s: f64,
    /// Of the whole gateway: all its processes, user and system.
    pub cpu_us_per_message: f64,
    /// Cores it kept busy.
    pub cores: f64,
    pub switches_per_message: f64,
    pub rss_peak_bytes: u64,
    /// Resident memory gained since nobody was connected, by connections.
    pub rss_per_connection_bytes: f64,
    /// From when a message was due (saturated: handed to the socket) to its arrival.
    pub latency: Latency,
    /// From a half-close to its reply.
    pub reply: Latency,
    /// Messages of the busiest backend by those of the mean one.
    pub max_over_mean: f64,
    pub sent: u64,
    /// Messages that were due and could not be sent by the end: the gateway held them back.
    pub unsent: u64,
    /// Messages that arrived nowhere.
    pub lost: u64,
    /// Messages on calls that failed: their agents cannot know what became of them.
    pub in_doubt: u64,
    /// Arrivals of messages that had arrived before.
    pub twice: u64,
    /// Messages nobody could read; there should be none.
    pub unreadable: u64,
    /// Calls and connections that ended in an error, and in which.
    pub failures: u64,
    pub failed: Vec<String>,
    /// What generator and sinks took themselves.
    pub load_us_per_message: f64,
    pub sinks_us_per_message: f64,
    /// How late the generator was against its own schedule: of its own doing, or held back by the gateway.
    pub late: Latency,
    /// Cores that everything on the machine but this run kept busy meanwhile: noise.
    pub foreign_cores: f64,
}

/// All processes of a run at one moment.
pub struct Moment {
    pub at: Instant,
    pub gateway: Usage,
    pub load_us: f64,
    pub sinks_us: f64,
    pub machine_us: f64,
    /// By address.
    pub received: Vec<u64>,
    /// Since the moment before.
    pub latency: Latency,
}

// === impl Sample ===

impl Sample {
    /// What happened between two moments.
    pub fn between(&mut self, before: &Moment, after: &Moment) {
        let received: Vec<u64> =
            after.received.iter().zip(&before.received).map(|(after, before)| after - before).collect();
        self.messages = received.iter().sum();
        let messages = (self.messages as f64).max(1.0);
        let window_us = after.at.duration_since(before.at).as_secs_f64() * 1e6;
        let cpu_us = after.gateway.cpu_us - before.gateway.cpu_us;
        let (load_us, sinks_us) = (after.load_us - before.load_us, after.sinks_us - before.sinks_us);
        self.messages_per_s = self.messages as f64 * 1e6 / window_us;
        self.cpu_us_per_message = cpu_us / messages;
        self.cores = cpu_us / window_us;
        self.switches_per_message = after.gateway.switches.saturating_sub(before.gateway.switches) as f64 / messages;
        self.max_over_mean =
            received.iter().copied().max().unwrap_or_default() as f64 * received.len() as f64 / messages;
        self.latency = after.latency;
        self.load_us_per_message = load_us / messages;
        self.sinks_us_per_message = sinks_us / messages;
        let foreign_us = (after.machine_us - before.machine_us) - cpu_us - load_us - sinks_us;
        self.foreign_cores = (foreign_us / window_us).max(0.0);
    }

    pub fn of_load(&mut self, outcome: &LoadOutcome) {
        self.reply = outcome.reply;
        self.late = outcome.late;
        self.unsent = outcome.unsent;
        self.in_doubt = outcome.in_doubt;
        self.failures = outcome.errors.values().sum();
        self.failed = outcome.errors.iter().map(|(name, count)| format!("{name}: {count}")).collect();
    }

    /// `arrived`: distinct messages, arrivals beyond the first, and what nobody could read.
    pub fn arrivals(&mut self, sent: u64, (once, twice, unreadable): (u64, u64, u64)) {
        (self.sent, self.twice, self.unreadable) = (sent, twice, unreadable);
        self.lost = sent.saturating_sub(once);
    }
}
