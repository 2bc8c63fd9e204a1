//! Gathers what workers and backends say of themselves into one snapshot, and keeps slow gauges fresh.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::admin::snapshot::{self, Snapshot};
use crate::listener::Settings;
use crate::listener::register::Register;
use crate::message::budget::Budget;
use crate::message::receipt::Totals;
use crate::metrics::{self, LostReason};
use crate::pool::Backends;
use crate::pool::backend::BackendFigures;

use super::thread::{Orders, Parts, Report, Thread};

/// How often rates are measured.
const SAMPLE: Duration = Duration::from_secs(1);

/// Asks everybody and sums up.
pub struct Reporter {
    threads: Vec<Arc<Thread>>,
    orders: ArcSwap<Orders>,
    budget: Arc<Budget>,
    register: Arc<Register>,
    started: Instant,
    /// By pool and backend.
    rates: Mutex<HashMap<(String, String), Rate>>,
}

/// How fast messages are written to one backend.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    written: u64,
    per_second: f64,
}

impl Reporter {
    pub fn new(parts: &Parts, threads: Vec<Arc<Thread>>) -> Arc<Self> {
        Arc::new(Self {
            threads,
            orders: ArcSwap::from_pointee(parts.orders.clone()),
            budget: Arc::clone(&parts.shared.budget),
            register: Arc::clone(&parts.shared.register),
            started: Instant::now(),
            rates: Mutex::default(),
        })
    }

    /// What is reported on from now on.
    pub fn adopt(&self, orders: Orders) {
        self.orders.store(Arc::new(orders));
    }

    /// What is reported on.
    pub fn orders(&self) -> Arc<Orders> {
        self.orders.load_full()
    }

    /// The open calls.
    pub fn register(&self) -> &Register {
        &self.register
    }

