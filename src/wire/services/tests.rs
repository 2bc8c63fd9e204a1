//! Tests of the mounted services, by real clients over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
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
use crate::wire::quiet::Quiet;
use crate::wire::server::{Connection, Settings};

const SOON: Duration = Duration::from_secs(5);

/// A tiny server with nothing but the services, on a thread of its own that ends with the tests.
async fn serving() -> (Services, SocketAddr) {
    let services = Services::new(&[]).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let mounted = services.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let stream = listener.accept().await.unwrap().0;
                spawn_local(serve(stream, mounted.clone()));
            }
        });
    });
    (services, address)
}

async fn serve(stream: TcpStream, services: Services) {
    let settings = Settings {
        calls_max: 100,
        header_list_bytes_max: 16 << 10,
        call_window_bytes: 64 << 10,
        connection_window_bytes: 128 << 10,
    };
    let mut connection = Connection::handshake(stream, None, &settings, SOON).await.unwrap();
    let mut calls = FuturesUnordered::new();
    let quiet = Quiet::new();
    poll_fn(|cx| {
        quiet.poll(cx, |cx| {
            connection.poll_read(cx);
            while let Some(call) = connection.next_call() {
                assert!(services.serves(call.head.uri.path()));
                calls.push(services.answer(call));
            }
            while let Poll::Ready(Some(())) = calls.poll_next_unpin(cx) {}
            connection.poll_write(cx).map(drop)
        })
    })
    .await;
}

async fn start() -> (Services, Channel) {
    let (services, address) = serving().await;
    (services, Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap())
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
    let mut answers = ServerReflectionClient::new(channel).server_reflection_info(requests).await.unwrap().into_inner();
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
    let (_services, address) = serving().await;
    let ours = TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        h2::client::Builder::new().initial_window_size(5).handshake::<_, Bytes>(ours).await.unwrap();
    tokio::spawn(connection);
    let head = crate::wire::grpc::request_head("gateway", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
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
