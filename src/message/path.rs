//! Where a value stands in a message: field numbers from the outside in. Read by scanning tags; nothing is decoded.

use std::fmt;
use std::str::FromStr;

use super::field::{self, Field, Fields, Malformed, Value};

/// A place in a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldPath {
    steps: Box<[Step]>,
}

/// One step on the way to a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Into this field.
    Field(u32),
    /// Into the value that a repeated key-value field has for this key: a protobuf map with string keys, or OTLP's
    /// `KeyValue`. Both say the key in field 1 and the value in field 2.
    Entry {
        /// The repeated field.
        field: u32,
        /// The key.
        key: Box<[u8]>,
    },
}

/// Field 1 of an entry is its key, field 2 its value.
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;

// === impl FieldPath ===

impl FieldPath {
    /// The path with these steps; at least one.
    pub fn new(steps: impl Into<Box<[Step]>>) -> Self {
        let steps = steps.into();
        assert!(!steps.is_empty(), "a path has a step");
        Self { steps }
    }

    /// The path through these fields.
    pub fn of(numbers: &[u32]) -> Self {
        Self::new(numbers.iter().map(|number| Step::Field(*number)).collect::<Box<[Step]>>())
    }

    /// The same place seen from inside the sub-messages of this field; `None` when it does not lead there.
    pub fn inside(&self, field: u32) -> Option<Self> {
        match self.steps.split_first()? {
            (Step::Field(first), rest) if *first == field && !rest.is_empty() => Some(Self::new(rest)),
            _ => None,
        }
    }

    /// The path that goes on into this field.
    pub fn join(&self, number: u32) -> Self {
        Self::new([&*self.steps, &[Step::Field(number)]].concat())
    }

    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The field its first step goes into.
    pub fn field(&self) -> u32 {
        match &self.steps[0] {
            Step::Field(number) | Step::Entry { field: number, .. } => *number,
        }
    }

    /// The same place seen from outside a sub-message in this field.
    pub fn below(&self, field: u32) -> FieldPath {
        let steps: Vec<Step> = [Step::Field(field)].into_iter().chain(self.steps.iter().cloned()).collect();
        Self { steps: steps.into() }
    }

    /// The first value at this place, read no further than that; `None` when there is none.
    ///
    /// # Errors
    /// When a message on the way is broken before the value.
    pub fn first<'a>(&self, message: &'a [u8]) -> Result<Option<Value<'a>>, Malformed> {
        let mut found = None;
        self.any(message, &mut |value| {
            found = Some(value);
            true
        })?;
        Ok(found)
    }

    /// The first text, bytes or sub-message at this place.
    ///
    /// # Errors
    /// As [`FieldPath::first`].
    pub fn first_bytes<'a>(&self, message: &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        let mut found = None;
        self.any(message, &mut |value| {
            if let Value::Bytes(bytes) = value {
                found = Some(bytes);
            }
            found.is_some()
        })?;
        Ok(found)
    }

    /// Whether `test` holds for any value at this place; every element of repeated fields on the way is tried, in wire
    /// order, until one does.
    ///
    /// # Errors
    /// As [`FieldPath::first`].
    pub fn any<'a>(&self, message: &'a [u8], test: &mut dyn FnMut(Value<'a>) -> bool) -> Result<bool, Malformed> {
        any(&self.steps, field::fields(message), test)
    }

    /// As [`FieldPath::any`], where `value` is what the first field holds. A first step into an entry looks at one
    /// entry only.
    ///
    /// # Errors
    /// As [`FieldPath::first`].
    pub fn any_within<'a>(&self, value: &'a [u8], test: &mut dyn FnMut(Value<'a>) -> bool) -> Result<bool, Malformed> {
        any_in(&self.steps[0], &self.steps[1..], Value::Bytes(value), test)
    }
}

fn any<'a>(steps: &[Step], fields: Fields<'a>, test: &mut dyn FnMut(Value<'a>) -> bool) -> Result<bool, Malformed> {
    let Some((step, rest)) = steps.split_first() else { return Ok(false) };
    let (Step::Field(wanted) | Step::Entry { field: wanted, .. }) = step;
    for field in fields {
        let Field { number, value, .. } = field?;
        if number == *wanted && any_in(step, rest, value, test)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Goes on from the value of the field that `step` goes into.
fn any_in<'a>(
    step: &Step,
    rest: &[Step],
    value: Value<'a>,
    test: &mut dyn FnMut(Value<'a>) -> bool,
) -> Result<bool, Malformed> {
    let value = match (step, value) {
        (Step::Field(_), value) => value,
        (Step::Entry { key, .. }, Value::Bytes(entry)) => match entry_value(entry, key)? {
            Some(value) => value,
            None => return Ok(false),
        },
        (Step::Entry { .. }, _) => return Ok(false),
    };
    match (rest.is_empty(), value) {
        (true, value) => Ok(test(value)),
        (false, Value::Bytes(inner)) => any(rest, field::fields(inner), test),
        (false, _) => Ok(false),
    }
}

/// The value of an entry if it has this key.
fn entry_value<'a>(entry: &'a [u8], key: &[u8]) -> Result<Option<Value<'a>>, Malformed> {
    let (mut said, mut value) = (&b""[..], None);
    for field in field::fields(entry) {
        match field? {
            Field { number: ENTRY_KEY, value: Value::Bytes(bytes), .. } => said = bytes,
            Field { number: ENTRY_VALUE, value: found, .. } => value = Some(found),
            _ => {}
        }
    }
    Ok(value.filter(|_| said == key))
}

