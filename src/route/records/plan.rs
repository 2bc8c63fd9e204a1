//! Decides which range of a request belongs into which piece, without copying any of it but what wrappers say.

use std::ops::Range;

use crate::message::field::{Field, Malformed, Value, bytes_field_len, fields, first_bytes};
use crate::route::key;

use super::resource::{Resource, within};
use super::{Place, Signal};

/// `Resource*.resource`.
pub(super) const RESOURCE: u32 = 1;

/// What stands in a wrapper by the wrapper's depth: `Resource*` in the request, `Scope*` in that, items in that.
const CHILD: [u32; 3] = [1, 2, 2];

/// How large pieces may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one piece; what cannot be cut any further may be over it, alone.
    pub piece_bytes_max: Option<usize>,
    /// Bytes of all pieces together. Wrappers are repeated in every piece, so a hostile request could make little into
    /// much.
    pub total_bytes_max: usize,
}

/// Why a request cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// It is not protobuf as far as it had to be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The pieces would be too large together.
    #[error(
        "cut into its parts the request would take over {0} bytes, for its resources and scopes stand in each part: send fewer items at once"
    )]
    Oversize(usize),
}

/// What a plan comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The request goes as it came: to this bucket, or, when there is nothing in it, to any.
    Whole(Option<usize>),
    /// It has to be cut.
    Pieces,
    /// Nothing is left of it.
    Nothing,
}

/// Which range of a request belongs into which piece.
#[derive(Debug)]
pub struct Plan<'a> {
    pub(super) request: &'a [u8],
    limits: Limits,
    /// The first one is the request itself.
    pub(super) wrappers: Vec<Wrapper>,
    /// What the wrappers say beside what they wrap, one behind the other.
    pub(super) sayings: Vec<u8>,
    pub(super) segments: Vec<Segment>,
    pub(super) drafts: Vec<Draft>,
    /// By bucket: the draft that takes what comes next.
    current: Vec<Option<u32>>,
    /// The last trace and its bucket: spans of one trace mostly follow each other.
    last_trace: Option<(&'a [u8], usize)>,
    bytes: usize,
    has_dropped: bool,
}

/// A message that wraps others.
#[derive(Debug)]
pub(super) struct Wrapper {
    pub depth: u8,
    /// The wrapper around it.
    pub parent: u32,
    /// What it says, in [`Plan::sayings`].
    pub says: Range<u32>,
    /// Its length in the request. No copy is longer, as each holds a part of what it holds.
    pub length: u32,
}

/// Neighbours that go into one piece and stand in one wrapper, tags included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub draft: u32,
    pub wrapper: u32,
    pub start: u32,
    pub end: u32,
}

/// A piece that is being planned.
#[derive(Debug)]
pub(super) struct Draft {
    pub bucket: usize,
    /// No less than it will have.
    pub bytes: usize,
    /// The wrapper its last segment stands in.
    wrapper: u32,
}

/// Where the items of an element go.
#[derive(Clone, Copy)]
enum Items<'r, 'a> {
    /// All to one bucket.
    Together(usize),
    /// By the trace id in this field, or else by their resource.
    ByTrace(u32, &'r Resource<'a>),
}

const REQUEST: u32 = 0;

// === impl Plan ===

