//! A backend whose every answer is scripted by the test, and which remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, Response};
use switchyard::wire::grpc::{Code, Status};

use crate::caller::messages;

/// A scripted backend; it lives until it is dropped.
pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _runtime: tokio::runtime::Runtime,
}

/// What one call brought.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub messages: Vec<Bytes>,
    pub end: End,
}

/// How the caller ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    HalfClosed,
    Reset(h2::Reason),
    ConnectionLost,
    /// The script did not read so far.
    Unread,
}

/// A call as the script gets it.
pub struct Incoming {
    body: h2::RecvStream,
    read: BytesMut,
    respond: SendResponse<Bytes>,
    place: usize,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Backend {
    /// Answers every call as `script` says.
    pub fn start<F>(script: impl Fn(Incoming) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (script, all) = (Arc::new(script), Arc::clone(&seen));
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (script, all) = (Arc::clone(&script), Arc::clone(&all));
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(script(Incoming::new(request, respond, &all)));
                    }
                });
            }
        });
        Self { address, seen, _runtime: runtime }
    }

    /// Answers `OK` to everything, with an empty message.
    pub fn good() -> Self {
        Self::start(|mut call| async move {
            if call.read().await == End::HalfClosed {
                call.ok(b"");
            }
        })
    }

    /// The same, but a call whose first message is larger than this waits until its caller gives it up.
    pub fn silent_above(bytes: usize) -> Self {
        Self::start(move |mut call| async move {
            call.read().await;
            match call.messages()[0].len() > bytes {
                true => call.wait_for_reset().await,
                false => call.ok(b""),
            }
        })
    }

    /// Every call so far, open ones included.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }
}

impl Incoming {
    fn new(request: http::Request<h2::RecvStream>, respond: SendResponse<Bytes>, all: &Arc<Mutex<Vec<Seen>>>) -> Self {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
        let mut seen = lock(all);
        let place = seen.len();
        seen.push(Seen { path, headers: head.headers, messages: Vec::new(), end: End::Unread });
        Self { body, read: BytesMut::new(), respond, place, seen: Arc::clone(all) }
    }

    /// What is called.
    pub fn path(&self) -> String {
        lock(&self.seen)[self.place].path.clone()
    }

    /// Reads the call to its end.
    pub async fn read(&mut self) -> End {
        self.read_messages(usize::MAX).await
    }

    /// Reads until so many messages are there, or the end.
    pub async fn read_messages(&mut self, count: usize) -> End {
        let end = loop {
            match self.body.data().await {
                Some(Ok(data)) => {
                    let _ = self.body.flow_control().release_capacity(data.len());
                    self.read.extend_from_slice(&data);
                    if messages(&self.read).len() >= count {
                        break End::Unread;
                    }
                }
                Some(Err(error)) => match error.reason().filter(|_| error.is_reset()) {
                    Some(reason) => break End::Reset(reason),
                    None => break End::ConnectionLost,
                },
                None => break End::HalfClosed,
            }
        };
        let mut seen = lock(&self.seen);
        (seen[self.place].messages, seen[self.place].end) = (messages(&self.read), end);
        end
    }

    /// Waits, once it has read all, until the caller gives up.
    pub async fn wait_for_reset(&mut self) {
        let end = match std::future::poll_fn(|cx| self.respond.poll_reset(cx)).await {
            Ok(reason) => End::Reset(reason),
            Err(_) => End::ConnectionLost,
        };
        lock(&self.seen)[self.place].end = end;
    }

    /// The messages read so far.
    pub fn messages(&self) -> Vec<Bytes> {
        messages(&self.read)
    }

    /// Sends the head of the answer; the call may still be read.
    pub fn begin(&mut self) -> Speaking {
        let head = Response::builder().header("content-type", "application/grpc").body(()).expect("a head");
        Speaking(self.respond.send_response(head, false).expect("the call is open"))
    }

    /// Answers one message and `OK`.
    pub fn ok(self, message: &[u8]) {
        self.answer(&[message], &Status::ok(), &[]);
    }

    /// Answers one message compressed, as servers do to callers that compress.
    pub fn answer_gzip(mut self, message: &[u8]) {
        let head = Response::builder().header("content-type", "application/grpc").header("grpc-encoding", "gzip");
        let head = head.body(()).expect("a head");
        let Ok(mut send) = self.respond.send_response(head, false) else { return };
        let _ = send.send_data(crate::records::batches::framed_gzip(message), false);
        let _ = send.send_trailers(Status::ok().to_trailers());
    }

    /// Answers a status and nothing else.
    pub fn status(mut self, code: Code, message: &str) {
        let _ = self.respond.send_response(Status::new(code, message).to_trailers_only(), true);
    }

    /// Answers messages, then a status with further trailers.
    pub fn answer(mut self, all: &[&[u8]], status: &Status, trailers: &[(&'static str, &'static str)]) {
        let head = Response::builder().header("content-type", "application/grpc").body(()).expect("a head");
        let Ok(mut send) = self.respond.send_response(head, false) else { return };
        for message in all {
            let _ = send.send_data(crate::caller::framed(message), false);
        }
        let mut end = status.to_trailers();
        for (name, value) in trailers {
            end.insert(*name, value.parse().expect("a header value"));
        }
        let _ = send.send_trailers(end);
    }

    /// Resets the call.
    pub fn reset(mut self, reason: h2::Reason) {
        self.respond.send_reset(reason);
    }
}

/// An answer that has begun.
pub struct Speaking(h2::SendStream<Bytes>);

impl Speaking {
    pub fn message(&mut self, message: &[u8]) {
        let _ = self.0.send_data(crate::caller::framed(message), false);
    }

    pub fn end(mut self, status: &Status) {
        let _ = self.0.send_trailers(status.to_trailers());
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
