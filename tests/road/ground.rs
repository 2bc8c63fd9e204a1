//! What every test stands on: a gateway in this process, collectors behind it, and the check of the books at its end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchyard::admin::snapshot::Snapshot;
use switchyard::config::{Overrides, Plan};
use switchyard::gateway::{Gateway, StartError, Summary};
use switchyard::metrics::{self, LostReason};
use switchyard::pool::Endpoint;
use switchyard::pool::backend::Backend;
use switchyard::pool::found::Found;
use switchyard::testkit::agents::{Load, Outcome};
use switchyard::testkit::behaviour::Behaviour;
use switchyard::testkit::check::{Evidence, Verdict, check};
use switchyard::testkit::collector::{Collector, Options};
use switchyard::testkit::tally::Detail;

/// A gateway with two workers on free ports, and whatever collectors it was given.
pub struct Road {
    gateway: Option<Gateway>,
    plan: Plan,
    runtime: tokio::runtime::Runtime,
    pub collectors: Vec<Collector>,
}

impl Road {
    /// A gateway before so many good collectors that record every id.
    pub fn to_collectors(count: usize) -> Self {
        Self::to_collectors_with(count, |_| {})
    }

    /// The same with a changed plan.
    pub fn to_collectors_with(count: usize, change: impl FnOnce(&mut Plan)) -> Self {
        let collectors: Vec<Collector> = (0..count).map(|_| collector(Behaviour::default())).collect();
        Self::through(collectors, &[], change)
    }

    /// A gateway before these collectors and these further addresses.
    pub fn through(collectors: Vec<Collector>, more: &[SocketAddr], change: impl FnOnce(&mut Plan)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let addresses: Vec<String> =
            collectors.iter().map(Collector::address).chain(more.iter().copied()).map(|at| at.to_string()).collect();
        let flags = Overrides::on_free_ports(addresses.join(","));
        let (mut plan, warnings) = Plan::from_flags(&flags).expect("the flags are sound");
        assert!(warnings.is_empty(), "{warnings:?}");
        plan.workers = 2;
        change(&mut plan);
        let gateway = runtime.block_on(Gateway::start(plan.clone())).expect("free ports can be had");
        Self { gateway: Some(gateway), plan, runtime, collectors }
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("runs until the end")
    }

    /// Lets the gateway run by a changed plan.
    pub fn reload(&mut self, change: impl FnOnce(&mut Plan)) {
        self.try_reload(change).expect("free ports can be had");
    }

    /// The same, where it may not be able to.
    pub fn try_reload(&mut self, change: impl FnOnce(&mut Plan)) -> Result<(), StartError> {
        let mut plan = self.plan.clone();
        change(&mut plan);
        self.runtime.block_on(self.gateway().reload(plan.clone()))?;
        self.plan = plan;
        Ok(())
    }

    /// What the source of the first pool says from now on: these collectors, by number.
    pub fn found(&self, collectors: &[usize]) {
        self.say(collectors.iter().map(|at| found(&self.collectors[*at])).collect());
    }

    /// What the source of the first pool says from now on.
    pub fn say(&self, found: Vec<Found>) {
        self.gateway().pools()[0].found(found);
    }

    /// A backend of the first pool.
    pub fn backend(&self, collector: usize) -> Arc<Backend> {
        let name = self.collectors[collector].address().to_string();
        self.gateway().pools()[0].find(&name).expect("it was found")
    }

