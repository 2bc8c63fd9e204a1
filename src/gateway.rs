//! The only place where parts are wired: starts workers, listeners and admin from a plan, and drains them.

mod certificates;
mod descriptors;
mod followers;
mod operator;
mod ports;
mod report;
mod thread;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::admin::snapshot::Snapshot;
use crate::admin::{self, Readiness, endpoints};
use crate::config::Plan;
use crate::discovery::Source;
use crate::listener::register::Register;
use crate::listener::terms::Decided;
use crate::listener::worker::Shared;
use crate::listener::{self, LISTENERS};
use crate::message::budget::Budget;
use crate::message::receipt::Totals;
use crate::metrics;
use crate::pool::backend::BackendFigures;
use crate::pool::{Backends, Settings};
use crate::proto;
use crate::wire::services::{DescriptorError, Services};
use crate::wire::tls;

pub use operator::Request;

use descriptors::Descriptors;
use followers::Followers;
use operator::Operator;
use ports::{Closing, Ports};
use report::Reporter;
use thread::{Orders, Parts, Thread};

/// A running gateway.
pub struct Gateway {
    reporter: Arc<Reporter>,
    threads: Vec<Arc<Thread>>,
    services: Services,
    leaving: watch::Sender<bool>,
    readiness: watch::Sender<Readiness>,
    linger: Arc<AtomicU64>,
    addresses: ArcSwap<Addresses>,
    /// What it runs by; held by whoever changes it.
    running: Mutex<Running>,
    operator: Arc<Operator>,
    tasks: Vec<JoinHandle<()>>,
}

