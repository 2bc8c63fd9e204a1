//! One inbound call whose single message is a batch: read whole, cut by key, each piece sent to its owner, answered once.
//!
//! The caller's reply waits for every piece: its status and `partial_success` decide what an exporter does with the
//! batch (PROTOCOLS 1.2.9 and 3.4). A piece whose backend failed is cut again for the backends that are left, so that
//! each of its keys goes where the other requests' items with that key go by then.

mod attempt;
mod course;
mod division;
mod gathering;
mod reading;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::message::flow::Flow;
use crate::metrics::LostReason;
use crate::pool::Member;
use crate::route::contract::Replay;
use crate::route::rule::decide::Rules;
use crate::wire::compression::Encoding;
use crate::wire::grpc::{Code, Status};
use crate::wire::server::Call;
use crate::wire::stream::BreakKind;

use super::call::Routed;
use super::counts::Counts;
use super::outbound::{Outbound, while_caller_waits};
use super::reply::{Complaint, Tone};
use super::terms::Terms;
use super::worker::Worker;
use attempt::{Answered, Attempt};
use course::Courses;
use division::Piece;
use gathering::Gathering;
use reading::Reading;

/// What the pieces of one call share.
struct Batch {
    worker: Rc<Worker>,
    terms: Rc<Terms>,
    outbound: Outbound,
    flow: Flow,
    replay: Replay,
    courses: Courses,
    tone: Tone,
    /// How the message is compressed if it is, or the name of what we do not know.
    encoding: Result<Encoding, String>,
    /// When the last piece has failed or was answered.
    until: Instant,
}

/// Why a call ends without an answer of any backend.
enum Ended {
    /// Because of what the caller sent.
    Refused(Complaint),
    /// Because of us.
    Failed(Status),
    /// Nobody listens any more.
    Gone,
}

/// What became of a piece in one step.
enum Step {
    /// These have their course, each to be divided by its own key.
    Ruled(Vec<Piece>),
    /// These are to be sent.
    Divided(Vec<Piece>),
    /// Another backend has to be found for it.
    Again(Piece),
    /// A backend has answered for it.
    Answered(Box<Answered>),
    /// It is given up.
    Failed(Status),
    /// It cannot be read. Nothing was sent by then, unless a part of it had to wait for memory or for a backend.
    Refused(Complaint),
}

type Working<'a> = Pin<Box<dyn Future<Output = Step> + 'a>>;

/// Reads, cuts, sends and replies. A caller that goes away takes everything that is not answered with it.
pub(super) async fn run(routed: Routed) {
    let Call { head, inflow, mut answer } = routed.call;
    let (worker, terms, listener) = (routed.worker, routed.terms, routed.entry.listener());
    let method = &routed.route.method;
    let outbound = Outbound::of(method.path, &head.headers, &terms.decided.identity).read_here();
    let rules = Rules::of(&routed.route.rules, listener, &head.headers);
    let courses = Courses::new(rules, &routed.route, &terms, &routed.callers);
    let mut counts = Counts::open(Rc::clone(&worker), routed.closing, routed.received, routed.entry);
    let reading = Reading::new(inflow, &counts, Rc::clone(&terms), method.flow, outbound.deadline);
    let serving = async {
        let message = reading.message(&mut counts).await?;
        let until = outbound.deadline.unwrap_or_else(|| Instant::now() + terms.limits().relay_deadline);
        let batch = Batch {
            worker: Rc::clone(&worker),
            terms,
            outbound,
            flow: method.flow,
            replay: method.contract.replay,
            courses,
            tone: Tone::of(method.path),
            encoding: Encoding::of(&head.headers),
            until,
        };
        let gathered = batch.deliver(message, &counts).await?;
        Ok((gathered, batch.courses.left_out()))
    };
    match while_caller_waits(&mut answer, serving).await {
        Some(Ok((gathered, left_out))) => {
            let left_out = left_out.filter(|_| gathered.is_empty());
            let code = gathered.reply(answer);
            match left_out {
                Some(reason) => counts.lose(reason),
                None if code == Code::Ok => counts.settle(),
                None => {}
            }
            worker.replied(listener, code);
        }
        Some(Err(Ended::Refused(complaint))) => {
            counts.lose(LostReason::Malformed);
            worker.refuse(answer, listener, &complaint);
        }
        Some(Err(Ended::Failed(status))) => worker.reply(answer, listener, &status),
        Some(Err(Ended::Gone)) | None => {}
    }
}

