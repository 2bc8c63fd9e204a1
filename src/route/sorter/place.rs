//! Where messages belong: rules and keys are read, and neighbours that belong together stay together.

use std::rc::Rc;

use crate::message::field::{self, Malformed, Value};
use crate::message::parcel::Tie;
use crate::message::run::Run;
use crate::metrics::LostReason;
use crate::route::contract::{Key, Need};
use crate::route::reading::Reading;
use crate::route::rule::decide::Verdict;
use crate::route::rule::{self, Rule};

use super::{Sorted, Sorter, Sorting, Stretch};

/// Where a message belongs under its rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    To { tie: Option<Tie>, mirror: Option<usize> },
    Nowhere(LostReason),
    Refused(String),
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
        let mut put = |run: Run, (rule, place): (&Rule, Place)| {
            match place {
                Place::To { tie, mirror } => {
                    rule.count(None, run.messages());
                    let (subject, context, pool) = (Rc::clone(&subject), context.clone(), rule.pool);
                    out.sorted.push(Sorted { run, subject, context, tie, pool, mirror });
                }
                Place::Nowhere(reason) => {
                    rule.count(Some(reason), run.messages());
                    out.give_up(run.messages(), reason);
                }
                // What is refused is nobody's rule.
                Place::Refused(complaint) => out.refuse(run.messages(), complaint),
            }
        };
        // A data set has one place: its first message's.
        if !self.asks || subject.alone {
            let first = run.bodies().next().unwrap_or_default();
            let place = self.place_of(&Reading { body: first, carried }, run.messages());
            return put(run, place);
        }
        let messages = run.clone();
        let mut together: Option<((&Rule, Place), u32)> = None;
        for body in messages.bodies() {
            let (rule, place) = self.place_of(&Reading { body, carried }, 1);
            match &mut together {
                Some((same, count)) if std::ptr::eq(same.0, rule) && same.1 == place => *count += 1,
                _ => {
                    if let Some((before, count)) = together.replace(((rule, place), 1))
                        && let Some(run) = run.take_front(usize::MAX, count)
                    {
                        put(run, before);
                    }
                }
            }
        }
        if let Some((place, _)) = together {
            put(run, place);
        }
    }

    /// Where a message belongs, or as many as count alike, and by which rule.
    fn place_of(&self, message: &Reading<'_>, messages: u32) -> (&Rule, Place) {
        let Verdict { rule, is_broken } = self.rules.verdict(message);
        (rule, self.place_under(rule, is_broken, message, messages))
    }

    fn place_under(&self, rule: &Rule, is_broken: bool, message: &Reading<'_>, messages: u32) -> Place {
        let refuses = rule.malformed == rule::Malformed::Refuse;
        if is_broken && refuses {
            return Place::Refused("not a protobuf message where a rule reads it".to_owned());
        }
        if let Some(complaint) = self.lacks(message) {
            return Place::Refused(complaint);
        }
        let key = match self.key_of(rule).map(|key| key.of(message)) {
            Some(Err(broken)) if refuses => return Place::Refused(broken.to_string()),
            Some(Ok(key)) => key,
            Some(Err(_)) | None => None,
        };
        let tie = key.map(|key| self.route.method.contract.tie_under(rule, &self.wishes, key));
        let tie = tie.or_else(|| self.callers.get(rule.pool).copied().flatten());
        if let Some(reason) = rule.stops(message, messages) {
            return Place::Nowhere(reason);
        }
        let mirror = rule.mirror.as_ref().filter(|mirror| mirror.share.has(message)).map(|mirror| mirror.pool);
        Place::To { tie, mirror }
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
