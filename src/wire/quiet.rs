//! A waker that holds still while its task is being polled.
//!
//! A connection and its calls are one task, so most wake-ups happen *inside* the task's own poll: a DATA frame wakes
//! its call, a released window wakes the connection. Passed on, each costs another trip through the scheduler and
//! another look at the socket. Here they are noted and the pass is made again at once, until nothing is left. Most are
//! answered by the pass itself, which reads first and lets the calls that were woken work after: it says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Passes made in one poll before others get their turn.
const PASSES_MAX: usize = 16;

/// Polls something again and again while it wakes itself.
pub struct Quiet {
    bell: Arc<Bell>,
    waker: Waker,
}

#[derive(Default)]
struct Bell {
    task: AtomicWaker,
    is_polling: AtomicBool,
    rang: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, SeqCst);
        if !self.is_polling.load(SeqCst) {
            self.task.wake();
        }
    }
}

impl Quiet {
    /// A quiet waker for one task.
    pub fn new() -> Self {
        let bell = Arc::<Bell>::default();
        Self { waker: Waker::from(Arc::clone(&bell)), bell }
    }

    /// Polls `pass` until it is ready or nothing has woken it since it began, or since it said [`Quiet::answered`].
    ///
    /// Race: a wake-up from another thread between the last pass and `is_polling` going false is seen right after.
    pub fn poll<T>(&self, cx: &Context<'_>, mut pass: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.bell.task.register(cx.waker());
        self.bell.is_polling.store(true, SeqCst);
        let mut quiet = Context::from_waker(&self.waker);
        for _ in 0..PASSES_MAX {
            self.bell.rang.store(false, SeqCst);
            if let Poll::Ready(done) = pass(&mut quiet) {
                self.bell.is_polling.store(false, SeqCst);
                return Poll::Ready(done);
            }
            if !self.bell.rang.load(SeqCst) {
                break;
            }
        }
        self.bell.is_polling.store(false, SeqCst);
        if self.bell.rang.load(SeqCst) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Within a pass: what rang until now is answered by what the pass goes on to do. Whoever says so has nothing behind
    /// it that such a wake-up could be for; a socket's comes from the runtime, which is not at work during a pass.
    pub fn answered(&self) {
        self.bell.rang.store(false, SeqCst);
    }
}

impl Default for Quiet {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn waking_oneself_is_another_pass_and_no_wake_up() {
        let (counted, quiet) = (Arc::<Counted>::default(), Quiet::new());
        let waker = Waker::from(Arc::clone(&counted));
        let mut passes = 0;
        let polled = quiet.poll(&Context::from_waker(&waker), |cx| {
            passes += 1;
            if passes < 3 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert_eq!((polled, passes, counted.0.load(SeqCst)), (Poll::Pending, 3, 0));
    }

    #[test]
    fn wake_ups_that_the_pass_answers_itself_are_no_further_pass() {
        let quiet = Quiet::new();
        let mut passes = 0;
        let polled = quiet.poll(&Context::from_waker(Waker::noop()), |cx| {
            passes += 1;
            cx.waker().wake_by_ref();
            quiet.answered();
            if passes == 1 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert_eq!((polled, passes), (Poll::Pending, 2));
    }

    #[test]
    fn waking_from_outside_reaches_the_task() {
        let (counted, quiet) = (Arc::<Counted>::default(), Quiet::new());
        let waker = Waker::from(Arc::clone(&counted));
        let mut inside = None;
        let _ = quiet.poll(&Context::from_waker(&waker), |cx| {
            inside = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        inside.unwrap().wake();
        assert_eq!(counted.0.load(SeqCst), 1);
    }

    #[test]
    fn one_that_never_rests_lets_others_have_their_turn() {
        let (counted, quiet) = (Arc::<Counted>::default(), Quiet::new());
        let waker = Waker::from(Arc::clone(&counted));
        let polled = quiet.poll(&Context::from_waker(&waker), |cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!((polled, counted.0.load(SeqCst)), (Poll::Pending, 1));
    }
}
