//! The HTTP/1.1 server under the pages, bounded so that nobody can use it up.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use futures_util::future::{Either, select};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::server::TlsStream;
use tower_service::Service as _;

use crate::metrics::{self, RefusedReason};
use crate::wire::tls::{Refusal, ServerTls};

/// A port of our own, bound.
pub struct Port {
    /// The operator's word for it (`admin`, `prometheus`, `endpoints`).
    pub name: &'static str,
    /// The socket.
    pub listener: TcpListener,
    /// How its certificate is shown and whose is asked for; `None`: TLS is not spoken.
    pub tls: Option<Arc<ServerTls>>,
}

/// Who is at the other end of a connection; every request carries it.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it showed a certificate, which was found good.
    pub is_certified: bool,
    /// Set while an answer is under way that lasts until something changes: it ends on its own, and a connection with
    /// one is not too old for it.
    pub watches: Arc<AtomicBool>,
}

/// What one port gives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections served at once; more wait in the kernel's backlog.
    pub connections_max: usize,
    /// A connection older than this ends after the answer under way: a reader that takes its answer a byte at a time
    /// holds one of the places for this and `last_answer`, no longer.
    pub age_max: Duration,
    /// How long an answer that has begun may still take when a connection is to end.
    pub last_answer: Duration,
}

/// Prometheus, a probe or two and some browsers need ten connections.
pub(super) const FOR_OPERATORS: Bounds =
    Bounds { connections_max: 64, age_max: Duration::from_secs(60), last_answer: Duration::from_secs(2) };
/// From accept, or from the end of the answer before, to the end of a request's head; of a TLS handshake before it.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// hyper's least; it holds the head of a request and chunks of the answer.
const BUFFER_BYTES_MAX: usize = 16 << 10;
/// Requests one connection may make in [`TURN`]; the next one waits for the next turn. The page asks for two a second.
const REQUESTS_MAX: u32 = 50;
const TURN: Duration = Duration::from_secs(1);
/// A peer that acknowledges nothing, or whose window stays closed, for this long is gone: one that watches and does not
/// read may not hold its place.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// What the kernel keeps of answers that a peer does not read. Measured: left to itself it keeps 4 MB of each.
const UNREAD_BYTES_MAX: usize = 64 << 10;
/// Pause after an accept that failed: out of file descriptors, trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers with `router` until `shutdown`; then closes the port and lets answers that have begun end.
pub(super) async fn serve(port: Port, bounds: Bounds, router: Router, shutdown: impl Future<Output = ()>) {
    let Port { name, listener, tls } = port;
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (socket, address) = accept(&listener), if connections.len() < bounds.connections_max => {
                let (router, stopping) = (router.clone(), stopping.clone());
                let mut peer = Peer { address, is_certified: false, watches: Arc::default() };
                match tls.clone() {
                    None => connections.spawn(connection(socket, peer, bounds, router, stopping)),
                    Some(tls) => connections.spawn(async move {
                        if let Some(session) = shake_hands(name, socket, address, &tls).await {
                            peer.is_certified = session.get_ref().1.peer_certificates().is_some();
                            connection(session, peer, bounds, router, stopping).await;
                        }
                    }),
                };
            }
        }
    }
    drop(listener);
    drop(stop);
    while connections.join_next().await.is_some() {}
}