/// Not a path of field numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a path of field numbers is written 1.4, an entry of a map 1[key]")]
pub struct NotAPath;

/// Field numbers with dots between them; a key in brackets behind a map. The key ends at the bracket behind which the
/// path ends or goes on with a dot.
impl FromStr for FieldPath {
    type Err = NotAPath;

    fn from_str(text: &str) -> Result<Self, NotAPath> {
        let (mut steps, mut rest) = (Vec::new(), text);
        loop {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let number: u32 = rest[..digits].parse().map_err(|_| NotAPath)?;
            if !(1..1 << 29).contains(&number) {
                return Err(NotAPath);
            }
            rest = &rest[digits..];
            if let Some(inside) = rest.strip_prefix('[') {
                let end = inside.find("].").or_else(|| inside.strip_suffix(']').map(str::len)).ok_or(NotAPath)?;
                if end == 0 {
                    return Err(NotAPath);
                }
                steps.push(Step::Entry { field: number, key: inside.as_bytes()[..end].into() });
                rest = &inside[end + 1..];
            } else {
                steps.push(Step::Field(number));
            }
            match rest.strip_prefix('.') {
                Some(more) => rest = more,
                None if rest.is_empty() => return Ok(Self::new(steps)),
                None => return Err(NotAPath),
            }
        }
    }
}

/// As an operator who has no names writes it: `1.4`, `1.2[service.name].1`.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.steps.iter().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            match step {
                Step::Field(number) => write!(f, "{number}")?,
                Step::Entry { field, key } => write!(f, "{field}[{}]", String::from_utf8_lossy(key))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    fn sub(number: u32, bytes: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        field::put_bytes(&mut out, number, bytes);
        out
    }

    fn join(parts: &[BytesMut]) -> BytesMut {
        parts.iter().fold(BytesMut::new(), |mut whole, part| {
            whole.extend_from_slice(part);
            whole
        })
    }

    #[test]
    fn an_entry_is_found_by_its_key_wherever_it_stands() {
        let entry =
            |key: &str, value: &str| sub(1, &join(&[sub(1, key.as_bytes()), sub(2, &sub(1, value.as_bytes()))]));
        let resource = sub(1, &join(&[entry("host.name", "h"), entry("service.name", "shop")]));
        let attribute = |key: &str| {
            FieldPath::new([Step::Field(1), Step::Entry { field: 1, key: key.as_bytes().into() }, Step::Field(1)])
        };
        assert_eq!(attribute("service.name").first_bytes(&resource), Ok(Some(&b"shop"[..])));
        assert_eq!(attribute("service").first_bytes(&resource), Ok(None));
        assert_eq!(attribute("service.name").to_string(), "1.1[service.name].1");
    }

    #[test]
    fn every_element_of_a_repeated_field_is_tried() {
        let message = join(&[sub(1, &sub(3, b"one")), sub(1, &sub(3, b"two"))]);
        let path = FieldPath::of(&[1, 3]);
        assert_eq!(path.any(&message, &mut |value| value == Value::Bytes(b"two")), Ok(true));
        assert_eq!(path.first_bytes(&message), Ok(Some(&b"one"[..])));
        assert_eq!(path.any(&message, &mut |value| value == Value::Bytes(b"three")), Ok(false));
    }

    #[test]
    fn a_path_can_go_on_from_the_value_of_its_first_field() {
        let found = |path: &FieldPath, value: &[u8]| path.any_within(value, &mut |value| value == Value::Bytes(b"x"));
        assert_eq!(found(&FieldPath::of(&[7, 2]), &sub(2, b"x")), Ok(true));
        assert_eq!(found(&FieldPath::of(&[7]), b"x"), Ok(true));
        assert_eq!(found(&FieldPath::of(&[7, 3]), &sub(2, b"x")), Ok(false));
    }

    #[test]
    fn a_path_is_read_as_it_is_written() {
        for text in ["1", "1.4", "1.2[service.name].1", "3[a.b[c]"] {
            assert_eq!(text.parse::<FieldPath>().map(|path| path.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "0", "1.", ".1", "a", "1.x", "1[", "1[k", "1[]", "1[k]2", "536870912", "-1"] {
            assert!(text.parse::<FieldPath>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(message in prop::collection::vec(0u8..=255, 0..300), numbers in prop::collection::vec(1u32..5, 1..4)) {
            let _ = FieldPath::of(&numbers).first(&message);
            let entry = FieldPath::new([Step::Entry { field: numbers[0], key: Box::from(&b"k"[..]) }]);
            let _ = entry.first(&message);
        }
    }
}
