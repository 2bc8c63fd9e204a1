//! `switchyard run`: the gateway until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{self, Overrides, Plan};
use crate::gateway::{Gateway, Summary};

use super::reread::Reloader;

/// Runs the gateway: agents' streams in, each message out to the backend that should have it.
///
/// With `--to`, or with SkyWalking Satellite's variables, no file is needed. SIGTERM and SIGINT drain and end it; SIGHUP
/// reads the config again.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Config file (YAML); see `switchyard check`.
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "SWITCHYARD_CONFIG")]
    config: Option<PathBuf>,
    /// Reload the config when the file changes; SIGHUP does it any time.
    #[arg(long, requires = "config")]
    watch: bool,
    #[command(flatten)]
    overrides: Overrides,
}

/// Runs until a signal; the exit code is 0 after a drain that lost nothing, 1 otherwise, 2 when it did not start.
pub fn run(mut args: Args) -> ExitCode {
    // Satellite's variable for the same.
    args.config = args.config.or_else(|| std::env::var_os("SATELLITE_CONFIG").map(PathBuf::from));
    let plan = match plan(&args) {
        Ok(plan) => plan,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    super::start_logging(&plan.log);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("switchyard: cannot start a runtime: {error}");
            return ExitCode::from(2);
        }
    };
    runtime.block_on(serve(args, plan))
}

async fn serve(args: Args, plan: Plan) -> ExitCode {
    let mut asked = plan.clone();
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let signals: Result<Vec<Signal>, _> = kinds.into_iter().map(signal).collect();
    let [mut term, mut interrupt, mut hang_up] = match signals.map(<[Signal; 3]>::try_from) {
        Ok(signals) => signals.unwrap_or_else(|_| unreachable!("as many as kinds")),
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
    let watched = args.config.clone().filter(|_| args.watch);
    let mut reloader = Reloader::new(|| self::plan(&args), asked, watched);
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {}
            () = reloader.changed() => {}
        }
        let told = reloader.reload(&gateway).await.unwrap_or_else(|problems| problems);
        eprint!("{told}");
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
        None => config::load("", "", &args.overrides).map_err(|problems| super::all(&problems))?,
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
