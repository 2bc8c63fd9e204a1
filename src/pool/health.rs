//! Whether a backend may be sent new messages: a pure state machine, the clock is passed in.
//!
//! ```text
//!            connect failed | eject_after failed trips in a row | an answer is late
//!     Up ───────────────────────────────────────────────────────────────────────────▶ Out { until }
//!      ▲                                                                               │   ▲
//!      │ probe succeeded                                                         until │   │ probe failed:
//!      └───────────────────────────────────────────────────────────────────────────────┴───┘ a longer until
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// Back-off of probes to a backend that does not accept connections: short, for a probe is one TCP connect by one
/// prober a backend, and a collector that is back should be in use within seconds.
const PROBE_WAIT_MIN: Duration = Duration::from_millis(100);
const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);

/// Ejection of a backend that accepts connections and answers badly or late: doubles each time in a row.
const EJECTION_MIN: Duration = Duration::from_secs(1);
const EJECTION_MAX: Duration = Duration::from_secs(30);

/// Answers `OK` in a row after which earlier ejections are forgotten.
const FORGIVEN_AFTER: u32 = 16;

/// Why a backend was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No connection could be opened, or it broke.
    Unreachable,
    /// Its answers were errors.
    Failing,
    /// An answer did not come in time.
    Late,
}

/// What is known of one backend.
#[derive(Debug)]
pub struct Health {
    eject_after: u32,
    state: State,
    failures_in_row: u32,
    successes_in_row: u32,
    ejections_in_row: u32,
    probes_failed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Out { fault: Fault, until: Instant },
}

// === impl Health ===

impl Health {
    /// A backend nobody has tried yet counts as up.
    pub fn new(eject_after: u32) -> Self {
        Self {
            eject_after: eject_after.max(1),
            state: State::Up,
            failures_in_row: 0,
            successes_in_row: 0,
            ejections_in_row: 0,
            probes_failed: 0,
        }
    }

    /// Why it is out; `None` when it is up.
    pub fn fault(&self) -> Option<Fault> {
        match self.state {
            State::Up => None,
            State::Out { fault, .. } => Some(fault),
        }
    }

    /// When the next probe is due; `None` when it is up.
    pub fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::Up => None,
            State::Out { until, .. } => Some(until),
        }
    }

    /// A trip was answered `OK`.
    pub fn answered(&mut self) {
        self.failures_in_row = 0;
        self.successes_in_row = self.successes_in_row.saturating_add(1);
        if self.successes_in_row >= FORGIVEN_AFTER {
            self.ejections_in_row = 0;
        }
    }

    /// A trip ended in an error that is the backend's.
    pub fn failed(&mut self, now: Instant) {
        self.successes_in_row = 0;
        self.failures_in_row += 1;
        if self.failures_in_row >= self.eject_after {
            self.eject(Fault::Failing, now);
        }
    }

    /// A trip's answer did not come in time.
    pub fn late(&mut self, now: Instant) {
        self.successes_in_row = 0;
        self.eject(Fault::Late, now);
    }

    /// A connection could not be opened or broke in use. `jitter` is drawn evenly from 0 to 1.
    pub fn unreachable(&mut self, now: Instant, jitter: f64) {
        self.successes_in_row = 0;
        if self.state == State::Up {
            self.probes_failed = 0;
            self.state = State::Out { fault: Fault::Unreachable, until: now + probe_wait(0, jitter) };
        }
    }

    /// A probe opened a connection: the backend gets messages again.
    pub fn probe_succeeded(&mut self) {
        self.state = State::Up;
        self.failures_in_row = 0;
        self.probes_failed = 0;
    }

    /// A probe failed; the next one waits longer.
    pub fn probe_failed(&mut self, now: Instant, jitter: f64) {
        if let State::Out { fault, .. } = self.state {
            self.probes_failed += 1;
            self.state = State::Out { fault, until: now + probe_wait(self.probes_failed, jitter) };
        }
    }

    fn eject(&mut self, fault: Fault, now: Instant) {
        if self.state != State::Up {
            return;
        }
        let wait = EJECTION_MIN.saturating_mul(1 << self.ejections_in_row.min(10)).min(EJECTION_MAX);
        self.ejections_in_row += 1;
        self.failures_in_row = 0;
        self.probes_failed = 0;
        self.state = State::Out { fault, until: now + wait };
    }
}

/// Full jitter, but never less than half: a wait near zero would be no wait.
fn probe_wait(failed: u32, jitter: f64) -> Duration {
    let ceiling = PROBE_WAIT_MIN.saturating_mul(1 << failed.min(10)).min(PROBE_WAIT_MAX);
    ceiling.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

impl Fault {
    /// The word used in snapshots and logs.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Unreachable => "unreachable",
            Fault::Failing => "failing",
            Fault::Late => "late",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn failures_eject_only_in_a_row() {
        let start = Instant::now();
        let mut health = Health::new(3);
        for _ in 0..5 {
            health.failed(start);
            health.failed(start);
            health.answered();
        }
        assert_eq!(health.fault(), None);
        (0..3).for_each(|_| health.failed(start));
        assert_eq!(health.fault(), Some(Fault::Failing));
        assert_eq!(health.probe_at(), Some(after(start, 1.0)));
    }

    #[test]
    fn a_backend_ejected_again_and_again_stays_out_longer_each_time() {
        let start = Instant::now();
        let mut health = Health::new(1);
        let waits: Vec<f64> = (0..7)
            .map(|_| {
                health.late(start);
                let wait = health.probe_at().unwrap() - start;
                health.probe_succeeded();
                wait.as_secs_f64()
            })
            .collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        (0..FORGIVEN_AFTER).for_each(|_| health.answered());
        health.late(start);
        assert_eq!(health.probe_at(), Some(after(start, 1.0)));
    }

    proptest! {
        #[test]
        fn probes_of_a_dead_backend_are_never_more_than_two_seconds_apart_nor_nearer_than_fifty_milliseconds(
            jitters in prop::collection::vec(0.0f64..=1.0, 1..40),
        ) {
            let mut now = Instant::now();
            let mut health = Health::new(3);
            health.unreachable(now, jitters[0]);
            for jitter in jitters {
                let due = health.probe_at().unwrap();
                prop_assert!(due - now >= Duration::from_millis(50) && due - now <= Duration::from_secs(2));
                now = due;
                health.probe_failed(now, jitter);
                prop_assert_eq!(health.fault(), Some(Fault::Unreachable));
            }
            health.probe_succeeded();
            prop_assert_eq!(health.fault(), None);
        }
    }
}
