//! An explanation as it is printed: the same facts as text and as JSON.

use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;

use crate::config::Plan;
use crate::pool::balance::roster::Roster;
use crate::pool::{self, Affinity, AffinityBy, Policy};
use crate::route::Route;
use crate::route::describe::Described;
use crate::route::explain::{Explanation, Fate, KeyRead};
use crate::route::records::RecordKey;

use super::Format;

/// Backends named; of more, the number is told.
const CANDIDATES_SHOWN: usize = 10;

/// What is printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The path that was asked about, if the method leaves under another.
    #[serde(skip_serializing_if = "Option::is_none")]
    called: Option<String>,
    contract: Described,
    rules: Vec<RuleLine>,
    /// The rule that decides; the label `route`.
    route: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeyLine>,
    fate: String,
    /// The label `reason` of `switchyard_messages_lost_total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    /// Backends in the order in which they are tried.
    candidates: Vec<String>,
    why: String,
}

#[derive(Debug, Serialize)]
struct RuleLine {
    name: String,
    condition: String,
    action: String,
    holds: bool,
}

#[derive(Debug, Serialize)]
struct KeyLine {
    names: String,
    values: Vec<String>,
    /// In hexadecimal; absent when nothing stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<String>,
    sticky: bool,
}

impl Report {
    pub fn new(plan: &Plan, route: &Arc<Route>, path: &str, explained: Explanation) -> Self {
        let method = &route.method;
        let pools: Vec<String> = plan.pools.iter().map(|pool| pool.name.clone()).collect();
        let rules: Vec<RuleLine> = explained
            .rules
            .iter()
            .map(|(rule, holds)| RuleLine {
                name: rule.name.to_string(),
                condition: method.test_in_words(&rule.test),
                action: method.action_in_words(rule, &pools),
                holds: *holds,
            })
            .collect();
        let decisive = rules.last().map(|rule| (rule.name.clone(), rule.action.clone())).unwrap_or_default();
        let (pool, lost, fate) = match &explained.fate {
            Fate::Sent { pool, .. } => (Some(*pool), None, decisive.1),
            Fate::Held { pool } => {
                (Some(*pool), None, format!("held until its data set is whole, then: {}", decisive.1))
            }
            Fate::Lost { reason, complaint: None } => (None, Some(reason.name()), decisive.1),
            Fate::Lost { reason, complaint: Some(complaint) } => {
                (None, Some(reason.name()), format!("refused: {complaint}"))
            }
        };
        let settings = pool.map(|pool| &plan.pools[pool]);
        let (candidates, why) = match settings {
            Some(settings) => candidates(settings, explained.key.as_ref(), explained.record_key),
            None => (Vec::new(), "no backend gets it".to_owned()),
        };
        Self {
            called: Some(path.to_owned()).filter(|path| path != method.path),
            contract: method.describe(),
            rules,
            route: decisive.0,
            key: explained.key.map(KeyLine::from),
            fate,
            lost,
            pool: settings.map(|settings| settings.name.clone()),
            candidates,
            why,
        }
    }

    /// Whether it goes to a backend.
    pub fn is_delivered(&self) -> bool {
        self.lost.is_none()
    }

    pub fn print(&self, format: Format, out: &mut impl Write) -> io::Result<()> {
        match format {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(self)?),
            Format::Text => self.print_text(out),
        }
    }

    fn print_text(&self, out: &mut impl Write) -> io::Result<()> {
        let mut line = |name: &str, what: &str| writeln!(out, "{name:<11} {what}");
        let contract = &self.contract;
        line("method", &contract.method)?;
        if let Some(called) = &self.called {
            line("", &format!("called as {called}"))?;
        }
        let mut words = vec![format!("split {}", contract.split)];
        let facts = [
            ("carries", &contract.carries),
            ("order", &contract.order),
            ("reply", &contract.reply),
            ("replay", &contract.replay),
        ];
        words.extend(facts.iter().filter(|(_, fact)| !fact.is_empty()).map(|(name, fact)| format!("{name} {fact}")));
        line("contract", &format!("flow {}, {}", contract.flow, words.join(", ")))?;
        for rule in &self.rules {
            line("route", &format!("{} {}: {}", if rule.holds { "yes" } else { "no " }, rule.name, rule.condition))?;
        }
        if let Some(key) = &self.key {
            line("key", &key.to_string())?;
        }
        line("action", &self.fate)?;
        if let Some(lost) = self.lost {
            line("", &format!("counted in switchyard_messages_lost_total{{reason=\"{lost}\"}}"))?;
        }
        for (number, candidate) in self.candidates.iter().take(CANDIDATES_SHOWN).enumerate() {
            line(if number == 0 { "candidates" } else { "" }, &format!("{}. {candidate}", number + 1))?;
        }
        if let Some(more) = self.candidates.len().checked_sub(CANDIDATES_SHOWN).filter(|more| *more > 0) {
            line("", &format!("and {more} more"))?;
        }
        line("why", &self.why)
    }
}

