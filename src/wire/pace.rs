//! Lets a worker that is neither idle nor full look at its sockets once a millisecond instead of at every packet.
//!
//! At agents' rates the cost of a message is system calls and wake-ups: a read for each message, a wake-up for each
//! read, a write for each. A thread that has just done a pass over all its connections and read a little therefore
//! naps for the pool's linger before it looks again; what arrives meanwhile is read, sorted and written together.
//! The network drivers of the kernel do the same and call it interrupt moderation. A message that arrives alone finds
//! the thread waiting in epoll and is not delayed, and a thread that reads much does not nap. Neither does one whose
//! last nap brought no two messages together: there it would only be one more wake-up. Nor one that has just passed on
//! what a caller waits for: such callers send nothing more until they are answered.

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
    /// Whether somebody has said all and waits for the answer.
    static AWAITED: Cell<bool> = const { Cell::new(false) };
    /// Passes this thread has made.
    static PASS: Cell<u64> = const { Cell::new(0) };
    static PACE: Cell<Pace> = const { Cell::new(Pace { napped: false, last: None }) };
}

/// What one pass has brought.
#[derive(Debug, Clone, Copy)]
struct Pass {
    /// Bytes from agents.
    read: usize,
    /// Messages that were made of them.
    arrived: u64,
    /// Whether somebody has said all and waits for the answer.
    is_awaited: bool,
}

/// How the passes of a thread have come of late.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// It napped before this pass; of the next, that it is to.
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

/// Notes that somebody who waits for an answer has said all there is to say.
pub fn note_awaited() {
    AWAITED.set(true);
}

/// Naps for `linger` if the pass that ends now read something, but not much, and others are likely to come meanwhile.
/// Blocks the thread: for the moment when a worker's runtime has nothing left to do and would wait for events.
pub fn nap(linger: Duration) {
    PASS.set(PASS.get() + 1);
    let pass = Pass { read: READ.take(), arrived: ARRIVED.take(), is_awaited: AWAITED.take() };
    if pass.read == 0 || linger.is_zero() {
        return;
    }
    let pace = PACE.get().next(pass, Instant::now(), linger);
    if pace.napped {
        thread::sleep(linger);
    }
    PACE.set(pace);
}

// === impl Pace ===

impl Pace {
    /// What is known after a pass, whether to nap before the next among it.
    fn next(self, pass: Pass, now: Instant, linger: Duration) -> Self {
        let is_dense = match self.last {
            _ if self.napped => pass.arrived >= WORTH_MESSAGES,
            Some(last) => now - last < linger,
            None => false,
        };
        Self { napped: is_dense && !pass.is_awaited && pass.read < FULL_BYTES, last: Some(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(1);
    const PASS: Pass = Pass { read: 1_000, arrived: 1_000, is_awaited: false };

    /// Whether the thread naps after passes that come so many microseconds apart (naps not counted) and bring so many
    /// messages.
    fn naps(passes: &[(u64, u64)]) -> Vec<bool> {
        let (mut pace, mut now) = (Pace { napped: false, last: None }, Instant::now());
        let pass = |(apart, messages): &(u64, u64)| {
            now += Duration::from_micros(*apart);
            pace = pace.next(Pass { arrived: *messages, ..PASS }, now, LINGER);
            pace.napped
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
    fn a_thread_that_reads_much_or_is_waited_for_does_not_nap() {
        let now = Instant::now();
        let naps = |pass| Pace { napped: true, last: Some(now) }.next(pass, now, LINGER).napped;
        assert!(naps(Pass { read: FULL_BYTES - 1, ..PASS }));
        assert!(!naps(Pass { read: FULL_BYTES, ..PASS }));
        assert!(!naps(Pass { is_awaited: true, ..PASS }));
    }
}
