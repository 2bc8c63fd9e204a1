//! What the calls of one worker share. It lives on the worker's thread; nothing in it is locked.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use ::metrics::Counter;
use tokio::time::Instant;

use crate::message::budget::{Budget, Permit};
use crate::message::flow::Flow;
use crate::message::parcel::cost;
use crate::message::receipt::{Books, Receipt};
use crate::metrics::{self, BadInput, LostReason};
use crate::pool::Pool;
use crate::route::sorter::Sorted;
use crate::wire::grpc::{Code, Status};
use crate::wire::server::Answering;
use crate::wire::services::Services;

use super::LISTENERS;
use super::register::Register;
use super::reply::Complaint;
use super::terms::Terms;

/// What all workers have in common.
#[derive(Clone)]
pub struct Shared {
    /// The bytes all workers may hold.
    pub budget: Arc<Budget>,
    /// Health and reflection.
    pub services: Services,
    /// The open calls of all workers.
    pub register: Arc<Register>,
}

/// One worker as its connections see it.
pub struct Worker {
    /// What it has in common with the others.
    pub shared: Shared,
    /// The ports, by their place among [`LISTENERS`].
    pub ports: [Port; LISTENERS.len()],
    terms: RefCell<Rc<Terms>>,
    /// What this worker received and what became of it.
    pub books: Rc<Books>,
    /// The copies this worker made and what became of them.
    pub mirror_books: Rc<Books>,
    /// How the budget is doing.
    pub budget_metrics: metrics::Budget,
    /// Messages that calls hold themselves, relayed ones above all; no lane holds them.
    pub held_by_calls: Cell<u64>,
    /// Set when agents should go elsewhere.
    pub leaving: Rc<Closing>,
    /// Set when calls must end.
    pub closing: Rc<Closing>,
    received: RefCell<HashMap<(&'static str, &'static str), Rc<metrics::Received>>>,
    replies: RefCell<HashMap<(&'static str, &'static str), Counter>>,
}

/// One listener as a worker's calls see it.
pub struct Port {
    /// The listener's name.
    pub name: &'static str,
    /// The only flow it serves.
    pub only: Option<Flow>,
    /// Its metric handles.
    pub metrics: metrics::Listener,
}

/// Tells those of a worker that listen to come to an end: its connections, its calls, the calls of one connection.
#[derive(Default)]
pub struct Closing {
    /// For a connection's: the worker's, which ends its calls as well.
    whole: Option<Rc<Closing>>,
    is_closing: Cell<bool>,
    listening: RefCell<HashMap<u64, Waker>>,
    next_id: Cell<u64>,
}

/// An ear for [`Closing`]; dropping it leaves nothing behind.
pub struct Ear {
    closing: Rc<Closing>,
    /// Where it listens: there, and at the whole if there is one.
    ids: Option<(u64, Option<u64>)>,
}

// === impl Worker ===

impl Worker {
    /// A worker that serves calls under these terms and keeps these books.
    pub fn new(shared: Shared, terms: Rc<Terms>, books: Rc<Books>, mirror_books: Rc<Books>) -> Rc<Self> {
        Rc::new(Self {
            ports: LISTENERS.map(|(name, only)| Port { name, only, metrics: metrics::Listener::of(name) }),
            terms: RefCell::new(terms),
            shared,
            books,
            mirror_books,
            budget_metrics: metrics::Budget::resolve(),
            held_by_calls: Cell::default(),
            leaving: Rc::default(),
            closing: Rc::default(),
            received: RefCell::default(),
            replies: RefCell::default(),
        })
    }

    /// The terms of now.
    pub fn terms(&self) -> Rc<Terms> {
        Rc::clone(&self.terms.borrow())
    }

    /// Whether these are the terms of now.
    pub fn is_current(&self, terms: &Rc<Terms>) -> bool {
        Rc::ptr_eq(&self.terms.borrow(), terms)
    }

    /// From now on calls are served under these; those that are open look for them when they get bytes.
    pub fn adopt(&self, terms: Rc<Terms>) {
        self.terms.replace(terms);
    }

    /// The handles of one method on one listener; resolved once a worker.
    pub fn received(&self, port: usize, method: &'static str) -> Rc<metrics::Received> {
        let listener = self.ports[port].name;
        let mut received = self.received.borrow_mut();
        let handles = received.entry((listener, method));
        let on_listener = || Counter::from_arc(Arc::clone(&self.shared.register.port(port).messages));
        Rc::clone(handles.or_insert_with(|| Rc::new(metrics::Received::of(listener, method, on_listener()))))
    }

