//! The commands of the `switchyard` program, one file each.

pub mod agents;
pub mod check;
pub mod collector;
pub mod demo;
pub mod healthcheck;
pub mod run;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

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
    Run(run::Args),
    /// Look a config file over: every problem at once, with its mend.
    Check(check::Args),
    /// Run a mock collector that counts what it gets, and misbehaves if asked.
    Collector(collector::Args),
    /// Run load agents that keep honest books.
    Agents(agents::Args),
    /// Ask a running gateway whether it is ready.
    Healthcheck(healthcheck::Args),
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Collector(args) => collector::run(args),
        Command::Agents(args) => agents::run(args),
        Command::Healthcheck(args) => healthcheck::run(&args),
    }
}

/// Logs to stderr as the plan says; text on a terminal, JSON elsewhere.
fn start_logging(log: &Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let is_text = match log.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    // Somebody may log already, in tests for one; then that stays.
    let _ = if is_text { builder.try_init() } else { builder.json().try_init() };
}
