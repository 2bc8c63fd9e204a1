//! One group of settings, read name by name; what is wrong is noted and the default taken.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::{Location, Spanned};

use super::file::{Members, Node, Shape};
use super::keys;
use super::nearest::nearest;
use super::problem::{Findings, Mistake, Place};
use super::unit::nanos;

/// A group of settings as the operator wrote it.
pub(super) struct Section<'a> {
    /// Its path in the table of keys.
    path: &'static str,
    /// Its path as messages say it; an item of a list has its number.
    shown: String,
    members: Option<&'a Members>,
}

/// One scalar as written.
pub(super) struct Written<'a> {
    pub text: &'a str,
    pub at: Option<Place>,
    /// The setting's path as messages say it.
    pub key: String,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub fn root(tree: &'a Node, findings: &mut Findings<'_>) -> Self {
        Self::open(Some(tree), "", String::new(), findings)
    }

    /// A group that stands elsewhere than the table says, such as an item of a list: `path` is the table's, `shown` what
    /// messages call it.
    pub fn of(node: &'a Node, path: &'static str, shown: String, findings: &mut Findings<'_>) -> Self {
        Self::open(Some(node), path, shown, findings)
    }

    /// The group of this name; empty when it was not written.
    pub fn section(&self, name: &str, findings: &mut Findings<'_>) -> Section<'a> {
        let path = self.table_path(name);
        Self::open(self.node(name), path, self.key(name), findings)
    }

    /// The node of this name, whatever it is.
    pub fn node(&self, name: &str) -> Option<&'a Node> {
        self.members?.iter().find(|(key, _)| key.value == name).map(|(_, node)| node)
    }

    /// The members of a mapping whose keys are the operator's own words.
    pub fn members_of(&self, name: &str, findings: &mut Findings<'_>) -> &'a [(Spanned<String>, Node)] {
        let Some(node) = self.node(name) else { return &[] };
        match &node.value {
            Shape::Map(members) => return members,
            Shape::Nothing => {}
            Shape::Scalar(_) | Shape::List(_) => {
                let mistake =
                    Mistake::new("takes names, each with its value", format!("write `{name}: {{ name: ... }}`"));
                findings.error(findings.place(node.referenced), &self.key(name), mistake);
            }
        }
        &[]
    }

    /// The items of a list; a value that is none is a list of one.
    pub fn items(&self, name: &str) -> &'a [Node] {
        match self.node(name).map(|node| (node, &node.value)) {
            None | Some((_, Shape::Nothing)) => &[],
            Some((_, Shape::List(items))) => items,
            Some((node, _)) => std::slice::from_ref(node),
        }
    }

    /// The one value of this name with its place, not yet understood.
    pub fn written(&self, name: &str, findings: &mut Findings<'_>) -> Option<Written<'a>> {
        let written = scalar(self.node(name)?, self.key(name), findings)?;
        findings.remember(&written.key, &written.key, written.at);
        Some(written)
    }

    /// Whether it has a member of this name.
    pub fn has(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    /// The path of a member as messages say it.
    pub fn key(&self, name: &str) -> String {
        if self.shown.is_empty() { name.to_owned() } else { format!("{}.{name}", self.shown) }
    }

    /// An amount within the bounds of the table.
    pub fn amount(&self, name: &str, default: u64, findings: &mut Findings<'_>) -> u64 {
        let bounds = keys::bounds(self.table_path(name)).expect("the table has the amounts that are read");
        self.read(name, findings, |text| bounds.read(text)).unwrap_or(default)
    }

    /// A size in bytes, or a count.
    pub fn size(&self, name: &str, default: usize, findings: &mut Findings<'_>) -> usize {
        let default = u64::try_from(default).unwrap_or(u64::MAX);
        usize::try_from(self.amount(name, default, findings)).unwrap_or(usize::MAX)
    }

    /// A size or count that fits 32 bits.
    pub fn count(&self, name: &str, default: u32, findings: &mut Findings<'_>) -> u32 {
        u32::try_from(self.amount(name, default.into(), findings)).unwrap_or(u32::MAX)
    }

    /// A time.
    pub fn time(&self, name: &str, default: Duration, findings: &mut Findings<'_>) -> Duration {
        Duration::from_nanos(self.amount(name, nanos(default), findings))
    }

    /// A time, or `off`.
    pub fn time_or_off(&self, name: &str, default: Option<Duration>, findings: &mut Findings<'_>) -> Option<Duration> {
        let bounds = keys::bounds(self.table_path(name)).expect("the table has the amounts that are read");
        let read = |text: &str| if text == "off" { Ok(None) } else { bounds.read(text).map(Some) };
        self.read(name, findings, read).map_or(default, |nanos| nanos.map(Duration::from_nanos))
    }

    /// A size or a count, or `off`.
    pub fn size_or_off(&self, name: &str, default: Option<usize>, findings: &mut Findings<'_>) -> Option<usize> {
        let bounds = keys::bounds(self.table_path(name)).expect("the table has the amounts that are read");
        let read = |text: &str| if text == "off" { Ok(None) } else { bounds.read(text).map(Some) };
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        self.read(name, findings, read).map_or(default, |bytes| bytes.map(size))
    }

    /// One of the words; gives its number.
    pub fn word(&self, name: &str, words: &[&str], findings: &mut Findings<'_>) -> Option<usize> {
        self.read(name, findings, |text| word(text, words))
    }

    /// The one value of this name, understood by `parse`; `None` when it is absent, or wrong and noted.
    pub fn read<T>(
        &self,
        name: &str,
        findings: &mut Findings<'_>,
        parse: impl FnOnce(&str) -> Result<T, Mistake>,
    ) -> Option<T> {
        let written = self.written(name, findings)?;
        match parse(written.text) {
            Ok(value) => Some(value),
            Err(mistake) => {
                findings.error(written.at, &written.key, mistake);
                None
            }
        }
    }

    /// A file; a relative path is joined to the config's directory. Whether it is there is not looked at.
    pub fn file(&self, name: &str, findings: &mut Findings<'_>) -> Option<PathBuf> {
        let directory = findings.directory().map(Path::to_owned).unwrap_or_default();
        self.read(name, findings, |text| Ok(directory.join(text)))
    }

    fn open(node: Option<&'a Node>, path: &'static str, shown: String, findings: &mut Findings<'_>) -> Self {
        let members = match node.map(|node| (&node.value, node.referenced)) {
            // A group whose settings are all commented out is nothing, and that is well.
            None | Some((Shape::Nothing, _)) => None,
            Some((Shape::Map(members), _)) => Some(members),
            Some((_, location)) => {
                let mend = match shown.as_str() {
                    "" => "write settings, one a line: `to: collector-a:11800`".to_owned(),
                    _ => format!(
                        "write `{}:` and its settings below it, indented",
                        shown.rsplit('.').next().unwrap_or("")
                    ),
                };
                findings.error(
                    findings.place(location),
                    &shown,
                    Mistake::new("is a group of settings, not a value", mend),
                );
                None
            }
        };
        if let Some(node) = node {
            findings.remember(&shown, &shown, findings.place(node.referenced));
        }
        let section = Self { path, shown, members };
        section.note_unknown(findings);
        section
    }

    fn note_unknown(&self, findings: &mut Findings<'_>) {
        for (key, _) in self.members.into_iter().flatten() {
            let name = key.value.as_str();
            if keys::names_under(self.path).any(|known| known == name) {
                continue;
            }
            let mend = match (keys::renamed(self.path, name), keys::elsewhere(name)) {
                (Some(now), _) => format!("it is `{now}:` now"),
                (None, Some(path)) if keys::advice(self.path).is_none() => format!("it is `{path}`: write it there"),
                (None, _) => match nearest(name, keys::names_under(self.path)) {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => {
                        let known: Vec<_> = keys::names_under(self.path).collect();
                        let first = keys::advice(self.path).unwrap_or("remove it");
                        format!("{first}, or write one of {}", known.join(", "))
                    }
                },
            };
            findings.error(
                findings.place(key.referenced),
                &self.key(name),
                Mistake::new("there is no such setting", mend),
            );
        }
    }

    fn table_path(&self, name: &str) -> &'static str {
        let is_it = |path: &str| match path.strip_prefix(self.path) {
            Some(rest) if self.path.is_empty() => rest == name,
            Some(rest) => rest.strip_prefix('.') == Some(name),
            None => false,
        };
        keys::KEYS
            .iter()
            .map(|key| key.path)
            .find(|path| is_it(path))
            .expect("the table has the settings that are read")
    }
}

