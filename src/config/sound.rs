//! Whether settings that are right for themselves go together.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::address;
use super::plan::Plan;
use super::pools::PoolPaths;
use super::problem::{Findings, Mistake};
use super::unit::{show_size, show_time};
use crate::discovery::{Source, file};
use crate::pool::{self, Policy};

/// Messages of the largest size the budget must hold at once: one arriving, one cut apart, one waiting, one in flight.
const MESSAGES_IN_MEMORY_MIN: usize = 4;

/// Looks at everything together; `paths` says where the operator wrote about each pool.
pub(super) fn check(plan: &Plan, paths: &[PoolPaths], findings: &mut Findings<'_>) {
    listeners(plan, findings);
    for ((pool, source), paths) in plan.pools_and_sources().zip(paths) {
        let at = At { plan, pool, source, paths };
        at.backends(findings);
        at.memory(findings);
        at.times(findings);
    }
    memory(plan, findings);
}

/// One pool among everything else.
struct At<'a> {
    plan: &'a Plan,
    pool: &'a pool::Settings,
    source: &'a Source,
    paths: &'a PoolPaths,
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
    connections(plan, findings);
}

/// A port's limit that all ports together never let it reach; said once where the limit was written.
fn connections(plan: &Plan, findings: &mut Findings<'_>) {
    let all = plan.limits.connections_max;
    let mut said = HashSet::new();
    for listener in plan.listeners.iter().filter(|listener| listener.connections_max > all) {
        let own = format!("listen.{}.connections", listener.name);
        let shared = "limits.connections_per_listener".to_owned();
        let path = if findings.origin(&own).1.is_some() { own } else { shared };
        let is_written = findings.origin(&path).1.is_some() && findings.fine(&[&path, "limits.connections"]);
        if !is_written || !said.insert(path.clone()) {
            continue;
        }
        let here = listener.connections_max;
        let mistake = Mistake::new(
            format!("{here} cannot be reached: limits.connections allows {all} over all listeners"),
            format!("raise limits.connections to {here}, or lower this"),
        );
        findings.warn_of(&path, mistake);
    }
}

