//! HTTP/1.1 as an operator's script speaks it: a request, its whole answer; and a stream of events.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use switchyard::admin::endpoints;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Asks with these headers besides those every request has.
pub fn ask(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = request(to, method, path, headers, body);
    let mut text = Vec::new();
    stream.read_to_end(&mut text).expect("it answers");
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn request(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    let host = if headers.iter().any(|(name, _)| *name == "host") { String::new() } else { format!("host: {to}\r\n") };
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\n{host}{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .expect("it takes the request");
    stream
}

impl Answer {
    /// What `/v1/endpoints` says.
    pub fn endpoints(&self) -> endpoints::Answer {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// The names in the order in which they were answered.
pub fn names(answer: &endpoints::Answer) -> Vec<String> {
    answer.backends.iter().map(|backend| backend.name.clone()).collect()
}

/// Events as they come.
pub struct Events {
    told: Arc<Mutex<Vec<endpoints::Answer>>>,
    ended: Arc<AtomicBool>,
}

impl Events {
    /// Watches.
    pub fn of(to: SocketAddr, path: &str) -> Self {
        let stream = request(to, "GET", path, &[("accept", "text/event-stream")], "");
        let (told, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (telling, ending) = (Arc::clone(&told), Arc::clone(&ended));
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if let Some(data) = line.strip_prefix("data: ") {
                    telling.lock().unwrap().push(serde_json::from_str(data).expect("an answer on a line"));
                }
            }
            ending.store(true, Relaxed);
        });
        Self { told, ended }
    }

    /// Everything told so far.
    pub fn told(&self) -> Vec<endpoints::Answer> {
        self.told.lock().unwrap().clone()
    }

    /// The names told last.
    pub fn last(&self) -> Vec<String> {
        self.told().last().map(names).unwrap_or_default()
    }

    /// Whether the stream is over.
    pub fn have_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }
}
