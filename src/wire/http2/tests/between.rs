//! Two sessions of ours, whatever their windows and however their bytes are cut: each byte arrives once and in order.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use proptest::prelude::*;

use super::{limits, now, output, request, shared};
use crate::wire::http2::Session;
use crate::wire::http2::frame::Reason;
use crate::wire::http2::handle::{Handle, Shared};
use crate::wire::http2::settings::Limits;
use crate::wire::stream::{BreakKind, Chunk};

/// One end of a stream and what it has done.
struct End {
    handle: Handle,
    to_send: Bytes,
    is_begun: bool,
    is_finished: bool,
    got: Vec<u8>,
    held: usize,
    has_head: bool,
    outcome: Option<Outcome>,
}

#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Ended { has_trailers: bool },
    Broken(BreakKind),
}

impl End {
    fn new(handle: Handle, to_send: Bytes, is_begun: bool) -> Self {
        let (got, held, outcome) = (Vec::new(), 0, None);
        Self { handle, to_send, is_begun, is_finished: false, got, held, has_head: is_begun, outcome }
    }

    /// Reads what is there and gives some of it back.
    fn read(&mut self, random: &mut fastrand::Rng) {
        let handle = &self.handle;
        if self.outcome.is_none() {
            match now(|cx| handle.poll_chunk(cx)) {
                Some(Chunk::Data(data)) => {
                    assert!(!data.is_empty());
                    self.held += data.len();
                    self.got.extend_from_slice(&data);
                }
                Some(Chunk::End(trailers)) => {
                    self.outcome = Some(Outcome::Ended { has_trailers: trailers.is_some() });
                }
                Some(Chunk::Broken(lost)) => self.outcome = Some(Outcome::Broken(lost.kind)),
                None => {}
            }
        }
        let released = random.usize(0..=self.held);
        handle.release(released);
        self.held -= released;
    }

    /// Sends some of what is left, within the room or beyond it.
    fn write(&mut self, random: &mut fastrand::Rng, answers: bool) {
        let handle = &self.handle;
        if self.is_finished {
            return;
        }
        if !std::mem::replace(&mut self.is_begun, true) {
            let _ = handle.respond(&Response::new(()).into_parts().0, false);
        }
        let wanted = random.usize(0..=self.to_send.len().min(100_000));
        let length = match random.u8(..4) {
            0 => wanted,
            _ => {
                handle.want(wanted);
                handle.room().min(wanted)
            }
        };
        let sent = handle.send(self.to_send.split_to(length)).is_ok();
        if self.to_send.is_empty() || !sent {
            self.is_finished = true;
            let _ = match answers {
                true => handle.send_trailers(HeaderMap::from_iter([(
                    http::header::HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("0"),
                )])),
                false => handle.half_close(),
            };
        }
    }

    fn is_over(&self) -> bool {
        self.is_finished && self.outcome.is_some()
    }
}

/// Carries some of what one side wants written to the other, in pieces.
fn carry(from: &Shared, to: &Shared, pipe: &mut Vec<u8>, random: &mut fastrand::Rng) {
    if random.u8(..4) > 0 {
        pipe.extend(output(from));
    }
    let length = match random.u8(..3) {
        0 => pipe.len(),
        1 => random.usize(0..=pipe.len().min(40)),
        _ => random.usize(0..=pipe.len()),
    };
    to.borrow_mut().receive(&pipe.drain(..length).collect::<Vec<_>>());
    for side in [from, to] {
        assert_eq!(side.borrow().over(), None);
    }
}

fn bytes(length: usize, random: &mut fastrand::Rng) -> Bytes {
    (0..length).map(|_| random.u8(..)).collect()
}

/// Windows of a few bytes for short conversations; in long ones their updates would be a flood, and end as one.
fn limits_of(is_short: bool, random: &mut fastrand::Rng) -> Limits {
    let window_max = [300, 5_000, 70_000, 300_000][random.usize(..4)];
    let stream_window_bytes = if is_short { random.u32(1..=20) } else { random.u32(130..window_max) };
    let connection_window_bytes = 65_535 + random.u32(0..300_000);
    Limits { stream_window_bytes, connection_window_bytes, ..limits() }
}

