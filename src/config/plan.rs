//! What will run: every setting resolved and known to go together with the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::unit::show_size;
use super::written::Written;
use crate::discovery::Source;
use crate::listener::identity::Identity;
use crate::pool::Policy;
use crate::route::Routes;
use crate::route::schema::Schema;
use crate::wire::tls::ServerTls;
use crate::{listener, pool};

/// Everything the gateway is started with. Made by [`super::load`] and [`Plan::from_flags`] only, which give none that is unsound.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The ports for agents; at least one, no two alike.
    pub listeners: Vec<listener::Settings>,
    /// What any one peer may ask.
    pub limits: listener::Limits,
    /// When a call is answered.
    pub reply: listener::Reply,
    /// Where messages go; at least one pool. What no rule is for goes to the first.
    pub pools: Vec<pool::Settings>,
    /// Where each pool's backends are known from, in the order of `pools`; those of a static one stand in its settings. A
    /// pool that has none here is static.
    pub sources: Vec<Source>,
    /// What is done with each method's messages.
    pub routes: Arc<Routes>,
    /// What is known of messages: names of fields, for whoever asks about routes.
    pub schema: Schema,
    /// Who may call, and what keeps callers apart.
    pub identity: Identity,
    /// The budget: bytes that messages may take in memory, all together.
    pub memory_bytes: usize,
    /// Where Prometheus scrapes, if anywhere.
    pub prometheus: Option<SocketAddr>,
    /// Where the admin page is, if anywhere.
    pub admin: Option<SocketAddr>,
    /// Prometheus' port's TLS, if it has any.
    pub prometheus_tls: Option<Arc<ServerTls>>,
    /// The admin page's TLS, if it has any.
    pub admin_tls: Option<Arc<ServerTls>>,
    /// How long a stop may take.
    pub drain_deadline: Duration,
    /// Worker threads; at least one.
    pub workers: usize,
    /// What is logged and how.
    pub log: Log,
    /// What the operator wrote to get it.
    pub written: Written,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level, or levels by module as `info,switchyard=debug`.
    pub level: String,
    /// What a line looks like.
    pub format: LogFormat,
}

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Backends named in the banner; of more, the number is told.
const BACKENDS_SHOWN: usize = 6;
/// Pools named in the summary; of more, the number is told.
const POOLS_SHOWN: usize = 6;

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

impl Plan {
    /// The lines a start prints: ports and their flows, pools and their backends, budget. With one pool fewer than ten.
    pub fn describe(&self) -> Vec<String> {
        let port = |name: &str, address: SocketAddr, what: &str, tls: &Option<Arc<ServerTls>>| {
            format!("{name:<12} {:<21} {what}{}", address.to_string(), describe_tls(address, tls))
        };
        let of_agents = |listener: &listener::Settings| {
            let what = match listener.only {
                None => "every flow".to_owned(),
                Some(flow) => format!("{} only", flow.name().replace('_', " ")),
            };
            port(listener.name, listener.address, &what, &listener.tls)
        };
        let mut lines: Vec<String> = self.listeners.iter().map(of_agents).collect();
        let own = [
            ("prometheus", self.prometheus, "/metrics /ready /live", &self.prometheus_tls),
            ("admin", self.admin, "/snapshot /ready /live", &self.admin_tls),
        ];
        lines.extend(own.into_iter().filter_map(|(name, address, what, tls)| Some(port(name, address?, what, tls))));
        let pools = self.pools_and_sources().enumerate();
        lines.extend(pools.map(|(at, (pool, source))| describe_pool(at, pool, source)));
        lines.push(format!(
            "{:<12} {} for messages of up to {}, {}",
            "memory",
            show_size(self.memory_bytes),
            show_size(self.limits.message_bytes_max),
            count(self.workers, "worker"),
        ));
        lines.push(match self.reply {
            listener::Reply::Received => format!("{:<12} OK once received", "reply"),
            listener::Reply::Delivered => format!("{:<12} OK once delivered", "reply"),
        });
        lines
    }

    /// Every pool and where its backends are known from.
    pub fn pools_and_sources(&self) -> impl Iterator<Item = (&pool::Settings, &Source)> {
        self.pools.iter().zip(self.sources.iter().chain(std::iter::repeat(&Source::Static)))
    }

    /// One line for `check`: `3 listeners, 1 pool (3 backends), 256MiB of memory`.
    pub fn summary(&self) -> String {
        let backends = |pool: &pool::Settings, source: &Source| match source {
            Source::Static => count(pool.backends.len(), "backend"),
            source => format!("backends from {source}"),
        };
        let pools = match self.pools.len() {
            1 => {
                self.pools_and_sources().map(|(pool, source)| format!("1 pool ({})", backends(pool, source))).collect()
            }
            all => {
                let each = |(pool, source): (&pool::Settings, _)| format!("{} {}", pool.name, backends(pool, source));
                let shown: Vec<String> = self.pools_and_sources().take(POOLS_SHOWN).map(each).collect();
                format!("{} ({}{})", count(all, "pool"), shown.join(", "), and_more(all, POOLS_SHOWN))
            }
        };
        format!("{}, {pools}, {} of memory", count(self.listeners.len(), "listener"), show_size(self.memory_bytes))
    }
}

/// What is told of a port's TLS: that anybody may come without is said where anybody may come.
fn describe_tls(address: SocketAddr, tls: &Option<Arc<ServerTls>>) -> &'static str {
    match tls {
        Some(tls) if tls.settings().client_authorities.is_some() => ", mTLS",
        Some(_) => ", TLS",
        None if address.ip().is_loopback() => "",
        None => ", no TLS",
    }
}

/// `pool         2 backends by hash: a:1, b:1`; the second of several is `pool tail`.
fn describe_pool(at: usize, pool: &pool::Settings, source: &Source) -> String {
    let balance = match pool.balance {
        Policy::LeastLoad => "least_load",
        Policy::RoundRobin => "round_robin",
        Policy::Hash => "hash",
    };
    let shown: Vec<String> = pool.backends.iter().take(BACKENDS_SHOWN).map(|backend| backend.name.clone()).collect();
    let more = and_more(pool.backends.len(), BACKENDS_SHOWN);
    let name = if at == 0 && pool.name == "default" { "pool".to_owned() } else { format!("pool {}", pool.name) };
    let tls = match &pool.tls {
        Some(tls) if !tls.settings().verify => " by TLS, certificates unseen",
        Some(tls) if tls.settings().pair.is_some() => " by mTLS",
        Some(_) => " by TLS",
        None => "",
    };
    match source {
        Source::Static => {
            let backends = count(pool.backends.len(), "backend");
            format!("{name:<12} {backends}{tls} by {balance}: {}{more}", shown.join(", "))
        }
        source => format!("{name:<12} backends{tls} by {balance}, from {source}"),
    }
}

fn and_more(number: usize, shown: usize) -> String {
    match number.saturating_sub(shown) {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
