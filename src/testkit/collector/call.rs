//! One call of a collector: reads its messages in batches, shows them to the receiver, answers as told.

use std::future::poll_fn;
use std::io::Read as _;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use tokio::sync::watch;

use super::connection::OpenCall;
use super::house::House;
use crate::message::frames::Frames;
use crate::message::run::PREFIX_BYTES;
use crate::testkit::behaviour::Behaviour;
use crate::testkit::methods::MethodId;
use crate::testkit::receivers::{End, Receiver};
use crate::testkit::tally::Tally;
use crate::wire::grpc::{Code, Status, response_head};

/// Bytes taken off a stream before they are processed and their window is given back.
const BATCH_BYTES: usize = 128 << 10;
/// Timers tick in milliseconds: shorter delays are saved up until they are worth a sleep.
const NAP: Duration = Duration::from_millis(1);

struct Call {
    id: MethodId,
    /// The call's number in the collector, from 1.
    number: u64,
    house: Rc<House>,
    behaviour: watch::Receiver<Behaviour>,
    receiver: Receiver,
    gzip: bool,
    frames: Frames,
    /// Messages read.
    messages: u64,
    /// Delay not slept yet.
    owed: Duration,
    respond: SendResponse<Bytes>,
    /// Set once the response's head is sent.
    out: Option<SendStream<Bytes>>,
}

/// How the reading ended.
enum Reading {
    /// To be answered.
    Answer(Status, End),
    /// To be reset.
    Reset,
    /// The peer or the collector is gone.
    Gone,
}

/// Serves a call to its end.
pub(super) async fn serve(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    house: Rc<House>,
    _slot: OpenCall,
) {
    let (head, mut body) = request.into_parts();
    let Some(id) = MethodId::find(head.uri.path()) else {
        house.tally().answer(Code::Unimplemented.name());
        let status = Status::new(Code::Unimplemented, format!("Method not found: {}", head.uri.path()));
        let _ = respond.send_response(status.to_trailers_only(), true);
        return;
    };
    house.tally().call(id);
    let mut call = Call {
        id,
        number: house.next_call(),
        behaviour: house.behaviour(),
        receiver: Receiver::new(id),
        gzip: head.headers.get("grpc-encoding").is_some_and(|encoding| encoding == "gzip"),
        frames: Frames::new(house.options.message_bytes_max),
        messages: 0,
        owed: Duration::ZERO,
        respond,
        out: None,
        house,
    };
    match call.read(&mut body).await {
        Reading::Answer(status, end) => call.answer(status, end).await,
        // A handler that throws at a half-close has nobody to throw at here.
        Reading::Reset => {
            let _ = call.end(End::Broken);
            call.reset(Reason::INTERNAL_ERROR);
        }
        Reading::Gone => {
            let _ = call.end(End::Broken);
            call.house.tally().broken += 1;
        }
    }
}

impl Call {
    async fn read(&mut self, body: &mut RecvStream) -> Reading {
        loop {
            if let Some(early) = self.early() {
                return early;
            }
            if !self.wait_while(|behaviour| behaviour.stall).await {
                return Reading::Gone;
            }
            let (bytes, end) = gather(body, &mut self.frames).await;
            if let Some(reading) = self.take().await {
                return reading;
            }
            // Fails only when the stream is gone, which the next read says.
            let _ = body.flow_control().release_capacity(bytes);
            match end {
                None => {}
                Some(Ok(())) if self.frames.is_mid_message() => {
                    let status = Status::new(Code::Internal, "Encountered end-of-stream mid-frame");
                    return Reading::Answer(status, End::Broken);
                }
                Some(Ok(())) if self.messages == 0 && !self.id.method().streams_in => {
                    let status = Status::new(Code::Internal, "Half-closed without a request");
                    return Reading::Answer(status, End::Closed);
                }
                Some(Ok(())) => return Reading::Answer(self.status(), End::Clean),
                Some(Err(_)) => return Reading::Gone,
            }
        }
    }

