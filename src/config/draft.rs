//! The file's settings gathered, each one right for itself; whether they go together is `sound`'s to say.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use super::file::{Node, Shape};
use super::plan::{Log, LogFormat, Plan};
use super::problem::{Findings, Mistake, Place};
use super::section::{Section, empty, scalar};
use super::{address, keys};
use crate::listener::{self, Limits, Reply};
use crate::message::flow::Flow;
use crate::pool::{self, Endpoint, Policy, TripSettings};
use crate::route::RelayMethod;

/// What is known before the flags have been looked at.
pub(super) struct Draft {
    pub listen: [Listen; 5],
    pub endpoints: Vec<Endpoint>,
    pub reply: Reply,
    pool: pool::Settings,
    limits: Limits,
    connections_per_listener: usize,
    memory_bytes: usize,
    relay: Vec<RelayMethod>,
    drain_deadline: Duration,
    workers: usize,
    log: Log,
}

/// One port, of agents or of our own.
pub(super) struct Listen {
    pub name: &'static str,
    /// The address a bare port is taken on.
    pub usual: IpAddr,
    pub address: Option<SocketAddr>,
}

const MEMORY_BYTES: usize = 256 << 20;
const CONNECTIONS_PER_LISTENER: usize = 10_000;
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// Reads the whole file.
pub(super) fn read(tree: &Node, findings: &mut Findings<'_>) -> Draft {
    let root = Section::root(tree, findings);
    let limits = root.section("limits", findings);
    Draft {
        listen: listen(&root.section("listen", findings), findings),
        endpoints: endpoints(&root, findings),
        reply: root.word("reply", keys::REPLY, findings).map_or(Reply::default(), reply),
        pool: pool(&root.section("pool", findings), findings),
        connections_per_listener: limits.size("connections_per_listener", CONNECTIONS_PER_LISTENER, findings),
        memory_bytes: limits.size("memory", MEMORY_BYTES, findings),
        limits: read_limits(&limits, findings),
        relay: relay(&root, findings),
        drain_deadline: root.time("drain_deadline", DRAIN_DEADLINE, findings),
        workers: root.size("workers", 0, findings),
        log: log(&root.section("log", findings), findings),
    }
}

impl Draft {
    /// The plan, which `sound` has yet to look at.
    pub fn into_plan(self) -> Plan {
        let [agents, access_logs, metrics, prometheus, admin] = self.listen;
        let served = [(agents, None), (access_logs, Some(Flow::AccessLogs)), (metrics, Some(Flow::Metrics))];
        let settings = |(listen, only): (Listen, Option<Flow>)| {
            let connections_max = self.connections_per_listener;
            listen.address.map(|address| listener::Settings { name: listen.name, address, only, connections_max })
        };
        Plan {
            listeners: served.into_iter().filter_map(settings).collect(),
            limits: self.limits,
            reply: self.reply,
            pool: pool::Settings { endpoints: self.endpoints, ..self.pool },
            memory_bytes: self.memory_bytes,
            relay: self.relay,
            prometheus: prometheus.address,
            admin: admin.address,
            drain_deadline: self.drain_deadline,
            workers: match self.workers {
                0 => thread::available_parallelism().map_or(1, usize::from),
                workers => workers,
            },
            log: self.log,
        }
    }
}

/// The reply of this number in [`keys::REPLY`].
pub(super) fn reply(word: usize) -> Reply {
    [Reply::Received, Reply::Delivered][word]
}

fn listen(section: &Section<'_>, findings: &mut Findings<'_>) -> [Listen; 5] {
    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let defaults = [("agents", ANY, 11_800), ("access_logs", ANY, 11_802), ("metrics", ANY, 11_803)];
    let own = [("prometheus", ANY, 1_234), ("admin", HERE, 9_901)];
    let [agents, access_logs, metrics] = defaults;
    let [prometheus, admin] = own;
    [agents, access_logs, metrics, prometheus, admin].map(|(name, usual, port)| {
        let parse = |text: &str| match address::listen(text, usual)? {
            // The flags allow it, for tests: who writes a file wants to know the port.
            Some(address) if address.port() == 0 => {
                Err(Mistake::new("nobody can find port 0", format!("write {}:{port}, or off", address.ip())))
            }
            address => Ok(address),
        };
        let default = Some(SocketAddr::new(usual, port));
        Listen { name, usual, address: section.read(name, findings, parse).unwrap_or(default) }
    })
}

