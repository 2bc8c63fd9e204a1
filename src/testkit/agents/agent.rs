//! One agent: opens a call, sends on time or as fast as it may, half-closes, waits for the reply, opens the next.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::link::Link;
use super::traffic::Template;
use super::{Book, Load, Traffic};
use crate::testkit::check::Sent;
use crate::wire::grpc::{Code, Status, request_head};

pub(super) struct Agent {
    load: Rc<Load>,
    name: String,
    template: Template,
    link: Rc<Link>,
    book: Rc<Book>,
    /// Set to the latest moment for replies when agents are to end.
    ending: watch::Receiver<Option<Instant>>,
    /// Messages in all.
    messages_max: u64,
    /// Between two messages; zero: as fast as possible.
    period: Duration,
    /// When the next message is due.
    due: Instant,
    timer: Pin<Box<Sleep>>,
    /// What was sent; the next number is its count of messages.
    sent: Sent,
    scratch: BytesMut,
}

struct Call {
    out: SendStream<Bytes>,
    answer: Pin<Box<dyn Future<Output = Status>>>,
}

/// Why an agent stopped sending on a call.
enum Stopped {
    /// Enough messages, or the end of the load: half-close.
    Enough,
    /// The peer ended the call.
    Answered(Status),
    /// The end came in the middle of a message.
    Cut,
}

/// Bytes gathered into one DATA frame: HTTP/2's default maximum.
const FRAME_BYTES: usize = 16 << 10;
/// Window asked for ahead.
const RESERVE_BYTES: usize = 64 << 10;
const BACK_OFF: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

impl Agent {
    pub(super) fn new(
        load: &Rc<Load>,
        (connection, stream): (usize, usize),
        link: &Rc<Link>,
        book: &Rc<Book>,
        ending: watch::Receiver<Option<Instant>>,
    ) -> Self {
        let number = connection * load.streams + stream;
        let name = format!("{}.{connection}.{stream}", load.name);
        let service = format!("service-{}", number % load.services.max(1));
        let traffic = match load.traffic {
            Traffic::Mixed => Traffic::PURE[number % Traffic::PURE.len()],
            traffic => traffic,
        };
        let skew = if number == 0 && load.skew > 0.0 { load.skew } else { 1.0 };
        let rate = load.rate * skew;
        let period = if rate > 0.0 { Duration::from_secs_f64(1.0 / rate) } else { Duration::ZERO };
        Self {
            template: Template::new(traffic, &name, &service, load.bytes),
            name,
            link: Rc::clone(link),
            book: Rc::clone(book),
            ending,
            messages_max: if load.messages == 0 { u64::MAX } else { (load.messages as f64 * skew) as u64 },
            period,
            // Agents do not beat in time.
            due: Instant::now() + period.mul_f64(fastrand::f64()),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            sent: Sent::default(),
            scratch: BytesMut::new(),
            load: Rc::clone(load),
        }
    }

    pub(super) async fn run(mut self) {
        let mut back_off = BACK_OFF;
        while !self.book.over.get() && self.sent.messages < self.messages_max {
            let mut ending = self.ending.clone();
            let request = tokio::select! {
                request = self.link.request() => request,
                _ = ending.wait_for(Option::is_some) => None,
            };
            let Some(request) = request else { break };
            let before = self.sent.messages;
            let status = if self.template.is_unary { self.unary(request).await } else { self.stream(request).await };
            if status.code != Code::Ok {
                self.book.failed(&status);
            } else if self.sent.messages > before {
                back_off = BACK_OFF;
                continue;
            }
            let nap = tokio::time::sleep(back_off.mul_f64(0.5 + fastrand::f64() / 2.0));
            tokio::select! {
                () = nap => {}
                _ = ending.wait_for(Option::is_some) => break,
            }
            back_off = (back_off * 2).min(BACK_OFF_MAX);
            self.abandon();
        }
        self.book.left(self.name, self.sent);
    }

