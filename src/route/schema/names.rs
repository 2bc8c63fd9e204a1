//! Paths of names: dots between, a map's key in brackets; names as in the .proto file or in JSON.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::message::path::{FieldPath, Step};

use super::{Leaf, Mend, NoPlace, Place, entry_value};

/// One name of a path and the keys behind it: `attributes[service.name]`.
struct Part<'a> {
    name: &'a str,
    keys: Vec<&'a str>,
}

/// How far a path has been followed.
struct Walk {
    steps: Vec<Step>,
    /// What the last step leads to.
    kind: Kind,
    is_packed: bool,
    is_repeated: bool,
}

/// The place that `text` names in `message`; `short` are names that would have done instead of a first one.
pub(super) fn place(message: &MessageDescriptor, text: &str, short: &[&str]) -> Result<Place, NoPlace> {
    let parts = parts(text)?;
    let mut walk =
        Walk { steps: Vec::new(), kind: Kind::Message(message.clone()), is_packed: false, is_repeated: false };
    for (at, part) in parts.iter().enumerate() {
        let short = if at == 0 { short } else { &[] };
        walk.enter(part, at, short)?;
    }
    let path = FieldPath::new(walk.steps);
    let leaf = Leaf::of(&walk.kind, walk.is_packed, &path);
    Ok(Place { path, leaf, is_repeated: walk.is_repeated })
}

// === impl Walk ===

impl Walk {
    fn enter(&mut self, part: &Part<'_>, at: usize, short: &[&str]) -> Result<(), NoPlace> {
        let Kind::Message(message) = self.kind.clone() else {
            return Err(NoPlace {
                right_steps: at,
                what: format!("there is no `{}` here: nothing stands inside of {}", part.name, said(&self.kind)),
                mend: Mend::Advice(format!("leave `.{}` away", part.name)),
            });
        };
        let field = field(&message, part.name).ok_or_else(|| unknown(&message, part, at, short))?;
        if field.is_group() {
            let what = format!("`{}` is a group, which no message of this century has", part.name);
            return Err(NoPlace { right_steps: at, what, mend: Mend::Advice("name another field".to_owned()) });
        }
        match part.keys.split_first() {
            None => self.enter_field(&field),
            Some((first, rest)) => {
                self.enter_entry(&field, first, at)?;
                rest.iter().try_for_each(|key| self.enter_variant(key, at))?;
            }
        }
        Ok(())
    }

    fn enter_field(&mut self, field: &FieldDescriptor) {
        self.steps.push(Step::Field(field.number()));
        self.is_repeated |= field.is_list() || field.is_map();
        self.is_packed = field.is_list() && field.is_packed();
        self.kind = field.kind();
    }

    /// Into the value of a key: of a map, a list of key-value pairs, or a `Struct`.
    fn enter_entry(&mut self, field: &FieldDescriptor, key: &str, at: usize) -> Result<(), NoPlace> {
        if let Some(value) = entry_value(field) {
            self.steps.push(Step::Entry { field: field.number(), key: key.as_bytes().into() });
            self.kind = value.kind();
            return Ok(());
        }
        // google.protobuf.Struct and OTLP's KeyValueList are messages of nothing but entries.
        if let Kind::Message(inner) = field.kind()
            && !field.is_list()
            && let Some(entries) = only_entries(&inner)
        {
            self.enter_field(field);
            return self.enter_entry(&entries, key, at);
        }
        Err(NoPlace {
            right_steps: at,
            what: format!("`{}` is no map with text keys", field.name()),
            mend: Mend::Advice(format!("leave `[{key}]` away")),
        })
    }

    /// Into the value of a key of a value that may itself be a map.
    fn enter_variant(&mut self, key: &str, at: usize) -> Result<(), NoPlace> {
        let inner = match &self.kind {
            Kind::Message(message) => {
                ["struct_value", "kvlist_value"].iter().find_map(|name| message.get_field_by_name(name))
            }
            _ => None,
        };
        match inner {
            Some(field) => self.enter_entry(&field, key, at),
            None => Err(NoPlace {
                right_steps: at,
                what: format!("there is no `[{key}]` here: nothing stands inside of {}", said(&self.kind)),
                mend: Mend::Advice(format!("leave `[{key}]` away")),
            }),
        }
    }
}

/// The only field of a message whose one field holds entries.
fn only_entries(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    let mut fields = message.fields();
    let field = fields.next().filter(|field| entry_value(field).is_some())?;
    fields.next().is_none().then_some(field)
}

fn field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name))
}

fn said(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(words) => format!("a word of {}", words.name()),
        Kind::String | Kind::Bytes => "a text".to_owned(),
        _ => "a number".to_owned(),
    }
}

fn unknown(message: &MessageDescriptor, part: &Part<'_>, at: usize, short: &[&str]) -> NoPlace {
    if let Some(oneof) = message.oneofs().find(|oneof| oneof.name() == part.name) {
        return NoPlace {
            right_steps: at,
            what: format!("`{}` is a oneof: the message has one of its fields", part.name),
            mend: Mend::OneOf {
                written: part.name.to_owned(),
                names: oneof.fields().map(|field| field.name().to_owned()).collect(),
            },
        };
    }
    let mut names: Vec<String> = short.iter().map(ToString::to_string).collect();
    for field in message.fields() {
        if !names.iter().any(|name| name == field.name()) {
            names.push(field.name().to_owned());
        }
    }
    NoPlace {
        right_steps: at,
        what: format!("{} has no field `{}`", message.full_name(), part.name),
        mend: Mend::OneOf { written: part.name.to_owned(), names },
    }
}

/// Takes a path apart. A key ends at the bracket behind which the path ends or goes on with a dot or another key.
fn parts(text: &str) -> Result<Vec<Part<'_>>, NoPlace> {
    let wrong = |what: String| NoPlace {
        right_steps: 0,
        what,
        mend: Mend::Advice(
            "write names with dots between, source.name, and a map's key in brackets, labels[key]".into(),
        ),
    };
    let (mut parts, mut rest) = (Vec::new(), text);
    loop {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, mut behind) = rest.split_at(end);
        if name.is_empty() {
            return Err(wrong(format!("a name is missing in \"{text}\"")));
        }
        let mut keys = Vec::new();
        while let Some(inside) = behind.strip_prefix('[') {
            let is_end = |at: &usize| matches!(inside.as_bytes().get(at + 1), None | Some(b'.' | b'['));
            let end = inside.match_indices(']').map(|(at, _)| at).find(is_end);
            let end = end.ok_or_else(|| wrong(format!("a bracket is left open in \"{text}\"")))?;
            if end == 0 {
                return Err(wrong(format!("a key is missing in \"{text}\"")));
            }
            keys.push(&inside[..end]);
            behind = &inside[end + 1..];
        }
        parts.push(Part { name, keys });
        match behind.strip_prefix('.') {
            Some(more) => rest = more,
            None => return Ok(parts),
        }
    }
}
