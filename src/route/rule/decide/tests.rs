//! Conditions on made-up messages, and against what they mean.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::message::field;
use crate::message::path::FieldPath;
use crate::route::rule::glob;

fn said(number: u32, wanted: Match) -> Test {
    Test::Field(FieldPath::of(&[number]), wanted)
}

fn equals(text: &str) -> Match {
    Match::Equals(text.as_bytes().into())
}

fn message(fields: &[(u32, &str)]) -> BytesMut {
    let mut body = BytesMut::new();
    for (number, text) in fields {
        field::put_bytes(&mut body, *number, text.as_bytes());
    }
    body
}

fn rule(name: &str, test: Test) -> Arc<Rule> {
    let rest = Arc::into_inner(Rule::for_the_rest()).expect("nobody else has it");
    Arc::new(Rule { name: Arc::from(name), test, ..rest })
}

fn metadata(name: &'static str, value: &'static str) -> HeaderMap {
    [(HeaderName::from_static(name), HeaderValue::from_static(value))].into_iter().collect()
}

/// The name of the rule that a message falls under, and whether an earlier one could not be read.
fn verdict(tests: &[Test], listener: &str, metadata: &HeaderMap, body: &[u8]) -> (String, bool) {
    let mut rules: Vec<_> = tests.iter().enumerate().map(|(at, test)| rule(&at.to_string(), test.clone())).collect();
    rules.push(Rule::for_the_rest());
    let rules = Rules::of(&rules, listener, metadata);
    let verdict = rules.verdict(&Reading { body, carried: &[] });
    (verdict.rule.name.to_string(), verdict.is_broken)
}

fn falls_under(tests: &[Test], body: &[u8]) -> String {
    verdict(tests, "agents", &HeaderMap::new(), body).0
}

#[test]
fn the_first_rule_that_holds_wins() {
    let tests = [said(1, equals("a")), Test::not(said(2, Match::Present)), said(1, equals("b"))];
    assert_eq!(falls_under(&tests, &message(&[(1, "a"), (2, "x")])), "0");
    assert_eq!(falls_under(&tests, &message(&[(1, "b")])), "1");
    assert_eq!(falls_under(&tests, &message(&[(1, "b"), (2, "x")])), "2");
    assert_eq!(falls_under(&tests, &message(&[(1, "c"), (2, "x")])), "default");
}

#[test]
fn what_the_call_decides_is_not_asked_of_its_messages() {
    let tests = vec![
        rule("other port", Test::all([Test::Listener("metrics".into()), said(1, Match::Present)])),
        rule("tenant", Test::Metadata(HeaderName::from_static("x-tenant"), equals("acme"))),
        Rule::for_the_rest(),
    ];
    let acme = Rules::of(&tests, "agents", &metadata("x-tenant", "acme"));
    assert_eq!(acme.settled().map(|rule| &*rule.name), Some("tenant"));
    let stranger = Rules::of(&tests, "agents", &metadata("x-tenant", "other"));
    assert_eq!(stranger.settled().map(|rule| &*rule.name), Some("default"));
    let on_metrics = Rules::of(&tests, "metrics", &HeaderMap::new());
    assert_eq!(on_metrics.possible().map(|rule| &*rule.name).collect::<Vec<_>>(), ["other port", "default"]);
}

#[test]
fn one_of_several_values_of_metadata_will_do() {
    let test = [Test::Metadata(HeaderName::from_static("x-tenant"), equals("b"))];
    let mut both = metadata("x-tenant", "a");
    both.append("x-tenant", HeaderValue::from_static("b"));
    assert_eq!(verdict(&test, "agents", &both, b"").0, "0");
}

#[test]
fn neither_a_condition_nor_its_opposite_holds_of_what_cannot_be_read() {
    let broken = [0x0a, 200, b'x'];
    let asks = said(2, equals("a"));
    for tests in [[asks.clone()], [Test::not(asks.clone())]] {
        assert_eq!(verdict(&tests, "agents", &HeaderMap::new(), &broken), ("default".to_owned(), true), "{tests:?}");
    }
    // Field 1 stands in front of what is broken.
    let mut half = message(&[(1, "a")]);
    half.extend_from_slice(&[0x12, 200]);
    let either = [Test::any([said(2, equals("x")), said(1, equals("a"))])];
    assert_eq!(verdict(&either, "agents", &HeaderMap::new(), &half), ("0".to_owned(), false));
    let both = [Test::all([said(2, equals("x")), said(1, equals("b"))])];
    assert_eq!(verdict(&both, "agents", &HeaderMap::new(), &half), ("default".to_owned(), true));
}

