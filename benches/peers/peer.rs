//! The gateways that are compared: how each is started, and what it cannot do.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::certificates::Certificates;
use crate::process::{Process, quiet};
use crate::row::Row;
use crate::spec::Traffic;

mod envoy;
mod haproxy;
mod nginx;
mod switchyard;

/// Who stands between generator and sinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    Switchyard,
    Envoy,
    Haproxy,
    Nginx,
    /// A tonic server that passes each stream on whole: what a few lines of Rust do.
    Naive,
}

/// What a gateway is asked to be in one run.
pub struct Task<'a> {
    pub listen: SocketAddr,
    pub sinks: &'a [SocketAddr],
    pub tls: Option<&'a Certificates>,
    pub workers: u32,
    /// Whether a backend will die. Retries and health checks are for that row: elsewhere they would only cost.
    pub one_dies: bool,
    /// Streams and connections it has to bear at once, on either side.
    pub streams: u32,
    pub traffic: Traffic,
    /// A directory of this run alone, for configs and logs.
    pub directory: PathBuf,
}

/// How long a gateway may take to listen.
const START: Duration = Duration::from_secs(10);

// === impl Peer ===

impl Peer {
    pub const ALL: [Peer; 5] = [Peer::Switchyard, Peer::Envoy, Peer::Haproxy, Peer::Nginx, Peer::Naive];

    pub fn name(self) -> &'static str {
        match self {
            Peer::Switchyard => "switchyard",
            Peer::Envoy => "envoy",
            Peer::Haproxy => "haproxy",
            Peer::Nginx => "nginx",
            Peer::Naive => "naive",
        }
    }

    /// What it calls itself, as `NAME VERSION`; an error says why it is not to be had.
    pub fn version(self) -> Result<String, String> {
        let (program, flag) = match self {
            Peer::Switchyard => return Ok(format!("switchyard {}", env!("CARGO_PKG_VERSION"))),
            Peer::Naive => return Ok("naive tonic forwarder".to_owned()),
            Peer::Envoy => (envoy::program(), "--version"),
            Peer::Haproxy => (haproxy::program(), "-v"),
            Peer::Nginx => (nginx::program(), "-v"),
        };
        let said = Command::new(&program).arg(flag).output();
        let said = said.map_err(|error| format!("{}: {error}", program.display()))?;
        let text = [said.stdout, said.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
        let mut words = text.split(|c: char| c.is_whitespace() || matches!(c, '/' | '-' | '+'));
        let number = words.find(is_number).ok_or_else(|| format!("{} says no version", program.display()))?;
        Ok(format!("{} {number}", self.name()))
    }

    /// Whether the row is one of its.
    pub fn takes_part(self, row: &Row) -> bool {
        self != Peer::Naive || row.naive
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    ///
    /// It ended, or does not listen: its log is in the task's directory.
    pub fn start(self, task: &Task<'_>) -> io::Result<Process> {
        fs::create_dir_all(&task.directory)?;
        let mut command = match self {
            Peer::Switchyard => switchyard::command(task)?,
            Peer::Envoy => envoy::command(task)?,
            Peer::Haproxy => haproxy::command(task)?,
            Peer::Nginx => nginx::command(task)?,
            Peer::Naive => naive(task)?,
        };
        command.stderr(File::create(task.directory.join("log"))?);
        let mut gateway = Process::start(&mut command)?;
        let until = Instant::now() + START;
        while TcpStream::connect(task.listen).is_err() {
            if !gateway.is_alive() || Instant::now() > until {
                let said = fs::read_to_string(task.directory.join("log")).unwrap_or_default();
                let last = said.lines().last().unwrap_or_default();
                return Err(io::Error::other(format!("{} does not listen: {last}", self.name())));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(gateway)
    }
}

fn naive(task: &Task<'_>) -> io::Result<Command> {
    let mut command = pinned(std::env::current_exe()?.as_path(), task.workers);
    command.args(["naive", &task.listen.to_string(), &comma_separated(task.sinks)]);
    Ok(command)
}

/// The program, ended with this one however that ends; with one worker on the first core alone, so that generator and sink
/// do not take turns with it.
fn pinned(program: &Path, workers: u32) -> Command {
    let mut command = quiet("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    if workers == 1 {
        command.args(["taskset", "--cpu-list", GATEWAYS_CORE]);
    }
    command.arg(program);
    command
}

/// Of a gateway with one worker, and of the generator and the sink then.
pub const GATEWAYS_CORE: &str = "0";
pub const ENDS_CORE: &str = "1";

fn comma_separated(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
}

/// An address nobody listens on. Somebody else may take it before it is used; then the run fails and says so.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