    /// The books of all workers.
    pub async fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for thread in &self.threads {
            totals = totals + thread.report().await.totals;
        }
        totals
    }

    /// Every backend's figures, pool by pool.
    pub fn backends(&self) -> Vec<BackendFigures> {
        self.orders.load().pools.iter().flat_map(|pool| figures_of(pool)).collect()
    }

    /// Measures rates and refreshes gauges for ever.
    pub async fn run(self: Arc<Self>, prometheus: PrometheusHandle) {
        let gauges = metrics::Budget::resolve();
        gauges.limit_bytes.set(self.budget.limit() as f64);
        let mut tick = tokio::time::interval(SAMPLE);
        let mut last = Instant::now();
        loop {
            tick.tick().await;
            self.sample(last.elapsed());
            last = Instant::now();
            gauges.used_bytes.set(self.budget.used() as f64);
            metrics::run_upkeep(&prometheus);
        }
    }

    fn sample(&self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *rates);
        for pool in &self.orders.load().pools {
            let name = pool.settings().name.clone();
            for backend in figures_of(pool) {
                let (key, written) = ((name.clone(), backend.name), backend.written_messages);
                // One that has just come starts at nothing; so does one that came back under its old name.
                let since = before.get(&key).map_or(0, |rate| rate.written).min(written);
                rates.insert(key, Rate { written, per_second: (written - since) as f64 / seconds });
            }
        }
    }

    /// Everything at one moment; figures of different workers may be a moment apart.
    pub async fn snapshot(&self) -> Snapshot {
        let mut reports = Vec::with_capacity(self.threads.len());
        for thread in &self.threads {
            reports.push(thread.report().await);
        }
        let totals = reports.iter().fold(Totals::default(), |sum, report| sum + report.totals);
        let lost = |reason: &LostReason| (reason.name().to_owned(), totals.lost[reason.index()]);
        let lanes: Vec<snapshot::Lane> = self.lanes(&reports);
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            received: totals.received,
            delivered: totals.delivered,
            held: totals.held,
            lost: LostReason::ALL.iter().map(lost).collect::<BTreeMap<_, _>>(),
            lost_total: totals.lost_total(),
            possible_duplicates: totals.possible_duplicates,
            budget: snapshot::Budget { used_bytes: self.budget.used() as u64, limit_bytes: self.budget.limit() as u64 },
            listeners: self.listener_figures(),
            calls: self.calls(),
            calls_total: self.register.len() as u64,
            backends: self.backend_figures(&reports),
            lanes_total: lanes.len() as u64,
            lanes: lanes.into_iter().take(snapshot::LANES_MAX).collect(),
        }
    }

    fn listener_figures(&self) -> Vec<snapshot::Listener> {
        let figures = |listener: &Settings| {
            let sums = self.register.port(listener.number());
            snapshot::Listener {
                name: listener.name.to_owned(),
                address: listener.address.to_string(),
                connections: sums.connections.load(Relaxed),
                calls: sums.calls.load(Relaxed),
                messages: sums.messages.load(Relaxed),
            }
        };
        self.orders.load().decided.listeners.iter().map(figures).collect()
    }

    /// The calls with the most messages.
    fn calls(&self) -> Vec<snapshot::Call> {
        let mut calls = self.register.some(snapshot::CALLS_MAX * 10);
        calls.sort_by_key(|call| std::cmp::Reverse(call.messages.load(Relaxed)));
        let shown = |call: &Arc<crate::listener::register::CallRecord>| snapshot::Call {
            listener: call.listener.to_owned(),
            method: call.method.to_owned(),
            peer: call.peer.to_string(),
            age_seconds: call.since.elapsed().as_secs_f64(),
            messages: call.messages.load(Relaxed),
            bytes: call.bytes.load(Relaxed),
        };
        calls.iter().take(snapshot::CALLS_MAX).map(shown).collect()
    }

    fn backend_figures(&self, reports: &[Report]) -> Vec<snapshot::Backend> {
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.orders.load().pools.iter().flat_map(|pool| pool_figures(pool, &rates, reports)).collect()
    }

    fn lanes(&self, reports: &[Report]) -> Vec<snapshot::Lane> {
        let of_worker = |(worker, report): (usize, &Report)| {
            let lane = move |(backend, lane): &(String, crate::pool::door::LaneFigures)| snapshot::Lane {
                worker: worker as u64,
                backend: backend.clone(),
                method: lane.method.to_owned(),
                context: snapshot::printable(lane.context.as_bytes()),
                trips_open: lane.trips_open as u64,
                queued_messages: lane.queued_messages,
                messages: lane.messages,
            };
            report.lanes.iter().map(lane).collect::<Vec<_>>()
        };
        reports.iter().enumerate().flat_map(of_worker).collect()
    }
}

fn figures_of(pool: &Backends) -> Vec<BackendFigures> {
    pool.all().iter().map(|backend| backend.figures()).collect()
}

fn pool_figures(
    pool: &Backends,
    rates: &HashMap<(String, String), Rate>,
    reports: &[Report],
) -> Vec<snapshot::Backend> {
    let (name, figures) = (&pool.settings().name, figures_of(pool));
    let rate =
        |backend: &str| rates.get(&(name.clone(), backend.to_owned())).map_or(0.0, |rate: &Rate| rate.per_second);
    let written_per_second: f64 = figures.iter().map(|figures| rate(&figures.name)).sum();
    let waiting = |backend: &str| {
        let of_pool = reports.iter().filter_map(|report| report.waiting_messages.get(name)).flatten();
        of_pool.filter(|(name, _)| name == backend).map(|(_, messages)| messages).sum()
    };
    let shown = |figures: BackendFigures| snapshot::Backend {
        pool: name.clone(),
        state: figures.state.to_owned(),
        messages: figures.delivered_messages,
        bytes: figures.delivered_bytes,
        share: if written_per_second > 0.0 { rate(&figures.name) / written_per_second } else { 0.0 },
        messages_per_second: rate(&figures.name),
        in_flight_bytes: figures.in_flight_bytes,
        in_flight_messages: figures.in_flight_messages,
        waiting_messages: waiting(&figures.name),
        answer_ms: figures.answer_micros as f64 / 1000.0,
        name: figures.name,
    };
    figures.into_iter().map(shown).collect()
}
