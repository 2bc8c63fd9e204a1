//! Every setting once: its path, what it takes and its bounds.

use super::unit::{Bounds, Unit};

/// One setting of the file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its path, dots between the groups.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
}

/// What a setting takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Other settings.
    Group,
    /// `ip:port`, a port, or `off`.
    Address,
    /// Backends: a list, or a string with commas.
    Backends,
    /// A list of gRPC methods.
    Methods,
    /// One gRPC method, `/pkg.Service/Method`.
    Method,
    /// A log level, or levels by module.
    Level,
    /// One of these words; the first is the default.
    Words(&'static [&'static str]),
    /// An amount.
    Amount(Bounds),
}

/// The words of `pool.balance`.
pub(super) const BALANCE: &[&str] = &["least_load", "round_robin", "hash"];
/// The words of `reply`.
pub(super) const REPLY: &[&str] = &["received", "delivered"];
/// The words of `log.format`.
pub(super) const FORMAT: &[&str] = &["auto", "text", "json"];
/// The words of `relay[].flow`, `Flow`'s own names with the default first.
pub(super) const FLOW: &[&str] = &["control", "traces", "logs", "access_logs", "metrics", "profiles"];

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const M: u64 = 60 * S;
const H: u64 = 60 * M;
const D: u64 = 24 * H;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// Every setting, in the order of the example file. A list's items stand under the list's path.
pub const KEYS: &[Key] = &[
    Key { path: "listen", kind: Kind::Group },
    Key { path: "listen.agents", kind: Kind::Address },
    Key { path: "listen.access_logs", kind: Kind::Address },
    Key { path: "listen.metrics", kind: Kind::Address },
    Key { path: "listen.prometheus", kind: Kind::Address },
    Key { path: "listen.admin", kind: Kind::Address },
    Key { path: "to", kind: Kind::Backends },
    Key { path: "pool", kind: Kind::Group },
    Key { path: "pool.endpoints", kind: Kind::Backends },
    Key { path: "pool.balance", kind: Kind::Words(BALANCE) },
    // More than 100 ms of gathering would eat into the trip's own age.
    amount("pool.linger", Unit::Time, MS / 10, 100 * MS, Some("0")),
    Key { path: "pool.trip", kind: Kind::Group },
    amount("pool.trip.messages", Unit::Count, 1, 1_000_000, None),
    // A parcel is at most 16 KiB; a trip that cannot hold one would end before it began.
    amount("pool.trip.bytes", Unit::Size, 16 * KIB, 64 * MIB, None),
    amount("pool.trip.age", Unit::Time, 10 * MS, H, None),
    amount("pool.trip.answer_deadline", Unit::Time, 100 * MS, 10 * M, None),
    amount("pool.trip.hard_deadline", Unit::Time, 100 * MS, H, None),
    amount("pool.in_flight", Unit::Size, 64 * KIB, TIB, None),
    amount("pool.channels", Unit::Count, 1, 256, None),
    amount("pool.eject_after", Unit::Count, 1, 1_000, None),
    amount("pool.connect_deadline", Unit::Time, 100 * MS, M, None),
    Key { path: "reply", kind: Kind::Words(REPLY) },
    Key { path: "relay", kind: Kind::Methods },
    Key { path: "relay.path", kind: Kind::Method },
    Key { path: "relay.flow", kind: Kind::Words(FLOW) },
    Key { path: "limits", kind: Kind::Group },
    amount("limits.memory", Unit::Size, 16 * MIB, TIB, None),
    amount("limits.connections", Unit::Count, 1, 1_000_000, None),
    amount("limits.connections_per_listener", Unit::Count, 1, 1_000_000, None),
    amount("limits.calls_per_connection", Unit::Count, 1, 100_000, None),
    // 50 MiB is what OAP itself takes at most; a larger message could be accepted but never delivered.
    amount("limits.message", Unit::Size, 4 * KIB, 50 * MIB, None),
    // A gRPC request has about 500 bytes of headers, a bearer token up to 4 KiB.
    amount("limits.header_list", Unit::Size, 2 * KIB, MIB, None),
    amount("limits.handshake_deadline", Unit::Time, 100 * MS, 5 * M, None),
    amount("limits.first_call_deadline", Unit::Time, 100 * MS, H, None),
    amount("limits.message_deadline", Unit::Time, 100 * MS, H, None),
    // Agents keep few connections and reconnect slowly: moving them more than once in ten seconds is churn.
    amount("limits.connection_age", Unit::Time, 10 * S, 30 * D, Some("off")),
    amount("limits.relay_deadline", Unit::Time, 100 * MS, H, None),
    amount("drain_deadline", Unit::Time, 100 * MS, H, None),
    amount("workers", Unit::Count, 1, 1_024, Some("0")),
    Key { path: "log", kind: Kind::Group },
    Key { path: "log.level", kind: Kind::Level },
    Key { path: "log.format", kind: Kind::Words(FORMAT) },
];

const fn amount(path: &'static str, unit: Unit, least: u64, most: u64, also: Option<&'static str>) -> Key {
    Key { path, kind: Kind::Amount(Bounds { unit, least, most, also }) }
}

/// The bounds of an amount; `None` when the path is no amount's.
pub(super) fn bounds(path: &str) -> Option<&'static Bounds> {
    KEYS.iter().find(|key| key.path == path).and_then(|key| match &key.kind {
        Kind::Amount(bounds) => Some(bounds),
        _ => None,
    })
}

/// The names that may stand directly under a group (`""`: the whole file).
pub(super) fn names_under(group: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |key| match key.path.rsplit_once('.') {
        Some((parent, name)) => (parent == group).then_some(name),
        None => group.is_empty().then_some(key.path),
    })
}

/// The path of the only setting whose last name is this, wherever it stands.
pub(super) fn elsewhere(name: &str) -> Option<&'static str> {
    let mut found = KEYS.iter().map(|key| key.path).filter(|path| path.rsplit('.').next() == Some(name));
    let path = found.next()?;
    found.next().is_none().then_some(path)
}

impl Kind {
    /// What it takes, in words.
    pub fn takes(&self) -> String {
        match self {
            Kind::Group => "settings".to_owned(),
            Kind::Address => "ip:port, a port, or off".to_owned(),
            Kind::Backends => "host:port, one or more".to_owned(),
            Kind::Methods => "a list of methods".to_owned(),
            Kind::Method => "/pkg.Service/Method".to_owned(),
            Kind::Level => "error, warn, info, debug, trace, or off".to_owned(),
            Kind::Words(words) => words.join(", "),
            Kind::Amount(bounds) => bounds.takes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::flow::Flow;

    #[test]
    fn every_path_is_listed_once_and_under_a_listed_group() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(!KEYS[..index].iter().any(|other| other.path == key.path), "{}", key.path);
            if let Some((parent, _)) = key.path.rsplit_once('.') {
                assert!(KEYS[..index].iter().any(|other| other.path == parent), "{}", key.path);
            }
        }
    }

    #[test]
    fn the_flows_a_relay_may_name_are_all_flows() {
        assert_eq!(FLOW.len(), Flow::ALL.len());
        assert!(Flow::ALL.iter().all(|flow| FLOW.contains(&flow.name())));
    }
}
