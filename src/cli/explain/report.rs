//! An explanation as it is printed: the same facts as text and as JSON.

use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;

use crate::config::Plan;
use crate::pool::{self, Policy, balance};
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
    let names: Vec<String> = pool.backends.iter().map(|backend| backend.name.clone()).collect();
    if let Some((key, number)) = key.and_then(|key| Some((key, key.number?))) {
        let refs: Vec<&str> = names.iter().map(String::as_str).collect();
        let order = balance::in_order(number, &refs).into_iter().map(|at| names[at].clone()).collect();
        let who = if key.sticky { "equal keys must meet one backend" } else { "the pool's balance is hash" };
        return (
            order,
            format!("{who}: the first of these that is up, by rendezvous over their names, the same on every replica"),
        );
    }
    if let Some(what) = record_key {
        let what = match what {
            RecordKey::TraceId => "trace",
            RecordKey::Service => "service",
            RecordKey::Resource => "resource",
        };
        return (
            names,
            format!("the request is cut: each {what} goes to the first backend of its own rendezvous order that is up"),
        );
    }
    let why = match pool.balance {
        Policy::RoundRobin => "round_robin: whoever was given the fewest messages so far",
        Policy::LeastLoad => {
            "least_load: of two drawn at random among those that are up, the one with fewer bytes waiting and sent lately"
        }
        Policy::Hash => "hash, but the message has no key: as least_load",
    };
    (names, why.to_owned())
}
