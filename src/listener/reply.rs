//! What a caller is told: the only place where our errors become statuses.
//!
//! Two kinds of callers must not be told the plain truth. A SkyWalking Java agent goes silent for 30 seconds on
//! UNAVAILABLE, RESOURCE_EXHAUSTED, UNKNOWN and the two authentication codes (PROTOCOLS 3.2); for a passing trouble it
//! gets a code that costs it one batch at most. An OTLP exporter throws data away on RESOURCE_EXHAUSTED without a
//! RetryInfo and on INTERNAL (PROTOCOLS 3.4); it gets UNAVAILABLE, which it retries.

use bytes::Bytes;

use crate::message::field::Malformed;
use crate::message::frames::FrameError;
use crate::metrics::BadInput;
use crate::route::records::CutError;
use crate::wire::compression::{ACCEPTED, InflateError};
use crate::wire::grpc::{self, Code, Status};
use crate::wire::server::Answering;
use crate::wire::stream::Break;

/// Why a call is ended because of what its caller said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The metric label.
    pub reason: BadInput,
    /// What the caller is told.
    pub status: Status,
}

/// How a trouble that will pass is said to the caller of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// In codes that do not silence a SkyWalking agent.
    Agent,
    /// In the code exporters retry.
    Exporter,
    /// As it is.
    Plain,
}

/// An empty gRPC message: what every sorted method answers (PROTOCOLS "ACK-ONLY").
const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0; 5]);

/// Answers `OK` with an empty message. A caller that is gone has no use for it, so errors are not reported.
pub fn ok(mut answering: Answering) {
    if let Ok(mut outflow) = answering.head(grpc::response_head()) {
        let _ = outflow.send(EMPTY_MESSAGE);
        let _ = outflow.send_trailers(Status::ok().to_trailers());
    }
}

/// What a sorted call is told when the gateway is going away while it is still sending: nothing that was received is
/// lost, but what it sends from now on would be.
pub fn going_away() -> Status {
    Status::new(Code::Aborted, "this gateway is shutting down; open a new stream, nothing received is lost")
}

/// What a call is told when a backend refused some of its messages for good.
pub fn lost(messages: u64) -> Status {
    Status::new(Code::Internal, format!("{messages} messages of this call could not be delivered"))
}

// === impl Tone ===

impl Tone {
    /// How to speak to the callers of this path.
    pub fn of(path: &str) -> Self {
        if path.starts_with("/opentelemetry.") {
            return Tone::Exporter;
        }
        // The package-less paths of old agents have no dot before the service.
        let is_agent =
            path.starts_with("/skywalking.") || !path[1..].split('/').next().unwrap_or_default().contains('.');
        if is_agent { Tone::Agent } else { Tone::Plain }
    }

    /// No backend took the call in time.
    pub fn no_backend(self) -> Status {
        let code = match self {
            Tone::Agent => Code::DeadlineExceeded,
            Tone::Exporter | Tone::Plain => Code::Unavailable,
        };
        Status::new(code, "no backend could take the call in time; see switchyard_backend_up")
    }

    /// The listener has as many calls as the operator allows; the caller shall come again.
    pub fn too_many_calls(self) -> Complaint {
        let code = match self {
            Tone::Agent => Code::Aborted,
            Tone::Exporter | Tone::Plain => Code::Unavailable,
        };
        Complaint::new(BadInput::Limit, code, "as many calls as allowed are open here (calls_per_listener); come again")
    }

    /// The backend's stream broke after it had been used.
    pub fn broken(self, lost: &Break) -> Status {
        self.soften(Status { message: format!("the backend's stream broke: {}", lost.why), ..lost.to_status() })
    }

    /// A status a backend gave, as this caller may hear it.
    pub fn soften(self, status: Status) -> Status {
        let code = match (self, status.code) {
            (Tone::Agent, Code::Unavailable | Code::ResourceExhausted) => Code::Internal,
            (Tone::Exporter, Code::ResourceExhausted) => Code::Unavailable,
            (_, code) => return Status { code, ..status },
        };
        Status::new(code, format!("the backend said {}: {}", status.code, status.message))
    }
}

// === impl Complaint ===

impl Complaint {
    /// A complaint in words of its own.
    pub fn new(reason: BadInput, code: Code, message: impl Into<String>) -> Self {
        Self { reason, status: Status::new(code, message) }
    }

    /// The call ended inside a message.
    pub fn truncated() -> Self {
        Self::new(
            BadInput::Truncated,
            Code::Internal,
            "the call ended inside a message; the messages before it are safe",
        )
    }

    /// The call says it compresses in a way we do not know.
    pub fn unknown_encoding(name: &str) -> Self {
        let message = format!("grpc-encoding {name:?} is not known here; use one of {ACCEPTED}");
        Self::new(BadInput::Encoding, Code::Unimplemented, message)
    }

    /// A begun message did not come to its end in time.
    pub fn stalled(deadline: std::time::Duration) -> Self {
        let message = format!("a message was begun and not finished within {deadline:?} (limits.message_deadline)");
        Self::new(BadInput::Truncated, Code::DeadlineExceeded, message)
    }
}

impl From<FrameError> for Complaint {
    fn from(error: FrameError) -> Self {
        match error {
            // Not RESOURCE_EXHAUSTED: that silences agents, and what is too long once is too long for ever.
            FrameError::Oversize { .. } => Self::new(BadInput::Oversize, Code::InvalidArgument, error.to_string()),
            FrameError::BadFlag(_) => Self::new(BadInput::NotGrpc, Code::Internal, error.to_string()),
        }
    }
}

impl From<InflateError> for Complaint {
    fn from(error: InflateError) -> Self {
        match error {
            InflateError::Oversize(_) => Self::new(BadInput::Oversize, Code::InvalidArgument, error.to_string()),
            InflateError::Broken(_) | InflateError::Unannounced => {
                Self::new(BadInput::Encoding, Code::Internal, error.to_string())
            }
        }
    }
}

impl From<CutError> for Complaint {
    fn from(error: CutError) -> Self {
        match error {
            CutError::Malformed(error) => error.into(),
            CutError::Oversize(_) => Self::new(BadInput::Oversize, Code::InvalidArgument, error.to_string()),
        }
    }
}

impl From<Malformed> for Complaint {
    fn from(error: Malformed) -> Self {
        Self::new(BadInput::Malformed, Code::InvalidArgument, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_never_hears_a_code_that_silences_it_for_a_passing_trouble() {
        let silencing = [Code::Unavailable, Code::ResourceExhausted, Code::Unknown, Code::Unimplemented];
        for path in ["/skywalking.v3.ManagementService/keepAlive", "/ManagementService/keepAlive"] {
            let tone = Tone::of(path);
            let lost = Break::new(crate::wire::stream::BreakKind::ConnectionLost, "gone");
            for status in [
                tone.no_backend(),
                tone.too_many_calls().status,
                tone.broken(&lost),
                tone.soften(Status::new(Code::Unavailable, "")),
                tone.soften(Status::new(Code::ResourceExhausted, "Watermark exceeded")),
                going_away(),
            ] {
                assert!(!silencing.contains(&status.code), "{path}: {status}");
            }
        }
    }

    #[test]
    fn an_exporter_is_told_to_try_again_when_a_backend_is_overloaded() {
        let tone = Tone::of("/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        assert_eq!(tone.soften(Status::new(Code::ResourceExhausted, "")).code, Code::Unavailable);
        assert_eq!(tone.no_backend().code, Code::Unavailable);
    }
}
