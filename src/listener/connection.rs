//! One agent's connection: the HTTP/2 connection and all its calls, in one task.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

mod calls;
mod life;

use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::metrics::{RefusedReason, RetiredReason};
use crate::wire::quiet::Quiet;
use crate::wire::server::{Call, Connection, Settings};
use crate::wire::tls::Refusal;

use super::worker::{Closing, Ear, Port, Worker};
use calls::Calls;
use life::{Due, Life};

/// Bytes all connections together may have sent ahead of their permits. A connection's window is its even share, so
/// that many agents cannot fill the memory from outside the budget.
const WINDOWS_BYTES: usize = 32 << 20;

/// Bounds of that share: HTTP/2's default, and what a fast agent needs on a long line.
const CONNECTION_WINDOW_MIN: usize = 64 << 10;
const CONNECTION_WINDOW_MAX: usize = 1 << 20;

/// The most one call may send ahead, so that one stalled call does not hold up all others of its connection.
const CALL_WINDOW_MAX: usize = 256 << 10;

/// A connection being served.
struct Served {
    worker: Rc<Worker>,
    port: usize,
    peer: SocketAddr,
    connection: Connection,
    calls: Calls,
    /// Ends its calls: with the worker's, or when it has been leaving for long.
    closing: Rc<Closing>,
    /// Hears when agents should go elsewhere.
    leaving: Ear,
    life: Life,
    /// For the next deadline of its life; `None` when there is none.
    timer: Option<Pin<Box<Sleep>>>,
    /// When the timer has to be polled: with a pass before that there is nothing to learn from it.
    looks_at: Instant,
    is_leaving: bool,
}

/// Serves a connection until it and all its calls are over.
pub async fn serve(stream: TcpStream, peer: SocketAddr, port: usize, worker: Rc<Worker>) {
    let terms = worker.terms();
    let limits = terms.limits();
    let settings =
        settings(worker.shared.register.connections(), limits.calls_per_connection, limits.header_list_bytes_max);
    let tls = terms.tls(worker.ports[port].name);
    let connection = match Connection::handshake(stream, tls, &settings, limits.handshake_deadline).await {
        Ok(connection) => connection,
        Err(error) => {
            refused(&error, peer, &worker.ports[port]);
            return;
        }
    };
    let now = Instant::now();
    let mut served = Served {
        life: Life::begin(now, limits, limits.connection_age_max.map(jittered)),
        closing: match limits.connection_age_grace {
            Some(_) => Closing::within(&worker.closing),
            None => Rc::clone(&worker.closing),
        },
        leaving: worker.leaving.ear(),
        worker,
        port,
        peer,
        connection,
        calls: Calls::default(),
        timer: None,
        looks_at: now,
        is_leaving: false,
    };
    served.set_timer(now);
    let quiet = Quiet::new();
    poll_fn(|cx| quiet.poll(cx, |cx| served.poll(cx, &quiet))).await;
    // The connection is gone; what it brought is not. Calls see the end of their streams and bring in what is left.
    poll_fn(|cx| quiet.poll(cx, |cx| served.poll_calls(cx))).await;
}

/// Counts a connection that never came up. Only trouble with TLS is anybody's to mend: the rest are probes and scans.
fn refused(error: &io::Error, peer: SocketAddr, port: &Port) {
    let Some(refusal) = Refusal::of(error) else {
        tracing::debug!(%peer, %error, "connection refused: not HTTP/2 in time");
        port.metrics.refused(RefusedReason::Handshake).increment(1);
        return;
    };
    port.metrics.refused(RefusedReason::Tls).increment(1);
    if let Some(left_out) = refusal.may_be_told() {
        tracing::warn!(listener = port.name, %peer, why = %refusal, left_out, "connection refused: TLS");
    }
}