fn converse(seed: u64, resets: bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let random = &mut random;
    let longest = [30, 2_000, 200_000][random.usize(..3)];
    let client = shared(Session::client(limits_of(longest < 100, random)));
    let server = shared(Session::server(limits_of(longest < 100, random)));
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    while !client.borrow().is_greeted() || !server.borrow().is_greeted() {
        carry(&client, &server, &mut to_server, random);
        carry(&server, &client, &mut to_client, random);
    }
    let (mut callers, mut answerers, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..random.usize(1..8) {
        let (up, down) = (bytes(random.usize(0..longest), random), bytes(random.usize(0..longest), random));
        callers.push(End::new(Handle::call(&client, request()).unwrap(), up.clone(), true));
        callers.last_mut().unwrap().has_head = false;
        said.push((up, down));
    }
    let mut steps = 0;
    while callers.iter().chain(&answerers).any(|end| !end.is_over()) || answerers.len() < callers.len() {
        steps += 1;
        assert!(steps < 400_000, "seed {seed}: it has come to a standstill");
        match random.u8(..6) {
            0 => carry(&client, &server, &mut to_server, random),
            1 => carry(&server, &client, &mut to_client, random),
            2 => {
                if let Some((head, handle)) = Handle::accept(&server) {
                    assert_eq!(head.uri.path(), "/a.B/c");
                    answerers.push(End::new(handle, said[answerers.len()].1.clone(), false));
                }
            }
            3 => {
                let end = &mut callers[random.usize(..said.len())];
                end.write(random, false);
            }
            4 => {
                let end = &mut callers[random.usize(..said.len())];
                if !end.has_head {
                    match now(|cx| end.handle.poll_response(cx)) {
                        Some(Ok(_)) => end.has_head = true,
                        Some(Err(lost)) => end.outcome = Some(Outcome::Broken(lost.kind)),
                        None => {}
                    }
                } else {
                    end.read(random);
                }
            }
            _ if answerers.is_empty() => {}
            _ => {
                let at = random.usize(..answerers.len());
                let end = &mut answerers[at];
                end.read(random);
                end.write(random, true);
                if resets && random.u32(..200) == 0 && !end.is_over() {
                    end.handle.reset(Reason::CANCEL);
                    (end.is_finished, end.outcome) = (true, Some(Outcome::Broken(BreakKind::Reset)));
                }
            }
        }
    }
    for ((caller, answerer), (up, down)) in callers.iter().zip(&answerers).zip(&said) {
        let ended = |end: &End| matches!(end.outcome, Some(Outcome::Ended { .. }));
        if !resets || ended(answerer) {
            assert_eq!(
                (&answerer.got, &answerer.outcome),
                (&up.to_vec(), &Some(Outcome::Ended { has_trailers: false }))
            );
        }
        if !resets || ended(caller) {
            assert_eq!((&caller.got, &caller.outcome), (&down.to_vec(), &Some(Outcome::Ended { has_trailers: true })));
        }
        assert!(up.starts_with(&answerer.got) && down.starts_with(&caller.got), "seed {seed}");
    }
    callers.clear();
    answerers.clear();
    for _ in 0..1_000 {
        carry(&client, &server, &mut to_server, random);
        carry(&server, &client, &mut to_client, random);
    }
    for side in [client, server] {
        let session = side.borrow();
        let left = (session.streams.places().len(), session.open, session.granted, session.waiting.len());
        assert_eq!(left, (0, 0, 0, 0), "seed {seed}");
        let window = i64::from(session.limits.connection_window_bytes);
        assert_eq!(session.window + i64::from(session.released_bytes), window, "seed {seed}: a window leaks");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_byte_arrives_once_and_in_order(seed: u64) {
        converse(seed, false);
    }

    #[test]
    fn streams_that_are_reset_leave_the_others_and_the_windows_alone(seed: u64) {
        converse(seed, true);
    }
}