#[test]
fn numbers_are_compared_however_they_stand_on_the_wire() {
    let negative = Match::Numbers(vec![(-3i64) as u64]);
    assert!(negative.holds(Value::Varint((-3i64) as u64)) && negative.holds(Value::Fixed64((-3i64) as u64)));
    assert!(negative.holds(Value::Fixed32((-3i32) as u32)) && !negative.holds(Value::Fixed32(3)));
    assert!(!negative.holds(Value::Bytes(b"-3")) && !equals("3").holds(Value::Varint(3)));
    assert!(Match::Present.holds(Value::Varint(0)) && !Match::Present.holds(Value::Bytes(b"")));
}

#[test]
fn matches_are_joined_as_simply_as_they_can_be_said() {
    let joined = |all: Vec<Match>| format!("{:?}", Match::any(all));
    assert_eq!(joined(vec![]), "None");
    assert_eq!(joined(vec![equals("a")]), format!("{:?}", Some(equals("a"))));
    assert!(joined(vec![equals("a"), equals("b")]).starts_with("Some(OneOf("));
    let mixed = Match::any([equals("a"), Match::Numbers(vec![1]), Match::Prefix(Box::from(&b"x"[..]))]);
    let mixed = mixed.expect("there are three");
    assert!(mixed.holds(Value::Bytes(b"a")) && mixed.holds(Value::Varint(1)) && mixed.holds(Value::Bytes(b"xyz")));
    assert!(!mixed.holds(Value::Bytes(b"b")) && !mixed.holds(Value::Varint(2)));
}

/// What a glob means, said as slowly as possible.
fn means(glob: &[char], text: &[char]) -> bool {
    match glob {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|taken| means(rest, &text[taken..])),
        ['?', rest @ ..] => !text.is_empty() && means(rest, &text[1..]),
        ['\\', c @ ('*' | '?' | '\\'), rest @ ..] | [c, rest @ ..] => {
            text.first() == Some(c) && means(rest, &text[1..])
        }
    }
}

#[test]
fn globs_without_an_inner_star_need_no_regular_expression() {
    for (glob, simple) in [
        ("shop", "Equals("),
        ("shop-*", "Prefix("),
        ("*-test", "Suffix("),
        ("*shop*", "Contains("),
        ("*", "Prefix("),
        ("**", "Prefix("),
        (r"\*", "Equals("),
        ("a*b", "Pattern("),
        ("sh?p", "Pattern("),
        ("", "Equals("),
    ] {
        assert!(format!("{:?}", glob::compile(glob).unwrap()).starts_with(simple), "{glob}");
    }
    assert!(glob::is_glob("a*") && glob::is_glob("a?") && !glob::is_glob(r"a\b"));
}

#[test]
fn a_pattern_that_would_take_much_memory_is_refused() {
    assert!(glob::pattern(r"\w{1000}").is_err());
    assert!(glob::pattern("(a").is_err());
    assert!(glob::pattern("^payments-(eu|us)-[0-9]+$").is_ok());
}

fn any_test() -> impl Strategy<Value = Test> {
    let leaf = prop_oneof![
        (1u32..4, "[ab]{0,2}").prop_map(|(number, text)| said(number, equals(&text))),
        (1u32..4).prop_map(|number| said(number, Match::Present)),
        Just(Test::Always),
        Just(Test::Never),
        "[ab]".prop_map(|name| Test::Listener(name.into())),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Test::All),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Test::Any),
            inner.prop_map(|test| Test::Not(Box::new(test))),
        ]
    })
}

/// What a condition means, said as slowly as possible.
fn holds_of(test: &Test, listener: &str, body: &[(u32, String)]) -> bool {
    match test {
        Test::Always => true,
        Test::Never | Test::Metadata(..) => false,
        Test::Listener(name) => **name == *listener,
        Test::Field(path, wanted) => {
            body.iter().any(|(number, text)| *number == path.field() && wanted.holds(Value::Bytes(text.as_bytes())))
        }
        Test::All(tests) => tests.iter().all(|test| holds_of(test, listener, body)),
        Test::Any(tests) => tests.iter().any(|test| holds_of(test, listener, body)),
        Test::Not(test) => !holds_of(test, listener, body),
    }
}

proptest! {
    #[test]
    fn a_glob_matches_what_it_means(glob in r"[ab*?\\é]{0,8}", text in r"[ab*?\\é]{0,8}") {
        let (glob_chars, text_chars): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
        let compiled = glob::compile(&glob).unwrap();
        prop_assert_eq!(compiled.holds(Value::Bytes(text.as_bytes())), means(&glob_chars, &text_chars));
    }

    #[test]
    fn simplifying_a_condition_does_not_change_it(
        test in any_test(), listener in "[ab]", body in prop::collection::vec((1u32..4, "[ab]{0,2}"), 0..4)
    ) {
        let fields: Vec<(u32, &str)> = body.iter().map(|(number, text)| (*number, text.as_str())).collect();
        let expected = if holds_of(&test, &listener, &body) { "0" } else { "default" };
        prop_assert_eq!(verdict(&[test], &listener, &HeaderMap::new(), &message(&fields)).0, expected);
    }
}
