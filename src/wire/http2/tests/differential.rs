//! Against an independent peer, h2: whatever is said, by whichever side, comes back as it was said.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::io::{DuplexStream, duplex};
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::{limits, shared};
use crate::wire::http2::Session;
use crate::wire::http2::handle::{Handle, Shared};
use crate::wire::http2::link::Link;
use crate::wire::http2::settings::Limits;
use crate::wire::stream::Chunk;

/// Rounds of a run, each of the next seed; `SEED=n` begins with a certain one.
const ROUNDS: u64 = 24;

/// What one call says: fields, bytes, and whether it is given up half way.
#[derive(Clone)]
struct Said {
    fields: HeaderMap,
    bytes: Bytes,
    is_given_up: bool,
}

impl Said {
    /// Fields repeat from call to call, so that tables fill and empty.
    fn draw(random: &mut fastrand::Rng) -> Self {
        let mut fields = HeaderMap::new();
        for _ in 0..random.usize(0..12) {
            let name = HeaderName::try_from(format!("x-{}", random.u8(..20))).unwrap();
            let length = [0, 8, 300][random.usize(..3)];
            let letter = random.char('!'..='~');
            let value: String =
                (0..length).map(|at| if at % 3 == 0 { letter } else { random.alphanumeric() }).collect();
            fields.append(name, HeaderValue::try_from(value).unwrap());
        }
        let longest = [10, 3_000, 150_000][random.usize(..3)];
        let length = random.usize(0..longest);
        let bytes = (0..length).map(|_| random.u8(..)).collect();
        Self { fields, bytes, is_given_up: random.u8(..8) == 0 }
    }

    fn request(&self) -> Request<()> {
        let mut request = Request::post("http://gateway/a.B/c").header("te", "trailers").body(()).unwrap();
        request.headers_mut().extend(self.fields.clone());
        request
    }
}