    /// Where a listener listens.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let addresses = self.gateway().addresses();
        let listeners = &addresses.listeners;
        listeners.iter().find(|(listener, _)| *listener == name).expect("every listener is on").1
    }

    /// Where agents of every flow connect.
    pub fn agents(&self) -> SocketAddr {
        self.listener("agents")
    }

    /// Where `/ready` is.
    pub fn prometheus(&self) -> SocketAddr {
        self.gateway().addresses().prometheus.expect("it is on")
    }

    /// The names of the first pool's backends, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.gateway().pools()[0].all().iter().map(|backend| backend.name().to_owned()).collect();
        names.sort();
        names
    }

    /// Where operators give commands, by an address that a client can use.
    pub fn admin(&self) -> SocketAddr {
        let bound = self.gateway().addresses().admin.expect("the admin port is on");
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bound.port())
    }

    /// Where `/v1/endpoints` is.
    pub fn endpoints(&self) -> SocketAddr {
        let bound = self.gateway().addresses().endpoints.expect("the endpoints port is on");
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bound.port())
    }

    /// A load on the agents' port.
    pub fn load(&self) -> Load {
        Load { to: self.agents().to_string(), ..Load::default() }
    }

    /// What the gateway says of itself.
    pub fn snapshot(&self) -> Snapshot {
        self.runtime.block_on(self.gateway().snapshot())
    }

    /// Runs a future where the gateway's acceptors run.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Sets the behaviour of every collector.
    pub fn all_behave(&self, behaviour: &Behaviour) {
        self.collectors.iter().for_each(|collector| collector.set_behaviour(behaviour.clone()));
    }

    /// Waits until nothing is held any more.
    pub fn wait_until_delivered(&self, patience: Duration) {
        eventually("everything is delivered", patience, || self.snapshot().held == 0);
    }

    /// What collectors have got, held against what was sent.
    pub fn verdict(&self, outcome: &Outcome) -> Verdict {
        check(&outcome.agents, &self.evidence())
    }

    fn evidence(&self) -> Vec<Evidence> {
        self.collectors.iter().map(Collector::evidence).collect()
    }

    /// Drains the gateway and checks its books; nothing may be lost.
    pub fn end(self) -> Summary {
        let summary = self.end_with_losses();
        assert_eq!(lost(&summary), [], "nothing may be lost: {summary:?}");
        summary
    }

    /// Drains the gateway and checks its books; losses are the test's business.
    pub fn end_with_losses(mut self) -> Summary {
        let gateway = self.gateway.take().expect("ends once");
        let summary = self.runtime.block_on(gateway.drain());
        let totals = &summary.totals;
        assert_eq!(
            totals.received,
            totals.delivered + totals.held + totals.lost_total(),
            "received = delivered + held + lost: {totals:?}"
        );
        assert_eq!(totals.held, 0, "a drained gateway holds nothing: {totals:?}");
        assert_eq!(violations(), 0, "the books of some gateway in this process were wrong for a moment: see the log");
        summary
    }
}

/// A collector that records every id.
pub fn collector(behaviour: Behaviour) -> Collector {
    Collector::start(Options { detail: Detail::Ids, behaviour, ..Options::default() }).expect("a free port can be had")
}

/// What was lost, by reason.
pub fn lost(summary: &Summary) -> Vec<(&'static str, u64)> {
    let lost = |reason: &LostReason| (reason.name(), summary.totals.lost[reason.index()]);
    LostReason::ALL.iter().map(lost).filter(|(_, messages)| *messages > 0).collect()
}

/// A collector as a source says it.
pub fn found(collector: &Collector) -> Found {
    let address = collector.address();
    Found::at(Endpoint { host: address.ip().to_string(), port: address.port() })
}

/// `switchyard_conservation_violations` of this process.
pub fn violations() -> u64 {
    let text = metrics::install().render();
    let value = |line: &str| line.split_whitespace().last().and_then(|value| value.parse::<f64>().ok());
    let lines = text.lines().filter(|line| line.starts_with("switchyard_conservation_violations"));
    lines.filter_map(value).sum::<f64>() as u64
}

/// Waits until `holds`, and says what it waited for when it never does.
#[track_caller]
pub fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < until, "waited {patience:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The largest share over the mean one.
pub fn max_over_mean(shares: &[u64]) -> f64 {
    let mean = shares.iter().sum::<u64>() as f64 / shares.len() as f64;
    *shares.iter().max().expect("there are shares") as f64 / mean
}

/// Every message sent arrived, and none twice.
#[track_caller]
pub fn assert_once_each(verdict: &Verdict) {
    let clean =
        Verdict { sent: verdict.sent, arrived: verdict.sent, reordered: verdict.reordered, ..Verdict::default() };
    assert_eq!(*verdict, clean);
}