fn endpoints(root: &Section<'_>, findings: &mut Findings<'_>) -> Vec<Endpoint> {
    let short = root.node("to");
    let long = match root.node("pool").map(|pool| &pool.value) {
        Some(Shape::Map(members)) => members.iter().find(|(key, _)| key.value == "endpoints"),
        _ => None,
    };
    match (short, long) {
        (Some(_), Some((key, _))) => {
            let mistake = Mistake::new("`to` names the backends already", "keep one of the two");
            findings.error(findings.place(key.referenced), "pool.endpoints", mistake);
            Vec::new()
        }
        (Some(node), None) => backends(node, "to", findings),
        (None, Some((_, node))) => backends(node, "pool.endpoints", findings),
        (None, None) => Vec::new(),
    }
}

/// Reads a list of backends, or a string of several with commas between them.
fn backends(node: &Node, key: &str, findings: &mut Findings<'_>) -> Vec<Endpoint> {
    findings.remember("to", key, findings.place(node.referenced));
    let items = match &node.value {
        Shape::List(items) => items.as_slice(),
        Shape::Scalar(text) if !text.trim().is_empty() => std::slice::from_ref(node),
        Shape::Map(_) => {
            let mend = "write `to: [collector-a:11800]`; settings of the pool go under `pool:`";
            findings.error(findings.place(node.referenced), key, Mistake::new("takes backends, not settings", mend));
            return Vec::new();
        }
        Shape::Scalar(_) | Shape::Nothing => {
            let mistake = empty(node.defined, findings);
            findings.error(findings.place(node.referenced), key, mistake);
            return Vec::new();
        }
    };
    let mut endpoints = Vec::new();
    for item in items {
        let Some(written) = scalar(item, key.to_owned(), findings) else { continue };
        let mut start = 0;
        for part in written.text.split(',') {
            let from = start + part.len() - part.trim_start().len();
            let place = findings.place_of(written.text, from..from + part.trim().len(), item.referenced);
            add_backend(part.trim(), key, place, &mut endpoints, findings);
            start += part.len() + 1;
        }
    }
    endpoints
}

/// Reads the backends of `--to`.
pub(super) fn backends_of_flag(text: &str, findings: &mut Findings<'_>) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for part in text.split(',') {
        add_backend(part, "--to", None, &mut endpoints, findings);
    }
    endpoints
}

fn add_backend(text: &str, key: &str, at: Option<Place>, endpoints: &mut Vec<Endpoint>, findings: &mut Findings<'_>) {
    match address::endpoint(text) {
        Ok(endpoint) if endpoints.contains(&endpoint) => {
            findings.error(at, key, Mistake::new(format!("{endpoint} is named twice"), "name each backend once"));
        }
        Ok(endpoint) => endpoints.push(endpoint),
        Err(mistake) => findings.error(at, key, mistake),
    }
}

fn pool(section: &Section<'_>, findings: &mut Findings<'_>) -> pool::Settings {
    let usual = pool::Settings::new("default", Vec::new());
    let trip = section.section("trip", findings);
    let policies = [Policy::LeastLoad, Policy::RoundRobin, Policy::Hash];
    pool::Settings {
        balance: section.word("balance", keys::BALANCE, findings).map_or(usual.balance, |word| policies[word]),
        trip: TripSettings {
            messages_max: trip.count("messages", usual.trip.messages_max, findings),
            bytes_max: trip.size("bytes", usual.trip.bytes_max, findings),
            age_max: trip.time("age", usual.trip.age_max, findings),
            answer_deadline: trip.time("answer_deadline", usual.trip.answer_deadline, findings),
            hard_deadline: trip.time("hard_deadline", usual.trip.hard_deadline, findings),
        },
        linger: section.time("linger", usual.linger, findings),
        in_flight_bytes_max: section.size("in_flight", usual.in_flight_bytes_max, findings),
        channels_max: section.size("channels", usual.channels_max, findings),
        eject_after: section.count("eject_after", usual.eject_after, findings),
        connect_deadline: section.time("connect_deadline", usual.connect_deadline, findings),
        ..usual
    }
}

