//! Pools: who they are, where their backends listen, how messages reach them.

use std::net::SocketAddr;

use http::HeaderValue;

use super::file::{Node, Shape};
use super::problem::{Findings, Mistake};
use super::section::Section;
use super::sources::{self, Backing};
use super::{keys, tls};
use crate::discovery::Source;
use crate::pool::{Policy, Settings, TripSettings};

/// A pool, and where the operator wrote about it.
pub(super) struct PoolDraft {
    pub settings: Settings,
    source: Source,
    /// The DNS server that is asked, where `resolver` names one.
    resolver: Option<SocketAddr>,
    paths: PoolPaths,
}

/// Where the operator wrote about a pool.
pub(super) struct PoolPaths {
    /// Its settings stand under this: `pool`, `pools.tail`.
    pub settings: String,
    /// Its backends were read from this: `to`, `pools.tail`, `pools.tail.endpoints`.
    pub backends: String,
}

/// Every pool that was written about.
pub(super) struct PoolsDraft {
    /// The one that `to:`, `pool:` and `--to` speak of; it is there when it has backends, or when there is no other.
    pub default: PoolDraft,
    /// Those under `pools:`, in their order.
    pub named: Vec<PoolDraft>,
}

/// The pool that `to:` and `pool:` speak of.
pub(super) const DEFAULT: &str = "default";

/// Longest name of a pool: it is a metric label and stands in the banner.
const NAME_CHARS_MAX: usize = 63;

// === impl PoolDraft ===

impl PoolDraft {
    /// Its backends are these.
    pub fn set_backing(&mut self, backing: Backing) {
        (self.settings.backends, self.source) = (backing.backends, backing.source);
    }

    pub fn apart(mut self, findings: &mut Findings<'_>) -> (PoolPaths, (Settings, Source)) {
        let path = format!("{}.resolver", self.paths.settings);
        match (&mut self.source, self.resolver) {
            (_, None) => {}
            (Source::Dns(name), Some(resolver)) if name.resolver.is_none() => name.resolver = Some(resolver),
            (Source::Dns(name), Some(resolver)) if name.resolver != Some(resolver) => {
                let what = format!("`{}` names another DNS server", name);
                findings.error_in(&path, Mistake::new(what, "keep one of the two"));
            }
            (Source::Dns(_), Some(_)) => {}
            (_, Some(_)) => {
                let mend = "write the pool's backends as dns:///name:port, or remove it";
                findings.warn_of(&path, Mistake::new("no DNS server is asked for this pool's backends", mend));
            }
        }
        (self.paths, (self.settings, self.source))
    }

    fn has_backends(&self) -> bool {
        !self.settings.backends.is_empty() || self.source != Source::Static
    }
}

// === impl PoolsDraft ===

impl PoolsDraft {
    pub fn read(root: &Section<'_>, findings: &mut Findings<'_>) -> Self {
        let section = root.section("pool", findings);
        let backing = default_backing(root, findings);
        let default = PoolDraft {
            settings: Settings { backends: backing.backends, ..settings(&section, DEFAULT, findings) },
            source: backing.source,
            resolver: section.read("resolver", findings, sources::resolver),
            paths: PoolPaths { settings: "pool".to_owned(), backends: "to".to_owned() },
        };
        let mut pools = Self { default, named: Vec::new() };
        for (key, node) in root.members_of("pools", findings) {
            let (name, path) = (key.value.as_str(), format!("pools.{}", key.value));
            let at = findings.place(key.referenced);
            findings.remember(&path, &path, at);
            if let Err(mistake) = check_name(name) {
                findings.error(at, &path, mistake);
                continue;
            }
            let pool = named(name, node, path, findings);
            pools.named.push(pool);
        }
        pools
    }

