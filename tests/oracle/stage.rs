//! Plays traffic over real sockets: the same words in the same order, to one collector or to a gateway.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchyard::testkit::collector::Collector;
use switchyard::testkit::methods::MethodId;
use switchyard::testkit::receivers::own_words;
use switchyard::wire::grpc::Code;

use crate::caller::{self, Caller};
use crate::draw::method;
use crate::traffic::{Call, Ending, Said, Step, Traffic};

/// What a caller heard at the end of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It had reset the call, or its peer had.
    Nothing,
    /// Status and messages.
    Answer(Code, Vec<Bytes>),
}

/// The collectors at the end of the way, and what was said to them.
pub struct Audience<'a> {
    collectors: &'a [Collector],
    /// How often which words were said, by all calls.
    said: HashMap<u64, u64>,
}

/// How long a reset waits for collectors that have not read all. They read what they are sent within moments; a gateway
/// that holds a set back until its call ends makes them wait in vain.
const PATIENCE: Duration = Duration::from_secs(2);

impl<'a> Audience<'a> {
    pub fn new(collectors: &'a [Collector]) -> Self {
        Self { collectors, said: HashMap::new() }
    }

    fn is_told(&mut self, call: &Call, said: &Said) {
        if let Some(words) = words(call, said) {
            *self.said.entry(words).or_default() += 1;
        }
    }

    fn has_read(&self, words: u64) -> bool {
        let read: u64 = self.collectors.iter().map(|collector| collector.times_read(words)).sum();
        read >= self.said[&words]
    }

    /// Waits until everything this call has said was read.
    ///
    /// What a receiver has not read when a reset overtakes it is gone, directly as through a gateway, and no two runs
    /// would agree on how much that is. So a call is reset when nothing of it is under way. Messages without words of
    /// their own do not count: they are no items.
    async fn has_heard(&self, call: &Call) {
        let until = Instant::now() + PATIENCE;
        let mut unread: Vec<u64> = call.messages.iter().filter_map(|said| words(call, said)).collect();
        loop {
            unread.retain(|words| !self.has_read(*words));
            if unread.is_empty() || Instant::now() >= until {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn words(call: &Call, said: &Said) -> Option<u64> {
    own_words(MethodId::find(&call.path).expect("a method of the test kit"), &said.body)
}

/// Plays all of it; answers what each call heard. `before` is told the number of every step that follows.
pub async fn play(
    traffic: &Traffic,
    to: SocketAddr,
    mut audience: Audience<'_>,
    mut before: impl FnMut(usize),
) -> Vec<Heard> {
    let mut connections: Vec<Option<Caller>> = Vec::new();
    let mut calls: Vec<Option<caller::Call>> = traffic.calls.iter().map(|_| None).collect();
    let mut said = vec![0; calls.len()];
    let mut heard = vec![0; calls.len()];
    for (at, step) in traffic.steps.iter().enumerate() {
        let (Step::Say { call, .. } | Step::End { call }) = *step;
        let script = &traffic.calls[call];
        before(at);
        if calls[call].is_none() {
            connections.resize_with(connections.len().max(script.connection + 1), || None);
            if connections[script.connection].is_none() {
                connections[script.connection] = Some(Caller::connect(to).await);
            }
            let caller = connections[script.connection].as_ref().expect("connected above");
            let gzip: &[(&str, &str)] = if script.gzip { &[("grpc-encoding", "gzip")] } else { &[] };
            calls[call] = Some(caller.open_with(&script.path, gzip).await);
        }
        let open = calls[call].as_mut().expect("opened above");
        match *step {
            Step::Say { messages, .. } => {
                let next = &script.messages[said[call]..][..messages];
                said[call] += messages;
                next.iter().for_each(|said| audience.is_told(script, said));
                open.send(next.iter().flat_map(framed).collect()).await;
                let hears: usize = next.iter().map(|message| message.hears).sum();
                if hears > 0 {
                    heard[call] += hears;
                    open.body_of(heard[call]).await;
                }
            }
            Step::End { .. } if script.ending == Ending::HalfClose => open.half_close(),
            Step::End { .. } => {
                // A unary request is read at its half-close, which does not come.
                if method(&script.path).streams_in {
                    audience.has_heard(script).await;
                }
                open.reset();
            }
        }
    }
    let mut answers = Vec::new();
    for (call, script) in calls.into_iter().zip(&traffic.calls) {
        answers.push(match (call, script.ending) {
            (Some(call), Ending::HalfClose) => {
                let answer = call.answer().await;
                match answer.reset {
                    Some(_) => Heard::Nothing,
                    None => Heard::Answer(answer.code(), answer.messages()),
                }
            }
            _ => Heard::Nothing,
        });
    }
    answers
}

/// A message as it goes over the wire.
fn framed(said: &Said) -> Vec<u8> {
    if !said.compressed {
        return caller::framed(&said.body).to_vec();
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&said.body).expect("memory takes it");
    let mut framed = caller::framed(&gzip.finish().expect("memory takes it")).to_vec();
    framed[0] = 1;
    framed
}
