//! File descriptors: as many as the process may have, some of them kept for others than agents, a warning before they run out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::listener::admission::Reserve;
use crate::message::flow::Flow;
use crate::metrics;
use crate::pool::Backends;

use super::report::Reporter;

/// The least that is kept: our own ports, Prometheus and admin with a few who ask, probes.
const RESERVE_MIN: u64 = 32;

/// How often they are counted, at most. Counting a hundred thousand takes the kernel some 20 ms.
const SAMPLE: Duration = Duration::from_secs(1);

/// Counting may take a hundredth of a thread.
const REST_PER_COUNT: u32 = 100;

/// Watches the process's file descriptors.
pub struct Descriptors {
    limit: u64,
    reserve: Arc<Reserve>,
    handles: metrics::Descriptors,
    is_short: bool,
}

// === impl Descriptors ===

impl Descriptors {
    /// Raises the process's limit as far as it may be raised, and says what it is then.
    pub fn raise() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let (before, most) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let limit = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => most,
            Err(error) => {
                tracing::warn!(%error, limit = before, "the limit of file descriptors could not be raised");
                before
            }
        };
        tracing::info!(before, limit, "file descriptors");
        let handles = metrics::Descriptors::resolve();
        handles.limit.set(limit as f64);
        Self { limit, reserve: Reserve::none(), handles, is_short: false }
    }

    /// What connections of agents must leave to others.
    pub fn reserve(&self) -> &Arc<Reserve> {
        &self.reserve
    }

    /// Keeps as many as these pools may need; called again and again, for backends come and go.
    fn keep(&self, pools: &[Arc<Backends>], workers: usize) -> u64 {
        let backends: usize = pools.iter().map(|pool| pool.all().len()).sum();
        let reserve = reserve(self.limit, backends, workers);
        self.reserve.keep_from(self.limit - reserve);
        reserve
    }

    /// Keeps as many as these pools may need, and says so when agents cannot have as many connections as they are
    /// allowed.
    pub fn prepare(&self, pools: &[Arc<Backends>], workers: usize, connections_max: usize) {
        let reserve = self.keep(pools, workers);
        if connections_max as u64 > self.limit - reserve {
            tracing::warn!(
                limit = self.limit,
                reserve,
                connections_max,
                "fewer file descriptors than limits.connections: raise the limit (ulimit -n, LimitNOFILE) or lower the setting"
            );
        }
    }

    /// Counts open descriptors for ever, and says when they run out.
    pub async fn run(mut self, reporter: Arc<Reporter>, workers: usize) {
        loop {
            self.keep(&reporter.orders().pools, workers);
            let since = Instant::now();
            let counted = tokio::task::spawn_blocking(open).await.ok().flatten();
            let took = since.elapsed();
            if let Some(open) = counted {
                self.note(open);
            }
            tokio::time::sleep(SAMPLE.max(took * REST_PER_COUNT)).await;
        }
    }

    fn note(&mut self, open: u64) {
        self.handles.open.set(open as f64);
        let is_short = is_short(open, self.limit);
        self.handles.short.set(if is_short { 1.0 } else { 0.0 });
        if is_short && !self.is_short {
            tracing::warn!(
                open,
                limit = self.limit,
                "four fifths of the file descriptors are open: raise the limit (ulimit -n, LimitNOFILE) or lower limits.connections"
            );
        }
        self.is_short = is_short;
    }
}

/// Descriptors kept: twice what one connection of each worker to each backend for each flow takes, for connections are
/// replaced by new ones before they end. At most half of all, or nobody could connect.
fn reserve(limit: u64, backends: usize, workers: usize) -> u64 {
    let outbound = backends.saturating_mul(workers).saturating_mul(2 * Flow::ALL.len()) as u64;
    outbound.saturating_add(RESERVE_MIN).min(limit / 2)
}

/// Whether four fifths are used.
fn is_short(open: u64, limit: u64) -> bool {
    open / 4 >= limit / 5
}

/// Descriptors open now; `None` where the system does not say.
fn open() -> Option<u64> {
    let listed = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // The listing has one itself.
    Some((listed as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_grows_with_the_backends_and_leaves_half_to_agents() {
        assert_eq!(reserve(1_024, 0, 2), 32);
        assert_eq!(reserve(1_024, 3, 2), 32 + 2 * 3 * 2 * 6);
        assert_eq!(reserve(1_024, 1_000, 64), 512);
        assert_eq!(reserve(u64::MAX, usize::MAX, usize::MAX), u64::MAX / 2);
    }

    #[test]
    fn four_fifths_are_short() {
        assert!(!is_short(799, 1_000) && is_short(800, 1_000));
        assert!(!is_short(1_000_000, u64::MAX));
    }
}
