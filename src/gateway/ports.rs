//! The ports of a gateway: bound before anything is changed, opened and closed as plans come.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;

use crate::admin::{self, endpoints};
use crate::config::Plan;
use crate::listener::admission::{Admission, Reserve};
use crate::listener::{self, accept};
use crate::wire::tls::ServerTls;

use super::Addresses;
use super::thread::{self, Thread};

/// The ports that are open.
pub struct Ports {
    threads: Vec<Arc<Thread>>,
    leaving: watch::Receiver<bool>,
    /// What connections of agents leave to others.
    reserve: Arc<Reserve>,
    admin: admin::State,
    endpoints: endpoints::State,
    agents: Vec<Agents>,
    /// Of Prometheus, of people, and of those who connect to backends directly.
    own: [Option<Own>; 3],
}

/// A port for agents and who accepts there.
struct Agents {
    port: Port<listener::Settings>,
    /// The places of all listeners together.
    places: Arc<Semaphore>,
    _acceptor: Closing,
}

/// A port of our own and who serves it.
struct Own {
    port: Port<OwnAsked>,
    /// Dropped, the port is closed, and what is being answered there is answered; that takes two seconds at most.
    open: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

/// What a plan asks for of a port of our own.
#[derive(Clone, PartialEq, Eq)]
struct OwnAsked {
    address: SocketAddr,
    tls: Option<Arc<ServerTls>>,
}

/// A bound port.
struct Port<T> {
    /// As the plan asks for it; its address may have port 0.
    asked: T,
    address: SocketAddr,
    socket: StdListener,
}

/// A task that ends when nobody holds it any more.
pub struct Closing(JoinHandle<()>);

/// The ports of a plan, bound or the same as before, each ready to be accepted on; nothing is changed yet.
pub struct Prepared {
    agents: Vec<(Port<listener::Settings>, TcpListener)>,
    own: [Option<(Port<OwnAsked>, TcpListener)>; 3],
}

/// What the own ports are called, in the order of [`Ports::own`].
const OWN: [&str; 3] = ["prometheus", "admin", "endpoints"];

impl Ports {
    /// No port yet.
    pub fn new(
        threads: Vec<Arc<Thread>>,
        leaving: watch::Receiver<bool>,
        reserve: Arc<Reserve>,
        admin: admin::State,
        endpoints: endpoints::State,
    ) -> Self {
        Self { threads, leaving, reserve, admin, endpoints, agents: Vec::new(), own: [None, None, None] }
    }

    /// Binds what the plan asks for and is not bound. Dropped, it leaves everything as it was.
    ///
    /// # Errors
    /// When a port cannot be had.
    pub fn prepare(&self, plan: &Plan) -> io::Result<Prepared> {
        let mut agents = Vec::new();
        for asked in &plan.listeners {
            let same = |open: &&Agents| open.port.asked.name == asked.name && open.port.asked.address == asked.address;
            let port = match self.agents.iter().find(same) {
                Some(open) => open.port.again(asked.clone())?,
                None => Port::of(accept::bind(asked)?.into_std()?, asked.clone())?,
            };
            agents.push(port.ready()?);
        }
        let mut own = [None, None, None];
        let asked = [
            (plan.prometheus, &plan.prometheus_tls),
            (plan.admin, &plan.admin_tls),
            (plan.endpoints, &plan.endpoints_tls),
        ];
        for (number, (address, tls)) in asked.into_iter().enumerate() {
            let Some(address) = address else { continue };
            let asked = OwnAsked { address, tls: tls.clone() };
            let port = match &self.own[number] {
                Some(open) if open.port.asked.address == address => open.port.again(asked)?,
                _ => Port::of(bind_own(OWN[number], address)?, asked)?,
            };
            own[number] = Some(port.ready()?);
        }
        Ok(Prepared { agents, own })
    }

