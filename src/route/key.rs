//! Reads keys: numbers that are equal for messages that must meet the same backend, on every replica and version.

use twox_hash::XxHash3_64;

use crate::message::field::{self, Field, Malformed, Value};
use crate::message::path::{FieldPath, Step};

use super::contract::Key;
use super::reading::{Part, Reading};

/// Keys up to this length are put together on the stack.
const SHORT_BYTES: usize = 64;

/// Keys of so many paths are read without an allocation.
const FEW_PATHS: usize = 4;

/// Hashes the parts of a key. Each part is preceded by its length, so that `("ab", "c")` and `("a", "bc")` differ.
pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let (mut short, mut length, mut long) = ([0u8; SHORT_BYTES], 0, Vec::new());
    let mut put = |bytes: &[u8]| match short.get_mut(length..length + bytes.len()).filter(|_| long.is_empty()) {
        Some(room) => {
            room.copy_from_slice(bytes);
            length += bytes.len();
        }
        None => {
            if long.is_empty() {
                long.extend_from_slice(&short[..length]);
            }
            long.extend_from_slice(bytes);
        }
    };
    for part in parts {
        put(&(part.len() as u64).to_le_bytes());
        put(part);
    }
    XxHash3_64::oneshot(if long.is_empty() { &short[..length] } else { &long })
}

/// As [`of_parts`] of a single one.
fn of_one_part(part: &[u8]) -> u64 {
    let mut short = [0u8; SHORT_BYTES];
    match short.get_mut(..8 + part.len()) {
        Some(room) => {
            room[..8].copy_from_slice(&(part.len() as u64).to_le_bytes());
            room[8..].copy_from_slice(part);
            XxHash3_64::oneshot(room)
        }
        None => of_parts([part]),
    }
}

// === impl Key ===

impl Key {
    /// The key of a message; `None` when it has none.
    ///
    /// # Errors
    /// When the message is broken before a value that is looked for.
    pub fn of(&self, message: &Reading<'_>) -> Result<Option<u64>, Malformed> {
        match self {
            Key::Fields(paths) => of_fields(paths, message),
            Key::LastOfElements { field, paths } => of_last(*field, paths, message.body).map(Some),
        }
    }

    /// Whether all of it stands in these fields, so that it changes only when they do.
    pub fn stands_in(&self, fields: &[u32]) -> bool {
        match self {
            Key::Fields(paths) => paths.iter().all(|path| fields.contains(&path.field())),
            Key::LastOfElements { .. } => false,
        }
    }

    /// Reads what a message of a call names of the key, where earlier messages did not; the key once every part is named.
    /// For calls that are kept whole, whose first messages are looked at one after the other.
    pub fn gather(&self, body: &[u8], parts: &mut Vec<Vec<u8>>) -> Option<u64> {
        let message = Reading { body, carried: &[] };
        let Key::Fields(paths) = self else { return self.of(&message).ok().flatten() };
        parts.resize(paths.len(), Vec::new());
        for (path, part) in paths.iter().zip(parts.iter_mut()).filter(|(_, part)| part.is_empty()) {
            if let Some(found) = message.part(path).ok().flatten() {
                part.extend_from_slice(found.bytes());
            }
        }
        let is_complete = parts.iter().all(|part| !part.is_empty());
        is_complete.then(|| of_parts(parts.iter().map(Vec::as_slice)))
    }
}

fn of_fields(paths: &[FieldPath], message: &Reading<'_>) -> Result<Option<u64>, Malformed> {
    // Most keys are one text at the top of a message in which nothing is carried.
    if let ([path], true) = (paths, message.carried.is_empty())
        && let [Step::Field(number)] = path.steps()
        && let Some(text) = field::first_bytes(message.body, *number)?.filter(|text| !text.is_empty())
    {
        return Ok(Some(of_one_part(text)));
    }
    if let [path] = paths
        && let Some(part) = message.part(path)?
    {
        return Ok(Some(of_parts([part.bytes()])));
    }
    let (mut few, mut many) = ([None; FEW_PATHS], Vec::new());
    let parts = places(&mut few, &mut many, paths.len());
    for (path, part) in paths.iter().zip(parts.iter_mut()) {
        *part = message.part(path)?;
    }
    if parts.iter().any(Option::is_some) {
        return Ok(Some(of_parts(parts.iter().map(|part| part.as_ref().map_or(&b""[..], Part::bytes)))));
    }
    let mut carried = message.carried.iter().filter_map(|(_, value)| value.as_deref()).peekable();
    Ok(carried.peek().is_some().then(|| of_parts(carried)))
}

/// A place for each path: in `few` if they fit there.
fn places<'a, T: Copy + Default>(few: &'a mut [T; FEW_PATHS], many: &'a mut Vec<T>, paths: usize) -> &'a mut [T] {
    match paths {
        0..=FEW_PATHS => &mut few[..paths],
        _ => {
            many.resize(paths, T::default());
            many
        }
    }
}

