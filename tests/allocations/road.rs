//! A gateway of one worker between an agent and a collector that allocate nothing.

use std::time::Duration;

use switchyard::config::{Overrides, Plan};
use switchyard::gateway::Gateway;
use switchyard::message::run::Run;
use switchyard::wire::http2::frame::kind;

use crate::count::Count;
use crate::peers::{Agent, Collector, frame};

/// Parcels before anything is counted: buffers and queues have their sizes then.
const WARM_UP: usize = 50;

/// Parcels that are counted together, so that a vector that doubles now and then is not in every count.
const TOGETHER: usize = 20;

/// A call through a gateway.
pub struct Road {
    gateway: Option<Gateway>,
    runtime: tokio::runtime::Runtime,
    agent: Agent,
    collector: Collector,
    /// Bytes that have to arrive.
    said_bytes: u64,
    /// What the gateway adds to each message.
    pub added_bytes: usize,
}

// === impl Road ===

impl Road {
    /// A gateway with one call of this method through it, which stays on one trip.
    pub fn begin(path: &str) -> Self {
        let collector = Collector::start();
        let flags = Overrides::on_free_ports(collector.address().to_string());
        let (mut plan, _) = Plan::from_flags(&flags).expect("the flags are sound");
        plan.workers = 1;
        let pool = &mut plan.pools[0];
        pool.linger = Duration::ZERO;
        (pool.trip.messages_max, pool.trip.age_max) = (u32::MAX, Duration::from_secs(3600));
        pool.trip.bytes_max = 64 << 20;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let gateway = runtime.block_on(Gateway::start(plan)).expect("free ports can be had");
        let agents = gateway.addresses().listeners[0].1;
        Self {
            gateway: Some(gateway),
            runtime,
            agent: Agent::call(agents, path),
            collector,
            said_bytes: 0,
            added_bytes: 0,
        }
    }

    /// Sends parcels of so many messages, one at a time, and counts what one of them allocates. The next parcel leaves the
    /// agent when the last one is at the collector, so that each is one read, one parcel and one write on any machine.
    pub fn allocations_per_parcel(&mut self, counting: &Count, body: &[u8], messages: u32) -> u64 {
        let framed = Run::of_body(body).bytes().repeat(messages as usize);
        let data = frame(kind::DATA, 0, 1, &framed);
        let mut send = || {
            self.agent.say(&data);
            self.said_bytes += (framed.len() + messages as usize * self.added_bytes) as u64;
            self.collector.wait_for(self.said_bytes);
        };
        (0..WARM_UP).for_each(|_| send());
        // What comes with a trip's growth is under a half of one for a parcel: its ledger, its room for small parcels.
        (counting.fewest(20, || (0..TOGETHER).for_each(|_| send())) + TOGETHER as u64 / 2) / TOGETHER as u64
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        let gateway = self.gateway.take().expect("dropped once");
        let summary = self.runtime.block_on(gateway.drain());
        if !std::thread::panicking() {
            assert_eq!(summary.totals.lost_total(), 0, "nothing may be lost: {summary:?}");
        }
    }
}
