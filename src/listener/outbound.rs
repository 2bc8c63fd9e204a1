//! What a call of ours says to a backend: the caller's own metadata as far as it concerns backends, and the time left.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, Request};
use tokio::time::Instant;

use crate::wire::grpc;
use crate::wire::server::Answering;

use super::identity::Identity;

/// Metadata that is passed to a backend. Everything else stays here: `host`, `x-forwarded-*`, `authorization` and the
/// like speak of the hop that ends at the gateway. `grpc-timeout` is said anew, for time has passed.
const PASSED_METADATA: [&str; 8] = [
    "agent-version",
    "grpc-encoding",
    "grpc-accept-encoding",
    "traceparent",
    "tracestate",
    "baggage",
    "sw8",
    "sw8-correlation",
];

/// What stays the same however often a call is tried.
pub(super) struct Outbound {
    /// The path of the call.
    pub path: &'static str,
    /// The caller's own deadline.
    pub deadline: Option<Instant>,
    metadata: HeaderMap,
}

impl Outbound {
    /// Passes on what the head of the inbound call says, and who it is from.
    pub fn of(path: &'static str, headers: &HeaderMap, identity: &Identity) -> Self {
        let mut metadata = HeaderMap::new();
        for name in PASSED_METADATA {
            for value in headers.get_all(name) {
                metadata.append(name, value.clone());
            }
        }
        metadata.extend(identity.metadata(headers));
        Self { path, deadline: grpc::timeout(headers).map(|timeout| Instant::now() + timeout), metadata }
    }

    /// When it is given up at the latest, counted from now: at the caller's own deadline or at ours.
    pub fn until(&self, limit: Duration) -> Instant {
        let limit = Instant::now() + limit;
        self.deadline.map_or(limit, |deadline| deadline.min(limit))
    }

    /// Says nothing of what the caller accepts: the answer is read here.
    pub fn read_here(mut self) -> Self {
        self.metadata.remove("grpc-accept-encoding");
        self
    }

    /// The head of a try that begins now.
    pub fn head(&self, authority: &str) -> Request<()> {
        let mut head = grpc::request_head(authority, self.path).expect("endpoints and routed paths are URIs");
        head.headers_mut().extend(self.metadata.clone());
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            head.headers_mut().insert("grpc-timeout", grpc::timeout_value(left));
        }
        head
    }
}

/// `future`, or `None` as soon as the caller has gone.
pub(super) async fn while_caller_waits<T>(answer: &mut Answering, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if answer.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
