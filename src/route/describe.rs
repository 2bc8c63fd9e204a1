//! Contracts and rules in words: the same in `switchyard catalogue`, `switchyard explain` and the docs.

use std::sync::Arc;

use serde::Serialize;

use crate::message::parcel::StandIn;
use crate::message::path::FieldPath;

use super::Method;
use super::contract::{Contract, Key, Replay, Replier, Split};
use super::records::RecordKey;
use super::rule::{Action, Match, Rule, Test};

/// A method's row of the catalogue, in words; what does not apply is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Described {
    /// Its path.
    pub method: String,
    /// What old agents call it.
    pub package_less: String,
    /// Whose ports, budget and channels it uses.
    pub flow: String,
    /// How far its calls come apart.
    pub split: String,
    /// What is said once per stream and must be said again, and how receivers read it.
    pub carries: String,
    /// What decides the backend.
    pub key: String,
    /// `always`: equal keys meet one backend. `hash`: they do where the pool's balance is `hash`.
    pub sticky: String,
    /// What arrives in the order it was sent.
    pub order: String,
    /// Who answers the call.
    pub reply: String,
    /// When messages that a backend may have acted on may be said again.
    pub replay: String,
    /// What a message must have.
    pub needs: String,
    /// What a backend that does not serve it is sent instead.
    pub stand_in: String,
}

/// Something compared in a rule that is longer than this is cut.
const SHOWN_CHARS: usize = 60;

// === impl Method ===

impl Method {
    /// The method with a name for every place that its contract and these rules look at, as far as `name` knows one.
    pub fn named(&self, rules: &[Arc<Rule>], name: impl Fn(&Method, &FieldPath) -> Option<String>) -> Method {
        let mut named = self.clone();
        let own = match &self.contract.key {
            Some(Key::Fields(paths)) => paths.clone(),
            _ => Vec::new(),
        };
        let carried = match &self.contract.split {
            Split::Carry(carry) => carry.fields.clone(),
            Split::Sets { last, name } => vec![*last, *name],
            _ => Vec::new(),
        };
        let carried = carried.iter().map(|field| FieldPath::of(&[*field]));
        let of_rules = rules.iter().flat_map(|rule| rule.paths()).cloned();
        for path in own.into_iter().chain(carried).chain(of_rules) {
            if !named.fields.iter().any(|(_, known)| *known == path)
                && let Some(name) = name(self, &path)
            {
                named.fields.push((name, path));
            }
        }
        named
    }

    /// The name of a place in its messages; the numbers where it has none.
    pub fn name_of(&self, path: &FieldPath) -> String {
        let named = self.fields.iter().find(|(_, known)| known == path);
        named.map_or_else(|| path.to_string(), |(name, _)| name.clone())
    }

    /// Its row.
    pub fn describe(&self) -> Described {
        let contract = &self.contract;
        Described {
            method: self.path.to_owned(),
            package_less: self.package_less.unwrap_or_default().to_owned(),
            flow: self.flow.name().to_owned(),
            split: contract.split.name().to_owned(),
            carries: self.carries(),
            key: self.key_in_words(contract),
            sticky: match (&contract.key, contract.sticky) {
                (_, true) => "always",
                (Some(_), false) => "hash",
                (None, false) => "",
            }
            .to_owned(),
            order: match (contract.ordered, &contract.split) {
                (true, _) => "key",
                (_, Split::Whole | Split::Relay) => "call",
                (_, Split::Sets { .. }) => "set",
                _ => "",
            }
            .to_owned(),
            reply: match contract.reply {
                Replier::Gateway => "gateway",
                Replier::Backend => "backend",
            }
            .to_owned(),
            replay: match contract.replay {
                Replay::Always => "always",
                Replay::NotProcessed => "not_processed",
            }
            .to_owned(),
            needs: contract.needs.iter().map(|need| need.complaint).collect::<Vec<_>>().join("; "),
            stand_in: match contract.stand_in {
                Some(StandIn::Elements { path, .. }) => format!("each message as a stream of {path}"),
                Some(StandIn::LanePerContext { path }) => format!("{path}, a lane for each identifier"),
                None => String::new(),
            },
        }
    }

    fn carries(&self) -> String {
        match &self.contract.split {
            Split::Carry(carry) => {
                let fields: Vec<String> =
                    carry.fields.iter().map(|field| self.name_of(&FieldPath::of(&[*field]))).collect();
                format!("{} ({})", fields.join("+"), carry.mode.name())
            }
            Split::Sets { last, name } => {
                let name_of = |field: u32| self.name_of(&FieldPath::of(&[field]));
                format!("one {} up to {}", name_of(*name), name_of(*last))
            }
            Split::Elements { field, path } => format!("each element of field {field} to {path}"),
            _ => String::new(),
        }
    }

    fn key_in_words(&self, contract: &Contract) -> String {
        match (&contract.split, &contract.key) {
            (Split::Records(records), None) => match records.key {
                Some(RecordKey::TraceId) => "trace_id",
                Some(RecordKey::Service) => "service",
                Some(RecordKey::Resource) => "resource",
                None => "",
            }
            .to_owned(),
            (_, Some(key)) => self.key_of_words(key),
            (_, None) => String::new(),
        }
    }

