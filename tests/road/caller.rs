//! A gRPC caller that says exactly what a test wants said, over h2 itself.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use switchyard::wire::grpc::{Code, Status};

/// How long any answer may take before a test is given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// One connection.
#[derive(Clone)]
pub struct Caller {
    requests: SendRequest<Bytes>,
    authority: String,
}

/// One call on it.
pub struct Call {
    pub send: h2::SendStream<Bytes>,
    response: Option<ResponseFuture>,
    body: Option<h2::RecvStream>,
    answer: Answer,
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub headers: HeaderMap,
    pub body: BytesMut,
    pub trailers: HeaderMap,
    /// How the stream ended, if not by a status.
    pub reset: Option<Reason>,
    pub lost: Option<String>,
}

impl Caller {
    pub async fn connect(to: SocketAddr) -> Self {
        let tcp = tokio::net::TcpStream::connect(to).await.expect("somebody listens");
        let (requests, connection) = h2::client::handshake(tcp).await.expect("it speaks HTTP/2");
        tokio::spawn(async move { drop(connection.await) });
        Self { requests, authority: to.to_string() }
    }

    pub async fn open(&self, path: &str) -> Call {
        self.open_with(path, &[]).await
    }

    pub async fn open_with(&self, path: &str, metadata: &[(&str, &str)]) -> Call {
        let mut head = Request::post(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            head = head.header(*name, *value);
        }
        let mut requests = self.requests.clone().ready().await.expect("the connection lives");
        let (response, send) = requests.send_request(head.body(()).expect("a request"), false).expect("it is sent");
        Call { send, response: Some(response), body: None, answer: Answer::default() }
    }

    /// Whether the connection takes further calls.
    pub async fn can_open(&self) -> bool {
        self.requests.clone().ready().await.is_ok()
    }

    /// A whole unary or client-streaming call.
    pub async fn call(&self, path: &str, metadata: &[(&str, &str)], messages: &[Bytes]) -> Answer {
        let mut call = self.open_with(path, metadata).await;
        for message in messages {
            call.send(framed(message)).await;
        }
        call.half_close();
        call.answer().await
    }
}

impl Call {
    /// Sends bytes as the window allows. A stream that is gone takes nothing more, which its answer tells.
    pub async fn send(&mut self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            self.send.reserve_capacity(bytes.len());
            match tokio::time::timeout(PATIENCE, poll_fn(|cx| self.send.poll_capacity(cx))).await {
                Ok(Some(Ok(room))) if room > 0 => {
                    let piece = bytes.split_to(room.min(bytes.len()));
                    let _ = self.send.send_data(piece, false);
                }
                Ok(Some(Ok(_))) => {}
                Ok(_) => return,
                Err(_) => panic!("the window did not open within {PATIENCE:?}"),
            }
        }
    }

    /// Whether the peer still takes what is sent.
    pub async fn is_open(&mut self) -> bool {
        poll_fn(|cx| std::task::Poll::Ready(self.send.poll_reset(cx).is_pending())).await
    }

    pub fn half_close(&mut self) {
        let _ = self.send.send_data(Bytes::new(), true);
    }

    pub fn reset(&mut self) {
        self.send.send_reset(Reason::CANCEL);
    }

    /// Waits until so many bytes of the answer's body are there.
    pub async fn body_of(&mut self, bytes: usize) -> Bytes {
        let wait = async { while self.answer.body.len() < bytes && self.read_on().await {} };
        tokio::time::timeout(PATIENCE, wait).await.expect("an answer in time");
        self.answer.body.clone().freeze()
    }

    /// Waits for the end of the answer.
    pub async fn answer(mut self) -> Answer {
        let wait = async { while self.read_on().await {} };
        tokio::time::timeout(PATIENCE, wait).await.expect("an answer in time");
        self.answer
    }

    /// Reads the next piece of the answer; false at its end.
    async fn read_on(&mut self) -> bool {
        if let Some(response) = self.response.take() {
            return match response.await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    (self.answer.headers, self.body) = (head.headers, Some(body));
                    true
                }
                Err(error) => self.answer.broken(&error),
            };
        }
        let Some(body) = &mut self.body else { return false };
        match body.data().await {
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                self.answer.body.extend_from_slice(&data);
                true
            }
            Some(Err(error)) => self.answer.broken(&error),
            None => {
                match body.trailers().await {
                    Ok(trailers) => self.answer.trailers = trailers.unwrap_or_default(),
                    Err(error) => {
                        self.answer.broken(&error);
                    }
                }
                false
            }
        }
    }
}

impl Answer {
    fn broken(&mut self, error: &h2::Error) -> bool {
        match error.reason().filter(|_| error.is_reset()) {
            Some(reason) => self.reset = Some(reason),
            None => self.lost = Some(error.to_string()),
        }
        false
    }

    /// The status, wherever it stands.
    #[track_caller]
    pub fn status(&self) -> Status {
        let found = Status::from_headers(&self.trailers).or_else(|| Status::from_headers(&self.headers));
        found.unwrap_or_else(|| panic!("an answer without a status: {self:?}"))
    }

    #[track_caller]
    pub fn code(&self) -> Code {
        self.status().code
    }

    /// The messages of the body.
    pub fn messages(&self) -> Vec<Bytes> {
        messages(&self.body)
    }
}

/// A message with its gRPC prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.extend_from_slice(&[0]);
    framed.extend_from_slice(&u32::try_from(message.len()).expect("a short message").to_be_bytes());
    framed.extend_from_slice(message);
    framed.freeze()
}

/// The whole messages of a gRPC body.
pub fn messages(body: &[u8]) -> Vec<Bytes> {
    let (mut rest, mut found) = (body, Vec::new());
    while let Some((prefix, behind)) = rest.split_at_checked(5) {
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let Some((message, next)) = behind.split_at_checked(length) else { break };
        found.push(Bytes::copy_from_slice(message));
        rest = next;
    }
    found
}
