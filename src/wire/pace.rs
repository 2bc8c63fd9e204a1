//! Lets a worker that is neither idle nor full look at its sockets once a millisecond instead of at every packet.
//!
//! At agents' rates the cost of a message is system calls and wake-ups: a read for each message, a wake-up for each
//! read, a write for each. A thread that has just done a pass over all its connections and read a little therefore
//! naps for the pool's linger before it looks again; what arrives meanwhile is read, sorted and written together.
//! The network drivers of the kernel do the same and call it interrupt moderation. A message that arrives alone finds
//! the thread waiting in epoll and is not delayed, and a thread that reads much does not nap.

use std::cell::Cell;
use std::thread;
use std::time::Duration;

/// Bytes in one pass from which on a thread is full: there is enough to batch, and napping would only hold up senders.
const FULL_BYTES: usize = 128 << 10;

thread_local! {
    /// Bytes read from agents since the last nap.
    static READ: Cell<usize> = const { Cell::new(0) };
    /// Passes this thread has made.
    static PASS: Cell<u64> = const { Cell::new(0) };
}

/// The number of the pass this thread is making: everything between two waits for events.
pub fn pass() -> u64 {
    PASS.get()
}

/// Notes that bytes of agents were read on this thread.
pub(super) fn note_read(bytes: usize) {
    READ.set(READ.get() + bytes);
}

/// Naps for `linger` if the pass that ends now read something, but not much. Blocks the thread: for the moment when a
/// worker's runtime has nothing left to do and would wait for events.
pub fn nap(linger: Duration) {
    PASS.set(PASS.get() + 1);
    let read = READ.replace(0);
    if (1..FULL_BYTES).contains(&read) && !linger.is_zero() {
        thread::sleep(linger);
    }
}
