//! One worker thread: a runtime of its own, on which its connections, calls and channels live.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use crate::listener::accept::Arrival;
use crate::listener::connection;
use crate::listener::terms::{Decided, Terms};
use crate::listener::worker::{Shared, Worker};
use crate::message::receipt::{Books, Totals};
use crate::metrics;
use crate::metrics::{LostReason, tally};
use crate::pool::door::LaneFigures;
use crate::pool::{Backends, Pool, Share};
use crate::route::sorter::Subjects;
use crate::wire::pace;

/// How often a worker audits its books.
const AUDIT: Duration = Duration::from_secs(1);

/// What a worker is made of.
#[derive(Clone)]
pub struct Parts {
    pub shared: Shared,
    pub orders: Orders,
    pub workers: usize,
    /// Nanoseconds; a worker naps for all its pools, so the most impatient one decides.
    pub linger: Arc<AtomicU64>,
}

/// What every worker is to serve calls by.
#[derive(Clone)]
pub struct Orders {
    pub decided: Arc<Decided>,
    /// Of every pool, in the order of the plan. A pool that stays is the same one.
    pub pools: Vec<Arc<Backends>>,
}

/// The near side of a worker thread.
pub struct Thread {
    commands: mpsc::UnboundedSender<Command>,
    /// Connections it serves.
    open: Arc<AtomicUsize>,
    handle: Mutex<Option<thread::JoinHandle<()>>>,
}

/// What a worker is told. Few: connections that begin and questions of people, so the queue needs no bound beside the
/// limit of connections.
enum Command {
    Serve(Box<Arrival>),
    Report(oneshot::Sender<Report>),
    Adopt(Orders, oneshot::Sender<()>),
    Leave,
    CloseCalls,
    Stop(oneshot::Sender<Totals>),
}

/// What a worker says of itself.
#[derive(Debug, Default)]
pub struct Report {
    pub totals: Totals,
    /// By pool, and there by the backend's name.
    pub waiting_messages: HashMap<String, Vec<(String, u64)>>,
    /// With the backend's name.
    pub lanes: Vec<(String, LaneFigures)>,
}

/// The worker with the least to do.
pub fn least_busy(threads: &[Arc<Thread>]) -> &Thread {
    threads.iter().min_by_key(|thread| thread.open.load(Relaxed)).expect("a gateway has a worker")
}

impl Thread {
    /// Starts the thread of one worker.
    pub fn start(number: usize, parts: Parts) -> io::Result<Self> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicUsize::new(0));
        let linger = Arc::clone(&parts.linger);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || {
                tally::tell();
                pace::nap(Duration::from_nanos(linger.load(Relaxed)));
            })
            .build()?;
        let connections = Arc::clone(&open);
        let handle = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, run(number, parts, inbox, connections));
            // With what is left it drops its last messages.
            drop(local);
            tally::tell();
        })?;
        Ok(Self { commands, open, handle: Mutex::new(Some(handle)) })
    }

    /// Serves a connection.
    pub fn serve(&self, arrival: Arrival) {
        self.open.fetch_add(1, Relaxed);
        // A worker that is gone serves nothing: dropping the arrival closes it.
        let _ = self.commands.send(Command::Serve(Box::new(arrival)));
    }

    /// What it is doing; empty when the worker is gone.
    pub async fn report(&self) -> Report {
        let (answer, report) = oneshot::channel();
        let _ = self.commands.send(Command::Report(answer));
        report.await.unwrap_or_default()
    }

    /// Serves calls by these orders from now on; answers once it does, or when the worker is gone.
    pub async fn adopt(&self, orders: Orders) {
        let (done, adopted) = oneshot::channel();
        let _ = self.commands.send(Command::Adopt(orders, done));
        let _ = adopted.await;
    }

    /// Sends its agents elsewhere, those of now and those still to come.
    pub fn leave(&self) {
        let _ = self.commands.send(Command::Leave);
    }

    /// Ends its calls and closes trips as they are loaded.
    pub fn close_calls(&self) {
        let _ = self.commands.send(Command::CloseCalls);
    }

    /// Ends the thread; what it still held is lost to the shutdown.
    pub async fn stop(&self) -> Totals {
        let (answer, totals) = oneshot::channel();
        let _ = self.commands.send(Command::Stop(answer));
        let totals = totals.await.unwrap_or_default();
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = handle {
            // The worker has answered and only drops what it has; joining in place is short.
            let _ = tokio::task::spawn_blocking(move || handle.join()).await;
        }
        totals
    }
}

/// The pools of a worker.
struct Pools {
    share: Share,
    books: Rc<Books>,
    subjects: Rc<Subjects>,
    /// Those of the plan, in its order.
    working: Vec<Working>,
    /// Those that are no longer in the plan and still have something.
    departing: Vec<Working>,
}

/// A pool and the task that keeps it fresh.
#[derive(Clone)]
struct Working {
    backends: Arc<Backends>,
    pool: Rc<Pool>,
    task: AbortHandle,
}