/// What a gateway runs by.
struct Running {
    plan: Plan,
    orders: Orders,
    ports: Ports,
    followers: Followers,
    /// For the connections of all listeners.
    places: Arc<Semaphore>,
    /// Looks after the plan's certificates.
    watch: Closing,
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

/// How often a gateway that has no backend yet looks for some.
const BACKENDS_TICK: Duration = Duration::from_millis(50);

impl Gateway {
    /// Binds every port and starts working. Must be called within a tokio runtime, which runs acceptors and admin;
    /// the data path has threads of its own.
    ///
    /// # Errors
    /// When a port cannot be had; nothing is left running then.
    pub async fn start(plan: Plan) -> Result<Gateway, StartError> {
        let prometheus = metrics::install();
        let descriptors = Descriptors::raise();
        let services = Services::new(&[proto::DESCRIPTOR_SET])?;
        let (leaving, is_leaving) = watch::channel(false);
        let (readiness, ready) = watch::channel(Readiness::Starting);
        let shared = Shared {
            budget: Budget::new(plan.memory_bytes),
            register: Register::new(LISTENERS.len()),
            services: services.clone(),
        };
        let orders = Orders {
            decided: Arc::new(decided(&plan, plan.listeners.clone())),
            pools: plan.pools.iter().cloned().map(Backends::new).collect(),
        };
        let linger = Arc::new(AtomicU64::new(linger_of(&plan)));
        let parts = Parts { shared, orders, workers: plan.workers.max(1), linger: Arc::clone(&linger) };
        let threads: Vec<Arc<Thread>> = (0..parts.workers)
            .map(|worker| Thread::start(worker, parts.clone()).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let reporter = Reporter::new(&parts, threads.clone());
        let reserve = Arc::clone(descriptors.reserve());
        descriptors.prepare(&parts.orders.pools, parts.workers, plan.limits.connections_max);
        let tasks = vec![
            tokio::spawn(Arc::clone(&reporter).run(prometheus.clone())),
            tokio::spawn(descriptors.run(Arc::clone(&reporter), parts.workers)),
        ];
        let (taker, looker, knower) = (Arc::clone(&reporter), Arc::clone(&reporter), Arc::clone(&reporter));
        let operator = Operator::new(move || knower.orders().pools.clone());
        let state = admin::State {
            snapshot: Arc::new(move || {
                let taker = Arc::clone(&taker);
                Box::pin(async move { taker.snapshot().await })
            }),
            ready: ready.clone(),
            prometheus,
            obey: operator.obey(),
            token: admin::SharedToken::default(),
        };
        let look = Arc::new(move |pool: Option<&str>| looker.look(pool));
        let endpoints = endpoints::State { look, ready, token: admin::SharedToken::default() };
        let ports = Ports::new(threads.clone(), is_leaving, reserve, state, endpoints);
        let addresses = ArcSwap::default();
        let places = Arc::new(Semaphore::new(plan.limits.connections_max));
        let watch = Closing::spawn(std::future::pending());
        let followers = Followers::default();
        let running = Running { plan: plan.clone(), orders: parts.orders, ports, followers, places, watch };
        let running = Mutex::new(running);
        let mut gateway =
            Gateway { reporter, threads, services, leaving, readiness, linger, addresses, running, operator, tasks };
        if let Err(error) = gateway.reload(plan).await {
            gateway.drain().await;
            return Err(error);
        }
        metrics::config_last_reload_successful().set(1.0);
        if has_backends(&gateway.reporter) {
            gateway.readiness.send_replace(Readiness::Ready);
        } else {
            gateway.wait_for_backends();
        }
        Ok(gateway)
    }

    /// Is ready once the first pool has backends. Other pools do not count: a missing archive must not keep agents out.
    fn wait_for_backends(&mut self) {
        self.services.set_serving(false);
        let pool = self.reporter.orders().pools.first().map(|pool| pool.settings().name.clone()).unwrap_or_default();
        self.readiness.send_replace(Readiness::Waiting(format!("no backend of the pool {pool} is known yet")));
        let (reporter, services, readiness) =
            (Arc::clone(&self.reporter), self.services.clone(), self.readiness.clone());
        self.tasks.push(tokio::spawn(async move {
            // A look rather than a notice, since a reload may make another pool the first.
            while !has_backends(&reporter) {
                tokio::time::sleep(BACKENDS_TICK).await;
            }
            readiness.send_if_modified(|state| {
                let is_waiting = matches!(state, Readiness::Waiting(_));
                if is_waiting {
                    // In here, so that a drain that begins now has the last word.
                    services.set_serving(true);
                    *state = Readiness::Ready;
                }
                is_waiting
            });
        }));
    }

    /// Runs by another plan from now on and touches only what is different: no call ends unless its method's contract
    /// is another, no connection ends, and a pool of the same name keeps its channels. The number of workers and the
    /// budget stay as they were. One reload at a time; others wait.
    ///
    /// # Errors
    /// When a port cannot be had; everything stays as it was then.
    pub async fn reload(&self, mut plan: Plan) -> Result<(), StartError> {
        let mut running = self.running.lock().await;
        certificates::keep(&mut plan, &running.plan);
        let prepared = running.ports.prepare(&plan)?;
        running.followers.keep(&plan);
        let known = |name: &str| running.orders.pools.iter().find(|pool| pool.settings().name == name);
        let source_before =
            |name: &str| running.plan.pools_and_sources().find(|(pool, _)| pool.name == name).map(|(_, source)| source);
        let backends = |(settings, source): (&Settings, &Source)| match known(&settings.name) {
            Some(pool) => {
                let named_before = pool.settings().backends.clone();
                if *pool.settings() != *settings {
                    pool.reconfigure(settings.clone());
                }
                // Those of a source are for its follower to say.
                let were_named = source_before(&settings.name) == Some(&Source::Static);
                if *source == Source::Static && !(were_named && named_before == settings.backends) {
                    pool.found(settings.backends.clone());
                }
                Arc::clone(pool)
            }
            None => Backends::new(settings.clone()),
        };
        let pools = plan.pools_and_sources().map(backends).collect();
        let orders = Orders { decided: Arc::new(decided(&plan, prepared.listeners())), pools };
        self.linger.store(linger_of(&plan), Relaxed);
        self.reporter.adopt(orders.clone());
        for thread in &self.threads {
            thread.adopt(orders.clone()).await;
        }
        if plan.limits.connections_max != running.plan.limits.connections_max {
            // Connections that are open count for the old places only.
            running.places = Arc::new(Semaphore::new(plan.limits.connections_max));
        }
        let places = Arc::clone(&running.places);
        running.ports.admit(&plan);
        running.ports.open(prepared, &places);
        running.followers.follow(orders.pools.iter().zip(plan.pools_and_sources().map(|(_, source)| source)));
        self.addresses.store(Arc::new(running.ports.addresses()));
        running.watch = Closing::spawn(tls::keep_fresh(certificates::of(&plan)));
        (running.plan, running.orders) = (plan, orders);
        // Nothing is new about it, but who watches pools looks again.
        self.readiness.send_modify(|_| {});
        Ok(())
    }

    /// Where it listens; ports asked for as 0 are filled in.
    pub fn addresses(&self) -> Arc<Addresses> {
        self.addresses.load_full()
    }

    /// Its pools, in the order of the plan.
    pub fn pools(&self) -> Vec<Arc<Backends>> {
        self.reporter.orders().pools.clone()
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
        let until = since + self.running.lock().await.plan.drain_deadline;
        self.readiness.send_replace(Readiness::Draining("the gateway is shutting down".to_owned()));
        self.services.set_serving(false);
        self.leaving.send_replace(true);
        self.threads.iter().for_each(|thread| thread.leave());
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
        let mut running = self.running.lock().await;
        running.followers.stop();
        // What is being answered, perhaps the order to drain, is answered.
        running.ports.close().await;
        drop(running);
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

/// Whether the first pool, where everything goes that no route is for, has any.
fn has_backends(reporter: &Reporter) -> bool {
    reporter.orders().pools.first().is_some_and(|pool| !pool.all().is_empty())
}

fn decided(plan: &Plan, listeners: Vec<listener::Settings>) -> Decided {
    Decided {
        listeners,
        limits: plan.limits.clone(),
        reply: plan.reply,
        identity: plan.identity.clone(),
        routes: Arc::clone(&plan.routes),
    }
}

/// In nanoseconds.
fn linger_of(plan: &Plan) -> u64 {
    let linger = plan.pools.iter().map(|pool| pool.linger).min().unwrap_or_default();
    u64::try_from(linger.as_nanos()).unwrap_or(u64::MAX)
}
