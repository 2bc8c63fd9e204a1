//! The commands of the `switchyard` program, one file each.

pub mod agents;
pub mod catalogue;
pub mod check;
pub mod collector;
pub mod demo;
pub mod explain;
pub mod healthcheck;
pub mod reread;
mod run;
mod tls;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::Parser;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

use crate::config::{self, Log, LogFormat, Overrides, Plan, Problem};
use crate::route::Routes;

/// A content-aware gRPC streaming gateway: every message of every stream to the backend that should have it.
#[derive(Debug, Parser)]
#[command(name = "switchyard", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// See it work: gateway, three collectors and a dozen agents in one process.
    Demo(demo::Args),
    /// Run the gateway.
    #[command(visible_alias = "start")]
    Run(run::Args),
    /// Look a config file over: every problem at once, with its mend.
    Check(check::Args),
    /// Print every method and how far its calls are taken apart.
    Catalogue(catalogue::Args),
    /// Run a mock collector that counts what it gets, and misbehaves if asked.
    Collector(collector::Args),
    /// Run load agents that keep honest books.
    Agents(agents::Args),
    /// Say which route, contract, key and backends a message has, and why.
    Explain(explain::Args),
    /// Ask a running gateway whether it is ready.
    Healthcheck(healthcheck::Args),
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Catalogue(args) => catalogue::run(&args),
        Command::Collector(args) => collector::run(args),
        Command::Agents(args) => agents::run(args),
        Command::Explain(args) => explain::run(&args),
        Command::Healthcheck(args) => healthcheck::run(&args),
    }
}

/// The routes of a config file, or of the catalogue alone; what is wrong with the file is the error.
fn routes(config: Option<&Path>) -> Result<Arc<Routes>, String> {
    match config {
        None => Ok(Arc::new(Routes::of_catalogue())),
        Some(file) => plan_of_file(file, &Overrides::default()).map(|(plan, _)| plan.routes),
    }
}

/// The plan of a file and the flags that win over it, with warnings; or everything that is wrong in one text.
fn plan_of_file(file: &Path, overrides: &Overrides) -> Result<(Plan, Vec<Problem>), String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("switchyard: cannot read {}: {error}", file.display()))?;
    config::load(&text, &file.display().to_string(), overrides).map_err(|problems| all(&problems))
}

/// Every problem, as people read them.
fn all(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// What is logged, to be changed while it runs.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Logs to stderr as the plan says; text on a terminal, JSON elsewhere.
fn start_logging(log: &Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let is_text = match log.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if is_text { lines.boxed() } else { lines.json().boxed() };
    let (filter, handle) = reload::Layer::new(filter);
    // Somebody may log already, in tests for one; then that stays.
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
}

/// Changes what is logged from now on: a level, or levels by module.
///
/// # Errors
/// When that is no level, or nothing is logged by this process.
fn set_log_level(level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| format!("\"{level}\" is no log level: {error}"))?;
    FILTER.get().ok_or("nothing is logged here")?.reload(filter).map_err(|error| error.to_string())
}
