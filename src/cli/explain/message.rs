//! The message that is asked about: read from a file, from JSON, or made of single fields.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use bytes::BytesMut;
use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor};

use crate::message::field;
use crate::message::path::{FieldPath, Step};
use crate::route::Method;
use crate::route::schema::{Leaf, Place, Schema};

use super::Args;

/// A message's bytes above this are refused: no gateway takes them.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// The message; empty when none was given.
pub(super) fn of(args: &Args, schema: &Schema, method: &Method) -> Result<Vec<u8>, String> {
    match (&args.message, &args.json) {
        (Some(file), _) => read(file),
        (_, Some(file)) => from_json(&read(file)?, schema, method),
        _ => from_fields(&args.field, schema, method),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let outcome = match file.as_os_str() == "-" {
        true => io::stdin().take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes),
        false => fs::File::open(file).and_then(|file| file.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes)),
    };
    outcome.map(|_| bytes).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

fn from_json(text: &[u8], schema: &Schema, method: &Method) -> Result<Vec<u8>, String> {
    let Some(message) = schema.request(method) else {
        return Err(format!(
            "no descriptor says what a message of {} is: add its descriptor set under `protos`",
            method.path
        ));
    };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let message = DynamicMessage::deserialize(message, &mut reader).map_err(|error| format!("the JSON: {error}"))?;
    reader.end().map_err(|error| format!("the JSON: {error}"))?;
    Ok(message.encode_to_vec())
}

fn from_fields(fields: &[String], schema: &Schema, method: &Method) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    for written in fields {
        let (name, value) =
            written.split_once('=').ok_or_else(|| format!("--field takes name=value, not {written:?}"))?;
        let place = schema.find(method, name).map_err(|missing| format!("--field {name}: {missing}"))?;
        body.extend_from_slice(
            &said(&place, value, schema.request(method).as_ref())
                .ok_or_else(|| format!("--field {name}: {value:?} is not {}", place.leaf.noun()))?,
        );
    }
    Ok(body)
}

/// A message that says this value at this place and nothing else.
fn said(place: &Place, value: &str, message: Option<&MessageDescriptor>) -> Option<BytesMut> {
    let path = if let Leaf::Variant(variant) = &place.leaf { &variant.text } else { &place.path };
    let number = match &place.leaf {
        Leaf::Text | Leaf::Variant(_) | Leaf::Unknown => None,
        Leaf::Bool => Some(u64::from(value.parse::<bool>().ok()?)),
        Leaf::Number(_) => Some(value.parse::<i64>().map(|number| number as u64).or_else(|_| value.parse()).ok()?),
        Leaf::Enum(words) => {
            let by_name = words.get_value_by_name(value).map(|word| word.number());
            Some(by_name.or_else(|| value.parse().ok())? as i64 as u64)
        }
        Leaf::Float | Leaf::Packed | Leaf::Message(_) => return None,
    };
    let (last, outer) = path.steps().split_last()?;
    let Step::Field(last) = last else { return Some(wrap(outer, last, value.as_bytes())) };
    let mut leaf = BytesMut::new();
    match number {
        None => field::put_bytes(&mut leaf, *last, value.as_bytes()),
        Some(number) => put_number(&mut leaf, *last, number, message.and_then(|message| kind_at(message, path))),
    }
    Some(outer.iter().rev().fold(leaf, |inner, step| enclose(step, &inner)))
}

/// The value of an entry, and what is around it.
fn wrap(outer: &[Step], entry: &Step, value: &[u8]) -> BytesMut {
    outer.iter().rev().fold(enclose(entry, value), |inner, step| enclose(step, &inner))
}

fn enclose(step: &Step, inner: &[u8]) -> BytesMut {
    let mut whole = BytesMut::new();
    match step {
        Step::Field(number) => field::put_bytes(&mut whole, *number, inner),
        Step::Entry { field: number, key } => {
            let mut entry = BytesMut::new();
            field::put_bytes(&mut entry, 1, key);
            field::put_bytes(&mut entry, 2, inner);
            field::put_bytes(&mut whole, *number, &entry);
        }
    }
    whole
}

/// A number as its kind is written; without a kind as a varint.
fn put_number(out: &mut BytesMut, field: u32, number: u64, kind: Option<Kind>) {
    let tag = u64::from(field) << 3;
    match kind {
        Some(Kind::Fixed64 | Kind::Sfixed64) => {
            field::put_varint(out, tag | 1);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Some(Kind::Fixed32 | Kind::Sfixed32) => {
            field::put_varint(out, tag | 5);
            out.extend_from_slice(&(number as u32).to_le_bytes());
        }
        Some(Kind::Sint32 | Kind::Sint64) => {
            field::put_varint(out, tag);
            field::put_varint(out, (number << 1) ^ ((number as i64 >> 63) as u64));
        }
        _ => {
            field::put_varint(out, tag);
            field::put_varint(out, number);
        }
    }
}

/// The kind of what stands at a place.
fn kind_at(message: &MessageDescriptor, path: &FieldPath) -> Option<Kind> {
    let mut message = message.clone();
    let (last, outer) = path.steps().split_last()?;
    for step in outer {
        let Step::Field(number) = step else { return None };
        let Kind::Message(inner) = message.get_field(*number)?.kind() else { return None };
        message = inner;
    }
    let Step::Field(number) = last else { return None };
    message.get_field(*number).map(|field| field.kind())
}