    /// Whether it is time for what the behaviour does to streams before their end.
    fn early(&self) -> Option<Reading> {
        let behaviour = self.behaviour.borrow();
        if behaviour.reset_after.is_some_and(|after| self.messages >= after) {
            return Some(Reading::Reset);
        }
        let is_early = behaviour.answer_after.is_some_and(|after| self.messages >= after);
        is_early.then(|| match behaviour.status_of(self.number) {
            Code::Ok => Reading::Answer(Status::ok(), End::Clean),
            // As OAP's breaker: the handler learns nothing of it.
            code => Reading::Answer(told(code), End::Closed),
        })
    }

    /// Processes the whole messages gathered, up to where the behaviour strikes.
    async fn take(&mut self) -> Option<Reading> {
        loop {
            let (delay, left) = {
                let behaviour = self.behaviour.borrow();
                let in_stream = behaviour.stream_messages_max().map(|max| max.saturating_sub(self.messages));
                let in_life = behaviour.die_after_messages.map(|max| max.saturating_sub(self.house.messages()));
                (behaviour.message_delay, in_stream.unwrap_or(u64::MAX).min(in_life.unwrap_or(u64::MAX)))
            };
            let before = self.messages;
            let runs_max = if delay.is_zero() { usize::MAX } else { 1 };
            let shown = self.show(runs_max, left);
            let messages = self.messages - before;
            self.house.add_messages(messages);
            if self.is_fatal() {
                self.house.die();
                return std::future::pending().await;
            }
            if let Err(status) = shown {
                return Some(Reading::Answer(status, End::Closed));
            }
            if let Some(early) = self.early() {
                return Some(early);
            }
            if messages == 0 {
                return None;
            }
            self.owed += delay.mul_f64(messages as f64);
            if self.owed >= NAP {
                tokio::time::sleep(std::mem::take(&mut self.owed)).await;
            }
        }
    }

    fn is_fatal(&self) -> bool {
        self.behaviour.borrow().die_after_messages.is_some_and(|max| self.house.messages() >= max)
    }

    /// Counts messages and shows them to the receiver, under one lock: at most `runs_max` runs and `left` messages.
    fn show(&mut self, runs_max: usize, mut left: u64) -> Result<(), Status> {
        let house = Rc::clone(&self.house);
        let mut tally = house.tally();
        let looks = self.receiver.looks_at_messages(tally.detail());
        for _ in 0..runs_max {
            let run =
                self.frames.next_run().map_err(|broken| Status::new(Code::ResourceExhausted, broken.to_string()))?;
            let Some(mut run) = run else { break };
            if left < u64::from(run.messages()) {
                // What is cut off is never read: the call or the collector ends here.
                let Some(rest) = run.take_front(usize::MAX, left as u32).filter(|_| left > 0) else { break };
                run = rest;
            }
            let messages = u64::from(run.messages());
            left -= messages;
            self.messages += messages;
            tally.read(self.id, messages, run.bytes().len() as u64 - messages * PREFIX_BYTES as u64);
            if looks {
                self.show_run(run.bytes(), &mut tally)?;
            }
        }
        Ok(())
    }

    fn show_run(&mut self, run: &[u8], tally: &mut Tally) -> Result<(), Status> {
        for (is_compressed, body) in bodies(run) {
            let reply = if is_compressed {
                let body = self.decompress(body)?;
                self.receiver.message(&body, tally)?
            } else {
                self.receiver.message(body, tally)?
            };
            if let Some(reply) = reply {
                self.say(reply);
            }
        }
        Ok(())
    }

    fn decompress(&self, body: &[u8]) -> Result<Vec<u8>, Status> {
        if !self.gzip {
            return Err(Status::new(Code::Internal, "a compressed message without a grpc-encoding we know (gzip)"));
        }
        let mut plain = Vec::new();
        let limit = self.house.options.message_bytes_max as u64 + 1;
        match flate2::read::GzDecoder::new(body).take(limit).read_to_end(&mut plain) {
            Ok(bytes) if (bytes as u64) < limit => Ok(plain),
            Ok(_) => Err(Status::new(Code::ResourceExhausted, "Decompressed gRPC message exceeds maximum size")),
            Err(broken) => Err(Status::new(Code::Internal, format!("not gzip: {broken}"))),
        }
    }

