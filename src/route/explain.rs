//! What becomes of one message and why: the road's own code, asked about a message that nobody sent.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;

use crate::message::path::FieldPath;
use crate::message::run::Run;
use crate::message::tie::Tie;
use crate::metrics::LostReason;

use super::contract::{Key, Split, Wish};
use super::reading::{Part, Reading};
use super::records::RecordKey;
use super::rule::Rule;
use super::rule::decide::Rules;
use super::sorter::{Shared, Sorter, Sorting};
use super::{Method, Route};

/// What becomes of a message.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The rules that were looked at, in order, and whether each held; the last one did.
    pub rules: Vec<(Arc<Rule>, bool)>,
    /// What decides the backend, if anything does.
    pub key: Option<KeyRead>,
    /// What keeps the records of a request together, if it is cut.
    pub record_key: Option<RecordKey>,
    /// What follows.
    pub fate: Fate,
}

/// A key as it was read from a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRead {
    /// The names of its places.
    pub names: String,
    /// What stands there, numbers in decimal.
    pub values: Vec<String>,
    /// The number that backends are ranked by; `None` when nothing stands there.
    pub number: Option<u64>,
    /// Whether the contract or a rule wants equal keys to meet one backend; otherwise the pool does.
    pub sticky: bool,
}

/// What follows for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes to this pool, by its place in the plan, and perhaps a copy to another.
    Sent {
        /// The pool.
        pool: usize,
        /// Of the copy.
        mirror: Option<usize>,
    },
    /// It waits until the data set it is a part of is whole; then it goes to this pool.
    Held {
        /// The pool.
        pool: usize,
    },
    /// It goes nowhere.
    Lost {
        /// The label of `switchyard_messages_lost_total`.
        reason: LostReason,
        /// What its caller is told, if it is to blame.
        complaint: Option<String>,
    },
}

/// What becomes of `body` as the first message of a call that came to this listener with this metadata. `wishes` says
/// of each pool what it wants keys for that no contract asks for.
pub fn explain(route: &Arc<Route>, listener: &str, metadata: &HeaderMap, body: &[u8], wishes: &[Wish]) -> Explanation {
    let message = Reading { body, carried: &[] };
    let holds = |rule: &Arc<Rule>| {
        let rules = Rules::of(&[Arc::clone(rule), Rule::for_the_rest()], listener, metadata);
        Arc::ptr_eq(rules.verdict(&message).rule, rule)
    };
    let mut rules: Vec<(Arc<Rule>, bool)> = Vec::new();
    for rule in &route.rules {
        let holds = holds(rule);
        rules.push((Arc::clone(rule), holds));
        if holds {
            break;
        }
    }
    let rule = rules.last().map_or_else(Rule::for_the_rest, |(rule, _)| Arc::clone(rule));
    let method = &route.method;
    let sticky = matches!(method.contract.tie_under(&rule, wishes, 0), Tie::Sticky(_));
    let key = method.contract.key_under(&rule, wishes).map(|key| read_key(method, key, sticky, &message));
    let fate = match method.contract.split {
        Split::Whole | Split::Relay | Split::Records(_) => match rule.stops(&message, 1) {
            Some(reason) => Fate::Lost { reason, complaint: None },
            None => Fate::Sent { pool: rule.pool, mirror: None },
        },
        _ => sorted(route, listener, metadata, body, wishes, &rule),
    };
    let record_key = match method.contract.split {
        Split::Records(records) => records.under(&rule, wishes).key,
        _ => None,
    };
    Explanation { rules, key, record_key, fate }
}

fn read_key(method: &Method, key: &Key, sticky: bool, message: &Reading<'_>) -> KeyRead {
    let shown = |path: &FieldPath| match message.part(path).ok().flatten() {
        None => String::new(),
        Some(Part::Number(number)) => u64::from_le_bytes(number).to_string(),
        Some(Part::Text(text)) => match std::str::from_utf8(text) {
            Ok(text) => text.to_owned(),
            Err(_) => text.iter().map(|byte| format!("{byte:02x}")).collect(),
        },
    };
    let values = match key {
        Key::Fields(paths) => paths.iter().map(shown).collect(),
        Key::LastOfElements { .. } => Vec::new(),
    };
    KeyRead { names: method.key_of_words(key), values, number: key.of(message).ok().flatten(), sticky }
}

