//! What the operator's rules make of a call's messages.

use super::*;
use crate::route::rule::{Action, Match, Test};

fn rule(test: Test, action: Action, pool: usize) -> Rule {
    let rest = Arc::into_inner(Rule::for_the_rest()).expect("nobody else has it");
    Rule { test, action, pool, ..rest }
}

fn service_is(service: &str) -> Test {
    Test::Field(FieldPath::of(&[2]), Match::Equals(service.as_bytes().into()))
}

#[test]
fn the_first_rule_that_fits_decides_and_sees_what_is_carried() {
    let rules = vec![
        rule(service_is("noise"), Action::Drop { reason: "noise".into() }, 0),
        rule(service_is("shop"), Action::Send, 1),
    ];
    let worker = Worker::new(false);
    let mut sorter = worker.sorter_with(logs(), rules.clone(), None);
    let shop = sort(&mut sorter, &[log("shop", "a"), log("", "b")]);
    assert_eq!(shop.sorted.iter().map(|part| (part.pool, part.run.messages())).collect::<Vec<_>>(), [(1, 2)]);
    let mut sorter = worker.sorter_with(logs(), rules.clone(), None);
    let noise = sort(&mut sorter, &[log("noise", "a"), log("", "b")]);
    assert_eq!((noise.sorted.len(), noise.gone[0].messages, noise.gone[0].reason), (0, 2, LostReason::Dropped));
    assert_eq!(noise.gone[0].complaint, None);
    let mut sorter = worker.sorter_with(Contract::of(Split::Each), rules, None);
    let mixed = sort(&mut sorter, &[log("till", "a"), log("shop", "b"), log("noise", "c"), log("shop", "d")]);
    assert_eq!(mixed.sorted.iter().map(|part| part.pool).collect::<Vec<_>>(), [0, 1, 1]);
}

#[test]
fn a_broken_message_passes_a_rule_that_says_so() {
    let pass = Rule { malformed: crate::route::rule::Malformed::Pass, ..rule(Test::Always, Action::Send, 1) };
    let never_reached = rule(service_is("x"), Action::Send, 0);
    let mut sorter = Worker::new(false).sorter_with(keyed(2, true), vec![never_reached, pass], None);
    let sorting = sort(&mut sorter, &[broken(), log("shop", "a")]);
    assert_eq!(sorting.gone, []);
    let shop = Some(Tie::Sticky(of_parts([&b"shop"[..]])));
    assert_eq!((sorting.sorted[0].pool, &sorting.sorted[0].ties), (1, &Ties::Each(vec![None, shop])));
}
