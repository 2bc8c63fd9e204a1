//! Two sessions of ours, whatever their windows, however their bytes are cut and whatever is given up half way: each
//! byte arrives once and in order, and the accounts of windows balance on both sides.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use proptest::prelude::*;

use super::{frame, limits, now, output, shared};
use crate::wire::http2::Session;
use crate::wire::http2::frame::{Reason, kind};
use crate::wire::http2::handle::{Handle, Shared};
use crate::wire::http2::settings::Limits;
use crate::wire::stream::{BreakKind, Chunk};

/// How the two treat each other.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manners {
    /// Every call and every answer is said to its end.
    Polite,
    /// Answers are reset.
    Resetting,
    /// Both sides give up and stop reading, windows shrink below zero and grow again, tables come and go, calls begin
    /// late and perhaps behind a GOAWAY.
    Rude,
}

/// One end of a stream and what it has done.
struct End {
    /// None once it was dropped.
    handle: Option<Handle>,
    to_send: Bytes,
    sent: usize,
    is_begun: bool,
    is_finished: bool,
    got: Vec<u8>,
    held: usize,
    has_head: bool,
    outcome: Option<Outcome>,
}

#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Ended {
        has_trailers: bool,
    },
    Broken(BreakKind),
    /// By this end.
    GivenUp,
}

impl End {
    fn caller(handle: Handle, to_send: Bytes) -> Self {
        Self { is_begun: true, has_head: false, ..Self::answerer(handle, to_send) }
    }

    fn answerer(handle: Handle, to_send: Bytes) -> Self {
        let (got, held, sent, outcome) = (Vec::new(), 0, 0, None);
        let handle = Some(handle);
        Self { handle, to_send, sent, is_begun: false, is_finished: false, got, held, has_head: true, outcome }
    }

    /// Reads what is there and gives some of it back.
    fn read(&mut self, random: &mut fastrand::Rng) {
        let Some(handle) = &self.handle else { return };
        if self.outcome.is_none() && !self.has_head {
            match now(|cx| handle.poll_response(cx)) {
                Some(Ok(_)) => self.has_head = true,
                Some(Err(lost)) => self.outcome = Some(Outcome::Broken(lost.kind)),
                None => {}
            }
        } else if self.outcome.is_none() {
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
        let Some(handle) = self.handle.as_ref().filter(|_| !self.is_finished) else { return };
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
        let is_sent = handle.send(self.to_send.split_to(length)).is_ok();
        self.sent += length;
        if self.to_send.is_empty() || !is_sent {
            self.finish(answers);
        }
    }

    fn finish(&mut self, answers: bool) {
        let Some(handle) = &self.handle else { return };
        self.is_finished = true;
        let _ = match answers {
            true => handle.send_trailers(HeaderMap::from_iter([(
                http::header::HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("0"),
            )])),
            false => handle.half_close(),
        };
    }

    /// Breaks off, one way or another.
    fn give_up(&mut self, random: &mut fastrand::Rng, answers: bool) {
        let Some(handle) = self.handle.as_ref().filter(|_| self.outcome.is_none()) else { return };
        match random.u8(..4) {
            // No more is said, though there was more to say.
            0 if self.is_begun => return self.finish(answers),
            1 => {
                handle.stop_reading();
                self.held = 0;
            }
            2 => {
                handle.reset([Reason::CANCEL, Reason::NO_ERROR, Reason::REFUSED_STREAM][random.usize(..3)]);
                self.is_finished = true;
            }
            _ => {
                (self.handle, self.held) = (None, 0);
                self.is_finished = true;
            }
        }
        self.outcome = Some(Outcome::GivenUp);
    }

    fn is_over(&self) -> bool {
        self.is_finished && self.outcome.is_some()
    }

    fn has_ended(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Ended { .. }))
    }
}

/// What one side has written and the other not read, always to the end of a frame.
struct Pipe {
    from: Shared,
    to: Shared,
    bytes: Vec<u8>,
    /// The window that was announced, and whether it is lowered at the moment.
    window: u32,
    is_lowered: bool,
    storms: usize,
}

