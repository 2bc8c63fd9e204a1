//! Every metric once: name, kind, unit, labels, and what to suspect when it is off.
//!
//! The rules are Prometheus's: one prefix, base units, plural unit suffix, `_total` on counters, sums over a label
//! mean something. Labels are closed sets or words of the operator (listener, pool, backend); what an agent says
//! is never a label.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, SharedString, Unit};

/// One metric of the table.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The whole name, prefix and suffixes included.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// The labels' names, in the order in which handles are asked for.
    pub labels: &'static [&'static str],
    /// One sentence on what it is, one on what to suspect.
    pub help: &'static str,
}

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Spread over buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// A trip lasts a second by default, an answer may be awaited for 30 (the hard deadline).
const TRIP_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// A wait for a permit is an answer's latency of a pool that is full: a millisecond when all is well, minutes when not.
const WAIT_SECONDS: &[f64] = &[0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

/// Makes the constants and the list of them from one text, so that neither can miss a metric.
macro_rules! table {
    ($($constant:ident: $kind:expr, $unit:ident, $name:literal, [$($label:literal),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Metric =
                Metric { name: $name, kind: $kind, unit: Unit::$unit, labels: &[$($label),*], help: $help };
        )+

        /// The whole table, in reading order.
        pub const ALL: &[Metric] = &[$($constant),+];
    };
}

table! {
    MESSAGES_RECEIVED: Kind::Counter, Count, "switchyard_messages_received_total", ["listener", "method"],
        "Whole messages received from agents. If high, suspect an agent that logs or traces in a loop.";
    RECEIVED_BYTES: Kind::Counter, Bytes, "switchyard_received_bytes_total", ["listener", "method"],
        "Bytes of the messages received, prefixes included. If high, suspect agents with large bodies or no compression.";
    CALLS: Kind::Counter, Count, "switchyard_calls_total", ["listener", "method"],
        "Calls begun by agents. If high, suspect agents that open a call per message or retry at once.";
    CALLS_OPEN: Kind::Gauge, Count, "switchyard_calls_open", ["listener"],
        "Calls open now. If high, suspect agents that leak streams or replies that wait for slow backends.";
    CALLS_REFUSED: Kind::Counter, Count, "switchyard_calls_refused_total", ["listener", "reason"],
        "Calls turned away, or ended because of what they said. If high, suspect a wrong port, an agent newer than the catalogue, a scanner or a limit.";
    CONNECTIONS_OPEN: Kind::Gauge, Count, "switchyard_connections_open", ["listener"],
        "Agent connections open now. If high, suspect agents that connect per call or a replica that takes no share.";
    CONNECTIONS: Kind::Counter, Count, "switchyard_connections_total", ["listener"],
        "Agent connections accepted. If high, suspect crash-looping agents or a proxy with a short idle timeout.";
    CONNECTIONS_REFUSED: Kind::Counter, Count, "switchyard_connections_refused_total", ["listener", "reason"],
        "Agent connections turned away. If high, suspect a limit that is too low, a TLS mismatch or an open file limit.";
    CONNECTIONS_RETIRED: Kind::Counter, Count, "switchyard_connections_retired_total", ["listener", "reason"],
        "Agent connections asked to go elsewhere, for their age or for having no call. If high, suspect an age or an idle time that is too short.";
    REPLIES: Kind::Counter, Count, "switchyard_replies_total", ["listener", "code"],
        "Calls ended, by the gRPC code the agent got. If high for a code other than OK, suspect the backends or switchyard_calls_refused_total.";
    MESSAGES_DELIVERED: Kind::Counter, Count, "switchyard_messages_delivered_total", [],
        "Messages a backend answered OK for. If low beside messages received, suspect slow backends; see switchyard_messages_held.";
    MESSAGES_HELD: Kind::Gauge, Count, "switchyard_messages_held", [],
        "Messages queued, in flight or spooled now. If high, suspect backends slower than the agents.";
    MESSAGES_LOST: Kind::Counter, Count, "switchyard_messages_lost_total", ["reason"],
        "Messages that will reach no backend. If high, suspect what the reason names; unsettled is a defect, please report it.";
    MESSAGES_POSSIBLE_DUPLICATES: Kind::Counter, Count, "switchyard_messages_possible_duplicates_total", [],
        "Messages given to a second backend that a first may have taken. If high, suspect backends that die or reset streams under load.";
    ROUTE_MESSAGES: Kind::Counter, Count, "switchyard_route_messages_total", ["route", "outcome"],
        "Messages by the route they fell under and what became of them. If high for limited, suspect a rate that is too low or a source in a loop.";
    ROUTE_DROPPED_MESSAGES: Kind::Counter, Count, "switchyard_route_dropped_messages_total", ["route", "reason"],
        "Messages that a route drops, by the operator's own word for why. If high, suspect a route that matches more than it was meant to.";
    MIRRORED_MESSAGES: Kind::Counter, Count, "switchyard_mirrored_messages_total", ["outcome"],
        "Copies of messages made by `mirror`, by what became of them. If given_up is high, suspect the mirror's pool: copies never wait.";
    BACKEND_UP: Kind::Gauge, Count, "switchyard_backend_up", ["pool", "backend"],
        "1 while the backend takes new messages, else 0. If 0, suspect the backend, its address or the network to it.";
    BACKEND_MESSAGES: Kind::Counter, Count, "switchyard_backend_messages_total", ["pool", "backend"],
        "Messages the backend answered OK for. If high beside its neighbours, suspect hot keys (hash) or neighbours that are down.";
    BACKEND_BYTES: Kind::Counter, Bytes, "switchyard_backend_bytes_total", ["pool", "backend"],
        "Bytes of the messages the backend answered OK for. If high beside its neighbours, suspect one source of large messages.";
    BACKEND_WRITTEN_MESSAGES: Kind::Counter, Count, "switchyard_backend_written_messages_total", ["pool", "backend"],
        "Messages written to the backend, answered or not. If high beside messages answered, suspect a backend that fails its streams.";
    BACKEND_REPLAYED_MESSAGES: Kind::Counter, Count, "switchyard_backend_replayed_messages_total", ["pool", "backend"],
        "Messages taken over from another backend. If high, suspect that the other backends of the pool come and go.";
    BACKEND_IN_FLIGHT_BYTES: Kind::Gauge, Bytes, "switchyard_backend_in_flight_bytes", ["pool", "backend"],
        "Bytes written and not yet answered for. If high, suspect a backend that reads fast and saves slowly.";
    BACKEND_IN_FLIGHT_MESSAGES: Kind::Gauge, Count, "switchyard_backend_in_flight_messages", ["pool", "backend"],
        "Messages written and not yet answered for. If high, suspect a backend that reads fast and saves slowly.";
    BACKEND_ANSWERS: Kind::Counter, Count, "switchyard_backend_answers_total", ["pool", "backend", "code"],
        "Trips answered, by gRPC code. If high for a code other than OK, suspect what the backend's log says at that time.";
    BACKEND_TRIPS: Kind::Counter, Count, "switchyard_backend_trips_total", ["pool", "backend"],
        "Outbound streams opened. If high beside messages, suspect many methods or contexts with little traffic each.";
    BACKEND_TRIP_SECONDS: Kind::Histogram(TRIP_SECONDS), Seconds, "switchyard_backend_trip_seconds", ["pool", "backend"],
        "From a trip's first message to its answer. If high, suspect a backend short of CPU or slow storage behind it.";
    BACKEND_CONNECTS: Kind::Counter, Count, "switchyard_backend_connects_total", ["pool", "backend"],
        "Connections to the backend that came up. If high, suspect a backend or a middlebox that closes connections.";
    BACKEND_CONNECT_FAILURES: Kind::Counter, Count, "switchyard_backend_connect_failures_total", ["pool", "backend"],
        "Connections to the backend that failed. If high, suspect a wrong address or port, TLS settings or a backend that is down.";
    BACKEND_EJECTIONS: Kind::Counter, Count, "switchyard_backend_ejections_total", ["pool", "backend"],
        "Times the backend was taken out of the choice. If high, suspect a backend that is overloaded or restarts.";
    DISCOVERY_UPDATES: Kind::Counter, Count, "switchyard_discovery_updates_total", ["pool", "result"],
        "Looks at the source of a pool's backends, by what they gave. If high for empty or failed, suspect what the log says of the source.";
    DISCOVERY_BACKENDS: Kind::Gauge, Count, "switchyard_discovery_backends", ["pool"],
        "Backends the source named at its last good look. If low, suspect backends that are not ready or a name with one address.";
    DISCOVERY_LAST_SUCCESS_SECONDS: Kind::Gauge, Seconds, "switchyard_discovery_last_success_timestamp_seconds", ["pool"],
        "When the source was last looked at with success, in Unix time. If low, suspect the DNS server, the file or the API the backends come from.";
    BUDGET_BYTES: Kind::Gauge, Bytes, "switchyard_memory_budget_bytes", [],
        "Bytes of messages that may be in memory. If high beside the container's limit, suspect a kill for memory to come.";
    BUDGET_USED_BYTES: Kind::Gauge, Bytes, "switchyard_memory_budget_used_bytes", [],
        "Bytes of messages in memory. If high, suspect backends slower than the agents: agents are held back at the limit.";
    BUDGET_WAITS: Kind::Counter, Count, "switchyard_memory_budget_waits_total", [],
        "Parcels that waited for memory, which holds their agents back. If high, suspect slow backends or a small budget.";
    BUDGET_WAIT_SECONDS: Kind::Histogram(WAIT_SECONDS), Seconds, "switchyard_memory_budget_wait_seconds", [],
        "How long parcels waited for memory. If high, suspect slow backends; agents drop their own data when it lasts.";
    OPEN_DESCRIPTORS: Kind::Gauge, Count, "switchyard_open_descriptors", [],
        "File descriptors open now. If high beside the limit, suspect agents that connect per call, or a limit that is too low.";
    DESCRIPTOR_LIMIT: Kind::Gauge, Count, "switchyard_descriptor_limit", [],
        "File descriptors that may be open. If low beside limits.connections, suspect the hard limit of the service or container.";
    DESCRIPTORS_SHORT: Kind::Gauge, Count, "switchyard_descriptors_short", [],
        "1 while four fifths of the file descriptors are open, else 0. If 1, suspect that connections will have to wait soon.";
    CONSERVATION_VIOLATIONS: Kind::Counter, Count, "switchyard_conservation_violations_total", [],
        "Checks in which received was not delivered + held + lost. If high, suspect a defect of Switchyard, please report it.";
    CONFIG_LAST_RELOAD_SUCCESSFUL: Kind::Gauge, Count, "switchyard_config_last_reload_successful", [],
        "1 while the config on disk is the one that runs, else 0. If 0, suspect the problems that the log names.";
    CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP: Kind::Gauge, Seconds, "switchyard_config_last_reload_success_timestamp_seconds", [],
        "When the config that runs was read, in seconds since 1970. If old beside the file's age, suspect that nobody asked for a reload.";
    TLS_RELOADS: Kind::Counter, Count, "switchyard_tls_reloads_total", ["setting", "result"],
        "Changes of certificate files that were noticed, by what came of them. If high for failed, suspect a certificate that does not belong to its key; the log names the file.";
    TLS_CERTIFICATE_EXPIRY: Kind::Gauge, Seconds, "switchyard_tls_certificate_expiry_seconds", ["setting"],
        "Unix time at which the first certificate of a file expires. If near, suspect a renewal that no longer runs.";
    BUILD_INFO: Kind::Gauge, Count, "switchyard_build_info", ["version"],
        "Always 1; the version is the label. If high for two versions at once, suspect a rollout that is under way or stuck.";
}

// === impl Metric ===

impl Metric {
    /// The counter with these label values, in the order of [`Metric::labels`].
    pub fn counter(&self, values: &[&str]) -> Counter {
        debug_assert_eq!(self.kind, Kind::Counter, "{} is no counter", self.name);
        metrics::with_recorder(|recorder| recorder.register_counter(&self.key(values), &METADATA))
    }

    /// The gauge with these label values.
    pub fn gauge(&self, values: &[&str]) -> Gauge {
        debug_assert_eq!(self.kind, Kind::Gauge, "{} is no gauge", self.name);
        metrics::with_recorder(|recorder| recorder.register_gauge(&self.key(values), &METADATA))
    }

    /// The histogram with these label values.
    pub fn histogram(&self, values: &[&str]) -> Histogram {
        debug_assert!(matches!(self.kind, Kind::Histogram(_)), "{} is no histogram", self.name);
        metrics::with_recorder(|recorder| recorder.register_histogram(&self.key(values), &METADATA))
    }

    /// Tells the recorder what this metric is.
    pub(super) fn describe(&self) {
        let (name, help) = (KeyName::from_const_str(self.name), SharedString::const_str(self.help));
        metrics::with_recorder(|recorder| match self.kind {
            Kind::Counter => recorder.describe_counter(name, Some(self.unit), help),
            Kind::Gauge => recorder.describe_gauge(name, Some(self.unit), help),
            Kind::Histogram(_) => recorder.describe_histogram(name, Some(self.unit), help),
        });
    }

    fn key(&self, values: &[&str]) -> Key {
        debug_assert_eq!(self.labels.len(), values.len(), "{} has the labels {:?}", self.name, self.labels);
        let labels: Vec<Label> =
            self.labels.iter().zip(values).map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
        Key::from_parts(self.name, labels)
    }
}

/// The recorder ignores levels; one fits all.
static METADATA: Metadata<'static> = Metadata::new("switchyard", Level::INFO, None);

// === impl Kind ===

impl Kind {
    /// Prometheus's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row of `docs/metrics.md` for a metric.
    fn row(metric: &Metric) -> String {
        let (meaning, suspect) = metric.help.split_once(". ").unwrap();
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {} | {} | {meaning} | {suspect} |", metric.name, metric.kind.name(), labels.join(", "))
    }

    #[test]
    fn names_follow_the_conventions() {
        for metric in ALL {
            let name = metric.name;
            assert!(name.starts_with("switchyard_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            let base = name.trim_end_matches("_total");
            assert_eq!(base.ends_with("_bytes"), metric.unit == Unit::Bytes, "{name}");
            assert_eq!(base.ends_with("_seconds"), metric.unit == Unit::Seconds, "{name}");
            assert_eq!(ALL.iter().filter(|other| other.name == name).count(), 1, "{name} is there twice");
        }
    }

    #[test]
    fn every_help_says_what_to_suspect() {
        for metric in ALL {
            let (_, suspect) = metric.help.split_once(". ").unwrap();
            assert!(suspect.starts_with("If ") && suspect.contains(", suspect "), "{}: {suspect}", metric.name);
            assert!(suspect.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn the_docs_list_every_metric() {
        let docs = include_str!("../../docs/metrics.md");
        let rows: Vec<String> = ALL.iter().map(row).collect();
        let listed: Vec<&str> = docs.lines().filter(|line| line.starts_with("| `switchyard_")).collect();
        assert_eq!(listed, rows, "docs/metrics.md should have these rows:\n{}\n", rows.join("\n"));
    }
}
