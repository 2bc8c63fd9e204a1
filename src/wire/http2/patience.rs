//! How much that is of no use a peer may make us do, beside what is.
//!
//! Frames that cost work and bring nothing (PING, SETTINGS, empty DATA, streams that are reset at once, streams we have
//! to reset) each take some of a peer's credit. Bytes of messages give it back, in either direction, and so does time.
//! A peer whose credit is used up is told ENHANCE_YOUR_CALM and its connection ends. This one account stands against
//! every flood there is a name for, and those without: CVE-2019-9512, -9515, -9518, CVE-2023-44487, CVE-2025-8671.

use std::time::Duration;

use tokio::time::Instant;

/// Credit a connection begins with, and the most it can have.
const CREDIT_MAX: u32 = 2_000;

/// Credit that comes back in a second: an agent that probes or resets a few streams all day is left alone.
const CREDIT_PER_SECOND: u64 = 100;

/// Bytes of messages that give one back. A peer that acknowledges each message of 64 bytes is left alone, too.
const BYTES_PER_CREDIT: u64 = 64;

/// A call that came to its end in order is worth as much as so many bytes: grpc-go measures the line by a PING behind
/// each answer, however short the call was.
pub const CALL_BYTES: usize = 128;

/// What a frame of no use costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Nuisance {
    /// PING, PRIORITY, WINDOW_UPDATE, frames of unknown kinds or for streams that are over: cheap, and honest peers send
    /// some.
    Small = 1,
    /// SETTINGS: every stream's window may have to change.
    Settings = 4,
    /// A stream reset by the peer that has carried something. An agent may give up a thousand of them at once.
    Reset = 2,
    /// A DATA frame without data.
    Empty = 10,
    /// A stream that we had to reset or refuse.
    Fault = 8,
    /// A stream reset by the peer before it has carried anything.
    EarlyReset = 20,
}

/// The account of one peer.
#[derive(Debug)]
pub struct Patience {
    credit: u32,
    /// Bytes of messages since credit was last given back.
    useful: u64,
    /// When time was last counted; the clock is only read when credit runs low.
    counted: Option<Instant>,
}

// === impl Patience ===

impl Patience {
    /// With full credit.
    pub fn new() -> Self {
        Self { credit: CREDIT_MAX, useful: 0, counted: None }
    }

    /// Notes bytes of messages.
    #[inline]
    pub fn useful(&mut self, bytes: usize) {
        self.useful += bytes as u64;
    }

    /// Charges for a nuisance; answers whether there was credit for it.
    pub fn charge(&mut self, nuisance: Nuisance) -> bool {
        let cost = nuisance as u32;
        if self.credit < CREDIT_MAX / 2 {
            self.give_back();
        }
        match self.credit.checked_sub(cost) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }

    fn give_back(&mut self) {
        let now = Instant::now();
        let waited = self.counted.map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        let for_time = waited.as_millis() as u64 * CREDIT_PER_SECOND / 1000;
        // Less than one is left to be counted later.
        if self.counted.is_none() || for_time > 0 {
            self.counted = Some(now);
        }
        let back = self.useful / BYTES_PER_CREDIT + for_time;
        self.useful %= BYTES_PER_CREDIT;
        self.credit = (u64::from(self.credit) + back).min(u64::from(CREDIT_MAX)) as u32;
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charged(patience: &mut Patience, nuisance: Nuisance, most: usize) -> usize {
        (0..most).take_while(|_| patience.charge(nuisance)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_ends_when_the_credit_does() {
        for (nuisance, most) in [(Nuisance::Small, 2_000), (Nuisance::Fault, 250), (Nuisance::EarlyReset, 100)] {
            assert_eq!(charged(&mut Patience::new(), nuisance, 10_000), most, "{nuisance:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_gives_credit_back() {
        let mut patience = Patience::new();
        charged(&mut patience, Nuisance::Small, 10_000);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(charged(&mut patience, Nuisance::Small, 10_000), 100);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(charged(&mut patience, Nuisance::Small, 10_000), 2_000);
    }

    /// Fifty a second for an hour, and not one of them a whole credit apart.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_a_small_nuisance_all_day_is_left_alone() {
        let mut patience = Patience::new();
        for _ in 0..50 * 3600 {
            assert!(patience.charge(Nuisance::Small));
            tokio::time::advance(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_brings_messages_is_left_alone() {
        let mut patience = Patience::new();
        for _ in 0..100_000 {
            patience.useful(64);
            assert!(patience.charge(Nuisance::Small));
        }
    }
}