impl Pipe {
    fn new(from: &Shared, to: &Shared) -> Self {
        let window = from.borrow().limits.stream_window_bytes;
        let (from, to) = (from.clone(), to.clone());
        Self { from, to, bytes: Vec::new(), window, is_lowered: false, storms: 0 }
    }

    /// Carries some of what waits, in pieces.
    fn carry(&mut self, random: &mut fastrand::Rng) {
        if random.u8(..4) > 0 {
            self.bytes.extend(output(&self.from));
        }
        let length = match random.u8(..3) {
            0 => self.bytes.len(),
            1 => random.usize(0..=self.bytes.len().min(40)),
            _ => random.usize(0..=self.bytes.len()),
        };
        self.to.borrow_mut().receive(&self.bytes.drain(..length).collect::<Vec<_>>());
        for side in [&self.from, &self.to] {
            assert_eq!(side.borrow().over(), None);
        }
    }

    /// SETTINGS that lower the windows, below zero where they are used, and then those that raise them again; never
    /// above what the session that is said to have sent them counts with.
    fn storm(&mut self, random: &mut fastrand::Rng) {
        if self.storms == 40 {
            return;
        }
        self.storms += 1;
        let window = if self.is_lowered { self.window } else { random.u32(0..=self.window) };
        self.is_lowered = !self.is_lowered;
        let table_bytes = [0, 100, 4_096, 1 << 20][random.usize(..4)];
        let payload = [&[0, 4][..], &window.to_be_bytes(), &[0, 1], &u32::to_be_bytes(table_bytes)].concat();
        self.bytes.extend(output(&self.from));
        self.bytes.extend(frame(kind::SETTINGS, 0, 0, &payload));
        self.bytes.extend(frame(kind::PING, 0, 0, b"whatever"));
    }
}

