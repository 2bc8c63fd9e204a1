//! The only place where parts are wired: starts workers, listeners and admin from a plan, and drains them.

mod report;
mod thread;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::admin::snapshot::Snapshot;
use crate::admin::{self, Readiness};
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
use crate::wire::tls::{self, ServerTls, Watched};

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
    tasks: Vec<JoinHandle<()>>,
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
        let state = admin::State {
            snapshot: Arc::new(move || {
                let taker = Arc::clone(&taker);
                Box::pin(async move { taker.snapshot().await })
            }),
            ready,
            prometheus,
        };
        tasks.push(tokio::spawn(tls::keep_fresh(watched(&plan))));
        if let Some(port) = bound.prometheus {
            tasks.push(tokio::spawn(admin::serve_prometheus(port, state.clone(), std::future::pending())));
        }
        if let Some(port) = bound.admin {
            tasks.push(tokio::spawn(admin::serve_admin(port, state, std::future::pending())));
        }
        metrics::config_last_reload_successful().set(1.0);
        readiness.send_replace(Readiness::Ready);
        let (addresses, drain_deadline) = (bound.addresses, plan.drain_deadline);
        Ok(Gateway { reporter, threads, services, leaving, readiness, addresses, drain_deadline, tasks })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
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
        (plan.prometheus, plan.admin) = (self.prometheus, self.admin);
    }
}

/// The ports of a plan, bound.
struct Bound {
    listeners: Vec<TcpListener>,
    /// With the addresses the kernel gave.
    settings: Vec<crate::listener::Settings>,
    prometheus: Option<admin::Port>,
    admin: Option<admin::Port>,
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
        let prometheus = bind_one("prometheus", plan.prometheus, &plan.prometheus_tls).await?;
        let admin = bind_one("admin", plan.admin, &plan.admin_tls).await?;
        addresses.prometheus = prometheus.as_ref().and_then(|port| port.listener.local_addr().ok());
        addresses.admin = admin.as_ref().and_then(|port| port.listener.local_addr().ok());
        Ok(Self { listeners, settings, prometheus, admin, addresses })
    }
}

async fn bind_one(
    name: &'static str,
    address: Option<SocketAddr>,
    tls: &Option<Arc<ServerTls>>,
) -> io::Result<Option<admin::Port>> {
    let Some(address) = address else { return Ok(None) };
    let explain = |error: io::Error| {
        let message =
            format!("cannot listen on {address} for {name}: {error}; choose another with --{name} or turn it `off`");
        io::Error::new(error.kind(), message)
    };
    let listener = TcpListener::bind(address).await.map_err(explain)?;
    Ok(Some(admin::Port { name, listener, tls: tls.clone() }))
}

/// Everything in a plan that was made of certificates.
fn watched(plan: &Plan) -> Vec<Watched> {
    let ports = plan.listeners.iter().map(|listener| &listener.tls).chain([&plan.prometheus_tls, &plan.admin_tls]);
    let pools = plan.pools.iter().filter_map(|pool| pool.tls.clone());
    ports.flatten().cloned().map(Watched::Server).chain(pools.map(Watched::Client)).collect()
}
