//! A raw peer: what it says is written by hand, and held against a session in this process and against a listener.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Request;
use switchyard::config::{Overrides, Plan};
use switchyard::gateway::Gateway;
use switchyard::wire::http2::Session;
use switchyard::wire::http2::frame::{HEAD_BYTES, Head, PREFACE, Reason, flag, kind};
use switchyard::wire::http2::handle::{Handle, Shared};
use switchyard::wire::http2::settings::Limits;
use switchyard::wire::stream::Chunk;

pub const END: u8 = flag::END_STREAM;
pub const WHOLE: u8 = flag::END_HEADERS;

/// A method of the listener's that answers nothing before its caller has ended.
const PATH: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// As a listener's, but for windows that a test can fill.
pub fn limits() -> Limits {
    Limits {
        streams_max: 1_024,
        header_list_bytes_max: 16 << 10,
        stream_window_bytes: 64 << 10,
        connection_window_bytes: 128 << 10,
    }
}

// === what a peer says ===

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = Head { length: payload.len() as u32, kind, flags, stream };
    [&head.to_bytes()[..], payload].concat()
}

pub fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(kind::DATA, 0, stream, bytes)
}

pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(kind::SETTINGS, 0, 0, &payload.collect::<Vec<_>>())
}

pub fn acknowledgement() -> Vec<u8> {
    frame(kind::SETTINGS, flag::ACK, 0, &[])
}

pub fn ping(payload: &[u8; 8]) -> Vec<u8> {
    frame(kind::PING, 0, 0, payload)
}

pub fn update(stream: u32, more: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

pub fn reset(stream: u32, reason: Reason) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &reason.0.to_be_bytes())
}

pub fn goaway(last: u32) -> Vec<u8> {
    frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

pub fn priority(stream: u32) -> Vec<u8> {
    frame(kind::PRIORITY, 0, stream, &[0, 0, 0, 0, 16])
}

/// A block of literals that are not indexed.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "one byte is its length");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The fields of a call's head, each of these in place of the usual one of its name if there is one.
pub fn call_fields<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", PATH),
        (":authority", "gateway"),
        ("content-type", "application/grpc"),
    ];
    // Each in its place: pseudo-headers come first.
    let said = |name: &str| fields.iter().find(|(other, _)| *other == name).copied();
    let more = fields.iter().filter(|(name, _)| !usual.iter().any(|(other, _)| other == name));
    usual.into_iter().map(|field| said(field.0).unwrap_or(field)).chain(more.copied()).collect()
}

/// HEADERS that begin a call and leave it open.
pub fn call(stream: u32) -> Vec<u8> {
    call_with(stream, &[])
}

pub fn call_with(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, WHOLE, stream, &block(&call_fields(fields)))
}

/// HEADERS that are a whole call.
pub fn ended_call(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, WHOLE | END, stream, &block(&call_fields(&[])))
}

/// HEADERS that begin an answer.
pub fn answer(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, WHOLE, stream, &block(&[&[(":status", "200")], fields].concat()))
}

pub fn trailers(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, WHOLE | END, stream, &block(fields))
}

// === what is said to it ===

/// A frame we said.
pub type Said = (Head, Vec<u8>);

pub fn frames(mut bytes: &[u8]) -> Vec<Said> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let head = Head::parse(head);
        let (payload, behind) = rest.split_at(head.length as usize);
        frames.push((head, payload.to_vec()));
        bytes = behind;
    }
    assert!(bytes.is_empty(), "half a frame");
    frames
}

pub fn of_kind(said: &[Said], kind: u8) -> Vec<&Said> {
    said.iter().filter(|(head, _)| head.kind == kind).collect()
}

fn u32_at(payload: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(payload[at..at + 4].try_into().unwrap())
}

/// Streams that were reset, and why.
pub fn resets_in(said: &[Said]) -> Vec<(u32, Reason)> {
    of_kind(said, kind::RST_STREAM).iter().map(|(head, payload)| (head.stream, Reason(u32_at(payload, 0)))).collect()
}

/// The last stream and the reason of each GOAWAY.
pub fn goaways_in(said: &[Said]) -> Vec<(u32, Reason)> {
    let goaways = of_kind(said, kind::GOAWAY);
    goaways.iter().map(|(_, payload)| (u32_at(payload, 0), Reason(u32_at(payload, 4)))).collect()
}

/// What a poll answers; `None` when it would wait.
pub fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// All that has arrived of a stream, and what is behind it.
pub fn read(handle: &Handle) -> (Vec<u8>, Option<Chunk>) {
    let mut bytes = Vec::new();
    loop {
        match now(|cx| handle.poll_chunk(cx)) {
            Some(Chunk::Data(data)) => {
                handle.release(data.len());
                bytes.extend_from_slice(&data);
            }
            behind => return (bytes, behind),
        }
    }
}

