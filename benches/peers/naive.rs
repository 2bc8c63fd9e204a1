//! The peer to beat: a tonic server that forwards each inbound stream whole to the next backend, and does nothing else.

use std::future::ready;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt};
use http::uri::PathAndQuery;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Replies = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Messages as bytes, whatever they mean.
#[derive(Clone, Copy)]
struct Raw;

/// Any method, on the next backend in turn.
#[derive(Clone)]
struct Forwarder {
    backends: Arc<[Channel]>,
    turn: Arc<AtomicUsize>,
}

/// One call of it.
struct Call {
    backend: Channel,
    path: PathAndQuery,
}

/// Serves until it is killed.
pub fn run(listen: SocketAddr, backends: &[String]) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let channel = |backend: &String| Ok(Endpoint::from_shared(format!("http://{backend}"))?.connect_lazy());
        let backends: Arc<[Channel]> = backends.iter().map(channel).collect::<Result<_, Failure>>()?;
        let forwarder = Forwarder { backends, turn: Arc::default() };
        let any_path = axum::Router::new().fallback_service(forwarder);
        Ok(Server::builder().add_routes(any_path.into()).serve(listen).await?)
    })
}

impl tower_service::Service<http::Request<axum::body::Body>> for Forwarder {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<axum::body::Body>) -> Self::Future {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.backends.len();
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let call = Call { backend: self.backends[turn].clone(), path };
        Box::pin(async move { Ok(tonic::server::Grpc::new(Raw).streaming(call, request).await) })
    }
}

impl tonic::server::StreamingService<Bytes> for Call {
    type Response = Bytes;
    type ResponseStream = Replies;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Replies>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let mut client = tonic::client::Grpc::new(self.backend.clone());
        let path = self.path.clone();
        Box::pin(async move {
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            // A stream that breaks on this side ends on the other: a forwarder this simple cannot say more.
            let request = request.map(|messages| messages.scan((), |(), message| ready(message.ok())));
            let response = client.streaming(request, path, Raw).await?;
            Ok(response.map(|messages| messages.boxed()))
        })
    }
}

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, body: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(body.copy_to_bytes(body.remaining())))
    }
}
