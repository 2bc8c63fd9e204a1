//! Mounts the gRPC services that have a schema (health, reflection) beside a data path that speaks h2 itself.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either, select};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::sync::watch;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder as Reflection;
use tower_service::Service;

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

/// The body of a call on its way into a tonic service.
struct RequestBody(RecvStream);

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
    /// The future owns what it needs and may be spawned. A `Watch` lasts until its caller leaves: when draining,
    /// drop the future, which resets the call.
    pub fn serve(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) -> impl Future<Output = ()> + Send + 'static + use<> {
        let answer = self.find(request.uri().path()).map(|service| service(request.map(RequestBody)));
        async move {
            let Some(answer) = answer else {
                return respond.send_reset(Reason::REFUSED_STREAM);
            };
            let left = poll_fn(|context| respond.poll_reset(context));
            let response = match select(answer, left).await {
                Either::Left((response, _)) => response,
                Either::Right(_) => return,
            };
            let (head, body) = response.into_parts();
            let ends = body.is_end_stream();
            match respond.send_response(Response::from_parts(head, ()), ends) {
                Ok(stream) if !ends => pump(body, stream).await,
                // It is all said, or the caller has gone and there is nobody to tell.
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Serves a call whose path belongs to one of the services; see [`Services::serve`].
    pub fn answer(&self, call: super::server::Call) -> impl Future<Output = ()> + Send + 'static {
        let (request, respond) = call.into_h2();
        self.serve(request, respond)
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

/// Sends a response's frames until it ends, fails or its caller leaves.
async fn pump(mut body: tonic::body::Body, mut stream: SendStream<Bytes>) {
    loop {
        let frame = match select(body.frame(), poll_fn(|context| stream.poll_reset(context))).await {
            Either::Left((frame, _)) => frame,
            Either::Right(_) => return,
        };
        let sent = match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => send(&mut stream, data).await,
            Some(Ok(Err(frame))) => match frame.into_trailers() {
                Ok(trailers) => {
                    let _ = stream.send_trailers(trailers);
                    return;
                }
                // Neither data nor trailers: a kind of frame that HTTP/2 has no place for.
                Err(_) => true,
            },
            Some(Err(_)) => return stream.send_reset(Reason::INTERNAL_ERROR),
            None => {
                let _ = stream.send_data(Bytes::new(), true);
                return;
            }
        };
        if !sent {
            return;
        }
    }
}

/// Waits for window after window until `data` is out; `false` when the stream is over.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = match poll_fn(|context| stream.poll_capacity(context)).await {
            Some(Ok(room)) => room.min(data.len()),
            Some(Err(_)) | None => return false,
        };
        if room > 0 && stream.send_data(data.split_to(room), false).is_err() {
            return false;
        }
    }
    true
}

