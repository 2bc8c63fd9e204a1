//! The HTTP/1.1 server under the pages, bounded so that nobody can use it up.

use std::time::Duration;

use axum::Router;
use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections served at once; more wait in the kernel's backlog. Prometheus, a probe or two and some browsers
/// need ten.
const CONNECTIONS_MAX: usize = 64;
/// From accept, or from the end of the answer before, to the end of a request's head.
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
pub(super) async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            socket = accept(&listener), if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(connection(socket, router.clone(), stopping.clone()));
            }
        }
    }
    drop(listener);
    drop(stop);
    while connections.join_next().await.is_some() {}
}

/// Waits for the next connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return socket,
            Err(error) => {
                tracing::warn!(%error, "an admin connection was not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, router: Router, mut stopping: watch::Receiver<()>) {
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
        tokio::spawn(serve(listener, Router::new(), std::future::pending()));
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
