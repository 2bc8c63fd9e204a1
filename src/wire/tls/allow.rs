//! Who is let in: patterns that names of a certificate are held against.

use std::fmt;

use super::certificate::Name;

/// A name, or many: `*` stands for one or more characters of one part of a name, `**` for any characters at all. Parts
/// are separated by dots in DNS names and addresses, by slashes in URIs.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
    is_uri: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    /// One or more characters, no separator among them.
    WithinPart,
    /// Any characters, or none.
    Anything,
}

/// The longest name DNS has is 253 characters, SPIFFE's longest 2048.
const CHARS_MAX: usize = 2048;

// === impl Pattern ===

impl Pattern {
    /// Reads a pattern; `None` when it is empty or longer than any name.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.chars().count() > CHARS_MAX {
            return None;
        }
        let is_uri = text.contains("://");
        // DNS does not tell cases apart; URIs do.
        let text = if is_uri { text.to_owned() } else { text.to_ascii_lowercase() };
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' if chars.next_if_eq(&'*').is_some() => Token::Anything,
                '*' => Token::WithinPart,
                c => Token::Char(c),
            });
        }
        Some(Self { text, tokens, is_uri })
    }

    /// Whether the name is one of those meant. A URI is never taken for a host, nor a host for a URI.
    pub(super) fn lets_in(&self, name: &Name) -> bool {
        match name {
            Name::Uri(uri) => self.is_uri && self.matches(uri, '/'),
            Name::Host(host) => !self.is_uri && self.matches(&host.to_ascii_lowercase(), '.'),
        }
    }

    /// One row of "the first tokens match the first characters" at a time, so that no pattern takes longer than its
    /// length times the name's.
    fn matches(&self, name: &str, separator: char) -> bool {
        let mut row = vec![false; self.tokens.len() + 1];
        row[0] = true;
        self.skip_anything(&mut row);
        for c in name.chars() {
            let mut next = vec![false; row.len()];
            for (at, token) in self.tokens.iter().enumerate() {
                next[at + 1] = match token {
                    Token::Char(wanted) => row[at] && *wanted == c,
                    Token::WithinPart => c != separator && (row[at] || row[at + 1]),
                    Token::Anything => row[at] || row[at + 1],
                };
            }
            self.skip_anything(&mut next);
            row = next;
        }
        row[self.tokens.len()]
    }

    fn skip_anything(&self, row: &mut [bool]) {
        for (at, token) in self.tokens.iter().enumerate() {
            row[at + 1] |= *token == Token::Anything && row[at];
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lets_in(pattern: &str, name: &str) -> bool {
        let name = if name.contains("://") { Name::Uri(name.to_owned()) } else { Name::Host(name.to_owned()) };
        Pattern::parse(pattern).unwrap().lets_in(&name)
    }

    #[test]
    fn a_star_stays_within_its_part_and_two_do_not() {
        assert!(lets_in("*.agents.local", "shop.agents.local"));
        assert!(!lets_in("*.agents.local", "a.shop.agents.local"));
        assert!(!lets_in("*.agents.local", ".agents.local"));
        assert!(!lets_in("*.agents.local", "shop.agents.local.evil.example"));
        assert!(lets_in("**.agents.local", "a.shop.agents.local"));
        assert!(lets_in("spiffe://mesh/ns/*/sa/agent", "spiffe://mesh/ns/shop.v1/sa/agent"));
        assert!(!lets_in("spiffe://mesh/ns/*/sa/agent", "spiffe://mesh/ns/a/b/sa/agent"));
        assert!(lets_in("spiffe://mesh/**", "spiffe://mesh/ns/a/b/sa/agent"));
        assert!(lets_in("10.0.*.*", "10.0.7.1") && !lets_in("10.0.*", "10.0.7.1"));
    }

    #[test]
    fn hosts_are_alike_in_any_case_and_never_uris() {
        assert!(lets_in("Agent.Local", "aGENT.lOCAL"));
        assert!(!lets_in("spiffe://Mesh/a", "spiffe://mesh/a"));
        assert!(!lets_in("**", "spiffe://mesh/a"));
        // A host name that a careless authority put a URI into.
        assert!(!Pattern::parse("spiffe://**").unwrap().lets_in(&Name::Host("spiffe://mesh/a".to_owned())));
    }

    proptest! {
        #[test]
        fn a_plain_name_lets_in_itself_and_nothing_else(name in "[a-z0-9.-]{1,40}", other in "[a-z0-9.-]{1,40}") {
            prop_assert!(lets_in(&name, &name));
            prop_assert_eq!(lets_in(&name, &other), name == other);
        }

        #[test]
        fn a_star_in_place_of_a_part_lets_the_name_in(parts in proptest::collection::vec("[a-z]{1,5}", 1..6), at in 0usize..6) {
            let mut pattern = parts.clone();
            let at = at % parts.len();
            pattern[at] = "*".to_owned();
            prop_assert!(lets_in(&pattern.join("."), &parts.join(".")));
            pattern.remove(at);
            prop_assert!(pattern.is_empty() || !lets_in(&pattern.join("."), &parts.join(".")));
        }

        #[test]
        fn nothing_takes_long(pattern in "[a*]{1,300}", name in "[a]{0,300}") {
            let _ = lets_in(&pattern, &name);
        }
    }
}
