//! Reads single fields of a protobuf message by scanning tags; nothing is decoded, copied or recursed into.
//!
//! Wire format: protobuf.dev/programming-guides/encoding. Groups (wire types 3 and 4) are refused: no protocol
//! of ours has any and skipping them needs recursion.

use std::ops::Range;

use bytes::BytesMut;

/// The bytes are not a protobuf message as far as the scan had to read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a protobuf message: broken at byte {at}")]
pub struct Malformed {
    /// Where the scan gave up, from the start of the scanned slice.
    pub at: usize,
}

/// What a field holds on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// int32/64, uint32/64, sint32/64, bool, enum.
    Varint(u64),
    /// fixed64, sfixed64, double.
    Fixed64(u64),
    /// string, bytes, sub-message, packed repeated.
    Bytes(&'a [u8]),
    /// fixed32, sfixed32, float.
    Fixed32(u32),
}

/// One top-level occurrence of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field number, 1 to 2^29 - 1.
    pub number: u32,
    /// Its value.
    pub value: Value<'a>,
    /// Where tag and value stand in the scanned slice.
    pub range: Range<usize>,
}

/// The top-level fields of a message in wire order; ends after the first error.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

/// The top-level fields of `message`.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { message, at: 0 }
}

/// The last occurrence of length-delimited field `number` (protobuf: the last one wins), or `None`.
///
/// # Errors
/// When the message does not parse up to its end.
pub fn last_bytes(message: &[u8], number: u32) -> Result<Option<&[u8]>, Malformed> {
    let mut found = None;
    for field in fields(message) {
        match field? {
            Field { number: n, value: Value::Bytes(bytes), .. } if n == number => found = Some(bytes),
            _ => {}
        }
    }
    Ok(found)
}

/// The first occurrence of length-delimited field `number`, read no further than that. For keys, where a
/// repeated singular field does not occur in practice and the scan's cost matters.
///
/// # Errors
/// When the message is broken before the field.
pub fn first_bytes(message: &[u8], number: u32) -> Result<Option<&[u8]>, Malformed> {
    for field in fields(message) {
        match field? {
            Field { number: n, value: Value::Bytes(bytes), .. } if n == number => return Ok(Some(bytes)),
            _ => {}
        }
    }
    Ok(None)
}

/// Follows `path` through nested messages, first occurrence at each step.
///
/// # Errors
/// When a message on the way is broken before the field looked for.
pub fn bytes_at<'a>(message: &'a [u8], path: &[u32]) -> Result<Option<&'a [u8]>, Malformed> {
    let mut here = message;
    for number in path {
        match first_bytes(here, *number)? {
            Some(next) => here = next,
            None => return Ok(None),
        }
    }
    Ok(Some(here))
}

/// Appends a length-delimited field to an encoded message.
pub fn put_bytes(out: &mut BytesMut, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes that [`put_bytes`] would append.
pub fn bytes_field_len(number: u32, length: usize) -> usize {
    varint_len(u64::from(number) << 3 | 2) + varint_len(length as u64) + length
}

/// Appends a varint.
pub fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.extend_from_slice(&[value as u8 | 0x80]);
        value >>= 7;
    }
    out.extend_from_slice(&[value as u8]);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

// === impl Fields ===

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.message.len() {
            return None;
        }
        let start = self.at;
        match self.read() {
            Some((number, value)) => Some(Ok(Field { number, value, range: start..self.at })),
            None => {
                self.at = self.message.len();
                Some(Err(Malformed { at: start }))
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// Reads tag and value at `at`; `None` when they are broken.
    fn read(&mut self) -> Option<(u32, Value<'a>)> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number))?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(*self.take(8)?.first_chunk()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(*self.take(4)?.first_chunk()?)),
            _ => return None,
        };
        Some((number, value))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// At most ten bytes, of which the tenth may only be 0 or 1.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.message.get(self.at)?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_ranges_tile_the_message(message in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut end = 0;
            for field in fields(&message) {
                match field {
                    Ok(field) => {
                        prop_assert_eq!(field.range.start, end);
                        end = field.range.end;
                    }
                    Err(broken) => {
                        prop_assert_eq!(broken.at, end);
                        return Ok(());
                    }
                }
            }
            prop_assert_eq!(end, message.len());
        }

        #[test]
        fn fields_put_in_are_found_again(values in prop::collection::vec((1u32..3000, prop::collection::vec(any::<u8>(), 0..200)), 0..20)) {
            let mut message = BytesMut::new();
            for (number, bytes) in &values {
                let before = message.len();
                put_bytes(&mut message, *number, bytes);
                prop_assert_eq!(message.len() - before, bytes_field_len(*number, bytes.len()));
            }
            for (number, _) in &values {
                let same = || values.iter().filter(|(n, _)| n == number);
                prop_assert_eq!(last_bytes(&message, *number).unwrap(), same().next_back().map(|(_, bytes)| bytes.as_slice()));
                prop_assert_eq!(first_bytes(&message, *number).unwrap(), same().next().map(|(_, bytes)| bytes.as_slice()));
            }
        }
    }

    #[test]
    fn a_nested_field_is_found_by_its_path() {
        let mut node = BytesMut::new();
        put_bytes(&mut node, 1, b"sidecar~10.0.0.1~a~b");
        let mut identifier = BytesMut::new();
        put_bytes(&mut identifier, 1, &node);
        let mut message = BytesMut::new();
        put_bytes(&mut message, 1, &identifier);
        assert_eq!(bytes_at(&message, &[1, 1, 1]), Ok(Some(&b"sidecar~10.0.0.1~a~b"[..])));
        assert_eq!(bytes_at(&message, &[1, 2]), Ok(None));
    }

    #[test]
    fn a_truncated_message_is_malformed() {
        assert_eq!(last_bytes(&[0x0a, 5, b'a'], 1), Err(Malformed { at: 0 }));
        assert_eq!(last_bytes(&[0x80; 11], 1), Err(Malformed { at: 0 }));
    }
}
