//! What a value is compared with: as the operator writes it, and as it stands on the wire.

use super::fields::one_of;
use super::file::{Node, Shape};
use super::keys;
use super::problem::{Findings, Mistake};
use super::section::{Section, empty, scalar};
use crate::message::path::FieldPath;
use crate::route::rule::{Match, Test, glob};
use crate::route::schema::{Leaf, Number, Place};

/// What a value is compared with; any of several will do.
pub(super) struct Wanted<'a> {
    alternatives: Vec<Alternative<'a>>,
}

enum Alternative<'a> {
    /// Exactly this: a text, a number, a word, whatever stands at the place.
    Exactly(&'a str),
    /// Exactly one of these.
    OneOf(Vec<&'a str>),
    /// A text that fits this.
    Text(Match),
    /// It is there.
    Present,
    /// It is not.
    Absent,
}

/// What one alternative comes to at one place.
#[derive(Default)]
struct AtPlace {
    values: Vec<(FieldPath, Match)>,
    /// Whether it also holds where nothing is said: protobuf does not send what is empty, 0 or false.
    or_absent: bool,
}

// === impl Wanted ===

impl<'a> Wanted<'a> {
    /// Reads a value, a list of values of which one will do, or settings that say how to compare.
    pub fn read(node: &'a Node, key: &str, findings: &mut Findings<'_>) -> Option<Self> {
        let alternatives = match &node.value {
            Shape::Map(_) => vec![compared(node, key, findings)?],
            Shape::List(items) if !items.is_empty() => {
                items.iter().map(|item| guessed(item, key, findings)).collect::<Option<_>>()?
            }
            _ => vec![guessed(node, key, findings)?],
        };
        Some(Self { alternatives })
    }

    /// The condition on what stands at a place.
    pub fn at(&self, place: &Place) -> Result<Test, Mistake> {
        let mut by_path: Vec<(FieldPath, Vec<Match>)> = Vec::new();
        let mut or_absent = false;
        for alternative in &self.alternatives {
            let found = alternative.at(place)?;
            or_absent |= found.or_absent;
            for (path, wanted) in found.values {
                match by_path.iter_mut().find(|(known, _)| *known == path) {
                    Some((_, all)) => all.push(wanted),
                    None => by_path.push((path, vec![wanted])),
                }
            }
        }
        let said = by_path.into_iter().filter_map(|(path, all)| Some(Test::Field(path, Match::any(all)?)));
        let absent = or_absent.then(|| Test::not(Test::Field(place.path.clone(), Match::Present)));
        Ok(Test::any(said.chain(absent)))
    }

    /// The condition on a call's metadata of this name.
    pub fn of_metadata(&self, name: &http::HeaderName) -> Test {
        let any = || Test::Metadata(name.clone(), Match::Present);
        Test::any(self.alternatives.iter().map(|alternative| match alternative {
            Alternative::Exactly("") | Alternative::Absent => Test::not(any()),
            Alternative::Exactly(text) => Test::Metadata(name.clone(), Match::Equals(text.as_bytes().into())),
            Alternative::OneOf(texts) => {
                let texts = texts.iter().map(|text| text.as_bytes().into()).collect();
                Test::Metadata(name.clone(), Match::OneOf(texts))
            }
            Alternative::Text(wanted) => Test::Metadata(name.clone(), wanted.clone()),
            Alternative::Present => any(),
        }))
    }
}

/// A value as it is usually meant: exactly, or as a glob.
fn guessed<'a>(node: &'a Node, key: &str, findings: &mut Findings<'_>) -> Option<Alternative<'a>> {
    match plain(node, key, findings)? {
        text if glob::is_glob(text) => patterned(node, key, findings, text, glob::compile),
        text => Some(Alternative::Exactly(text)),
    }
}

/// A scalar as it is; an empty one is a value, too, unless it is a variable's that nobody set.
fn plain<'a>(node: &'a Node, key: &str, findings: &mut Findings<'_>) -> Option<&'a str> {
    match &node.value {
        Shape::Scalar(text) if !text.is_empty() => Some(text),
        Shape::Scalar(text) if findings.variable(node.defined).is_none() => Some(text),
        _ => scalar(node, key.to_owned(), findings).map(|written| written.text),
    }
}

fn patterned<'a>(
    node: &Node,
    key: &str,
    findings: &mut Findings<'_>,
    text: &str,
    compile: fn(&str) -> Result<Match, regex::Error>,
) -> Option<Alternative<'a>> {
    match compile(text) {
        Ok(wanted) => Some(Alternative::Text(wanted)),
        Err(error) => {
            let mistake = match error {
                regex::Error::CompiledTooBig(_) => Mistake::new(
                    "this pattern would take too much memory",
                    "repeat less, or compare with prefix, suffix or glob",
                ),
                error => Mistake::new(
                    format!("\"{text}\" is no regular expression: {}", last_line(&error.to_string())),
                    "mend it; what is meant as it is gets a backslash, as in \\.",
                ),
            };
            findings.error(findings.place(node.referenced), key, mistake);
            None
        }
    }
}

