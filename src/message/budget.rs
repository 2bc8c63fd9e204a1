//! The byte budget: messages in memory hold permits, and waiting for a permit is the back-pressure.
//!
//! Every flow has a reserve that only it may use, so that a flood of logs cannot starve traces; what is not
//! reserved is shared. Waiters of one flow are served in order, flows do not wait for each other's queue.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::flow::Flow;

const FLOWS: usize = Flow::ALL.len();

/// The bytes all messages in memory may take together.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    shared: Pot,
    reserves: [Pot; FLOWS],
    /// Waiters over all flows; lets a release skip the lock when nobody waits.
    waiting: AtomicUsize,
    queues: Mutex<[VecDeque<Waiter>; FLOWS]>,
    next_id: AtomicUsize,
}

/// Free bytes of one kind.
#[derive(Debug)]
struct Pot(AtomicUsize);

#[derive(Debug)]
struct Waiter {
    id: usize,
    waker: Waker,
}

/// The right to hold bytes in memory; dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    flow: Flow,
    from_reserve: usize,
    from_shared: usize,
}

/// Waits for a [`Permit`]. Cancel-safe: dropped, it gives up its place and has taken nothing.
#[derive(Debug)]
pub struct Reserve {
    budget: Arc<Budget>,
    flow: Flow,
    bytes: usize,
    /// Set while this future stands in its flow's queue.
    id: Option<usize>,
}

// === impl Budget ===

impl Budget {
    /// A budget of `limit` bytes, of which each flow has a sixteenth to itself.
    pub fn new(limit: usize) -> Arc<Self> {
        let reserve = limit / 16;
        Arc::new(Self {
            limit,
            shared: Pot(AtomicUsize::new(limit - reserve * FLOWS)),
            reserves: std::array::from_fn(|_| Pot(AtomicUsize::new(reserve))),
            waiting: AtomicUsize::new(0),
            queues: Mutex::default(),
            next_id: AtomicUsize::new(0),
        })
    }

    /// The whole budget in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes under permits now.
    pub fn used(&self) -> usize {
        let free = self.shared.free() + self.reserves.iter().map(Pot::free).sum::<usize>();
        self.limit.saturating_sub(free)
    }

    /// The most a single permit of any flow can ever hold.
    pub fn permit_bytes_max(&self) -> usize {
        self.limit - self.limit / 16 * (FLOWS - 1)
    }

    /// A permit now, or `None` when the bytes are not free or others of this flow wait already.
    pub fn try_reserve(self: &Arc<Self>, flow: Flow, bytes: usize) -> Option<Permit> {
        if self.waiting.load(SeqCst) > 0 && !self.queues()[flow.index()].is_empty() {
            return None;
        }
        self.take(flow, bytes)
    }

    /// Waits for a permit of at most [`Budget::permit_bytes_max`] bytes; more is cut down to that.
    pub fn reserve(self: &Arc<Self>, flow: Flow, bytes: usize) -> Reserve {
        Reserve { budget: Arc::clone(self), flow, bytes: bytes.min(self.permit_bytes_max()), id: None }
    }

    fn take(self: &Arc<Self>, flow: Flow, bytes: usize) -> Option<Permit> {
        let from_reserve = self.reserves[flow.index()].take_up_to(bytes);
        let from_shared = bytes - from_reserve;
        if !self.shared.take(from_shared) {
            self.reserves[flow.index()].give(from_reserve);
            return None;
        }
        Some(Permit { budget: Arc::clone(self), flow, from_reserve, from_shared })
    }

    /// Lets the first waiter of every flow try again. Order matters: bytes are given back *before* `waiting` is
    /// read, and a waiter counts itself in `waiting` *before* it tries, so one of the two sees the other.
    fn wake_heads(&self) {
        if self.waiting.load(SeqCst) == 0 {
            return;
        }
        for waiter in self.queues().iter().filter_map(VecDeque::front) {
            waiter.waker.wake_by_ref();
        }
    }

    fn queues(&self) -> MutexGuard<'_, [VecDeque<Waiter>; FLOWS]> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Pot ===

impl Pot {
    fn free(&self) -> usize {
        self.0.load(SeqCst)
    }

    fn take(&self, bytes: usize) -> bool {
        bytes == 0 || self.0.fetch_update(SeqCst, SeqCst, |free| free.checked_sub(bytes)).is_ok()
    }

    fn take_up_to(&self, bytes: usize) -> usize {
        let before = self.0.fetch_update(SeqCst, SeqCst, |free| Some(free - free.min(bytes)));
        before.unwrap_or(0).min(bytes)
    }

    fn give(&self, bytes: usize) {
        // Also for nothing the memory this lies in would have to come from the core that used it last.
        if bytes == 0 {
            return;
        }
        self.0.fetch_add(bytes, SeqCst);
    }
}

// === impl Permit ===

impl Permit {
    /// Bytes this permit stands for.
    pub fn bytes(&self) -> usize {
        self.from_reserve + self.from_shared
    }

