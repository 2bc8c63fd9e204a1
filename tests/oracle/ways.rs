//! The two ways the same traffic goes: directly to one collector, and through a gateway to three.

use std::time::{Duration, Instant};

use switchyard::config::Plan;
use switchyard::listener::Reply;
use switchyard::pool::Policy;
use switchyard::testkit::attribution::Attributed;
use switchyard::testkit::collector::{Collector, Options};
use switchyard::testkit::tally::Detail;
use switchyard::wire::grpc::Code;

use crate::draw::Draw;
use crate::ground::{Road, eventually};
use crate::reading::{Stream, read};
use crate::stage::{Audience, Heard, play};
use crate::traffic::{Ending, Traffic};
use crate::verdict::{assert_none, differences, sum};

/// What traffic led to.
pub struct Outcome {
    pub attributed: Attributed,
    pub heard: Vec<Heard>,
}

/// How a gateway is set; none of it may make a difference.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    reply: Reply,
    balance: Policy,
    workers: usize,
    trip_messages: u32,
    linger: Duration,
}

const PATIENCE: Duration = Duration::from_secs(10);

impl Setting {
    /// As delivered.
    pub fn plain(reply: Reply) -> Self {
        let trip_messages = 4_096;
        Self { reply, balance: Policy::LeastLoad, workers: 2, trip_messages, linger: Duration::ZERO }
    }

    pub fn draw(draw: &mut Draw) -> Self {
        Self {
            reply: draw.one_of(&[Reply::Received, Reply::Delivered]),
            // More often by key: then batches come apart, too.
            balance: draw.one_of(&[Policy::LeastLoad, Policy::RoundRobin, Policy::Hash, Policy::Hash]),
            workers: draw.between(1, 2),
            // Few: what is said once is said again on every trip.
            trip_messages: draw.one_of(&[1, 3, 16, 4_096]),
            linger: Duration::from_millis(draw.number(2)),
        }
    }

    pub fn apply(self, plan: &mut Plan) {
        plan.reply = self.reply;
        plan.workers = self.workers;
        plan.pools[0].balance = self.balance;
        plan.pools[0].linger = self.linger;
        plan.pools[0].trip.messages_max = self.trip_messages;
        // So that nobody has to wait for the last trips.
        plan.pools[0].trip.age_max = Duration::from_millis(50);
    }
}

/// A collector that attributes every item.
pub fn collector() -> Collector {
    Collector::start(Options { detail: Detail::Items, ..Options::default() }).expect("a free port can be had")
}

/// A gateway before three collectors.
pub fn road(setting: Setting) -> Road {
    Road::through((0..3).map(|_| collector()).collect(), &[], |plan| setting.apply(plan))
}

/// Sends it directly to one collector and waits until that has done with every call.
pub fn directly(traffic: &Traffic) -> Outcome {
    let mut collector = collector();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
    let audience = Audience::new(std::slice::from_ref(&collector));
    let heard = runtime.block_on(play(traffic, collector.address(), audience, |_| {}));
    // A call that was reset before it said anything may never have left.
    drop(runtime);
    eventually("the collector has seen the end of every call it saw", PATIENCE, || {
        let counts = collector.counts();
        counts.answers.values().sum::<u64>() + counts.broken == counts.calls
    });
    collector.stop();
    let attributed = collector.attributed();
    let streams: Vec<Stream> = traffic.calls.iter().map(Stream::of).collect();
    assert_none(&differences(&read(&streams), &attributed), "over a socket and without one");
    Outcome { attributed, heard }
}

/// What all collectors behind a gateway have understood.
pub fn understood(road: &Road) -> Attributed {
    sum(road.collectors.iter().map(Collector::attributed))
}

/// Both ways lead to the same, and callers hear the same.
pub fn assert_alike(traffic: &Traffic, setting: Setting) {
    let direct = directly(traffic);
    for (call, heard) in traffic.calls.iter().zip(&direct.heard) {
        let is_good = match call.ending {
            Ending::HalfClose => matches!(heard, Heard::Answer(Code::Ok, _)),
            Ending::Reset => *heard == Heard::Nothing,
        };
        assert!(is_good, "traffic without poison is answered well: {} heard {heard:?}", call.path);
    }
    let mut road = road(setting);
    let heard = road.block_on(play(traffic, road.agents(), Audience::new(&road.collectors), |_| {}));
    road.wait_until_delivered(PATIENCE);
    // Collectors learn of resets a little later than the gateway does.
    let until = Instant::now() + PATIENCE;
    while understood(&road) != direct.attributed && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let collectors = std::mem::take(&mut road.collectors);
    road.end_with_losses();
    // Now that the gateway is gone, nothing can come twice any more.
    let through = sum(collectors.iter().map(Collector::attributed));
    assert_none(&differences(&direct.attributed, &through), &format!("through a gateway with {setting:?}"));
    assert_eq!(heard, direct.heard, "what callers hear through a gateway and directly");
}