/// The parser shows the pattern with a caret first; what is wrong stands in the last line.
fn last_line(error: &str) -> &str {
    error.lines().last().unwrap_or_default().trim_start_matches("error: ")
}

/// `{ prefix: shop- }` and the like.
fn compared<'a>(node: &'a Node, key: &str, findings: &mut Findings<'_>) -> Option<Alternative<'a>> {
    let section = Section::of(node, "routes.message", key.to_owned(), findings);
    let said: Vec<&str> = keys::names_under("routes.message").filter(|name| section.has(name)).collect();
    let [how] = said.as_slice() else {
        let all = keys::names_under("routes.message").collect::<Vec<_>>().join(", ");
        let mistake = match said.as_slice() {
            [] => Mistake::new("nothing is said of what it is compared with", format!("write one of {all}")),
            [one, other, ..] => Mistake::new(
                format!("`{one}` and `{other}` cannot both be said of one value"),
                "keep one; what must hold as well stands under `all`",
            ),
            [_] => return None,
        };
        findings.error(findings.place(node.referenced), key, mistake);
        return None;
    };
    let (inside, key) = (section.node(how)?, section.key(how));
    if *how == "one_of" {
        return one_of_these(inside, &key, findings);
    }
    if *how == "present" {
        let word = section.word("present", keys::TRUTH, findings)?;
        return Some(if keys::TRUTH[word] == "true" { Alternative::Present } else { Alternative::Absent });
    }
    let text = plain(inside, &key, findings)?;
    match *how {
        "equals" => Some(Alternative::Exactly(text)),
        "glob" => patterned(inside, &key, findings, text, glob::compile),
        "regex" => patterned(inside, &key, findings, text, glob::pattern),
        _ if text.is_empty() => {
            let mistake = Mistake::new("every text begins and ends with nothing", "write `present: true`");
            findings.error(findings.place(inside.referenced), &key, mistake);
            None
        }
        "prefix" => Some(Alternative::Text(Match::Prefix(text.as_bytes().into()))),
        _ => Some(Alternative::Text(Match::Suffix(text.as_bytes().into()))),
    }
}

/// Texts as they are, stars and all.
fn one_of_these<'a>(node: &'a Node, key: &str, findings: &mut Findings<'_>) -> Option<Alternative<'a>> {
    let items = match &node.value {
        Shape::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() {
        findings.error(findings.place(node.referenced), key, empty(node.defined, findings));
        return None;
    }
    let texts: Vec<&str> = items.iter().map(|item| plain(item, key, findings)).collect::<Option<_>>()?;
    Some(Alternative::OneOf(texts))
}

// === impl Alternative ===

impl Alternative<'_> {
    fn at(&self, place: &Place) -> Result<AtPlace, Mistake> {
        let here = |wanted| vec![(place.path.clone(), wanted)];
        match self {
            Alternative::Present => Ok(AtPlace { values: here(Match::Present), or_absent: false }),
            Alternative::Absent => Ok(AtPlace { values: Vec::new(), or_absent: true }),
            Alternative::Text(wanted) => match &place.leaf {
                Leaf::Text | Leaf::Unknown => Ok(AtPlace { values: here(wanted.clone()), or_absent: false }),
                Leaf::Variant(variant) => {
                    Ok(AtPlace { values: vec![(variant.text.clone(), wanted.clone())], or_absent: false })
                }
                leaf => Err(Mistake::new(
                    format!("is {}, and only texts can be compared so", leaf.noun()),
                    match leaf {
                        Leaf::Message(_) => "name a text inside of it",
                        Leaf::Float | Leaf::Packed => "write `present: true`",
                        _ => "write the value itself, or a list of values",
                    },
                )),
            },
            Alternative::Exactly(text) => exactly(text, place),
            Alternative::OneOf(texts) => texts.iter().try_fold(AtPlace::default(), |mut all, text| {
                let one = exactly(text, place)?;
                all.values.extend(one.values);
                all.or_absent |= one.or_absent;
                Ok(all)
            }),
        }
    }
}

