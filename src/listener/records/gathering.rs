//! What the caller is told when every piece was answered for or given up.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};

use crate::message::frames::Frames;
use crate::message::run::Message;
use crate::route::records::answer::Answers;
use crate::wire::compression::Encoding;
use crate::wire::grpc::{self, Code, Status};
use crate::wire::server::Answering;

use super::attempt::Answered;
use crate::listener::reply::Tone;

/// google.rpc.Status in binary, with a RetryInfo in it if the backend says when to try again.
const DETAILS: &str = "grpc-status-details-bin";

/// The answers so far.
pub(super) struct Gathering {
    tone: Tone,
    message_bytes_max: usize,
    answers: Answers,
    /// Passed through as it is when it stays the only one.
    last: Option<Answered>,
}

// === impl Gathering ===

impl Gathering {
    pub fn new(tone: Tone, message_bytes_max: usize) -> Self {
        Self { tone, message_bytes_max, answers: Answers::default(), last: None }
    }

    pub fn answered(&mut self, answered: Answered) {
        match answered.status.code {
            Code::Ok => self.answers.accept(&self.response(&answered).unwrap_or_default()),
            _ => self.answers.refuse(self.tone.soften(answered.status.clone())),
        }
        self.last = Some(answered);
    }

    pub fn failed(&mut self, status: Status) {
        self.answers.refuse(self.tone.soften(status));
        self.last = None;
    }

    /// Whether nobody was asked.
    pub fn is_empty(&self) -> bool {
        self.answers.parts() == 0
    }

    /// Tells the caller; answers which code it was told. One that is gone has no use for it, so errors are not reported.
    pub fn reply(self, mut answering: Answering) -> Code {
        let status = self.answers.status();
        let only = self.last.filter(|_| self.answers.parts() == 1);
        match (status.code, only) {
            (Code::Ok, Some(Answered { head, body, trailers, .. })) if !body.is_empty() => {
                send(answering, Response::from_parts(head, ()), body, trailers, &status);
            }
            (Code::Ok, _) => {
                let response = Message::of_body(&self.answers.response()).framed().clone();
                send(answering, grpc::response_head(), response, HeaderMap::new(), &status);
            }
            (code, only) => match only.and_then(|answered| details(&answered, code)) {
                Some(details) => {
                    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static(DETAILS), details)]);
                    send(answering, grpc::response_head(), Bytes::new(), trailers, &status);
                }
                None => answering.status(&status),
            },
        }
        status.code
    }

    /// The plain response message; `None` when there is none that can be read.
    fn response(&self, answered: &Answered) -> Option<Bytes> {
        let mut frames = Frames::new(self.message_bytes_max);
        frames.push(answered.body.clone());
        let message = frames.next_run().ok().flatten()?.iter().next()?;
        match message.is_compressed() {
            false => Some(message.body()),
            true => {
                let encoding = Encoding::of(&answered.head.headers).ok()?;
                encoding.inflate(&message.body(), self.message_bytes_max).ok()
            }
        }
    }
}

/// The details of a status whose code is passed on as it was said: they repeat the code, and clients compare.
fn details(answered: &Answered, code: Code) -> Option<HeaderValue> {
    answered.trailers.get(DETAILS).filter(|_| answered.status.code == code).cloned()
}

fn send(mut answering: Answering, head: Response<()>, body: Bytes, mut trailers: HeaderMap, status: &Status) {
    let Ok(mut outflow) = answering.head(head) else { return };
    if !body.is_empty() {
        let _ = outflow.send(body);
    }
    trailers.extend(status.to_trailers());
    let _ = outflow.send_trailers(trailers);
}
