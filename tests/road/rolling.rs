//! Real collector processes that are restarted one after the other, cut off or frozen, under a load.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use switchyard::testkit::agents::{Load, Running};
use switchyard::testkit::check::{Verdict, check_logs};

use crate::ground::eventually;
use crate::process::{CollectorProcess, GatewayProcess, Scratch};

const PATIENCE: Duration = Duration::from_secs(60);

/// Rounds of the rolling restart; `ROUNDS=10` for the whole of it.
const ROUNDS: usize = 2;

struct Stage {
    gateway: GatewayProcess,
    collectors: Vec<CollectorProcess>,
    running: Running,
    _scratch: Scratch,
}

impl Stage {
    /// Three collectors, of which the last is what `third` starts.
    fn new(name: &str, more: &str, third: impl FnOnce(&Path) -> CollectorProcess) -> Self {
        let scratch = Scratch::new(name);
        let mut collectors =
            vec!["a", "b"].into_iter().map(|name| CollectorProcess::start(scratch.path(), name)).collect::<Vec<_>>();
        collectors.push(third(scratch.path()));
        let addresses: Vec<SocketAddr> = collectors.iter().map(|collector| collector.address).collect();
        let gateway = GatewayProcess::start(scratch.path(), &addresses, more);
        let load = Load { to: gateway.agents.to_string(), connections: 2, streams: 4, rate: 250.0, ..Load::default() };
        let running = load.start().unwrap();
        let stage = Self { gateway, collectors, running, _scratch: scratch };
        eventually("all three are in use", PATIENCE, || (0..3).all(|at| stage.delivered(at) > 50));
        stage
    }

    fn delivered(&self, collector: usize) -> u64 {
        self.backend(collector).messages
    }

    fn backend(&self, collector: usize) -> switchyard::admin::snapshot::Backend {
        let name = self.collectors[collector].address.to_string();
        self.gateway.snapshot().backends.into_iter().find(|backend| backend.name == name).unwrap()
    }

    /// Everything sent has arrived, and agents noticed nothing.
    fn ends_well(mut self, patience: Duration) -> Verdict {
        let outcome = self.running.stop();
        assert_eq!((outcome.errors.len(), outcome.abandoned), (0, 0), "agents notice nothing: {outcome:?}");
        eventually("everything is delivered", patience, || self.gateway.snapshot().held == 0);
        self.gateway.end(PATIENCE);
        let logs: Vec<_> = self.collectors.iter().map(|collector| &collector.log).collect();
        let verdict = check_logs(&outcome.agents, &logs).unwrap();
        assert_eq!((verdict.lost, verdict.lost_unsure, verdict.foreign), (0, 0, 0), "{verdict:?}");
        verdict
    }
}

#[test]
fn a_rolling_restart_loses_nothing_and_no_agent_notices() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let mut stage = Stage::new("rolling", "", |directory| CollectorProcess::start(directory, "c"));
    for _ in 0..rounds {
        for at in 0..3 {
            stage.collectors[at].stop();
            stage.collectors[at].restart();
            let before = stage.delivered(at);
            eventually("it is in use again", PATIENCE, || stage.delivered(at) > before);
        }
    }
    let verdict = stage.ends_well(PATIENCE);
    println!("{rounds} rounds: {verdict:?}");
}

/// A network of its own for one process, behind a cable that can be cut.
struct Cable {
    namespace: String,
    /// The addresses are 10.231.`net`.1 here and .2 there.
    net: u8,
}

impl Cable {
    /// `None`, and why is told, where networks cannot be made.
    fn lay(net: u8) -> Option<Self> {
        let cable = Self { namespace: format!("sw-road-{net}-{}", std::process::id()), net };
        let (namespace, here) = (&cable.namespace, format!("sw{net}h{}", std::process::id() % 1_000_000));
        let steps = [
            format!("netns add {namespace}"),
            format!("link add {here} type veth peer name eth0 netns {namespace}"),
            format!("address add 10.231.{net}.1/30 dev {here}"),
            format!("link set {here} up"),
            format!("-n {namespace} address add 10.231.{net}.2/30 dev eth0"),
            format!("-n {namespace} link set lo up"),
            format!("-n {namespace} link set eth0 up"),
        ];
        if let Some(step) = steps.iter().find(|step| !ip(step)) {
            println!("SKIPPED: no network of its own can be made here: `ip {step}` fails");
            return None;
        }
        Some(cable)
    }

    fn collector(&self, directory: &Path) -> CollectorProcess {
        let listen = format!("10.231.{}.2:0", self.net);
        CollectorProcess::start_under(&["ip", "netns", "exec", &self.namespace], directory, "far", &listen)
    }

    /// From now on every packet is lost, and nobody is told.
    fn cut(&self) {
        assert!(ip(&format!("-n {} link set eth0 down", self.namespace)));
    }

    fn mend(&self) {
        assert!(ip(&format!("-n {} link set eth0 up", self.namespace)));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The cable goes with the network.
        ip(&format!("netns delete {}", self.namespace));
    }
}

fn ip(words: &str) -> bool {
    Command::new("ip").args(words.split(' ')).status().is_ok_and(|status| status.success())
}

#[test]
fn a_cut_cable_is_noticed_within_five_seconds_and_nothing_is_lost() {
    let Some(cable) = Cable::lay(7) else { return };
    // What it had not answered for is said to others once it has been silent for so long.
    let more = "pool: { trip: { hard_deadline: 6s } }";
    let stage = Stage::new("cut", more, |directory| cable.collector(directory));
    cable.cut();
    let since = Instant::now();
    eventually("the others get everything", Duration::from_secs(5), || stage.backend(2).state != "up");
    println!("noticed after {:?}: {}", since.elapsed(), stage.backend(2).state);
    let others = stage.delivered(0) + stage.delivered(1);
    eventually("the others go on", PATIENCE, || stage.delivered(0) + stage.delivered(1) > others + 1_000);
    cable.mend();
    let before = stage.delivered(2);
    eventually("it is in use again", PATIENCE, || stage.delivered(2) > before);
    println!("{:?}", stage.ends_well(PATIENCE));
}

#[test]
fn a_frozen_collector_is_left_alone_and_thawed_loses_nothing() {
    let stage = Stage::new("frozen", "", |directory| CollectorProcess::start(directory, "c"));
    stage.collectors[2].signal("STOP");
    let since = Instant::now();
    eventually("it is out", PATIENCE, || stage.backend(2).state != "up");
    println!("noticed after {:?}: {}", since.elapsed(), stage.backend(2).state);
    let others = stage.delivered(0) + stage.delivered(1);
    eventually("the others go on", PATIENCE, || stage.delivered(0) + stage.delivered(1) > others + 1_000);
    stage.collectors[2].signal("CONT");
    let before = stage.delivered(2);
    eventually("it is in use again", PATIENCE, || stage.delivered(2) > before);
    println!("{:?}", stage.ends_well(PATIENCE));
}
