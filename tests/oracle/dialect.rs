//! What a method's agents say: each receiver's rule has a dialect that tries everything the rule speaks of.

mod alone;
mod carried;
mod datasets;
mod otlp;

use switchyard::testkit::receivers::Rule;

use crate::draw::{Draw, Mark};
use crate::traffic::{Cast, Said, Source};

/// The messages of one call.
pub fn messages(cast: &Cast, draw: &mut Draw) -> Vec<Said> {
    match cast.method.rule {
        Rule::Each { service, instance } => alone::each(cast, service, instance, draw),
        Rule::Events => alone::events(cast, draw),
        Rule::Segments => alone::segments(cast, draw),
        Rule::Mesh => alone::mesh(cast, draw),
        Rule::Logs => carried::logs(cast, draw),
        Rule::AccessLog { .. } => carried::access_logs(cast, draw),
        Rule::EnvoyMetrics => carried::envoy_metrics(cast, draw),
        Rule::EbpfProfiling => carried::ebpf_profiling(cast, draw),
        Rule::EbpfAccessLog => carried::ebpf_access_logs(cast, draw),
        Rule::MeterStream => datasets::meter_stream(cast, draw),
        Rule::MeterBatch => datasets::meter_batches(cast, draw),
        Rule::GoProfile => datasets::go_profiles(cast, draw),
        Rule::AsyncProfiler => datasets::upload(cast, false, draw),
        Rule::Pprof => datasets::upload(cast, true, draw),
        Rule::Otlp(signal) => vec![otlp::request(cast, signal, draw)],
    }
}

/// How a call says what is said once.
#[derive(Debug, Clone)]
pub struct Saying {
    now: Source,
    manner: Manner,
    first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// In the first message, as most agents do.
    First,
    Every,
    /// In some later message first.
    Late,
    Never,
    /// In any message, or not.
    AtWill,
}

impl Saying {
    /// The manner of a call that begins.
    pub fn begin(cast: &Cast, draw: &mut Draw) -> Self {
        let manners = [Manner::First, Manner::First, Manner::Every, Manner::Late, Manner::Never, Manner::AtWill];
        let manner = if draw.steady { draw.one_of(&manners[..3]) } else { draw.one_of(&manners) };
        if matches!(manner, Manner::Late | Manner::Never) {
            draw.mark(Mark::LateContext);
        }
        Self { now: cast.somebody(draw), manner, first: true }
    }

    /// Who sends the next message, and whether it says so.
    pub fn next(&mut self, cast: &Cast, draw: &mut Draw) -> (Source, bool) {
        let first = std::mem::replace(&mut self.first, false);
        if !first && !draw.steady && draw.chance(12) {
            let other = cast.somebody(draw);
            if other.number != self.now.number {
                draw.mark(Mark::ChangedContext);
                self.now = other;
                return (self.now.clone(), draw.chance(80));
            }
        }
        let says = match self.manner {
            Manner::First => first,
            Manner::Every => true,
            Manner::Late => !first && draw.chance(30),
            Manner::Never => false,
            Manner::AtWill => draw.chance(40),
        };
        (self.now.clone(), says)
    }
}

/// How many messages a call has: none now and then, unless it is unary.
fn length(cast: &Cast, draw: &mut Draw) -> usize {
    if !cast.method.streams_in {
        return 1;
    }
    match draw.number(10) {
        0 => 0,
        1 => draw.between(20, 60),
        _ => draw.between(1, 10),
    }
}
