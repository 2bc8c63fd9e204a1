//! Names to places: what an operator calls a field becomes the numbers that lead to it, and what stands there.
//!
//! Descriptors are asked when a plan is made; the data path knows numbers only.

mod names;
mod numbers;
pub mod sets;

use std::fmt;
use std::sync::OnceLock;

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use crate::message::path::{FieldPath, NotAPath, Step};
use crate::proto::DESCRIPTOR_SET;

use super::contract::Split;
use super::{Method, Origin};

/// What is known of messages: ours, and what the operator gave.
#[derive(Clone)]
pub struct Schema {
    built_in: DescriptorPool,
    given: Option<DescriptorPool>,
}

/// Where a field stands and what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The way to it.
    pub path: FieldPath,
    /// What stands there.
    pub leaf: Leaf,
    /// Whether there may be several: a repeated field lies on the way.
    pub is_repeated: bool,
}

/// What stands at a place.
#[derive(Debug, Clone, PartialEq)]
pub enum Leaf {
    /// Text or bytes.
    Text,
    /// A boolean.
    Bool,
    /// A whole number.
    Number(Number),
    /// A word for a number.
    Enum(EnumDescriptor),
    /// A number with a fraction.
    Float,
    /// Many numbers in one field, which a scan of tags cannot tell apart.
    Packed,
    /// A message of this name, whose fields stand further in.
    Message(String),
    /// A message that holds one value of several types: OTLP's `AnyValue`, protobuf's `Value`.
    Variant(Variant),
    /// No descriptor says.
    Unknown,
}

/// How a whole number stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// Its size.
    pub bits: u8,
    /// Whether it may be negative.
    pub is_signed: bool,
    /// Whether small negative numbers are short (`sint32`, `sint64`).
    pub is_zigzag: bool,
}

/// The places of a variant's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Of its text.
    pub text: FieldPath,
    /// Of its whole number, if it can be one.
    pub number: Option<FieldPath>,
    /// Of its boolean, if it can be one.
    pub bool: Option<FieldPath>,
}

/// Why a name stands for no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoPlace {
    /// How many steps of it are right.
    pub right_steps: usize,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub mend: Mend,
}

/// What to write instead of a name that stands for no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mend {
    /// Advice.
    Advice(String),
    /// One of these names instead of the one written.
    OneOf {
        /// What was written.
        written: String,
        /// What there is.
        names: Vec<String>,
    },
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("given", &self.given_paths()).finish()
    }
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mend {
            Mend::Advice(advice) => write!(f, "{}: {advice}", self.what),
            Mend::OneOf { names, .. } => write!(f, "{}: write one of {}", self.what, names.join(", ")),
        }
    }
}

// === impl Schema ===

impl Schema {
    /// What Switchyard itself knows.
    pub fn built_in() -> Self {
        static BUILT_IN: OnceLock<DescriptorPool> = OnceLock::new();
        let decode = || DescriptorPool::decode(DESCRIPTOR_SET).expect("build.rs makes a descriptor set that is whole");
        Self { built_in: BUILT_IN.get_or_init(decode).clone(), given: None }
    }

    /// With what the operator's descriptor sets know besides.
    pub fn with(given: Option<DescriptorPool>) -> Self {
        Self { given, ..Self::built_in() }
    }

    /// The place that a name stands for in the messages of a method: one of the method's own short names, numbers
    /// (`1.4`), or names of fields with dots between (`resource_spans.resource.attributes[service.name]`).
    ///
    /// # Errors
    /// When it stands for none.
    pub fn find(&self, method: &Method, name: &str) -> Result<Place, NoPlace> {
        let message = self.request(method);
        if let Some((_, path)) = method.fields.iter().find(|(short, _)| short == name) {
            return numbers::place(message.as_ref(), path.clone());
        }
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            let path = name.parse::<FieldPath>().map_err(|NotAPath| NoPlace {
                right_steps: 0,
                what: format!("\"{name}\" is not a path of field numbers"),
                mend: Mend::Advice(
                    "write numbers with dots between, 1.4, and a map's key in brackets, 1[key]".to_owned(),
                ),
            })?;
            return numbers::place(message.as_ref(), path);
        }
        let short: Vec<&str> = method.fields.iter().map(|(short, _)| short.as_str()).collect();
        match message {
            Some(message) => names::place(&message, name, &short),
            None => Err(no_descriptor(method, name, &short)),
        }
    }

    /// The message that callers of a method send, as far as rules and keys read it: of a batch that is taken apart, one
    /// element.
    pub fn request(&self, method: &Method) -> Option<MessageDescriptor> {
        let path = if let Split::Elements { path, .. } = method.contract.split { path } else { method.path };
        let of = |pool: &DescriptorPool| input(pool, path).or_else(|| input(pool, &path.replacen(".v2.", ".v3.", 1)));
        match method.origin {
            // Envoy's v2 messages have v3's numbers (PROTOCOLS table C).
            Origin::Catalogue => of(&self.built_in),
            Origin::Config => {
                self.given.as_ref().and_then(|given| input(given, path)).or_else(|| input(&self.built_in, path))
            }
        }
    }

    /// The name of a place in the messages of a method, as the operator would write it; `None` where no descriptor says.
    pub fn name(&self, method: &Method, path: &FieldPath) -> Option<String> {
        let mut message = self.request(method);
        let mut names = Vec::new();
        for step in path.steps() {
            let (Step::Field(number) | Step::Entry { field: number, .. }) = step;
            let field = message?.get_field(*number)?;
            let (name, kind) = match step {
                Step::Field(_) => (field.name().to_owned(), Some(field.kind())),
                Step::Entry { key, .. } => {
                    let name = format!("{}[{}]", field.name(), String::from_utf8_lossy(key));
                    (name, entry_value(&field).map(|value| value.kind()))
                }
            };
            names.push(name);
            message = if let Some(Kind::Message(inner)) = kind { Some(inner) } else { None };
        }
        Some(names.join("."))
    }

    /// Whether the method's answer is a stream, if a descriptor says.
    pub fn answers_with_a_stream(&self, path: &str) -> Option<bool> {
        let pools = self.given.iter().chain([&self.built_in]);
        pools.filter_map(|pool| method(pool, path)).map(|method| method.is_server_streaming()).next()
    }

    /// The paths of the methods that the operator's descriptor sets describe.
    pub fn given_paths(&self) -> Vec<String> {
        let services = self.given.iter().flat_map(|given| given.services().collect::<Vec<_>>());
        let paths = services.flat_map(|service| {
            let path = |method: prost_reflect::MethodDescriptor| format!("/{}/{}", service.full_name(), method.name());
            service.methods().map(path).collect::<Vec<_>>()
        });
        paths.collect()
    }
}

