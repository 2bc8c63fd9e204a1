//! One answer for a request that was sent in parts: what was rejected is summed up, the worst status wins.
//!
//! The client keeps or drops the *whole* request by the status it gets (PROTOCOLS 3.4), so statuses are ranked by what
//! that costs. Worst is what it retries: told anything else it would drop the part that a backend could not take now.
//! Then comes what it does not retry: told `OK` it would take a refused part for accepted. What was accepted is said
//! again with a retry, which is the price of losing nothing. Among codes that are retried the one that every exporter
//! knows comes first.

use bytes::BytesMut;

use crate::message::field::{Value, fields, last_bytes, put_bytes, put_varint};
use crate::wire::grpc::{Code, Status};

/// What the backends said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    accepted: u32,
    failed: u32,
    /// The worst status of those that are not `OK`.
    worst: Option<Status>,
    rejected: i64,
    messages: String,
}

/// The codes exporters retry, worst first. RESOURCE_EXHAUSTED is not among them: it is dropped unless it says when to
/// try again, so it is never passed on (OAP's breaker says it bare).
const RETRIED: [Code; 6] =
    [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted, Code::Cancelled, Code::OutOfRange, Code::DataLoss];

/// Bytes of error messages that are passed on: they are for a log line.
const MESSAGES_BYTES_MAX: usize = 1024;

/// `Export*ServiceResponse.partial_success`, and in it `rejected_*` and `error_message`.
const PARTIAL_SUCCESS: u32 = 1;
const REJECTED: u32 = 1;
const ERROR_MESSAGE: u32 = 2;

// === impl Answers ===

impl Answers {
    /// A backend answered `OK` with this response. One that does not parse is an `OK` that says nothing.
    pub fn accept(&mut self, response: &[u8]) {
        self.accepted += 1;
        let Ok(Some(partial)) = last_bytes(response, PARTIAL_SUCCESS) else { return };
        let (mut rejected, mut message) = (0, &[][..]);
        for field in fields(partial).map_while(Result::ok) {
            match (field.number, field.value) {
                (REJECTED, Value::Varint(count)) => rejected = i64::from_ne_bytes(count.to_ne_bytes()).max(0),
                (ERROR_MESSAGE, Value::Bytes(text)) => message = text,
                _ => {}
            }
        }
        self.rejected = self.rejected.saturating_add(rejected);
        self.say(&String::from_utf8_lossy(message));
    }

    /// A part failed for good with this status.
    pub fn refuse(&mut self, status: Status) {
        self.failed += 1;
        let status = match status.code {
            Code::ResourceExhausted => {
                Status::new(Code::Unavailable, format!("a backend is overloaded: {}", status.message))
            }
            _ => status,
        };
        if self.worst.as_ref().is_none_or(|worst| rank(status.code) < rank(worst.code)) {
            self.worst = Some(status);
        }
    }

    /// Parts answered for so far.
    pub fn parts(&self) -> u32 {
        self.accepted + self.failed
    }

    /// The status of all of them together.
    pub fn status(&self) -> Status {
        match &self.worst {
            None => Status::ok(),
            Some(worst) if self.parts() == 1 => worst.clone(),
            Some(worst) => {
                let (accepted, parts) = (self.accepted, self.parts());
                Status::new(worst.code, format!("{accepted} of {parts} parts were accepted: {}", worst.message))
            }
        }
    }

    /// The response that goes with `OK`.
    pub fn response(&self) -> BytesMut {
        let (mut partial, mut response) = (BytesMut::new(), BytesMut::new());
        if self.rejected > 0 {
            put_varint(&mut partial, u64::from(REJECTED) << 3);
            put_varint(&mut partial, self.rejected.unsigned_abs());
        }
        if !self.messages.is_empty() {
            put_bytes(&mut partial, ERROR_MESSAGE, self.messages.as_bytes());
        }
        if !partial.is_empty() {
            put_bytes(&mut response, PARTIAL_SUCCESS, &partial);
        }
        response
    }

