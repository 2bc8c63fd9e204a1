//! One agent's connection: the HTTP/2 connection and all its calls, in one task.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::metrics::RefusedReason;
use crate::wire::quiet::Quiet;
use crate::wire::server::{Call, Connection, Settings};

use super::worker::Worker;

/// Bytes all connections together may have sent ahead of their permits. A connection's window is its even share, so
/// that many agents cannot fill the memory from outside the budget.
const WINDOWS_BYTES: usize = 32 << 20;

/// Bounds of that share: HTTP/2's default, and what a fast agent needs on a long line.
const CONNECTION_WINDOW_MIN: usize = 64 << 10;
const CONNECTION_WINDOW_MAX: usize = 1 << 20;

/// The most one call may send ahead, so that one stalled call does not hold up all others of its connection.
const CALL_WINDOW_MAX: usize = 256 << 10;

/// A call's future; boxed, so that an idle connection costs little.
type Serving = Pin<Box<dyn Future<Output = ()>>>;

/// A connection being served.
struct Served {
    worker: Rc<Worker>,
    port: usize,
    peer: SocketAddr,
    connection: Connection,
    calls: FuturesUnordered<Serving>,
    /// For the first call, then for the age of the connection.
    timer: Option<Pin<Box<Sleep>>>,
    had_a_call: bool,
    is_leaving: bool,
}

/// Serves a connection until it and all its calls are over.
pub async fn serve(stream: TcpStream, peer: SocketAddr, port: usize, worker: Rc<Worker>) {
    let mut leaving = worker.shared.leaving.clone();
    let terms = worker.terms();
    let limits = terms.limits();
    let settings =
        settings(worker.shared.register.connections(), limits.calls_per_connection, limits.header_list_bytes_max);
    let connection = match Connection::handshake(stream, &settings, limits.handshake_deadline).await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%peer, %error, "connection refused: not HTTP/2 in time");
            worker.ports[port].metrics.refused(RefusedReason::Handshake).increment(1);
            return;
        }
    };
    let timer = Some(Box::pin(tokio::time::sleep(limits.first_call_deadline)));
    let calls = FuturesUnordered::new();
    let mut served =
        Served { worker, port, peer, connection, calls, timer, had_a_call: false, is_leaving: *leaving.borrow() };
    if served.is_leaving {
        served.connection.go_away();
    }
    {
        let leaving = async { leaving.wait_for(|leaving| *leaving).await.is_ok() };
        let mut leaving = std::pin::pin!(leaving);
        let quiet = Quiet::new();
        poll_fn(|cx| {
            quiet.poll(cx, |cx| {
                if !served.is_leaving && leaving.as_mut().poll(cx).is_ready() {
                    served.leave();
                }
                served.poll(cx)
            })
        })
        .await;
    }
    // The connection is gone; what it brought is not. Calls see the end of their streams and bring in what is left.
    while served.calls.next().await.is_some() {}
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
    /// Reads, starts calls and lets them work; ready when the connection is over. Calls are polled after the socket
    /// was read, in the same task: nothing of the road crosses a thread or waits for a lock.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.connection.poll_call(cx) {
                Poll::Ready(Some(Ok(call))) => self.begin(call),
                Poll::Ready(Some(Err(lost))) => {
                    tracing::debug!(peer = %self.peer, %lost, "connection broken");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        let gauge = &self.worker.ports[self.port].metrics.calls_open;
        while let Poll::Ready(Some(())) = self.calls.poll_next_unpin(cx) {
            gauge.decrement(1.0);
        }
        self.poll_timer(cx)
    }

    fn begin(&mut self, call: Call) {
        if !std::mem::replace(&mut self.had_a_call, true) {
            self.timer =
                self.worker.terms().limits().connection_age_max.map(|age| Box::pin(tokio::time::sleep(jittered(age))));
        }
        self.worker.ports[self.port].metrics.calls_open.increment(1.0);
        let worker = Rc::clone(&self.worker);
        self.calls.push(Box::pin(super::call::serve(call, worker, self.port, self.peer.ip())));
    }

    /// Ready when no call came in time. At its age limit the connection is asked to go elsewhere and lives on while
    /// it has calls.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.timer = None;
        if !self.had_a_call {
            self.worker.ports[self.port].metrics.refused(RefusedReason::Handshake).increment(1);
            return Poll::Ready(());
        }
        self.leave();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

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