/// The last non-empty value at each place over all elements.
fn of_last(number: u32, paths: &[FieldPath], body: &[u8]) -> Result<u64, Malformed> {
    let (mut few, mut many) = ([&b""[..]; FEW_PATHS], Vec::new());
    let last = places(&mut few, &mut many, paths.len());
    for item in field::fields(body) {
        if let Field { number: found, value: Value::Bytes(element), .. } = item?
            && found == number
        {
            match paths.iter().all(|path| matches!(path.steps(), [Step::Field(_)])) {
                true => last_at_top(paths, element, last)?,
                false => last_anywhere(paths, element, last)?,
            }
        }
    }
    Ok(of_parts(last.iter().copied()))
}

/// Reads the element once: its values stand at its top.
fn last_at_top<'a>(paths: &[FieldPath], element: &'a [u8], last: &mut [&'a [u8]]) -> Result<(), Malformed> {
    for field in field::fields(element) {
        if let Field { number, value: Value::Bytes(text), .. } = field?
            && !text.is_empty()
            && let Some(at) = paths.iter().position(|path| path.field() == number)
        {
            last[at] = text;
        }
    }
    Ok(())
}

fn last_anywhere<'a>(paths: &[FieldPath], element: &'a [u8], last: &mut [&'a [u8]]) -> Result<(), Malformed> {
    for (path, last) in paths.iter().zip(last) {
        path.any(element, &mut |value| {
            if let Value::Bytes(text) = value
                && !text.is_empty()
            {
                *last = text;
            }
            false
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;

    use super::*;

    fn meter(service: &[u8], instance: &[u8]) -> BytesMut {
        let mut meter = BytesMut::new();
        field::put_bytes(&mut meter, 3, service);
        field::put_bytes(&mut meter, 4, instance);
        meter
    }

    fn of_set(meters: &[BytesMut]) -> Option<u64> {
        let mut body = BytesMut::new();
        for meter in meters {
            field::put_bytes(&mut body, 1, meter);
        }
        let key = Key::LastOfElements { field: 1, paths: vec![FieldPath::of(&[3]), FieldPath::of(&[4])] };
        key.of(&Reading { body: &body, carried: &[] }).unwrap()
    }

    #[test]
    fn a_meter_set_belongs_to_its_last_named_instance() {
        let named_last = of_set(&[meter(b"", b""), meter(b"shop", b"one"), meter(b"", b"")]);
        let alone = of_set(&[meter(b"shop", b"one")]);
        assert_eq!(named_last, alone);
        assert_eq!(alone, Some(of_parts([&b"shop"[..], b"one"])));
        assert_ne!(alone, of_set(&[meter(b"shop", b"two")]));
    }

    #[test]
    fn keys_never_change_between_versions() {
        assert_eq!(of_parts([&b"shop"[..], b"one"]), 0xa897_de4f_1586_f986);
    }

    proptest! {
        #[test]
        fn short_and_long_keys_are_hashed_alike(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..150), 0..5)) {
            let mut whole = Vec::new();
            for part in &parts {
                whole.extend_from_slice(&(part.len() as u64).to_le_bytes());
                whole.extend_from_slice(part);
            }
            prop_assert_eq!(of_parts(parts.iter().map(Vec::as_slice)), XxHash3_64::oneshot(&whole));
            for part in &parts {
                prop_assert_eq!(of_one_part(part), of_parts([part.as_slice()]));
            }
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(of_parts([&b"ab"[..], b"c"]), of_parts([&b"a"[..], b"bc"]));
    }

    #[test]
    fn an_envoy_without_a_node_id_is_known_by_its_whole_identifier() {
        let key = Key::Fields(vec![FieldPath::of(&[1, 1, 1])]);
        let of = |identifier: &[u8]| {
            key.of(&Reading { body: b"", carried: &[(1, Some(Bytes::copy_from_slice(identifier)))] }).unwrap()
        };
        let named = |id: &[u8], more: &[u8]| {
            let (mut node, mut identifier) = (BytesMut::new(), BytesMut::new());
            field::put_bytes(&mut node, 1, id);
            field::put_bytes(&mut node, 2, more);
            field::put_bytes(&mut identifier, 1, &node);
            identifier
        };
        assert_eq!(of(&named(b"sidecar~1", b"x")), of(&named(b"sidecar~1", b"y")));
        assert_ne!(of(&named(b"", b"x")), of(&named(b"", b"y")));
    }

    #[test]
    fn a_call_that_is_kept_whole_has_a_key_once_its_messages_have_named_all_of_it() {
        let key = Key::Fields(vec![FieldPath::of(&[3]), FieldPath::of(&[4])]);
        let named = Some(of_parts([&b"shop"[..], b"one"]));
        let mut parts = Vec::new();
        assert_eq!(key.gather(&meter(b"shop", b""), &mut parts), None);
        assert_eq!(key.gather(&meter(b"", b"one"), &mut parts), named);
        assert_eq!(key.gather(&meter(b"shop", b"one"), &mut Vec::new()), named);
    }
}
