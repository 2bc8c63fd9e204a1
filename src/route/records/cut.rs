//! Copies the ranges of a plan into pieces, wrappers around them.

use bytes::{Bytes, BytesMut};

use crate::message::field::bytes_field_len;
use crate::message::run::{PREFIX_BYTES, put_prefix};

use super::plan::{Plan, number};

/// A request made of parts of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it goes.
    pub bucket: usize,
    /// The request with its gRPC prefix.
    pub framed: Bytes,
}

/// A piece that is being written.
struct Writing {
    out: BytesMut,
    /// The wrappers that are open, resource and scope.
    resource: Option<Open>,
    scope: Option<Open>,
}

/// A wrapper whose length is not known yet.
#[derive(Clone, Copy)]
struct Open {
    wrapper: u32,
    /// Where its body begins.
    start: usize,
    /// Bytes kept free for its length; the length of the whole wrapper in the request needs no more.
    width: usize,
}

impl Plan<'_> {
    /// The pieces, in the order in which they were begun.
    pub fn cut(&self) -> Vec<Piece> {
        let mut pieces: Vec<Writing> =
            self.drafts.iter().map(|draft| Writing::new(self.says(0), draft.bytes)).collect();
        for segment in &self.segments {
            let piece = &mut pieces[segment.draft as usize];
            piece.stand_in(self, segment.wrapper);
            piece.out.extend_from_slice(&self.request[segment.start as usize..segment.end as usize]);
        }
        let finished = |(draft, piece): (&super::plan::Draft, Writing)| piece.finish(draft.bucket);
        self.drafts.iter().zip(pieces).map(finished).collect()
    }
}

// === impl Writing ===

impl Writing {
    fn new(request_says: &[u8], bytes: usize) -> Self {
        let mut out = BytesMut::with_capacity(PREFIX_BYTES + bytes);
        put_prefix(&mut out, 0);
        out.extend_from_slice(request_says);
        Self { out, resource: None, scope: None }
    }

    /// Closes and opens wrappers until the end of `out` stands in this one.
    fn stand_in(&mut self, plan: &Plan<'_>, wrapper: u32) {
        let innermost = self.scope.or(self.resource).map_or(0, |open| open.wrapper);
        if innermost == wrapper {
            return;
        }
        self.close_scope();
        let Wanted { resource, scope } = Wanted::of(plan, wrapper);
        if self.resource.map(|open| open.wrapper) != resource {
            self.close_resource();
            self.resource = resource.map(|wrapper| self.open(plan, wrapper));
        }
        self.scope = scope.map(|wrapper| self.open(plan, wrapper));
    }

    fn open(&mut self, plan: &Plan<'_>, wrapper: u32) -> Open {
        let around = &plan.wrappers[wrapper as usize];
        let width = length_width(around.length as usize);
        // Field numbers are below 16: one byte of tag.
        self.out.extend_from_slice(&[(number(around.depth) << 3 | 2) as u8]);
        self.out.extend_from_slice(&[0; 5][..width]);
        let start = self.out.len();
        self.out.extend_from_slice(plan.says(wrapper));
        Open { wrapper, start, width }
    }

    fn close_scope(&mut self) {
        if let Some(open) = self.scope.take() {
            self.close(open);
        }
    }

    fn close_resource(&mut self) {
        if let Some(open) = self.resource.take() {
            self.close(open);
        }
    }

    /// Writes the length into the place kept for it. The body moves up where the place is too wide, so that what leaves
    /// is encoded as anybody would; mostly it is not.
    fn close(&mut self, Open { start, width, .. }: Open) {
        let length = self.out.len() - start;
        let needed = length_width(length);
        let tail = start - width + needed;
        if needed < width {
            self.out.copy_within(start.., tail);
            self.out.truncate(tail + length);
        }
        let place = &mut self.out[start - width..tail];
        for (at, byte) in place.iter_mut().enumerate() {
            *byte = (length >> (7 * at)) as u8 & 0x7f | 0x80;
        }
        if let Some(last) = place.last_mut() {
            *last &= 0x7f;
        }
    }

    fn finish(mut self, bucket: usize) -> Piece {
        self.close_scope();
        self.close_resource();
        let length = (self.out.len() - PREFIX_BYTES) as u32;
        self.out[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
        Piece { bucket, framed: self.out.freeze() }
    }
}

/// The wrappers that have to be open around something that stands in one.
struct Wanted {
    resource: Option<u32>,
    scope: Option<u32>,
}

impl Wanted {
    fn of(plan: &Plan<'_>, wrapper: u32) -> Self {
        let around = &plan.wrappers[wrapper as usize];
        match around.depth {
            0 => Self { resource: None, scope: None },
            1 => Self { resource: Some(wrapper), scope: None },
            _ => Self { resource: Some(around.parent), scope: Some(wrapper) },
        }
    }
}

/// Bytes of a length as a varint.
fn length_width(length: usize) -> usize {
    bytes_field_len(1, length) - length - 1
}
