//! Whether settings that are right for themselves go together.

use std::net::SocketAddr;

use super::address;
use super::plan::Plan;
use super::problem::{Findings, Mistake};
use super::unit::{show_size, show_time};
use crate::pool::Policy;

/// Messages of the largest size the budget must hold at once: one arriving, one cut apart, one waiting, one in flight.
const MESSAGES_IN_MEMORY_MIN: usize = 4;

/// Looks at everything together.
pub(super) fn check(plan: &Plan, findings: &mut Findings<'_>) {
    listeners(plan, findings);
    backends(plan, findings);
    memory(plan, findings);
    times(plan, findings);
}

fn listeners(plan: &Plan, findings: &mut Findings<'_>) {
    let own = [("prometheus", plan.prometheus), ("admin", plan.admin)];
    let served = plan.listeners.iter().map(|listener| (listener.name, Some(listener.address)));
    let open: Vec<(String, SocketAddr)> =
        served.chain(own).filter_map(|(name, address)| Some((format!("listen.{name}"), address?))).collect();
    for (index, (path, address)) in open.iter().enumerate() {
        let Some((taken, _)) = open[..index].iter().find(|(_, other)| address::collide(*address, *other)) else {
            continue;
        };
        let by = findings.origin(taken).0;
        // What was written is to blame, not the default it runs into.
        let blamed = if findings.origin(path).1.is_none() && findings.origin(taken).1.is_some() { taken } else { path };
        let by = if blamed == taken { path.clone() } else { by };
        let mistake = Mistake::new(
            format!("port {} is taken by {by} as well", address.port()),
            "give each its own port, or set one of them to off",
        );
        findings.error_in(blamed, mistake);
    }
    if plan.listeners.is_empty() && findings.fine(&["listen"]) {
        let mistake = Mistake::new("no port is left for agents", "open one of agents, access_logs and metrics");
        findings.error_in("listen.agents", mistake);
    }
    let per_listener = plan.listeners.iter().map(|listener| listener.connections_max).max().unwrap_or(0);
    let paths = ["limits.connections_per_listener", "limits.connections"];
    if per_listener > plan.limits.connections_max && findings.fine(&paths) && findings.origin(paths[0]).1.is_some() {
        let all = plan.limits.connections_max;
        let mistake = Mistake::new(
            format!("{per_listener} cannot be reached: limits.connections allows {all} over all listeners"),
            format!("raise limits.connections to {per_listener}, or lower this"),
        );
        findings.warn_of(paths[0], mistake);
    }
}

fn backends(plan: &Plan, findings: &mut Findings<'_>) {
    let endpoints = &plan.pool.endpoints;
    if endpoints.is_empty() && findings.fine(&["to", "pool.endpoints", "pool", "--to"]) {
        let mend = if findings.has_source() {
            "write `to: [collector-a:11800, collector-b:11800]`, or run with --to collector-a:11800"
        } else {
            "add --to collector-a:11800,collector-b:11800"
        };
        if !findings.has_source() {
            findings.remember("to", "--to", None);
        }
        findings.error_in("to", Mistake::new("there is no backend to send to", mend));
    }
    for listener in &plan.listeners {
        if let Some(backend) = endpoints.iter().find(|backend| address::is_self(listener.address, backend)) {
            let port = findings.origin(&format!("listen.{}", listener.name)).0;
            let mistake = Mistake::new(
                format!("{backend} is this gateway itself ({port} is {})", listener.address),
                "name the collector's own address, or listen on another port",
            );
            findings.error_in("to", mistake);
        }
    }
    if plan.pool.balance == Policy::Hash && endpoints.len() == 1 {
        let mend = "add backends, or leave balance at least_load";
        findings.warn_of("pool.balance", Mistake::new("hash has nothing to choose from: there is one backend", mend));
    }
}

