//! The main road against a naive forwarder: the same loads through both, in turn, on this machine.
//!
//! `cargo bench --bench road`, or `-- --quick`, `-- --rows paced,many`. See docs/performance.md.

mod naive;
mod process;
mod report;
mod row;
mod run;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use report::{Runs, Setting};
use row::{ROWS, Row};
use run::Side;

#[derive(Parser)]
#[command(about = "The same loads through Switchyard and through a naive tonic forwarder")]
struct Args {
    /// Short runs and one of each: to see whether something is badly wrong.
    #[arg(long)]
    quick: bool,
    /// Only these rows.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    rows: Vec<String>,
    /// Runs of each row and side.
    #[arg(long, value_name = "N")]
    repeats: Option<usize>,
    /// Only this side: switchyard or naive.
    #[arg(long, value_name = "SIDE")]
    side: Option<String>,
    /// Be the naive forwarder on this address.
    #[arg(long, requires = "to", hide = true)]
    naive: Option<SocketAddr>,
    /// Where the naive forwarder sends.
    #[arg(long, value_delimiter = ',', hide = true)]
    to: Vec<String>,
    /// Said by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Both ends of 2,000 connections are on this machine, and the processes have other files too.
const FILES: u64 = 8_192;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.naive {
        Some(listen) => naive::run(listen, &args.to),
        // cargo test --all-targets runs benches without --bench; there this one has nothing to say.
        None if !args.bench => {
            eprintln!("run it by `cargo bench --bench road`");
            Ok(())
        }
        None => measure(&args).map_err(Into::into),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("road: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> io::Result<()> {
    raise_file_limit()?;
    let rows = chosen(&args.rows)?;
    let repeats = args.repeats.unwrap_or(if args.quick { 1 } else { 3 });
    let setting = Setting::new(args.quick, repeats);
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("road");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    fs::create_dir_all(&scratch)?;
    fs::create_dir_all(&out)?;
    let mut all = Vec::new();
    for row in rows {
        eprintln!("{}: {}", row.name, row.load);
        let mut runs = Runs { row, sides: Default::default() };
        // In turn, so that what changes on the machine meanwhile meets both.
        for repeat in 1..=repeats {
            for (side, samples) in Side::BOTH.into_iter().zip(&mut runs.sides) {
                if args.side.as_deref().is_some_and(|only| only != side.name()) {
                    continue;
                }
                let sample = run::run(row, side, args.quick, &scratch)?;
                eprintln!(
                    "  {repeat}/{repeats} {:<10} {:6.2} µs/msg {:9.0} msg/s {:6.2} cores, {} lost, {} foreign cores",
                    side.name(),
                    sample.cpu_us_per_message,
                    sample.messages_per_s,
                    sample.cores_used,
                    sample.lost,
                    format_args!("{:.2}", sample.foreign_cores),
                );
                samples.push(sample);
            }
        }
        all.push(runs);
        // After each row: what was measured is kept when somebody ends this early.
        fs::write(out.join("road.json"), serde_json::to_vec_pretty(&report::json(&setting, &all))?)?;
    }
    println!("{}", report::markdown(&setting, &all));
    Ok(())
}

fn chosen(names: &[String]) -> io::Result<Vec<&'static Row>> {
    let all = || ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let row = ROWS.iter().find(|row| row.name == name);
        row.ok_or_else(|| io::Error::other(format!("no row `{name}`; there are {}", all())))
    };
    if names.is_empty() { Ok(ROWS.iter().collect()) } else { names.iter().map(find).collect() }
}

/// The soft limit is inherited by everything started here.
fn raise_file_limit() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= FILES) {
        return Ok(());
    }
    if maximum.is_some_and(|maximum| maximum < FILES) {
        return Err(io::Error::other(format!("{FILES} open files are needed; raise the hard limit (ulimit -Hn)")));
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum })?)
}