    /// Adds a message unless it was said already.
    fn say(&mut self, message: &str) {
        if message.is_empty() || self.messages.split("; ").any(|said| said == message) {
            return;
        }
        let between = if self.messages.is_empty() { "" } else { "; " };
        let room = MESSAGES_BYTES_MAX.saturating_sub(self.messages.len() + between.len());
        let end = (0..=message.len().min(room)).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        if end > 0 {
            self.messages.push_str(between);
            self.messages.push_str(&message[..end]);
        }
    }
}

/// Lower is worse.
fn rank(code: Code) -> usize {
    RETRIED.iter().position(|retried| *retried == code).unwrap_or(RETRIED.len() + code as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::proto::opentelemetry::proto::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };

    fn response(rejected: i64, message: &str) -> Vec<u8> {
        let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message: message.to_owned() };
        ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
    }

    fn merged(answers: &Answers) -> Option<ExportTracePartialSuccess> {
        ExportTraceServiceResponse::decode(&answers.response()[..]).unwrap().partial_success
    }

    #[test]
    fn what_backends_rejected_is_summed_and_their_messages_are_joined_once() {
        let mut answers = Answers::default();
        for (rejected, message) in [(3, "too old"), (0, ""), (4, "too long"), (1, "too old")] {
            answers.accept(&response(rejected, message));
        }
        answers.accept(b"");
        let partial = merged(&answers).unwrap();
        assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (8, "too old; too long"));
        assert_eq!((answers.status(), answers.parts()), (Status::ok(), 5));
    }

    #[test]
    fn full_success_says_nothing() {
        let mut answers = Answers::default();
        answers.accept(b"");
        answers.accept(&response(0, ""));
        assert_eq!(merged(&answers), None);
    }

    #[test]
    fn what_is_retried_wins_over_what_is_not_and_both_win_over_ok() {
        let merged = |codes: &[Code]| {
            let mut answers = Answers::default();
            for code in codes {
                match code {
                    Code::Ok => answers.accept(b""),
                    code => answers.refuse(Status::new(*code, "why")),
                }
            }
            answers.status().code
        };
        assert_eq!(merged(&[Code::Ok, Code::InvalidArgument, Code::Ok]), Code::InvalidArgument);
        assert_eq!(merged(&[Code::InvalidArgument, Code::DataLoss, Code::Internal]), Code::DataLoss);
        assert_eq!(merged(&[Code::DeadlineExceeded, Code::Unavailable]), Code::Unavailable);
        for code in Code::ALL.into_iter().filter(|code| *code != Code::Ok) {
            assert_ne!(merged(&[Code::Ok, code]), Code::Ok);
            assert_ne!(merged(&[code, Code::Ok]), Code::ResourceExhausted, "never relayed bare");
        }
    }

    #[test]
    fn an_overloaded_backend_is_worth_another_try() {
        let mut answers = Answers::default();
        answers.accept(b"");
        answers.refuse(Status::new(Code::ResourceExhausted, "Watermark exceeded"));
        let status = answers.status();
        assert_eq!(status.code, Code::Unavailable);
        assert_eq!(status.message, "1 of 2 parts were accepted: a backend is overloaded: Watermark exceeded");
    }

    proptest! {
        #[test]
        fn the_order_of_the_answers_does_not_decide_the_code(mut codes in prop::collection::vec(1u64..17, 1..8), seed in any::<u64>()) {
            let merged = |codes: &[u64]| {
                let mut answers = Answers::default();
                codes.iter().for_each(|code| answers.refuse(Status::new(Code::from_number(*code), "")));
                answers.status().code
            };
            let before = merged(&codes);
            fastrand::Rng::with_seed(seed).shuffle(&mut codes);
            prop_assert_eq!(merged(&codes), before);
        }

        #[test]
        fn any_responses_make_one_that_parses_and_is_short(responses in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..6), texts in prop::collection::vec(".{0,900}", 0..6)) {
            let mut answers = Answers::default();
            responses.iter().for_each(|response| answers.accept(response));
            texts.iter().for_each(|text| answers.accept(&response(i64::MAX, text)));
            let response = answers.response();
            prop_assert!(response.len() < MESSAGES_BYTES_MAX + 32);
            let partial = ExportTraceServiceResponse::decode(&response[..]).unwrap().partial_success.unwrap_or_default();
            prop_assert!(partial.rejected_spans >= 0 && partial.error_message.len() <= MESSAGES_BYTES_MAX);
        }
    }
}
