//! A message as keys and rules read it: with what its stream has said once filled in.

use crate::message::context::Carried;
use crate::message::field::{Malformed, Value};
use crate::message::path::FieldPath;

/// One message and what is carried into it.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The message, without its prefix.
    pub body: &'a [u8],
    /// What holds for it, whether it says it itself or not.
    pub carried: &'a [Carried],
}

/// A part of a key: text as it stands, or a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text or bytes, not empty.
    Text(&'a [u8]),
    /// A whole number, however it is written on the wire.
    Number([u8; 8]),
}

// === impl Part ===

impl Part<'_> {
    /// What is hashed.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Part::Text(text) => text,
            Part::Number(number) => number,
        }
    }
}

// === impl Reading ===

impl<'a> Reading<'a> {
    /// Whether `test` holds for any value at this place.
    ///
    /// # Errors
    /// When a message on the way is broken before the value.
    pub fn any(&self, path: &FieldPath, test: &mut dyn FnMut(Value<'a>) -> bool) -> Result<bool, Malformed> {
        match self.carried.iter().find(|(field, _)| *field == path.field()) {
            // One that does not parse is for the receiver to judge: it is carried as it is, and has nothing in it.
            Some((_, Some(value))) => Ok(path.any_within(value, test).unwrap_or(false)),
            Some((_, None)) => Ok(false),
            None => path.any(self.body, test),
        }
    }

    /// The first text that is not empty, or number, at this place.
    ///
    /// # Errors
    /// As [`Reading::any`].
    pub fn part(&self, path: &FieldPath) -> Result<Option<Part<'a>>, Malformed> {
        let mut found = None;
        self.any(path, &mut |value| {
            found = match value {
                Value::Bytes(bytes) => Some(Part::Text(bytes)).filter(|_| !bytes.is_empty()),
                Value::Varint(number) | Value::Fixed64(number) => Some(Part::Number(number.to_le_bytes())),
                Value::Fixed32(number) => Some(Part::Number(u64::from(number).to_le_bytes())),
            };
            found.is_some()
        })?;
        Ok(found)
    }
}