impl At<'_> {
    /// The path of one of the pool's settings.
    fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.paths.settings)
    }

    fn backends(&self, findings: &mut Findings<'_>) {
        match self.source {
            Source::Static => {}
            Source::File(listed) => return self.listed(listed, findings),
            _ => return,
        }
        let backends = &self.pool.backends;
        if backends.is_empty() {
            self.no_backend(findings);
        }
        for listener in &self.plan.listeners {
            if let Some(backend) = backends.iter().find(|backend| address::is_self(listener.address, &backend.endpoint))
            {
                let port = findings.origin(&format!("listen.{}", listener.name)).0;
                let mistake = Mistake::new(
                    format!("{} is this gateway itself ({port} is {})", backend.name, listener.address),
                    "name the collector's own address, or listen on another port",
                );
                findings.error_in(&self.paths.backends, mistake);
            }
        }
        if self.pool.balance == Policy::Hash && backends.len() == 1 {
            let mend = "add backends, or leave balance at least_load";
            let mistake = Mistake::new("hash has nothing to choose from: there is one backend", mend);
            findings.warn_of(&self.path("balance"), mistake);
        }
        self.lone_name(findings);
    }

    /// Looks into the file that lists the backends: it may come later and be mended while the gateway runs.
    fn listed(&self, listed: &file::Settings, findings: &mut Findings<'_>) {
        let Err(trouble) = file::look(&listed.path) else { return };
        let mend = "write it or mend it; it is read again every second, and until then the pool's messages wait";
        findings.warn_of(&self.paths.backends, Mistake::new(trouble.to_string(), mend));
    }

    /// Says that one name is one backend, however many addresses it has. Not of a name without a dot, which mostly is one
    /// machine or container.
    fn lone_name(&self, findings: &mut Findings<'_>) {
        let [backend] = self.pool.backends.as_slice() else { return };
        let host = &backend.endpoint.host;
        if host.parse::<IpAddr>().is_ok() || !host.contains('.') {
            return;
        }
        let what = format!("all addresses of {host} are one backend");
        let mend =
            format!("write dns:///{} to spread over them; nothing is to be done if it has one", backend.endpoint);
        findings.warn_of(&self.paths.backends, Mistake::new(what, mend));
    }

    fn no_backend(&self, findings: &mut Findings<'_>) {
        let PoolPaths { settings, backends } = self.paths;
        let is_default = settings == "pool";
        if !findings.fine(&[backends, settings]) || (is_default && !findings.fine(&["pool.endpoints", "--to"])) {
            return;
        }
        let mend = match (is_default, findings.has_source()) {
            (true, true) => "write `to: [collector-a:11800, collector-b:11800]`, or run with --to collector-a:11800",
            (true, false) => "add --to collector-a:11800,collector-b:11800",
            (false, _) => "write `endpoints: [collector-a:11800, collector-b:11800]`",
        };
        if is_default && !findings.has_source() {
            findings.remember("to", "--to", None);
        }
        findings.error_in(backends, Mistake::new("there is no backend to send to", mend));
    }

    fn memory(&self, findings: &mut Findings<'_>) {
        let (memory, message) = (self.plan.memory_bytes, self.plan.limits.message_bytes_max);
        let (in_flight, trip) = (self.pool.in_flight_bytes_max, self.pool.trip.bytes_max);
        let [memory_said, message_said, in_flight_said, trip_said] = [memory, message, in_flight, trip].map(show_size);
        let (in_flight_path, trip_path) = (self.path("in_flight"), self.path("trip.bytes"));
        if in_flight < trip {
            Conflict {
                low: (&in_flight_path, format!("{in_flight_said} is less than one trip, {trip_path}, {trip_said}")),
                high: (&trip_path, format!("{trip_said} is more than {in_flight_path}, {in_flight_said}, lets out")),
                mend: format!("raise {in_flight_path} to {trip_said} or more, or lower {trip_path}"),
            }
            .error(findings);
        }
        if in_flight < message {
            let less = format!("{in_flight_said} is less than one message, limits.message, {message_said}");
            let more = format!("{message_said} is more than {in_flight_path}, {in_flight_said}, lets out");
            Conflict {
                low: (&in_flight_path, less),
                high: ("limits.message", more),
                mend: format!("raise {in_flight_path} to {message_said} or more, or lower limits.message"),
            }
            .error(findings);
        }
        if in_flight > memory {
            let less = format!("{memory_said} is less than {in_flight_path}, {in_flight_said}, could ever hold");
            let more = format!("{in_flight_said} cannot be reached: limits.memory is {memory_said}");
            Conflict {
                low: ("limits.memory", less),
                high: (&in_flight_path, more),
                mend: format!("set {in_flight_path} to {memory_said} or less"),
            }
            .warning(findings);
        }
    }

    fn times(&self, findings: &mut Findings<'_>) {
        let (trip, drain) = (&self.pool.trip, self.plan.drain_deadline);
        let shown = [self.pool.linger, trip.age_max, trip.answer_deadline, trip.hard_deadline, drain];
        let [linger, age, answer, hard, drain_said] = shown.map(show_time);
        let [linger_path, age_path] = [self.path("linger"), self.path("trip.age")];
        let [answer_path, hard_path] = [self.path("trip.answer_deadline"), self.path("trip.hard_deadline")];
        if trip.hard_deadline < trip.answer_deadline {
            Conflict {
                low: (&hard_path, format!("{hard} is before {answer_path}, {answer}")),
                high: (&answer_path, format!("{answer} is after {hard_path}, {hard}")),
                mend: format!("raise hard_deadline to {answer} or more, or lower answer_deadline"),
            }
            .error(findings);
        }
        if self.pool.linger > trip.age_max {
            Conflict {
                low: (&age_path, format!("{age} is shorter than {linger_path}, {linger}")),
                high: (&linger_path, format!("{linger} is longer than a trip, {age_path}, {age}")),
                mend: format!("set {linger_path} to {age} or less"),
            }
            .error(findings);
        }
        if drain < trip.answer_deadline {
            let why = "a stop may give up answers that would have come";
            Conflict {
                low: ("drain_deadline", format!("{drain_said} is before {answer_path}, {answer}: {why}")),
                high: (&answer_path, format!("{answer} is after drain_deadline, {drain_said}: {why}")),
                mend: format!("raise drain_deadline to {answer} or more"),
            }
            .warning(findings);
        }
    }
}

fn memory(plan: &Plan, findings: &mut Findings<'_>) {
    let (memory, message) = (plan.memory_bytes, plan.limits.message_bytes_max);
    let [memory_said, message_said] = [memory, message].map(show_size);
    let least = message.saturating_mul(MESSAGES_IN_MEMORY_MIN);
    if memory < least {
        let less =
            format!("{memory_said} is less than {MESSAGES_IN_MEMORY_MIN} messages of limits.message, {message_said}");
        let more = format!("{message_said} is more than a quarter of limits.memory, {memory_said}");
        Conflict {
            low: ("limits.memory", less),
            high: ("limits.message", more),
            mend: format!("raise limits.memory to {} or more, or lower limits.message", show_size(least)),
        }
        .error(findings);
    }
}

/// Two settings that do not go together: what is said of the one that is too low, and of the one that is too high.
struct Conflict<'a> {
    low: (&'a str, String),
    high: (&'a str, String),
    mend: String,
}

impl<'a> Conflict<'a> {
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
    fn blame(self, findings: &Findings<'_>) -> Option<(&'a str, Mistake)> {
        let written = |path: &str| findings.origin(path).1.is_some();
        if !findings.fine(&[self.low.0, self.high.0]) {
            return None;
        }
        let (path, what) = if !written(self.low.0) && written(self.high.0) { self.high } else { self.low };
        Some((path, Mistake::new(what, self.mend)))
    }
}
