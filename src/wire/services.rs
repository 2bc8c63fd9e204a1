//! Mounts the gRPC services that have a schema (health, reflection) beside the data path.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either, select};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::sync::{mpsc, watch};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder as Reflection;
use tower_service::Service;

use super::server::{Answering, Call};
use super::stream::{Break, Chunk, Inflow, Outflow};

mod health;

use health::Overall;

/// The services every listener answers besides its routes; clones share one health.
#[derive(Clone)]
pub struct Services {
    mounted: Arc<[(&'static str, Mounted)]>,
    serving: Arc<watch::Sender<bool>>,
}

/// A descriptor set given to [`Services::new`] does not read.
#[derive(Debug, thiserror::Error)]
#[error("a protobuf descriptor set for reflection does not read: {0}")]
pub struct DescriptorError(#[from] tonic_reflection::server::Error);

/// One tonic service with its type forgotten.
type Mounted = Box<dyn Fn(Request<RequestBody>) -> BoxFuture<'static, Response<tonic::body::Body>> + Send + Sync>;

/// The body of a call on its way into a tonic service, which may be of another thread for all it knows.
struct RequestBody(mpsc::Receiver<Result<Frame<Bytes>, Break>>);

/// Chunks on their way there: the service holds at most one message of at most 4 MiB (tonic's limit) besides.
const CHUNKS_MAX: usize = 1;

// === impl Services ===

impl Services {
    /// Health, and reflection over the services in these encoded `FileDescriptorSet`s. Serving from the start.
    ///
    /// # Errors
    /// When a descriptor set does not read.
    pub fn new(descriptor_sets: &[&[u8]]) -> Result<Self, DescriptorError> {
        let reflection = || {
            [tonic_health::pb::FILE_DESCRIPTOR_SET]
                .iter()
                .chain(descriptor_sets)
                .fold(Reflection::configure(), |builder, set| builder.register_encoded_file_descriptor_set(set))
        };
        let (serving, serving_now) = watch::channel(true);
        let mounted = [
            ("/grpc.health.v1.Health/", mount(HealthServer::new(Overall::new(serving_now)))),
            ("/grpc.reflection.v1.ServerReflection/", mount(reflection().build_v1()?)),
            ("/grpc.reflection.v1alpha.ServerReflection/", mount(reflection().build_v1alpha()?)),
        ];
        Ok(Self { mounted: Arc::new(mounted), serving: Arc::new(serving) })
    }

    /// Whether a call to this path belongs to one of the services.
    pub fn serves(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// What health says from now on; every `Watch` hears of a change.
    pub fn set_serving(&self, serving: bool) {
        self.serving.send_if_modified(|was| std::mem::replace(was, serving) != serving);
    }

    /// Answers one call from head to trailers, within the windows its caller grants.
    ///
    /// The future owns what it needs. A `Watch` lasts until its caller leaves: when draining, drop the future, which
    /// resets the call.
    pub fn answer(&self, call: Call) -> impl Future<Output = ()> + use<> {
        let Call { head, inflow, mut answer } = call;
        let (chunks, body) = mpsc::channel(CHUNKS_MAX);
        let request = Request::from_parts(head, RequestBody(body));
        let response = self.find(request.uri().path()).map(|service| service(request));
        async move {
            match response {
                Some(response) => while_feeding(feed(inflow, chunks), respond(response, answer)).await,
                None => answer.refuse(),
            }
        }
    }

    fn find(&self, path: &str) -> Option<&Mounted> {
        self.mounted.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, service)| service)
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.mounted.iter().map(|(prefix, _)| prefix)).finish()
    }
}

/// Forgets the type of a tonic service, which is always ready and never fails.
fn mount<S>(service: S) -> Mounted
where
    S: Service<Request<RequestBody>, Response = Response<tonic::body::Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Box::new(move |request| service.clone().call(request).map(|Ok(response)| response).boxed())
}

/// Polls both until the second one is done, however soon the first one is.
async fn while_feeding(feeding: impl Future<Output = ()>, answering: impl Future<Output = ()>) {
    let (mut feeding, mut answering) = (pin!(feeding.fuse()), pin!(answering));
    poll_fn(|cx| {
        let _ = feeding.as_mut().poll(cx);
        answering.as_mut().poll(cx)
    })
    .await;
}

/// Passes on what the caller sends, as fast as the service takes it.
async fn feed(mut inflow: Inflow, chunks: mpsc::Sender<Result<Frame<Bytes>, Break>>) {
    loop {
        let (frame, length) = match poll_fn(|cx| inflow.poll_chunk(cx)).await {
            Chunk::Data(data) => {
                let length = data.len();
                (Ok(Frame::data(data)), length)
            }
            Chunk::End(Some(trailers)) => (Ok(Frame::trailers(trailers)), 0),
            Chunk::End(None) => return,
            Chunk::Broken(lost) => (Err(lost), 0),
        };
        // A service that wants no more of the body has dropped it.
        if chunks.send(frame).await.is_err() || length == 0 {
            return;
        }
        inflow.release(length);
    }
}

/// Sends what the service answers, until it ends or its caller leaves.
async fn respond(response: BoxFuture<'static, Response<tonic::body::Body>>, mut answer: Answering) {
    let left = poll_fn(|cx| answer.poll_reset(cx));
    let response = match select(response, left).await {
        Either::Left((response, _)) => response,
        Either::Right(_) => return,
    };
    let (head, body) = response.into_parts();
    let head = Response::from_parts(head, ());
    // A caller that has gone has no use for either.
    if body.is_end_stream() {
        let _ = answer.only_head(head);
    } else if let Ok(outflow) = answer.head(head) {
        pump(body, outflow).await;
    }
}

/// Sends a response's frames until it ends, fails or its caller leaves.
async fn pump(mut body: tonic::body::Body, mut outflow: Outflow) {
    loop {
        let frame = match select(body.frame(), poll_fn(|cx| outflow.poll_reset(cx))).await {
            Either::Left((frame, _)) => frame,
            Either::Right(_) => return,
        };
        let sent = match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => send(&mut outflow, data).await,
            Some(Ok(Err(frame))) => match frame.into_trailers() {
                Ok(trailers) => {
                    let _ = outflow.send_trailers(trailers);
                    return;
                }
                // Neither data nor trailers: a kind of frame that HTTP/2 has no place for.
                Err(_) => Ok(()),
            },
            Some(Err(_)) => return outflow.fail(),
            None => {
                let _ = outflow.half_close();
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Waits for window after window until `data` is out.
async fn send(outflow: &mut Outflow, mut data: Bytes) -> Result<(), Break> {
    while !data.is_empty() {
        outflow.want(data.len());
        let room = poll_fn(|cx| outflow.poll_room(cx)).await?.min(data.len());
        outflow.send(data.split_to(room))?;
    }
    Ok(())
}

// === impl RequestBody ===

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Break;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Break>>> {
        self.0.poll_recv(cx)
    }
}

#[cfg(test)]
mod tests;
