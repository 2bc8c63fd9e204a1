//! One worker thread: a runtime of its own, on which its connections, calls and channels live.

use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

use crate::listener::accept::Arrival;
use crate::listener::connection;
use crate::listener::worker::{Shared, Worker};
use crate::message::receipt::{Books, Totals};
use crate::metrics;
use crate::metrics::LostReason;
use crate::pool::door::LaneFigures;
use crate::pool::{Backends, Pool, Share};
use crate::wire::pace;

/// How often a worker audits its books.
const AUDIT: Duration = Duration::from_secs(1);

/// What a worker is made of.
#[derive(Clone)]
pub struct Parts {
    pub shared: Shared,
    /// Of every pool, in the order of the plan.
    pub pools: Vec<Arc<Backends>>,
    pub workers: usize,
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
    CloseCalls,
    Stop(oneshot::Sender<Totals>),
}

/// What a worker says of itself.
#[derive(Debug, Default)]
pub struct Report {
    pub totals: Totals,
    /// By pool, and there by the backend's name.
    pub waiting_messages: Vec<Vec<(String, u64)>>,
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
        // A worker naps for all its pools, so the most impatient one decides.
        let linger = parts.pools.iter().map(|pool| pool.settings().linger).min().unwrap_or_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || pace::nap(linger))
            .build()?;
        let connections = Arc::clone(&open);
        let handle = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, run(number, parts, inbox, connections));
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

/// The life of a worker.
async fn run(number: usize, parts: Parts, mut inbox: mpsc::UnboundedReceiver<Command>, open: Arc<AtomicUsize>) {
    let books = Books::new();
    let Parts { shared, pools, workers } = parts;
    let pools: Vec<Rc<Pool>> = pools.iter().map(|backends| start_pool(number, backends, workers, &books)).collect();
    let worker = Worker::new(shared, pools, books, Books::of_copies());
    let mut audit = tokio::time::interval(AUDIT);
    loop {
        let command = tokio::select! {
            command = inbox.recv() => command,
            _ = audit.tick() => {
                check_books(&worker);
                continue;
            }
        };
        match command {
            Some(Command::Serve(arrival)) => {
                spawn_local(serve(*arrival, Rc::clone(&worker), Arc::clone(&open)));
            }
            Some(Command::Report(answer)) => {
                let _ = answer.send(Report {
                    totals: worker.books.totals(),
                    waiting_messages: worker.pools.iter().map(|pool| pool.waiting_messages()).collect(),
                    lanes: worker.pools.iter().flat_map(|pool| pool.lanes()).collect(),
                });
            }
            Some(Command::CloseCalls) => {
                worker.closing.close();
                worker.pools.iter().for_each(|pool| pool.drain());
            }
            Some(Command::Stop(answer)) => {
                check_books(&worker);
                worker.books.shut_down();
                worker.pools.iter().for_each(|pool| pool.give_up_waiting(LostReason::Shutdown));
                let _ = answer.send(worker.books.at_end());
                return;
            }
            None => return,
        }
    }
}

/// One worker's view of a pool.
fn start_pool(number: usize, backends: &Arc<Backends>, workers: usize, books: &Rc<Books>) -> Rc<Pool> {
    let pool = Pool::new(backends, Share { number, workers }, books);
    spawn_local(Rc::clone(&pool).run());
    pool
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
fn check_books(worker: &Worker) {
    let totals = worker.books.totals();
    let in_pools: u64 = worker.pools.iter().map(|pool| pool.held_messages()).sum();
    let held = (in_pools + worker.held_by_calls.get()).saturating_sub(worker.mirror_books.totals().held);
    if !totals.is_conserved() || totals.held != held {
        metrics::conservation_violations().increment(1);
        tracing::error!(?totals, counted = held, "the books do not agree with what is held: this is a defect");
    }
}
