//! Which rule a message falls under: what the call decides is decided when it begins, the rest message by message.

use std::sync::Arc;

use http::HeaderMap;

use crate::message::field::Value;
use crate::route::reading::Reading;

use super::{Match, Rule, Test};

/// The rules that are left for one call's messages, in order; the last one is for all that is left.
#[derive(Debug, Clone)]
pub struct Rules {
    asked: Vec<Asked>,
    rest: Arc<Rule>,
}

/// A rule that is asked of each message.
#[derive(Debug, Clone)]
struct Asked {
    rule: Arc<Rule>,
    /// The rule's condition with what the call decides filled in; `None`: the call decides nothing of it.
    test: Option<Test>,
}

/// The rule a message falls under.
#[derive(Debug)]
pub struct Verdict<'a> {
    /// The rule.
    pub rule: &'a Arc<Rule>,
    /// Whether the message was broken where an earlier rule had to look.
    pub is_broken: bool,
}

// === impl Rules ===

impl Rules {
    /// What `rules` leave to be asked of the messages of a call that came to this listener with this metadata.
    ///
    /// # Panics
    /// When `rules` is empty; a route always has a rule for the rest.
    pub fn of(rules: &[Arc<Rule>], listener: &str, metadata: &HeaderMap) -> Self {
        let mut asked = Vec::new();
        for rule in rules {
            let filled_in = rule.test.asks_the_call().then(|| rule.test.at_call(listener, metadata));
            match filled_in.as_ref().unwrap_or(&rule.test) {
                Test::Always => return Self { asked, rest: Arc::clone(rule) },
                Test::Never => {}
                _ => asked.push(Asked { rule: Arc::clone(rule), test: filled_in }),
            }
        }
        Self { asked, rest: Arc::clone(rules.last().expect("a route has a rule for the rest")) }
    }

    /// The rule of all messages, if nothing need be asked of them.
    pub fn settled(&self) -> Option<&Arc<Rule>> {
        self.asked.is_empty().then_some(&self.rest)
    }

    /// The rule for what no other is for.
    pub fn rest(&self) -> &Arc<Rule> {
        &self.rest
    }

    /// Every rule that a message may fall under.
    pub fn possible(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.asked.iter().map(|asked| &asked.rule).chain([&self.rest])
    }

    /// The rule of one message. A condition that hangs on what cannot be read does not hold, and neither does its
    /// opposite.
    pub fn verdict(&self, message: &Reading<'_>) -> Verdict<'_> {
        let mut is_broken = false;
        for Asked { rule, test } in &self.asked {
            match test.as_ref().unwrap_or(&rule.test).holds(message) {
                Some(true) => return Verdict { rule, is_broken },
                Some(false) => {}
                None => is_broken = true,
            }
        }
        Verdict { rule: &self.rest, is_broken }
    }
}

// === impl Test ===

impl Test {
    /// Whether anything of it is decided by the call.
    fn asks_the_call(&self) -> bool {
        match self {
            Test::Listener(_) | Test::Metadata(..) => true,
            Test::Always | Test::Never | Test::Field(..) => false,
            Test::All(tests) | Test::Any(tests) => tests.iter().any(Test::asks_the_call),
            Test::Not(test) => test.asks_the_call(),
        }
    }

    /// The condition with everything filled in that the call decides.
    pub fn at_call(&self, listener: &str, metadata: &HeaderMap) -> Test {
        let decided = |holds: bool| if holds { Test::Always } else { Test::Never };
        match self {
            Test::Always | Test::Never | Test::Field(..) => self.clone(),
            Test::Listener(name) => decided(**name == *listener),
            Test::Metadata(name, wanted) => {
                decided(metadata.get_all(name).iter().any(|value| wanted.holds(Value::Bytes(value.as_bytes()))))
            }
            Test::All(tests) => Test::all(tests.iter().map(|test| test.at_call(listener, metadata))),
            Test::Any(tests) => Test::any(tests.iter().map(|test| test.at_call(listener, metadata))),
            Test::Not(test) => Test::not(test.at_call(listener, metadata)),
        }
    }

