//! One run of one row through one side: collectors, the gateway, agents, and what came of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;
use switchyard::testkit::agents::Outcome;
use switchyard::testkit::check::{Verdict, check_logs};

use crate::process::{Process, Usage, machine_busy_us};
use crate::row::{Look, Row};

/// Who stands between agents and collectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Switchyard,
    Naive,
}

/// What one run showed. Rates and costs are of the window, where the row has one.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sample {
    /// Messages collectors received in the window.
    pub messages: u64,
    pub messages_per_s: f64,
    pub cpu_us_per_message: f64,
    /// Of the gateway's two cores' worth, how much it used.
    pub cores_used: f64,
    pub switches_per_message: f64,
    pub rss_peak_bytes: u64,
    /// Resident memory gained since nobody was connected, by connections.
    pub rss_per_connection_bytes: Option<u64>,
    pub reply_us_p50: u64,
    pub reply_us_p99: u64,
    pub replies: u64,
    /// Messages of the busiest collector by those of the mean one.
    pub max_over_mean: f64,
    pub sent: u64,
    /// Messages that arrived nowhere.
    pub lost: u64,
    /// Of them, on calls the agents saw answered `OK`.
    pub lost_answered: u64,
    /// Messages that arrived more than once.
    pub duplicated: u64,
    /// Calls that ended in an error.
    pub errors: u64,
    /// Cores that everything on the machine but this run kept busy meanwhile: noise.
    pub foreign_cores: f64,
}

struct Collector {
    process: Process,
    address: String,
    http: SocketAddr,
    log: PathBuf,
}

/// Everything at one moment.
struct Moment {
    at: Instant,
    gateway: Usage,
    /// CPU of all processes of the run.
    ours_us: f64,
    machine_us: f64,
    received: Vec<u64>,
}

const SWITCHYARD: &str = env!("CARGO_BIN_EXE_switchyard");
const COLLECTORS: usize = 3;
/// How long a process may take to listen.
const START: Duration = Duration::from_secs(10);
/// How long messages may still be on their way once the agents are done.
const SETTLE: Duration = Duration::from_secs(10);
/// How long agents may take beyond the length of their run.
const OVERRUN: Duration = Duration::from_secs(45);

impl Side {
    pub const BOTH: [Side; 2] = [Side::Switchyard, Side::Naive];

    pub fn name(self) -> &'static str {
        match self {
            Side::Switchyard => "switchyard",
            Side::Naive => "naive",
        }
    }
}

/// Runs a row once. Logs and the like go below `scratch`.
pub fn run(row: &Row, side: Side, quick: bool, scratch: &Path) -> io::Result<Sample> {
    let mut collectors = Vec::new();
    for at in 0..COLLECTORS {
        collectors.push(Collector::start(row, &scratch.join(format!("{}-{at}.ids", row.name)))?);
    }
    let listen = free_address()?;
    let log = File::create(scratch.join(format!("{}-{}.log", row.name, side.name())))?;
    let mut gateway = start_gateway(side, listen, &collectors, log)?;
    sleep(Duration::from_millis(300));
    let idle = gateway.usage()?;

    let length = match row.look {
        Look::Steady { warm, quick: window, .. } if quick => warm + window,
        Look::Steady { warm, long: window, .. } => warm + window,
        Look::Memory { after, .. } => after,
        Look::Kill { .. } => Duration::from_secs(60),
    };
    let margin = Duration::from_millis(300);
    let agents = agents(row, listen, (!matches!(row.look, Look::Kill { .. })).then_some(length + margin))?;
    let mut sample = Sample::default();
    match row.look {
        Look::Steady { warm, .. } => {
            sleep(warm);
            let before = Moment::take(&gateway, &agents, &collectors)?;
            sleep(length - warm);
            sample.window(&before, &Moment::take(&gateway, &agents, &collectors)?);
        }
        Look::Memory { connections, after } => {
            let before = Moment::take(&gateway, &agents, &collectors)?;
            sleep(after);
            let then = Moment::take(&gateway, &agents, &collectors)?;
            sample.window(&before, &then);
            let gained = then.gateway.rss_bytes.saturating_sub(idle.rss_bytes);
            sample.rss_per_connection_bytes = Some(gained / connections);
        }
        Look::Kill { after } => {
            sleep(after);
            collectors[0].process.kill()?;
        }
    }
    let outcome = agents.output(margin + length + OVERRUN)?;
    let outcome: Outcome = serde_json::from_str(outcome.trim()).map_err(io::Error::other)?;
    sample.of_agents(&outcome);
    if let Look::Kill { .. } = row.look {
        settle(&mut collectors, u64::MAX)?;
        sample.rss_peak_bytes = gateway.usage()?.rss_peak_bytes;
        gateway.stop()?;
        for collector in &mut collectors {
            collector.process.stop()?;
        }
        let logs: Vec<&Path> = collectors.iter().map(|collector| collector.log.as_path()).collect();
        sample.judged(&check_logs(&outcome.agents, &logs)?);
        for log in logs {
            std::fs::remove_file(log)?;
        }
    } else {
        let arrived = settle(&mut collectors, outcome.sent)?;
        sample.lost = outcome.sent.saturating_sub(arrived);
        sample.duplicated = arrived.saturating_sub(outcome.sent);
        sample.rss_peak_bytes = gateway.usage()?.rss_peak_bytes;
        gateway.stop()?;
    }
    Ok(sample)
}

