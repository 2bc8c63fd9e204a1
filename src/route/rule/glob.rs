//! Globs: `*` for anything, `?` for one character, a backslash before either, or before a backslash, takes it as it is.

use std::sync::Arc;

use memchr::memmem::Finder;

use super::Match;

/// Whether a text is a glob rather than a plain text.
pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// What a text wants, glob or plain. Most need no regular expression: `shop-*`, `*-test`, `*shop*`.
///
/// # Errors
/// When it needs one that would be too large.
pub fn compile(text: &str) -> Result<Match, regex::Error> {
    let parts = parts(text);
    let whole = |parts: &[Part]| match parts {
        [] => Some(Match::Equals(Box::default())),
        [Part::Text(text)] => Some(Match::Equals(bytes(text))),
        [Part::Anything] => Some(Match::Prefix(Box::default())),
        [Part::Text(text), Part::Anything] => Some(Match::Prefix(bytes(text))),
        [Part::Anything, Part::Text(text)] => Some(Match::Suffix(bytes(text))),
        [Part::Anything, Part::Text(text), Part::Anything] => {
            Some(Match::Contains(Box::new(Finder::new(text.as_bytes()).into_owned())))
        }
        _ => None,
    };
    match whole(&parts) {
        Some(wanted) => Ok(wanted),
        None => pattern(&in_regex(&parts)),
    }
}

/// A regular expression, with bounds on what it may take of memory.
///
/// # Errors
/// When it is none, or would be too large.
pub fn pattern(text: &str) -> Result<Match, regex::Error> {
    // A hundred times what a rule for names needs; the largest that was tried compiled in 10 ms.
    let compiled = regex::bytes::RegexBuilder::new(text).size_limit(256 << 10).dfa_size_limit(1 << 20).build()?;
    Ok(Match::Pattern(Arc::new(compiled)))
}

fn bytes(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

enum Part {
    Text(String),
    Anything,
    One,
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next_if(|c| matches!(c, '*' | '?' | '\\')) } else { None };
        let (c, is_plain) = escaped.map_or((c, false), |c| (c, true));
        match (c, is_plain, parts.last_mut()) {
            ('*', false, Some(Part::Anything)) => {}
            ('*', false, _) => parts.push(Part::Anything),
            ('?', false, _) => parts.push(Part::One),
            (c, _, Some(Part::Text(text))) => text.push(c),
            (c, ..) => parts.push(Part::Text(c.to_string())),
        }
    }
    parts
}

fn in_regex(parts: &[Part]) -> String {
    let inside: String = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => regex::escape(text),
            // Any bytes at all; a single character is one of UTF-8.
            Part::Anything => "(?s-u:.*)".to_owned(),
            Part::One => "(?s:.)".to_owned(),
        })
        .collect();
    format!(r"\A{inside}\z")
}
