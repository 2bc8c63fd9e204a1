//! Tests of whole sessions without sockets: each other's peers, floods, farewells. What the RFCs ask for is in
//! tests/http2.

mod between;
mod differential;
mod floods;
mod graceful;

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, Request, StatusCode};

use super::Session;
use super::frame::{HEAD_BYTES, Head, PREFACE, Reason, flag, kind};
use super::handle::{Handle, Shared};
use super::hpack::encode::Encoder;
use super::settings::Limits;

pub(super) fn limits() -> Limits {
    Limits {
        streams_max: 100,
        header_list_bytes_max: 16 << 10,
        stream_window_bytes: 64 << 10,
        connection_window_bytes: 128 << 10,
    }
}

pub(super) fn shared(session: Session) -> Shared {
    Rc::new(RefCell::new(session))
}

/// All that waits to be written.
pub(super) fn output(session: &Shared) -> Vec<u8> {
    let mut session = session.borrow_mut();
    let mut bytes = Vec::new();
    while !session.output().is_empty() {
        let (slices, filled) = session.output().slices::<4>();
        let piece = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
        session.written(piece.len());
        bytes.extend(piece);
    }
    bytes
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = Head { length: payload.len() as u32, kind, flags, stream };
    [&head.to_bytes()[..], payload].concat()
}

pub(super) fn frames(mut bytes: &[u8]) -> Vec<(Head, Vec<u8>)> {
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

/// The block of a gRPC call's head with these fields, each in place of the usual one of its name if there is one.
pub(super) fn call_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let usual = [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/c"), (":authority", "gateway")];
    let kept = usual.iter().filter(|(name, _)| !fields.iter().any(|(other, _)| other == name));
    block(&kept.chain(fields).copied().collect::<Vec<_>>())
}

/// A block of literals that are not indexed.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A server of ours and what a raw client has said to it.
pub(super) struct Server {
    pub session: Shared,
}

impl Server {
    /// Greeted, with the greetings out of the way.
    pub fn new() -> Self {
        Self::with(limits())
    }

    pub fn with(limits: Limits) -> Self {
        let server = Self { session: shared(Session::server(limits)) };
        server.hear(PREFACE);
        server.hear(&frame(kind::SETTINGS, 0, 0, &[]));
        server.hear(&frame(kind::SETTINGS, flag::ACK, 0, &[]));
        server.said();
        server
    }

    pub fn hear(&self, bytes: &[u8]) {
        self.session.borrow_mut().receive(bytes);
    }

    pub fn said(&self) -> Vec<(Head, Vec<u8>)> {
        frames(&output(&self.session))
    }

    /// Opens a call and leaves it open.
    pub fn open(&self, stream: u32) -> Handle {
        self.hear(&frame(kind::HEADERS, flag::END_HEADERS, stream, &call_block(&[])));
        Handle::accept(&self.session).expect("a call has begun").1
    }

    /// What its connection ended with, if it has ended.
    pub fn ended(&self) -> Option<Reason> {
        self.session.borrow().over().map(|over| over.reason.expect("it ended with a reason"))
    }

    /// The resets it has said.
    pub fn resets(&self) -> Vec<(u32, Reason)> {
        self.said().into_iter().filter(|(head, _)| head.kind == kind::RST_STREAM).map(reset_of).collect()
    }
}

pub(super) fn reset_of((head, payload): (Head, Vec<u8>)) -> (u32, Reason) {
    (head.stream, Reason(u32::from_be_bytes(payload.try_into().unwrap())))
}

/// A client of ours, greeted by a raw server.
pub(super) fn client() -> Shared {
    let session = shared(Session::client(limits()));
    session.borrow_mut().receive(&frame(kind::SETTINGS, 0, 0, &[]));
    output(&session);
    session
}

pub(super) fn request() -> Request<()> {
    Request::post("http://backend/a.B/c").body(()).unwrap()
}

pub(super) fn response_block() -> Vec<u8> {
    let mut block = Vec::new();
    Encoder::default().response(StatusCode::OK, &HeaderMap::new(), &mut block);
    block
}

/// What a poll answers; `None` when it would wait.
pub(super) fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