    /// An agent without a stream drops what it has (the Java agent counts it abandoned).
    fn abandon(&mut self) {
        let late = Instant::now().saturating_duration_since(self.due);
        if self.period > Duration::ZERO && late > self.period {
            let missed = (late.as_secs_f64() / self.period.as_secs_f64()) as u32;
            self.due += self.period * missed;
            self.book.abandoned(u64::from(missed));
        }
    }

    // --- client streams ---

    async fn stream(&mut self, request: SendRequest<Bytes>) -> Status {
        let from = self.sent.messages;
        let mut call = match self.open(request) {
            Ok(call) => call,
            Err(status) => return status,
        };
        let status = match self.send(&mut call, from).await {
            Stopped::Answered(status) if status.code == Code::Ok => {
                self.book.answered_early();
                call.out.send_reset(Reason::NO_ERROR);
                self.unsure(from);
                return status;
            }
            Stopped::Answered(status) => status,
            Stopped::Cut => {
                call.out.send_reset(Reason::CANCEL);
                Status::new(Code::Cancelled, "the load ended inside a message")
            }
            Stopped::Enough => {
                let half_closed = Instant::now();
                // Fails only when the call is over, and then the answer knows why.
                let _ = call.out.send_data(Bytes::new(), true);
                let status = self.reply(&mut call).await;
                if status.code == Code::Ok {
                    self.book.answered(half_closed.elapsed());
                }
                status
            }
        };
        if status.code != Code::Ok {
            self.unsure(from);
        }
        status
    }

    fn open(&self, mut request: SendRequest<Bytes>) -> Result<Call, Status> {
        let head = request_head(&self.load.to, self.template.path)
            .map_err(|broken| Status::new(Code::Internal, broken.to_string()))?;
        self.book.called();
        let (response, out) = request.send_request(head, false).map_err(|broken| status_of(&broken))?;
        Ok(Call { out, answer: Box::pin(answer(response)) })
    }

    async fn send(&mut self, call: &mut Call, from: u64) -> Stopped {
        let per_stream = if self.load.messages_per_stream == 0 { u64::MAX } else { self.load.messages_per_stream };
        let until = self.messages_max.min(from.saturating_add(per_stream));
        let batch_max = if self.period.is_zero() { self.load.batch.max(1) as u64 } else { 1 };
        while self.sent.messages < until {
            if self.book.over.get() {
                break;
            }
            if let Some(stopped) = self.wait_until_due(call).await {
                return stopped;
            }
            let (mut messages, mut bytes) = (0, 0);
            while messages < batch_max.min(until - self.sent.messages) {
                let number = self.sent.messages + messages;
                bytes += self.template.put(&mut self.scratch, number == from, number);
                messages += 1;
                if self.scratch.len() + self.template.framed_bytes() > FRAME_BYTES {
                    break;
                }
            }
            let mut rest = self.scratch.split().freeze();
            while !rest.is_empty() {
                let capacity = match self.capacity(call, rest.len()).await {
                    Ok(capacity) => capacity,
                    Err(stopped) => return stopped,
                };
                if call.out.send_data(rest.split_to(capacity.min(rest.len())), false).is_err() {
                    return Stopped::Answered(self.reply(call).await);
                }
            }
            self.sent.messages += messages;
            self.book.sent(messages, bytes);
            if !self.period.is_zero() {
                self.due += self.period;
                // Lets the connection write this message before the next: one send per message, as real agents do.
                tokio::task::yield_now().await;
            }
        }
        Stopped::Enough
    }

    /// Waits for the next message's time. Answers why there is none.
    async fn wait_until_due(&mut self, call: &mut Call) -> Option<Stopped> {
        if self.period.is_zero() || self.due <= Instant::now() {
            return None;
        }
        self.timer.as_mut().reset(self.due);
        tokio::select! {
            biased;
            status = &mut call.answer => Some(Stopped::Answered(status)),
            () = &mut self.timer => None,
            _ = self.ending.wait_for(Option::is_some) => Some(Stopped::Enough),
        }
    }

