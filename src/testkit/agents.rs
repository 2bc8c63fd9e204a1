//! Any number of agents, as a load: they open streams, send, half-close, wait for the reply, and keep honest books.
//!
//! An agent is one stream at a time, reopened for ever; like the Java agent it never sends a message twice. Paced
//! agents follow a schedule fixed in advance (open loop): what a slow gateway delays is sent late, not left out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use super::check::{Sent, SentBy};
use crate::wire::grpc::Status;
use crate::wire::tls::ClientTls;

mod agent;
mod link;
mod traffic;

pub use traffic::Traffic;

use agent::Agent;
use link::Link;

/// What to send, where to and how fast.
#[derive(Debug, Clone)]
pub struct Load {
    /// `host:port`; names are resolved at each connect.
    pub to: String,
    /// How long the first connect of each connection may be retried. Lost connections are retried for ever.
    pub wait: Duration,
    /// The kind of messages.
    pub traffic: Traffic,
    /// Connections.
    pub connections: usize,
    /// Agents (streams at a time) per connection.
    pub streams: usize,
    /// Messages per second and agent; 0: as fast as flow control allows.
    pub rate: f64,
    /// Bytes of a message's body; messages are never shorter than their fields need.
    pub bytes: usize,
    /// Messages per DATA frame, at most 16 KiB; only without a rate.
    pub batch: usize,
    /// The first agent's rate and number of messages are this many times the others'.
    pub skew: f64,
    /// Messages after which a stream is half-closed, its reply awaited and the next one opened; 0: never.
    pub messages_per_stream: u64,
    /// Messages per agent in all; 0: no limit.
    pub messages: u64,
    /// When to stop; `None`: never.
    pub duration: Option<Duration>,
    /// Distinct services (nodes, for Envoy) the agents belong to; 0 and 1: all to one.
    pub services: usize,
    /// First word of the agents' names: `<name>.<connection>.<stream>`. Two loads of one test need two names.
    pub name: String,
    /// How long open calls may wait for their reply at the end of limit or duration.
    pub drain: Duration,
    /// How long a half-closed call may wait for its reply.
    pub reply_deadline: Duration,
    /// How the certificate of `to` is looked at and theirs shown; `None`: they speak no TLS.
    pub tls: Option<Arc<ClientTls>>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Messages handed to the transport whole.
    pub sent: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Calls opened.
    pub calls: u64,
    /// Calls answered OK after our half-close.
    pub answered: u64,
    /// Calls answered OK before it: the peer may not have read everything.
    pub early: u64,
    /// Calls ended otherwise, by status name.
    pub errors: BTreeMap<String, u64>,
    /// Messages paced agents did not send because they had no stream at their time.
    pub abandoned: u64,
    /// Connections made.
    pub connects: u64,
    /// Connections given up because nobody listened for `wait`.
    pub unreached: u64,
    /// Seconds from start to end.
    pub elapsed_s: f64,
    /// Messages sent per second of that.
    pub messages_per_s: f64,
    /// From half-close (unary: from when the call was due) to the reply, for calls answered OK.
    pub reply_us: Latency,
    /// What each agent sent; ids are `<agent>-<seq>` with seq from 0.
    pub agents: SentBy,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// A load that runs on a thread of its own.
#[derive(Debug)]
pub struct Running {
    stop: oneshot::Sender<()>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Outcome>,
}

/// What the agents of one load write together.
struct Book {
    outcome: RefCell<Outcome>,
    reply_us: RefCell<Histogram<u64>>,
    /// Messages sent so far, readable from other threads.
    sent: Arc<AtomicU64>,
    /// Set when agents are to end their calls.
    over: Cell<bool>,
}

/// What a stop from outside leaves open calls for their reply: the process has a second to be gone.
const STOP_DRAIN: Duration = Duration::from_millis(700);
/// Connects at a time.
const CONNECTS_MAX: usize = 64;

impl Default for Load {
    fn default() -> Self {
        Self {
            to: "127.0.0.1:11800".to_owned(),
            wait: Duration::from_secs(10),
            traffic: Traffic::Trace,
            connections: 1,
            streams: 1,
            rate: 0.0,
            bytes: 200,
            batch: 1,
            skew: 1.0,
            messages_per_stream: 0,
            messages: 0,
            duration: None,
            services: 1,
            name: "agent".to_owned(),
            drain: Duration::from_secs(10),
            reply_deadline: Duration::from_secs(30),
            tls: None,
        }
    }
}

// === impl Load ===

impl Load {
    /// Runs until every agent has sent its messages, the duration is over or `stop` resolves. Needs a tokio runtime
    /// with time and I/O; the future is not `Send`: use [`Load::start`] from multi-threaded places.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Outcome {
        self.run_counted(stop, Arc::default()).await
    }