fn read_limits(section: &Section<'_>, findings: &mut Findings<'_>) -> Limits {
    let usual = Limits::default();
    Limits {
        connections_max: section.size("connections", usual.connections_max, findings),
        calls_per_connection: section.count("calls_per_connection", usual.calls_per_connection, findings),
        message_bytes_max: section.size("message", usual.message_bytes_max, findings),
        header_list_bytes_max: section.count("header_list", usual.header_list_bytes_max, findings),
        handshake_deadline: section.time("handshake_deadline", usual.handshake_deadline, findings),
        first_call_deadline: section.time("first_call_deadline", usual.first_call_deadline, findings),
        message_deadline: section.time("message_deadline", usual.message_deadline, findings),
        connection_age_max: section.time_or_off("connection_age", usual.connection_age_max, findings),
        relay_deadline: section.time("relay_deadline", usual.relay_deadline, findings),
    }
}

fn relay(root: &Section<'_>, findings: &mut Findings<'_>) -> Vec<RelayMethod> {
    let Some(node) = root.node("relay") else { return Vec::new() };
    let items = match &node.value {
        Shape::List(items) => items.as_slice(),
        Shape::Nothing => &[],
        Shape::Scalar(_) | Shape::Map(_) => {
            let mistake = Mistake::new("takes a list of methods", "write `relay: [ /my.pkg.Service/Method ]`");
            findings.error(findings.place(node.referenced), "relay", mistake);
            &[]
        }
    };
    let mut methods: Vec<RelayMethod> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let (path, flow) = match &item.value {
            Shape::Map(members) => {
                let section = Section::item(item, "relay", index, findings);
                if !members.iter().any(|(key, _)| key.value == "path") {
                    let mistake = Mistake::new("has no path", "write `path: /my.pkg.Service/Method`");
                    findings.error(findings.place(item.referenced), &format!("relay[{index}]"), mistake);
                }
                let flow = section.word("flow", keys::FLOW, findings).map(|word| keys::FLOW[word]);
                (section.read("path", findings, method), flow)
            }
            _ => {
                let Some(written) = scalar(item, format!("relay[{index}]"), findings) else { continue };
                let path = method(written.text).map_err(|mistake| findings.error(written.at, &written.key, mistake));
                (path.ok(), None)
            }
        };
        let Some(path) = path else { continue };
        if methods.iter().any(|method| method.path == path) {
            let mistake = Mistake::new(format!("{path} is named twice"), "name each method once");
            findings.error(findings.place(item.referenced), &format!("relay[{index}]"), mistake);
            continue;
        }
        let flow = Flow::ALL.into_iter().find(|known| Some(known.name()) == flow).unwrap_or(Flow::Control);
        methods.push(RelayMethod { path, flow });
    }
    methods
}

/// Reads the exact path of a method.
fn method(text: &str) -> Result<String, Mistake> {
    let name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let mut parts = text.strip_prefix('/').unwrap_or(text).split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(service), Some(method), None) if service.split('.').all(name) && name(method) => {
            if text.starts_with('/') {
                return Ok(text.to_owned());
            }
            Err(Mistake::new(format!("\"{text}\" does not begin with a slash"), format!("write /{text}")))
        }
        _ => {
            let mend = "write /my.pkg.Service/Method, one method each";
            Err(Mistake::new(format!("\"{text}\" is not the path of a method"), mend))
        }
    }
}

fn log(section: &Section<'_>, findings: &mut Findings<'_>) -> Log {
    let formats = [LogFormat::Auto, LogFormat::Text, LogFormat::Json];
    Log {
        level: section.read("level", findings, level).unwrap_or_else(|| Log::default().level),
        format: section.word("format", keys::FORMAT, findings).map_or(LogFormat::Auto, |word| formats[word]),
    }
}

/// Reads a level, or levels by module as `info,switchyard=debug`.
fn level(text: &str) -> Result<String, Mistake> {
    const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace", "off"];
    for part in text.split(',') {
        let (module, level) = part.split_once('=').unwrap_or(("", part));
        super::section::word(level.trim(), LEVELS)?;
        if !module.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')) {
            return Err(Mistake::new(
                format!("\"{module}\" is not a module"),
                "write a level, or as in info,switchyard=debug",
            ));
        }
    }
    Ok(text.to_owned())
}
