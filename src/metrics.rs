//! What Switchyard counts about itself, as handles that are resolved once and then cost one atomic each.
//!
//! [`table`] names every metric; this file turns the names into handles. A handle is made when a lane, a
//! connection or a listener starts, never per message: looking a labelled metric up costs 66-142 ns, adding to a
//! held handle 9 ns. Handles made before [`install`] count nothing. What is counted with messages is added up by its
//! thread first ([`tally`]).

use std::sync::OnceLock;

use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub mod discovery;
pub mod reason;
pub mod table;
pub mod tally;

pub use discovery::Discovery;
pub use reason::{
    BadInput, CheckOutcome, Fault, LostReason, RefusedReason, ReloadResult, RetiredReason, RouteOutcome, Verb,
    VerbResult,
};
pub use table::{Kind, Metric};
use tally::{Level, Tally};

/// What arrived for one method on one listener.
pub struct Received {
    messages: Tally,
    /// Those of every method on the listener.
    on_listener: Tally,
    bytes: Tally,
    /// Calls begun.
    pub calls: Counter,
}

/// What happens between the gateway and one backend.
pub struct Backend {
    /// Messages answered `OK`.
    pub messages: Counter,
    /// Bytes of those messages.
    pub bytes: Counter,
    /// Messages written to it, answered or not.
    pub written_messages: Counter,
    /// Messages written to another backend first and then given to this one.
    pub replayed_messages: Counter,
    /// Bytes written and not yet answered for.
    pub in_flight_bytes: Gauge,
    /// Messages written and not yet answered for.
    pub in_flight_messages: Gauge,
    /// 1 while it takes new messages, else 0.
    pub up: Gauge,
    /// Connections that came up.
    pub connects: Counter,
    /// Connections that did not.
    pub connect_failures: Counter,
    /// Times it was taken out of the choice, by [`Fault`].
    ejections: [Counter; Fault::ALL.len()],
    /// Health checks, by [`CheckOutcome`].
    checks: [Counter; CheckOutcome::ALL.len()],
    /// Trips opened.
    pub trips: Counter,
    /// From the first message of a trip to its answer, in seconds.
    pub trip_seconds: Histogram,
    pool: String,
    backend: String,
}

/// What becomes of messages under one of the operator's routes.
#[derive(Debug, Clone)]
pub struct Route {
    messages: [Counter; RouteOutcome::ALL.len()],
    /// For a route that drops them.
    dropped: Option<Counter>,
}

/// The sums that must agree: received = delivered + held + lost.
pub struct Totals {
    /// Messages a backend answered `OK` for.
    pub delivered: Tally,
    /// Messages a backend may have taken before they were given to another.
    pub possible_duplicates: Counter,
    /// Messages queued, in flight or spooled right now.
    pub held: Level,
    lost: [Counter; LostReason::ALL.len()],
}

/// One port agents connect to.
pub struct Listener {
    /// Connections open now.
    pub connections_open: Gauge,
    /// Calls open now.
    pub calls_open: Gauge,
    /// Connections accepted.
    pub connections: Counter,
    refused: [Counter; RefusedReason::ALL.len()],
    retired: [Counter; RetiredReason::ALL.len()],
    bad_input: [Counter; BadInput::ALL.len()],
}

/// The file descriptors of the process.
pub struct Descriptors {
    /// Open now.
    pub open: Gauge,
    /// The most the process may have open.
    pub limit: Gauge,
    /// 1 while they are nearly used up.
    pub short: Gauge,
}

/// The byte budget of messages in memory.
pub struct Budget {
    /// Bytes under permits now.
    pub used_bytes: Gauge,
    /// Bytes the permits may sum up to.
    pub limit_bytes: Gauge,
    /// Parcels that had to wait for a permit.
    pub waits: Counter,
    /// How long they waited, in seconds.
    pub wait_seconds: Histogram,
}

/// Starts counting and answers the handle that renders the counts; later calls answer the same handle.
///
/// Call [`run_upkeep`] every few seconds from then on.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(start).clone()
}

/// Folds the histograms' samples into their buckets; without it they pile up until the next scrape.
pub fn run_upkeep(prometheus: &PrometheusHandle) {
    prometheus.run_upkeep();
}

/// Calls of `listener` ended with the gRPC code named `code`.
pub fn replies(listener: &str, code: &'static str) -> Counter {
    table::REPLIES.counter(&[listener, code])
}

/// Seconds in which received differed from delivered + held + lost.
pub fn conservation_violations() -> Counter {
    table::CONSERVATION_VIOLATIONS.counter(&[])
}