    /// The pools in the order of the plan.
    pub fn in_order(self, findings: &mut Findings<'_>) -> Vec<PoolDraft> {
        let Self { default, mut named } = self;
        let has_backends = default.has_backends() || !findings.fine(&["to", "pool.endpoints", "--to"]);
        if named.is_empty() || has_backends {
            if let Some(twice) = named.iter().find(|pool| pool.settings.name == DEFAULT) {
                let by = findings.origin("to").0;
                let mistake = Mistake::new(
                    format!("`{by}` names the backends of a pool `{DEFAULT}` already"),
                    "give this one another name, or keep one of the two",
                );
                findings.error_in(&twice.paths.settings, mistake);
            }
            named.insert(0, default);
        } else if findings.origin("pool").1.is_some() {
            let mend = format!("write `to:` with its backends, or move the settings to `{}:`", named[0].paths.settings);
            let what = "these are settings of the pool `default`, and nothing says where its backends are";
            findings.error_in("pool", Mistake::new(what, mend));
        }
        named
    }
}

fn check_name(name: &str) -> Result<(), Mistake> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_word) {
        let mend = format!("use up to {NAME_CHARS_MAX} letters, digits, `_`, `-` and `.`");
        return Err(Mistake::new(format!("\"{name}\" cannot be the name of a pool"), mend));
    }
    Ok(())
}

/// A pool under `pools:`: settings, or its backends alone.
fn named(name: &str, node: &Node, path: String, findings: &mut Findings<'_>) -> PoolDraft {
    let Shape::Map(members) = &node.value else {
        let Backing { backends, source } = sources::read(node, &path, &path, findings);
        let paths = PoolPaths { settings: path.clone(), backends: path };
        let settings = Settings { backends, ..Settings::new(name, Vec::new()) };
        return PoolDraft { settings, source, resolver: None, paths };
    };
    let section = Section::of(node, "pool", path.clone(), findings);
    let backends_path = format!("{path}.endpoints");
    let Backing { backends, source } = match members.iter().find(|(key, _)| key.value == "endpoints") {
        Some((_, node)) => sources::read(node, &backends_path, &backends_path, findings),
        // That there is none is said where all pools are looked at.
        None => {
            findings.remember(&backends_path, &path, findings.origin(&path).1);
            Backing::default()
        }
    };
    let settings = Settings { backends, ..settings(&section, name, findings) };
    let resolver = section.read("resolver", findings, sources::resolver);
    PoolDraft { settings, source, resolver, paths: PoolPaths { settings: path, backends: backends_path } }
}

fn settings(section: &Section<'_>, name: &str, findings: &mut Findings<'_>) -> Settings {
    let usual = Settings::new(name, Vec::new());
    let trip = section.section("trip", findings);
    let policies = [Policy::LeastLoad, Policy::RoundRobin, Policy::Hash];
    Settings {
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
        in_flight_messages_max: section.size_or_off("in_flight_messages", usual.in_flight_messages_max, findings),
        channel_age_max: section.time_or_off("channel_age", usual.channel_age_max, findings),
        channels_max: section.size("channels", usual.channels_max, findings),
        eject_after: section.count("eject_after", usual.eject_after, findings),
        connect_deadline: section.time("connect_deadline", usual.connect_deadline, findings),
        authentication: section.read("authentication", findings, token),
        tls: tls::of_pool(section, findings),
        message_bytes_max: section.size_or_off("message", usual.message_bytes_max, findings),
        name: usual.name,
        backends: usual.backends,
    }
}

/// Reads a token. It is never shown: not here, and not where settings are printed.
pub(super) fn token(text: &str) -> Result<HeaderValue, Mistake> {
    let mend = "write a line of plain letters, digits and signs";
    let mut token =
        HeaderValue::from_str(text).map_err(|_| Mistake::new("is no token that metadata can hold", mend))?;
    token.set_sensitive(true);
    Ok(token)
}

fn default_backing(root: &Section<'_>, findings: &mut Findings<'_>) -> Backing {
    let short = root.node("to");
    let long = match root.node("pool").map(|pool| &pool.value) {
        Some(Shape::Map(members)) => members.iter().find(|(key, _)| key.value == "endpoints"),
        _ => None,
    };
    match (short, long) {
        (Some(_), Some((key, _))) => {
            let mistake = Mistake::new("`to` names the backends already", "keep one of the two");
            findings.error(findings.place(key.referenced), "pool.endpoints", mistake);
            Backing::default()
        }
        (Some(node), None) => sources::read(node, "to", "to", findings),
        (None, Some((_, node))) => sources::read(node, "pool.endpoints", "to", findings),
        (None, None) => Backing::default(),
    }
}