fn method(pool: &DescriptorPool, path: &str) -> Option<prost_reflect::MethodDescriptor> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    pool.get_service_by_name(service)?.methods().find(|known| known.name() == method)
}

fn input(pool: &DescriptorPool, path: &str) -> Option<MessageDescriptor> {
    method(pool, path).map(|method| method.input())
}

fn no_descriptor(method: &Method, name: &str, short: &[&str]) -> NoPlace {
    let what = format!("no descriptor says what `{name}` is in a message of {}", method.path);
    let mend = match (short.is_empty(), method.origin) {
        (false, _) => Mend::OneOf { written: name.to_owned(), names: short.iter().map(ToString::to_string).collect() },
        (true, Origin::Config) => {
            Mend::Advice("add its descriptor set under `protos`, or write its number, as in \"1.4\"".to_owned())
        }
        (true, Origin::Catalogue) => Mend::Advice("write its number, as in \"1.4\"".to_owned()),
    };
    NoPlace { right_steps: 0, what, mend }
}

// === impl Leaf ===

impl Leaf {
    /// What a field holds that was reached by `path`; `is_many` when it is an unparted list of numbers.
    fn of(kind: &Kind, is_packed: bool, path: &FieldPath) -> Self {
        let number = |bits, is_signed, is_zigzag| Leaf::Number(Number { bits, is_signed, is_zigzag });
        match kind {
            _ if is_packed => Leaf::Packed,
            Kind::String | Kind::Bytes => Leaf::Text,
            Kind::Bool => Leaf::Bool,
            Kind::Double | Kind::Float => Leaf::Float,
            Kind::Int32 | Kind::Sfixed32 => number(32, true, false),
            Kind::Int64 | Kind::Sfixed64 => number(64, true, false),
            Kind::Sint32 => number(32, true, true),
            Kind::Sint64 => number(64, true, true),
            Kind::Uint32 | Kind::Fixed32 => number(32, false, false),
            Kind::Uint64 | Kind::Fixed64 => number(64, false, false),
            Kind::Enum(words) => Leaf::Enum(words.clone()),
            Kind::Message(message) => match Variant::of(message, path) {
                Some(variant) => Leaf::Variant(variant),
                None => Leaf::Message(message.full_name().to_owned()),
            },
        }
    }

    /// What it is, with an article.
    pub fn noun(&self) -> String {
        match self {
            Leaf::Text => "a text".to_owned(),
            Leaf::Bool => "true or false".to_owned(),
            Leaf::Number(_) => "a whole number".to_owned(),
            Leaf::Enum(words) => format!("a word of {}", words.name()),
            Leaf::Float => "a number with a fraction".to_owned(),
            Leaf::Packed => "a packed list of numbers".to_owned(),
            Leaf::Message(name) => format!("a message, {name}"),
            Leaf::Variant(_) => "a value of several types".to_owned(),
            Leaf::Unknown => "not described".to_owned(),
        }
    }
}

// === impl Variant ===

impl Variant {
    fn of(message: &MessageDescriptor, path: &FieldPath) -> Option<Self> {
        let field = |name: &str, kind: Kind| message.get_field_by_name(name).filter(|field| field.kind() == kind);
        let place = |field: FieldDescriptor| path.join(field.number());
        Some(Self {
            text: place(field("string_value", Kind::String)?),
            number: field("int_value", Kind::Int64).map(place),
            bool: field("bool_value", Kind::Bool).map(place),
        })
    }
}

/// What an entry of a repeated key-value field holds: a map with text keys, OTLP's `KeyValue`, SkyWalking's
/// `KeyStringValuePair`. Keys stand in field 1, values in field 2.
fn entry_value(field: &FieldDescriptor) -> Option<FieldDescriptor> {
    let Kind::Message(entry) = field.kind() else { return None };
    let (key, value) = (entry.get_field(1)?, entry.get_field(2)?);
    let is_pair = field.is_map() || (field.is_list() && key.name() == "key" && value.name() == "value");
    (is_pair && key.kind() == Kind::String && !value.is_list()).then_some(value)
}

#[cfg(test)]
mod tests;