/// The tier of backends that serves in a pool.
pub fn pool_tier(pool: &str) -> Gauge {
    table::POOL_TIER.gauge(&[pool])
}

/// Callers or keys that a pool with affinity remembers.
pub fn affinity_entries(pool: &str) -> Gauge {
    table::AFFINITY_ENTRIES.gauge(&[pool])
}

/// 1 while the config on disk is the one that runs, 0 after a reload that was refused.
pub fn config_last_reload_successful() -> Gauge {
    table::CONFIG_LAST_RELOAD_SUCCESSFUL.gauge(&[])
}

/// Commands of operators, by what came of them.
pub fn admin_verbs(verb: Verb, result: VerbResult) -> Counter {
    table::ADMIN_VERBS.counter(&[verb.name(), result.name()])
}

/// When the config that runs was read, in seconds since 1970.
pub fn config_last_reload_success_timestamp() -> Gauge {
    table::CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP.gauge(&[])
}

/// Connections that the port of our own called `name` turned away for `reason`; agents' ports have [`Listener::refused`].
pub fn refused(name: &str, reason: RefusedReason) -> Counter {
    table::CONNECTIONS_REFUSED.counter(&[name, reason.name()])
}

/// Changes of the files of a `tls` setting, by what came of them.
pub fn tls_reloads(setting: &str, result: ReloadResult) -> Counter {
    table::TLS_RELOADS.counter(&[setting, result.name()])
}

/// When the first certificate of the file at `setting` expires, in seconds of Unix time.
pub fn tls_certificate_expiry(setting: &str) -> Gauge {
    table::TLS_CERTIFICATE_EXPIRY.gauge(&[setting])
}

