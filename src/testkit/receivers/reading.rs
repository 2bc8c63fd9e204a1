//! Reads messages as their receivers' generated code does: the last scalar counts, sub-messages merge, a oneof is its last case.

use std::borrow::Cow;

use crate::message::field::{Field, Malformed, Value, fields};
use crate::testkit::attribution::digest;

/// Whether the message parses at all: a receiver's parser reads it to its end before anybody sees it.
pub(super) fn check(message: &[u8]) -> Result<(), Malformed> {
    fields(message).try_for_each(|field| field.map(drop))
}

/// Every occurrence of length-delimited field `number`.
pub(super) fn elements(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    fields(message).filter_map(move |field| match field {
        Ok(Field { number: n, value: Value::Bytes(bytes), .. }) if n == number => Some(Ok(bytes)),
        Ok(_) => None,
        Err(broken) => Some(Err(broken)),
    })
}

/// A text field; empty when it is not there.
pub(super) fn text(message: &[u8], number: u32) -> Result<&[u8], Malformed> {
    elements(message, number).try_fold(&b""[..], |_, found| found)
}

/// A number field; 0 when it is not there.
pub(super) fn number(message: &[u8], wanted: u32) -> Result<u64, Malformed> {
    fields(message).try_fold(0, |last, field| match field? {
        Field { number, value: Value::Varint(value), .. } if number == wanted => Ok(value),
        _ => Ok(last),
    })
}

/// A sub-message; protobuf merges a repeated one, which is what reading all of its occurrences as one comes to.
pub(super) fn part(message: &[u8], number: u32) -> Result<Option<Cow<'_, [u8]>>, Malformed> {
    let mut merged: Option<Cow<'_, [u8]>> = None;
    for found in elements(message, number) {
        merge(&mut merged, found?);
    }
    Ok(merged)
}

/// A case of a oneof: its number and its sub-message.
type Case<'a> = (u32, Cow<'a, [u8]>);

/// The case of a oneof that is set.
pub(super) fn one_of<'a>(message: &'a [u8], cases: &[u32]) -> Result<Option<Case<'a>>, Malformed> {
    let mut set: Option<(u32, Option<Cow<'a, [u8]>>)> = None;
    for field in fields(message) {
        let Field { number, value: Value::Bytes(bytes), .. } = field? else { continue };
        if !cases.contains(&number) {
            continue;
        }
        match &mut set {
            Some((case, merged)) if *case == number => merge(merged, bytes),
            _ => set = Some((number, Some(Cow::Borrowed(bytes)))),
        }
    }
    Ok(set.and_then(|(case, merged)| Some((case, merged?))))
}

/// The text at the end of a path through sub-messages; empty when it is not there, or the path is empty.
pub(super) fn text_at<'a>(message: &'a [u8], path: &[u32]) -> Result<Cow<'a, [u8]>, Malformed> {
    match path {
        [] => Ok(Cow::Borrowed(b"")),
        [leaf] => text(message, *leaf).map(Cow::Borrowed),
        [number, rest @ ..] => match part(message, *number)? {
            None => Ok(Cow::Borrowed(b"")),
            Some(Cow::Borrowed(inside)) => text_at(inside, rest),
            Some(Cow::Owned(inside)) => Ok(Cow::Owned(text_at(&inside, rest)?.into_owned())),
        },
    }
}

/// Whether a sub-message or text field is there, be it empty.
pub(super) fn has(message: &[u8], numbers: &[u32]) -> bool {
    let is_there = |field: Field<'_>| matches!(field.value, Value::Bytes(_)) && numbers.contains(&field.number);
    fields(message).flatten().any(is_there)
}

/// Digest of a message without the fields in `apart`, in the order of the wire; `None` when nothing else is in it.
pub(super) fn digest_of_rest(message: &[u8], apart: &[u32]) -> Result<Option<u64>, Malformed> {
    let mut rest = Vec::new();
    for field in fields(message) {
        let field = field?;
        if !apart.contains(&field.number) {
            rest.extend_from_slice(&message[field.range]);
        }
    }
    Ok((!rest.is_empty()).then(|| digest([&rest[..]])))
}

fn merge<'a>(merged: &mut Option<Cow<'a, [u8]>>, more: &'a [u8]) {
    match merged {
        Some(known) => known.to_mut().extend_from_slice(more),
        None => *merged = Some(Cow::Borrowed(more)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::message::field::put_bytes;

    fn message(fields: &[(u32, &[u8])]) -> BytesMut {
        let mut message = BytesMut::new();
        fields.iter().for_each(|(number, bytes)| put_bytes(&mut message, *number, bytes));
        message
    }

    #[test]
    fn the_last_text_counts_even_when_it_is_empty() {
        assert_eq!(text(&message(&[(2, b"shop"), (2, b"")]), 2), Ok(&b""[..]));
        assert_eq!(text(&message(&[(2, b"shop"), (2, b"bank")]), 2), Ok(&b"bank"[..]));
    }

    #[test]
    fn a_sub_message_said_twice_is_both_together() {
        let (id, cluster) = (message(&[(1, b"id")]), message(&[(2, b"cluster")]));
        let twice = message(&[(1, &id), (1, &cluster)]);
        assert_eq!(text_at(&twice, &[1, 1]).unwrap(), &b"id"[..]);
        assert_eq!(text_at(&twice, &[1, 2]).unwrap(), &b"cluster"[..]);
        assert_eq!(part(&message(&[]), 1), Ok(None));
    }

    #[test]
    fn a_oneof_is_its_last_case_and_merges_only_with_itself() {
        let both = message(&[(2, b"a"), (3, b"b"), (2, b"c"), (2, b"d")]);
        assert_eq!(one_of(&both, &[2, 3]), Ok(Some((2, Cow::Borrowed(&b"cd"[..])))));
        assert_eq!(one_of(&both, &[4]), Ok(None));
    }

    #[test]
    fn the_rest_of_a_message_is_all_of_it_but_what_stands_apart() {
        let rest = digest_of_rest(&message(&[(1, b"node"), (7, b"unknown"), (3, b"log")]), &[1]);
        assert_eq!(rest, digest_of_rest(&message(&[(7, b"unknown"), (3, b"log"), (1, b"else")]), &[1]));
        assert_ne!(rest, digest_of_rest(&message(&[(3, b"log")]), &[1]));
        assert_eq!(digest_of_rest(&message(&[(1, b"node")]), &[1]), Ok(None));
    }

    #[test]
    fn a_message_that_breaks_off_is_malformed_wherever_it_is_read() {
        let broken = [0x0a, 200];
        assert!(check(&broken).is_err() && text(&broken, 5).is_err() && digest_of_rest(&broken, &[]).is_err());
    }
}
