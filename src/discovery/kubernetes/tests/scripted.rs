//! A Kubernetes API that says what a test tells it to, byte by byte.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::discovery::kubernetes::ApiServer;
use crate::pool::Endpoint;

/// Long enough for a machine under any load; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The API. Its connections end with it.
pub struct Api {
    pub server: ApiServer,
    asked: mpsc::UnboundedReceiver<Asked>,
    _connections: JoinSet<()>,
}

/// One request, to be answered; the connection breaks if it is dropped.
pub struct Asked {
    /// With its query.
    pub path: String,
    pub authorization: Option<String>,
    answer: Answer,
}

/// What goes to the socket: bytes, or its end.
type Answer = mpsc::UnboundedSender<Option<Vec<u8>>>;

/// The answer to a watch.
pub struct Lines {
    answer: Answer,
}

impl Api {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = ApiServer { is_tls: false, endpoint: Endpoint { host: "127.0.0.1".to_owned(), port } };
        let (tell, asked) = mpsc::unbounded_channel();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                open.spawn(serve(socket, tell.clone()));
            }
        });
        Self { server, asked, _connections: connections }
    }

    /// The next request.
    pub async fn asked(&mut self) -> Asked {
        timeout(PATIENCE, self.asked.recv()).await.expect("a request comes").unwrap()
    }
}

impl Asked {
    pub fn says(self, code: u16, body: &Value) {
        let body = body.to_string();
        let answer = format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        self.answer.send(Some(answer.into_bytes())).unwrap();
    }

    pub fn watches(self) -> Lines {
        self.answer.send(Some(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec())).unwrap();
        Lines { answer: self.answer }
    }
}

impl Lines {
    /// A whole line in a chunk of its own.
    pub fn say(&self, event: &Value) {
        self.piece(&format!("{event}\n"));
    }

    /// A chunk that may end anywhere in a line.
    pub fn piece(&self, text: &str) {
        self.answer.send(Some(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes())).unwrap();
    }

    /// The watch ends as agreed; the connection stays.
    pub fn end(self) {
        self.answer.send(Some(b"0\r\n\r\n".to_vec())).unwrap();
    }

    /// The connection breaks.
    pub fn cut(self) {
        self.answer.send(None).unwrap();
    }
}

async fn serve(mut socket: TcpStream, tell: mpsc::UnboundedSender<Asked>) {
    while let Some(head) = head(&mut socket).await {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let authorization = head.lines().find_map(|line| line.strip_prefix("authorization: ")).map(str::to_owned);
        let (answer, mut bytes) = mpsc::unbounded_channel();
        if tell.send(Asked { path, authorization, answer }).is_err() {
            return;
        }
        let mut is_answered = false;
        while let Some(piece) = bytes.recv().await {
            let Some(piece) = piece else { return };
            if socket.write_all(&piece).await.is_err() {
                return;
            }
            is_answered = true;
        }
        if !is_answered {
            return;
        }
    }
}

async fn head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}