impl<'a> Plan<'a> {
    /// Reads a request. `place` says where each `Resource*` element goes, `owner` which bucket a key belongs to; each
    /// is asked once for what it decides, `owner` once for items of one trace that follow each other.
    ///
    /// # Errors
    /// When what had to be read does not parse, or cutting would repeat too much. Errors of `place` are passed on.
    pub fn draw(
        request: &'a [u8],
        signal: Signal,
        limits: Limits,
        mut place: impl FnMut(&Resource<'a>) -> Result<Place, Malformed>,
        mut owner: impl FnMut(u64) -> usize,
    ) -> Result<Self, CutError> {
        if u32::try_from(request.len()).is_err() {
            return Err(CutError::Oversize(limits.total_bytes_max));
        }
        let mut plan = Self {
            request,
            limits,
            wrappers: Vec::new(),
            sayings: Vec::new(),
            segments: Vec::new(),
            drafts: Vec::new(),
            current: Vec::new(),
            last_trace: None,
            bytes: 0,
            has_dropped: false,
        };
        plan.wrap(request, REQUEST, 0)?;
        for (field, element) in children(request, 0) {
            let resource = Resource::of(request, element)?;
            // Another resource may be placed otherwise.
            plan.last_trace = None;
            plan.element(field.range, &resource, signal, place(&resource)?, &mut owner)?;
        }
        Ok(plan)
    }

    /// What it comes to.
    pub fn shape(&self) -> Shape {
        match (&self.drafts[..], self.has_dropped) {
            ([], false) => Shape::Whole(None),
            ([], true) => Shape::Nothing,
            ([one], false) => Shape::Whole(Some(one.bucket)),
            _ => Shape::Pieces,
        }
    }

    /// Bytes the pieces take at most, and this plan until they are cut.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn element(
        &mut self,
        range: Range<usize>,
        resource: &Resource<'a>,
        signal: Signal,
        place: Place,
        owner: &mut impl FnMut(u64) -> usize,
    ) -> Result<(), CutError> {
        let bucket = match (place, signal.trace_field()) {
            (Place::Drop, _) => {
                self.has_dropped = true;
                return Ok(());
            }
            (Place::ByItem, Some(field)) => {
                return self.apart(range, resource, Items::ByTrace(field, resource), owner);
            }
            (Place::ByItem, None) => owner(resource.key()?),
            (Place::Key(key), _) => owner(key),
            (Place::Bucket(bucket), _) => bucket,
        };
        let fits = self.limits.piece_bytes_max.is_none_or(|max| self.says(REQUEST).len() + range.len() <= max);
        match fits || signal.trace_field().is_none() {
            true => self.put(bucket, REQUEST, range),
            false => self.apart(range, resource, Items::Together(bucket), owner),
        }
    }

    /// Places the items of an element one by one.
    fn apart(
        &mut self,
        range: Range<usize>,
        resource: &Resource<'a>,
        items: Items<'_, 'a>,
        owner: &mut impl FnMut(u64) -> usize,
    ) -> Result<(), CutError> {
        let element = resource.element();
        let around = self.wrap(element, REQUEST, 1)?;
        let mut is_empty = true;
        for (scope, body) in children(element, 1) {
            is_empty = false;
            let scope_range = placed(self.request, element, scope.range);
            if !self.items(body, around, items, owner)? {
                let bucket = items.bucket_of_rest(owner)?;
                self.put(bucket, around, scope_range)?;
            }
        }
        match is_empty {
            true => self.put(items.bucket_of_rest(owner)?, REQUEST, range),
            false => Ok(()),
        }
    }

    /// Places the items of a scope; answers whether there were any.
    fn items(
        &mut self,
        scope: &'a [u8],
        parent: u32,
        items: Items<'_, 'a>,
        owner: &mut impl FnMut(u64) -> usize,
    ) -> Result<bool, CutError> {
        let wrapper = self.wrap(scope, parent, 2)?;
        // Asked for once a scope and only where an item has no trace.
        let mut rest = None;
        let mut any = false;
        let start = offset(self.request, scope);
        for (item, body) in children(scope, 2) {
            any = true;
            let bucket = match (items, self.trace_of(body, items)?) {
                (Items::Together(bucket), _) => bucket,
                (_, Some(trace)) => self.bucket_of_trace(trace, owner),
                (_, None) => match rest {
                    Some(bucket) => bucket,
                    None => *rest.insert(items.bucket_of_rest(owner)?),
                },
            };
            self.put(bucket, wrapper, start + item.range.start..start + item.range.end)?;
        }
        Ok(any)
    }

