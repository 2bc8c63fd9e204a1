//! The only place where parts are wired: starts workers, listeners and admin from a plan, and drains them.

mod operator;
mod report;
mod thread;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::admin::snapshot::Snapshot;
use crate::admin::{self, Readiness, endpoints};
use crate::config::Plan;
use crate::listener::accept;
use crate::listener::register::Register;
use crate::listener::worker::Shared;
use crate::message::budget::Budget;
use crate::message::receipt::Totals;
use crate::metrics;
use crate::pool::Backends;
use crate::pool::backend::BackendFigures;
use crate::proto;
use crate::wire::services::{DescriptorError, Services};

pub use operator::Request;

use operator::Operator;
use report::Reporter;
use thread::{Parts, Thread};

/// A running gateway.
pub struct Gateway {
    reporter: Arc<Reporter>,
    threads: Vec<Arc<Thread>>,
    services: Services,
    leaving: watch::Sender<bool>,
    readiness: watch::Sender<Readiness>,
    addresses: Addresses,
    drain_deadline: Duration,
    operator: Arc<Operator>,
    tasks: Vec<JoinHandle<()>>,
    /// The ports of operators, which stay open to the end.
    doors: Vec<JoinHandle<()>>,
    /// Dropped at the end.
    open: watch::Sender<()>,
}

/// Where a gateway listens; ports asked for as 0 are filled in.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// The agents' ports, by the listener's name.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    /// Prometheus' port.
    pub prometheus: Option<SocketAddr>,
    /// The admin port.
    pub admin: Option<SocketAddr>,
    /// Where `/v1/endpoints` is.
    pub endpoints: Option<SocketAddr>,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port could not be had.
    #[error(transparent)]
    Listen(#[from] io::Error),
    /// A defect of the build: its own descriptors do not read.
    #[error(transparent)]
    Reflection(#[from] DescriptorError),
}

/// What a gateway did, at its end.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The books of all workers.
    pub totals: Totals,
    /// Every backend's figures.
    pub backends: Vec<BackendFigures>,
    /// How long the drain took.
    pub drained_in: Duration,
}

/// How long agents may end their calls themselves once they were asked to leave; endless ones do not.
const LEAVE_GRACE: Duration = Duration::from_millis(500);

/// Requests of operators that wait to be carried out; more are refused.
const REQUESTS_MAX: usize = 4;

/// How often a drain looks whether it is done.
const DRAIN_TICK: Duration = Duration::from_millis(10);

