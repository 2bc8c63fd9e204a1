//! Gateways made up to test the oracle itself: right ones, in which it must find nothing, and wrong ones, whose every
//! mistake of PROTOCOLS section 5 it must notice.

pub mod right;
mod wrong;

use switchyard::message::field::{Field, Value, fields};
use switchyard::testkit::methods::MethodId;

use crate::draw::Draw;
use crate::reading::Stream;
use crate::traffic::Traffic;
use crate::wire::Draft;

/// The streams of some made-up traffic.
fn streams(path: &str, seed: u64) -> (Vec<Stream>, Draw) {
    let mut draw = Draw::fearless(seed);
    let traffic = Traffic::draw(path, &mut draw);
    (traffic.calls.iter().map(Stream::of).collect(), draw)
}

/// Messages of several streams in any order that keeps each stream's own; with each the number of its stream.
fn interleaved(streams: &[Stream], draw: &mut Draw) -> Vec<(usize, Vec<u8>)> {
    let mut left: Vec<_> = streams.iter().map(|stream| stream.messages.iter()).collect();
    let mut order: Vec<usize> =
        streams.iter().enumerate().flat_map(|(at, stream)| vec![at; stream.messages.len()]).collect();
    draw.shuffle(&mut order);
    order.into_iter().filter_map(|at| Some((at, left[at].next()?.clone()))).collect()
}

/// Every method under its packaged name.
fn paths() -> impl Iterator<Item = &'static str> {
    MethodId::all()
        .map(|id| id.method())
        .filter(|method| method.path.contains('.'))
        .map(|method| &method.path[..])
        .filter(|path| !path.contains("grpc.health"))
}

// --- messages taken apart ---

/// The top-level fields of a message, each as it stands on the wire.
fn parts(message: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let parts = fields(message).map(|field| field.expect("the generator writes protobuf"));
    parts.map(|Field { number, range, .. }| (number, message[range].to_vec())).collect()
}

/// A message without a field, and with other bytes in front.
fn without(message: &[u8], number: u32, front: &[u8]) -> Vec<u8> {
    let rest = parts(message).into_iter().filter(|(other, _)| *other != number);
    front.iter().copied().chain(rest.flat_map(|(_, bytes)| bytes)).collect()
}

/// The values of a field.
fn values(message: &[u8], number: u32) -> Vec<Vec<u8>> {
    let all = fields(message).map(|field| field.expect("the generator writes protobuf"));
    let found = all.filter_map(|field| match field {
        Field { number: other, value: Value::Bytes(bytes), .. } if other == number => Some(bytes.to_vec()),
        _ => None,
    });
    found.collect()
}

/// A sub-message, merged if it stands there several times.
fn said(message: &[u8], number: u32) -> Option<Vec<u8>> {
    let values = values(message, number);
    (!values.is_empty()).then(|| values.concat())
}

/// A text; the last one counts, and an empty one is none.
fn text(message: &[u8], number: u32) -> Option<Vec<u8>> {
    values(message, number).pop().filter(|text| !text.is_empty())
}

/// One length-delimited field.
fn field(number: u32, value: &[u8]) -> Vec<u8> {
    Draft::default().bytes(number, value).encode()
}