    /// Counts a reply. Calls that are reset get none.
    pub fn replied(&self, listener: &'static str, code: Code) {
        let mut replies = self.replies.borrow_mut();
        let replies = replies.entry((listener, code.name()));
        replies.or_insert_with(|| metrics::replies(listener, code.name())).increment(1);
    }

    /// Ends a call with a status.
    pub fn reply(&self, mut answering: Answering, listener: &'static str, status: &Status) {
        answering.status(status);
        self.replied(listener, status.code);
    }

    /// Ends a call because of what its caller said, and counts that where people look for it.
    pub fn refuse(&self, answering: Answering, listener: &'static str, complaint: &Complaint) {
        tracing::debug!(listener, status = %complaint.status, "call refused");
        self.bad_input(listener, complaint.reason, 1);
        self.reply(answering, listener, &complaint.status);
    }

    /// Counts calls or messages that were refused because of what their caller said.
    pub fn bad_input(&self, listener: &'static str, reason: BadInput, times: u32) {
        if let Some(port) = self.ports.iter().find(|port| port.name == listener) {
            port.metrics.bad_input(reason).increment(u64::from(times));
        }
    }

    /// Gives a copy of messages to another pool. Copies hold nothing up: what the budget or the pool has no room for at
    /// once is not copied.
    pub fn mirror(&self, pool: &Rc<Pool>, sorted: &Sorted) {
        let receipt = Receipt::open(&self.mirror_books);
        let mut copies = sorted.clone();
        while let Some(taken) = copies.take() {
            let ticket = receipt.issue(taken.0.messages());
            let Some(permit) = self.shared.budget.try_reserve(sorted.subject.flow, cost(&taken.0)) else {
                ticket.lose(LostReason::Limited);
                continue;
            };
            pool.take_now(sorted.parcel(taken, ticket, permit));
        }
    }

    /// Waits, and counts that it was for memory.
    pub async fn count_wait<T>(&self, wait: impl Future<Output = T>) -> T {
        let since = Instant::now();
        let waited = wait.await;
        self.budget_metrics.waits.increment(1);
        self.budget_metrics.wait_seconds.record(since.elapsed().as_secs_f64());
        waited
    }

    /// Waits for a permit until then, and counts that it had to.
    ///
    /// # Errors
    /// What a caller is told for whom there was no memory in time.
    pub async fn wait_for_permit(
        &self,
        until: Instant,
        permit: impl Future<Output = Permit>,
    ) -> Result<Permit, Status> {
        let permit = self.count_wait(tokio::time::timeout_at(until, permit)).await;
        permit.map_err(|_| {
            Status::new(Code::Unavailable, "no memory for the message in time; see switchyard_memory_budget_used_bytes")
        })
    }
}

// === impl Closing ===

impl Closing {
    /// For a part of those calls.
    pub fn within(whole: &Rc<Self>) -> Rc<Self> {
        Rc::new(Self { whole: Some(Rc::clone(whole)), ..Self::default() })
    }

    /// Ends everything that listens, now and later.
    pub fn close(&self) {
        self.is_closing.set(true);
        self.listening.take().into_values().for_each(Waker::wake);
    }

    /// An ear for it.
    pub fn ear(self: &Rc<Self>) -> Ear {
        Ear { closing: Rc::clone(self), ids: None }
    }

    fn is_closing(&self) -> bool {
        self.is_closing.get() || self.whole.as_ref().is_some_and(|whole| whole.is_closing())
    }

    fn listen(&self, cx: &Context<'_>) -> u64 {
        let id = self.next_id.replace(self.next_id.get() + 1);
        self.listening.borrow_mut().insert(id, cx.waker().clone());
        id
    }

    fn forget(&self, id: u64) {
        self.listening.borrow_mut().remove(&id);
    }
}

// === impl Ear ===

impl Ear {
    /// Whether it must end; if not, its task is woken when it must. The waker of a call or a connection does not change,
    /// so it is left here once.
    pub fn must_end(&mut self, cx: &Context<'_>) -> bool {
        let closing = &self.closing;
        if !closing.is_closing() && self.ids.is_none() {
            self.ids = Some((closing.listen(cx), closing.whole.as_ref().map(|whole| whole.listen(cx))));
        }
        closing.is_closing()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let Some((id, id_at_whole)) = self.ids else { return };
        self.closing.forget(id);
        if let Some((whole, id)) = self.closing.whole.as_ref().zip(id_at_whole) {
            whole.forget(id);
        }
    }
}
