//! Accepts connections and hands them to workers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Settings;
use super::admission::{Admission, Places};

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;

/// An agent whose machine or network is gone says nothing at its end, and its connection would stay for ever: the kernel
/// asks after a minute of silence, and gives it up a minute later.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const TCP_KEEPALIVE_RETRIES: u32 = 4;

/// A connection on its way to a worker.
pub struct Arrival {
    /// The socket, registered with no runtime.
    pub stream: std::net::TcpStream,
    /// The agent's address.
    pub peer: SocketAddr,
    /// The listener's place in the plan.
    pub port: usize,
    /// Its places among the connections allowed; dropped when it is over.
    pub places: Places,
}

/// Binds a listener.
///
/// # Errors
/// As the kernel's, with the address and the mend.
pub fn bind(settings: &Settings) -> io::Result<TcpListener> {
    let explain = |error: io::Error| {
        let mend = match error.kind() {
            io::ErrorKind::AddrInUse => ": another process listens there; stop it or choose another port",
            io::ErrorKind::PermissionDenied => ": ports below 1024 need a privilege; choose a higher one",
            _ => "",
        };
        io::Error::new(
            error.kind(),
            format!("cannot listen on {} for {}: {error}{mend}", settings.address, settings.name),
        )
    };
    let socket =
        if settings.address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() };
    let socket = socket.map_err(explain)?;
    socket.set_reuseaddr(true).map_err(explain)?;
    // What is accepted inherits it.
    let keepalive = TcpKeepalive::new()
        .with_time(TCP_KEEPALIVE)
        .with_interval(TCP_KEEPALIVE_INTERVAL)
        .with_retries(TCP_KEEPALIVE_RETRIES);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive).map_err(explain)?;
    socket.bind(settings.address).map_err(explain)?;
    socket.listen(BACKLOG).map_err(explain)
}

/// Accepts until `leaving` turns true; who comes in is for `admission` to say.
pub async fn run(
    listener: TcpListener,
    port: usize,
    mut admission: Admission,
    mut leaving: watch::Receiver<bool>,
    hand_over: impl Fn(Arrival),
) {
    loop {
        let next = async {
            let here = admission.place().await;
            let (stream, peer) = listener.accept().await?;
            let admitted = admission.admit(stream.into_std()?, peer, here).await?;
            Ok(admitted.map(|(stream, places)| Arrival { stream, peer, port, places }))
        };
        let accepted: io::Result<_> = tokio::select! {
            next = next => next,
            _ = leaving.wait_for(|leaving| *leaving) => return,
        };
        match accepted {
            Ok(Some(arrival)) => hand_over(arrival),
            Ok(None) => {}
            Err(error) if is_peers_own(&error) => {}
            Err(error) => admission.rest(&error).await,
        }
    }
}

/// The peer was gone before it was accepted.
fn is_peers_own(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionReset)
}

impl Arrival {
    /// Registers the socket with the runtime of the worker that calls this.
    ///
    /// # Errors
    /// When the kernel refuses to watch it.
    pub fn settle(self) -> io::Result<(TcpStream, SocketAddr, usize, Places)> {
        Ok((TcpStream::from_std(self.stream)?, self.peer, self.port, self.places))
    }
}
