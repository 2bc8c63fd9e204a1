//! Who gets what: the settings of a pool's balancing, what backends say of themselves, and whether it goes together.

use http::HeaderName;

use super::file::Node;
use super::plan::Plan;
use super::pools::PoolPaths;
use super::problem::{Findings, Mistake};
use super::section::Section;
use super::{keys, sources};
use crate::discovery::Source;
use crate::listener::affinity;
use crate::pool::found::Found;
use crate::pool::{Affinity, AffinityBy, Policy, Settings};
use crate::route::contract::Wish;

/// How long a key is kept, and how many are.
const TTL: std::time::Duration = std::time::Duration::from_secs(600);
const ENTRIES: usize = 100_000;

/// The usual settings with those that say who gets what.
pub(super) fn read(section: &Section<'_>, usual: &Settings, findings: &mut Findings<'_>) -> Settings {
    let percent = |bound: usize| u32::try_from(bound).unwrap_or(u32::MAX);
    let hash_bound = usual.hash_bound.map(|bound| bound as usize);
    Settings {
        balance: section.word("balance", keys::BALANCE, findings).map_or(usual.balance, |word| Policy::ALL[word]),
        hash_bound: section.size_or_off("hash_bound", hash_bound, findings).map(percent),
        affinity: read_affinity(section, findings),
        hand_over: section.time("hand_over", usual.hand_over, findings),
        fail_over_below: section.count("fail_over_below", usual.fail_over_below, findings),
        zone_spill: section.size_or_off("zone_spill", usual.zone_spill, findings),
        ..usual.clone()
    }
}

fn read_affinity(pool: &Section<'_>, findings: &mut Findings<'_>) -> Option<Affinity> {
    let section = pool.section("affinity", findings);
    let (ttl, entries_max) = (section.time("ttl", TTL, findings), section.size("entries", ENTRIES, findings));
    if !section.has("by") {
        if section.has("ttl") || section.has("entries") {
            let mend = "write `by: peer`, `by: key` or `by: metadata:x-tenant`";
            findings.error_in(&pool.key("affinity"), Mistake::new("does not say what is kept together", mend));
        }
        return None;
    }
    let by = section.read("by", findings, affinity_by)?;
    Some(Affinity { by, ttl, entries_max })
}

fn affinity_by(text: &str) -> Result<AffinityBy, Mistake> {
    let named = |name: &str| {
        let mend = "use letters, digits, `-`, `_` and `.`";
        HeaderName::from_bytes(name.trim().to_ascii_lowercase().as_bytes())
            .map_err(|_| Mistake::new(format!("\"{name}\" cannot be the name of metadata"), mend))
    };
    match text.split_once(':') {
        None if text == "peer" => Ok(AffinityBy::Peer),
        None if text == "key" => Ok(AffinityBy::Key),
        Some(("metadata", name)) => named(name).map(AffinityBy::Metadata),
        _ => {
            let mend = "write peer, key, or metadata:NAME as in metadata:x-tenant";
            Err(Mistake::new(format!("\"{text}\" is nothing that can be kept together"), mend))
        }
    }
}

/// Reads a backend that says more than its address. `None` when its address is missing or wrong, which is noted.
pub(super) fn backend(
    node: &Node,
    shown: String,
    findings: &mut Findings<'_>,
    read: impl FnOnce(&str) -> Result<Found, Mistake>,
) -> Option<Found> {
    let section = Section::of(node, "pool.endpoints", shown.clone(), findings);
    let tier = section.count("tier", 0, findings);
    let weight = section.count("weight", 1, findings);
    let zone = section.read("zone", findings, |text| Ok(text.to_owned()));
    if !section.has("address") {
        findings.error_in(&shown, Mistake::new("has no address", "write `address: collector-a:11800`"));
        return None;
    }
    let name = section.read("name", findings, sources::backend_name);
    let found = section.read("address", findings, read)?;
    Some(Found { name: name.unwrap_or_else(|| found.name.clone()), weight, priority: tier, zone, ..found })
}

