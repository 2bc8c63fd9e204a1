//! One connection of a collector: accepts its streams, refuses those it is told to refuse, says GOAWAY in time.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::house::House;
use super::{at, call};
use crate::testkit::socket::{Pump, Socket, Transport, Writes};

/// h2 counts small DATA frames that nobody has read yet and ends the connection when they are many. A stalled
/// collector must stall, not end connections, so its budget is out of reach.
const DATA_FRAME_BUDGET: usize = 1 << 30;
/// Bytes asked for by one read.
const GULP_BYTES: usize = 128 << 10;
/// How soon a SETTINGS change is tried again when the last one is not acknowledged yet.
const SETTINGS_RETRY: Duration = Duration::from_millis(5);

/// A call that counts against MAX_CONCURRENT_STREAMS until dropped.
pub(super) struct OpenCall(Rc<Cell<u32>>);

/// Serves a connection to its end.
pub(super) async fn serve(tcp: TcpStream, house: Rc<House>) {
    let _guest = house.enter();
    let _ = tcp.set_nodelay(true);
    let mut behaviour = house.behaviour();
    let mut leaving = house.asked_to_leave();
    let transport = match &house.options.tls {
        None => Transport::Tcp(tcp),
        Some(tls) => match tls.accept(tcp).await {
            Ok(session) => Transport::Tls(Box::new(session.into())),
            Err(_) => return,
        },
    };
    let (socket, pump) = Socket::new(transport, Writes::Gathered, GULP_BYTES);
    let mut announced = behaviour.borrow_and_update().streams_max;
    if let Some(streams_max) = announced {
        pump.announce_streams_max(streams_max);
    }
    let Some(mut connection) = handshake(socket, &pump, &house).await else {
        return;
    };
    let born = Instant::now();
    let open = Rc::new(Cell::new(0));
    let mut wanted = announced;
    let mut goaway_at = behaviour.borrow().goaway_every.map(|age| born + age);
    loop {
        let retry_at = (wanted != announced).then(|| Instant::now() + SETTINGS_RETRY);
        tokio::select! {
            biased;
            next = next_call(&mut connection, &pump) => {
                let Some((request, mut respond)) = next else { return };
                let (refuse, streams_max) = {
                    let behaviour = behaviour.borrow();
                    (behaviour.refuse, behaviour.streams_max.unwrap_or(u32::MAX))
                };
                if refuse || open.get() >= streams_max {
                    respond.send_reset(Reason::REFUSED_STREAM);
                } else {
                    let slot = OpenCall::take(&open);
                    tokio::task::spawn_local(call::serve(request, respond, Rc::clone(&house), slot));
                }
            }
            _ = behaviour.changed() => {
                let behaviour = behaviour.borrow_and_update();
                wanted = behaviour.streams_max;
                goaway_at = behaviour.goaway_every.map(|age| born + age);
            }
            () = at(goaway_at) => {
                goaway_at = None;
                connection.graceful_shutdown();
            }
            () = at(retry_at) => {}
            _ = leaving.changed() => connection.graceful_shutdown(),
        }
        if wanted != announced && connection.set_initial_window_size(house.options.stream_window_bytes).is_ok() {
            // h2 has queued a SETTINGS frame and writes it when polled next; the announcement rides on it.
            pump.announce_streams_max(wanted.unwrap_or(u32::MAX));
            announced = wanted;
        }
    }
}

async fn handshake(socket: Socket, pump: &Pump, house: &House) -> Option<Connection<Socket, Bytes>> {
    let mut builder = Builder::new();
    builder
        .initial_window_size(house.options.stream_window_bytes)
        .initial_connection_window_size(house.options.connection_window_bytes)
        .data_frame_budget(DATA_FRAME_BUDGET)
        .max_pending_accept_reset_streams(1 << 16)
        .max_concurrent_reset_streams(1 << 10);
    let mut handshake = pin!(builder.handshake(socket));
    poll_fn(|cx| {
        let done = handshake.as_mut().poll(cx);
        match pump.poll_write_out(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            _ => done.map(Result::ok),
        }
    })
    .await
}

/// The next call; `None` when the connection is over. Drives the connection meanwhile.
async fn next_call(
    connection: &mut Connection<Socket, Bytes>,
    pump: &Pump,
) -> Option<(Request<RecvStream>, SendResponse<Bytes>)> {
    poll_fn(|cx| {
        let next = connection.poll_accept(cx);
        if let Poll::Ready(Err(_)) = pump.poll_write_out(cx) {
            return Poll::Ready(None);
        }
        next.map(|next| next.and_then(Result::ok))
    })
    .await
}

impl OpenCall {
    fn take(open: &Rc<Cell<u32>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