pub fn arrived(handle: &Handle) -> Vec<u8> {
    read(handle).0
}

// === our side, in this process ===

/// A session of ours.
pub struct Ours(pub Shared);

impl Ours {
    /// A server, greeted, with the greetings out of the way.
    pub fn server() -> Self {
        Self::server_with(limits())
    }

    pub fn server_with(limits: Limits) -> Self {
        let ours = Self(Rc::new(RefCell::new(Session::server(limits))));
        ours.hear(&[PREFACE, &settings(&[])[..], &acknowledgement()].concat());
        ours.said();
        ours
    }

    /// A client, greeted, with the greetings out of the way.
    pub fn client() -> Self {
        let ours = Self::fresh_client();
        ours.hear(&[settings(&[]), acknowledgement()].concat());
        ours.raw();
        ours
    }

    pub fn fresh_client() -> Self {
        Self(Rc::new(RefCell::new(Session::client(limits()))))
    }

    pub fn fresh_server() -> Self {
        Self(Rc::new(RefCell::new(Session::server(limits()))))
    }

    pub fn hear(&self, bytes: &[u8]) {
        self.0.borrow_mut().receive(bytes);
    }

    /// All that waits to be written.
    pub fn raw(&self) -> Vec<u8> {
        let mut session = self.0.borrow_mut();
        let mut bytes = Vec::new();
        while !session.output().is_empty() {
            let (slices, filled) = session.output().slices::<4>();
            let piece: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            session.written(piece.len());
            bytes.extend(piece);
        }
        bytes
    }

    pub fn said(&self) -> Vec<Said> {
        frames(&self.raw())
    }

    /// What the connection ended with, if it has ended.
    pub fn ended(&self) -> Option<Reason> {
        self.0.borrow().over().map(|over| over.reason.expect("it ended with a reason"))
    }

    /// The next call that has begun.
    pub fn accept(&self) -> Option<Handle> {
        Handle::accept(&self.0).map(|(_, handle)| handle)
    }

    /// Hears a call begin and takes it.
    pub fn accept_call(&self, stream: u32) -> Handle {
        self.hear(&call(stream));
        self.accept().expect("a call has begun")
    }

    pub fn call(&self) -> Handle {
        let head = Request::post("http://backend/a.B/c").body(()).unwrap();
        Handle::call(&self.0, head).expect("it can be called")
    }
}

// === what becomes of it ===

/// A server that hears this ends its connection so, says so and serves nobody any more: in this process, whole and
/// byte by byte, and at a listener, which hangs up, too.
#[track_caller]
pub fn ends(what: &str, said: &[Vec<u8>], reason: Reason) {
    ends_here(what, limits(), said, reason);
    let told = Listener::hears(said, false).expect("a listener that ends a connection hangs up");
    assert_eq!(goaways_in(&told).last().map(|(_, reason)| *reason), Some(reason), "{what}, at a listener");
}

/// The same in this process only, where the limits are a test's own.
#[track_caller]
pub fn ends_here(what: &str, limits: Limits, said: &[Vec<u8>], reason: Reason) {
    both_ways(&said.concat(), |hear| {
        let server = Ours::server_with(limits.clone());
        hear(&server);
        assert_eq!(server.ended(), Some(reason), "{what}");
        let goaways = goaways_in(&server.said());
        assert_eq!(goaways.last().map(|(_, reason)| *reason), Some(reason), "{what}");
    });
}

/// A server that hears this resets stream 1 so, and its connection goes on.
#[track_caller]
pub fn resets(what: &str, said: &[Vec<u8>], reason: Reason) {
    resets_here(what, limits(), said, reason);
    let told = Listener::hears(said, true).expect("a listener goes on");
    assert_eq!((resets_in(&told), goaways_in(&told)), (vec![(1, reason)], vec![]), "{what}, at a listener");
}

#[track_caller]
pub fn resets_here(what: &str, limits: Limits, said: &[Vec<u8>], reason: Reason) {
    both_ways(&said.concat(), |hear| {
        let server = Ours::server_with(limits.clone());
        hear(&server);
        assert_eq!((server.ended(), resets_in(&server.said())), (None, vec![(1, reason)]), "{what}");
        server.accept_call(99);
    });
}

/// And this is nothing to complain about.
#[track_caller]
pub fn passes(what: &str, said: &[Vec<u8>]) {
    both_ways(&said.concat(), |hear| {
        let server = Ours::server();
        hear(&server);
        assert_eq!((server.ended(), resets_in(&server.said())), (None, vec![]), "{what}");
        while server.accept().is_some() {}
        server.accept_call(99);
    });
    let told = Listener::hears(said, true).expect("a listener goes on");
    assert_eq!((resets_in(&told), goaways_in(&told)), (vec![], vec![]), "{what}, at a listener");
}