fn memory(plan: &Plan, findings: &mut Findings<'_>) {
    let (memory, message) = (plan.memory_bytes, plan.limits.message_bytes_max);
    let (in_flight, trip) = (plan.pool.in_flight_bytes_max, plan.pool.trip.bytes_max);
    let least = message.saturating_mul(MESSAGES_IN_MEMORY_MIN);
    let [memory_said, message_said, in_flight_said, trip_said] = [memory, message, in_flight, trip].map(show_size);
    if memory < least {
        Conflict {
            low: (
                "limits.memory",
                format!(
                    "{memory_said} is less than {MESSAGES_IN_MEMORY_MIN} messages of limits.message, {message_said}"
                ),
            ),
            high: ("limits.message", format!("{message_said} is more than a quarter of limits.memory, {memory_said}")),
            mend: format!("raise limits.memory to {} or more, or lower limits.message", show_size(least)),
        }
        .error(findings);
    }
    if in_flight < trip {
        Conflict {
            low: ("pool.in_flight", format!("{in_flight_said} is less than one trip, pool.trip.bytes, {trip_said}")),
            high: ("pool.trip.bytes", format!("{trip_said} is more than pool.in_flight, {in_flight_said}, lets out")),
            mend: format!("raise pool.in_flight to {trip_said} or more, or lower pool.trip.bytes"),
        }
        .error(findings);
    }
    if in_flight < message {
        Conflict {
            low: (
                "pool.in_flight",
                format!("{in_flight_said} is less than one message, limits.message, {message_said}"),
            ),
            high: ("limits.message", format!("{message_said} is more than pool.in_flight, {in_flight_said}, lets out")),
            mend: format!("raise pool.in_flight to {message_said} or more, or lower limits.message"),
        }
        .error(findings);
    }
    if in_flight > memory {
        Conflict {
            low: (
                "limits.memory",
                format!("{memory_said} is less than pool.in_flight, {in_flight_said}, could ever hold"),
            ),
            high: ("pool.in_flight", format!("{in_flight_said} cannot be reached: limits.memory is {memory_said}")),
            mend: format!("set pool.in_flight to {memory_said} or less"),
        }
        .warning(findings);
    }
}

fn times(plan: &Plan, findings: &mut Findings<'_>) {
    let trip = &plan.pool.trip;
    let shown = [plan.pool.linger, trip.age_max, trip.answer_deadline, trip.hard_deadline, plan.drain_deadline];
    let [linger, age, answer, hard, drain] = shown.map(show_time);
    if trip.hard_deadline < trip.answer_deadline {
        Conflict {
            low: ("pool.trip.hard_deadline", format!("{hard} is before pool.trip.answer_deadline, {answer}")),
            high: ("pool.trip.answer_deadline", format!("{answer} is after pool.trip.hard_deadline, {hard}")),
            mend: format!("raise hard_deadline to {answer} or more, or lower answer_deadline"),
        }
        .error(findings);
    }
    if plan.pool.linger > trip.age_max {
        Conflict {
            low: ("pool.trip.age", format!("{age} is shorter than pool.linger, {linger}")),
            high: ("pool.linger", format!("{linger} is longer than a trip, pool.trip.age, {age}")),
            mend: format!("set pool.linger to {age} or less"),
        }
        .error(findings);
    }
    if plan.drain_deadline < trip.answer_deadline {
        let why = "a stop may give up answers that would have come";
        Conflict {
            low: ("drain_deadline", format!("{drain} is before pool.trip.answer_deadline, {answer}: {why}")),
            high: ("pool.trip.answer_deadline", format!("{answer} is after drain_deadline, {drain}: {why}")),
            mend: format!("raise drain_deadline to {answer} or more"),
        }
        .warning(findings);
    }
}

/// Two settings that do not go together: what is said of the one that is too low, and of the one that is too high.
struct Conflict {
    low: (&'static str, String),
    high: (&'static str, String),
    mend: String,
}

impl Conflict {
    fn error(self, findings: &mut Findings<'_>) {
        if let Some((path, mistake)) = self.blame(findings) {
            findings.error_in(path, mistake);
        }
    }

    fn warning(self, findings: &mut Findings<'_>) {
        if let Some((path, mistake)) = self.blame(findings) {
            findings.warn_of(path, mistake);
        }
    }

    /// The one that was written is to blame, the low one of two; `None` when one is wrong in itself and its value not known.
    fn blame(self, findings: &Findings<'_>) -> Option<(&'static str, Mistake)> {
        let written = |path: &str| findings.origin(path).1.is_some();
        if !findings.fine(&[self.low.0, self.high.0]) {
            return None;
        }
        let (path, what) = if !written(self.low.0) && written(self.high.0) { self.high } else { self.low };
        Some((path, Mistake::new(what, self.mend)))
    }
}
