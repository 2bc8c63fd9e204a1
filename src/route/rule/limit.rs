//! Rates that all workers share: the generic cell rate algorithm, one number for each key.
//!
//! The number is the moment at which the key's messages so far would be used up at the rate. A message may pass while
//! that is no further ahead than a burst.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use crate::message::path::FieldPath;
use crate::route::reading::Reading;

use super::share::hash_of;

/// Keys that are counted apart; further ones share one rate until others have fallen idle.
const KEYS_MAX: usize = 100_000;

/// How often idle keys are looked for while there are too many.
const SWEEP_NANOS: u64 = 1_000_000_000;

/// What one rule lets pass of a method's messages.
#[derive(Debug, Clone)]
pub struct Limit {
    rate: Arc<Rate>,
    /// What is counted apart; empty: all of the rule's messages together.
    per: Vec<FieldPath>,
}

/// A rate that all workers share, and all methods of a rule, wherever they say what is counted apart.
#[derive(Debug)]
pub struct Rate {
    /// So many messages ...
    messages: u32,
    /// ... in this time.
    period: Duration,
    /// Messages that may come at once.
    burst: u32,
    started: Instant,
    /// For messages that are not counted apart.
    together: AtomicU64,
    apart: DashMap<u64, u64>,
    swept: AtomicU64,
}

// === impl Limit ===

impl Limit {
    /// A limit of this rate; `per` says what is counted apart.
    pub fn new(rate: Arc<Rate>, per: Vec<FieldPath>) -> Self {
        Self { rate, per }
    }

    /// What is counted apart.
    pub fn per(&self) -> &[FieldPath] {
        &self.per
    }

    /// The rate.
    pub fn rate(&self) -> &Rate {
        &self.rate
    }

    /// Whether `messages` like this one may pass; if so, they are counted. Messages that lack what is counted apart
    /// are counted as one key.
    pub fn lets_pass(&self, message: &Reading<'_>, messages: u32) -> bool {
        match self.per.as_slice() {
            [] => self.rate.lets_pass(None, messages),
            per => self.rate.lets_pass(Some(hash_of(per, message).unwrap_or_default()), messages),
        }
    }
}

// === impl Rate ===

impl Rate {
    /// So many messages in a period and so many at once; all at least one.
    pub fn new(messages: u32, period: Duration, burst: u32) -> Self {
        Self {
            messages: messages.max(1),
            period: period.max(Duration::from_nanos(1)),
            burst: burst.max(1),
            started: Instant::now(),
            together: AtomicU64::new(0),
            apart: DashMap::new(),
            swept: AtomicU64::new(0),
        }
    }

    /// Messages that may come at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    fn lets_pass(&self, key: Option<u64>, messages: u32) -> bool {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let Some(key) = key else { return self.pass_together(now, messages) };
        if let Some(mut used_up) = self.apart.get_mut(&key) {
            return self.pass(&mut used_up, now, messages);
        }
        if self.apart.len() >= KEYS_MAX && !self.sweep(now) {
            return self.pass_together(now, messages);
        }
        self.pass(&mut self.apart.entry(key).or_insert(0), now, messages)
    }

    fn pass(&self, used_up: &mut u64, now: u64, messages: u32) -> bool {
        let after = self.after(*used_up, now, messages);
        *used_up = after.unwrap_or(*used_up);
        after.is_some()
    }

    fn pass_together(&self, now: u64, messages: u32) -> bool {
        self.together.fetch_update(Relaxed, Relaxed, |used_up| self.after(used_up, now, messages)).is_ok()
    }

    /// The moment at which all is used up once these have passed; `None` when they must not.
    fn after(&self, used_up: u64, now: u64, messages: u32) -> Option<u64> {
        // More at once than a burst could never pass, so they count as one.
        let after = used_up.max(now).saturating_add(self.nanos(messages.min(self.burst)));
        (after <= now.saturating_add(self.nanos(self.burst))).then_some(after)
    }

    /// The time so many messages take at the rate.
    fn nanos(&self, messages: u32) -> u64 {
        let nanos = u128::from(messages) * self.period.as_nanos() / u128::from(self.messages);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Forgets keys that are idle, whose number says nothing any more; answers whether there is room now.
    fn sweep(&self, now: u64) -> bool {
        let swept = self.swept.load(Relaxed);
        let is_due = now >= swept + SWEEP_NANOS;
        if is_due && self.swept.compare_exchange(swept, now, Relaxed, Relaxed).is_ok() {
            self.apart.retain(|_, used_up| *used_up > now);
        }
        self.apart.len() < KEYS_MAX
    }
}

