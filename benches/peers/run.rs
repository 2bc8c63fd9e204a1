//! One run of one row through one peer: sinks, the gateway, the generator, and what came of it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::certificates::Certificates;
use crate::peer::{ENDS_CORE, Peer, Task, free_address};
use crate::process::{Process, Usage, machine_busy_us};
use crate::row::{Look, MARGIN, Row};
use crate::sample::{Moment, Sample};
use crate::spec::{LoadOutcome, LoadSpec, SinkReport, SinkSpec};

/// One sink process, of one or more addresses.
struct Sink {
    process: Process,
    addresses: Vec<SocketAddr>,
    books: Option<PathBuf>,
    report: SinkReport,
}

/// How long messages may still be on their way once the generator is done.
const SETTLE: Duration = Duration::from_secs(10);
/// How long nothing has to arrive until nothing more will.
const QUIET: Duration = Duration::from_millis(1_500);
/// How long the generator may take beyond the length of its run: it waits for replies.
const OVERRUN: Duration = Duration::from_secs(30);

/// Runs a row once. Configs, logs and books go below `scratch`.
///
/// # Errors
///
/// A process did not start or ended early, or did not answer.
pub fn run(row: &Row, peer: Peer, quick: bool, scratch: &Path, certificates: &Certificates) -> io::Result<Sample> {
    let directory = scratch.join(format!("{}-{}", row.name, peer.name()));
    fs::create_dir_all(&directory)?;
    let certificates = row.tls.then_some(certificates);
    let mut sinks = start_sinks(row, certificates, &directory)?;
    let addresses: Vec<SocketAddr> = sinks.iter().flat_map(|sink| sink.addresses.iter().copied()).collect();
    let task = Task {
        listen: free_address()?,
        sinks: &addresses,
        tls: certificates,
        workers: row.workers,
        one_dies: matches!(row.look, Look::Kill { .. }),
        streams: row.connections * row.streams,
        traffic: row.traffic,
        directory,
    };
    let mut gateway = peer.start(&task)?;
    // Allocators and discovery come to rest.
    sleep(Duration::from_millis(250));
    let fresh = gateway.usage()?;
    let mut load = start_load(row, &task, quick)?;
    let mut sample = Sample::default();
    sleep(row.ramp() + row.until_window());
    match row.look {
        Look::Steady { .. } | Look::Held { .. } => {
            let before = moment(&gateway, &load, &mut sinks)?;
            sleep(row.window(quick));
            let after = moment(&gateway, &load, &mut sinks)?;
            sample.between(&before, &after);
            let gained = after.gateway.rss_bytes.saturating_sub(fresh.rss_bytes);
            sample.rss_per_connection_bytes = gained as f64 / f64::from(row.connections);
        }
        Look::Kill { .. } => sinks[0].process.kill()?,
    }
    if !load.is_alive() {
        return Err(io::Error::other("the generator ended early"));
    }
    let length = row.window(quick) + if let Look::Kill { .. } = row.look { OVERRUN } else { MARGIN };
    let outcome = load.output(length + OVERRUN)?;
    let outcome: LoadOutcome = serde_json::from_str(outcome.trim()).map_err(io::Error::other)?;
    sample.of_load(&outcome);
    settle(&mut sinks, outcome.sent)?;
    let Usage { rss_peak_bytes, .. } = gateway.usage()?;
    sample.rss_peak_bytes = rss_peak_bytes;
    gateway.stop()?;
    sample.arrivals(outcome.sent, arrivals(sinks)?);
    if matches!(row.look, Look::Steady { .. }) && sample.messages == 0 {
        return Err(io::Error::other(format!("nothing arrived in the window: {}", sample.failed.join(", "))));
    }
    Ok(sample)
}

/// One process for all addresses; where one is to be killed, one for each.
fn start_sinks(row: &Row, certificates: Option<&Certificates>, directory: &Path) -> io::Result<Vec<Sink>> {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let spec = |addresses: u32, books| {
        let kill = matches!(row.look, Look::Kill { .. });
        SinkSpec {
            listen: vec![any; addresses as usize],
            tls: certificates.map(|certificates| (certificates.chain.clone(), certificates.key.clone())),
            traffic: row.traffic,
            take_us: if kill { 300 } else { 0 },
            answer_after_ms: if kill { 50 } else { 0 },
            // What grpc-java and the OpenTelemetry Collector take is 64 KiB to 1 MiB.
            window_bytes: if kill { 1 << 16 } else { 1 << 20 },
            books,
        }
    };
    match row.look {
        Look::Kill { .. } => {
            (0..row.backends).map(|at| Sink::start(row, spec(1, Some(directory.join(format!("books-{at}")))))).collect()
        }
        _ => Ok(vec![Sink::start(row, spec(row.backends, None))?]),
    }
}

