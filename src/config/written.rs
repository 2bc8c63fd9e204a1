//! What the operator wrote, setting by setting, to tell what a reload changes. Secrets are known by their digest only.

use std::collections::BTreeMap;
use std::fmt;

use twox_hash::XxHash3_64;

use super::file::{Node, Shape};
use super::secrets;

/// What the operator wrote: each setting's path, and its value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written(BTreeMap<String, Value>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    /// `None`: it is a secret.
    shown: Option<String>,
    digest: u64,
}

/// One setting that is not what it was. Displays as a line of a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    path: String,
    before: Option<Value>,
    now: Option<Value>,
}

/// Settings that a running gateway keeps as they were.
const NEEDS_RESTART: [&str; 3] = ["limits.memory", "workers", "log.format"];

// === impl Written ===

impl Written {
    pub(super) fn of(tree: &Node) -> Self {
        let mut written = Self::default();
        written.note(String::new(), tree, false);
        written
    }

    fn note(&mut self, path: String, node: &Node, is_secret: bool) {
        let member = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match &node.value {
            Shape::Map(members) => {
                for (key, node) in members {
                    self.note(member(&key.value), node, is_secret || secrets::is_secret(&key.value));
                }
            }
            Shape::List(items) => match scalars(items) {
                Some(texts) => self.put(path, texts.join(", "), is_secret),
                None => {
                    for (number, item) in items.iter().enumerate() {
                        self.note(format!("{path}[{number}]"), item, is_secret);
                    }
                }
            },
            Shape::Scalar(text) => self.put(path, text.clone(), is_secret),
            Shape::Nothing => self.put(path, String::new(), is_secret),
        }
    }

    fn put(&mut self, path: String, text: String, is_secret: bool) {
        let digest = XxHash3_64::oneshot(text.as_bytes());
        self.0.insert(path, Value { shown: (!is_secret).then_some(text), digest });
    }

    /// What is other than it was, in the order of the paths.
    pub fn changes_since(&self, before: &Written) -> Vec<Change> {
        let mut paths: Vec<&String> = self.0.keys().chain(before.0.keys()).collect();
        paths.sort();
        paths.dedup();
        let change = |path: &String| {
            let (before, now) = (before.0.get(path).cloned(), self.0.get(path).cloned());
            (before != now).then(|| Change { path: path.clone(), before, now })
        };
        paths.into_iter().filter_map(change).collect()
    }
}

/// The items of a list that holds nothing else.
fn scalars(items: &[Node]) -> Option<Vec<&str>> {
    let text = |item: &'_ Node| matches!(item.value, Shape::Scalar(_));
    let texts = items.iter().filter_map(|item| match &item.value {
        Shape::Scalar(text) => Some(text.as_str()),
        _ => None,
    });
    items.iter().all(text).then(|| texts.collect())
}

// === impl Change ===

impl Change {
    /// Whether it takes effect with the next start only.
    pub fn needs_restart(&self) -> bool {
        NEEDS_RESTART.contains(&self.path.as_str())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.now) {
            (Some(before), Some(now)) => write!(f, "~ {}: {before} -> {now}", self.path)?,
            (None, Some(now)) => write!(f, "+ {}: {now}", self.path)?,
            (Some(before), None) => write!(f, "- {}: {before}", self.path)?,
            (None, None) => {}
        }
        if self.needs_restart() { write!(f, " (from the next start on)") } else { Ok(()) }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown.as_deref().unwrap_or("(a secret)"))
    }
}
