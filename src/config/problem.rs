//! A problem says where, what and how to mend it; messages are part of the product.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::Path;

use serde_saphyr::Location;

use super::secrets::Hidden;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing runs until it is mended.
    Error,
    /// It runs, but probably not as meant.
    Warning,
}

/// Where in the file, counted from one; columns and width in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The first character.
    pub column: usize,
    /// How many characters are meant; at least one.
    pub width: usize,
}

/// One thing wrong with what the operator wrote. Its `Display` is the whole message, snippet included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// Where; `None` for flags, for variables and for what is missing.
    pub at: Option<Place>,
    /// The setting's path, `pool.trip.age`, the flag, `--to`, or the variable, `SATELLITE_GRPC_CLIENT`; empty when the text
    /// is no YAML.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub mend: String,
    /// The file's name; empty for flags and variables.
    pub source: String,
    /// The line of the file `at` points into.
    pub snippet: Option<String>,
}

/// Everything found while one config is read.
pub(super) struct Findings<'a> {
    source: &'a str,
    text: &'a str,
    problems: Vec<Problem>,
    /// Where each setting that was written came from, for what is found when settings are looked at together.
    origins: HashMap<String, Origin>,
    /// Settings that stand in no file but were said by a variable of the environment, with its name.
    variables: HashMap<String, String>,
    /// What no problem may show.
    hidden: Hidden,
    /// Settings in which something was wrong: their value is the default, which nobody should be blamed for.
    wrong: HashSet<String>,
}

/// Where a setting came from: the name it goes by there, and its place.
#[derive(Clone)]
struct Origin {
    key: String,
    at: Option<Place>,
}

/// The half of a problem a parser of one value can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub what: String,
    pub mend: String,
}

/// Longest snippet shown, in characters; a longer line is cut around the place. Fits an 80-column terminal.
const SNIPPET_CHARS_MAX: usize = 72;

// === impl Mistake ===

impl Mistake {
    pub fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: mend.into() }
    }
}

// === impl Findings ===

impl<'a> Findings<'a> {
    pub fn new(source: &'a str, text: &'a str) -> Self {
        Self {
            source,
            text,
            problems: Vec::new(),
            origins: HashMap::new(),
            variables: HashMap::new(),
            hidden: Hidden::default(),
            wrong: HashSet::new(),
        }
    }

    /// Whether there is a file at all.
    pub fn has_source(&self) -> bool {
        !self.source.is_empty()
    }