    /// A key, by the names of its places.
    pub fn key_of_words(&self, key: &Key) -> String {
        let names = |paths: &[FieldPath]| paths.iter().map(|path| self.name_of(path)).collect::<Vec<_>>().join("+");
        match key {
            Key::Fields(paths) => names(paths),
            Key::LastOfElements { field, paths } => {
                // Within an element, places have names only from the outside.
                let outside = |path: &FieldPath| self.name_of(&path.below(*field));
                format!("last {}", paths.iter().map(outside).collect::<Vec<_>>().join("+"))
            }
        }
    }

    /// A condition.
    pub fn test_in_words(&self, test: &Test) -> String {
        let join = |tests: &[Test], with: &str| {
            let all: Vec<String> = tests.iter().map(|test| self.test_in_words(test)).collect();
            format!("({})", all.join(with))
        };
        match test {
            Test::Always => "anything".to_owned(),
            Test::Never => "nothing".to_owned(),
            Test::Listener(name) => format!("listener is {name}"),
            Test::Metadata(name, wanted) => format!("metadata {name} {}", in_words(wanted)),
            Test::Field(path, wanted) => format!("{} {}", self.name_of(path), in_words(wanted)),
            Test::All(tests) => join(tests, " and "),
            Test::Any(tests) => join(tests, " or "),
            Test::Not(test) => format!("not {}", self.test_in_words(test)),
        }
    }

    /// What a rule does with messages; `pools` are the names of the plan's pools.
    pub fn action_in_words(&self, rule: &Rule, pools: &[String]) -> String {
        let pool = |at: usize| pools.get(at).map_or("?", String::as_str);
        let by = |paths: &[FieldPath]| match paths {
            [] => "the message".to_owned(),
            paths => paths.iter().map(|path| self.name_of(path)).collect::<Vec<_>>().join("+"),
        };
        let share = |below: u64| format!("{:.3}", below as f64 / u64::MAX as f64 * 100.0);
        let share = |below: u64| format!("{}%", share(below).trim_end_matches('0').trim_end_matches('.'));
        let mut words = match &rule.action {
            Action::Send => format!("send to pool {}", pool(rule.pool)),
            Action::Drop { reason } => return format!("drop: {reason}"),
            Action::Sample(sample) => {
                format!("send {} by {} to pool {}", share(sample.below), by(&sample.by), pool(rule.pool))
            }
        };
        if let Some(limit) = &rule.limit {
            let (rate, burst) = (limit.rate(), limit.rate().burst());
            let per = if limit.per().is_empty() { String::new() } else { format!(" for each {}", by(limit.per())) };
            words.push_str(&format!(", at most {rate}{per} (bursts of {burst})"));
        }
        if let Some(mirror) = &rule.mirror {
            words.push_str(&format!(", copy {} to pool {}", share(mirror.share.below), pool(mirror.pool)));
        }
        words
    }
}

// === impl Rule ===

impl Rule {
    /// Every place it looks at.
    pub fn paths(&self) -> Vec<&FieldPath> {
        let mut paths = Vec::new();
        self.test.paths(&mut paths);
        if let Some(Key::Fields(key)) = &self.key {
            paths.extend(key);
        }
        if let Action::Sample(share) = &self.action {
            paths.extend(&share.by);
        }
        paths.extend(self.mirror.iter().flat_map(|mirror| &mirror.share.by));
        paths.extend(self.limit.iter().flat_map(|limit| limit.per()));
        paths
    }
}

impl Test {
    fn paths<'a>(&'a self, paths: &mut Vec<&'a FieldPath>) {
        match self {
            Test::Field(path, _) => paths.push(path),
            Test::All(tests) | Test::Any(tests) => tests.iter().for_each(|test| test.paths(paths)),
            Test::Not(test) => test.paths(paths),
            Test::Always | Test::Never | Test::Listener(_) | Test::Metadata(..) => {}
        }
    }
}

/// A comparison.
fn in_words(wanted: &Match) -> String {
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let cut: String = text.chars().take(SHOWN_CHARS).collect();
        format!("{cut:?}")
    };
    match wanted {
        Match::Present => "is there".to_owned(),
        Match::Equals(bytes) => format!("is {}", text(bytes)),
        Match::Prefix(bytes) => format!("begins with {}", text(bytes)),
        Match::Suffix(bytes) => format!("ends with {}", text(bytes)),
        Match::Contains(finder) => format!("contains {}", text(finder.needle())),
        Match::AnyOf(all) => all.iter().map(in_words).collect::<Vec<_>>().join(" or "),
        Match::Pattern(pattern) => format!("matches {:?}", pattern.as_str()),
        Match::OneOf(all) => {
            format!("is one of {}", all.iter().map(|bytes| text(bytes)).collect::<Vec<_>>().join(", "))
        }
        Match::Numbers(all) => {
            let numbers: Vec<String> = all.iter().map(|number| (*number as i64).to_string()).collect();
            format!("is {}", numbers.join(" or "))
        }
    }
}
