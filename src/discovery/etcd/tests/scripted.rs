//! A member of etcd that says what a test tells it to.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::pool::Endpoint;

/// Long enough for a machine under any load; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The member. Its connections end with it.
pub struct Etcd {
    pub endpoint: Endpoint,
    asked: mpsc::UnboundedReceiver<(String, Bytes, Answer)>,
    _connections: JoinSet<()>,
}

/// The answer to one call.
pub struct Answer {
    /// What the call brought.
    pub token: Option<String>,
    frames: mpsc::UnboundedSender<Frame<Bytes>>,
    /// Breaks all connections.
    broken: watch::Sender<()>,
}

impl Etcd {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let (tell, asked) = mpsc::unbounded_channel();
        let broken = watch::Sender::new(());
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (tell, breaking, mut is_broken) = (tell.clone(), broken.clone(), broken.subscribe());
                let service = hyper::service::service_fn(move |request| serve(request, tell.clone(), breaking.clone()));
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), service);
                open.spawn(async move {
                    tokio::select! {
                        _ = connection => {}
                        _ = is_broken.changed() => {}
                    }
                });
            }
        });
        Self { endpoint, asked, _connections: connections }
    }

    /// The next call, which has to be of this method.
    pub async fn asked<Q: Message + Default>(&mut self, path: &str) -> (Q, Answer) {
        let (asked, bytes, answer) = timeout(PATIENCE, self.asked.recv()).await.expect("a call comes").unwrap();
        assert_eq!(asked, path);
        (Q::decode(bytes).unwrap(), answer)
    }
}

impl Answer {
    /// The whole answer.
    pub fn says(self, message: &impl Message) {
        self.sends(message);
        self.ends(0, "");
    }

    /// One message of the answer.
    pub fn sends(&self, message: &impl Message) {
        let bytes = message.encode_to_vec();
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        self.frames.send(Frame::data([&[0][..], &length, &bytes].concat().into())).unwrap();
    }

    pub fn ends(self, code: u32, words: &str) {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.into());
        trailers.insert("grpc-message", words.parse().unwrap());
        self.frames.send(Frame::trailers(trailers)).unwrap();
    }

    /// The connection breaks.
    pub fn breaks(self) {
        self.broken.send_replace(());
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

async fn serve(
    request: Request<Incoming>,
    tell: mpsc::UnboundedSender<(String, Bytes, Answer)>,
    broken: watch::Sender<()>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let token = request.headers().get("token").map(|token| token.to_str().unwrap().to_owned());
    // Requests are small and each has one message: a whole one may be waited for, the end of a watch's requests not.
    let (mut body, mut bytes) = (request.into_body(), Vec::new());
    while bytes.len() < 5 || bytes.len() < 5 + usize::from(bytes[4]) {
        bytes.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    let (frames, mut coming) = mpsc::unbounded_channel();
    let _ = tell.send((path, Bytes::from(bytes.split_off(5)), Answer { token, frames, broken }));
    let frames = stream::poll_fn(move |cx| {
        // The watch's requests stay open for as long as it is answered.
        let _ = &body;
        coming.poll_recv(cx).map(|frame| frame.map(Ok))
    });
    let answer = Response::builder().header("content-type", "application/grpc");
    Ok(answer.body(StreamBody::new(frames).boxed_unsync()).unwrap())
}
