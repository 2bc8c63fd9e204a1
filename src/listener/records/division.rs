//! Divides a batch among backends: who owns which key, what the pieces cost, and their form on the wire.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::message::budget::Permit;
use crate::message::run::{Message, PREFIX_BYTES};
use crate::pool::Member;
use crate::pool::open::Owners;
use crate::route::records::{self, Limits, Plan, Resource, Shape};
use crate::wire::compression::Encoding;
use crate::wire::grpc::Status;

use super::course::Course;
use super::{Batch, Step};
use crate::listener::reply::Complaint;

/// A batch or a part of one, on its way to one backend.
pub(super) struct Piece {
    /// The message with its prefix, in chunks.
    pub chunks: Vec<Bytes>,
    pub bytes: usize,
    /// The backend that owns what is in it; `None`: any.
    pub member: Option<Rc<Member>>,
    /// The pool it goes to and by which key, once the operator's rules were asked.
    pub course: Option<Rc<Course>>,
    /// Backends that have failed it, a bit each.
    pub failed: u64,
    permit: Permit,
}

/// What came of trying to divide a piece.
enum Division {
    Into(Vec<Piece>),
    /// The pieces need a permit for so many bytes more.
    Lacks(Piece, usize),
}

/// A request as it is read.
struct Read {
    /// How it came.
    encoding: Encoding,
    plain: Bytes,
}

/// Whether a piece need not be looked at.
fn goes_as_it_is(piece: &Piece, course: &Course) -> bool {
    let bytes_max = course.pool.settings().message_bytes_max;
    let fits = || bytes_max.is_none_or(|max| !piece.is_compressed() && piece.bytes - PREFIX_BYTES <= max);
    course.records.key.is_none() && fits()
}

impl Piece {
    /// The message of a call as it came.
    pub fn of_message(chunks: Vec<Bytes>, bytes: usize, permit: Permit) -> Self {
        Self { chunks, bytes, member: None, course: None, failed: 0, permit }
    }

    fn is_compressed(&self) -> bool {
        self.chunks.first().and_then(|chunk| chunk.first()) == Some(&1)
    }

    /// All of it in one chunk; copied only where it came in several.
    fn framed(&self) -> Bytes {
        if let [only] = &self.chunks[..] {
            return only.clone();
        }
        let mut framed = BytesMut::with_capacity(self.bytes);
        self.chunks.iter().for_each(|chunk| framed.extend_from_slice(chunk));
        framed.freeze()
    }
}

impl Batch {
    /// Divides a piece: by the operator's rules if that has not been done, then among the backends there are now,
    /// without those that have failed it.
    pub(super) async fn divide(&self, mut piece: Piece) -> Step {
        if piece.course.is_none() {
            piece.course = self.courses.settled();
        }
        let is_ruled = piece.course.is_some();
        loop {
            // Nothing that is read for this outlives the wait for its permit: it would be memory nobody counts.
            let division = match &piece.course {
                None => self.by_rules(piece),
                Some(course) if goes_as_it_is(&piece, course) => return Step::Divided(vec![piece]),
                Some(course) => match self.owners(&Rc::clone(course), piece.failed).await {
                    Ok(owners) => self.among(piece, owners.as_ref()),
                    Err(status) => return Step::Failed(status),
                },
            };
            let lacking = match division {
                Ok(Division::Into(pieces)) if is_ruled => return Step::Divided(pieces),
                Ok(Division::Into(pieces)) => return Step::Ruled(pieces),
                Ok(Division::Lacks(same, lacking)) => {
                    piece = same;
                    lacking
                }
                Err(complaint) => return Step::Refused(complaint),
            };
            let reserve = self.worker.shared.budget.reserve(self.flow, lacking);
            match self.worker.wait_for_permit(self.until, reserve).await {
                Ok(permit) => piece.permit.merge(permit),
                Err(status) => return Step::Failed(status),
            }
        }
    }

    /// Who owns which key now; `None` where no key decides.
    async fn owners(&self, course: &Course, failed: u64) -> Result<Option<Owners>, Status> {
        if course.records.key.is_none() {
            return Ok(None);
        }
        let owners = course.pool.owners(self.flow, self.outbound.path, failed);
        tokio::time::timeout_at(self.until, owners).await.map(Some).map_err(|_| self.tone.no_backend())
    }

