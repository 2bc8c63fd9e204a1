//! An agent and a collector that say prepared bytes and keep nothing, so that what is counted is the gateway's own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use switchyard::wire::http2::frame::{
    HEAD_BYTES, Head, INT31_MAX, PAYLOAD_BYTES_MAX, PREFACE, WINDOW_BYTES, flag, kind,
};

/// Long enough for any machine; who waits longer waits for something that does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The settings a collector has: streams and windows as large as can be said.
const STREAMS_MAX: u16 = 3;
const STREAM_WINDOW: u16 = 4;

/// A client with one call, which it never ends.
pub struct Agent {
    stream: TcpStream,
}

/// A server that answers `OK` to every call at its end.
pub struct Collector {
    address: SocketAddr,
    arrived: Arc<Arrived>,
}

/// Bytes of messages that have arrived.
#[derive(Default)]
struct Arrived {
    bytes: Mutex<u64>,
    more: Condvar,
}

/// A frame as it stands on the wire.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = Head { length: payload.len() as u32, kind, flags, stream };
    [&head.to_bytes()[..], payload].concat()
}

/// A call's HEADERS on stream 1.
pub fn call(path: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gateway"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&fields))
}

/// A header block of literals that are not indexed.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short texts only")], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

// === impl Agent ===

impl Agent {
    /// An agent that has begun a call.
    pub fn call(to: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(to).expect("the gateway listens");
        stream.set_nodelay(true).expect("TCP has that option");
        let settings = [frame(kind::SETTINGS, 0, 0, &[]), frame(kind::SETTINGS, flag::ACK, 0, &[])].concat();
        stream.write_all(&[&PREFACE[..], &settings, &call(path)].concat()).expect("the gateway reads");
        // What is said to it is so little that it stays unread in the kernel.
        Self { stream }
    }

    /// Says bytes that were prepared.
    pub fn say(&mut self, frames: &[u8]) {
        self.stream.write_all(frames).expect("the gateway reads");
    }
}

// === impl Collector ===

impl Collector {
    /// A collector that serves whoever connects.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port can be had");
        let address = listener.local_addr().expect("it is bound");
        let arrived = Arc::new(Arrived::default());
        let counted = Arc::clone(&arrived);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let counted = Arc::clone(&counted);
                thread::spawn(move || serve(stream, &counted));
            }
        });
        Self { address, arrived }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until so many bytes of messages have arrived since it was started.
    pub fn wait_for(&self, bytes: u64) {
        let arrived = self.arrived.bytes.lock().expect("nobody panics here");
        let waited = self.arrived.more.wait_timeout_while(arrived, PATIENCE, |arrived| *arrived < bytes);
        let (arrived, timeout) = waited.expect("nobody panics here");
        assert!(!timeout.timed_out(), "of {bytes} bytes {} arrived within {PATIENCE:?}", *arrived);
        assert_eq!(*arrived, bytes, "more arrived than was said");
    }
}

/// Reads until the connection is gone.
fn serve(mut stream: TcpStream, arrived: &Arrived) {
    let mut settings = Vec::new();
    for (setting, value) in [(STREAMS_MAX, INT31_MAX), (STREAM_WINDOW, INT31_MAX)] {
        settings.extend_from_slice(&setting.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    let greeting = [
        frame(kind::SETTINGS, 0, 0, &settings),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        frame(kind::WINDOW_UPDATE, 0, 0, &(INT31_MAX - WINDOW_BYTES).to_be_bytes()),
    ];
    let mut preface = [0; PREFACE.len()];
    if stream.write_all(&greeting.concat()).is_err() || stream.read_exact(&mut preface).is_err() {
        return;
    }
    let mut answer = frame(
        kind::HEADERS,
        flag::END_HEADERS | flag::END_STREAM,
        0,
        &block(&[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")]),
    );
    let (mut head, mut payload) = ([0; HEAD_BYTES], [0; PAYLOAD_BYTES_MAX]);
    while stream.read_exact(&mut head).is_ok() {
        let head = Head::parse(&head);
        let length = head.length as usize;
        if stream.read_exact(&mut payload[..length]).is_err() {
            return;
        }
        if head.kind != kind::DATA {
            continue;
        }
        if length > 0 {
            *arrived.bytes.lock().expect("nobody panics here") += length as u64;
            arrived.more.notify_all();
        }
        if head.has(flag::END_STREAM) {
            answer[5..HEAD_BYTES].copy_from_slice(&head.stream.to_be_bytes());
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }
}