impl Pools {
    /// Makes the pools those of these orders; answers the terms they stand for.
    fn follow(&mut self, orders: Orders) -> Rc<Terms> {
        let before = std::mem::take(&mut self.working);
        let known = |backends: &Arc<Backends>| before.iter().find(|working| Arc::ptr_eq(&working.backends, backends));
        self.working = orders
            .pools
            .iter()
            .map(|backends| known(backends).cloned().unwrap_or_else(|| self.start(backends)))
            .collect();
        let stays = |old: &Working| self.working.iter().any(|working| Rc::ptr_eq(&working.pool, &old.pool));
        self.departing.extend(before.into_iter().filter(|old| !stays(old)));
        let pools = self.working.iter().map(|working| Rc::clone(&working.pool)).collect();
        Terms::new(orders.decided, pools, &self.subjects)
    }

    fn start(&self, backends: &Arc<Backends>) -> Working {
        let pool = Pool::new(backends, self.share, &self.books);
        let task = spawn_local(Rc::clone(&pool).run()).abort_handle();
        Working { backends: Arc::clone(backends), pool, task }
    }

    fn all(&self) -> impl Iterator<Item = &Rc<Pool>> {
        self.working.iter().chain(&self.departing).map(|working| &working.pool)
    }

    /// Lets go of the pools that are no longer in the plan, once nothing is left of them and no call holds them.
    fn let_go(&mut self) {
        self.departing.retain(|Working { pool, task, .. }| {
            // Held here and by its own task.
            let is_over = pool.depart() && Rc::strong_count(pool) <= 2;
            if is_over {
                task.abort();
            }
            !is_over
        });
    }
}

/// The life of a worker.
async fn run(number: usize, parts: Parts, mut inbox: mpsc::UnboundedReceiver<Command>, open: Arc<AtomicUsize>) {
    let books = Books::new();
    let share = Share { number, workers: parts.workers };
    let (working, departing, subjects) = Default::default();
    let mut pools = Pools { share, books: Rc::clone(&books), subjects, working, departing };
    let terms = pools.follow(parts.orders);
    let worker = Worker::new(parts.shared, terms, books, Books::of_copies());
    let mut audit = tokio::time::interval(AUDIT);
    loop {
        let command = tokio::select! {
            command = inbox.recv() => command,
            _ = audit.tick() => {
                check_books(&worker, &pools);
                pools.let_go();
                // One that is never idle never parks.
                tally::tell();
                continue;
            }
        };
        match command {
            Some(Command::Serve(arrival)) => {
                spawn_local(serve(*arrival, Rc::clone(&worker), Arc::clone(&open)));
            }
            Some(Command::Report(answer)) => {
                let waiting =
                    |working: &Working| (working.backends.settings().name.clone(), working.pool.waiting_messages());
                let _ = answer.send(Report {
                    totals: worker.books.totals(),
                    waiting_messages: pools.working.iter().map(waiting).collect(),
                    lanes: pools.all().flat_map(|pool| pool.lanes()).collect(),
                });
            }
            Some(Command::Adopt(orders, done)) => {
                worker.adopt(pools.follow(orders));
                let _ = done.send(());
            }
            Some(Command::Leave) => worker.leaving.close(),
            Some(Command::CloseCalls) => {
                worker.closing.close();
                pools.all().for_each(|pool| pool.drain());
            }
            Some(Command::Stop(answer)) => {
                check_books(&worker, &pools);
                worker.books.shut_down();
                pools.all().for_each(|pool| pool.give_up_waiting(LostReason::Shutdown));
                let _ = answer.send(worker.books.at_end());
                return;
            }
            None => return,
        }
    }
}

async fn serve(arrival: Arrival, worker: Rc<Worker>, open: Arc<AtomicUsize>) {
    let figures = Rc::clone(&worker);
    let port = arrival.port;
    figures.shared.register.port(port).connections.fetch_add(1, Relaxed);
    figures.ports[port].metrics.connections_open.increment(1.0);
    match arrival.settle() {
        Ok((stream, peer, port, _places)) => {
            connection::serve(stream, peer, port, worker).await;
        }
        Err(error) => tracing::warn!(%error, "a connection could not be watched and is closed"),
    }
    figures.ports[port].metrics.connections_open.decrement(1.0);
    figures.shared.register.port(port).connections.fetch_sub(1, Relaxed);
    open.fetch_sub(1, Relaxed);
}

/// Holds the books against a count of their own kind: what calls and channels really hold.
fn check_books(worker: &Worker, pools: &Pools) {
    let totals = worker.books.totals();
    let in_pools: u64 = pools.all().map(|pool| pool.held_messages()).sum();
    let held = (in_pools + worker.held_by_calls.get()).saturating_sub(worker.mirror_books.totals().held);
    if !totals.is_conserved() || totals.held != held {
        metrics::conservation_violations().increment(1);
        tracing::error!(?totals, counted = held, "the books do not agree with what is held: this is a defect");
    }
}
