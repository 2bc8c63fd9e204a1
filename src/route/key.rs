//! Reads keys: numbers that are equal for messages that must meet the same backend, on every replica and version.

use twox_hash::XxHash3_64;

use crate::message::field::{self, Malformed, Value};

/// Hashes the parts of a key. Each part is preceded by its length, so that `("ab", "c")` and `("a", "bc")` differ.
pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut whole = Vec::with_capacity(64);
    for part in parts {
        whole.extend_from_slice(&(part.len() as u64).to_le_bytes());
        whole.extend_from_slice(part);
    }
    XxHash3_64::oneshot(&whole)
}

/// The key of an Envoy identifier: `node.id`, or all of it when that is empty.
pub fn of_envoy_identifier(identifier: &[u8]) -> u64 {
    let id = field::bytes_at(identifier, &[1, 1]).ok().flatten().filter(|id| !id.is_empty());
    of_parts([id.unwrap_or(identifier)])
}

/// The key of a `MeterDataCollection`: the last non-empty service and instance, which are what OAP's
/// `MeterProcessor` files the whole set under.
///
/// # Errors
/// When the message does not parse.
pub fn of_meter_collection(body: &[u8]) -> Result<u64, Malformed> {
    let (mut service, mut instance): (&[u8], &[u8]) = (&[], &[]);
    for item in field::fields(body) {
        if let field::Field { number: 1, value: Value::Bytes(meter), .. } = item? {
            (service, instance) = meter_source(meter, service, instance)?;
        }
    }
    Ok(of_parts([service, instance]))
}

/// Service (3) and instance (4) of one `MeterData`, or those that held before it.
fn meter_source<'a>(
    meter: &'a [u8],
    mut service: &'a [u8],
    mut instance: &'a [u8],
) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    for item in field::fields(meter) {
        match item? {
            field::Field { number: 3, value: Value::Bytes(text), .. } if !text.is_empty() => service = text,
            field::Field { number: 4, value: Value::Bytes(text), .. } if !text.is_empty() => instance = text,
            _ => {}
        }
    }
    Ok((service, instance))
}

/// The key of a relayed call: the values at these paths of one message, or `None` while any is missing.
///
/// # Errors
/// When the message does not parse.
pub fn of_paths(body: &[u8], paths: &[&[u32]]) -> Result<Option<u64>, Malformed> {
    let mut parts = Vec::with_capacity(paths.len());
    for path in paths {
        match field::bytes_at(body, path)? {
            Some(value) if !value.is_empty() => parts.push(value),
            _ => return Ok(None),
        }
    }
    Ok(Some(of_parts(parts)))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn meter(service: &[u8], instance: &[u8]) -> BytesMut {
        let mut meter = BytesMut::new();
        field::put_bytes(&mut meter, 3, service);
        field::put_bytes(&mut meter, 4, instance);
        meter
    }

    fn collection(meters: &[BytesMut]) -> BytesMut {
        let mut body = BytesMut::new();
        for meter in meters {
            field::put_bytes(&mut body, 1, meter);
        }
        body
    }

    #[test]
    fn a_meter_set_belongs_to_its_last_named_instance() {
        let named_last = collection(&[meter(b"", b""), meter(b"shop", b"one"), meter(b"", b"")]);
        let alone = collection(&[meter(b"shop", b"one")]);
        let other = collection(&[meter(b"shop", b"two")]);
        assert_eq!(of_meter_collection(&named_last), of_meter_collection(&alone));
        assert_ne!(of_meter_collection(&alone), of_meter_collection(&other));
    }

    #[test]
    fn keys_never_change_between_versions() {
        assert_eq!(of_parts([&b"shop"[..], b"one"]), 0xa897_de4f_1586_f986);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(of_parts([&b"ab"[..], b"c"]), of_parts([&b"a"[..], b"bc"]));
    }
}
