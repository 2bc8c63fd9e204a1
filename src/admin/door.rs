//! The HTTP/1.1 server under the pages, bounded so that nobody can use it up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

use crate::metrics::{self, RefusedReason};
use crate::wire::tls::{Refusal, ServerTls};

/// A port of our own, bound.
pub struct Port {
    /// The operator's word for it (`admin`, `prometheus`).
    pub name: &'static str,
    /// The socket.
    pub listener: TcpListener,
    /// How its certificate is shown and whose is asked for; `None`: TLS is not spoken.
    pub tls: Option<Arc<ServerTls>>,
}

/// Connections served at once; more wait in the kernel's backlog. Prometheus, a probe or two and some browsers
/// need ten.
const CONNECTIONS_MAX: usize = 64;
/// From accept, or from the end of the answer before, to the end of a request's head; of a TLS handshake before it.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// A connection older than this ends after the answer under way: a reader that takes its answer a byte at a time
/// holds one of [`CONNECTIONS_MAX`] places for this and [`LAST_ANSWER`], no longer.
const AGE_MAX: Duration = Duration::from_secs(60);
/// How long an answer that has begun may still take when a connection is to end.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// hyper's least; it holds the head of a request and chunks of the answer.
const BUFFER_BYTES_MAX: usize = 16 << 10;
/// Pause after an accept that failed: out of file descriptors, trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers with `router` until `shutdown`; then closes the port and lets answers that have begun end.
pub(super) async fn serve(port: Port, router: Router, shutdown: impl Future<Output = ()>) {
    let Port { name, listener, tls } = port;
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (socket, peer) = accept(&listener), if connections.len() < CONNECTIONS_MAX => {
                let (router, stopping) = (router.clone(), stopping.clone());
                match tls.clone() {
                    None => connections.spawn(connection(socket, router, stopping)),
                    Some(tls) => connections.spawn(async move {
                        if let Some(session) = shake_hands(name, socket, peer, &tls).await {
                            connection(session, router, stopping).await;
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
            Ok(accepted) => return accepted,
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

async fn connection<S>(socket: S, router: Router, mut stopping: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(BUFFER_BYTES_MAX);
    let serving = http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    let serving = std::pin::pin!(serving);
    // The sender never sends: `changed` ends when it is dropped, or the age is reached.
    let ending = std::pin::pin!(timeout(AGE_MAX, stopping.changed()));
    // An error here is a peer that left or spoke no HTTP: of no interest to an operator.
    if let Either::Right((_, mut serving)) = select(serving, ending).await {
        serving.as_mut().graceful_shutdown();
        let _ = timeout(LAST_ANSWER, serving).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A port that answers 404 to everything.
    async fn start() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let port = Port { name: "admin", listener, tls: None };
        tokio::spawn(serve(port, Router::new(), std::future::pending()));
        address
    }

    #[tokio::test]
    async fn silent_connections_make_room_for_a_request() {
        let address = start().await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX + 6 {
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
