//! The same loads through Envoy, HAProxy, nginx, a naive forwarder and Switchyard, in turn, on this machine.
//!
//! `benches/peers/run` installs the peers and calls it; see docs/performance.md.

mod certificates;
mod docs;
mod ends;
mod growth;
mod h2;
mod load;
mod naive;
mod peer;
mod plot;
mod process;
mod report;
mod row;
mod run;
mod sample;
mod sink;
mod spec;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::de::DeserializeOwned;

use certificates::Certificates;
use peer::Peer;
use report::{Runs, Setting};
use row::{ROWS, Row};

#[derive(Parser)]
#[command(about = "The same loads through Switchyard and through other gateways")]
struct Args {
    #[command(subcommand)]
    command: Option<Task>,
    /// Short windows and one run of each: to see whether something is badly wrong.
    #[arg(long, global = true)]
    quick: bool,
    /// Only these rows, or tables of rows (saturated, agents, connections, killed).
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    rows: Vec<String>,
    /// Only these peers.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    peers: Vec<String>,
    /// Runs of each row and peer.
    #[arg(long, value_name = "N", global = true)]
    repeats: Option<usize>,
    /// Draw the pictures into this directory.
    #[arg(long, value_name = "DIR", global = true)]
    plots: Option<PathBuf>,
    /// Put tables and pictures into docs/performance.md.
    #[arg(long, global = true)]
    write_docs: bool,
    /// Said by cargo.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Task {
    /// Switchyard alone, as backends, keys, connections and lanes grow.
    Growth {
        /// Only these: backends, keyed-backends, keys, connections, lanes.
        #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
        of: Vec<String>,
    },
    /// Generator and sink straight into each other: that they count right, and what they cost.
    Ends,
    /// Be the generator of this specification (JSON).
    #[command(hide = true)]
    Load { spec: String },
    /// Be the sink of this specification (JSON).
    #[command(hide = true)]
    Sink { spec: String },
    /// Be the naive forwarder.
    #[command(hide = true)]
    Naive {
        listen: SocketAddr,
        #[arg(value_delimiter = ',')]
        to: Vec<String>,
    },
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Both ends of 10,000 connections, and what else a process has; nginx divides its 20,000 between two workers.
const FILES: u64 = 16_000;

fn main() -> ExitCode {
    let args = Args::parse();
    match perform(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Some(Task::Load { spec }) => println!("{}", serde_json::to_string(&load::run(&read(spec)?)?)?),
        Some(Task::Sink { spec }) => sink::run(&read(spec)?)?,
        Some(Task::Naive { listen, to }) => naive::run(*listen, to)?,
        Some(Task::Ends) => {
            raise_file_limit()?;
            ends::prove(100, &bench(args)?.certificates)?;
        }
        // cargo test --all-targets runs benches without --bench: there its two ends are what can be tested.
        _ if !args.bench => {
            raise_file_limit()?;
            ends::prove(1, &bench(args)?.certificates)?;
        }
        Some(Task::Growth { of }) => {
            raise_file_limit()?;
            growth::measure(&bench(args)?, of)?;
        }
        None => {
            raise_file_limit()?;
            compare(args, &bench(args)?)?;
        }
    }
    Ok(())
}

fn read<T: DeserializeOwned>(spec: &str) -> io::Result<T> {
    serde_json::from_str(spec).map_err(io::Error::other)
}

/// What all runs of a command share.
struct Bench {
    setting: Setting,
    certificates: Certificates,
    /// For configs and logs.
    scratch: PathBuf,
    /// For the JSON.
    out: PathBuf,
    /// For pictures, if any are to be drawn.
    plots: Option<PathBuf>,
    write_docs: bool,
}

fn bench(args: &Args) -> io::Result<Bench> {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (scratch, out) = (tmp.join("peers"), tmp.with_file_name("bench"));
    fs::create_dir_all(&scratch)?;
    fs::create_dir_all(&out)?;
    let repeats = args.repeats.unwrap_or(if args.quick { 1 } else { 3 }).max(1);
    let of_docs = args.write_docs.then(docs::pictures);
    Ok(Bench {
        setting: Setting::new(args.quick, repeats),
        certificates: Certificates::make(&scratch.join("certificates"))?,
        scratch,
        out,
        plots: args.plots.clone().or(of_docs),
        write_docs: args.write_docs,
    })
}

fn compare(args: &Args, bench: &Bench) -> io::Result<()> {
    let (rows, peers) = (chosen_rows(&args.rows)?, chosen_peers(&args.peers)?);
    let mut setting = bench.setting.clone();
    let mut present = Vec::new();
    for peer in peers {
        match peer.version() {
            Ok(version) => {
                setting.versions.push(version);
                present.push(peer);
            }
            Err(why) => println!("SKIPPED: {}: {why}", peer.name()),
        }
    }
    let mut all: Vec<Runs> = Vec::new();
    for row in rows {
        eprintln!("{}: {}", row.name, row.load);
        let peers: Vec<Peer> = present.iter().copied().filter(|peer| peer.takes_part(row)).collect();
        all.push(repeat(row, &peers, bench));
        // After each row: what was measured is kept when somebody ends this early.
        fs::write(bench.out.join("peers.json"), serde_json::to_vec_pretty(&report::json(&setting, &all))?)?;
    }
    let tables = report::tables(&setting, &all);
    for (mark, table) in &tables {
        println!("<!-- {mark} -->\n{table}<!-- /{mark} -->\n");
    }
    if let Some(directory) = &bench.plots {
        plot::peers(directory, &all)?;
    }
    if bench.write_docs {
        docs::write(tables.iter().map(|(mark, table)| (*mark, table.as_str())))?;
    }
    Ok(())
}

/// All runs of a row, the peers in turn, so that what changes on the machine meanwhile meets all of them.
fn repeat(row: &Row, peers: &[Peer], bench: &Bench) -> Runs {
    let Setting { quick, repeats, .. } = bench.setting;
    let mut runs = Runs { row: *row, peers: peers.iter().map(|peer| (*peer, Vec::new())).collect() };
    for round in 1..=repeats {
        for (peer, samples) in &mut runs.peers {
            let sample = run::run(row, *peer, quick, &bench.scratch, &bench.certificates);
            match &sample {
                Ok(sample) => eprintln!("  {round}/{repeats} {:<10} {}", peer.name(), report::one_line(sample)),
                Err(error) => eprintln!("  {round}/{repeats} {:<10} failed: {error}", peer.name()),
            }
            samples.push(sample.map_err(|error| error.to_string()));
        }
    }
    runs
}

fn chosen_rows(names: &[String]) -> io::Result<Vec<&'static Row>> {
    let fits = |row: &Row| names.is_empty() || names.iter().any(|name| name == row.name || name == row.group.name());
    if let Some(name) =
        names.iter().find(|name| !ROWS.iter().any(|row| **name == row.name || *name == row.group.name()))
    {
        let all: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        return Err(io::Error::other(format!("no row `{name}`; there are {}", all.join(", "))));
    }
    Ok(ROWS.iter().filter(|row| fits(row)).collect())
}

fn chosen_peers(names: &[String]) -> io::Result<Vec<Peer>> {
    let named = |name: &String| {
        let peer = Peer::ALL.into_iter().find(|peer| peer.name() == name);
        let all = || Peer::ALL.map(Peer::name).join(", ");
        peer.ok_or_else(|| io::Error::other(format!("no peer `{name}`; there are {}", all())))
    };
    if names.is_empty() { Ok(Peer::ALL.to_vec()) } else { names.iter().map(named).collect() }
}

/// The limit is inherited by everything started here. Beyond the hard limit only root may go.
fn raise_file_limit() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= FILES) {
        return Ok(());
    }
    let enough = Rlimit { current: Some(FILES), maximum: maximum.map(|maximum| maximum.max(FILES)) };
    setrlimit(Resource::Nofile, enough).or_else(|_| {
        eprintln!("{FILES} open files are needed for all rows; raise the hard limit (ulimit -Hn)");
        Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
    })
}
