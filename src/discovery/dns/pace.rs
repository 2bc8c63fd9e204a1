//! When a name is asked for again: as its records say, within bounds, and soon after a failure.

use std::time::Duration;

/// Remembers how often asking has failed in a row.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
}

/// Not more often, whatever the records say: a TTL of 0 means "do not cache", not "ask all the time".
const WAIT_MIN: Duration = Duration::from_secs(1);

/// Not less often, whatever the records say: a pool should follow its world before people wonder.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Longest wait after failures: a server that is back should be noticed in seconds, and one packet in five is no load.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Part of a wait that is left to chance, so that replicas do not ask together. Later, never sooner: a server in between
/// that still has the old answer would only give that again.
const JITTER: f64 = 0.1;

// === impl Pace ===

impl Pace {
    /// How long to wait after an answer that is right so long; `luck` is from 0 to 1.
    pub fn after_answer(&mut self, fresh_for: Duration, luck: f64) -> Duration {
        self.failures = 0;
        jittered(fresh_for.clamp(WAIT_MIN, WAIT_MAX), luck)
    }

    /// How long to wait after a failure: twice as long as after the one before.
    pub fn after_trouble(&mut self, luck: f64) -> Duration {
        let wait = WAIT_MIN.saturating_mul(1 << self.failures.min(8)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        jittered(wait, luck)
    }
}

fn jittered(wait: Duration, luck: f64) -> Duration {
    wait.mul_f64(1.0 + JITTER * luck)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_name_is_asked_for_again_when_its_records_are_old() {
        let mut pace = Pace::default();
        let waits = [0, 1, 7, 30, 86_400].map(|ttl| pace.after_answer(seconds(ttl), 0.0));
        assert_eq!(waits, [1, 1, 7, 30, 30].map(seconds));
    }

    #[test]
    fn failures_are_followed_by_longer_waits_until_an_answer_comes() {
        let mut pace = Pace::default();
        let waits = [(); 6].map(|()| pace.after_trouble(0.0));
        assert_eq!(waits, [1, 2, 4, 5, 5, 5].map(seconds));
        pace.after_answer(seconds(1), 0.0);
        assert_eq!(pace.after_trouble(0.0), seconds(1));
    }

    proptest! {
        #[test]
        fn no_wait_is_out_of_bounds(ttl: u32, luck in 0.0..=1.0f64, failures in 0u32..100) {
            let mut pace = Pace { failures };
            let after_trouble = pace.after_trouble(luck);
            prop_assert!(after_trouble >= WAIT_MIN && after_trouble <= RETRY_MAX.mul_f64(1.0 + JITTER));
            let after_answer = pace.after_answer(seconds(ttl.into()), luck);
            prop_assert!(after_answer >= WAIT_MIN && after_answer <= WAIT_MAX.mul_f64(1.0 + JITTER));
        }
    }
}
