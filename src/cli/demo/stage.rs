//! The players: three collectors, the gateway before them, a dozen agents; started in this order, ended in the other.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::admin::snapshot::Snapshot;
use crate::config::{Overrides, Plan, Problem};
use crate::gateway::{Gateway, StartError, Summary};
use crate::testkit::agents::{Load, Outcome, Running, Traffic};
use crate::testkit::check::{Evidence, Verdict, check};
use crate::testkit::collector::{Collector, Options};
use crate::testkit::tally::Detail;

use super::keys::victim;

/// How many agents there are; the first sends as much as all others together.
pub const AGENTS: usize = 12;

const COLLECTORS: [&str; 3] = ["collector-a", "collector-b", "collector-c"];
/// The first to be killed: the middle one, so that both neighbours are seen to take over.
const FIRST_VICTIM: usize = 1;
const AGENTS_PORT: u16 = 11_800;
const ADMIN_PORT: u16 = 9_901;
/// Nobody waits longer for the end of a demo. It matters only when every collector is dead.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// A quarter of the default: answers come four times a second and figures move smoothly, also in the first second.
const TRIP_AGE_MAX: Duration = Duration::from_millis(250);
/// A small trace segment has about as much.
const MESSAGE_BYTES: usize = 500;

/// Everything that runs.
pub struct Stage {
    collectors: Vec<Collector>,
    gateway: Gateway,
    agents: Running,
    started: Instant,
    /// Where the next kill looks first.
    turn: usize,
}

/// How it all ended.
pub struct Ending {
    /// What the gateway did.
    pub summary: Summary,
    /// What the agents did.
    pub agents: Outcome,
    /// What agents and collectors together say, message by message.
    pub verdict: Verdict,
    /// Collectors' names and addresses.
    pub collectors: Vec<(String, String)>,
    /// How long the agents sent.
    pub sent_for: Duration,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A collector or the agents.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// The gateway.
    #[error(transparent)]
    Gateway(#[from] StartError),
    /// A defect: the demo's own settings are wrong.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Plan(Vec<Problem>),
}

// === impl Stage ===

impl Stage {
    /// Starts everybody; `rate` is what all agents send together per second. Also says which ports were taken.
    ///
    /// # Errors
    /// When no port is to be had at all.
    pub async fn set(rate: u64, any_port: bool) -> Result<(Self, Vec<String>), StageError> {
        let options = Options { detail: Detail::Ids, ..Options::default() };
        let collectors: Vec<Collector> =
            COLLECTORS.iter().map(|_| Collector::start(options.clone())).collect::<io::Result<_>>()?;
        let (gateway, notes) = open(&collectors, any_port).await?;
        let agents = load(agents_address(&gateway), rate).start()?;
        Ok((Self { collectors, gateway, agents, started: Instant::now(), turn: FIRST_VICTIM }, notes))
    }

    /// Since the agents began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Where agents connect.
    pub fn agents_address(&self) -> SocketAddr {
        agents_address(&self.gateway)
    }

    /// The admin page.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.gateway.addresses().admin
    }

    /// Collectors' names and addresses.
    pub fn collectors(&self) -> Vec<(String, String)> {
        let names = COLLECTORS.iter().map(|name| (*name).to_owned());
        names.zip(self.collectors.iter().map(|collector| collector.address().to_string())).collect()
    }

    /// What the gateway is doing.
    pub async fn snapshot(&self) -> Snapshot {
        self.gateway.snapshot().await
    }

    /// Kills the next collector as a SIGKILL would; says what was done.
    pub fn kill(&mut self) -> String {
        let running: Vec<bool> = self.collectors.iter().map(Collector::is_running).collect();
        let Some(at) = victim(self.turn, &running) else {
            return "all are dead: the gateway keeps what comes until one is back".to_owned();
        };
        self.turn = (at + 1) % COLLECTORS.len();
        self.collectors[at].kill();
        format!("{} was killed", COLLECTORS[at])
    }

    /// Brings back every collector that is dead, on its old port; says what was done.
    pub fn revive(&mut self) -> String {
        let mut revived = Vec::new();
        for (name, collector) in COLLECTORS.iter().zip(&mut self.collectors) {
            if collector.is_running() {
                continue;
            }
            if let Err(error) = collector.restart() {
                return format!("{name} does not come back: {error}");
            }
            revived.push(*name);
        }
        if revived.is_empty() {
            "nobody is dead".to_owned()
        } else {
            format!("{} back, on the old port", revived.join(", "))
        }
    }

