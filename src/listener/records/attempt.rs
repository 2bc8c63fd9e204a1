//! One unary call to one backend: a piece goes out, an answer comes back.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, response};
use tokio::time::{Instant, Sleep};

use crate::pool::backend::{Backend, Owed};
use crate::pool::door::OpenCall;
use crate::wire::grpc::{Code, Status};
use crate::wire::stream::{Break, BreakKind, Chunk};
use crate::wire::unsent::Unsent;

/// Bytes of an answer that are kept. A response is a count and a message for a log line.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// How often an answer that is owed is looked for.
const LOOK: Duration = Duration::from_millis(250);

/// A call that is under way. Dropped before its end it is cancelled: streams that nobody holds are reset.
pub(super) struct Attempt {
    call: OpenCall,
    unsent: Unsent,
    half_closed: Option<Instant>,
    /// The backend takes nothing more; its answer says why.
    outflow_gone: bool,
    head: Option<response::Parts>,
    body: BytesMut,
}

/// What a backend answered.
pub(super) struct Answered {
    pub head: response::Parts,
    /// Framed messages; empty when they were too long to keep.
    pub body: Bytes,
    pub trailers: HeaderMap,
    pub status: Status,
    /// From our half-close to its status.
    pub waited: Duration,
}

// === impl Attempt ===

impl Attempt {
    pub fn new(call: OpenCall, chunks: &[Bytes]) -> Self {
        let unsent = chunks.iter().cloned().collect();
        let (body, head) = (BytesMut::new(), None);
        Self { call, unsent, half_closed: None, outflow_gone: false, head, body }
    }

    /// Whether the backend can have seen any of it.
    pub fn has_sent(&self) -> bool {
        self.unsent.sent() > 0
    }

    /// The answer, or how the stream broke. Meanwhile `backend` is doubted when it is silent, and late once the answer takes
    /// longer than `patience`.
    pub async fn answer(&mut self, patience: Duration, backend: &Backend) -> Result<Answered, Break> {
        let mut is_late = false;
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(answered) = self.poll(cx) {
                return Poll::Ready(answered);
            }
            if let Some(since) = self.half_closed.filter(|_| !is_late) {
                let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK.min(patience))));
                while !is_late && timer.as_mut().poll(cx).is_ready() {
                    let now = Instant::now();
                    is_late = now >= since + patience;
                    match is_late {
                        true => backend.late(),
                        false => backend.owes_since(Owed::Answer, since, patience, now),
                    }
                    timer.as_mut().reset((now + LOOK).min(since + patience).max(now));
                }
            }
            Poll::Pending
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, Break>> {
        self.send(cx);
        let answered = ready!(self.poll_answer(cx))?;
        if answered.status.code == Code::Ok && self.half_closed.is_none() {
            let why = "the backend answered OK before it had all of the request";
            return Poll::Ready(Err(Break::new(BreakKind::Reset, why)));
        }
        Poll::Ready(Ok(answered))
    }

    fn send(&mut self, cx: &mut Context<'_>) {
        if self.outflow_gone || self.half_closed.is_some() {
            return;
        }
        self.outflow_gone = self.unsent.send(&mut self.call.outflow, cx).is_err();
        if self.unsent.is_empty() && !self.outflow_gone {
            match self.call.outflow.half_close() {
                Ok(()) => self.half_closed = Some(Instant::now()),
                Err(_) => self.outflow_gone = true,
            }
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, Break>> {
        if self.head.is_none() {
            let head = ready!(self.call.answer.poll_head(cx))?;
            let only_status = match Status::from_headers(&head.headers) {
                None if !head.status.is_success() => Some(Status::from_http(head.status)),
                said => said,
            };
            if let Some(status) = only_status {
                let trailers = head.headers.clone();
                return Poll::Ready(Ok(self.end(head, trailers, status)));
            }
            self.head = Some(head);
        }
        loop {
            match ready!(self.call.answer.poll_chunk(cx)) {
                Chunk::Data(chunk) => {
                    self.call.answer.release(chunk.len());
                    self.body.extend_from_slice(&chunk);
                    // What is too long is still read, for its status counts.
                    if self.body.len() > ANSWER_BYTES_MAX {
                        self.body.clear();
                    }
                }
                Chunk::End(trailers) => {
                    let status = self.call.answer.status(trailers.as_ref());
                    let head = self.head.take().expect("read above");
                    return Poll::Ready(Ok(self.end(head, trailers.unwrap_or_default(), status)));
                }
                Chunk::Broken(lost) => return Poll::Ready(Err(lost)),
            }
        }
    }

    fn end(&mut self, head: response::Parts, trailers: HeaderMap, status: Status) -> Answered {
        let waited = self.half_closed.map(|since| since.elapsed()).unwrap_or_default();
        Answered { head, body: std::mem::take(&mut self.body).freeze(), trailers, status, waited }
    }
}
