//! Generator and sink straight into each other: what the measurements stand on is proved and its own cost shown.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::certificates::Certificates;
use crate::h2::stamp;
use crate::spec::{Ends, LoadOutcome, LoadSpec, Pace, SinkReport, SinkSpec, Traffic};

/// One way to send and to take.
struct Case {
    name: &'static str,
    connections: u32,
    /// On each connection.
    streams: u32,
    traffic: Traffic,
    message_bytes: u32,
    pace: Pace,
    /// Messages (calls) of each stream.
    calls: u64,
    per_stream: Option<u64>,
    window_bytes: u32,
    take_us: u32,
    answer_after_ms: u32,
    is_tls: bool,
}

/// The sink as a process of its own, ended with its stdin.
struct Sink {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

const PLAIN: Case = Case {
    name: "saturated, 200 B",
    connections: 4,
    streams: 8,
    traffic: Traffic::Segments,
    message_bytes: 200,
    pace: Pace::Saturate,
    calls: 1_000,
    per_stream: None,
    window_bytes: 1 << 16,
    take_us: 0,
    answer_after_ms: 0,
    is_tls: false,
};
const LOGS: Traffic = Traffic::AccessLogs { identifier_bytes: 61_000, entries: 20 };
const SPANS: Traffic = Traffic::Spans { per_request: 50, traces: 5 };
/// As the rows `paced` and `many` send.
const AGENTS: Case =
    Case { connections: 16, streams: 1, message_bytes: 1 << 10, pace: Pace::PerSecond(2_000.0), ..PLAIN };
const CASES: [Case; 15] = [
    PLAIN,
    Case { name: "saturated, 1 KiB", message_bytes: 1 << 10, ..PLAIN },
    Case { name: "TLS, 1 KiB", message_bytes: 1 << 10, is_tls: true, ..PLAIN },
    Case { name: "larger than the window", message_bytes: 100_000, calls: 10, window_bytes: 16 << 10, ..PLAIN },
    Case { name: "short streams", per_stream: Some(30), ..PLAIN },
    Case { name: "paced", pace: Pace::PerSecond(200.0), calls: 60, ..PLAIN },
    Case { name: "paced, short streams", pace: Pace::PerSecond(200.0), calls: 60, per_stream: Some(7), ..PLAIN },
    Case { name: "slow sink", take_us: 200, answer_after_ms: 20, calls: 200, window_bytes: 2_000, ..PLAIN },
    Case { name: "meters", traffic: Traffic::Meters { keys: 10_000 }, ..PLAIN },
    Case { name: "access logs", traffic: LOGS, message_bytes: 16 << 10, calls: 50, ..PLAIN },
    Case {
        name: "access logs, short streams",
        traffic: LOGS,
        message_bytes: 500,
        per_stream: Some(3),
        calls: 50,
        ..PLAIN
    },
    Case { name: "spans", traffic: SPANS, calls: 50, ..PLAIN },
    Case { name: "16 connections x 2,000 msg/s", calls: 4_000, ..AGENTS },
    Case {
        name: "2,000 connections x 10 msg/s",
        connections: 2_000,
        message_bytes: 500,
        pace: Pace::PerSecond(10.0),
        calls: 40,
        ..AGENTS
    },
    Case { name: "spans, paced", traffic: SPANS, pace: Pace::PerSecond(100.0), calls: 30, ..PLAIN },
];
/// How long what was sent may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Runs every case with `times` as many messages where nothing paces them, and prints what each message cost.
///
/// # Errors
/// A message that did not arrive, or arrived twice; a call that was not answered OK.
pub fn prove(times: u64, certificates: &Certificates) -> io::Result<()> {
    if !stamp::holds() {
        return Err(io::Error::other("a stamp is not read as it was written"));
    }
    println!("| straight into each other | messages | load, µs/msg | sink, µs/msg |\n|---|--:|--:|--:|");
    for case in &CASES {
        let times = if case.pace == Pace::Saturate && case.take_us == 0 { times } else { 1 };
        let (outcome, report) = case.run(times, certificates)?;
        case.judge(times, &outcome, &report).map_err(|why| io::Error::other(format!("{}: {why}", case.name)))?;
        let each = |cpu_us: f64| cpu_us / outcome.sent as f64;
        let (load, sink) = (each(outcome.cpu_us), each(report.cpu_us));
        println!("| {} | {} | {load:.3} | {sink:.3} |", case.name, outcome.sent);
    }
    Ok(())
}

// === impl Case ===

impl Case {
    fn run(&self, times: u64, certificates: &Certificates) -> io::Result<(LoadOutcome, SinkReport)> {
        let mut sink = Sink::start(&SinkSpec {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            tls: self.is_tls.then(|| (certificates.chain.clone(), certificates.key.clone())),
            traffic: self.traffic,
            take_us: self.take_us,
            answer_after_ms: self.answer_after_ms,
            window_bytes: self.window_bytes,
            books: None,
        })?;
        let addresses: Vec<SocketAddr> = sink.hear()?;
        let load = LoadSpec {
            to: *addresses.first().ok_or_else(|| io::Error::other("the sink listens nowhere"))?,
            tls: self.is_tls.then(|| certificates.authority.clone()),
            connections: self.connections,
            streams_per_connection: self.streams,
            traffic: self.traffic,
            message_bytes: self.message_bytes,
            pace: self.pace,
            busy: None,
            messages_per_stream: self.per_stream,
            ends: Ends::AfterMessages(self.messages(times)),
            ramp_ms: 0,
            first_stream: 7,
        };
        let output = command("load", &load)?.output()?;
        let outcome: LoadOutcome = serde_json::from_slice(&output.stdout).map_err(io::Error::other)?;
        let until = Instant::now() + ARRIVAL;
        loop {
            let report: SinkReport = sink.ask()?;
            if report.arrived_once >= outcome.sent || Instant::now() > until {
                return Ok((outcome, report));
            }
            sleep(Duration::from_millis(10));
        }
    }

