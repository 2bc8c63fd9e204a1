//! Where messages belong: rules and keys are read, and neighbours that belong together stay together.

use std::rc::Rc;

use crate::message::field::{self, Malformed, Value};
use crate::message::run::Run;
use crate::message::tie::{Tie, Ties};
use crate::metrics::LostReason;
use crate::route::contract::{Key, Need};
use crate::route::reading::Reading;
use crate::route::rule::decide::Verdict;
use crate::route::rule::{self, Rule};

use super::{Sorted, Sorter, Sorting, Stretch};

/// Where a message belongs under its rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// To the rule's pool, where its tie leads, and to another.
    To {
        mirror: Option<usize>,
    },
    Nowhere(LostReason),
    Refused(String),
}

/// Neighbours that belong to one place.
struct Together<'a> {
    rule: &'a Rule,
    place: Place,
    ties: Ties,
    messages: u32,
}

impl Sorter {
    /// Whether rules and keys have to be asked of each message: not if all of them fall under one rule that neither
    /// chooses nor counts, and the key stands in what is carried.
    pub(super) fn must_ask(&self) -> bool {
        let contract = &self.route.method.contract;
        let Some(rule) = self.rules.settled() else { return true };
        let carried: Vec<u32> = self.carrying.iter().flat_map(|carrying| carrying.numbers()).collect();
        let key = self.key_of(rule).is_some_and(|key| !key.stands_in(&carried));
        key || rule.asks_each() || !contract.needs.is_empty()
    }

    /// Places the messages of one stretch.
    pub(super) fn place(&self, stretch: Stretch<'_>, out: &mut Sorting) {
        let Stretch { mut run, subject, context, carried } = stretch;
        let mut put = |run: Run, Together { rule, place, ties, messages }: Together<'_>| match place {
            Place::To { mirror } => {
                rule.count(None, messages);
                let (subject, context, pool) = (Rc::clone(&subject), context.clone(), rule.pool);
                out.sorted.push(Sorted { run, subject, context, ties, pool, mirror });
            }
            Place::Nowhere(reason) => {
                rule.count(Some(reason), messages);
                out.give_up(messages, reason);
            }
            // What is refused is nobody's rule.
            Place::Refused(complaint) => out.refuse(messages, complaint),
        };
        // A data set has one place: its first message's.
        if !self.asks || subject.alone {
            let (first, messages) = (run.bodies().next().unwrap_or_default(), run.messages());
            let (rule, place, tie) = self.place_of(&Reading { body: first, carried }, messages);
            return put(run, Together { rule, place, ties: Ties::Alike(tie), messages });
        }
        let all = run.clone();
        let mut together: Option<Together<'_>> = None;
        for body in all.bodies() {
            let (rule, place, tie) = self.place_of(&Reading { body, carried }, 1);
            match &mut together {
                Some(same) if std::ptr::eq(same.rule, rule) && same.place == place => {
                    same.ties.push(tie, same.messages);
                    same.messages += 1;
                }
                _ => {
                    let next = Together { rule, place, ties: Ties::Alike(tie), messages: 1 };
                    if let Some(before) = together.replace(next)
                        && let Some(run) = run.take_front(usize::MAX, before.messages)
                    {
                        put(run, before);
                    }
                }
            }
        }
        if let Some(last) = together {
            put(run, last);
        }
    }

    /// The rule of a message, or of as many as count alike; where they belong by it, and what ties them there.
    fn place_of(&self, message: &Reading<'_>, messages: u32) -> (&Rule, Place, Option<Tie>) {
        let Verdict { rule, is_broken } = self.rules.verdict(message);
        let (place, tie) = match self.tie_under(rule, is_broken, message) {
            Ok(tie) => (Self::place_under(rule, message, messages), tie),
            Err(complaint) => (Place::Refused(complaint), None),
        };
        (rule, place, tie)
    }

    /// What ties a message under its rule; a complaint if it is refused.
    fn tie_under(&self, rule: &Rule, is_broken: bool, message: &Reading<'_>) -> Result<Option<Tie>, String> {
        let refuses = rule.malformed == rule::Malformed::Refuse;
        if is_broken && refuses {
            return Err("not a protobuf message where a rule reads it".to_owned());
        }
        if let Some(complaint) = self.lacks(message) {
            return Err(complaint);
        }
        let key = match self.key_of(rule).map(|key| key.of(message)) {
            Some(Err(broken)) if refuses => return Err(broken.to_string()),
            Some(Ok(key)) => key,
            Some(Err(_)) | None => None,
        };
        let tie = key.map(|key| self.route.method.contract.tie_under(rule, &self.wishes, key));
        Ok(tie.or_else(|| self.callers.get(rule.pool).copied().flatten()))
    }

    fn place_under(rule: &Rule, message: &Reading<'_>, messages: u32) -> Place {
        if let Some(reason) = rule.stops(message, messages) {
            return Place::Nowhere(reason);
        }
        Place::To { mirror: rule.mirror.as_ref().filter(|mirror| mirror.share.has(message)).map(|mirror| mirror.pool) }
    }

    /// What decides the backend of messages under this rule.
    fn key_of<'a>(&'a self, rule: &'a Rule) -> Option<&'a Key> {
        self.route.method.contract.key_under(rule, &self.wishes)
    }

    /// What the message's receiver cannot do without and it lacks.
    fn lacks(&self, message: &Reading<'_>) -> Option<String> {
        let needs = &self.route.method.contract.needs;
        let lacking = |need: &&Need| has_any(message.body, &need.any_of).is_ok_and(|has| !has);
        needs.iter().find(lacking).map(|need| need.complaint.to_owned())
    }
}

/// Whether the message has one of these fields; an empty text is none.
fn has_any(body: &[u8], numbers: &[u32]) -> Result<bool, Malformed> {
    for field in field::fields(body) {
        let field = field?;
        if numbers.contains(&field.number) && field.value != Value::Bytes(b"") {
            return Ok(true);
        }
    }
    Ok(false)
}