    /// Runs on a thread of its own.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn start(self) -> std::io::Result<Running> {
        let (stop, stopped) = oneshot::channel::<()>();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("agents".to_owned()).spawn(move || {
            let stopped = async { drop(stopped.await) };
            runtime.block_on(self.run_counted(stopped, counter))
        })?;
        Ok(Running { stop, sent, thread })
    }

    async fn run_counted(self, stop: impl Future<Output = ()>, sent: Arc<AtomicU64>) -> Outcome {
        LocalSet::new().run_until(self.run_local(stop, sent)).await
    }

    async fn run_local(self, stop: impl Future<Output = ()>, sent: Arc<AtomicU64>) -> Outcome {
        let started = Instant::now();
        let book = Rc::new(Book {
            outcome: RefCell::default(),
            reply_us: RefCell::new(Histogram::new_with_max(3_600_000_000, 3).expect("bounds are valid")),
            sent,
            over: Cell::new(false),
        });
        let (ending, ended) = watch::channel(None);
        let connects = Rc::new(tokio::sync::Semaphore::new(CONNECTS_MAX));
        let load = Rc::new(self);
        let mut links = JoinSet::new();
        let mut agents = JoinSet::new();
        for connection in 0..load.connections {
            let (link, task) = Link::new(&load, &book, &connects);
            links.spawn_local(task);
            for stream in 0..load.streams {
                let agent = Agent::new(&load, (connection, stream), &link, &book, ended.clone());
                agents.spawn_local(agent.run());
            }
        }
        drop(ended);
        let all_done = async { while agents.join_next().await.is_some() {} };
        tokio::pin!(all_done);
        let drain = tokio::select! {
            () = &mut all_done => None,
            () = stop => Some(load.drain.min(STOP_DRAIN)),
            () = after(load.duration) => Some(load.drain),
        };
        if let Some(drain) = drain {
            book.over.set(true);
            ending.send_replace(Some(Instant::now() + drain));
            all_done.await;
        }
        book.outcome(started.elapsed())
    }
}

async fn after(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

// === impl Running ===

impl Running {
    /// Messages sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether it has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Half-closes every call, waits for replies at most 0.7 s.
    pub fn stop(self) -> Outcome {
        // An error means that it has ended already.
        let _ = self.stop.send(());
        self.thread.join().expect("the load does not panic")
    }

    /// Waits for its end by limit or duration.
    pub fn wait(self) -> Outcome {
        self.thread.join().expect("the load does not panic")
    }
}

// === impl Book ===

impl Book {
    fn sent(&self, messages: u64, bytes: usize) {
        let mut outcome = self.outcome.borrow_mut();
        outcome.sent += messages;
        outcome.bytes += bytes as u64;
        self.sent.fetch_add(messages, Ordering::Relaxed);
    }

    fn called(&self) {
        self.outcome.borrow_mut().calls += 1;
    }

    fn answered(&self, latency: Duration) {
        self.outcome.borrow_mut().answered += 1;
        self.reply_us.borrow_mut().saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    fn answered_early(&self) {
        self.outcome.borrow_mut().early += 1;
    }

    fn failed(&self, status: &Status) {
        *self.outcome.borrow_mut().errors.entry(status.code.name().to_owned()).or_default() += 1;
    }

    fn abandoned(&self, messages: u64) {
        self.outcome.borrow_mut().abandoned += messages;
    }

    fn connected(&self) {
        self.outcome.borrow_mut().connects += 1;
    }

    fn unreached(&self) {
        self.outcome.borrow_mut().unreached += 1;
    }

    fn left(&self, agent: String, sent: Sent) {
        self.outcome.borrow_mut().agents.insert(agent, sent);
    }

    fn outcome(&self, elapsed: Duration) -> Outcome {
        let mut outcome = self.outcome.take();
        let latencies = self.reply_us.borrow();
        outcome.elapsed_s = elapsed.as_secs_f64();
        outcome.messages_per_s = outcome.sent as f64 / outcome.elapsed_s.max(1e-9);
        outcome.reply_us = Latency {
            count: latencies.len(),
            p50: latencies.value_at_quantile(0.5),
            p99: latencies.value_at_quantile(0.99),
            p999: latencies.value_at_quantile(0.999),
            max: latencies.max(),
        };
        outcome
    }
}