fn start() -> PrometheusHandle {
    let mut builder = PrometheusBuilder::new();
    for metric in table::ALL {
        if let Kind::Histogram(buckets) = metric.kind {
            // Without buckets the exporter renders summaries, which cannot be added up over replicas.
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
                .expect("the table's buckets are not empty");
        }
    }
    let recorder = builder.build_recorder();
    let prometheus = recorder.handle();
    // Somebody else's recorder (a program that embeds the library) stays; then ours renders nothing.
    let _ = metrics::set_global_recorder(recorder);
    for metric in table::ALL {
        metric.describe();
    }
    table::BUILD_INFO.gauge(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    prometheus
}

// === impl Received ===

impl Received {
    /// The handles of one method (of the catalogue's known set, or `other`) on one listener, whose messages of all methods
    /// are summed up in `on_listener`.
    pub fn of(listener: &str, method: &'static str, on_listener: Counter) -> Self {
        let labels = [listener, method];
        Self {
            messages: Tally::of(table::MESSAGES_RECEIVED.counter(&labels)),
            on_listener: Tally::of(on_listener),
            bytes: Tally::of(table::RECEIVED_BYTES.counter(&labels)),
            calls: table::CALLS.counter(&labels),
        }
    }

    /// Counts whole messages, and bytes, prefixes included.
    pub fn count(&self, messages: u64, bytes: u64) {
        self.messages.add(messages);
        self.on_listener.add(messages);
        self.bytes.add(bytes);
    }
}

// === impl Backend ===

impl Backend {
    /// The handles of one backend of one pool.
    pub fn of(pool: &str, backend: &str) -> Self {
        let labels = [pool, backend];
        Self {
            messages: table::BACKEND_MESSAGES.counter(&labels),
            bytes: table::BACKEND_BYTES.counter(&labels),
            written_messages: table::BACKEND_WRITTEN_MESSAGES.counter(&labels),
            replayed_messages: table::BACKEND_REPLAYED_MESSAGES.counter(&labels),
            in_flight_bytes: table::BACKEND_IN_FLIGHT_BYTES.gauge(&labels),
            in_flight_messages: table::BACKEND_IN_FLIGHT_MESSAGES.gauge(&labels),
            up: table::BACKEND_UP.gauge(&labels),
            connects: table::BACKEND_CONNECTS.counter(&labels),
            connect_failures: table::BACKEND_CONNECT_FAILURES.counter(&labels),
            ejections: Fault::ALL.map(|fault| table::BACKEND_EJECTIONS.counter(&[pool, backend, fault.name()])),
            checks: CheckOutcome::ALL.map(|outcome| table::BACKEND_CHECKS.counter(&[pool, backend, outcome.name()])),
            trips: table::BACKEND_TRIPS.counter(&labels),
            trip_seconds: table::BACKEND_TRIP_SECONDS.histogram(&labels),
            pool: pool.to_owned(),
            backend: backend.to_owned(),
        }
    }

    /// Times it was taken out for this.
    pub fn ejections(&self, fault: Fault) -> &Counter {
        &self.ejections[fault.index()]
    }

    /// Health checks that ended so.
    pub fn checks(&self, outcome: CheckOutcome) -> &Counter {
        &self.checks[outcome.index()]
    }

    /// Trips this backend answered with the gRPC code named `code_name`. Looked up by name: once per trip at most.
    pub fn answers(&self, code_name: &'static str) -> Counter {
        table::BACKEND_ANSWERS.counter(&[&self.pool, &self.backend, code_name])
    }
}

// === impl Route ===

impl Route {
    /// The handles of the route of this name; `reason` is the operator's word for why it drops messages, if it does.
    pub fn of(route: &str, reason: Option<&str>) -> Self {
        Self {
            messages: RouteOutcome::ALL.map(|outcome| table::ROUTE_MESSAGES.counter(&[route, outcome.name()])),
            dropped: reason.map(|reason| table::ROUTE_DROPPED_MESSAGES.counter(&[route, reason])),
        }
    }

    /// Counts what became of messages.
    pub fn count(&self, outcome: RouteOutcome, messages: u32) {
        self.messages[outcome.index()].increment(messages.into());
        if let Some(dropped) = self.dropped.as_ref().filter(|_| outcome == RouteOutcome::Dropped) {
            dropped.increment(messages.into());
        }
    }
}

// === impl Totals ===

impl Totals {
    /// The handles, every reason at 0 from the start so that a first loss shows as an increase.
    pub fn resolve() -> Self {
        Self {
            delivered: Tally::of(table::MESSAGES_DELIVERED.counter(&[])),
            possible_duplicates: table::MESSAGES_POSSIBLE_DUPLICATES.counter(&[]),
            held: Level::of(table::MESSAGES_HELD.gauge(&[])),
            lost: LostReason::ALL.map(|reason| table::MESSAGES_LOST.counter(&[reason.name()])),
        }
    }

    /// The handles for copies of messages, which have figures of their own.
    pub fn of_copies() -> Self {
        let lost = table::MIRRORED_MESSAGES.counter(&["given_up"]);
        Self {
            delivered: Tally::of(table::MIRRORED_MESSAGES.counter(&["delivered"])),
            possible_duplicates: Counter::noop(),
            held: Level::of(Gauge::noop()),
            lost: std::array::from_fn(|_| lost.clone()),
        }
    }

    /// Messages lost for `reason`.
    pub fn lost(&self, reason: LostReason) -> &Counter {
        &self.lost[reason.index()]
    }
}

// === impl Listener ===

impl Listener {
    /// The handles of the listener the operator calls `name`.
    pub fn of(name: &str) -> Self {
        Self {
            connections_open: table::CONNECTIONS_OPEN.gauge(&[name]),
            calls_open: table::CALLS_OPEN.gauge(&[name]),
            connections: table::CONNECTIONS.counter(&[name]),
            refused: RefusedReason::ALL.map(|reason| table::CONNECTIONS_REFUSED.counter(&[name, reason.name()])),
            retired: RetiredReason::ALL.map(|reason| table::CONNECTIONS_RETIRED.counter(&[name, reason.name()])),
            bad_input: BadInput::ALL.map(|reason| table::CALLS_REFUSED.counter(&[name, reason.name()])),
        }
    }

    /// Connections turned away for `reason`.
    pub fn refused(&self, reason: RefusedReason) -> &Counter {
        &self.refused[reason.index()]
    }

    /// Connections asked to go elsewhere for `reason`.
    pub fn retired(&self, reason: RetiredReason) -> &Counter {
        &self.retired[reason.index()]
    }

    /// Calls turned away, or ended because of what they said.
    pub fn bad_input(&self, reason: BadInput) -> &Counter {
        &self.bad_input[reason.index()]
    }
}

// === impl Descriptors ===

impl Descriptors {
    /// The handles.
    pub fn resolve() -> Self {
        Self {
            open: table::OPEN_DESCRIPTORS.gauge(&[]),
            limit: table::DESCRIPTOR_LIMIT.gauge(&[]),
            short: table::DESCRIPTORS_SHORT.gauge(&[]),
        }
    }
}

// === impl Budget ===

impl Budget {
    /// The handles.
    pub fn resolve() -> Self {
        Self {
            used_bytes: table::BUDGET_USED_BYTES.gauge(&[]),
            limit_bytes: table::BUDGET_BYTES.gauge(&[]),
            waits: table::BUDGET_WAITS.counter(&[]),
            wait_seconds: table::BUDGET_WAIT_SECONDS.histogram(&[]),
        }
    }
}

#[cfg(test)]
mod tests;