fn start_load(row: &Row, task: &Task<'_>, quick: bool) -> io::Result<Process> {
    let spec = LoadSpec {
        to: task.listen,
        tls: task.tls.map(|certificates| certificates.authority.clone()),
        connections: row.connections,
        streams_per_connection: row.streams,
        traffic: row.traffic,
        message_bytes: row.bytes,
        pace: row.pace,
        busy: row.busy,
        messages_per_stream: row.renewed_after,
        ends: row.ends(quick),
        ramp_ms: row.ramp().as_millis() as u32,
        first_stream: 0,
    };
    let mut command = end(row, "load", &serde_json::to_string(&spec)?)?;
    Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()))
}

/// This program again, as generator or sink.
fn end(row: &Row, which: &str, spec: &str) -> io::Result<Command> {
    let program = std::env::current_exe()?;
    let mut command = if row.workers == 1 {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", ENDS_CORE]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args([which, spec]);
    Ok(command)
}

/// Everything at one moment.
fn moment(gateway: &Process, load: &Process, sinks: &mut [Sink]) -> io::Result<Moment> {
    let mut received = Vec::new();
    let (mut sinks_us, mut latency) = (0.0, Default::default());
    for sink in sinks {
        sink.look()?;
        received.extend_from_slice(&sink.report.received);
        sinks_us += sink.process.usage()?.cpu_us;
        latency = sink.report.latency;
    }
    let (gateway, load_us) = (gateway.usage()?, load.usage()?.cpu_us);
    Ok(Moment { at: Instant::now(), gateway, load_us, sinks_us, machine_us: machine_busy_us()?, received, latency })
}

/// Waits until all that were sent have arrived or nothing more does for a while.
fn settle(sinks: &mut [Sink], sent: u64) -> io::Result<()> {
    let until = Instant::now() + SETTLE;
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let mut arrived = 0;
        for sink in sinks.iter_mut().filter_map(Sink::living) {
            sink.look()?;
            arrived += sink.report.arrived_once;
        }
        if arrived != last {
            (last, since) = (arrived, Instant::now());
        }
        if arrived >= sent || since.elapsed() > QUIET || Instant::now() > until {
            return Ok(());
        }
        sleep(Duration::from_millis(20));
    }
}

/// Distinct messages that arrived anywhere, arrivals beyond the first of each, and what could not be read.
fn arrivals(sinks: Vec<Sink>) -> io::Result<(u64, u64, u64)> {
    let (mut once, mut twice, mut unreadable) = (0, 0, 0);
    let mut counts: HashMap<[u8; 8], u64> = HashMap::new();
    for mut sink in sinks {
        unreadable += sink.report.unreadable;
        sink.process.stop()?;
        let Some(books) = sink.books else {
            once += sink.report.arrived_once;
            twice += sink.report.twice;
            continue;
        };
        for entry in fs::read(&books)?.as_chunks::<8>().0 {
            *counts.entry(*entry).or_default() += 1;
        }
        fs::remove_file(books)?;
    }
    once += counts.len() as u64;
    twice += counts.values().map(|count| count - 1).sum::<u64>();
    Ok((once, twice, unreadable))
}

// === impl Sink ===

impl Sink {
    fn start(row: &Row, spec: SinkSpec) -> io::Result<Self> {
        let mut command = end(row, "sink", &serde_json::to_string(&spec)?)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = Process::start(&mut command)?;
        let addresses = process.line()?;
        Ok(Self { process, addresses, books: spec.books, report: SinkReport::default() })
    }

    fn look(&mut self) -> io::Result<()> {
        self.report = self.process.ask()?;
        Ok(())
    }

    fn living(&mut self) -> Option<&mut Self> {
        self.process.is_alive().then_some(self)
    }
}