fn start_gateway(side: Side, listen: SocketAddr, collectors: &[Collector], log: File) -> io::Result<Process> {
    let to: Vec<&str> = collectors.iter().map(|collector| collector.address.as_str()).collect();
    let mut command = match side {
        Side::Switchyard => {
            let mut command = Command::new(SWITCHYARD);
            // Metrics are on, as they would be; what nobody connects to is off.
            command.arg("run").args(["--access-logs", "off", "--metrics", "off", "--admin", "off"]);
            command.args(["--agents", &listen.to_string(), "--prometheus", &free_address()?.to_string()]);
            command
        }
        Side::Naive => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--naive", &listen.to_string()]);
            command
        }
    };
    command.args(["--to", &to.join(",")]).stdout(Stdio::null()).stderr(log);
    let mut gateway = Process::start(&mut command)?;
    let until = Instant::now() + START;
    while TcpStream::connect(listen).is_err() {
        if !gateway.is_alive() || Instant::now() > until {
            return Err(io::Error::other(format!("{} does not listen on {listen}; see its log", side.name())));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(gateway)
}

fn agents(row: &Row, to: SocketAddr, duration: Option<Duration>) -> io::Result<Process> {
    let mut command = Command::new(SWITCHYARD);
    command.args(["agents", "--json", "--to", &to.to_string()]).args(row.agents.split_whitespace());
    if let Some(duration) = duration {
        command.args(["--duration", &format!("{}s", duration.as_secs_f64())]);
    }
    Process::start(command.stdout(Stdio::piped()).stderr(Stdio::null()))
}

/// Waits until `sent` messages have arrived or nothing more does for a while; answers how many did.
fn settle(collectors: &mut [Collector], sent: u64) -> io::Result<u64> {
    let until = Instant::now() + SETTLE;
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let mut arrived = 0;
        for collector in collectors.iter_mut() {
            if collector.process.is_alive() {
                arrived += collector.received()?;
            }
        }
        if arrived != last {
            (last, since) = (arrived, Instant::now());
        }
        if arrived >= sent || since.elapsed() > Duration::from_secs(2) || Instant::now() > until {
            return Ok(arrived);
        }
        sleep(Duration::from_millis(50));
    }
}

/// An address nobody listens on. Somebody else may take it before it is used; then the run fails and says so.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

// === impl Collector ===

impl Collector {
    fn start(row: &Row, log: &Path) -> io::Result<Self> {
        let mut command = Command::new(SWITCHYARD);
        command.args(["collector", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        command.args(row.collectors.split_whitespace());
        if let Look::Kill { .. } = row.look {
            // A file of an earlier run would be appended to.
            File::create(log)?;
            command.arg("--log").arg(log);
        }
        let mut process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::piped()))?;
        let address = process.line_with("collector listening on ")?;
        let http = process.line_with("counts on http://")?;
        let http = http.trim_end_matches("/counts").parse().map_err(io::Error::other)?;
        Ok(Self { process, address, http, log: log.to_owned() })
    }

    /// Messages it has received.
    fn received(&self) -> io::Result<u64> {
        let mut stream = TcpStream::connect(self.http)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /counts HTTP/1.0\r\n\r\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        let body = reply.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let counts: serde_json::Value = serde_json::from_str(body).map_err(io::Error::other)?;
        counts["messages"].as_u64().ok_or_else(|| io::Error::other("counts without messages"))
    }
}

// === impl Moment ===

impl Moment {
    fn take(gateway: &Process, agents: &Process, collectors: &[Collector]) -> io::Result<Self> {
        let received = collectors.iter().map(Collector::received).collect::<io::Result<_>>()?;
        let gateway = gateway.usage()?;
        let mut ours_us = gateway.cpu_us + agents.usage()?.cpu_us;
        for collector in collectors {
            ours_us += collector.process.usage()?.cpu_us;
        }
        Ok(Self { at: Instant::now(), gateway, ours_us, machine_us: machine_busy_us()?, received })
    }
}

// === impl Sample ===

impl Sample {
    fn window(&mut self, before: &Moment, after: &Moment) {
        let received: Vec<u64> =
            after.received.iter().zip(&before.received).map(|(after, before)| after - before).collect();
        self.messages = received.iter().sum();
        let messages = (self.messages as f64).max(1.0);
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        let cpu_us = after.gateway.cpu_us - before.gateway.cpu_us;
        self.messages_per_s = self.messages as f64 / seconds;
        self.cpu_us_per_message = cpu_us / messages;
        self.cores_used = cpu_us / (seconds * 1e6);
        self.switches_per_message = after.gateway.switches.saturating_sub(before.gateway.switches) as f64 / messages;
        self.max_over_mean =
            received.iter().copied().max().unwrap_or_default() as f64 * received.len() as f64 / messages;
        let foreign_us = (after.machine_us - before.machine_us) - (after.ours_us - before.ours_us);
        self.foreign_cores = (foreign_us / (seconds * 1e6)).max(0.0);
    }

    fn of_agents(&mut self, outcome: &Outcome) {
        self.sent = outcome.sent;
        self.errors = outcome.errors.values().sum::<u64>() + outcome.unreached;
        self.replies = outcome.reply_us.count;
        self.reply_us_p50 = outcome.reply_us.p50;
        self.reply_us_p99 = outcome.reply_us.p99;
    }

    fn judged(&mut self, verdict: &Verdict) {
        self.messages = verdict.arrived;
        self.lost = verdict.lost + verdict.lost_unsure;
        self.lost_answered = verdict.lost;
        self.duplicated = verdict.duplicated;
    }
}
