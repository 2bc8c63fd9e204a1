//! Every setting once: its path, what it takes and its bounds.

mod kind;

use super::unit::{Bounds, Unit};

use crate::pool::found::WEIGHT_MAX;
pub use kind::Kind;

/// One setting of the file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its path, dots between the groups.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
}

/// The words of `pool.balance`.
pub(super) const BALANCE: &[&str] = &["least_load", "round_robin", "weighted", "hash", "pick_first"];
/// The words of `pool.health.check`.
pub(super) const CHECK: &[&str] = &["connect", "grpc", "tcp", "http"];
/// The words of `pool.endpoints.kubernetes.kind`.
pub(super) const KUBERNETES_KIND: &[&str] = &["pods", "endpointslices"];
/// The words of `reply`.
pub(super) const REPLY: &[&str] = &["received", "delivered"];
/// The words of `log.format`.
pub(super) const FORMAT: &[&str] = &["auto", "text", "json"];
/// The words of `methods[].flow`, `Flow`'s own names with the default first.
pub(super) const FLOW: &[&str] = &["control", "traces", "logs", "access_logs", "metrics", "profiles"];
/// The words of `methods[].split`.
pub(super) const SPLIT: &[&str] = &["whole", "each", "carry", "sets", "relay"];
/// The words of `methods[].carry.mode`.
pub(super) const CARRY_MODE: &[&str] = &["first_message", "first_non_empty", "latest"];
/// The words of `methods[].replay`.
pub(super) const REPLAY: &[&str] = &["always", "not_processed"];
/// The words of `routes[].listener`.
pub(super) const LISTENER: &[&str] = &["agents", "access_logs", "metrics"];
/// The words of `identity.missing_token`.
pub(super) const MISSING_TOKEN: &[&str] = &["refuse", "accept"];
/// The words of `listen.agents.tls.client_certificate`.
pub(super) const CLIENT_CERTIFICATE: &[&str] = &["required", "optional"];
/// The words of `routes[].malformed`.
pub(super) const MALFORMED: &[&str] = &["refuse", "pass"];
/// The words of what is so or not.
pub(super) const TRUTH: &[&str] = &["false", "true"];
/// The same where it is so unless said otherwise.
pub(super) const TRUTH_OR_NOT: &[&str] = &["true", "false"];