    fn trace_of(&self, item: &'a [u8], items: Items<'_, 'a>) -> Result<Option<&'a [u8]>, Malformed> {
        let Items::ByTrace(field, _) = items else { return Ok(None) };
        let trace = first_bytes(item, field).map_err(|broken| within(self.request, item, broken))?;
        Ok(trace.filter(|trace| !trace.is_empty()))
    }

    fn bucket_of_trace(&mut self, trace: &'a [u8], owner: &mut impl FnMut(u64) -> usize) -> usize {
        match self.last_trace {
            Some((last, bucket)) if last == trace => bucket,
            _ => {
                let bucket = owner(key::of_parts([trace]));
                self.last_trace = Some((trace, bucket));
                bucket
            }
        }
    }

    /// Notes a wrapper and what it says beside what it wraps. Its whole top level is read, and known to parse from then
    /// on.
    fn wrap(&mut self, body: &'a [u8], parent: u32, depth: u8) -> Result<u32, Malformed> {
        let start = self.sayings.len() as u32;
        for field in fields(body) {
            let field = field.map_err(|broken| within(self.request, body, broken))?;
            if !is_child(&field, depth) {
                self.sayings.extend_from_slice(&body[field.range]);
            }
        }
        let says = start..self.sayings.len() as u32;
        self.bytes += says.len() + size_of::<Wrapper>();
        self.wrappers.push(Wrapper { depth, parent, says, length: body.len() as u32 });
        Ok(self.wrappers.len() as u32 - 1)
    }

    /// What a wrapper says beside what it wraps.
    pub(super) fn says(&self, wrapper: u32) -> &[u8] {
        let says = &self.wrappers[wrapper as usize].says;
        &self.sayings[says.start as usize..says.end as usize]
    }

    /// Plans a range of the request for a bucket, in its piece or, where that is full, in a new one.
    fn put(&mut self, bucket: usize, wrapper: u32, range: Range<usize>) -> Result<(), CutError> {
        if bucket >= self.current.len() {
            self.current.resize(bucket + 1, None);
        }
        let max = self.limits.piece_bytes_max.unwrap_or(usize::MAX);
        let cost = |at: u32| {
            let draft = &self.drafts[at as usize];
            let cost = self.opening_bytes(draft.wrapper, wrapper) + range.len();
            (draft.bytes + cost <= max).then_some((at, cost))
        };
        let (draft, cost) = match self.current[bucket].and_then(cost) {
            Some(fitting) => fitting,
            None => {
                let at = self.drafts.len() as u32;
                self.current[bucket] = Some(at);
                self.drafts.push(Draft { bucket, bytes: 0, wrapper: REQUEST });
                (at, self.says(REQUEST).len() + self.opening_bytes(REQUEST, wrapper) + range.len())
            }
        };
        let planned = &mut self.drafts[draft as usize];
        planned.bytes += cost;
        planned.wrapper = wrapper;
        self.bytes += cost;
        let (start, end) = (range.start as u32, range.end as u32);
        match self.segments.last_mut() {
            Some(last) if last.draft == draft && last.wrapper == wrapper && last.end == start => last.end = end,
            _ => {
                self.bytes += size_of::<Segment>();
                self.segments.push(Segment { draft, wrapper, start, end });
            }
        }
        match self.bytes > self.limits.total_bytes_max && self.drafts.len() > 1 {
            true => Err(CutError::Oversize(self.limits.total_bytes_max)),
            false => Ok(()),
        }
    }

    /// Bytes it takes to begin `to` in a piece whose last segment stands in `from`.
    fn opening_bytes(&self, from: u32, to: u32) -> usize {
        if to == REQUEST || from == to {
            return 0;
        }
        let parent = self.wrappers[to as usize].parent;
        if parent == REQUEST {
            // From a scope back to the resource around it nothing is said again.
            let is_open = self.wrappers[from as usize].parent == to;
            return if is_open { 0 } else { self.header_bytes(to) };
        }
        let is_open = from == parent || self.wrappers[from as usize].parent == parent;
        self.header_bytes(to) + if is_open { 0 } else { self.header_bytes(parent) }
    }

    /// Tag, length and what the wrapper says.
    fn header_bytes(&self, wrapper: u32) -> usize {
        let length = self.wrappers[wrapper as usize].length as usize;
        bytes_field_len(1, length) - length + self.says(wrapper).len()
    }
}

// === impl Items ===

impl Items<'_, '_> {
    /// Where something goes that has no trace.
    fn bucket_of_rest(self, owner: &mut impl FnMut(u64) -> usize) -> Result<usize, Malformed> {
        match self {
            Items::Together(bucket) => Ok(bucket),
            Items::ByTrace(_, resource) => resource.key().map(owner),
        }
    }
}

/// What a wrapper of this depth wraps, where all its top level is known to parse.
fn children(body: &[u8], depth: u8) -> impl Iterator<Item = (Field<'_>, &[u8])> {
    fields(body).map_while(Result::ok).filter_map(move |field| match field.value {
        Value::Bytes(child) if is_child(&field, depth) => Some((field, child)),
        _ => None,
    })
}

fn is_child(field: &Field<'_>, depth: u8) -> bool {
    field.number == CHILD[usize::from(depth)] && matches!(field.value, Value::Bytes(_))
}

/// The field number of what a wrapper of this depth is to the one around it.
pub(super) fn number(depth: u8) -> u32 {
    CHILD[usize::from(depth) - 1]
}

/// Where `part` begins in `whole`, a slice of which it is.
pub(super) fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

/// A range of `part` as a range of `whole`.
fn placed(whole: &[u8], part: &[u8], range: Range<usize>) -> Range<usize> {
    let start = offset(whole, part);
    start + range.start..start + range.end
}
