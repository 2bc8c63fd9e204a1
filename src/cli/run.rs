//! `switchyard run`: the gateway until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::SetLogLevel;
use crate::admin::Fault;
use crate::config::{Overrides, Plan};
use crate::gateway::{Gateway, Request, Summary};

/// Runs the gateway: agents' streams in, each message out to the backend that should have it.
///
/// With `--to` no file is needed. SIGTERM and SIGINT drain and end it.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Config file (YAML); see `switchyard check`.
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "SWITCHYARD_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

/// Runs until a signal; the exit code is 0 after a drain that lost nothing, 1 otherwise, 2 when it did not start.
pub fn run(args: Args) -> ExitCode {
    let plan = match plan(&args) {
        Ok(plan) => plan,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let set_log_level = super::start_logging(&plan.log);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("switchyard: cannot start a runtime: {error}");
            return ExitCode::from(2);
        }
    };
    runtime.block_on(serve(plan, set_log_level))
}

async fn serve(plan: Plan, set_log_level: SetLogLevel) -> ExitCode {
    let mut asked = plan.clone();
    let signals = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let (mut term, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("switchyard: cannot listen for signals: {error}");
            return ExitCode::from(2);
        }
    };
    let gateway = match Gateway::start(plan).await {
        Ok(gateway) => gateway,
        Err(error) => {
            eprintln!("switchyard: {error}");
            return ExitCode::from(2);
        }
    };
    // With the ports the kernel gave, where 0 was asked for.
    gateway.addresses().fill_in(&mut asked);
    asked.describe().iter().for_each(|line| eprintln!("{line}"));
    let mut requests = gateway.take_requests();
    loop {
        let request = tokio::select! {
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
            // The gateway lives, and with it the sender.
            Some(request) = requests.recv() => request,
        };
        match request {
            Request::Drain(answer) => {
                let _ = answer.send(Ok("draining; the process ends when nothing is held any more\n".to_owned()));
                break;
            }
            Request::LogLevel(level, answer) => {
                let set = set_log_level(&level).map(|()| format!("logging {level}\n"));
                let _ = answer.send(set.map_err(Fault::Wrong));
            }
            Request::Reload(answer) => {
                let fault = "the config is read at the start only: restart to run another one";
                let _ = answer.send(Err(Fault::Impossible(fault.to_owned())));
            }
        }
    }
    eprintln!("draining; a second signal ends at once");
    let summary = tokio::select! {
        summary = gateway.drain() => summary,
        _ = term.recv() => return ExitCode::FAILURE,
        _ = interrupt.recv() => return ExitCode::FAILURE,
    };
    eprintln!("{}", one_line(&summary));
    if summary.totals.lost_total() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The plan of file and flags, or everything that is wrong with them in one text.
fn plan(args: &Args) -> Result<Plan, String> {
    let (plan, warnings) = match &args.config {
        Some(file) => super::plan_of_file(file, &args.overrides)?,
        None => Plan::from_flags(&args.overrides).map_err(|problems| super::all(&problems))?,
    };
    warnings.iter().for_each(|warning| eprintln!("{warning}"));
    Ok(plan)
}

/// What a gateway did, in the words of its metrics.
pub fn one_line(summary: &Summary) -> String {
    let totals = &summary.totals;
    format!(
        "received {} = delivered {} + held {} + lost {}; possible duplicates {}; drained in {:.1} s",
        totals.received,
        totals.delivered,
        totals.held,
        totals.lost_total(),
        totals.possible_duplicates,
        summary.drained_in.as_secs_f64(),
    )
}