/// Whether what was said about who gets what goes together.
pub(super) fn check(plan: &Plan, paths: &[PoolPaths], findings: &mut Findings<'_>) {
    for (at, (pool, paths)) in plan.pools.iter().zip(paths).enumerate() {
        let path = |name: &str| format!("{}.{name}", paths.settings);
        weights(pool, &path("balance"), findings);
        let usual = Settings::new("", Vec::new());
        if pool.balance != Policy::Hash && pool.hash_bound != usual.hash_bound {
            let what = format!("counts where `balance` is hash, and it is {}", pool.balance.name());
            let mistake = Mistake::new(what, "write `balance: hash`, or remove this");
            findings.warn_of(&path("hash_bound"), mistake);
        }
        if let Some(mistake) = pool.affinity.as_ref().and_then(|affinity| idle(plan, at, pool, affinity)) {
            findings.warn_of(&path("affinity.by"), mistake);
        }
    }
    zones(plan, findings);
}

fn weights(pool: &Settings, path: &str, findings: &mut Findings<'_>) {
    let are_alike = pool.backends.windows(2).all(|two| two[0].weight == two[1].weight);
    if pool.balance == Policy::PickFirst && !are_alike {
        let what = "weights count for nothing: the first backend that is up gets everything";
        findings.warn_of(path, Mistake::new(what, "write another policy, or tiers instead of weights"));
    }
    if pool.balance == Policy::Hash && pool.backends.len() == 1 {
        let mend = "add backends, or leave balance at least_load";
        findings.warn_of(path, Mistake::new("hash has nothing to choose from: there is one backend", mend));
    }
}

/// Why an affinity changes nothing, if so.
fn idle(plan: &Plan, at: usize, pool: &Settings, affinity: &Affinity) -> Option<Mistake> {
    let mend = "remove it, or choose another";
    match (pool.balance, &affinity.by) {
        (Policy::PickFirst, _) => {
            Some(Mistake::new("changes nothing: with pick_first the first backend that is up gets everything", mend))
        }
        (Policy::Hash, AffinityBy::Key) => {
            Some(Mistake::new("changes nothing: keys are hashed, for `balance` is hash", mend))
        }
        (_, AffinityBy::Key) if !has_keys(plan, at) => Some(Mistake::new(
            "changes nothing: no message that goes to this pool has a key, unless it is hashed anyway",
            "give its route a `key`",
        )),
        _ => None,
    }
}

/// Whether messages go to a pool with a key that is not sticky.
fn has_keys(plan: &Plan, pool: usize) -> bool {
    let wishes: Vec<Wish> = plan.pools.iter().map(affinity::wish).collect();
    plan.routes.all().iter().any(|route| {
        let mut rules = route.rules.iter().filter(|rule| rule.pool == pool);
        !route.method.contract.sticky && rules.any(|rule| route.method.contract.key_under(rule, &wishes).is_some())
    })
}

fn zones(plan: &Plan, findings: &mut Findings<'_>) {
    let Some(zone) = plan.pools.iter().find_map(|pool| pool.zone.as_ref()) else { return };
    let named = || plan.pools.iter().flat_map(|pool| &pool.backends);
    // A deployment says it of every gateway in one breath; only what stands in the file is said of this one.
    // What a source will say of zones is not known here.
    let are_known = plan.pools_and_sources().all(|(_, source)| *source == Source::Static);
    if findings.origin("zone").1.is_none() || named().next().is_none() || !are_known {
        return;
    }
    let what = match named().find_map(|found| found.zone.as_ref()) {
        None => "counts for nothing: no backend says where it runs".to_owned(),
        Some(_) if named().any(|found| found.zone.as_ref() == Some(zone)) => return,
        Some(other) => format!("no backend runs in {zone}; others do in {other}"),
    };
    let mend = format!("write it as in `to: [{{ address: collector-a:11800, zone: {zone} }}]`, or remove this");
    findings.warn_of("zone", Mistake::new(what, mend));
}