    /// Opens what was prepared and closes what is no longer asked for. Connections that are open stay.
    pub fn open(&mut self, prepared: Prepared, places: &Arc<Semaphore>) {
        let mut agents = Vec::new();
        for (port, listener) in prepared.agents {
            let is_same = |open: &Agents| open.port.asked == port.asked && Arc::ptr_eq(&open.places, places);
            if let Some(at) = self.agents.iter().position(is_same) {
                agents.push(self.agents.swap_remove(at));
                continue;
            }
            let settings = listener::Settings { address: port.address, ..port.asked.clone() };
            let workers = self.threads.clone();
            let hand_over = move |arrival| thread::least_busy(&workers).serve(arrival);
            let (number, leaving) = (settings.number(), self.leaving.clone());
            let admission = Admission::new(settings, Arc::clone(places), Arc::clone(&self.reserve));
            let accepting = accept::run(listener, number, admission, leaving, hand_over);
            let places = Arc::clone(places);
            agents.push(Agents { port, places, _acceptor: Closing::spawn(accepting) });
        }
        self.agents = agents;
        for (number, prepared) in prepared.own.into_iter().enumerate() {
            let is_same = |open: &Own| prepared.as_ref().is_some_and(|(port, _)| port.asked == open.port.asked);
            if self.own[number].as_ref().is_some_and(is_same) {
                continue;
            }
            self.own[number] = prepared.map(|(port, listener)| self.serve_own(number, port, listener));
        }
    }

    fn serve_own(&self, number: usize, port: Port<OwnAsked>, listener: TcpListener) -> Own {
        let (open, closed) = oneshot::channel::<()>();
        // Nothing is ever sent: it ends when the sender is dropped.
        let closed = async { closed.await.unwrap_or_default() };
        let state = self.admin.clone();
        let served = admin::Port { name: OWN[number], listener, tls: port.asked.tls.clone() };
        let server = match number {
            0 => tokio::spawn(admin::serve_prometheus(served, state, closed)),
            1 => tokio::spawn(admin::serve_admin(served, state, closed)),
            _ => tokio::spawn(endpoints::serve(served, self.endpoints.clone(), closed)),
        };
        Own { port, open, server }
    }

    /// Who may use our own ports from now on.
    pub fn admit(&self, plan: &Plan) {
        self.admin.token.store(plan.admin_token.clone().map(Arc::new));
        self.endpoints.token.store(plan.endpoints_token.clone().map(Arc::new));
    }

    /// Where agents are listened for, and where we are asked.
    pub fn addresses(&self) -> Addresses {
        let own = |number: usize| self.own[number].as_ref().map(|own| own.port.address);
        Addresses {
            listeners: self.agents.iter().map(|open| (open.port.asked.name, open.port.address)).collect(),
            prometheus: own(0),
            admin: own(1),
            endpoints: own(2),
        }
    }

    /// Accepts nothing more, and waits until what our own ports have begun to answer is answered.
    pub async fn close(&mut self) {
        self.agents.clear();
        let own = std::mem::take(&mut self.own);
        let close = |own: Own| {
            drop((own.open, own.port));
            own.server
        };
        let servers: Vec<JoinHandle<()>> = own.into_iter().flatten().map(close).collect();
        for server in servers {
            // One that has panicked answers nothing more.
            let _ = server.await;
        }
    }
}

// === impl Prepared ===

impl Prepared {
    /// The listeners as they are bound.
    pub fn listeners(&self) -> Vec<listener::Settings> {
        let bound =
            |port: &Port<listener::Settings>| listener::Settings { address: port.address, ..port.asked.clone() };
        self.agents.iter().map(|(port, _)| bound(port)).collect()
    }
}

// === impl Port ===

impl<T> Port<T> {
    fn of(socket: StdListener, asked: T) -> io::Result<Self> {
        Ok(Self { address: socket.local_addr()?, asked, socket })
    }

    /// With what accepts there.
    fn ready(self) -> io::Result<(Self, TcpListener)> {
        let listener = TcpListener::from_std(self.socket.try_clone()?)?;
        Ok((self, listener))
    }

    /// The same port under other settings.
    fn again(&self, asked: T) -> io::Result<Self> {
        Self::of(self.socket.try_clone()?, asked)
    }
}

// === impl Closing ===

impl Closing {
    /// Starts a task.
    pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn bind_own(name: &str, address: SocketAddr) -> io::Result<StdListener> {
    let explain = |error: io::Error| {
        let message = format!(
            "cannot listen on {address} for {name}: {error}; choose another as listen.{name}, or turn it `off`"
        );
        io::Error::new(error.kind(), message)
    };
    let socket = StdListener::bind(address).map_err(explain)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