/// A client with a call on stream 1 that hears this ends its connection so.
#[track_caller]
pub fn client_ends(what: &str, said: &[Vec<u8>], reason: Reason) {
    both_ways(&said.concat(), |hear| {
        let client = Ours::client();
        let _call = client.call();
        client.raw();
        hear(&client);
        assert_eq!(client.ended(), Some(reason), "{what}, at a client");
        assert_eq!(goaways_in(&client.said()), [(0, reason)], "{what}, at a client");
        assert!(!client.0.borrow().is_usable(), "{what}, at a client");
    });
}

/// A client with a call on stream 1 that hears this resets it so and can go on calling.
#[track_caller]
pub fn client_resets(what: &str, said: &[Vec<u8>], reason: Reason) {
    both_ways(&said.concat(), |hear| {
        let client = Ours::client();
        let _call = client.call();
        client.raw();
        hear(&client);
        assert_eq!((client.ended(), resets_in(&client.said())), (None, vec![(1, reason)]), "{what}, at a client");
        assert!(client.0.borrow().is_usable(), "{what}, at a client");
    });
}

/// And this is nothing for a client to complain about.
#[track_caller]
pub fn client_passes(what: &str, said: &[Vec<u8>]) {
    both_ways(&said.concat(), |hear| {
        let client = Ours::client();
        let _call = client.call();
        client.raw();
        hear(&client);
        assert_eq!((client.ended(), resets_in(&client.said())), (None, vec![]), "{what}, at a client");
    });
}

/// However bytes are cut, they mean the same.
#[track_caller]
fn both_ways(said: &[u8], mut round: impl FnMut(&dyn Fn(&Ours))) {
    round(&|ours| ours.hear(said));
    round(&|ours| said.iter().for_each(|byte| ours.hear(&[*byte])));
}

// === a listener ===

/// A gateway that stands for all tests of this process, before a backend that nobody needs.
pub struct Listener;

impl Listener {
    pub fn address() -> SocketAddr {
        static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
        *ADDRESS.get_or_init(|| {
            let (tell, told) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                // The discard port: no test has a message to deliver.
                let flags = Overrides::on_free_ports("127.0.0.1:9");
                runtime.block_on(async {
                    let gateway = Gateway::start(Plan::from_flags(&flags).expect("the flags are sound").0);
                    let gateway = gateway.await.expect("free ports can be had");
                    let listeners = &gateway.addresses().listeners;
                    let agents = listeners.iter().find(|(name, _)| *name == "agents").expect("it is on").1;
                    tell.send(agents).unwrap();
                    std::future::pending::<()>().await;
                });
            });
            told.recv().expect("the gateway starts")
        })
    }

    /// Says this to a listener that was greeted. Answers what it said until it hung up, or, where it should go on,
    /// until it has answered a PING behind all that; `None` when it did the other of the two.
    pub fn hears(said: &[Vec<u8>], goes_on: bool) -> Option<Vec<Said>> {
        const LAST: &[u8; 8] = b"that is\n";
        let greeting = [PREFACE, &settings(&[])[..], &acknowledgement()].concat();
        let behind = if goes_on { ping(LAST) } else { Vec::new() };
        let is_last = |(head, payload): &Said| head.kind == kind::PING && head.has(flag::ACK) && payload == LAST;
        Self::hears_raw(&[greeting, said.concat(), behind].concat(), |told| told.iter().any(is_last))
            .filter(|(_, hung_up)| *hung_up != goes_on)
            .map(|(told, _)| told)
    }

    /// Says these bytes and reads frames until there are enough or no more, which is answered, too; `None` when it
    /// neither says them nor hangs up.
    pub fn hears_raw(said: &[u8], is_enough: impl Fn(&[Said]) -> bool) -> Option<(Vec<Said>, bool)> {
        let mut socket = TcpStream::connect(Self::address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(said).unwrap();
        let mut told = Vec::new();
        loop {
            let mut head = [0; HEAD_BYTES];
            match socket.read(&mut head[..1]) {
                Ok(0) => return Some((told, true)),
                Ok(_) => socket.read_exact(&mut head[1..]).unwrap(),
                Err(_) => return None,
            }
            let head = Head::parse(&head);
            let mut payload = vec![0; head.length as usize];
            socket.read_exact(&mut payload).unwrap();
            told.push((head, payload));
            if is_enough(&told) {
                return Some((told, false));
            }
        }
    }
}
