//! Names of fields as the operator writes them, and what is said when there is no such field.

use super::file::Shape;
use super::nearest::nearest;
use super::problem::{Findings, Mistake};
use super::section::{Section, Written, empty, scalar};
use crate::message::path::FieldPath;
use crate::route::Method;
use crate::route::schema::{Leaf, Mend, NoPlace, Place, Schema};

/// Names shown when none is near what was written.
const NAMES_SHOWN: usize = 12;

/// Reads one name, or a list of them.
pub(super) fn names<'a>(section: &Section<'a>, name: &str, findings: &mut Findings<'_>) -> Vec<Written<'a>> {
    let Some(node) = section.node(name) else { return Vec::new() };
    let key = section.key(name);
    findings.remember(&key, &key, findings.place(node.referenced));
    let items = match &node.value {
        Shape::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() {
        findings.error(findings.place(node.referenced), &key, empty(node.defined, findings));
    }
    let mut names: Vec<Written<'a>> = Vec::new();
    for item in items {
        let Some(written) = scalar(item, key.clone(), findings) else { continue };
        if names.iter().any(|other| other.text == written.text) {
            let mistake = Mistake::new(format!("`{}` is named twice", written.text), "name each field once");
            findings.error(written.at, &key, mistake);
            continue;
        }
        names.push(written);
    }
    names
}

/// The places of these names in a method's messages; `None` when one of them is wrong, which is noted.
pub(super) fn places(
    names: &[Written<'_>],
    schema: &Schema,
    method: &Method,
    fits: fn(&Place) -> Result<FieldPath, Mistake>,
    findings: &mut Findings<'_>,
) -> Option<Vec<FieldPath>> {
    let mut found = Vec::new();
    for name in names {
        match place(name.text, schema, method, fits) {
            Ok(path) => found.push(path),
            Err(mistake) => findings.error(name.at, &name.key, mistake),
        }
    }
    (found.len() == names.len()).then_some(found)
}

/// The place of one name, if what stands there fits.
pub(super) fn place(
    name: &str,
    schema: &Schema,
    method: &Method,
    fits: fn(&Place) -> Result<FieldPath, Mistake>,
) -> Result<FieldPath, Mistake> {
    let place = schema.find(method, name).map_err(|none| mistake(&none))?;
    fits(&place).map_err(|Mistake { what, mend }| Mistake::new(format!("`{name}` {what}"), mend))
}

/// What a key, a share or a limit can be made of: text, or a whole number.
pub(super) fn key_part(place: &Place) -> Result<FieldPath, Mistake> {
    match &place.leaf {
        Leaf::Text | Leaf::Bool | Leaf::Number(_) | Leaf::Enum(_) | Leaf::Unknown => Ok(place.path.clone()),
        Leaf::Variant(variant) => Ok(variant.text.clone()),
        leaf @ (Leaf::Float | Leaf::Packed) => {
            Err(Mistake::new(format!("is {}, which makes no key", leaf.noun()), "name a text or a whole number"))
        }
        leaf @ Leaf::Message(_) => Err(Mistake::new(
            format!("is {}, which makes no key", leaf.noun()),
            "name a text or a whole number inside of it, as in source.name",
        )),
    }
}

/// What is said of a name that stands for no place.
pub(super) fn mistake(none: &NoPlace) -> Mistake {
    let mend = match &none.mend {
        Mend::Advice(advice) => advice.clone(),
        Mend::OneOf { written, names } => one_of(written, names.iter().map(String::as_str)),
    };
    Mistake::new(none.what.clone(), mend)
}

/// The nearest of the names, or all of them.
pub(super) fn one_of<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    if let Some(meant) = nearest(written, names.iter().copied()) {
        return format!("did you mean `{meant}`?");
    }
    let more = if names.len() > NAMES_SHOWN { format!(", ... ({} in all)", names.len()) } else { String::new() };
    let shown = names.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.is_empty() { "there is nothing to name".to_owned() } else { format!("choose from {shown}{more}") }
}
