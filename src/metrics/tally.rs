//! Counts that are added up on their thread first and told to everybody when it rests.
//!
//! All workers count the same things. Were each message told at once, the memory a count lies in would go from core to core
//! as often, and that costs ten times the addition.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use metrics::{Counter, Gauge};

/// One thread's part of a counter.
#[derive(Clone)]
pub struct Tally(Rc<Part<Counter>>);

/// One thread's part of a gauge that rises and falls.
#[derive(Clone)]
pub struct Level(Rc<Part<Gauge>>);

struct Part<T> {
    of: T,
    /// Not told yet.
    change: Cell<i64>,
    /// Whether it is among those to be told.
    is_listed: Cell<bool>,
}

trait Tell {
    fn tell(&self);
}

thread_local! {
    /// The parts of this thread that have changed.
    static CHANGED: RefCell<Vec<Rc<dyn Tell>>> = const { RefCell::new(Vec::new()) };
}

/// Tells what this thread has counted. Until then nobody else sees it.
pub fn tell() {
    CHANGED.with_borrow_mut(|changed| changed.drain(..).for_each(|part| part.tell()));
}

// === impl Tally ===

impl Tally {
    /// This thread's part of a counter.
    pub fn of(counter: Counter) -> Self {
        Self(Part::of(counter))
    }

    /// Counts.
    pub fn add(&self, count: u64) {
        Part::change(&self.0, count as i64);
    }
}

// === impl Level ===

impl Level {
    /// This thread's part of a gauge.
    pub fn of(gauge: Gauge) -> Self {
        Self(Part::of(gauge))
    }

    /// It rises.
    pub fn rise(&self, count: u64) {
        Part::change(&self.0, count as i64);
    }

    /// It falls.
    pub fn fall(&self, count: u64) {
        Part::change(&self.0, -(count as i64));
    }
}

// === impl Part ===

impl<T: 'static> Part<T>
where
    Part<T>: Tell,
{
    fn of(of: T) -> Rc<Self> {
        Rc::new(Self { of, change: Cell::default(), is_listed: Cell::default() })
    }

    fn change(this: &Rc<Self>, by: i64) {
        this.change.set(this.change.get() + by);
        if !this.is_listed.replace(true) {
            CHANGED.with_borrow_mut(|changed| changed.push(Rc::<Self>::clone(this)));
        }
    }

    fn take(&self) -> i64 {
        self.is_listed.set(false);
        self.change.take()
    }
}

impl Tell for Part<Counter> {
    fn tell(&self) {
        self.of.increment(self.take() as u64);
    }
}

impl Tell for Part<Gauge> {
    fn tell(&self) {
        self.of.increment(self.take() as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    #[test]
    fn what_is_counted_is_told_once_and_wholly() {
        let (counted, level) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let tally = Tally::of(Counter::from_arc(Arc::clone(&counted)));
        let gauge = Level::of(Gauge::from_arc(Arc::clone(&level)));
        let seen = || (counted.load(Relaxed), f64::from_bits(level.load(Relaxed)));
        tally.add(2);
        tally.clone().add(3);
        gauge.rise(7);
        assert_eq!(seen(), (0, 0.0));
        tell();
        assert_eq!(seen(), (5, 7.0));
        gauge.fall(4);
        tell();
        tell();
        assert_eq!(seen(), (5, 3.0));
        gauge.rise(1);
        gauge.fall(1);
        tell();
        assert_eq!(seen(), (5, 3.0));
    }
}
