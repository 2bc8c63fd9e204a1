//! How long to wait before a registry is asked again: waits that grow, and differ from replica to replica.

use std::time::Duration;

/// The first wait; a registry that was restarted is back within a few of these.
const WAIT: Duration = Duration::from_millis(200);
/// The longest wait. What a pool follows is at most this much older than a registry that has come back.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How often in a row it failed to follow one source.
#[derive(Debug, Default)]
pub struct Retry {
    failed: usize,
}

// === impl Retry ===

impl Retry {
    /// An attempt failed. Answers how long to wait before the next.
    pub fn after_failure(&mut self) -> Duration {
        let wait = wait(self.failed, fastrand::f64());
        self.failed = self.failed.saturating_add(1);
        wait
    }

    /// How often it failed since it last went well.
    #[cfg(feature = "k8s")]
    pub fn failures(&self) -> usize {
        self.failed
    }

    /// The source says what it should: the next wait is the shortest again.
    pub fn well(&mut self) {
        self.failed = 0;
    }
}

/// The wait after a number of failures; `jitter`, from 0 to 1, takes away up to half of it.
fn wait(failed: usize, jitter: f64) -> Duration {
    let ceiling = WAIT.saturating_mul(1 << failed.min(16)).min(WAIT_MAX);
    ceiling.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_are_never_less_than_half_of_it() {
        assert_eq!(wait(0, 0.0), WAIT);
        assert_eq!(wait(1, 0.0), WAIT * 2);
        assert_eq!(wait(usize::MAX, 0.0), WAIT_MAX);
        assert_eq!(wait(usize::MAX, 1.0), WAIT_MAX / 2);
    }

    #[test]
    fn what_goes_well_once_starts_from_the_shortest_wait() {
        let mut retry = Retry::default();
        let last = (0..20).map(|_| retry.after_failure()).last();
        assert!(last >= Some(WAIT_MAX / 2));
        retry.well();
        assert!(retry.after_failure() <= WAIT);
    }
}
