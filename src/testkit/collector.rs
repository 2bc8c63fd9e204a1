//! A collector to test against: it speaks h2, keeps OAP's stream state, counts everything, and misbehaves on command.
//!
//! It has a thread of its own with a current-thread runtime, so that any test can start several, kill them and start
//! them again on the same port. What it counted survives its death.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::attribution::{Attributed, Attribution};
use super::behaviour::Behaviour;
use super::check::Evidence;
use super::tally::{Counts, Detail, Tally};
use crate::wire::tls::ServerTls;

mod call;
mod connection;
mod house;
#[cfg(test)]
mod tests;

use house::House;

/// How a collector starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 takes any free one and keeps it across restarts.
    pub listen: SocketAddr,
    /// How closely it looks at messages.
    pub detail: Detail,
    /// Appends `method source agent seq` for each id before the answer goes out; implies at least [`Detail::Ids`].
    pub log: Option<PathBuf>,
    /// How it misbehaves from the start.
    pub behaviour: Behaviour,
    /// Bytes a peer may send on one stream ahead of its being read.
    pub stream_window_bytes: u32,
    /// Bytes a peer may send on one connection ahead of its being read.
    pub connection_window_bytes: u32,
    /// Bytes of one message's body.
    pub message_bytes_max: usize,
    /// Whether dying ends the process with code 137; otherwise all sockets are dropped.
    pub exit_on_death: bool,
    /// How it shows its certificate and whose it asks for; `None`: it speaks no TLS.
    pub tls: Option<Arc<ServerTls>>,
}

/// A collector; dropping it kills it.
#[derive(Debug)]
pub struct Collector {
    options: Options,
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<Running>,
}

/// What a collector's thread and its handle share; it outlives the thread.
#[derive(Debug)]
struct Shared {
    tally: Mutex<Tally>,
    behaviour: watch::Sender<Behaviour>,
}

#[derive(Debug)]
struct Running {
    end: oneshot::Sender<Ending>,
    thread: JoinHandle<()>,
}

/// How a collector's thread is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Drop everything now.
    Kill,
    /// GOAWAY on every connection, then at most [`STOP_WAIT`] for them to end.
    Stop,
}

const STOP_WAIT: Duration = Duration::from_millis(500);

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            detail: Detail::default(),
            log: None,
            behaviour: Behaviour::default(),
            stream_window_bytes: 1 << 20,
            // grpc-java: one window for both. Wider ones only move bytes from the socket to memory: measured with 32
            // streams of 200 B, 16 MiB cost 0.58 µs a message and 1 MiB 0.30.
            connection_window_bytes: 1 << 20,
            // OAP's default since 10.1.
            message_bytes_max: 52_428_800,
            exit_on_death: false,
            tls: None,
        }
    }
}

// === impl Collector ===

impl Collector {
    /// Starts a collector; it listens when this returns.
    ///
    /// # Errors
    /// When the port cannot be bound or the log not opened.
    pub fn start(options: Options) -> io::Result<Self> {
        let tally = Tally::new(options.detail, options.log.as_deref())?;
        let listener = bind(options.listen)?;
        let address = listener.local_addr()?;
        let (behaviour, _) = watch::channel(options.behaviour.clone());
        let shared = Arc::new(Shared { tally: Mutex::new(tally), behaviour });
        let running = Some(spawn(listener, &options, &shared)?);
        Ok(Self { options, address, shared, running })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything counted since the first start.
    pub fn counts(&self) -> Counts {
        self.shared.tally().counts()
    }

    /// The ids seen since the first start; empty below [`Detail::Ids`].
    pub fn evidence(&self) -> Evidence {
        self.shared.tally().evidence().clone()
    }

    /// Every item filed since the first start, and how often; empty unless [`Detail::Items`].
    pub fn attributed(&self) -> Attributed {
        self.shared.tally().attributed().clone()
    }

    /// Every item filed since the first start, in order; empty unless [`Detail::Items`].
    pub fn filed(&self) -> Vec<Attribution> {
        self.shared.tally().filed().to_vec()
    }

    /// How often a message with these words of its own was read since the first start, filed or not; 0 unless
    /// [`Detail::Items`]. See [`own_words`](super::receivers::own_words).
    pub fn times_read(&self, words: u64) -> u64 {
        self.shared.tally().times_read(words)
    }

    /// Changes the behaviour of open and future streams.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.behaviour.send_replace(behaviour);
    }

    /// The behaviour in force.
    pub fn behaviour(&self) -> Behaviour {
        self.shared.behaviour.borrow().clone()
    }

    /// Whether it still runs: not after `kill`, `stop` or the death its behaviour asked for.
    pub fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.thread.is_finished())
    }

    /// Drops listener and sockets at once, as a killed process would. Returns when they are closed.
    pub fn kill(&mut self) {
        self.end(Ending::Kill);
    }

    /// Ends connections by GOAWAY, waits for them at most half a second, then drops what is left.
    pub fn stop(&mut self) -> Counts {
        self.end(Ending::Stop);
        self.counts()
    }

    /// Listens again on the same port, after killing what may still run. Counts go on; a death asked for by the
    /// behaviour has to be taken out of it first.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        let listener = bind(self.address)?;
        self.running = Some(spawn(listener, &self.options, &self.shared)?);
        Ok(())
    }

    fn end(&mut self, ending: Ending) {
        if let Some(Running { end, thread }) = self.running.take() {
            // An error means that it is already dead.
            let _ = end.send(ending);
            let _ = thread.join();
            self.shared.tally().write_log();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    /// Race: the thread holds the lock for one run of messages at a time, readers for one snapshot.
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// std's own bind has a backlog of 128: too few for a thousand agents that come at once.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn spawn(listener: TcpListener, options: &Options, shared: &Arc<Shared>) -> io::Result<Running> {
    listener.set_nonblocking(true)?;
    let (end, asked) = oneshot::channel();
    let (options, shared) = (options.clone(), Arc::clone(shared));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("collector".to_owned()).spawn(move || {
        let local = tokio::task::LocalSet::new();
        let _ = local.block_on(&runtime, accept(listener, options, shared, asked));
        // Connections are tasks of `local`: dropping it closes their sockets.
    })?;
    Ok(Running { end, thread })
}

/// Takes connections until asked to end or told to die.
async fn accept(
    listener: TcpListener,
    options: Options,
    shared: Arc<Shared>,
    mut asked: oneshot::Receiver<Ending>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut behaviour = shared.behaviour.subscribe();
    let house = Rc::new(House::new(options, shared));
    loop {
        let die_at = behaviour.borrow_and_update().die_after.map(|age| house.started() + age);
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => {
                    house.tally().connections += 1;
                    tokio::task::spawn_local(connection::serve(tcp, Rc::clone(&house)));
                }
                // EMFILE and the like: the kernel keeps the connection waiting meanwhile.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            ending = &mut asked => {
                if ending == Ok(Ending::Stop) {
                    drop(listener);
                    let _ = tokio::time::timeout(STOP_WAIT, house.leave()).await;
                }
                return Ok(());
            }
            () = house.death() => return Ok(()),
            () = at(die_at) => house.die(),
            _ = behaviour.changed() => {}
        }
    }
}

/// Waits until then; for ever without a then.
async fn at(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