/// What this connection may do, given how many share the memory.
fn settings(open: usize, calls_max: u32, header_list_bytes_max: u32) -> Settings {
    let window = (WINDOWS_BYTES / open.max(1)).clamp(CONNECTION_WINDOW_MIN, CONNECTION_WINDOW_MAX);
    Settings {
        calls_max,
        header_list_bytes_max,
        call_window_bytes: window.min(CALL_WINDOW_MAX) as u32,
        connection_window_bytes: window as u32,
    }
}

// === impl Served ===

impl Served {
    /// Reads, starts calls, lets them work and writes; ready when the connection is over. All in the same task: nothing of
    /// the road crosses a thread or waits for a lock.
    fn poll(&mut self, cx: &mut Context<'_>, quiet: &Quiet) -> Poll<()> {
        self.connection.poll_read(cx);
        quiet.answered();
        if !self.is_leaving && self.leaving.must_end(cx) {
            self.leave();
        }
        while let Some(call) = self.connection.next_call() {
            self.begin(call);
        }
        let had_calls = !self.calls.is_empty();
        if self.poll_calls(cx).is_ready() && had_calls {
            let now = Instant::now();
            self.life.idle(now);
            self.set_timer(now);
        }
        if self.poll_timer(cx).is_ready() {
            return Poll::Ready(());
        }
        match self.connection.poll_write(cx) {
            Poll::Ready(Err(lost)) => {
                tracing::debug!(peer = %self.peer, %lost, "connection broken");
                Poll::Ready(())
            }
            written => written.map(drop),
        }
    }

    /// Lets calls work; ready when none is open.
    fn poll_calls(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let over = self.calls.poll(cx);
        if over > 0 {
            self.worker.ports[self.port].metrics.calls_open.decrement(over as f64);
        }
        if self.calls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn begin(&mut self, call: Call) {
        self.life.call_begun();
        self.worker.ports[self.port].metrics.calls_open.increment(1.0);
        let (worker, closing) = (Rc::clone(&self.worker), Rc::clone(&self.closing));
        self.calls.push(super::call::serve(call, worker, closing, self.port, self.peer.ip()));
    }

    /// Does what is due; ready when the connection is to be closed. What it makes calls do is another pass.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() < self.looks_at {
            return Poll::Pending;
        }
        while let Some(timer) = &mut self.timer {
            if timer.as_mut().poll(cx).is_pending() {
                self.looks_at = timer.deadline();
                return Poll::Pending;
            }
            let now = Instant::now();
            while let Some(due) = self.life.due(now) {
                let metrics = &self.worker.ports[self.port].metrics;
                match due {
                    Due::Silent => {
                        metrics.refused(RefusedReason::Handshake).increment(1);
                        return Poll::Ready(());
                    }
                    Due::Over => return Poll::Ready(()),
                    Due::Old => metrics.retired(RetiredReason::Age).increment(1),
                    Due::Idle => metrics.retired(RetiredReason::Idle).increment(1),
                    Due::EndCalls => self.closing.close(),
                }
                if due != Due::EndCalls {
                    self.leave();
                }
            }
            self.set_timer(now);
        }
        Poll::Pending
    }

    /// Waits for the next deadline from now on. One that came nearer needs this; one that moved away, as idleness does
    /// with every call, is found out when the timer goes off.
    fn set_timer(&mut self, now: Instant) {
        // To be polled once, so that it is set.
        self.looks_at = now;
        match (self.life.next(now), &mut self.timer) {
            (Some(at), Some(timer)) if at < timer.deadline() || timer.is_elapsed() => timer.as_mut().reset(at),
            (Some(_), Some(_)) => {}
            (Some(at), none) => *none = Some(Box::pin(tokio::time::sleep_until(at))),
            (None, timer) => *timer = None,
        }
    }

    /// Asks the peer to go elsewhere; the connection lives on while it has calls.
    fn leave(&mut self) {
        if !std::mem::replace(&mut self.is_leaving, true) {
            self.connection.go_away();
        }
    }
}

/// Give or take a tenth, so that agents that came together do not leave together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(0.9 + 0.2 * fastrand::f64())
}
