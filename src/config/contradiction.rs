//! Conditions that cannot hold together.

use crate::message::field::Value;
use crate::message::path::FieldPath;
use crate::route::rule::{Match, Test};

/// Two conditions of `test` of which no message can be both; `is_repeated` says where a message may have several values.
pub(super) fn find(test: &Test, is_repeated: &dyn Fn(&FieldPath) -> bool) -> Option<(Test, Test)> {
    let Test::All(tests) = test else { return None };
    tests.iter().enumerate().find_map(|(at, one)| {
        let other = tests[at + 1..]
            .iter()
            .find(|other| excludes(one, other, is_repeated) || excludes(other, one, is_repeated))?;
        Some((one.clone(), other.clone()))
    })
}

fn excludes(one: &Test, other: &Test, is_repeated: &dyn Fn(&FieldPath) -> bool) -> bool {
    match (one, other) {
        (Test::Field(path, wanted), Test::Field(same, other)) => {
            path == same && !is_repeated(path) && are_apart(wanted, other)
        }
        // What is not there is nothing.
        (Test::Field(path, _), Test::Not(not)) => matches!(&**not, Test::Field(same, Match::Present) if same == path),
        (Test::Metadata(name, _), Test::Not(not)) => {
            matches!(&**not, Test::Metadata(same, Match::Present) if same == name)
        }
        (Test::Listener(one), Test::Listener(other)) => one != other,
        _ => false,
    }
}

/// Whether no value is both: one names its values, and the other wants none of them.
fn are_apart(one: &Match, other: &Match) -> bool {
    match one {
        Match::Equals(text) => !other.holds(Value::Bytes(text)),
        Match::OneOf(texts) => texts.iter().all(|text| !other.holds(Value::Bytes(text))),
        Match::Numbers(numbers) => numbers.iter().all(|number| !other.holds(Value::Varint(*number))),
        _ => false,
    }
}
