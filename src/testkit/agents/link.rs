//! One connection of a load: made, kept up and replaced when it is lost or asked to go away.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::{Book, Load};
use crate::testkit::socket::{Pump, Socket, Transport, Writes};

/// What the agents of a connection hold of it.
pub(super) struct Link {
    state: watch::Receiver<State>,
    /// The generation agents have found to take no more calls, if it is the current one.
    stale: Rc<RefCell<Option<u64>>>,
    renew: Rc<Notify>,
}

#[derive(Clone)]
enum State {
    Connecting,
    Up(u64, SendRequest<Bytes>),
    GaveUp,
}

/// Bytes handed to h2 and not yet on the wire, per stream: what counts as sent should be about to leave.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Replies are small.
const GULP_BYTES: usize = 4 << 10;
const RETRY: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// A connect that takes longer is tried again.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

impl Link {
    /// A link and the task that keeps it.
    pub(super) fn new(
        load: &Rc<Load>,
        book: &Rc<Book>,
        connects: &Rc<Semaphore>,
    ) -> (Rc<Self>, impl Future<Output = ()> + use<>) {
        let (sender, state) = watch::channel(State::Connecting);
        let link = Rc::new(Self { state, stale: Rc::default(), renew: Rc::default() });
        let (stale, renew) = (Rc::clone(&link.stale), Rc::clone(&link.renew));
        let (load, book, connects) = (Rc::clone(load), Rc::clone(book), Rc::clone(connects));
        let keep = async move {
            let mut generation = 0;
            while let Some((request, driver)) = connect(&load, &connects, generation).await {
                book.connected();
                generation += 1;
                let (gone, mut lost) = tokio::sync::oneshot::channel::<()>();
                tokio::task::spawn_local(async move {
                    driver.await;
                    drop(gone);
                });
                sender.send_replace(State::Up(generation, request));
                // An old connection goes on serving the calls it has.
                loop {
                    tokio::select! {
                        _ = &mut lost => break,
                        () = renew.notified() => if stale.borrow_mut().take() == Some(generation) { break },
                    }
                }
                sender.send_replace(State::Connecting);
            }
            book.unreached();
            sender.send_replace(State::GaveUp);
        };
        (link, keep)
    }

    /// A request handle that may open a stream now; waits for a connection and a stream slot. `None`: given up.
    pub(super) async fn request(&self) -> Option<SendRequest<Bytes>> {
        let mut state = self.state.clone();
        let mut used = 0;
        loop {
            let is_usable = |state: &State| match state {
                State::Up(generation, _) => *generation > used,
                State::GaveUp => true,
                State::Connecting => false,
            };
            let now = state.wait_for(is_usable).await.ok()?.clone();
            let State::Up(generation, request) = now else { return None };
            match request.ready().await {
                Ok(request) => return Some(request),
                Err(_) => {
                    used = generation;
                    let mut stale = self.stale.borrow_mut();
                    *stale = (*stale).max(Some(generation));
                    self.renew.notify_one();
                }
            }
        }
    }
}

/// Connects, with retries: the first time for `wait` at most, later for ever.
async fn connect(
    load: &Load,
    connects: &Semaphore,
    generation: u64,
) -> Option<(SendRequest<Bytes>, impl Future<Output = ()> + use<>)> {
    let give_up = Instant::now() + load.wait;
    let mut retry = RETRY;
    loop {
        let tried = {
            let _permit = connects.acquire().await.ok()?;
            tokio::time::timeout(CONNECT_DEADLINE, open(load)).await
        };
        if let Ok(Ok((request, connection, pump))) = tried {
            return Some((request, drive(connection, pump)));
        }
        if generation == 0 && Instant::now() >= give_up {
            return None;
        }
        tokio::time::sleep(retry.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        retry = (retry * 2).min(RETRY_MAX);
    }
}

type Connection = h2::client::Connection<Socket, Bytes>;

async fn open(load: &Load) -> io::Result<(SendRequest<Bytes>, Connection, Pump)> {
    let addresses: Vec<_> = tokio::net::lookup_host(&load.to).await?.collect();
    let mut tcp = Err(io::ErrorKind::NotFound.into());
    // Spread over what a name resolves to, as agents do.
    let start = fastrand::usize(..addresses.len().max(1));
    for at in 0..addresses.len() {
        tcp = TcpStream::connect(addresses[(start + at) % addresses.len()]).await;
        if tcp.is_ok() {
            break;
        }
    }
    let tcp = tcp?;
    tcp.set_nodelay(true)?;
    let writes = if load.rate > 0.0 { Writes::AtOnce } else { Writes::Gathered };
    let transport = match &load.tls {
        None => Transport::Tcp(tcp),
        Some(tls) => {
            let host = load.to.rsplit_once(':').map_or(load.to.as_str(), |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Transport::Tls(Box::new(tls.connect(host, tcp).await?.into()))
        }
    };
    let (socket, pump) = Socket::new(transport, writes, GULP_BYTES);
    let (request, connection) = h2::client::Builder::new()
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .enable_push(false)
        .handshake(socket)
        .await
        .map_err(io::Error::other)?;
    Ok((request, connection, pump))
}

/// Drives a connection to its end.
async fn drive(mut connection: Connection, pump: Pump) {
    poll_fn(|cx| {
        let done = Pin::new(&mut connection).poll(cx).map(drop);
        match pump.poll_write_out(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            _ => done,
        }
    })
    .await;
}