/// Waits for the next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let options = SockRef::from(&socket);
                // What cannot be set is left to the deadlines.
                let _ = options.set_tcp_user_timeout(Some(SILENCE_MAX));
                let _ = options.set_send_buffer_size(UNREAD_BYTES_MAX);
                return (socket, peer);
            }
            Err(error) => {
                tracing::warn!(%error, "an admin connection was not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The TLS session of a connection; `None` when it was refused, which is counted and told, or took too long.
async fn shake_hands(name: &str, socket: TcpStream, peer: SocketAddr, tls: &ServerTls) -> Option<TlsStream<TcpStream>> {
    let error = match timeout(HEAD_DEADLINE, tls.accept(socket)).await {
        Ok(Ok(session)) => return Some(session),
        Ok(Err(error)) => error,
        Err(late) => late.into(),
    };
    match Refusal::of(&error) {
        Some(refusal) => {
            metrics::refused(name, RefusedReason::Tls).increment(1);
            if let Some(left_out) = refusal.may_be_told() {
                tracing::warn!(listener = name, %peer, why = %refusal, left_out, "connection refused: TLS");
            }
        }
        None => metrics::refused(name, RefusedReason::Handshake).increment(1),
    }
    None
}

async fn connection<S>(socket: S, peer: Peer, bounds: Bounds, router: Router, mut stopping: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stopped = stopping.clone();
    let pace = Pace::new();
    let answer = |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let (mut router, due) = (router.clone(), pace.next());
        async move {
            sleep_until(due).await;
            router.call(request).await
        }
    };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(BUFFER_BYTES_MAX);
    let serving = http.serve_connection(TokioIo::new(socket), service_fn(answer));
    let serving = std::pin::pin!(serving);
    // The sender never sends: `changed` ends when it is dropped, or the age is reached.
    let ending = std::pin::pin!(timeout(bounds.age_max, stopping.changed()));
    // An error here is a peer that left or spoke no HTTP: of no interest to an operator.
    if let Either::Right((_, mut serving)) = select(serving, ending).await {
        serving.as_mut().graceful_shutdown();
        while timeout(bounds.last_answer, serving.as_mut()).await.is_err() {
            let is_stopping = stopped.has_changed().is_err();
            if is_stopping || !peer.watches.load(Relaxed) {
                return;
            }
        }
    }
}

/// How fast one connection is answered.
struct Pace(Mutex<Turn>);

struct Turn {
    began: Instant,
    requests: u32,
}

// === impl Pace ===

impl Pace {
    fn new() -> Self {
        Self(Mutex::new(Turn { began: Instant::now(), requests: 0 }))
    }

    /// When the next request is due to be answered.
    fn next(&self) -> Instant {
        let mut turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now >= turn.began + TURN {
            *turn = Turn { began: now, requests: 0 };
        }
        if turn.requests == REQUESTS_MAX {
            // Requests come one after the other: the next is not looked at before this one is answered.
            *turn = Turn { began: turn.began + TURN, requests: 0 };
        }
        turn.requests += 1;
        now.max(turn.began)
    }
}

#[cfg(test)]
mod tests {
    use axum::Extension;
    use axum::body::Body;
    use axum::http::Uri;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A port that answers 404 to everything.
    async fn start() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let port = Port { name: "admin", listener, tls: None };
        tokio::spawn(serve(port, FOR_OPERATORS, Router::new(), std::future::pending()));
        address
    }

    #[tokio::test]
    async fn silent_connections_make_room_for_a_request() {
        let address = start().await;
        let mut silent = Vec::new();
        for _ in 0..FOR_OPERATORS.connections_max + 6 {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(b"GET / HT").await.unwrap();
            silent.push(socket);
        }
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(HEAD_DEADLINE * 3, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }

    #[tokio::test]
    async fn who_watches_outlives_its_connections_age_and_not_the_end_of_the_watch() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (watch_over, watching) = watch::channel(false);
        // Answers for ever, as who watches is answered, or as who does not read to the end would like to be.
        let answer = move |peer: Extension<Peer>, path: Uri| async move {
            let body = Body::from_stream(futures_util::stream::pending::<Result<&str, std::io::Error>>());
            if path.path() == "/watch" {
                peer.watches.store(true, Relaxed);
                tokio::spawn(async move {
                    let mut watching = watching;
                    watching.changed().await.unwrap();
                    peer.watches.store(false, Relaxed);
                });
            }
            body
        };
        let brief = Duration::from_millis(50);
        let bounds = Bounds { age_max: brief, last_answer: brief, ..FOR_OPERATORS };
        tokio::spawn(serve(
            Port { name: "admin", listener, tls: None },
            bounds,
            Router::new().fallback(answer),
            std::future::pending(),
        ));
        let ask = async |path: &str| {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n").as_bytes()).await.unwrap();
            socket
        };
        let (mut watcher, mut other) = (ask("/watch").await, ask("/slow").await);
        let mut answer = Vec::new();
        timeout(HEAD_DEADLINE, other.read_to_end(&mut answer)).await.expect("it is too old").unwrap_or_default();
        answer.clear();
        timeout(brief * 8, watcher.read_to_end(&mut answer)).await.expect_err("it goes on");
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        watch_over.send(true).unwrap();
        timeout(HEAD_DEADLINE, watcher.read_to_end(&mut answer)).await.expect("it is over").unwrap_or_default();
    }

    #[test]
    fn a_connection_gets_its_requests_a_turn_and_no_more() {
        let pace = Pace::new();
        let first = pace.0.lock().unwrap().began;
        let due: Vec<Instant> = (0..REQUESTS_MAX * 2 + 1).map(|_| pace.next()).collect();
        let in_turn = |turn: u32| due.iter().filter(|due| **due >= first + TURN * turn).count() as u32;
        assert_eq!((in_turn(0), in_turn(1), in_turn(2)), (REQUESTS_MAX * 2 + 1, REQUESTS_MAX + 1, 1));
    }

    #[tokio::test]
    async fn an_endless_head_is_refused() {
        let mut socket = TcpStream::connect(start().await).await.unwrap();
        let line = [b"x: ", [b'y'; 1000].as_slice(), b"\r\n"].concat();
        socket.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        for _ in 0..64 {
            if socket.write_all(&line).await.is_err() {
                return;
            }
        }
        let mut answer = Vec::new();
        let _ = timeout(HEAD_DEADLINE * 2, socket.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    }
}