    /// Gives each resource its course.
    fn by_rules(&self, mut piece: Piece) -> Result<Division, Complaint> {
        let read = self.read(&piece)?;
        let limits = Limits { piece_bytes_max: None, total_bytes_max: self.worker.shared.budget.permit_bytes_max() };
        let courses = &self.courses;
        let (mut nth, current) = (0, Cell::new(0));
        let place = |resource: &Resource<'_>| {
            let (place, rule) = courses.place(nth, resource, &read.plain);
            nth += 1;
            current.set(rule);
            Ok(place)
        };
        let owner = |key| courses.bucket_of(key, current.get());
        let plan = Plan::draw(&read.plain, courses.signal(), limits, place, owner)?;
        match plan.shape() {
            Shape::Nothing => return Ok(Division::Into(Vec::new())),
            Shape::Whole(bucket) => {
                // A batch of nothing goes where what no rule asks for goes.
                piece.course = courses.of_bucket(bucket.unwrap_or(courses.last()));
                return Ok(Division::Into(piece.course.is_some().then_some(piece).into_iter().collect()));
            }
            Shape::Pieces => {}
        }
        self.cut(piece, &plan, &read, |bucket| courses.of_bucket(bucket).map(|course| (course, None)))
    }

    /// Gives each key to its owner, and nobody more than fits.
    fn among(&self, mut piece: Piece, owners: Option<&Owners>) -> Result<Division, Complaint> {
        let course = piece.course.clone().expect("chosen before");
        let read = self.read(&piece)?;
        let piece_bytes_max = course.pool.settings().message_bytes_max;
        let limits = Limits { piece_bytes_max, total_bytes_max: self.worker.shared.budget.permit_bytes_max() };
        // Without a key everything is one bucket and nobody's.
        let owner = |key| owners.map_or(0, |owners| owners.of(key));
        let place = |resource: &Resource<'_>| course.records.place(resource);
        let plan = Plan::draw(&read.plain, course.records.signal, limits, place, owner)?;
        match plan.shape() {
            Shape::Nothing => return Ok(Division::Into(Vec::new())),
            Shape::Whole(bucket) => {
                piece.member = bucket.and_then(|bucket| Some(owners?.member(bucket)));
                return Ok(Division::Into(vec![piece]));
            }
            Shape::Pieces => {}
        }
        self.cut(piece, &plan, &read, |bucket| Some((Rc::clone(&course), owners.map(|owners| owners.member(bucket)))))
    }

    /// Cuts a piece by a plan; `to` says where a bucket's piece goes, if anywhere.
    fn cut(
        &self,
        mut piece: Piece,
        plan: &Plan<'_>,
        read: &Read,
        to: impl Fn(usize) -> Option<(Rc<Course>, Option<Rc<Member>>)>,
    ) -> Result<Division, Complaint> {
        let lacking = plan.bytes().saturating_sub(piece.permit.bytes());
        if lacking > 0 {
            match self.worker.shared.budget.try_reserve(self.flow, lacking) {
                Some(permit) => piece.permit.merge(permit),
                None => return Ok(Division::Lacks(piece, lacking)),
            }
        }
        let mut part = |cut: records::Piece| {
            let (course, member) = to(cut.bucket)?;
            let framed = match read.encoding {
                Encoding::Identity => cut.framed,
                Encoding::Gzip => {
                    Message::of_compressed(&read.encoding.deflate(cut.framed.slice(PREFIX_BYTES..))).framed().clone()
                }
            };
            Some(Piece {
                bytes: framed.len(),
                permit: piece.permit.split(framed.len()),
                chunks: vec![framed],
                course: Some(course),
                member,
                failed: piece.failed,
            })
        };
        Ok(Division::Into(plan.cut().into_iter().filter_map(&mut part).collect()))
    }

    /// The request of a piece, decompressed.
    fn read(&self, piece: &Piece) -> Result<Read, Complaint> {
        let encoding = self.encoding_of(piece)?;
        let framed = piece.framed();
        let plain = match encoding {
            Encoding::Identity => framed.slice(PREFIX_BYTES..),
            Encoding::Gzip => encoding.inflate(&framed[PREFIX_BYTES..], self.terms.limits().message_bytes_max)?,
        };
        Ok(Read { encoding, plain })
    }

    /// How a piece that has to be read is compressed.
    fn encoding_of(&self, piece: &Piece) -> Result<Encoding, Complaint> {
        if !piece.is_compressed() {
            return Ok(Encoding::Identity);
        }
        match &self.encoding {
            Ok(Encoding::Gzip) => Ok(Encoding::Gzip),
            Ok(Encoding::Identity) => Err(crate::wire::compression::InflateError::Unannounced.into()),
            Err(name) => Err(Complaint::unknown_encoding(name)),
        }
    }
}