    fn judge(&self, times: u64, outcome: &LoadOutcome, report: &SinkReport) -> Result<(), String> {
        let per_stream = match self.traffic {
            Traffic::Spans { .. } => 1,
            _ => self.per_stream.unwrap_or(u64::MAX),
        };
        let calls = self.all_streams() * (self.calls * times).div_ceil(per_stream);
        let messages = self.messages(times);
        let expected = [
            ("sent", outcome.sent, messages),
            ("arrived", report.arrived_once, messages),
            ("received", report.received.iter().sum(), messages),
            ("twice", report.twice, 0),
            ("unreadable", report.unreadable, 0),
            ("replies", outcome.replies, calls),
        ];
        if outcome.errors != BTreeMap::new() {
            return Err(format!("errors: {:?}", outcome.errors));
        }
        match expected.iter().find(|(_, is, should)| is != should) {
            Some((what, is, should)) => Err(format!("{what}: {is} instead of {should}")),
            None => Ok(()),
        }
    }

    /// Messages (spans) of all streams.
    fn messages(&self, times: u64) -> u64 {
        let stamps = if let Traffic::Spans { per_request, .. } = self.traffic { per_request } else { 1 };
        self.all_streams() * u64::from(stamps) * self.calls * times
    }

    fn all_streams(&self) -> u64 {
        u64::from(self.connections * self.streams)
    }
}

// === impl Sink ===

impl Sink {
    fn start(spec: &SinkSpec) -> io::Result<Self> {
        let mut child = command("sink", spec)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("stdout is not piped"))?;
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    fn ask<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut stdin = self.stdin.as_ref().ok_or_else(|| io::Error::other("stdin is not piped"))?;
        stdin.write_all(b"\n")?;
        self.hear()
    }

    fn hear<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(io::Error::other)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It ends by itself now; an error means that it is gone.
        let _ = self.child.wait();
    }
}

/// This binary as one of its ends.
fn command(end: &str, spec: &impl Serialize) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(end).arg(serde_json::to_string(spec)?);
    Ok(command)
}
