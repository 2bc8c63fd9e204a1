//! The file's settings gathered, each one right for itself; whether they go together is `sound`'s to say.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::compile::Compiler;
use super::file::Node;
use super::listen::{self, Listen};
use super::plan::{Log, LogFormat, Plan};
use super::pools::{PoolPaths, PoolsDraft};
use super::problem::{Findings, Mistake};
use super::routes::RouteDraft;
use super::section::Section;
use super::written::Written;
use super::{identity, keys, methods, protos, routes};
use crate::listener::identity::Identity;
use crate::listener::{self, Limits, Reply};
use crate::message::flow::Flow;
use crate::route::schema::Schema;
use crate::route::{Method, Routes, catalogue};

/// What is known before the flags have been looked at.
pub(super) struct Draft<'a> {
    pub listen: [Listen; 5],
    pub pools: PoolsDraft,
    pub reply: Reply,
    limits: Limits,
    memory_bytes: usize,
    methods: Vec<Method>,
    routes: Vec<RouteDraft<'a>>,
    schema: Schema,
    identity: Identity,
    drain_deadline: Duration,
    workers: usize,
    log: Log,
}

const MEMORY_BYTES: usize = 256 << 20;
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// Reads the whole file.
pub(super) fn read<'a>(tree: &'a Node, findings: &mut Findings<'_>) -> Draft<'a> {
    let root = Section::root(tree, findings);
    let limits = root.section("limits", findings);
    let schema = protos::read(&root, findings);
    Draft {
        listen: listen::read(&root, &limits, findings),
        pools: PoolsDraft::read(&root, findings),
        reply: root.word("reply", keys::REPLY, findings).map_or(Reply::default(), reply),
        memory_bytes: limits.size("memory", MEMORY_BYTES, findings),
        limits: read_limits(&limits, findings),
        methods: methods::read(&root, &schema, findings),
        routes: routes::read(&root, findings),
        schema,
        identity: identity::read(&root, findings),
        drain_deadline: root.time("drain_deadline", DRAIN_DEADLINE, findings),
        workers: root.size("workers", 0, findings),
        log: log(&root.section("log", findings), findings),
    }
}

impl Draft<'_> {
    /// The plan, and where the operator wrote about its pools; `sound` has yet to look at both.
    pub fn into_plan(self, findings: &mut Findings<'_>) -> (Plan, Vec<PoolPaths>) {
        let [agents, access_logs, metrics, prometheus, admin] = self.listen;
        let served = [(agents, None), (access_logs, Some(Flow::AccessLogs)), (metrics, Some(Flow::Metrics))];
        let listeners: Vec<listener::Settings> =
            served.into_iter().filter_map(|(listen, only)| listen.settings(only)).collect();
        let drafts = self.pools.in_order(findings);
        let (paths, of_pools): (Vec<_>, Vec<_>) = drafts.into_iter().map(|draft| draft.apart(findings)).unzip();
        let (pools, sources): (Vec<_>, Vec<_>) = of_pools.into_iter().unzip();
        let methods = [catalogue::methods(), self.methods].concat();
        let compiler = Compiler { methods: &methods, pools: &pools, listeners: &listeners, schema: &self.schema };
        let rules = compiler.compile(&self.routes, findings);
        let rules_of = |method: &Method| rules.get(method.path).cloned().unwrap_or_default();
        let plan = Plan {
            listeners,
            limits: self.limits,
            reply: self.reply,
            pools,
            sources,
            routes: Arc::new(Routes::new(methods, rules_of)),
            schema: self.schema,
            identity: self.identity,
            memory_bytes: self.memory_bytes,
            prometheus: prometheus.address,
            admin: admin.address,
            prometheus_tls: prometheus.tls,
            admin_tls: admin.tls,
            drain_deadline: self.drain_deadline,
            workers: match self.workers {
                0 => thread::available_parallelism().map_or(1, usize::from),
                workers => workers,
            },
            log: self.log,
            written: Written::default(),
        };
        (plan, paths)
    }
}

/// The reply of this number in [`keys::REPLY`].
pub(super) fn reply(word: usize) -> Reply {
    [Reply::Received, Reply::Delivered][word]
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
        connection_age_grace: section.time_or_off("connection_age_grace", usual.connection_age_grace, findings),
        connection_idle_max: section.time_or_off("idle_connection", usual.connection_idle_max, findings),
        relay_deadline: section.time("relay_deadline", usual.relay_deadline, findings),
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
