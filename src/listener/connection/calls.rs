//! The open calls of a connection, which are polled in its task.
//!
//! An agent has a call or a few. Those are polled with every pass, by the connection's own waker: asking one that has
//! nothing to do costs less than the list, the waker and the node that would tell. Beyond a few, each call has them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, StreamExt};

/// Calls that are polled with every pass.
const FEW: usize = 4;

/// A call's future; boxed, so that an idle connection costs little.
type Serving = Pin<Box<dyn Future<Output = ()>>>;

/// Calls, each until it is over.
#[derive(Default)]
pub struct Calls {
    few: Vec<Serving>,
    others: Option<Box<FuturesUnordered<Serving>>>,
}

// === impl Calls ===

impl Calls {
    /// One more; it begins with the next poll.
    pub fn push(&mut self, call: impl Future<Output = ()> + 'static) {
        let call: Serving = Box::pin(call);
        match self.few.len() {
            FEW.. => self.others.get_or_insert_default().push(call),
            _ => self.few.push(call),
        }
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.few.is_empty() && self.others.as_ref().is_none_or(|others| others.is_empty())
    }

    /// Lets those work that may have something to do; answers how many have come to their end.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> usize {
        let before = self.few.len();
        self.few.retain_mut(|call| call.as_mut().poll(cx).is_pending());
        let mut over = before - self.few.len();
        if let Some(others) = &mut self.others {
            while let Poll::Ready(Some(())) = others.poll_next_unpin(cx) {
                over += 1;
            }
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::task::Waker;

    use super::*;

    #[test]
    fn every_call_works_when_it_is_woken_and_is_counted_when_it_is_over() {
        let (wakers, mut calls) = (Rc::new(RefCell::new(Vec::new())), Calls::default());
        let cx = &mut Context::from_waker(Waker::noop());
        assert_eq!((calls.poll(cx), calls.is_empty()), (0, true));
        for _ in 0..3 * FEW {
            let (wakers, mut is_woken) = (Rc::clone(&wakers), false);
            calls.push(poll_fn(move |cx| match std::mem::replace(&mut is_woken, true) {
                true => Poll::Ready(()),
                false => {
                    wakers.borrow_mut().push(cx.waker().clone());
                    Poll::Pending
                }
            }));
        }
        assert_eq!((calls.poll(cx), calls.is_empty()), (0, false));
        wakers.borrow_mut().drain(..).for_each(Waker::wake);
        assert_eq!((calls.poll(cx), calls.is_empty()), (3 * FEW, true));
    }
}