/// The scalar in a node; `None` when it holds something else, which is noted.
pub(super) fn scalar<'a>(node: &'a Node, key: String, findings: &mut Findings<'_>) -> Option<Written<'a>> {
    let at = findings.place(node.referenced);
    let mistake = match &node.value {
        Shape::Scalar(text) if !text.trim().is_empty() => return Some(Written { text: text.trim(), at, key }),
        Shape::Scalar(_) | Shape::Nothing => empty(node.defined, findings),
        Shape::List(_) => Mistake::new("takes one value, not a list", "write the value alone, without `-` or brackets"),
        Shape::Map(_) => Mistake::new("takes one value, not settings of its own", "write the value behind the colon"),
    };
    findings.error(at, &key, mistake);
    None
}

/// What to say of a value that is empty: often it is a variable's.
pub(super) fn empty(location: Location, findings: &Findings<'_>) -> Mistake {
    match findings.variable(location) {
        Some(name) => Mistake::new(
            format!("is empty: the variable {name} is not set"),
            format!("set {name}, or write `${{{name}:-default}}`"),
        ),
        None => Mistake::new("has no value", "write a value, or remove the line to take the default"),
    }
}

/// The number of the word that was written.
pub(super) fn word(written: &str, words: &[&str]) -> Result<usize, Mistake> {
    if let Some(index) = words.iter().position(|word| *word == written) {
        return Ok(index);
    }
    let mend = match nearest(written, words.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("write one of {}", words.join(", ")),
    };
    Err(Mistake::new(format!("\"{written}\" is not one of {}", words.join(", ")), mend))
}
