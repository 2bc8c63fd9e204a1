//! Counts the allocations of this process, one measurement at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

static ALONE: Mutex<()> = Mutex::new(());

/// Only one at a time counts, for the count is the process's.
pub struct Count {
    // Before the lock, for it must be gone when the next one comes.
    _profiler: dhat::Profiler,
    _alone: MutexGuard<'static, ()>,
}

// === impl Count ===

impl Count {
    /// Counts from now on. With `ALLOCATIONS` in the environment, a file by that name tells where each allocation was
    /// made (it is for dhat's viewer, `dh_view.html`).
    pub fn begin() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let profiler = match std::env::var_os("ALLOCATIONS") {
            None => dhat::Profiler::builder().testing().build(),
            Some(file) => dhat::Profiler::builder().file_name(file).trim_backtraces(Some(40)).build(),
        };
        Self { _profiler: profiler, _alone: alone }
    }

    /// Allocations and reallocations that `run` makes at its quietest of so many times. What comes by the clock or from
    /// the test harness is in some of the times, what the road needs is in all of them.
    pub fn fewest(&self, times: usize, mut run: impl FnMut()) -> u64 {
        let count = |()| {
            let before = dhat::HeapStats::get().total_blocks;
            run();
            dhat::HeapStats::get().total_blocks - before
        };
        std::iter::repeat_n((), times).map(count).min().expect("at least once")
    }
}