/// What is reserved is what streams have reserved, and never more than may be sent.
fn check_accounts(side: &Shared) {
    let session = side.borrow();
    let streams: Vec<_> = session.streams.places().into_iter().map(|place| &session.streams[place]).collect();
    assert_eq!(session.granted, streams.iter().map(|stream| stream.granted).sum::<usize>());
    assert!(session.granted as i64 <= session.send_window.max(0));
    assert_eq!(session.open, streams.iter().filter(|stream| stream.is_counted).count());
    assert_eq!(session.waiting.len(), streams.iter().filter(|stream| stream.is_waiting).count());
    assert!(streams.iter().all(|stream| stream.granted == 0 || stream.granted as i64 <= stream.send_window));
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

fn request_of(number: usize) -> Request<()> {
    Request::post(format!("http://backend/{number}")).body(()).unwrap()
}

fn converse(seed: u64, manners: Manners) {
    let mut random = fastrand::Rng::with_seed(seed);
    let random = &mut random;
    let longest = [30, 2_000, 200_000][random.usize(..3)];
    let client = shared(Session::client(limits_of(longest < 100, random)));
    let server = shared(Session::server(limits_of(longest < 100, random)));
    let (mut to_server, mut to_client) = (Pipe::new(&client, &server), Pipe::new(&server, &client));
    while !client.borrow().is_greeted() || !server.borrow().is_greeted() {
        to_server.carry(random);
        to_client.carry(random);
    }
    let is_rude = manners == Manners::Rude;
    let said: Vec<_> = (0..random.usize(1..8))
        .map(|_| (bytes(random.usize(0..longest), random), bytes(random.usize(0..longest), random)))
        .collect();
    let (mut callers, mut answerers): (Vec<End>, Vec<(usize, End)>) = (Vec::new(), Vec::new());
    let mut steps = 0;
    let is_over = |callers: &[End], answerers: &[(usize, End)]| {
        let all = callers.len() == said.len() && (is_rude || answerers.len() == said.len());
        all && callers.iter().chain(answerers.iter().map(|(_, end)| end)).all(End::is_over)
    };
    while !is_over(&callers, &answerers) {
        steps += 1;
        assert!(steps < 400_000, "it has come to a standstill");
        if callers.len() < said.len() && (!is_rude || random.u8(..20) == 0) {
            match Handle::call(&client, request_of(callers.len())) {
                Ok(handle) => callers.push(End::caller(handle, said[callers.len()].0.clone())),
                Err(_) => break,
            }
        }
        match random.u8(..6) {
            0 => to_server.carry(random),
            1 => to_client.carry(random),
            2 => {
                if let Some((head, handle)) = Handle::accept(&server) {
                    let number: usize = head.uri.path()[1..].parse().unwrap();
                    answerers.push((number, End::answerer(handle, said[number].1.clone())));
                }
            }
            3 if !callers.is_empty() => {
                let at = random.usize(..callers.len());
                callers[at].write(random, false);
            }
            4 if !callers.is_empty() => {
                let at = random.usize(..callers.len());
                callers[at].read(random);
            }
            _ if !answerers.is_empty() => {
                let at = random.usize(..answerers.len());
                let end = &mut answerers[at].1;
                end.read(random);
                end.write(random, true);
                if let Some(handle) = end.handle.as_ref().filter(|_| manners == Manners::Resetting && !end.is_over())
                    && random.u32(..200) == 0
                {
                    handle.reset(Reason::CANCEL);
                    (end.is_finished, end.outcome) = (true, Some(Outcome::GivenUp));
                }
            }
            _ => {}
        }
        if is_rude {
            match random.u32(..600) {
                0..2 => to_server.storm(random),
                2..4 => to_client.storm(random),
                4..6 if !callers.is_empty() => {
                    let at = random.usize(..callers.len());
                    callers[at].give_up(random, false);
                }
                6..8 if !answerers.is_empty() => {
                    let at = random.usize(..answerers.len());
                    answerers[at].1.give_up(random, true);
                }
                8 if random.u8(..4) == 0 => server.borrow_mut().go_away(),
                _ => {}
            }
        }
        if steps % 16 == 0 {
            [&client, &server].into_iter().for_each(check_accounts);
        }
    }
    for (number, answerer) in &answerers {
        let ((up, down), caller) = (&said[*number], &callers[*number]);
        assert!(up.starts_with(&answerer.got) && down.starts_with(&caller.got));
        if !is_rude && (manners == Manners::Polite || answerer.has_ended()) {
            assert_eq!(answerer.outcome, Some(Outcome::Ended { has_trailers: false }));
        }
        if !is_rude && (manners == Manners::Polite || caller.has_ended()) {
            assert_eq!(caller.outcome, Some(Outcome::Ended { has_trailers: true }));
        }
        if answerer.has_ended() {
            assert_eq!(answerer.got.len(), caller.sent, "it ended before all of it was read");
        }
        if caller.has_ended() {
            assert_eq!(caller.got.len(), answerer.sent, "it ended before all of it was read");
        }
    }
    callers.clear();
    answerers.clear();
    for pipe in [&mut to_server, &mut to_client] {
        if pipe.is_lowered {
            pipe.storms = 0;
            pipe.storm(random);
        }
    }
    for _ in 0..1_000 {
        to_server.carry(random);
        to_client.carry(random);
        while Handle::accept(&server).is_some() {}
    }
    assert!(to_server.bytes.is_empty() && to_client.bytes.is_empty() && output(&client).is_empty());
    for (side, peer) in [(&client, &server), (&server, &client)] {
        check_accounts(side);
        let (session, peer) = (side.borrow(), peer.borrow());
        let left = (session.streams.places().len(), session.open, session.granted, session.waiting.len());
        assert_eq!(left, (0, 0, 0, 0));
        let window = i64::from(session.limits.connection_window_bytes);
        assert_eq!(session.window + i64::from(session.released_bytes), window, "a window leaks");
        assert_eq!(session.window, peer.send_window, "the two count differently");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_byte_arrives_once_and_in_order(seed: u64) {
        converse(seed, Manners::Polite);
    }

    #[test]
    fn streams_that_are_reset_leave_the_others_and_the_windows_alone(seed: u64) {
        converse(seed, Manners::Resetting);
    }

    #[test]
    fn whatever_is_given_up_the_accounts_balance(seed: u64) {
        converse(seed, Manners::Rude);
    }
}
