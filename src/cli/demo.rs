//! `switchyard demo`: gateway, collectors and agents in one process, and a table that shows what becomes of messages.

mod figures;
mod keys;
mod layout;
mod outcome;
mod screen;
mod stage;
mod view;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::testkit::units::duration;

use figures::History;
use keys::Action;
use layout::Scene;
use outcome::Report;
use screen::Screen;
use stage::Stage;
use view::View;

/// Shows in a minute what Switchyard is for: three collectors, a dozen agents on endless streams of which one sends
/// half of everything, and the gateway between them. Needs nothing but this program; uses 127.0.0.1 only.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Messages per second of all agents together.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000), value_name = "N")]
    rate: u64,
    /// End by itself after so long; a bare number is seconds.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    seconds: Option<Duration>,
    /// Kill a collector after so long.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    kill_after: Option<Duration>,
    /// Bring the killed collector back so long after --kill-after.
    #[arg(long, value_parser = duration, value_name = "TIME", requires = "kill_after")]
    revive_after: Option<Duration>,
    /// Show nothing but one JSON object on stdout at the end.
    #[arg(long)]
    json: bool,
    /// Listen on free ports instead of 11800 (agents) and 9901 (admin).
    #[arg(long)]
    any_port: bool,
}

/// Between two pictures.
const TICK: Duration = Duration::from_millis(200);

/// Runs until `q`, Ctrl-C, SIGTERM or `--seconds`; the exit code is 0 when nothing was lost, 1 when something was, 2
/// when it did not start.
pub fn run(args: Args) -> ExitCode {
    let played = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))
        .and_then(|runtime| runtime.block_on(play(&args)));
    played.unwrap_or_else(|message| {
        eprintln!("switchyard: {message}");
        ExitCode::from(2)
    })
}

async fn play(args: &Args) -> Result<ExitCode, String> {
    let mut asked = Asked::watch()?;
    let (mut stage, notes) = Stage::set(args.rate, args.any_port).await.map_err(|error| error.to_string())?;
    let scene = Scene {
        agents: stage.agents_address().to_string(),
        admin: stage.admin_address().map(|address| address.to_string()).unwrap_or_default(),
        agents_total: stage::AGENTS,
        rate: args.rate,
        has_keys: false,
        has_blocks: Screen::has_blocks(),
    };
    let mut view = View::open(args.json, scene).map_err(|error| format!("cannot use the terminal: {error}"))?;
    notes.into_iter().for_each(|note| view.note(stage.elapsed(), note));
    let mut history = History::new(stage.collectors());
    let script = keys::script(args.seconds, args.kill_after, args.revive_after);
    attend(&mut stage, &mut view, &mut history, script, &mut asked).await;
    view.note(stage.elapsed(), "ending: agents half-close, the gateway waits for the collectors".to_owned());
    // Whoever reads may be gone; the end is orderly all the same.
    let _ = view.show(stage.elapsed(), &history.figures());
    let ending = tokio::select! {
        ending = stage.end() => ending.map_err(|error| error.to_string())?,
        () = asked.end() => return Ok(ExitCode::FAILURE),
    };
    let report = Report::of(&ending);
    view.close(&report, &outcome::one_line(&ending));
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows what goes on and does what keys and clock ask for, until the end is asked for.
async fn attend(
    stage: &mut Stage,
    view: &mut View,
    history: &mut History,
    mut script: VecDeque<(Duration, Action)>,
    asked: &mut Asked,
) {
    let mut keys = view.keys();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = script.front().map(|(at, _)| at.saturating_sub(stage.elapsed()));
        let action = tokio::select! {
            () = asked.end() => Action::Quit,
            Some(key) = keys.recv() => match keys::action(key) {
                Some(action) => action,
                None => continue,
            },
            () = after(due) => match script.pop_front() {
                Some((_, action)) => action,
                None => continue,
            },
            _ = tick.tick() => {
                let snapshot = stage.snapshot().await;
                let news = history.take_in(stage.elapsed(), &snapshot);
                news.into_iter().for_each(|news| view.note(stage.elapsed(), news));
                if view.show(stage.elapsed(), &history.figures()).is_err() {
                    return;
                }
                continue;
            }
        };
        let at = stage.elapsed();
        match action {
            Action::Kill => view.note(at, stage.kill()),
            Action::Revive => view.note(at, stage.revive()),
            Action::Quit => return,
        }
    }
}

async fn after(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
        None => std::future::pending().await,
    }
}

/// The signals that ask for the end.
struct Asked([Signal; 3]);

impl Asked {
    fn watch() -> Result<Self, String> {
        let watch = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
        Ok(Self([watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?, watch(SignalKind::hangup())?]))
    }

    /// Resolves at the next of them. Cancel-safe.
    async fn end(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