/// What both sides answer: the fields as trailers, without what every call says.
fn said_of(headers: &HeaderMap) -> HeaderMap {
    headers.iter().filter(|(name, _)| *name != "te").map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn sorted(fields: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut sorted: Vec<_> = fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    sorted.sort();
    sorted
}

fn limits_of(random: &mut fastrand::Rng) -> Limits {
    let stream_window_bytes = random.u32(200..100_000);
    Limits { stream_window_bytes, connection_window_bytes: 65_535 + random.u32(0..100_000), ..limits() }
}

fn run<F: Future<Output = ()>>(round: impl Fn(fastrand::Rng) -> F) {
    let first = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for seed in first..first + ROUNDS {
        println!("seed {seed}");
        let one = async {
            let round = round(fastrand::Rng::with_seed(seed));
            tokio::time::timeout(Duration::from_secs(60), round).await.expect("it has come to a standstill");
        };
        LocalSet::new().block_on(&runtime, one);
    }
}

/// Drives one of our connections and serves its calls by what is given.
async fn drive(session: Shared, socket: DuplexStream, serve: Option<fn(http::request::Parts, Handle)>) {
    let mut link = Link::new(Rc::clone(&session), socket);
    poll_fn(|cx| {
        link.poll_read(cx);
        let is_over = link.poll_write(cx).is_ready();
        while let (Some(serve), Some((head, call))) = (serve, Handle::accept(&session)) {
            serve(head, call);
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn echo(head: http::request::Parts, call: Handle) {
    spawn_local(async move {
        let _ = call.respond(&Response::new(()).into_parts().0, false);
        loop {
            match poll_fn(|cx| call.poll_chunk(cx)).await {
                Chunk::Data(mut data) => {
                    call.release(data.len());
                    while !data.is_empty() {
                        call.want(data.len());
                        let Ok(room) = poll_fn(|cx| call.poll_room(cx)).await else { return };
                        if call.send(data.split_to(room.min(data.len()))).is_err() {
                            return;
                        }
                    }
                }
                Chunk::End(_) => {
                    let _ = call.send_trailers(said_of(&head.headers));
                    return;
                }
                Chunk::Broken(_) => return,
            }
        }
    });
}

#[test]
fn what_h2_says_to_our_server_comes_back() {
    run(|mut random| async move {
        let (near, far) = duplex(random.usize(20..100_000));
        spawn_local(drive(shared(Session::server(limits_of(&mut random))), far, Some(echo)));
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(random.u32(100..100_000)).header_table_size(random.u32(0..5_000));
        let (requests, connection) = builder.handshake::<_, Bytes>(near).await.unwrap();
        let driver = spawn_local(connection);
        let calls = (0..random.usize(1..20)).map(|_| {
            let (said, mut requests, mut random) = (Said::draw(&mut random), requests.clone(), random.fork());
            async move {
                let (response, mut send) = requests.send_request(said.request(), false).unwrap();
                let mut left = said.bytes.clone();
                let sending = async {
                    while !left.is_empty() {
                        let piece = left.split_to(random.usize(1..=left.len().min(20_000)));
                        send.send_data(piece, false).unwrap();
                        yield_now().await;
                        if said.is_given_up && random.bool() {
                            return send.send_reset(h2::Reason::CANCEL);
                        }
                    }
                    send.send_data(Bytes::new(), true).unwrap();
                };
                let receiving = async {
                    let mut body = response.await.ok()?.into_body();
                    let mut got = BytesMut::new();
                    while let Some(data) = body.data().await {
                        let data = data.ok()?;
                        body.flow_control().release_capacity(data.len()).ok()?;
                        got.extend_from_slice(&data);
                    }
                    Some((got.freeze(), body.trailers().await.ok()?.unwrap_or_default()))
                };
                match tokio::join!(sending, receiving).1 {
                    Some((got, trailers)) => {
                        assert!(got == said.bytes, "{} of {} bytes", got.len(), said.bytes.len());
                        assert_eq!(sorted(&trailers), sorted(&said.fields));
                    }
                    None => assert!(said.is_given_up),
                }
            }
        });
        join_all(calls.collect::<Vec<_>>()).await;
        drop(requests);
        driver.await.unwrap().unwrap();
    });
}

#[test]
fn what_our_client_says_to_h2_comes_back() {
    run(|mut random| async move {
        let (near, far) = duplex(random.usize(20..100_000));
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(random.u32(100..100_000)).max_frame_size(16_384 + random.u32(0..100_000));
        spawn_local(async move {
            let mut connection = builder.handshake::<_, Bytes>(far).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                spawn_local(h2_echo(request, respond));
            }
        });
        let session = shared(Session::client(limits_of(&mut random)));
        spawn_local(drive(Rc::clone(&session), near, None));
        while !session.borrow().is_greeted() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let calls = (0..random.usize(1..20)).map(|_| {
            let (said, random) = (Said::draw(&mut random), RefCell::new(random.fork()));
            let call = Handle::call(&session, said.request()).unwrap();
            async move {
                let mut left = said.bytes.clone();
                let sending = async {
                    while !left.is_empty() {
                        call.want(left.len());
                        let Ok(room) = poll_fn(|cx| call.poll_room(cx)).await else { return };
                        let length = random.borrow_mut().usize(1..=left.len().min(room));
                        call.send(left.split_to(length)).unwrap();
                        if said.is_given_up && random.borrow_mut().u8(..4) == 0 {
                            return call.reset(super::Reason::CANCEL);
                        }
                    }
                    let _ = call.half_close();
                };
                let receiving = async {
                    poll_fn(|cx| call.poll_response(cx)).await?;
                    let mut got = BytesMut::new();
                    loop {
                        match poll_fn(|cx| call.poll_chunk(cx)).await {
                            Chunk::Data(data) => {
                                got.extend_from_slice(&data);
                                call.release(data.len());
                            }
                            Chunk::End(trailers) => return Ok((got.freeze(), trailers.unwrap_or_default())),
                            Chunk::Broken(lost) => return Err(lost),
                        }
                    }
                };
                match tokio::join!(sending, receiving).1 {
                    Ok((got, trailers)) => {
                        assert!(got == said.bytes, "{} of {} bytes", got.len(), said.bytes.len());
                        assert_eq!(sorted(&trailers), sorted(&said.fields));
                    }
                    Err(lost) => assert!(said.is_given_up, "{lost}"),
                }
            }
        });
        join_all(calls.collect::<Vec<_>>()).await;
        let session = session.borrow();
        assert_eq!((session.over(), session.open, session.granted), (None, 0, 0));
    });
}

async fn h2_echo(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let (head, mut body) = request.into_parts();
    // It may have been given up before it was looked at.
    let Ok(mut send) = respond.send_response(Response::new(()), false) else { return };
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        if send.send_data(data, false).is_err() {
            return;
        }
    }
    if body.is_end_stream() {
        let _ = send.send_trailers(said_of(&head.headers));
    }
}
