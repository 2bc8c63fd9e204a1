//! What the operator wrote: the YAML as a tree in which every key and value knows its place.
//!
//! Serde's derived structs stop at the first unknown key or wrong type. A tree takes everything, so that all mistakes can be
//! told at once; serde-saphyr still does the YAML: syntax, anchors, limits, and `${VAR:-default}` after parsing, so that a
//! variable's value can never add a key. This file is the parser's only caller.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DefaultMessageFormatter, DuplicateKeyPolicy, Error, MessageFormatter, PropertySyntax, Spanned};

use super::problem::{Findings, Mistake};
use super::secrets;

/// A value and its place.
pub(super) type Node = Spanned<Shape>;

/// The members of a mapping, in order.
pub(super) type Members = Vec<(Spanned<String>, Node)>;

/// A value of any type. Scalars stay text: what they mean is for the setting to say.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// `key:` with nothing behind it, `~` or `null`.
    Nothing,
    /// Anything without members.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Members),
}

/// Top-level keys of SkyWalking Satellite's file, of which at least two must be there for it to be recognised.
const SATELLITE: [&str; 4] = ["logger", "telemetry", "sharing", "pipes"];

/// Deepest nesting taken: a comparison in a route stands at 7, and conditions may nest four times. Keeps recursion off
/// the stack's end.
const DEPTH_MAX: usize = 16;

/// Reads the text; `None` when it is no YAML, with the reason among the findings.
pub(super) fn read(text: &str, variables: HashMap<String, String>, findings: &mut Findings<'_>) -> Option<Node> {
    let tree = match parse(text, &variables, DuplicateKeyPolicy::Error) {
        Err(error @ Error::DuplicateMappingKey { .. }) => {
            note(&error, text, findings);
            // The parser names one key said twice; reading goes on with the first to find the other mistakes.
            parse(text, &variables, DuplicateKeyPolicy::FirstWins)
        }
        outcome => outcome,
    };
    match tree {
        Ok(tree) if is_satellite(&tree) => {
            let mistake = Mistake::new(
                "this is a file of SkyWalking Satellite, not of Switchyard",
                "none of it is needed: start without a file; SATELLITE_GRPC_CLIENT and its other variables are read as they are, \
                 or say where to send with `--to HOST:PORT,...`",
            );
            findings.error(None, "", mistake);
            None
        }
        Ok(tree) => {
            secrets::hide(&tree, findings);
            Some(tree)
        }
        Err(error) => {
            note(&error, text, findings);
            None
        }
    }
}

fn parse(text: &str, variables: &HashMap<String, String>, duplicate_keys: DuplicateKeyPolicy) -> Result<Node, Error> {
    let mut options = serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        strict_booleans: true,
        with_snippet: false,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        property_syntax: PropertySyntax::DockerCompose,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, flow_nesting_limit: DEPTH_MAX, max_events: 100_000 },
    };
    options = options.with_properties(variables.clone());
    serde_saphyr::from_str_with_options(text, options)
}

/// Says what the parser could not read. Its errors are one at a time: everything behind the fault is unknown.
fn note(error: &Error, text: &str, findings: &mut Findings<'_>) {
    let location = error.location();
    let at = location.and_then(|location| findings.place(location));
    let line = at.and_then(|place| text.lines().nth(place.line - 1)).unwrap_or_default();
    let said = DefaultMessageFormatter.format_message(error).into_owned();
    // What cannot be read cannot be told from a secret: on lines where one may stand nothing is quoted.
    let is_secret = at.is_some_and(|place| secrets::lines_of(text).get(place.line - 1) == Some(&true));
    if let Some(place) = at.filter(|_| is_secret) {
        findings.hide_line(place.line);
    }
    let mistake = match error {
        Error::InvalidPropertyName { .. } if is_secret => Mistake::new(
            "what stands here is not a variable",
            "write `${VAR}` or `${VAR:-default}`; a plain dollar sign is written `$$`",
        ),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            Mistake::new(format!("`{key}` is said twice"), "keep one of the two")
        }
        Error::InvalidPropertyName { name, .. } => {
            Mistake::new(format!("`{name}` is not a variable"), variable_mend(name))
        }
        Error::PropertyRequiredButUnset { name, message, .. }
        | Error::PropertyRequiredButEmpty { name, message, .. } => {
            let why = if message.is_empty() { String::new() } else { format!(": {message}") };
            Mistake::new(format!("the variable {name} is not set{why}"), format!("set {name}"))
        }
        Error::MultipleDocuments { .. } => {
            Mistake::new("a second document begins here", "keep everything in one document: remove the `---` line")
        }
        Error::UnknownAnchor { .. } => Mistake::new("no anchor of this name stands above", "write the value itself"),
        _ if line.trim_start_matches(' ').starts_with('\t') => Mistake::new(said, "indent with spaces, not tabs"),
        _ if said.contains("flow") && line.contains("${") => {
            Mistake::new(said, "between brackets a variable stands in quotes: [\"${VAR}\"]")
        }
        _ => Mistake::new(said, "mend the YAML here; what comes after this place has not been read"),
    };
    findings.error(at, "", mistake);
}

/// Satellite writes `${VAR:default}`, and nearly everybody else `${VAR:-default}`.
fn variable_mend(written: &str) -> String {
    let body = written.trim_start_matches("${").trim_end_matches('}');
    match body.split_once(':') {
        Some((name, default)) if !default.starts_with(['-', '+', '?']) => format!("write `${{{name}:-{default}}}`"),
        _ => "write `${VAR}` or `${VAR:-default}`; a plain dollar sign is written `$$`".to_owned(),
    }
}

fn is_satellite(tree: &Node) -> bool {
    let Shape::Map(members) = &tree.value else { return false };
    members.iter().filter(|(key, _)| SATELLITE.contains(&key.value.as_str())).count() >= 2
}

// === impl Shape ===

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Nothing)
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Scalar(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Shape, E> {
        Ok(Shape::Scalar(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Shape, E> {
        Ok(Shape::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(Shape::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(Shape::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Shape::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = access.next_entry()? {
            members.push(member);
        }
        Ok(Shape::Map(members))
    }
}