/// As an operator writes it: `5000/s`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self.period.as_secs() {
            60 => "m",
            3_600 => "h",
            _ => "s",
        };
        write!(f, "{}/{period}", self.messages)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::message::field;

    fn limit(messages: u32, burst: u32, per: Vec<FieldPath>) -> Limit {
        Limit::new(Arc::new(Rate::new(messages, Duration::from_secs(1), burst)), per)
    }

    fn from(service: &str) -> BytesMut {
        let mut body = BytesMut::new();
        field::put_bytes(&mut body, 4, service.as_bytes());
        body
    }

    fn passed(limit: &Limit, service: &str, of: usize) -> usize {
        let body = from(service);
        (0..of).filter(|_| limit.lets_pass(&Reading { body: &body, carried: &[] }, 1)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_then_the_rate() {
        let limit = limit(100, 20, Vec::new());
        assert_eq!(passed(&limit, "shop", 1_000), 20);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(passed(&limit, "till", 1_000), 20);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(passed(&limit, "shop", 1_000), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_counted_apart() {
        let limit = limit(10, 10, vec![FieldPath::of(&[4])]);
        assert_eq!((passed(&limit, "shop", 100), passed(&limit, "till", 100)), (10, 10));
        assert_eq!(passed(&limit, "shop", 100), 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((passed(&limit, "shop", 100), passed(&limit, "till", 5)), (10, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_keys_share_one_rate_until_others_fall_idle() {
        let limit = limit(1, 1, vec![FieldPath::of(&[4])]);
        let all = (0..KEYS_MAX).filter(|number| passed(&limit, &number.to_string(), 1) == 1).count();
        assert_eq!(all, KEYS_MAX);
        assert_eq!(passed(&limit, "one more", 1) + passed(&limit, "and another", 1), 1);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(passed(&limit, "one more", 1) + passed(&limit, "and another", 1), 2);
        assert!(limit.rate.apart.len() < 10);
    }

    #[test]
    fn threads_share_the_burst() {
        let limit = limit(1, 1_000, Vec::new());
        let all: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| passed(&limit, "shop", 1_000))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((1_000..=1_002).contains(&all), "{all}");
    }

    #[tokio::test(start_paused = true)]
    async fn methods_that_name_a_key_differently_share_its_rate() {
        let rate = Arc::new(Rate::new(10, Duration::from_secs(1), 10));
        let in_field_4 = Limit::new(Arc::clone(&rate), vec![FieldPath::of(&[4])]);
        let in_field_2 = Limit::new(rate, vec![FieldPath::of(&[2])]);
        assert_eq!(passed(&in_field_4, "shop", 6), 6);
        let mut body = BytesMut::new();
        field::put_bytes(&mut body, 2, b"shop");
        let more = (0..10).filter(|_| in_field_2.lets_pass(&Reading { body: &body, carried: &[] }, 1)).count();
        assert_eq!(more, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_without_the_key_are_counted_as_one() {
        let limit = limit(1, 5, vec![FieldPath::of(&[9])]);
        assert_eq!((0..100).filter(|number| passed(&limit, &number.to_string(), 1) == 1).count(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_may_be_less_than_one_a_second() {
        let limit = Limit::new(Arc::new(Rate::new(2, Duration::from_secs(60), 1)), Vec::new());
        assert_eq!(passed(&limit, "shop", 10), 1);
        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(passed(&limit, "shop", 10), 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(passed(&limit, "shop", 10), 1);
        assert_eq!(limit.rate().to_string(), "2/m");
    }

    #[tokio::test(start_paused = true)]
    async fn a_data_set_larger_than_a_burst_passes_when_nothing_else_has() {
        let limit = limit(10, 5, Vec::new());
        let body = from("shop");
        let pass = |messages| limit.lets_pass(&Reading { body: &body, carried: &[] }, messages);
        assert!(pass(1_000));
        assert!(!pass(1));
    }

    proptest! {
        #[test]
        fn no_more_passes_than_burst_and_rate_allow(
            rate in 1u32..2_000, burst in 1u32..500, asks in prop::collection::vec((0u64..300, 1u32..40), 1..200)
        ) {
            let rate = Rate::new(rate, Duration::from_secs(1), burst);
            let (mut now, mut used_up, mut passed) = (0, 0, 0u64);
            for (millis, messages) in asks {
                now += millis * 1_000_000;
                if rate.pass(&mut used_up, now, messages) {
                    passed += u64::from(messages.min(burst));
                }
            }
            let allowed = u64::from(burst) + (u128::from(now) * u128::from(rate.messages) / 1_000_000_000) as u64 + 1;
            prop_assert!(passed <= allowed, "{passed} passed, {allowed} allowed");
        }
    }
}