    fn status(&self) -> Status {
        told(self.behaviour.borrow().status_of(self.number))
    }

    /// Files what the receiver holds back. Answers its reply.
    fn end(&mut self, end: End) -> Result<Option<Bytes>, Status> {
        self.receiver.end(end, &mut self.house.tally())
    }

    async fn answer(mut self, status: Status, end: End) {
        let (status, reply) = match self.end(end) {
            Ok(reply) => (status, reply),
            Err(thrown) if status.code == Code::Ok => (thrown, None),
            Err(_) => (status, None),
        };
        if !self.wait_while(|behaviour| behaviour.hang).await {
            self.house.tally().broken += 1;
            return;
        }
        let delay = self.behaviour.borrow().answer_delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if self.house.is_dead() {
            return std::future::pending().await;
        }
        {
            let mut tally = self.house.tally();
            tally.answer(status.code.name());
            // What is answered is in the file: a kill after this loses nothing that was promised.
            tally.write_log();
        }
        if status.code != Code::Ok && self.out.is_none() {
            let _ = self.respond.send_response(status.to_trailers_only(), true);
            return;
        }
        if let Some(reply) = reply.filter(|_| status.code == Code::Ok) {
            self.say(reply);
        }
        self.head();
        if let Some(out) = &mut self.out {
            let _ = out.send_trailers(status.to_trailers());
        }
    }

    /// Sends a framed message. Errors mean that the peer is gone, which reading finds out.
    fn say(&mut self, framed: Bytes) {
        self.head();
        if let Some(out) = &mut self.out {
            let _ = out.send_data(framed, false);
        }
    }

    fn head(&mut self) {
        if self.out.is_none() {
            self.out = self.respond.send_response(response_head(), false).ok();
        }
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.out {
            Some(out) => out.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Waits until the behaviour is no longer so; `false` when the peer reset the stream meanwhile.
    async fn wait_while(&mut self, holds: impl Fn(&Behaviour) -> bool) -> bool {
        while holds(&self.behaviour.borrow_and_update()) {
            let (respond, out) = (&mut self.respond, &mut self.out);
            let reset = poll_fn(|cx| match out {
                Some(out) => out.poll_reset(cx).map(drop),
                None => respond.poll_reset(cx).map(drop),
            });
            tokio::select! {
                () = reset => return false,
                _ = self.behaviour.changed() => {}
            }
        }
        true
    }
}

/// Takes what has arrived, waiting only for the first of it. Answers its bytes, and how the stream ended if it did.
async fn gather(body: &mut RecvStream, frames: &mut Frames) -> (usize, Option<Result<(), h2::Error>>) {
    let mut bytes = 0;
    poll_fn(|cx| {
        while bytes < BATCH_BYTES {
            match body.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) => {
                    bytes += chunk.len();
                    frames.push(chunk);
                }
                Poll::Ready(Some(Err(broken))) => return Poll::Ready((bytes, Some(Err(broken)))),
                Poll::Ready(None) => return Poll::Ready((bytes, Some(Ok(())))),
                Poll::Pending if bytes == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready((bytes, None))
    })
    .await
}

/// The bodies in a run of whole messages, and whether each is compressed.
fn bodies(run: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let mut rest = run;
    std::iter::from_fn(move || {
        let (prefix, after) = rest.split_first_chunk::<PREFIX_BYTES>()?;
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let (body, behind) = after.split_at(length);
        rest = behind;
        Some((prefix[0] == 1, body))
    })
}

/// The status the behaviour asks for.
fn told(code: Code) -> Status {
    match code {
        Code::Ok => Status::ok(),
        code => Status::new(code, "as the collector was told to answer"),
    }
}