/// What the sorter makes of it.
fn sorted(route: &Arc<Route>, listener: &str, metadata: &HeaderMap, body: &[u8], wishes: &[Wish], rule: &Rule) -> Fate {
    let shared = Shared { subjects: Rc::default(), wishes: Rc::from(wishes) };
    let mut sorter = Sorter::new(route, listener, metadata, Vec::new(), Vec::new(), &shared);
    let mut sorting = Sorting::default();
    sorter.sort(Run::of_body(body), &mut sorting);
    if matches!(route.method.contract.split, Split::Elements { .. }) {
        sorter.end(true, &mut sorting);
    }
    match (sorting.sorted.first(), sorting.gone.into_iter().next()) {
        (Some(sorted), _) => Fate::Sent { pool: sorted.pool, mirror: sorted.mirror },
        (None, Some(gone)) => Fate::Lost { reason: gone.reason, complaint: gone.complaint },
        (None, None) => Fate::Held { pool: rule.pool },
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::message::field;
    use crate::message::path::FieldPath;
    use crate::route::rule::{Action, Match, Test};
    use crate::route::{Routes, catalogue};

    const LOGS: &str = "/skywalking.v3.LogReportService/collect";

    fn log(service: &str) -> BytesMut {
        let mut body = BytesMut::new();
        field::put_bytes(&mut body, 2, service.as_bytes());
        body
    }

    fn of(path: &str, body: &[u8], wish: Wish) -> Explanation {
        let noise = Rule {
            name: Arc::from("noise"),
            test: Test::Field(FieldPath::of(&[2]), Match::Equals(Box::from(&b"noise"[..]))),
            action: Action::Drop { reason: Arc::from("nobody reads it") },
            ..Arc::into_inner(Rule::for_the_rest()).unwrap()
        };
        let rules = vec![Arc::new(noise)];
        let routes = Routes::new(catalogue::methods(), |_| rules.clone());
        explain(routes.find(path, None).unwrap(), "agents", &HeaderMap::new(), body, &[wish])
    }

    #[test]
    fn the_rules_looked_at_are_told_and_the_last_one_held() {
        let explained = of(LOGS, &log("shop"), Wish::Nothing);
        let looked_at: Vec<(&str, bool)> = explained.rules.iter().map(|(rule, holds)| (&*rule.name, *holds)).collect();
        assert_eq!(looked_at, [("noise", false), ("default", true)]);
        assert_eq!((explained.fate, explained.key), (Fate::Sent { pool: 0, mirror: None }, None));
        let dropped = of(LOGS, &log("noise"), Wish::Nothing);
        assert_eq!(dropped.fate, Fate::Lost { reason: LostReason::Dropped, complaint: None });
    }

    #[test]
    fn a_key_is_told_by_name_and_value_where_the_pool_hashes() {
        let key = of(LOGS, &log("shop"), Wish::Hash).key.unwrap();
        assert_eq!((key.names.as_str(), key.values, key.sticky), ("service", vec!["shop".to_owned()], false));
        assert_eq!(key.number, Some(crate::route::key::of_parts([&b"shop"[..]])));
    }

    #[test]
    fn what_cannot_be_read_and_what_waits_is_told_apart() {
        assert!(matches!(
            of(LOGS, &[0x0a, 200], Wish::Nothing).fate,
            Fate::Lost { reason: LostReason::Malformed, complaint: Some(_) }
        ));
        let mut chunk = BytesMut::new();
        field::put_bytes(&mut chunk, 1, b"task");
        assert_eq!(
            of("/skywalking.v3.ProfileTask/goProfileReport", &chunk, Wish::Nothing).fate,
            Fate::Held { pool: 0 }
        );
    }
}