    /// Waits until some bytes may be sent.
    async fn capacity(&mut self, call: &mut Call, wanted: usize) -> Result<usize, Stopped> {
        let capacity = call.out.capacity();
        if capacity >= wanted {
            return Ok(capacity);
        }
        call.out.reserve_capacity(wanted.max(RESERVE_BYTES));
        loop {
            let capacity = call.out.capacity();
            if capacity > 0 {
                return Ok(capacity);
            }
            let more = tokio::select! {
                biased;
                status = &mut call.answer => return Err(Stopped::Answered(status)),
                more = poll_fn(|cx| call.out.poll_capacity(cx)) => more,
                () = last_moment(&mut self.ending) => return Err(Stopped::Cut),
            };
            if !matches!(more, Some(Ok(_))) {
                return Err(Stopped::Answered(self.reply(call).await));
            }
        }
    }

    /// Waits for the answer, no longer than allowed.
    async fn reply(&mut self, call: &mut Call) -> Status {
        tokio::select! {
            biased;
            status = &mut call.answer => status,
            () = tokio::time::sleep(self.load.reply_deadline) => {
                call.out.send_reset(Reason::CANCEL);
                Status::new(Code::DeadlineExceeded, "no reply")
            }
            () = last_moment(&mut self.ending) => {
                call.out.send_reset(Reason::CANCEL);
                Status::new(Code::DeadlineExceeded, "no reply before the end of the load")
            }
        }
    }

    /// The messages since `from` were on a call not answered OK.
    fn unsure(&mut self, from: u64) {
        let to = self.sent.messages;
        match self.sent.unsure.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ if from < to => self.sent.unsure.push((from, to)),
            _ => {}
        }
    }

    // --- unary calls ---

    async fn unary(&mut self, request: SendRequest<Bytes>) -> Status {
        let number = self.sent.messages;
        if !self.period.is_zero() {
            tokio::select! {
                () = tokio::time::sleep_until(self.due) => {}
                _ = self.ending.wait_for(Option::is_some) => return Status::ok(),
            }
        }
        let begun = if self.period.is_zero() { Instant::now() } else { self.due };
        self.due += self.period;
        let mut call = match self.open(request) {
            Ok(call) => call,
            Err(status) => return status,
        };
        let bytes = self.template.put(&mut self.scratch, true, number);
        if call.out.send_data(self.scratch.split().freeze(), true).is_ok() {
            self.sent.messages += 1;
            self.book.sent(1, bytes);
        }
        let status = self.reply(&mut call).await;
        if status.code == Code::Ok {
            self.book.answered(begun.elapsed());
        } else {
            self.unsure(number);
        }
        status
    }
}

/// Resolves when the load's end is over too.
async fn last_moment(ending: &mut watch::Receiver<Option<Instant>>) {
    let last = ending.wait_for(Option::is_some).await.ok().and_then(|last| *last);
    match last {
        Some(last) => tokio::time::sleep_until(last).await,
        None => std::future::pending().await,
    }
}

/// The status a call ends with.
async fn answer(response: ResponseFuture) -> Status {
    let response = match response.await {
        Ok(response) => response,
        Err(broken) => return status_of(&broken),
    };
    if let Some(status) = Status::from_headers(response.headers()) {
        return status;
    }
    let http = response.status();
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        match chunk {
            // Fails only when the stream is gone, which the next read says.
            Ok(chunk) => drop(body.flow_control().release_capacity(chunk.len())),
            Err(broken) => return status_of(&broken),
        }
    }
    match body.trailers().await {
        Ok(Some(trailers)) => Status::from_headers(&trailers).unwrap_or_else(|| Status::from_http(http)),
        Ok(None) => Status::from_http(http),
        Err(broken) => status_of(&broken),
    }
}

/// gRPC's mapping of HTTP/2 errors (`doc/PROTOCOL-HTTP2.md`, "HTTP2 Transport Mapping").
fn status_of(broken: &h2::Error) -> Status {
    let code = if broken.is_io() || broken.is_go_away() {
        Code::Unavailable
    } else {
        match broken.reason() {
            Some(Reason::REFUSED_STREAM) => Code::Unavailable,
            Some(Reason::CANCEL) => Code::Cancelled,
            Some(Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
            Some(Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
            _ => Code::Internal,
        }
    };
    Status::new(code, broken.to_string())
}
