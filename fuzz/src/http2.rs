//! HTTP/2: however a peer's bytes are cut, they mean the same, nothing panics, and what is answered is frames.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use loona_hpack::decoder::DecoderError;
use switchyard::wire::http2::Session;
use switchyard::wire::http2::fields::Fields;
use switchyard::wire::http2::frame::{HEAD_BYTES, Head, PREFACE, Reason};
use switchyard::wire::http2::handle::{Handle, Shared};
use switchyard::wire::http2::hpack::TABLE_BYTES;
use switchyard::wire::http2::hpack::decode::{Decoder, Unreadable};
use switchyard::wire::http2::hpack::encode::Encoder;
use switchyard::wire::http2::hpack::table::Name;
use switchyard::wire::http2::settings::Limits;
use switchyard::wire::stream::{BreakKind, Chunk};

/// What a stream brought, and how it ended.
type Brought = (Vec<u8>, Option<Result<Option<HeaderMap>, BreakKind>>);

fn limits() -> Limits {
    Limits { streams_max: 4, header_list_bytes_max: 1_000, stream_window_bytes: 300, connection_window_bytes: 65_535 }
}

/// A peer that has greeted says this to a server.
///
/// Input: number of chunk sizes, the sizes (used again and again), the bytes.
pub fn http2_server(input: &[u8]) {
    compare(input, |chunks| {
        let session = Rc::new(RefCell::new(Session::server(limits())));
        session.borrow_mut().receive(PREFACE);
        hear(&session, chunks);
        let calls: Vec<_> = std::iter::from_fn(|| Handle::accept(&session)).collect();
        let brought: Vec<_> = calls.iter().map(|(head, call)| (head.uri.to_string(), read(call))).collect();
        end(session, calls, brought)
    });
}

/// And this to a client that has three calls open.
pub fn http2_client(input: &[u8]) {
    compare(input, |chunks| {
        let session = Rc::new(RefCell::new(Session::client(limits())));
        hear(&session, &[]);
        let request = || Request::post("http://backend/a.B/c").body(()).expect("a request");
        let calls: Vec<_> = (0..3).filter_map(|_| Handle::call(&session, request()).ok()).collect();
        for chunk in chunks {
            session.borrow_mut().receive(chunk);
        }
        let head = |call: &Handle| match call.poll_response(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(head)) => format!("{:?}", head.status),
            Poll::Ready(Err(lost)) => format!("{:?}", lost.kind),
            Poll::Pending => String::new(),
        };
        let brought: Vec<_> = calls.iter().map(|call| (head(call), read(call))).collect();
        end(session, calls, brought)
    });
}

fn compare<T: PartialEq + std::fmt::Debug>(input: &[u8], run: impl Fn(&[&[u8]]) -> T) {
    let [sizes, rest @ ..] = input else { return };
    let (sizes, bytes) = rest.split_at(rest.len().min(usize::from(*sizes)));
    let chunks = super::chunks(bytes, sizes);
    assert_eq!(run(&chunks), run(&[bytes]), "cut and whole");
}

/// Greets, and says the rest.
fn hear(session: &Shared, chunks: &[&[u8]]) {
    session.borrow_mut().receive(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]);
    chunks.iter().for_each(|chunk| session.borrow_mut().receive(chunk));
}

/// Reads a stream as far as it has come, and gives all of it back.
fn read(call: &Handle) -> Brought {
    let (mut bytes, mut end) = (Vec::new(), None);
    while end.is_none() {
        match call.poll_chunk(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Chunk::Data(data)) => {
                assert!(!data.is_empty(), "a chunk is never empty");
                bytes.extend_from_slice(&data);
                call.release(data.len());
            }
            Poll::Ready(Chunk::End(trailers)) => end = Some(Ok(trailers)),
            Poll::Ready(Chunk::Broken(lost)) => end = Some(Err(lost.kind)),
            Poll::Pending => break,
        }
    }
    assert!(bytes.len() <= 300, "it keeps to its window");
    (bytes, end)
}

/// Lets go of everything and looks at what was answered.
fn end<C, B>(session: Shared, calls: C, brought: B) -> (B, Option<Option<Reason>>) {
    drop(calls);
    let over = session.borrow().over().map(|over| over.reason);
    let mut session = session.borrow_mut();
    let mut said = Vec::new();
    while !session.output().is_empty() {
        let (slices, filled) = session.output().slices::<4>();
        let piece: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        session.written(piece.len());
        said.extend(piece);
    }
    let mut rest = said.strip_prefix(PREFACE).unwrap_or(&said);
    while let Some((head, behind)) = rest.split_first_chunk::<HEAD_BYTES>() {
        rest = behind.get(Head::parse(head).length as usize..).expect("frames are whole");
    }
    assert!(rest.is_empty(), "half a head");
    (brought, over)
}

/// What can be read of header blocks is what an independent decoder reads, reads the same again once it is written,
/// and the table stays within its size.
///
/// Input: blocks, each behind its length in a byte.
pub fn hpack(input: &[u8]) {
    let (mut decoder, mut rest) = (Decoder::new(), input);
    let mut other = loona_hpack::Decoder::new();
    other.set_max_allowed_table_size(TABLE_BYTES);
    while let Some((length, behind)) = rest.split_first() {
        let (block, next) = behind.split_at(behind.len().min(usize::from(*length)));
        rest = next;
        let (mut found, mut fields) = (HeaderMap::new(), Fields::new(2_000));
        let mut raw = Vec::new();
        let decoded = decoder.decode(block, |name, value| {
            raw.push((name.as_bytes().to_vec(), value.to_vec()));
            if let (Name::Field(name), Ok(value)) = (&name, HeaderValue::from_maybe_shared(value.clone())) {
                found.append(name, value);
            }
            fields.put(name, value);
        });
        assert!(decoder.table().bytes() <= TABLE_BYTES);
        match (decoded, other.decode(block)) {
            // A block of nothing but sizes: whether it may be is nowhere said.
            (Ok(()), Err(DecoderError::SizeUpdateAtEnd)) => return,
            (Ok(()), theirs) => assert_eq!(Ok(raw), theirs, "the other decoder"),
            (Err(error), theirs) => return assert!(theirs.is_err() || is_stricter(error), "{error}, but {theirs:?}"),
        }
        let is_request = fields.into_request();
        assert!(is_request.is_err() || is_request.is_ok_and(|head| head.headers.len() <= found.len()));
        let mut block = Vec::new();
        Encoder::default().trailers(&found, &mut block);
        assert_eq!(sorted(&read_again(&block)), sorted(&found));
    }
}

/// What the other decoder lets pass and the RFC does not, or need not.
fn is_stricter(error: Unreadable) -> bool {
    matches!(error, Unreadable::Number | Unreadable::Resize)
}

fn read_again(block: &[u8]) -> HeaderMap {
    let mut again = HeaderMap::new();
    let put = |name: Name, value: Bytes| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name that was written");
        again.append(name, HeaderValue::from_maybe_shared(value).expect("a value that was written"));
    };
    Decoder::new().decode(block, put).expect("what we write can be read");
    again
}

fn sorted(fields: &HeaderMap) -> HashMap<&str, Vec<&[u8]>> {
    let mut sorted: HashMap<&str, Vec<&[u8]>> = HashMap::new();
    for (name, value) in fields {
        sorted.entry(name.as_str()).or_default().push(value.as_bytes());
    }
    sorted
}
