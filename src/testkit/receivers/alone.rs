//! The receivers that need nothing from a message's neighbours.

use super::Thrown;
use super::clerk::Clerk;
use super::reading::{digest_of_rest, elements, one_of, text, text_at};
use crate::message::field::Malformed;
use crate::testkit::attribution::digest;
use crate::testkit::methods::Path;
use crate::wire::grpc::Code;

/// A message that names its source itself.
pub(super) fn each(body: &[u8], service: Path, instance: Path, clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
    let source = clerk.source(&text_at(body, service)?, &text_at(body, instance)?);
    clerk.file(source, 0, body, &[])
}

/// A collection of segments: OAP takes it apart, so a gateway may.
pub(super) fn segments(body: &[u8], clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
    for segment in elements(body, 1) {
        let segment = segment?;
        let source = clerk.source(text(segment, 4)?, text(segment, 5)?);
        clerk.file(source, 0, segment, &[])?;
    }
    Ok(())
}

/// An event; OAP ends the call at one that names no layer (PROTOCOLS table A, 9).
pub(super) fn event(body: &[u8], clerk: &mut Clerk<'_>) -> Result<(), Thrown> {
    if text(body, 9)?.is_empty() {
        return Err(Thrown::status(Code::InvalidArgument, "layer field is required since v9.0.0"));
    }
    Ok(each(body, &[2, 1], &[2, 2], clerk)?)
}

/// Metrics of a service mesh: each is dispatched alone.
pub(super) fn mesh(body: &[u8], clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
    let Some((kind, metrics)) = one_of(body, &[1, 2])? else { return Ok(()) };
    let around = digest_of_rest(body, &[1, 2])?.unwrap_or(0).to_le_bytes();
    for (at, metric) in elements(&metrics, 1).enumerate() {
        let metric = metric?;
        let source = clerk.source(text(metric, 3)?, text(metric, 5)?);
        if at == 0 {
            clerk.count(source, 1, body.len());
            clerk.record(source, body, clerk.method().id)?;
        }
        if clerk.attributes() {
            clerk.attribute(source, 0, b"", digest([&[kind as u8][..], &around, metric]));
        }
    }
    Ok(())
}