// === impl Batch ===

impl Batch {
    /// Brings a message to backends, in one piece or many, until each piece was answered for or given up.
    async fn deliver(&self, message: Piece, counts: &Counts) -> Result<Gathering, Ended> {
        let mut gathering = Gathering::new(self.tone, self.terms.limits().message_bytes_max);
        let mut working: FuturesUnordered<Working<'_>> = FuturesUnordered::new();
        working.push(Box::pin(self.divide(message)));
        while let Some(step) = working.next().await {
            match step {
                Step::Ruled(pieces) => {
                    for piece in pieces {
                        working.push(Box::pin(self.divide(piece)));
                    }
                }
                Step::Divided(pieces) => {
                    for piece in pieces {
                        working.push(Box::pin(self.send(piece, counts)));
                    }
                }
                Step::Again(piece) => working.push(Box::pin(self.divide(piece))),
                Step::Answered(answered) => gathering.answered(*answered),
                Step::Failed(status) => gathering.failed(status),
                Step::Refused(complaint) => return Err(Ended::Refused(complaint)),
            }
        }
        Ok(gathering)
    }

    /// One try with one backend.
    async fn send(&self, piece: Piece, counts: &Counts) -> Step {
        let course = piece.course.clone().unwrap_or_else(|| unreachable!("a piece is sent once it has a course"));
        let pool = &course.pool;
        let head = |authority: &str| self.outbound.head(authority);
        let opening = async {
            match &piece.member {
                Some(member) => pool.open_on(member, self.flow, head).await.map(|call| (Rc::clone(member), call)),
                None => Some(pool.open(self.flow, self.outbound.path, course.caller, piece.failed, head).await),
            }
        };
        let (member, call) = match tokio::time::timeout_at(self.until, opening).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Step::Again(piece),
            Err(_) => return Step::Failed(self.tone.no_backend()),
        };
        let carried = pool.carry(&member, self.flow, piece.bytes);
        let backend = member.backend();
        let mut attempt = Attempt::new(call, &piece.chunks);
        let patience = pool.settings().trip.answer_deadline;
        let answering = attempt.answer(patience, backend);
        let answered = match tokio::time::timeout_at(self.until, answering).await {
            Ok(answered) => answered,
            // It may be at work on the piece: saying it elsewhere would count it twice, and nobody waits any more.
            Err(_) => return Step::Failed(Status::new(Code::DeadlineExceeded, "the backend did not answer in time")),
        };
        drop(carried);
        let answered = match answered {
            Ok(answered) => answered,
            Err(lost) => {
                if matches!(lost.kind, BreakKind::Reset | BreakKind::Cancelled) {
                    backend.failed(Code::Internal);
                }
                let untouched = lost.kind == BreakKind::NotProcessed || !attempt.has_sent();
                let again = self.again(piece, &member, untouched, counts);
                return again.unwrap_or_else(|| Step::Failed(self.tone.broken(&lost)));
            }
        };
        let again = match answered.status.code {
            Code::Ok => {
                backend.answered(answered.waited);
                backend.relayed(1, piece.bytes as u64);
                None
            }
            Code::Unimplemented => {
                backend.refused(Code::Unimplemented, false);
                backend.lack(self.outbound.path);
                self.again(piece, &member, true, counts)
            }
            code @ (Code::Unavailable | Code::ResourceExhausted) => {
                backend.failed(code);
                self.again(piece, &member, false, counts)
            }
            code => {
                backend.refused(code, false);
                None
            }
        };
        again.unwrap_or_else(|| Step::Answered(Box::new(answered)))
    }

    /// A backend has failed a piece: another one gets it if that is allowed and there is one.
    fn again(&self, mut piece: Piece, member: &Member, untouched: bool, counts: &Counts) -> Option<Step> {
        let course = piece.course.clone()?;
        let is_allowed = untouched || self.replay == Replay::Always;
        let goes_on = is_allowed && Instant::now() < self.until && course.pool.strike(&mut piece.failed, member);
        if !goes_on {
            return None;
        }
        if !untouched {
            counts.sent_again();
        }
        Some(Step::Again(piece))
    }
}

impl From<Complaint> for Ended {
    fn from(complaint: Complaint) -> Self {
        Ended::Refused(complaint)
    }
}
