//! The clock both ends stamp and measure by, and what they measure into.

use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::time::{ClockId, clock_gettime};

use crate::spec::Latency;

/// CLOCK_MONOTONIC in nanoseconds: the same for all processes of a machine.
pub fn now() -> u64 {
    read(ClockId::Monotonic)
}

/// CPU time of this process, in microseconds.
pub fn cpu_us() -> f64 {
    read(ClockId::ProcessCPUTime) as f64 / 1e3
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A length of time as the kernel wants it.
pub fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}

/// Lengths of time from one nanosecond to ten minutes, to two digits: finer buckets would not stay in the cache.
#[derive(Debug)]
pub struct Lengths(Histogram<u64>);

// === impl Lengths ===

impl Lengths {
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, 600_000_000_000, 2).expect("the bounds are valid"))
    }

    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    pub fn clear(&mut self) {
        self.0.reset();
    }

    pub fn percentiles(&self) -> Latency {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Latency {
            count: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1e3,
        }
    }
}