// === impl RequestBody ===

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let stream = &mut self.0;
        match ready!(stream.poll_data(context)) {
            Some(Ok(data)) => {
                // The service holds at most one message of at most 4 MiB (tonic's limit), so reading is releasing.
                let released = stream.flow_control().release_capacity(data.len());
                Poll::Ready(Some(released.map(|()| Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                stream.poll_trailers(context).map(|trailers| trailers.transpose().map(|it| it.map(Frame::trailers)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream::{self, StreamExt as _};
    use tokio::net::TcpListener;
    use tokio::time::timeout;
    use tonic::transport::Channel;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus as Answer;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
    use tonic_reflection::pb::v1alpha;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// A tiny h2 server with nothing but the services, and a channel to it.
    async fn start() -> (Services, Channel) {
        let services = Services::new(&[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mounted = services.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let services = mounted.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        assert!(services.serves(request.uri().path()));
                        tokio::spawn(services.serve(request, respond));
                    }
                });
            }
        });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        (services, channel)
    }

    fn whole() -> HealthCheckRequest {
        HealthCheckRequest { service: String::new() }
    }

    fn ask(request: MessageRequest) -> ServerReflectionRequest {
        ServerReflectionRequest { host: String::new(), message_request: Some(request) }
    }

    fn service_names(response: ServerReflectionResponse) -> Vec<String> {
        match response.message_response {
            Some(MessageResponse::ListServicesResponse(list)) => list.service.into_iter().map(|it| it.name).collect(),
            other => panic!("not a list of services: {other:?}"),
        }
    }

    #[test]
    fn only_the_mounted_services_are_served() {
        let services = Services::new(&[]).unwrap();
        assert!(services.serves("/grpc.health.v1.Health/Check"));
        assert!(services.serves("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"));
        for path in ["/grpc.health.v1.Healthy/Check", "/grpc.health.v1.Health", "/", ""] {
            assert!(!services.serves(path), "{path}");
        }
    }

    #[test]
    fn a_broken_descriptor_set_is_named() {
        let error = Services::new(&[b"\xff\xff"]).unwrap_err();
        assert!(error.to_string().contains("descriptor set"), "{error}");
    }

    #[tokio::test]
    async fn check_says_whether_we_serve() {
        let (services, channel) = start().await;
        let mut client = HealthClient::new(channel);
        assert_eq!(client.check(whole()).await.unwrap().into_inner().status(), Answer::Serving);
        services.set_serving(false);
        assert_eq!(client.check(whole()).await.unwrap().into_inner().status(), Answer::NotServing);
        let unknown = HealthCheckRequest { service: "nobody".to_owned() };
        assert_eq!(client.check(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    }

    #[tokio::test]
    async fn watch_tells_each_change() {
        let (services, channel) = start().await;
        let mut watch = HealthClient::new(channel).watch(whole()).await.unwrap().into_inner();
        for serving in [true, false, true] {
            services.set_serving(serving);
            let expected = if serving { Answer::Serving } else { Answer::NotServing };
            let told = timeout(SOON, watch.message()).await.unwrap().unwrap().unwrap();
            assert_eq!(told.status(), expected);
        }
    }

    #[tokio::test]
    async fn watch_of_an_unknown_service_stays_open() {
        let (_services, channel) = start().await;
        let unknown = HealthCheckRequest { service: "nobody".to_owned() };
        let mut watch = HealthClient::new(channel).watch(unknown).await.unwrap().into_inner();
        let told = timeout(SOON, watch.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(told.status(), Answer::ServiceUnknown);
        assert!(timeout(Duration::from_millis(50), watch.message()).await.is_err());
    }

    #[tokio::test]
    async fn a_call_ends_when_its_caller_leaves() {
        let (services, channel) = start().await;
        let watch = HealthClient::new(channel).watch(whole()).await.unwrap();
        assert_eq!(services.serving.receiver_count(), 2, "the service and one watch");
        drop(watch);
        let gone = async {
            while services.serving.receiver_count() > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, gone).await.unwrap();
    }

    #[tokio::test]
    async fn reflection_lists_services_and_answers_again_on_the_same_stream() {
        let (_services, channel) = start().await;
        let requests = stream::iter([
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("grpc.health.v1.Health".to_owned())),
        ]);
        // The stream stays open behind the two requests: answers must not wait for its end.
        let requests = requests.chain(stream::pending());
        let mut answers =
            ServerReflectionClient::new(channel).server_reflection_info(requests).await.unwrap().into_inner();
        let names = service_names(timeout(SOON, answers.message()).await.unwrap().unwrap().unwrap());
        assert!(names.iter().any(|name| name == "grpc.health.v1.Health"), "{names:?}");
        let file = timeout(SOON, answers.message()).await.unwrap().unwrap().unwrap();
        assert!(matches!(file.message_response, Some(MessageResponse::FileDescriptorResponse(_))));
    }

    #[tokio::test]
    async fn the_older_reflection_answers_too() {
        let (_services, channel) = start().await;
        let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
        let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
        let mut answers = client.server_reflection_info(stream::iter([request])).await.unwrap().into_inner();
        assert!(timeout(SOON, answers.message()).await.unwrap().unwrap().is_some());
        assert!(timeout(SOON, answers.message()).await.unwrap().unwrap().is_none(), "ends when asked to");
    }
    #[tokio::test]
    async fn an_answer_waits_for_the_caller_s_window() {
        let (services, _) = start().await;
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(services.serve(request, respond));
            }
        });
        let (sender, connection) =
            h2::client::Builder::new().initial_window_size(5).handshake::<_, Bytes>(ours).await.unwrap();
        tokio::spawn(connection);
        let head =
            crate::wire::grpc::request_head("gateway", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
        let (response, mut call) = sender.ready().await.unwrap().send_request(head.unwrap(), false).unwrap();
        // Field 7 of ServerReflectionRequest is list_services; an empty string will do.
        call.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 0x3a, 0]), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut received = 0;
        while let Some(chunk) = timeout(SOON, body.data()).await.unwrap() {
            let length = chunk.unwrap().len();
            assert!(length <= 5, "{length} bytes in a window of 5");
            received += length;
            body.flow_control().release_capacity(length).unwrap();
        }
        assert!(received > 50, "{received}");
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    }
}