    /// Takes `bytes` of this permit (at most all) into one of their own.
    pub fn split(&mut self, bytes: usize) -> Permit {
        let from_shared = bytes.min(self.from_shared);
        let from_reserve = (bytes - from_shared).min(self.from_reserve);
        self.from_shared -= from_shared;
        self.from_reserve -= from_reserve;
        Permit { budget: Arc::clone(&self.budget), flow: self.flow, from_reserve, from_shared }
    }

    /// Adds this permit to one that may be held already.
    pub fn add_to(self, held: &mut Option<Permit>) {
        match held {
            Some(held) => held.merge(self),
            None => *held = Some(self),
        }
    }

    /// Adds another permit of the same flow to this one.
    pub fn merge(&mut self, mut other: Permit) {
        debug_assert_eq!(self.flow, other.flow, "permits of different flows never merge");
        self.from_reserve += std::mem::take(&mut other.from_reserve);
        self.from_shared += std::mem::take(&mut other.from_shared);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.bytes() == 0 {
            return;
        }
        self.budget.reserves[self.flow.index()].give(self.from_reserve);
        self.budget.shared.give(self.from_shared);
        self.budget.wake_heads();
    }
}

// === impl Reserve ===

impl Reserve {
    /// Stands in the queue with a fresh waker; answers whether it stands first.
    fn stand(&mut self, cx: &Context<'_>) -> bool {
        let mut queues = self.budget.queues();
        let queue = &mut queues[self.flow.index()];
        match self.id {
            Some(id) => {
                if let Some(waiter) = queue.iter_mut().find(|waiter| waiter.id == id) {
                    waiter.waker.clone_from(cx.waker());
                }
            }
            None => {
                let id = self.budget.next_id.fetch_add(1, SeqCst);
                self.id = Some(id);
                self.budget.waiting.fetch_add(1, SeqCst);
                queue.push_back(Waiter { id, waker: cx.waker().clone() });
            }
        }
        queue.front().map(|waiter| waiter.id) == self.id
    }

    /// Leaves the queue and lets the next one try.
    fn leave(&mut self) {
        let Some(id) = self.id.take() else { return };
        let mut queues = self.budget.queues();
        queues[self.flow.index()].retain(|waiter| waiter.id != id);
        self.budget.waiting.fetch_sub(1, SeqCst);
        drop(queues);
        self.budget.wake_heads();
    }
}

impl Future for Reserve {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let this = &mut *self;
        if this.id.is_none()
            && let Some(permit) = this.budget.try_reserve(this.flow, this.bytes)
        {
            return Poll::Ready(permit);
        }
        if this.stand(cx)
            && let Some(permit) = this.budget.take(this.flow, this.bytes)
        {
            this.leave();
            return Poll::Ready(permit);
        }
        Poll::Pending
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now_or_never(reserve: &mut Reserve) -> Option<Permit> {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(reserve).poll(&mut cx) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    #[test]
    fn dropping_permits_gives_every_byte_back() {
        let budget = Budget::new(1600);
        let mut permit = budget.try_reserve(Flow::Traces, 700).unwrap();
        let part = permit.split(650);
        assert_eq!((permit.bytes(), part.bytes(), budget.used()), (50, 650, 700));
        drop(permit);
        assert_eq!(budget.used(), 650);
        drop(part);
        assert_eq!(budget.used(), 0);
        assert_eq!(budget.reserves[Flow::Traces.index()].free(), 100);
    }

    #[test]
    fn a_flow_that_took_all_it_may_leaves_the_others_their_reserve() {
        let budget = Budget::new(1600);
        let hog = budget.try_reserve(Flow::Logs, budget.permit_bytes_max()).unwrap();
        assert!(budget.try_reserve(Flow::Logs, 1).is_none());
        assert!(budget.try_reserve(Flow::Traces, 100).is_some());
        assert!(budget.try_reserve(Flow::Traces, 101).is_none());
        drop(hog);
        assert!(budget.try_reserve(Flow::Traces, 101).is_some());
    }

    #[test]
    fn waiters_of_a_flow_are_served_in_order_and_none_overtakes() {
        let budget = Budget::new(1600);
        let all = budget.try_reserve(Flow::Logs, budget.permit_bytes_max()).unwrap();
        let (mut first, mut second) = (budget.reserve(Flow::Logs, 900), budget.reserve(Flow::Logs, 10));
        assert!(now_or_never(&mut first).is_none() && now_or_never(&mut second).is_none());
        drop(all);
        assert!(budget.try_reserve(Flow::Logs, 1).is_none(), "a newcomer must not overtake");
        assert!(now_or_never(&mut second).is_none(), "the second waits for the first");
        let got = now_or_never(&mut first).unwrap();
        assert!(now_or_never(&mut second).is_some());
        assert_eq!(got.bytes(), 900);
    }

    #[test]
    fn a_waiter_that_gives_up_does_not_block_the_queue() {
        let budget = Budget::new(1600);
        let all = budget.try_reserve(Flow::Logs, budget.permit_bytes_max()).unwrap();
        let (mut first, mut second) = (budget.reserve(Flow::Logs, 900), budget.reserve(Flow::Logs, 10));
        assert!(now_or_never(&mut first).is_none() && now_or_never(&mut second).is_none());
        drop(first);
        drop(all);
        assert!(now_or_never(&mut second).is_some());
        assert_eq!(budget.waiting.load(SeqCst), 0);
    }
}
