//! Where a call that is kept whole goes: its rule and its key, read from its first messages.

use std::sync::Arc;

use http::HeaderMap;

use crate::listener::terms::Terms;
use crate::message::tie::Tie;
use crate::metrics::LostReason;
use crate::route::Route;
use crate::route::contract::Key;
use crate::route::reading::Reading;
use crate::route::rule::Rule;
use crate::route::rule::decide::Rules;

/// What is known of where a call goes.
pub(super) struct Direction<'a> {
    route: &'a Route,
    terms: &'a Terms,
    rules: Rules,
    /// The rule the call falls under, once that is known.
    rule: Option<Arc<Rule>>,
    /// What ties it to a backend.
    tie: Option<Tie>,
    /// By pool, what ties a call without a key: who makes it.
    callers: Vec<Option<Tie>>,
    /// What first messages have named of the key.
    parts: Vec<Vec<u8>>,
    /// Set when the operator wants it to go nowhere.
    pub stopped: Option<LostReason>,
}

// === impl Direction ===

impl<'a> Direction<'a> {
    pub fn new(
        route: &'a Route,
        listener: &str,
        metadata: &HeaderMap,
        terms: &'a Terms,
        callers: Vec<Option<Tie>>,
    ) -> Self {
        let rules = Rules::of(&route.rules, listener, metadata);
        Self { rule: None, rules, route, terms, tie: None, callers, parts: Vec::new(), stopped: None }
    }

    /// Whether first messages have to be read.
    pub fn must_read(&self) -> bool {
        let is_moved_by_messages = |rule: &Arc<Rule>| self.key_of(rule).is_some() || !rule.only_sends();
        self.rules.settled().is_none_or(is_moved_by_messages)
    }

    /// Reads a message: the first one chooses the rule, and the first that names all of it the key. `Some` once nothing
    /// more is to be read.
    pub fn read(&mut self, body: &[u8]) -> Option<()> {
        let message = Reading { body, carried: &[] };
        let rule = match &self.rule {
            Some(rule) => Arc::clone(rule),
            None => {
                let rule = Arc::clone(self.rules.verdict(&message).rule);
                self.stopped = rule.stops(&message, 1);
                rule.count(self.stopped, 1);
                Arc::clone(self.rule.insert(rule))
            }
        };
        let mut parts = std::mem::take(&mut self.parts);
        let Some(key) = self.key_of(&rule).filter(|_| self.stopped.is_none()) else { return Some(()) };
        let gathered = key.gather(body, &mut parts);
        self.parts = parts;
        let (contract, wishes) = (&self.route.method.contract, &self.terms.sorters.wishes);
        self.tie = Some(contract.tie_under(&rule, wishes, gathered?));
        Some(())
    }

    /// The pool it goes to, and what ties it to a backend there; asked once. One that has said nothing goes where what no
    /// rule asks for goes.
    pub fn ends_at(&self) -> (usize, Option<Tie>) {
        let pool = match &self.rule {
            Some(rule) => rule.pool,
            None => {
                let rule = self.rules.rest();
                rule.count(None, 1);
                rule.pool
            }
        };
        (pool, self.tie.or_else(|| self.callers.get(pool).copied().flatten()))
    }

    fn key_of<'b>(&'b self, rule: &'b Rule) -> Option<&'b Key> {
        self.route.method.contract.key_under(rule, &self.terms.sorters.wishes)
    }
}
