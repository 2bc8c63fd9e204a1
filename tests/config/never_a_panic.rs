//! Whatever is in a file or a flag, the answer is a plan or problems.

use std::collections::HashMap;

use proptest::prelude::*;
use switchyard::config::keys::KEYS;
use switchyard::config::{Overrides, Plan, load, load_with};

use super::{EXAMPLE, read, said};

/// Configs of which everything is ASCII, so that they can be cut anywhere.
const SEEDS: [&str; 3] = [
    include_str!("../../fuzz/corpus/config/routes.seed"),
    include_str!("../../fuzz/corpus/config/methods.seed"),
    include_str!("../../fuzz/corpus/config/wrong_routes.seed"),
];

#[test]
fn a_bomb_is_refused_before_it_grows() {
    let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, of) in ('b'..='n').zip('a'..='m') {
        laughs.push_str(&format!("{name}: &{name} [*{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}]\n"));
    }
    for bomb in [laughs, "[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000), "${A:-".repeat(10_000)] {
        assert!(read(&bomb).is_err());
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_never_a_panic(text in any::<String>()) {
        let _ = said(load(&text, "any.yaml", &Overrides::default()));
    }

    #[test]
    fn text_that_nearly_is_a_config_is_never_a_panic(
        lines in prop::collection::vec(
            ("[ ]{0,4}", prop::sample::select(KEYS), "(: |:|)", "[-\\[\\]{}&*!|>'\"%@`$,.:/a-z0-9äß\t ]{0,12}"), 0..12)
    ) {
        let text: String = lines.iter().map(|(indent, key, colon, value)| {
            format!("{indent}{}{colon}{value}\n", key.path.rsplit('.').next().unwrap())
        }).collect();
        let _ = said(load_with(&text, "any.yaml", &Overrides::default(), HashMap::new()));
    }

    #[test]
    fn a_broken_example_is_never_a_panic(at in 0..EXAMPLE.len(), junk in any::<char>()) {
        let mut text = EXAMPLE.to_owned();
        if text.is_char_boundary(at) {
            text.insert(at, junk);
        }
        let _ = said(load(&text, "any.yaml", &Overrides::default()));
    }

    #[test]
    fn broken_routes_are_never_a_panic(
        seed in prop::sample::select(&SEEDS[..]), at in 0usize..2_000, cut in 0usize..12, junk in "[ -~\n]{0,6}"
    ) {
        let mut text = seed.to_owned();
        let at = at % (text.len() + 1);
        let to = text.len().min(at + cut);
        text.replace_range(at..to, &junk);
        let _ = said(load_with(&text, "any.yaml", &Overrides::default(), HashMap::new()));
    }

    #[test]
    fn any_flag_is_never_a_panic(to in any::<String>(), admin in "[0-9:.\\[\\]a-f*]{0,20}") {
        let _ = Plan::from_flags(&Overrides { to: Some(to), admin: Some(admin), ..Overrides::default() });
    }
}
