//! What is counted of the sources that pools follow.

use metrics::{Counter, Gauge};

use super::table;

/// What the source of one pool's backends gives.
pub struct Discovery {
    /// Looks that gave another set than the one before.
    pub changed: Counter,
    /// Looks that gave the same set again.
    pub unchanged: Counter,
    /// Looks that gave an empty set, which is not passed on.
    pub empty: Counter,
    /// Looks that gave none.
    pub failed: Counter,
    /// Backends of the last good look.
    pub backends: Gauge,
    /// When that was, in seconds of Unix time.
    pub last_success_seconds: Gauge,
}

// === impl Discovery ===

impl Discovery {
    /// The handles of one pool's source.
    pub fn of(pool: &str) -> Self {
        let result = |word| table::DISCOVERY_UPDATES.counter(&[pool, word]);
        Self {
            changed: result("changed"),
            unchanged: result("unchanged"),
            empty: result("empty"),
            failed: result("failed"),
            backends: table::DISCOVERY_BACKENDS.gauge(&[pool]),
            last_success_seconds: table::DISCOVERY_LAST_SUCCESS_SECONDS.gauge(&[pool]),
        }
    }
}