impl From<KeyRead> for KeyLine {
    fn from(key: KeyRead) -> Self {
        let KeyRead { names, values, number, sticky } = key;
        Self { names, values, number: number.map(|number| format!("{number:016x}")), sticky }
    }
}

impl std::fmt::Display for KeyLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.names)?;
        if !self.values.is_empty() {
            write!(f, " = {}", self.values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", "))?;
        }
        match &self.number {
            Some(number) => write!(f, " -> {number}"),
            None => write!(f, " -> none: the message has none of it"),
        }
    }
}

/// The pool's backends in the order in which they are tried, and why in that order.
fn candidates(pool: &pool::Settings, key: Option<&KeyRead>, record_key: Option<RecordKey>) -> (Vec<String>, String) {
    let roster = Roster::at_rest(pool);
    let named = |order: Vec<usize>| order.into_iter().map(|at| named(pool, &roster, at)).collect();
    let number = key.and_then(|key| Some((key, key.number?)));
    let (order, why) = match (number, record_key) {
        _ if pool.balance == Policy::PickFirst => {
            (roster.in_tiers(), "pick_first: the first of these that is up, by tier and name".to_owned())
        }
        (Some((key, number)), _) if key.sticky || pool.balance == Policy::Hash => {
            (roster.in_order(number), why_by_key(key, pool))
        }
        (_, Some(what)) => (roster.in_tiers(), why_cut(what).to_owned()),
        _ => (roster.in_tiers(), why_by_policy(pool, number.is_some())),
    };
    (named(order), why)
}

/// A backend and what its source says of it beyond the usual: `oap-0:11800 (weight 3, tier 1, zone eu-1)`.
fn named(pool: &pool::Settings, roster: &Roster, at: usize) -> String {
    let found = &pool.backends[at];
    let near = if roster.is_near(at) { ", ours" } else { "" };
    let facts: Vec<String> = [
        (found.weight != 1).then(|| format!("weight {}", found.weight)),
        (found.priority != 0).then(|| format!("tier {}", found.priority)),
        found.zone.as_ref().map(|zone| format!("zone {zone}{near}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if facts.is_empty() { found.name.clone() } else { format!("{} ({})", found.name, facts.join(", ")) }
}

fn why_by_key(key: &KeyRead, pool: &pool::Settings) -> String {
    let who = if key.sticky { "equal keys must meet one backend" } else { "the pool's balance is hash" };
    let bound = match pool.hash_bound.filter(|_| !key.sticky) {
        Some(percent) => {
            format!("; one that is given more than {percent}% of its fair share passes keys on to the next")
        }
        None => String::new(),
    };
    format!("{who}: the first of these that is up, by rendezvous over their names, the same on every replica{bound}")
}

fn why_cut(what: RecordKey) -> String {
    let what = match what {
        RecordKey::TraceId => "trace",
        RecordKey::Service => "service",
        RecordKey::Resource => "resource",
    };
    format!("the request is cut: each {what} goes to the first backend of its own rendezvous order that is up")
}

fn why_by_policy(pool: &pool::Settings, has_key: bool) -> String {
    let policy = match pool.balance {
        Policy::RoundRobin => "round_robin: whoever was given the fewest messages for its weight",
        Policy::Weighted => "weighted: drawn at random among those that are up, each as often as it weighs",
        Policy::Hash => "hash, but the message has no key: as least_load",
        Policy::LeastLoad | Policy::PickFirst => {
            "least_load: of two drawn at random among those that are up, the one with fewer bytes waiting and sent lately"
        }
    };
    match &pool.affinity {
        Some(Affinity { by: AffinityBy::Peer, .. }) => {
            format!("affinity by peer: where this peer's messages went before; a new one by {policy}")
        }
        Some(Affinity { by: AffinityBy::Metadata(name), .. }) => {
            format!("affinity by metadata: where calls with this {name} went before; a new one by {policy}")
        }
        Some(Affinity { by: AffinityBy::Key, .. }) if has_key => {
            format!("affinity by key: where this key went before; a new one by {policy}")
        }
        Some(Affinity { by: AffinityBy::Key, .. }) | None => policy.to_owned(),
    }
}