    /// All of these, as simply as it can be said.
    pub fn all(tests: impl IntoIterator<Item = Test>) -> Test {
        let mut left = Vec::new();
        for test in tests {
            match test {
                Test::Always => {}
                Test::Never => return Test::Never,
                Test::All(tests) => left.extend(tests),
                test => left.push(test),
            }
        }
        match left.len() {
            0 => Test::Always,
            1 => left.remove(0),
            _ => Test::All(left),
        }
    }

    /// Any of these, as simply as it can be said.
    pub fn any(tests: impl IntoIterator<Item = Test>) -> Test {
        let mut left = Vec::new();
        for test in tests {
            match test {
                Test::Never => {}
                Test::Always => return Test::Always,
                Test::Any(tests) => left.extend(tests),
                test => left.push(test),
            }
        }
        match left.len() {
            0 => Test::Never,
            1 => left.remove(0),
            _ => Test::Any(left),
        }
    }

    /// The opposite, as simply as it can be said.
    #[allow(clippy::should_implement_trait, reason = "a condition is no number")]
    pub fn not(test: Test) -> Test {
        match test {
            Test::Always => Test::Never,
            Test::Never => Test::Always,
            Test::Not(test) => *test,
            test => Test::Not(Box::new(test)),
        }
    }

    /// Whether it holds for a message; what depends on the call has been filled in. `None` when that hangs on what
    /// cannot be read.
    fn holds(&self, message: &Reading<'_>) -> Option<bool> {
        match self {
            Test::Always => Some(true),
            // What is asked of a call is decided by `at_call`.
            Test::Never | Test::Listener(_) | Test::Metadata(..) => Some(false),
            Test::Field(path, wanted) => message.any(path, &mut |value| wanted.holds(value)).ok(),
            Test::All(tests) => first(tests, false, message),
            Test::Any(tests) => first(tests, true, message),
            Test::Not(test) => test.holds(message).map(|holds| !holds),
        }
    }
}

/// What the first test decides that comes out as `decisive`; if none does, the opposite, or nothing when one of them
/// could not be read.
fn first(tests: &[Test], decisive: bool, message: &Reading<'_>) -> Option<bool> {
    let mut otherwise = Some(!decisive);
    for test in tests {
        match test.holds(message) {
            Some(holds) if holds == decisive => return Some(decisive),
            Some(_) => {}
            None => otherwise = None,
        }
    }
    otherwise
}

// === impl Match ===

impl Match {
    /// Any of these, as simply as it can be said.
    pub fn any(wanted: impl IntoIterator<Item = Match>) -> Option<Match> {
        let (mut texts, mut numbers, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for wanted in wanted {
            match wanted {
                Match::Equals(text) => texts.push(text),
                Match::OneOf(all) => texts.extend(all),
                Match::Numbers(all) => numbers.extend(all),
                Match::AnyOf(all) => left.extend(all),
                wanted => left.push(wanted),
            }
        }
        if !numbers.is_empty() {
            left.insert(0, Match::Numbers(numbers));
        }
        match texts.len() {
            0 => {}
            1 => left.insert(0, Match::Equals(texts.remove(0))),
            _ => left.insert(0, Match::OneOf(texts)),
        }
        if left.len() > 1 { Some(Match::AnyOf(left)) } else { left.pop() }
    }

    /// Whether a value is what is wanted.
    pub fn holds(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Match::Present, Value::Bytes(text)) => !text.is_empty(),
            (Match::Present, _) => true,
            (Match::Numbers(wanted), Value::Varint(number) | Value::Fixed64(number)) => wanted.contains(&number),
            // A negative sfixed32 is compared as the 64-bit number it stands for.
            (Match::Numbers(wanted), Value::Fixed32(number)) => {
                wanted.contains(&u64::from(number)) || wanted.contains(&(i64::from(number as i32) as u64))
            }
            (Match::Equals(wanted), Value::Bytes(text)) => **wanted == *text,
            (Match::Prefix(wanted), Value::Bytes(text)) => text.starts_with(wanted),
            (Match::Suffix(wanted), Value::Bytes(text)) => text.ends_with(wanted),
            (Match::Contains(wanted), Value::Bytes(text)) => wanted.find(text).is_some(),
            (Match::Pattern(pattern), Value::Bytes(text)) => pattern.is_match(text),
            (Match::OneOf(wanted), Value::Bytes(text)) => wanted.iter().any(|wanted| **wanted == *text),
            (Match::AnyOf(wanted), value) => wanted.iter().any(|wanted| wanted.holds(value)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
