//! `grpc.health.v1` for the process as a whole, the service named "".

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Answers from one flag.
///
/// tonic-health has the generated server; its reporter is not used because setting it is async, and because its
/// `Watch` ends with NOT_FOUND for a name it does not know where `health.proto` asks for a message SERVICE_UNKNOWN
/// on a stream that stays open.
pub(super) struct Overall(watch::Receiver<bool>);

impl Overall {
    /// Health that follows `serving`.
    pub(super) fn new(serving: watch::Receiver<bool>) -> Self {
        Self(serving)
    }
}

#[tonic::async_trait]
impl Health for Overall {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_overall(&request) {
            return Err(Status::not_found("only the service \"\" is known, the gateway as a whole"));
        }
        Ok(Response::new(answer(*self.0.borrow())))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        if !is_overall(&request) {
            let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
            return Ok(Response::new(stream::iter([Ok(unknown)]).chain(stream::pending()).boxed()));
        }
        let mut serving = self.0.clone();
        serving.mark_changed();
        let answers = stream::unfold(serving, |mut serving| async {
            serving.changed().await.ok()?;
            let now = answer(*serving.borrow_and_update());
            Some((Ok(now), serving))
        });
        Ok(Response::new(answers.boxed()))
    }
}

fn is_overall(request: &Request<HealthCheckRequest>) -> bool {
    request.get_ref().service.is_empty()
}

fn answer(serving: bool) -> HealthCheckResponse {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}
