//! One attempt at relaying a call: what the caller sends goes to one backend, what that answers comes back.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::time::Sleep;

use crate::pool::door::{OpenCall, StreamSlot};
use crate::wire::client::Answer;
use crate::wire::grpc::{Code, Status};
use crate::wire::server::Answering;
use crate::wire::stream::{Break, BreakKind, Chunk, Outflow};

use super::Patience;
use super::downstream::Downstream;
use super::request::{Request, RequestEnd};
use crate::listener::reply::{self, Complaint, Tone};
use crate::listener::worker::Ear;

/// How an attempt ended.
pub enum Ended {
    /// The backend's answer was passed on to its end.
    Answered {
        /// The status the caller got.
        code: Code,
    },
    /// The caller reset the call or its connection is gone; the backend was told by a reset.
    CallerGone {
        /// Whether everything the caller had sent was passed on before.
        all_passed: bool,
    },
    /// The caller sent what cannot be passed on.
    Refused(Complaint),
    /// The backend failed before anything of its answer was passed on.
    Failed {
        /// What the caller is told if nobody else is tried.
        status: Status,
        /// Whether somebody else may be tried.
        may_retry: bool,
        /// Whether the backend has provably not acted on the call.
        untouched: bool,
    },
}

/// One attempt.
pub(super) struct Exchange<'a> {
    request: &'a mut Request,
    answering: &'a mut Answering,
    tone: Tone,
    outflow: Outflow,
    answer: Answer,
    half_closed: bool,
    outflow_gone: bool,
    ear: Ear,
    /// Set once the answer's head was passed on.
    downstream: Option<Downstream>,
    _slot: StreamSlot,
}

// === impl Exchange ===

impl<'a> Exchange<'a> {
    pub fn new(request: &'a mut Request, answering: &'a mut Answering, open: OpenCall, tone: Tone) -> Self {
        let OpenCall { outflow, answer, slot } = open;
        let ear = request.counts.closing.ear();
        Self {
            request,
            answering,
            tone,
            outflow,
            answer,
            half_closed: false,
            outflow_gone: false,
            ear,
            downstream: None,
            _slot: slot,
        }
    }

    /// Passes both directions until the answer is over, or one side is gone.
    pub async fn run(mut self, patience: Patience) -> Ended {
        let mut overall = patience.deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        let mut first_answer: Option<Pin<Box<Sleep>>> = None;
        let is_over = poll_fn(|cx| {
            if let Poll::Ready(ended) = self.poll(cx) {
                return Poll::Ready(Some(ended));
            }
            if patience.deadline.is_none() && self.half_closed && self.downstream.is_none() {
                let sleep = || Box::pin(tokio::time::sleep(patience.first_answer));
                if first_answer.get_or_insert_with(sleep).as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
            }
            match &mut overall {
                Some(overall) => overall.as_mut().poll(cx).map(|()| None),
                None => Poll::Pending,
            }
        });
        let mut is_over = pin!(is_over);
        if let Some(ended) = is_over.as_mut().await {
            return ended;
        }
        self.outflow.cancel();
        let status = Status::new(Code::DeadlineExceeded, "the backend did not answer in time");
        self.fail(status, false, false)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.request.pop(cx);
        // A call whose caller has half-closed gets its answer even while we shut down.
        if self.ear.must_end(cx) && self.request.end.is_none() {
            self.outflow.cancel();
            return Poll::Ready(self.fail(reply::going_away(), false, false));
        }
        if let Poll::Ready(ended) = self.poll_request(cx) {
            return Poll::Ready(ended);
        }
        if let Poll::Ready(ended) = self.poll_answer(cx) {
            return Poll::Ready(ended);
        }
        self.poll_caller(cx)
    }