    /// Where the file lies, for files that it names.
    pub fn directory(&self) -> Option<&'a Path> {
        Path::new(self.source).parent().filter(|directory| !directory.as_os_str().is_empty())
    }

    /// Keeps where a setting was written.
    pub fn remember(&mut self, path: &str, key: &str, at: Option<Place>) {
        self.origins.insert(path.to_owned(), Origin { key: key.to_owned(), at });
    }

    /// Keeps the variable of the environment that said a setting: it is named in the setting's place.
    pub fn came_from(&mut self, path: &str, variable: &str) {
        self.variables.insert(path.to_owned(), variable.to_owned());
    }

    /// Whether nothing was found wrong in any of these settings.
    pub fn fine(&self, paths: &[&str]) -> bool {
        !paths.iter().any(|path| self.wrong.contains(*path))
    }

    /// The name a setting goes by where it was written, and its line if it has one.
    pub fn origin(&self, path: &str) -> (String, Option<Place>) {
        self.origins.get(path).cloned().map_or_else(|| (path.to_owned(), None), |origin| (origin.key, origin.at))
    }

    /// An error in a setting read before.
    pub fn error_in(&mut self, path: &str, mistake: Mistake) {
        let (key, at) = self.origin(path);
        self.wrong.insert(path.to_owned());
        self.add(Severity::Error, at, &key, mistake);
    }

    /// An error in a setting that may not have been written: then its group is shown, or what that stands under.
    pub fn error_within(&mut self, path: &str, mistake: Mistake) {
        let at = self.place_within(path);
        self.error(at, path, mistake);
    }

    /// A warning about a setting that may not have been written.
    pub fn warn_within(&mut self, path: &str, mistake: Mistake) {
        let at = self.place_within(path);
        self.add(Severity::Warning, at, path, mistake);
    }

    fn place_within(&self, path: &str) -> Option<Place> {
        let ends = path.rmatch_indices(['.', '[']).map(|(end, _)| end);
        std::iter::once(path.len()).chain(ends).find_map(|end| self.origin(&path[..end]).1)
    }

    /// A warning about a setting read before.
    pub fn warn_of(&mut self, path: &str, mistake: Mistake) {
        let (key, at) = self.origin(path);
        self.add(Severity::Warning, at, &key, mistake);
    }

    pub fn error(&mut self, at: Option<Place>, key: &str, mistake: Mistake) {
        self.wrong.insert(key.to_owned());
        self.add(Severity::Error, at, key, mistake);
    }

    /// Never shows what is written at a node.
    pub fn hide(&mut self, location: Location) {
        let Some(place) = self.place(location) else { return };
        // Anchors and tags stand in front of their node's place.
        match self.line(place.line) {
            Some(line) if line.contains(['&', '!']) => self.hide_line(place.line),
            _ => self.hidden.add_place(place),
        }
        // The width counts what stands on further lines, too.
        let last = place.line + self.written(location).map_or(0, |text| text.lines().count().saturating_sub(1));
        for line in place.line + 1..=last {
            self.hide_line(line);
        }
    }

    /// Never shows a line.
    pub fn hide_line(&mut self, line: usize) {
        self.hidden.add_place(Place { line, column: 1, width: usize::MAX });
    }

    /// Never shows a value.
    pub fn hide_value(&mut self, value: &str) {
        self.hidden.add_value(value);
    }

    /// The place of a YAML node.
    pub fn place(&self, location: Location) -> Option<Place> {
        let line = usize::try_from(location.line()).ok().filter(|line| *line > 0)?;
        let column = usize::try_from(location.column()).ok()?.max(1);
        Some(Place { line, column, width: usize::try_from(location.span().len()).unwrap_or(1).max(1) })
    }

    /// The place of a part of a scalar's text, such as one of several backends; of all of it when that is not what was written.
    pub fn place_of(&self, text: &str, part: Range<usize>, location: Location) -> Option<Place> {
        let whole = self.place(location)?;
        let (before, part) = (text.get(..part.start)?.chars().count(), text.get(part)?.chars().count());
        let start = self.line(whole.line)?.char_indices().nth(whole.column - 1)?.0;
        let written = &self.line(whole.line)?[start..];
        let quote = usize::from(written.starts_with(['"', '\'']));
        if !written[quote..].starts_with(text) {
            return Some(whole);
        }
        Some(Place { column: whole.column + quote + before, width: part.max(1), ..whole })
    }

    /// The text of a node.
    fn written(&self, location: Location) -> Option<&'a str> {
        let (start, length) = (location.span().byte_offset()?, location.span().byte_len()?);
        let start = usize::try_from(start).ok()?;
        self.text.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    }

    /// The variables named in what was written at a node, for messages about values that came out of them.
    pub fn variable(&self, location: Location) -> Option<&'a str> {
        let written = self.written(location)?;
        let name = &written[written.find("${")? + 2..];
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        Some(&name[..end]).filter(|name| !name.is_empty())
    }

    /// Warnings when nothing worse was found, else everything.
    pub fn verdict(self) -> Result<Vec<Problem>, Vec<Problem>> {
        let problems = self.into_problems();
        if problems.iter().any(|problem| problem.severity == Severity::Error) { Err(problems) } else { Ok(problems) }
    }

    /// Everything found, in the order of the file, what has no place last.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.iter_mut().for_each(|problem| self.hidden.redact(problem));
        self.problems.sort_by_key(|problem| (problem.at.is_none(), problem.at));
        self.problems
    }

    fn add(&mut self, severity: Severity, at: Option<Place>, key: &str, Mistake { what, mend }: Mistake) {
        let snippet = at.and_then(|place| self.line(place.line)).map(str::to_owned);
        let key = self.variables.get(key).filter(|_| at.is_none()).map_or(key, String::as_str);
        let is_outside = key.starts_with("--") || key.starts_with(super::satellite::PREFIX);
        let source = if is_outside { String::new() } else { self.source.to_owned() };
        self.problems.push(Problem { severity, at, key: key.to_owned(), what, mend, source, snippet });
    }

    fn line(&self, number: usize) -> Option<&'a str> {
        self.text.lines().nth(number.checked_sub(1)?)
    }
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Problem {
    /// The whole message without a line end at its end: place, what, snippet with a caret, mend.
    pub fn render(&self, colour: bool) -> String {
        let (red, bold, plain) = match (colour, self.severity) {
            (false, _) => ("", "", ""),
            (true, Severity::Error) => ("\x1b[31;1m", "\x1b[1m", "\x1b[0m"),
            (true, Severity::Warning) => ("\x1b[33;1m", "\x1b[1m", "\x1b[0m"),
        };
        let mut out = String::new();
        if !self.source.is_empty() {
            out.push_str(&self.source);
            if let Some(place) = self.at {
                let _ = write!(out, ":{}:{}", place.line, place.column);
            }
            out.push_str(": ");
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = write!(out, "{red}{severity}{plain}: ");
        if !self.key.is_empty() {
            let _ = write!(out, "{bold}{}{plain}: ", printable(&self.key));
        }
        out.push_str(&printable(&self.what));
        if let (Some(place), Some(line)) = (self.at, &self.snippet) {
            let (shown, caret) = cut(line, place);
            let number = place.line.to_string();
            let _ = write!(out, "\n  {number} | {shown}\n  {:1$} | {red}{caret}{plain}", "", number.len());
        }
        let _ = write!(out, "\n  mend: {}", printable(&self.mend));
        out
    }
}

/// The line and the caret under it; a long line is cut to the part around the place.
fn cut(line: &str, place: Place) -> (String, String) {
    let chars: Vec<char> = printable(line).chars().collect();
    let start = (place.column - 1).min(chars.len());
    let width = place.width.min(chars.len() - start).max(1);
    let (from, before) = if chars.len() <= SNIPPET_CHARS_MAX { (0, "") } else { (start.saturating_sub(24), "…") };
    let before = if from == 0 { "" } else { before };
    let to = chars.len().min(from + SNIPPET_CHARS_MAX);
    let after = if to < chars.len() { "…" } else { "" };
    let shown: String = chars[from..to].iter().collect();
    // Tabs stay tabs, so that the caret stands under its character whatever the terminal makes of them.
    let lead: String = chars[from..start].iter().map(|c| if *c == '\t' { '\t' } else { ' ' }).collect();
    let lead = if before.is_empty() { lead } else { format!(" {lead}") };
    (
        format!("{before}{shown}{after}").trim_end().to_owned(),
        format!("{lead}{}", "^".repeat(width.min(SNIPPET_CHARS_MAX))),
    )
}

/// The text with control characters made harmless: a config must not be able to move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

impl serde::Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut fields = serializer.serialize_struct("Problem", 7)?;
        fields.serialize_field("severity", &self.severity)?;
        fields.serialize_field("file", &Some(&self.source).filter(|source| !source.is_empty()))?;
        fields.serialize_field("line", &self.at.map(|place| place.line))?;
        fields.serialize_field("column", &self.at.map(|place| place.column))?;
        fields.serialize_field("key", &self.key)?;
        fields.serialize_field("what", &self.what)?;
        fields.serialize_field("mend", &self.mend)?;
        fields.end()
    }
}
