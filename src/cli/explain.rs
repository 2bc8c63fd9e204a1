//! `switchyard explain`: what becomes of one message, and why, in the words of the metrics.

mod message;
mod report;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{Overrides, Plan};
use crate::listener::affinity;
use crate::message::flow::Flow;
use crate::route::contract::Wish;
use crate::route::{NoRoute, Route, explain};

use report::Report;

/// Says which route, contract, key and backends a message has, and why.
#[derive(Debug, Clone, clap::Args)]
#[command(group(clap::ArgGroup::new("what").args(["message", "json", "field"])))]
pub struct Args {
    /// The method: /pkg.Service/Method
    #[arg(long)]
    pub method: String,
    /// File with one encoded message; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub message: Option<PathBuf>,
    /// File with one message as JSON; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// A field of the message, as rules name it: service=payments; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub field: Vec<String>,
    /// Metadata of the call: x-tenant=acme; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub metadata: Vec<String>,
    /// The listener the call comes to
    #[arg(long, default_value = "agents")]
    pub listener: String,
    /// Config file
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "SWITCHYARD_CONFIG")]
    pub config: Option<PathBuf>,
    /// Flags that win over the file
    #[command(flatten)]
    pub overrides: Overrides,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How the explanation is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One object.
    Json,
}

/// Explains: 0 when the message goes somewhere, 1 when it does not, 2 when the question makes no sense.
pub fn run(args: &Args) -> ExitCode {
    match report(args) {
        Ok(report) => {
            // A reader that went away is no failure.
            let _ = report.print(args.format, &mut io::stdout().lock());
            if report.is_delivered() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(message) => {
            let _ = writeln!(io::stderr(), "switchyard: {message}");
            ExitCode::from(2)
        }
    }
}

fn report(args: &Args) -> Result<Report, String> {
    let plan = plan(args)?;
    let listener = plan
        .listeners
        .iter()
        .find(|listener| listener.name == args.listener)
        .ok_or_else(|| format!("there is no listener `{}`", args.listener))?;
    let path = if args.method.starts_with('/') { args.method.clone() } else { format!("/{}", args.method) };
    let route = route(&plan, &path, listener.only)?;
    let body = message::of(args, &plan.schema, &route.method)?;
    let metadata = metadata(&args.metadata)?;
    let wishes: Vec<Wish> = plan.pools.iter().map(affinity::wish).collect();
    let method = route.method.named(&route.rules, |method, path| plan.schema.name(method, path));
    let route = Arc::new(Route { method, rules: route.rules.clone() });
    let explained = explain::explain(&route, &args.listener, &metadata, &body, &wishes);
    Ok(Report::new(&plan, &route, &path, explained))
}

/// The plan of the file; without one, of the flags; without those, the catalogue with a pool that has no backends.
fn plan(args: &Args) -> Result<Plan, String> {
    match &args.config {
        Some(file) => super::plan_of_file(file, &args.overrides).map(|(plan, _)| plan),
        None => {
            let to = args.overrides.to.clone().or_else(|| Some("backend:11800".to_owned()));
            let overrides = Overrides { to, ..args.overrides.clone() };
            Plan::from_flags(&overrides).map(|(plan, _)| plan).map_err(|problems| super::all(&problems))
        }
    }
}

fn route<'a>(plan: &'a Plan, path: &str, only: Option<Flow>) -> Result<&'a Arc<Route>, String> {
    plan.routes.find(path, only).map_err(|missing: NoRoute| {
        let port_of = |flow| {
            plan.listeners.iter().find(|listener| listener.only == Some(flow)).map(|listener| listener.address.port())
        };
        missing.to_status(path, port_of).message
    })
}

fn metadata(pairs: &[String]) -> Result<HeaderMap, String> {
    let pair = |pair: &String| {
        let (name, value) = pair.split_once('=')?;
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value).ok()?))
    };
    pairs
        .iter()
        .map(|written| pair(written).ok_or_else(|| format!("--metadata takes name=value, not {written:?}")))
        .collect()
}

#[cfg(test)]
mod tests;