    /// Passes on what the caller sends, as the backend's window allows.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match &self.request.end {
            Some(RequestEnd::Refused(complaint)) => {
                self.outflow.cancel();
                return Poll::Ready(Ended::Refused(complaint.clone()));
            }
            // A reset stays a reset: turned into a half-close, a truncated upload would be taken for a whole one.
            Some(RequestEnd::Gone) if self.request.unsent.is_empty() => {
                self.outflow.cancel();
                return Poll::Ready(Ended::CallerGone { all_passed: true });
            }
            _ => {}
        }
        // A backend may end a call early; what it answers says how, so a failing send is not the end.
        if !self.outflow_gone {
            self.outflow_gone = self.request.unsent.send(&mut self.outflow, cx).is_err();
            self.request.release_sent();
        }
        let all_sent = self.request.unsent.is_empty();
        if all_sent && self.request.end == Some(RequestEnd::HalfClosed) && !self.half_closed {
            self.half_closed = true;
            self.outflow_gone |= self.outflow.half_close().is_err();
        }
        Poll::Pending
    }

    /// Passes on what the backend answers.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.downstream.is_none() {
            match self.answer.poll_head(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(lost)) => return Poll::Ready(self.broken(&lost)),
                Poll::Ready(Ok(head)) => {
                    if let Some(status) = Status::from_headers(&head.headers) {
                        return Poll::Ready(self.trailers_only(status));
                    }
                    if !head.status.is_success() {
                        return Poll::Ready(self.trailers_only(Status::from_http(head.status)));
                    }
                    match self.answering.head(http::Response::from_parts(head, ())) {
                        Ok(outflow) => self.downstream = Some(Downstream::new(outflow)),
                        Err(_) => return Poll::Ready(self.caller_gone()),
                    }
                }
            }
        }
        let Some(downstream) = &mut self.downstream else { return Poll::Pending };
        while downstream.trailers.is_none() {
            match self.answer.poll_chunk(cx) {
                Poll::Pending => break,
                Poll::Ready(Chunk::Data(chunk)) => downstream.put(chunk),
                Poll::Ready(Chunk::End(trailers)) => {
                    let status = self.tone.soften(self.answer.status(trailers.as_ref()));
                    let mut passed = trailers.unwrap_or_default();
                    passed.extend(status.to_trailers());
                    downstream.trailers = Some((passed, status.code));
                }
                Poll::Ready(Chunk::Broken(lost)) => {
                    let status = self.tone.broken(&lost);
                    downstream.trailers = Some((status.to_trailers(), status.code));
                }
            }
        }
        match downstream.poll_send(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(self.caller_gone()),
            Poll::Ready(Ok((released, ended))) => {
                self.answer.release(released);
                ended.map_or(Poll::Pending, |code| Poll::Ready(Ended::Answered { code }))
            }
        }
    }

    /// Notices a caller that has gone while nothing is read from it any more.
    fn poll_caller(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.request.caller_gone {
            return Poll::Pending;
        }
        let reset = match &mut self.downstream {
            Some(downstream) => downstream.outflow.poll_reset(cx).map(|_| ()),
            None => self.answering.poll_reset(cx).map(|_| ()),
        };
        reset.map(|()| self.caller_gone())
    }

    fn caller_gone(&mut self) -> Ended {
        self.outflow.cancel();
        Ended::CallerGone { all_passed: self.request.unsent.is_empty() }
    }

    /// The backend's whole answer was a status.
    fn trailers_only(&mut self, status: Status) -> Ended {
        let is_unserved = status.code == Code::Unimplemented;
        let is_overload = matches!(status.code, Code::Unavailable | Code::ResourceExhausted);
        if (is_unserved || is_overload) && self.request.may_retry(is_unserved) {
            return Ended::Failed { status: self.tone.soften(status), may_retry: true, untouched: is_unserved };
        }
        let status = self.tone.soften(status);
        self.answering.status(&status);
        Ended::Answered { code: status.code }
    }

    fn broken(&mut self, lost: &Break) -> Ended {
        let untouched = lost.kind == BreakKind::NotProcessed || self.request.unsent.sent() == 0;
        let may_retry = self.request.may_retry(untouched);
        self.fail(self.tone.broken(lost), may_retry, untouched)
    }

    fn fail(&mut self, status: Status, may_retry: bool, untouched: bool) -> Ended {
        match &mut self.downstream {
            None => Ended::Failed { status, may_retry, untouched },
            Some(downstream) => {
                let _ = downstream.outflow.send_trailers(status.to_trailers());
                Ended::Answered { code: status.code }
            }
        }
    }
}
