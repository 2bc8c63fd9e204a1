//! Lets a worker that is neither idle nor full look at its sockets once a millisecond instead of at every packet.
//!
//! At agents' rates the cost of a message is system calls and wake-ups: a read for each message, a wake-up for each
//! read, a write for each. A thread that has just done a pass over all its connections and read a little therefore
//! naps for the pool's linger before it looks again; what arrives meanwhile is read, sorted and written together.
//! The network drivers of the kernel do the same and call it interrupt moderation. A message that arrives alone finds
//! the thread waiting in epoll and is not delayed, and a thread that reads much does not nap. Neither does one whose
//! last nap brought no two messages together: there it would only be one more wake-up.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes in one pass from which on a thread is full: there is enough to batch, and napping would only hold up senders.
const FULL_BYTES: usize = 128 << 10;

/// Messages that make a nap worth its wake-up.
const WORTH_MESSAGES: u64 = 2;

thread_local! {
    /// Bytes read from agents since the last nap.
    static READ: Cell<usize> = const { Cell::new(0) };
    /// Messages that were made of them.
    static ARRIVED: Cell<u64> = const { Cell::new(0) };
    /// Passes this thread has made.
    static PASS: Cell<u64> = const { Cell::new(0) };
    static PACE: Cell<Pace> = const { Cell::new(Pace { napped: false, last: None }) };
}

/// How the passes of a thread have come of late.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// It napped before this pass.
    napped: bool,
    /// When the last pass that read something ended.
    last: Option<Instant>,
}

/// The number of the pass this thread is making: everything between two waits for events.
pub fn pass() -> u64 {
    PASS.get()
}

/// Notes that bytes of agents were read on this thread.
pub(super) fn note_read(bytes: usize) {
    READ.set(READ.get() + bytes);
}

/// Notes that messages have arrived whole on this thread.
pub fn note_arrived(messages: u64) {
    ARRIVED.set(ARRIVED.get() + messages);
}

/// Naps for `linger` if the pass that ends now read something, but not much, and others are likely to come meanwhile.
/// Blocks the thread: for the moment when a worker's runtime has nothing left to do and would wait for events.
pub fn nap(linger: Duration) {
    PASS.set(PASS.get() + 1);
    let (read, arrived) = (READ.replace(0), ARRIVED.replace(0));
    if read == 0 || linger.is_zero() {
        return;
    }
    let (pace, naps) = PACE.get().next(read, arrived, Instant::now(), linger);
    if naps {
        thread::sleep(linger);
    }
    PACE.set(pace);
}

// === impl Pace ===

impl Pace {
    /// What is known after a pass that brought so much, and whether to nap before the next.
    fn next(self, read: usize, arrived: u64, now: Instant, linger: Duration) -> (Self, bool) {
        let is_dense = match self.last {
            _ if self.napped => arrived >= WORTH_MESSAGES,
            Some(last) => now - last < linger,
            None => false,
        };
        let naps = is_dense && read < FULL_BYTES;
        (Self { napped: naps, last: Some(now) }, naps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(1);

    /// Whether the thread naps after passes that come so many microseconds apart (naps not counted) and bring so many
    /// messages.
    fn naps(passes: &[(u64, u64)]) -> Vec<bool> {
        let (mut pace, mut now) = (Pace { napped: false, last: None }, Instant::now());
        let pass = |(apart, messages): &(u64, u64)| {
            now += Duration::from_micros(*apart);
            let naps;
            (pace, naps) = pace.next(1_000, *messages, now, LINGER);
            naps
        };
        passes.iter().map(pass).collect()
    }

    #[test]
    fn messages_that_come_alone_are_not_waited_for() {
        assert_eq!(naps(&[(0, 1), (5_000, 1), (2_000, 1)]), [false; 3]);
    }

    #[test]
    fn passes_that_come_closely_are_put_together_while_that_brings_messages_together() {
        assert_eq!(naps(&[(0, 1), (60, 1), (1_060, 17), (1_060, 2)]), [false, true, true, true]);
        assert_eq!(naps(&[(0, 1), (900, 1), (1_060, 1), (1_250, 1)]), [false, true, false, false]);
    }

    #[test]
    fn a_thread_that_reads_much_does_not_nap() {
        let now = Instant::now();
        let pace = Pace { napped: true, last: Some(now) };
        assert!(!pace.next(FULL_BYTES, 1_000, now, LINGER).1);
        assert!(pace.next(FULL_BYTES - 1, 1_000, now, LINGER).1);
    }
}
