//! Accepts connections: a permit before each, a pause when the process is out of descriptors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::metrics::{self, RefusedReason};

use super::Settings;

/// How long accepting rests when the kernel has nothing to give: the connection stays in the backlog meanwhile.
const REST: Duration = Duration::from_millis(100);

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;

/// A connection on its way to a worker.
pub struct Arrival {
    /// The socket, registered with no runtime.
    pub stream: std::net::TcpStream,
    /// The agent's address.
    pub peer: SocketAddr,
    /// The listener's place in the plan.
    pub port: usize,
    /// Its places among the connections allowed; dropped when it is over.
    pub places: [OwnedSemaphorePermit; 2],
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
    socket.bind(settings.address).map_err(explain)?;
    socket.listen(BACKLOG).map_err(explain)
}

/// Accepts until `leaving` turns true. This listener's own permit is taken *before* accept, so that connections over its
/// limit wait in the kernel and cost nothing. The permit for all listeners is taken after it, or an idle listener would
/// hold one for nobody; at that limit each listener keeps a single accepted connection waiting.
pub async fn run(
    listener: TcpListener,
    port: usize,
    settings: Settings,
    everywhere: Arc<Semaphore>,
    mut leaving: watch::Receiver<bool>,
    hand_over: impl Fn(Arrival),
) {
    let handles = metrics::Listener::of(settings.name);
    let here = Arc::new(Semaphore::new(settings.connections_max));
    loop {
        let next = async {
            let here = place(&here, &settings, &handles).await;
            let (stream, peer) = listener.accept().await?;
            let everywhere = place(&everywhere, &settings, &handles).await;
            Ok((stream.into_std()?, peer, [here, everywhere]))
        };
        let accepted: io::Result<_> = tokio::select! {
            next = next => next,
            _ = leaving.wait_for(|leaving| *leaving) => return,
        };
        match accepted {
            Ok((stream, peer, places)) => {
                handles.connections.increment(1);
                hand_over(Arrival { stream, peer, port, places });
            }
            Err(error) if is_peers_own(&error) => {}
            Err(error) => {
                // EMFILE and its kin. Without the rest this loop would spin, for the backlog stays readable.
                tracing::error!(listener = settings.name, %error, "cannot accept; resting");
                handles.refused(RefusedReason::Emfile).increment(1);
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// A place among the connections allowed; waits, and says so, when there is none.
async fn place(places: &Arc<Semaphore>, settings: &Settings, handles: &metrics::Listener) -> OwnedSemaphorePermit {
    if places.available_permits() == 0 {
        tracing::warn!(listener = settings.name, "as many connections as allowed: the next ones wait");
        handles.refused(RefusedReason::Limit).increment(1);
    }
    Arc::clone(places).acquire_owned().await.expect("never closed")
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
    pub fn settle(self) -> io::Result<(TcpStream, SocketAddr, usize, [OwnedSemaphorePermit; 2])> {
        Ok((TcpStream::from_std(self.stream)?, self.peer, self.port, self.places))
    }
}