/// What a plain value comes to where a text, a number or a word stands.
fn exactly(text: &str, place: &Place) -> Result<AtPlace, Mistake> {
    let equals = || Match::Equals(text.as_bytes().into());
    let number = |number: u64| AtPlace {
        values: vec![(place.path.clone(), Match::Numbers(vec![number]))],
        or_absent: number == 0,
    };
    let wrong = |mend: String| Mistake::new(format!("is {}, which \"{text}\" is not", place.leaf.noun()), mend);
    match &place.leaf {
        Leaf::Text if text.is_empty() => Ok(AtPlace { values: Vec::new(), or_absent: true }),
        Leaf::Text => Ok(AtPlace { values: vec![(place.path.clone(), equals())], or_absent: false }),
        Leaf::Bool => match text {
            "true" => Ok(number(1)),
            "false" => Ok(number(0)),
            _ => Err(wrong("write true or false".to_owned())),
        },
        Leaf::Number(kind) => on_wire(text, *kind).map(number).map_err(wrong),
        Leaf::Enum(words) => {
            let found = words.get_value_by_name(text).map(|word| word.number()).or_else(|| text.parse().ok());
            // On the wire a word is an int32.
            let found = found.map(|value: i32| number(i64::from(value) as u64));
            let names: Vec<String> = words.values().map(|word| word.name().to_owned()).collect();
            found.ok_or_else(|| wrong(one_of(text, names.iter().map(String::as_str))))
        }
        Leaf::Variant(variant) => {
            let mut values = vec![(variant.text.clone(), equals())];
            values.extend(untyped(text).and_then(|value| Some((variant.number.clone()?, value))));
            values.extend(truth(text).and_then(|value| Some((variant.bool.clone()?, value))));
            Ok(AtPlace { values, or_absent: false })
        }
        Leaf::Unknown if text.is_empty() => Ok(AtPlace { values: Vec::new(), or_absent: true }),
        Leaf::Unknown => {
            let all = [Some(equals()), untyped(text), truth(text)].into_iter().flatten();
            let is_zero = matches!(text, "0" | "false");
            Ok(AtPlace { values: all.map(|wanted| (place.path.clone(), wanted)).collect(), or_absent: is_zero })
        }
        leaf @ (Leaf::Float | Leaf::Packed) => {
            Err(Mistake::new(format!("is {}, which is not compared", leaf.noun()), "write `present: true`"))
        }
        leaf @ Leaf::Message(_) => Err(Mistake::new(
            format!("is {}, not a value", leaf.noun()),
            "name a field inside of it, or write `present: true`",
        )),
    }
}

fn untyped(text: &str) -> Option<Match> {
    let number = text.parse::<u64>().ok().or_else(|| text.parse::<i64>().ok().map(|number| number as u64));
    number.map(|number| Match::Numbers(vec![number]))
}

fn truth(text: &str) -> Option<Match> {
    let word = keys::TRUTH.iter().position(|word| *word == text)?;
    Some(Match::Numbers(vec![u64::from(keys::TRUTH[word] == "true")]))
}

/// A whole number as it stands on the wire; what to write instead where it is none.
fn on_wire(text: &str, kind: Number) -> Result<u64, String> {
    let number: i128 = text.parse().map_err(|_| "write a whole number".to_owned())?;
    let (least, most) = match (kind.is_signed, kind.bits) {
        (true, 32) => (i128::from(i32::MIN), i128::from(i32::MAX)),
        (true, _) => (i128::from(i64::MIN), i128::from(i64::MAX)),
        (false, 32) => (0, i128::from(u32::MAX)),
        (false, _) => (0, i128::from(u64::MAX)),
    };
    if !(least..=most).contains(&number) {
        return Err(format!("write a number from {least} to {most}"));
    }
    // Two's complement: what does not fit into 64 bits has been refused.
    let number = number as u64;
    Ok(if kind.is_zigzag { (number << 1) ^ ((number as i64) >> 63) as u64 } else { number })
}
