//! A process that reads its config again: on SIGHUP, on a change of the file, sound or faulty, under load.

use std::path::PathBuf;
use std::time::Duration;

use switchyard::testkit::agents::Load;
use switchyard::testkit::behaviour::Behaviour;
use switchyard::testkit::check::check;
use switchyard::testkit::collector::Collector;

use crate::ground::{assert_once_each, collector, eventually};
use crate::process::{GatewayProcess, Scratch};

const PATIENCE: Duration = Duration::from_secs(20);

/// How often the long test reads; `RELOADS=1000` for the whole of it.
const RELOADS: usize = 60;

struct Stage {
    gateway: GatewayProcess,
    collectors: Vec<Collector>,
    file: PathBuf,
    /// The file as it was at the start.
    text: String,
    _scratch: Scratch,
}

impl Stage {
    fn new(name: &str, collectors: usize) -> Self {
        let scratch = Scratch::new(name);
        let collectors: Vec<Collector> = (0..collectors).map(|_| collector(Behaviour::default())).collect();
        let addresses: Vec<_> = collectors.iter().map(Collector::address).collect();
        let gateway = GatewayProcess::start(scratch.path(), &addresses, "");
        let file = scratch.path().join("switchyard.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        Self { gateway, collectors, file, text, _scratch: scratch }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.file, text).unwrap();
    }

    /// How often it said that it had read its config, one way or the other.
    fn times_read(&self) -> usize {
        self.gateway
            .process
            .said()
            .iter()
            .filter(|line| line.starts_with("reloaded") || line.starts_with("not reloaded"))
            .count()
    }

    /// SIGHUP, and its answer.
    fn reread(&self) {
        let before = self.times_read();
        self.gateway.process.signal("HUP");
        eventually("it has read its config", PATIENCE, || self.times_read() > before);
    }
}

#[test]
fn a_faulty_file_is_told_and_changes_nothing() {
    let mut stage = Stage::new("faulty", 1);
    let adopted = stage.gateway.metric("switchyard_config_last_reload_success_timestamp_seconds");
    stage.write(&format!("{}pool: {{ balance: hsah }}\n", stage.text));
    stage.reread();
    let said = stage.gateway.process.said();
    assert!(said.iter().any(|line| line.contains("hsah")), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("did you mean") || line.contains("`hash`")), "{said:#?}");
    assert_eq!(stage.gateway.metric("switchyard_config_last_reload_successful"), 0.0);
    assert_eq!(stage.gateway.metric("switchyard_config_last_reload_success_timestamp_seconds"), adopted);
    assert_eq!(stage.gateway.ready(), Some(200), "it runs on");
    stage.write(&format!("{}pool: {{ balance: round_robin }}\n", stage.text));
    stage.reread();
    stage.gateway.process.wait_for_line("+ pool.balance: round_robin");
    assert_eq!(stage.gateway.metric("switchyard_config_last_reload_successful"), 1.0);
    stage.gateway.end(PATIENCE);
}

#[test]
fn many_readings_under_load_break_no_stream_and_leave_nothing_behind() {
    let reloads = std::env::var("RELOADS").ok().and_then(|times| times.parse().ok()).unwrap_or(RELOADS);
    let mut stage = Stage::new("reloads", 3);
    let process = format!("/proc/{}", stage.gateway.process.id());
    let descriptors = || std::fs::read_dir(format!("{process}/fd")).unwrap().count();
    let load =
        Load { to: stage.gateway.agents.to_string(), connections: 2, streams: 4, rate: 250.0, ..Load::default() };
    let running = load.start().unwrap();
    let mut memory = Vec::new();
    let mut before = 0;
    for round in 0..reloads {
        let more = match round % 10 {
            9 => "pool: { balance: nothing-known }\n".to_owned(),
            _ => format!(
                "pool: {{ balance: {}, trip: {{ messages: {} }} }}\nlimits: {{ message: {}KiB }}\n",
                ["least_load", "round_robin"][round % 2],
                500 + round,
                1_024 + round
            ),
        };
        stage.write(&format!("{}{more}", stage.text));
        stage.reread();
        if round == reloads / 10 {
            before = descriptors();
        }
        memory.push(stage.gateway.process.peak_memory());
    }
    let after = descriptors();
    let outcome = running.stop();
    assert_eq!((outcome.errors.len(), outcome.abandoned), (0, 0), "no stream was reset: {outcome:?}");
    eventually("everything is delivered", PATIENCE, || stage.gateway.snapshot().held == 0);
    let snapshot = stage.gateway.assert_books_balance();
    let evidence: Vec<_> = stage.collectors.iter().map(Collector::evidence).collect();
    assert_once_each(&check(&outcome.agents, &evidence));
    // The peak is reached early; what each reading leaves behind would raise it to the end.
    let grown = memory[reloads - 1].saturating_sub(memory[reloads / 2]);
    println!(
        "{reloads} readings, {} messages, descriptors {before} -> {after}, peak {} -> {} KiB",
        snapshot.received,
        memory[reloads / 2] >> 10,
        memory[reloads - 1] >> 10
    );
    assert!(after <= before + 4, "{before} descriptors have become {after}");
    assert!(grown < 4 << 20, "{grown} bytes stay behind after {reloads} readings: {memory:?}");
    stage.gateway.end(PATIENCE);
}
