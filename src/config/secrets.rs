//! What must never be shown: tokens, wherever they stand in a file and however it is broken.

use serde_saphyr::Location;

use super::file::{Members, Node, Shape};
use super::keys;
use super::nearest::nearest;
use super::problem::{Findings, Place, Problem};

/// Names whose values are secret, also where they are misspelt or stand in the wrong place.
const NAMES: [&str; 5] = ["authentication", "tokens", "authorization", "secret", "password"];

/// Values shorter than this are too common to be looked for in messages.
const VALUE_CHARS_MIN: usize = 4;

/// What is hidden of one config.
#[derive(Default)]
pub(super) struct Hidden {
    places: Vec<Place>,
    values: Vec<String>,
}

pub(super) fn is_secret(name: &str) -> bool {
    nearest(name, NAMES).is_some()
}

fn is_setting(name: &str) -> bool {
    keys::KEYS.iter().any(|key| key.path.rsplit('.').next() == Some(name))
}

fn words(text: &str) -> impl Iterator<Item = &str> + Clone {
    text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).filter(|word| !word.is_empty())
}

/// Hides the values of all secret names in a file.
pub(super) fn hide(tree: &Node, findings: &mut Findings<'_>) {
    if let Shape::Map(members) = &tree.value {
        hide_members(members, true, findings);
    }
}

/// `is_strict`: a name that is no setting is none of the operator's own words either.
fn hide_members(members: &Members, is_strict: bool, findings: &mut Findings<'_>) {
    let is_strict = is_strict || members.iter().any(|(key, _)| is_secret(&key.value));
    for (key, node) in members {
        // A name with signs in it is no slip: in `tokens:x`, `tokens:, x` and `-x: ` the secret is a name or part of one.
        let is_word = words(&key.value).next() == Some(key.value.as_str());
        let is_odd = is_strict && !is_setting(&key.value) && (!is_word || node.value == Shape::Nothing);
        if is_odd || (!is_word && words(&key.value).any(is_secret)) {
            hide_one(&key.value, [key.referenced, key.defined], findings);
        }
        let is_broken_group = key.value == "identity" && !matches!(node.value, Shape::Map(_));
        if is_odd || is_broken_group || words(&key.value).any(is_secret) {
            hide_all(node, findings);
        } else {
            hide_in(node, findings);
        }
    }
}

fn hide_in(node: &Node, findings: &mut Findings<'_>) {
    match &node.value {
        Shape::Map(members) => hide_members(members, false, findings),
        Shape::List(items) => items.iter().for_each(|item| hide_in(item, findings)),
        Shape::Scalar(_) | Shape::Nothing => {}
    }
}

/// Hides every scalar in a node.
fn hide_all(node: &Node, findings: &mut Findings<'_>) {
    match &node.value {
        Shape::Map(members) => {
            for (key, node) in members {
                // A secret with a colon behind it reads as a name.
                if !keys::names_under("routes.message").any(|known| known == key.value) {
                    hide_one(&key.value, [key.referenced, key.defined], findings);
                }
                hide_all(node, findings);
            }
        }
        Shape::List(items) => items.iter().for_each(|item| hide_all(item, findings)),
        // A secret that begins with & or ! reads as an anchor or a tag of nothing.
        Shape::Nothing => findings.hide(node.referenced),
        // An alias stands in one place and is defined in another.
        Shape::Scalar(text) => hide_one(text, [node.referenced, node.defined], findings),
    }
}

fn hide_one(text: &str, at: [Location; 2], findings: &mut Findings<'_>) {
    at.into_iter().for_each(|location| findings.hide(location));
    findings.hide_value(text);
}

/// The lines of a text on which a secret may stand, when it cannot be read: from where a secret name is to the next
/// setting of the whole file, for indentation may be what is wrong; and wherever an anchor is.
pub(super) fn lines_of(text: &str) -> Vec<bool> {
    let is_setting =
        |line: &str| line.split_once(':').is_some_and(|(name, _)| keys::names_under("").any(|known| known == name));
    let mut may_be_listed = false;
    let hidden = text.lines().map(|line| {
        may_be_listed = words(line).any(is_secret) || (may_be_listed && !is_setting(line));
        // What has a name of its own may be used as a secret further down.
        may_be_listed || line.contains('&')
    });
    hidden.collect()
}

// === impl Hidden ===

impl Hidden {
    pub fn add_place(&mut self, place: Place) {
        self.places.push(place);
    }

    pub fn add_value(&mut self, value: &str) {
        // What stands on several lines was put together with blanks.
        let words = value.split_whitespace().filter(|word| word.chars().count() >= VALUE_CHARS_MIN);
        self.values.extend(words.map(str::to_owned));
    }

    /// Takes everything hidden out of a problem.
    pub fn redact(&self, problem: &mut Problem) {
        let line = problem.at.map(|place| place.line);
        if let Some(snippet) = &mut problem.snippet {
            let mut chars: Vec<char> = snippet.chars().collect();
            for place in self.places.iter().filter(|place| Some(place.line) == line) {
                let from = (place.column - 1).min(chars.len());
                let to = from.saturating_add(place.width).min(chars.len());
                chars[from..to].fill('*');
            }
            *snippet = chars.into_iter().collect();
        }
        let texts =
            [Some(&mut problem.what), Some(&mut problem.mend), problem.snippet.as_mut(), Some(&mut problem.key)];
        for text in texts.into_iter().flatten() {
            for value in &self.values {
                if text.contains(value.as_str()) {
                    *text = text.replace(value.as_str(), &"*".repeat(value.chars().count()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_cannot_be_read_hides_what_is_below_a_secret_name() {
        let text = "to: a:1\nidentity:\n  tokens:\n  - one\n\n - two\nlog: &a z\npool: { authentication: x,\n  more: y }\nworkers: z\n";
        let lines = text.lines().zip(lines_of(text));
        let hidden: Vec<_> = lines.filter(|(_, hidden)| *hidden).map(|(line, _)| line).collect();
        assert_eq!(
            hidden,
            ["  tokens:", "  - one", "", " - two", "log: &a z", "pool: { authentication: x,", "  more: y }"]
        );
    }

    #[test]
    fn misspelt_names_are_secret_and_others_are_not() {
        assert!(
            ["tokens", "token", "tokns", "Authentication", "authentification", "password"]
                .iter()
                .all(|name| is_secret(name))
        );
        assert!(["to", "pool", "methods", "routes", "endpoints", "separate_by"].iter().all(|name| !is_secret(name)));
    }
}