    /// Ends everybody, so that all figures are final: agents half-close and are answered, the gateway drains, then
    /// the collectors go.
    ///
    /// # Errors
    /// When the agents' thread panicked.
    pub async fn end(self) -> io::Result<Ending> {
        let (sent_for, collectors) = (self.started.elapsed(), self.collectors());
        let agents = self.agents;
        let agents = joined(tokio::task::spawn_blocking(|| agents.stop())).await?;
        let summary = self.gateway.drain().await;
        let stop = |mut collector: Collector| -> JoinHandle<Evidence> {
            tokio::task::spawn_blocking(move || {
                collector.stop();
                collector.evidence()
            })
        };
        let mut evidence = Vec::new();
        for stopping in self.collectors.into_iter().map(stop).collect::<Vec<_>>() {
            evidence.push(joined(stopping).await?);
        }
        let verdict = check(&agents.agents, &evidence);
        Ok(Ending { summary, agents, verdict, collectors, sent_for })
    }
}

async fn joined<T>(task: JoinHandle<T>) -> io::Result<T> {
    task.await.map_err(io::Error::other)
}

/// Starts the gateway on the usual ports; on free ones where those are taken.
async fn open(collectors: &[Collector], any_port: bool) -> Result<(Gateway, Vec<String>), StageError> {
    let mut notes = Vec::new();
    let mut pick = |port: u16, what: &str| {
        if any_port {
            return 0;
        }
        if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            notes.push(format!("port {port} is not free ({}): another serves for {what}", error.kind()));
            return 0;
        }
        port
    };
    let (agents, admin) = (pick(AGENTS_PORT, "agents"), pick(ADMIN_PORT, "admin"));
    match Gateway::start(plan(collectors, agents, admin)?).await {
        // Somebody was faster.
        Err(StartError::Listen(_)) if (agents, admin) != (0, 0) => {
            notes.push(format!("port {AGENTS_PORT} or {ADMIN_PORT} was taken this moment: both got others"));
            Ok((Gateway::start(plan(collectors, 0, 0)?).await?, notes))
        }
        started => Ok((started?, notes)),
    }
}

fn plan(collectors: &[Collector], agents: u16, admin: u16) -> Result<Plan, StageError> {
    let to: Vec<String> = collectors.iter().map(|collector| collector.address().to_string()).collect();
    let off = || Some("off".to_owned());
    let flags = Overrides {
        to: Some(to.join(",")),
        access_logs: off(),
        metrics: off(),
        prometheus: off(),
        ..Overrides::default()
    };
    let (mut plan, _) = Plan::from_flags(&flags).map_err(StageError::Plan)?;
    let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    plan.listeners.iter_mut().for_each(|listener| listener.address = local(agents));
    plan.admin = Some(local(admin));
    plan.drain_deadline = DRAIN_DEADLINE;
    plan.pools[0].trip.age_max = TRIP_AGE_MAX;
    Ok(plan)
}

fn agents_address(gateway: &Gateway) -> SocketAddr {
    let addresses = gateway.addresses();
    let listeners = &addresses.listeners;
    listeners.iter().map(|(_, address)| *address).next().expect("the plan has a port for agents")
}

/// A connection and an endless stream for each agent; the first has half of the rate.
fn load(to: SocketAddr, rate: u64) -> Load {
    let others = (AGENTS - 1) as f64;
    Load {
        to: to.to_string(),
        traffic: Traffic::Trace,
        connections: AGENTS,
        streams: 1,
        rate: rate as f64 / (2.0 * others),
        skew: others,
        bytes: MESSAGE_BYTES,
        services: AGENTS,
        ..Load::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_agent_sends_half_and_all_send_the_rate() {
        let load = load(SocketAddr::from(([127, 0, 0, 1], 1)), 10_000);
        let first = load.rate * load.skew;
        let all = first + load.rate * (AGENTS - 1) as f64;
        assert!((all - 10_000.0).abs() < 0.01 && (first / all - 0.5).abs() < 0.001);
    }
}