impl Gateway {
    /// Binds every port and starts working. Must be called within a tokio runtime, which runs acceptors and admin;
    /// the data path has threads of its own.
    ///
    /// # Errors
    /// When a port cannot be had; nothing is left running then.
    pub async fn start(plan: Plan) -> Result<Gateway, StartError> {
        let prometheus = metrics::install();
        let bound = Bound::bind(&plan).await?;
        let services = Services::new(&[proto::DESCRIPTOR_SET])?;
        let (leaving, is_leaving) = watch::channel(false);
        let (readiness, ready) = watch::channel(Readiness::Starting);
        let shared = Shared {
            listeners: bound.settings.clone(),
            limits: plan.limits.clone(),
            reply: plan.reply,
            routes: Arc::clone(&plan.routes),
            identity: Arc::new(plan.identity.clone()),
            budget: Budget::new(plan.memory_bytes),
            register: Register::new(plan.listeners.len()),
            services: services.clone(),
            leaving: is_leaving.clone(),
        };
        let pools = plan.pools.iter().cloned().map(Backends::new).collect();
        let parts = Parts { shared, pools, workers: plan.workers.max(1) };
        let threads: Vec<Arc<Thread>> = (0..parts.workers)
            .map(|worker| Thread::start(worker, parts.clone()).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let everywhere = Arc::new(Semaphore::new(plan.limits.connections_max));
        let mut tasks = Vec::new();
        for (port, (listener, settings)) in bound.listeners.into_iter().zip(bound.settings).enumerate() {
            let workers = threads.clone();
            let hand_over = move |arrival| thread::least_busy(&workers).serve(arrival);
            let (everywhere, leaving) = (Arc::clone(&everywhere), is_leaving.clone());
            tasks.push(tokio::spawn(accept::run(listener, port, settings, everywhere, leaving, hand_over)));
        }
        let reporter = Reporter::new(&parts, threads.clone());
        tasks.push(tokio::spawn(Arc::clone(&reporter).run(prometheus.clone())));
        let taker = Arc::clone(&reporter);
        let operator = Operator::new(&parts.pools);
        let shared_token = |token: &Option<admin::Token>| Arc::new(ArcSwapOption::new(token.clone().map(Arc::new)));
        let state = admin::State {
            snapshot: Arc::new(move || {
                let taker = Arc::clone(&taker);
                Box::pin(async move { taker.snapshot().await })
            }),
            ready: ready.clone(),
            prometheus,
            obey: operator.obey(),
            token: shared_token(&plan.admin_token),
        };
        let (open, is_open) = watch::channel(());
        let closed = || {
            let mut is_open = is_open.clone();
            // Nothing is ever sent: it ends when the sender is dropped.
            async move { is_open.changed().await.unwrap_or_default() }
        };
        let mut doors = Vec::new();
        if let Some(listener) = bound.prometheus {
            doors.push(tokio::spawn(admin::serve_prometheus(listener, state.clone(), closed())));
        }
        if let Some(listener) = bound.admin {
            doors.push(tokio::spawn(admin::serve_admin(listener, state, closed())));
        }
        if let Some(listener) = bound.endpoints {
            let (looker, token) = (Arc::clone(&reporter), shared_token(&plan.endpoints_token));
            let look = Arc::new(move |pool: Option<&str>| looker.look(pool));
            doors.push(tokio::spawn(endpoints::serve(listener, endpoints::State { look, ready, token }, closed())));
        }
        metrics::config_last_reload_successful().set(1.0);
        readiness.send_replace(Readiness::Ready);
        let (addresses, drain_deadline) = (bound.addresses, plan.drain_deadline);
        Ok(Gateway {
            reporter,
            threads,
            services,
            leaving,
            readiness,
            addresses,
            drain_deadline,
            operator,
            tasks,
            doors,
            open,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Whoever runs it takes the requests that only it can carry out, and answers each. Until then they are refused.
    pub fn take_requests(&self) -> mpsc::Receiver<Request> {
        let (runner, requests) = mpsc::channel(REQUESTS_MAX);
        self.operator.ask(runner);
        requests
    }

    /// What is going on.
    pub async fn snapshot(&self) -> Snapshot {
        self.reporter.snapshot().await
    }

    /// Stops: accepts nothing more, asks agents to leave, ends what calls are left, waits for the backends' answers
    /// and gives up what is unanswered when the drain deadline has passed.
    pub async fn drain(self) -> Summary {
        let since = Instant::now();
        let until = since + self.drain_deadline;
        self.readiness.send_replace(Readiness::Draining("the gateway is shutting down".to_owned()));
        self.services.set_serving(false);
        self.leaving.send_replace(true);
        let leave_until = until.min(since + LEAVE_GRACE);
        while !self.reporter.register().is_empty() && Instant::now() < leave_until {
            tokio::time::sleep(DRAIN_TICK).await;
        }
        self.threads.iter().for_each(|thread| thread.close_calls());
        while Instant::now() < until {
            let is_done = self.reporter.totals().await.held == 0 && self.reporter.register().is_empty();
            if is_done {
                break;
            }
            tokio::time::sleep(DRAIN_TICK).await;
        }
        self.tasks.iter().for_each(JoinHandle::abort);
        // What is being answered, perhaps the order to drain, is answered; that takes two seconds at most.
        drop(self.open);
        for door in self.doors {
            let _ = door.await;
        }
        let mut totals = Totals::default();
        for thread in &self.threads {
            totals = totals + thread.stop().await;
        }
        Summary { totals, backends: self.reporter.backends(), drained_in: since.elapsed() }
    }
}

impl Addresses {
    /// Writes the addresses that were bound into a plan, to be shown.
    pub fn fill_in(&self, plan: &mut Plan) {
        for (listener, (_, address)) in plan.listeners.iter_mut().zip(&self.listeners) {
            listener.address = *address;
        }
        (plan.prometheus, plan.admin, plan.endpoints) = (self.prometheus, self.admin, self.endpoints);
    }
}

/// The ports of a plan, bound.
struct Bound {
    listeners: Vec<TcpListener>,
    /// With the addresses the kernel gave.
    settings: Vec<crate::listener::Settings>,
    prometheus: Option<TcpListener>,
    admin: Option<TcpListener>,
    endpoints: Option<TcpListener>,
    addresses: Addresses,
}

impl Bound {
    async fn bind(plan: &Plan) -> io::Result<Self> {
        let (mut listeners, mut settings, mut addresses) = (Vec::new(), Vec::new(), Addresses::default());
        for asked in &plan.listeners {
            let listener = accept::bind(asked)?;
            let address = listener.local_addr()?;
            addresses.listeners.push((asked.name, address));
            settings.push(crate::listener::Settings { address, ..asked.clone() });
            listeners.push(listener);
        }
        let prometheus = bind_one("prometheus", plan.prometheus).await?;
        let admin = bind_one("admin", plan.admin).await?;
        let endpoints = bind_one("endpoints", plan.endpoints).await?;
        addresses.prometheus = prometheus.as_ref().and_then(|listener| listener.local_addr().ok());
        addresses.admin = admin.as_ref().and_then(|listener| listener.local_addr().ok());
        addresses.endpoints = endpoints.as_ref().and_then(|listener| listener.local_addr().ok());
        Ok(Self { listeners, settings, prometheus, admin, endpoints, addresses })
    }
}

async fn bind_one(name: &str, address: Option<SocketAddr>) -> io::Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let explain = |error: io::Error| {
        let message = format!(
            "cannot listen on {address} for {name}: {error}; choose another as listen.{name}, or turn it `off`"
        );
        io::Error::new(error.kind(), message)
    };
    TcpListener::bind(address).await.map(Some).map_err(explain)
}