/// Settings that had another name once, with the group they stand under.
const RENAMED: &[(&str, &str, &str)] = &[("", "relay", "methods"), ("pool", "eject_after", "pool.health.fall")];

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const M: u64 = 60 * S;
const H: u64 = 60 * M;
const D: u64 = 24 * H;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Every setting, in the order of the example file. A list's items stand under the list's path.
pub const KEYS: &[Key] = &[
    Key { path: "listen", kind: Kind::Group },
    Key { path: "listen.agents", kind: Kind::Address },
    // What a port takes besides its address; the other ports of agents take the same.
    Key { path: "listen.agents.address", kind: Kind::Address },
    amount("listen.agents.connections", Unit::Count, 1, 1_000_000, None),
    amount("listen.agents.calls", Unit::Count, 1, 10_000_000, Some("off")),
    amount("listen.agents.connections_per_source", Unit::Count, 1, 1_000_000, Some("off")),
    // Every port takes these, our own too; they stand here once.
    Key { path: "listen.agents.tls", kind: Kind::Group },
    Key { path: "listen.agents.tls.certificate", kind: Kind::File },
    Key { path: "listen.agents.tls.key", kind: Kind::File },
    Key { path: "listen.agents.tls.client_ca", kind: Kind::File },
    Key { path: "listen.agents.tls.client_certificate", kind: Kind::Words(CLIENT_CERTIFICATE) },
    Key { path: "listen.agents.tls.allow", kind: Kind::Names },
    Key { path: "listen.access_logs", kind: Kind::Address },
    Key { path: "listen.metrics", kind: Kind::Address },
    // Our own ports, which have no agents to limit.
    Key { path: "listen.prometheus", kind: Kind::Address },
    Key { path: "listen.prometheus.address", kind: Kind::Address },
    Key { path: "listen.prometheus.tls", kind: Kind::Group },
    Key { path: "listen.admin", kind: Kind::Address },
    Key { path: "listen.admin.address", kind: Kind::Address },
    Key { path: "listen.admin.tls", kind: Kind::Group },
    Key { path: "listen.endpoints", kind: Kind::Address },
    Key { path: "listen.endpoints.address", kind: Kind::Address },
    Key { path: "listen.endpoints.tls", kind: Kind::Group },
    Key { path: "to", kind: Kind::Backends },
    Key { path: "pool", kind: Kind::Group },
    Key { path: "pool.endpoints", kind: Kind::Backends },
    // What may stand for one of them, here and under `to`.
    Key { path: "pool.endpoints.address", kind: Kind::Endpoint },
    Key { path: "pool.endpoints.name", kind: Kind::Label },
    amount("pool.endpoints.weight", Unit::Count, 1, WEIGHT_MAX as u64, None),
    amount("pool.endpoints.tier", Unit::Count, 1, 100, Some("0")),
    Key { path: "pool.endpoints.zone", kind: Kind::Text },
    Key { path: "pool.endpoints.kubernetes", kind: Kind::Group },
    Key { path: "pool.endpoints.kubernetes.kind", kind: Kind::Words(KUBERNETES_KIND) },
    Key { path: "pool.endpoints.kubernetes.namespace", kind: Kind::Label },
    Key { path: "pool.endpoints.kubernetes.selector", kind: Kind::Text },
    Key { path: "pool.endpoints.kubernetes.fields", kind: Kind::Text },
    Key { path: "pool.endpoints.kubernetes.service", kind: Kind::Label },
    Key { path: "pool.endpoints.kubernetes.port", kind: Kind::Port },
    Key { path: "pool.endpoints.kubernetes.api_server", kind: Kind::Text },
    Key { path: "pool.endpoints.kubernetes.token_file", kind: Kind::File },
    Key { path: "pool.endpoints.kubernetes.ca", kind: Kind::File },
    Key { path: "pool.endpoints.etcd", kind: Kind::Group },
    Key { path: "pool.endpoints.etcd.members", kind: Kind::Members },
    Key { path: "pool.endpoints.etcd.prefix", kind: Kind::Text },
    Key { path: "pool.endpoints.etcd.tls", kind: Kind::Group },
    Key { path: "pool.endpoints.etcd.tls.ca", kind: Kind::File },
    Key { path: "pool.endpoints.etcd.tls.certificate", kind: Kind::File },
    Key { path: "pool.endpoints.etcd.tls.key", kind: Kind::File },
    Key { path: "pool.endpoints.etcd.tls.server_name", kind: Kind::Text },
    Key { path: "pool.endpoints.etcd.username", kind: Kind::Text },
    Key { path: "pool.endpoints.etcd.password", kind: Kind::Token },
    Key { path: "pool.resolver", kind: Kind::Server },
    Key { path: "pool.balance", kind: Kind::Words(BALANCE) },
    // A bound of a fair share exactly could be kept by nobody.
    amount("pool.hash_bound", Unit::Percent, 105, 1_000, Some("off")),
    Key { path: "pool.affinity", kind: Kind::Group },
    Key { path: "pool.affinity.by", kind: Kind::AffinityBy },
    amount("pool.affinity.ttl", Unit::Time, S, 30 * D, None),
    amount("pool.affinity.entries", Unit::Count, 1_000, 10_000_000, None),
    amount("pool.hand_over", Unit::Time, 100 * MS, H, Some("0")),
    amount("pool.fail_over_below", Unit::Percent, 1, 100, Some("0")),
    amount("pool.zone_spill", Unit::Size, KIB, GIB, Some("off")),
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
    // A parcel has up to 64 messages: a bound below that would be none.
    amount("pool.in_flight_messages", Unit::Count, 64, 100_000_000, Some("off")),
    // As `limits.connection_age`.
    amount("pool.channel_age", Unit::Time, 10 * S, 30 * D, Some("off")),
    amount("pool.channels", Unit::Count, 1, 256, None),
    Key { path: "pool.health", kind: Kind::Group },
    Key { path: "pool.health.check", kind: Kind::Words(CHECK) },
    Key { path: "pool.health.service", kind: Kind::Text },
    Key { path: "pool.health.path", kind: Kind::Text },
    amount("pool.health.port", Unit::Count, 1, 65_535, None),
    // More often than that a check tells more about the network than about the backend.
    amount("pool.health.interval", Unit::Time, 100 * MS, H, Some("off")),
    amount("pool.health.timeout", Unit::Time, 10 * MS, M, None),
    amount("pool.health.rise", Unit::Count, 1, 1_000, None),
    amount("pool.health.fall", Unit::Count, 1, 1_000, None),
    amount("pool.health.ejection", Unit::Time, 10 * MS, H, None),
    amount("pool.health.ejection_max", Unit::Time, 10 * MS, H, None),
    Key { path: "pool.health.eject_max", kind: Kind::Percent },
    Key { path: "pool.health.panic_below", kind: Kind::Percent },
    amount("pool.health.slow_start", Unit::Time, 100 * MS, H, Some("0")),
    amount("pool.connect_deadline", Unit::Time, 100 * MS, M, None),
    Key { path: "pool.authentication", kind: Kind::Token },
    Key { path: "pool.tls", kind: Kind::Tls },
    Key { path: "pool.tls.ca", kind: Kind::File },
    Key { path: "pool.tls.certificate", kind: Kind::File },
    Key { path: "pool.tls.key", kind: Kind::File },
    Key { path: "pool.tls.server_name", kind: Kind::Text },
    Key { path: "pool.tls.verify", kind: Kind::Words(TRUTH_OR_NOT) },
    // As `limits.message`: no smaller than what is worth cutting, no larger than what any backend takes.
    amount("pool.message", Unit::Size, 4 * KIB, 50 * MIB, Some("off")),
    // Its members are the operator's words; each takes what `pool` takes, or its backends alone.
    Key { path: "pools", kind: Kind::Pools },
    Key { path: "zone", kind: Kind::Text },
    Key { path: "reply", kind: Kind::Words(REPLY) },
    Key { path: "protos", kind: Kind::Files },
    Key { path: "methods", kind: Kind::Methods },
    Key { path: "methods.path", kind: Kind::Method },
    Key { path: "methods.flow", kind: Kind::Words(FLOW) },
    Key { path: "methods.split", kind: Kind::Words(SPLIT) },
    Key { path: "methods.carry", kind: Kind::Group },
    Key { path: "methods.carry.fields", kind: Kind::Fields },
    Key { path: "methods.carry.mode", kind: Kind::Words(CARRY_MODE) },
    Key { path: "methods.last", kind: Kind::Fields },
    Key { path: "methods.name", kind: Kind::Fields },
    Key { path: "methods.key", kind: Kind::Fields },
    Key { path: "methods.sticky", kind: Kind::Words(TRUTH) },
    Key { path: "methods.ordered", kind: Kind::Words(TRUTH) },
    Key { path: "methods.replay", kind: Kind::Words(REPLAY) },
    Key { path: "methods.needs", kind: Kind::Fields },
    Key { path: "methods.fields", kind: Kind::Numbers },
    Key { path: "identity", kind: Kind::Group },
    Key { path: "identity.tokens", kind: Kind::Tokens },
    Key { path: "identity.missing_token", kind: Kind::Words(MISSING_TOKEN) },
    Key { path: "identity.separate_by", kind: Kind::Metadata },
    Key { path: "admin", kind: Kind::Group },
    Key { path: "admin.token", kind: Kind::Token },
    Key { path: "admin.token_file", kind: Kind::File },
    Key { path: "endpoints", kind: Kind::Group },
    Key { path: "endpoints.token", kind: Kind::Token },
    Key { path: "endpoints.token_file", kind: Kind::File },
    Key { path: "routes", kind: Kind::Routes },
    Key { path: "routes.name", kind: Kind::Label },
    Key { path: "routes.method", kind: Kind::Globs },
    Key { path: "routes.flow", kind: Kind::SomeOf(FLOW) },
    Key { path: "routes.listener", kind: Kind::SomeOf(LISTENER) },
    Key { path: "routes.metadata", kind: Kind::Comparisons },
    Key { path: "routes.message", kind: Kind::Comparisons },
    // How a value is compared; the members of `metadata` and `message` are the operator's words.
    Key { path: "routes.message.equals", kind: Kind::Text },
    Key { path: "routes.message.prefix", kind: Kind::Text },
    Key { path: "routes.message.suffix", kind: Kind::Text },
    Key { path: "routes.message.glob", kind: Kind::Text },
    Key { path: "routes.message.regex", kind: Kind::Text },
    Key { path: "routes.message.one_of", kind: Kind::Texts },
    Key { path: "routes.message.present", kind: Kind::Words(TRUTH) },
    Key { path: "routes.any", kind: Kind::Conditions },
    Key { path: "routes.all", kind: Kind::Conditions },
    Key { path: "routes.not", kind: Kind::Conditions },
    Key { path: "routes.to", kind: Kind::Pool },
    Key { path: "routes.drop", kind: Kind::Label },
    Key { path: "routes.sample", kind: Kind::Share },
    Key { path: "routes.sample.share", kind: Kind::Share },
    Key { path: "routes.sample.by", kind: Kind::Fields },
    Key { path: "routes.mirror", kind: Kind::Pool },
    Key { path: "routes.mirror.to", kind: Kind::Pool },
    Key { path: "routes.mirror.share", kind: Kind::Share },
    Key { path: "routes.mirror.by", kind: Kind::Fields },
    Key { path: "routes.limit", kind: Kind::Rate },
    Key { path: "routes.limit.rate", kind: Kind::Rate },
    amount("routes.limit.burst", Unit::Count, 1, 10_000_000, None),
    Key { path: "routes.limit.per", kind: Kind::Fields },
    Key { path: "routes.key", kind: Kind::Fields },
    Key { path: "routes.malformed", kind: Kind::Words(MALFORMED) },
    Key { path: "limits", kind: Kind::Group },
    amount("limits.memory", Unit::Size, 16 * MIB, TIB, None),
    amount("limits.connections", Unit::Count, 1, 1_000_000, None),
    amount("limits.connections_per_listener", Unit::Count, 1, 1_000_000, None),
    amount("limits.connections_per_source", Unit::Count, 1, 1_000_000, Some("off")),
    Key { path: "limits.source_prefix", kind: Kind::Group },
    amount("limits.source_prefix.ipv4", Unit::Count, 8, 32, None),
    amount("limits.source_prefix.ipv6", Unit::Count, 16, 128, None),
    amount("limits.calls_per_listener", Unit::Count, 1, 10_000_000, Some("off")),
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
    amount("limits.connection_age_grace", Unit::Time, 100 * MS, D, Some("off")),
    amount("limits.idle_connection", Unit::Time, 10 * S, 30 * D, Some("off")),
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

/// Whether there is a setting of this path.
pub(super) fn is_setting(path: &str) -> bool {
    KEYS.iter().any(|key| key.path == path)
}

/// The names that may stand directly under a group (`""`: the whole file).
pub(super) fn names_under(group: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |key| match key.path.rsplit_once('.') {
        Some((parent, name)) => (parent == group).then_some(name),
        None => group.is_empty().then_some(key.path),
    })
}

/// What a setting that stood under this group is called now.
pub(super) fn renamed(group: &str, name: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(under, before, _)| (*under, *before) == (group, name)).map(|(_, _, now)| *now)
}

/// What to do with a name that is none of a group's and near to none.
pub(super) fn advice(group: &str) -> Option<&'static str> {
    (group == "routes").then_some("write it under `message` if it is a field, under `metadata` if it is metadata")
}

/// The path of the only setting whose last name is this, wherever it stands.
pub(super) fn elsewhere(name: &str) -> Option<&'static str> {
    // What is said of one backend has plain words that mean something else elsewhere.
    let paths = KEYS.iter().map(|key| key.path).filter(|path| !path.starts_with("pool.endpoints."));
    let mut found = paths.filter(|path| path.rsplit('.').next() == Some(name));
    let path = found.next()?;
    found.next().is_none().then_some(path)
}

#[cfg(test)]
mod tests;
