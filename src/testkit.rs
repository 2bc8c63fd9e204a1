//! Scripted collectors and agents, as the real ones behave: for tests and the `demo`; no part of the gateway.
//!
//! [`collector::Collector`] stands for SkyWalking's OAP: it keeps the same state per stream, so that data a gateway
//! mixed up is filed under the wrong source here as it would be there, and it can misbehave on command.
//! [`agents::Load`] stands for any number of agents; [`check`] says afterwards what was lost, said twice or reordered.
//! docs/testkit.md has the command lines and the JSON.

pub mod agents;
pub mod attribution;
pub mod behaviour;
pub mod check;
pub mod collector;
pub mod methods;
pub mod receivers;
pub mod socket;
pub mod tally;
pub mod units;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::agents::{Load, Traffic};
    use super::check::{Verdict, check};
    use super::collector::{Collector, Options};
    use super::tally::Detail;

    fn collector() -> Collector {
        Collector::start(Options { detail: Detail::Ids, ..Default::default() }).unwrap()
    }

    fn load(collector: &Collector) -> Load {
        Load { to: collector.address().to_string(), streams: 4, messages: 500, ..Default::default() }
    }

    #[test]
    fn every_message_of_every_kind_arrives_once_and_is_filed_under_its_sender() {
        for traffic in Traffic::PURE {
            let mut collector = collector();
            let load = Load { traffic, messages_per_stream: 100, services: 2, bytes: 300, ..load(&collector) };
            let outcome = load.start().unwrap().wait();
            assert!(outcome.errors.is_empty(), "{traffic:?}: {:?}", outcome.errors);
            assert_eq!(outcome.sent, 2_000);
            assert_eq!(outcome.answered, if traffic.is_unary() { 2_000 } else { 20 });
            let verdict = check(&outcome.agents, &[collector.evidence()]);
            assert_eq!(verdict, Verdict { sent: 2_000, arrived: 2_000, ..Default::default() }, "{traffic:?}");
            let counts = collector.stop();
            assert_eq!((counts.messages, counts.broken), (2_000, 0));
            let method = &counts.methods[traffic.path()];
            let services: std::collections::BTreeSet<_> =
                method.sources.keys().map(|source| source.contains("service-1")).collect();
            assert_eq!(services.len(), 2, "{traffic:?}: {:?}", method.sources);
            assert_eq!(method.sources.values().map(|filed| filed.messages).sum::<u64>(), 2_000);
        }
    }

    #[test]
    fn what_is_lost_to_a_kill_is_unsure_and_what_was_answered_is_not() {
        let mut collector = collector();
        let load = Load { messages: 0, messages_per_stream: 50, rate: 2_000.0, ..load(&collector) };
        let running = load.start().unwrap();
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(150));
            collector.kill();
            std::thread::sleep(Duration::from_millis(30));
            collector.restart().unwrap();
        }
        std::thread::sleep(Duration::from_millis(300));
        let outcome = running.stop();
        assert!(outcome.errors["UNAVAILABLE"] > 0 && outcome.connects > 1, "{outcome:?}");
        let verdict = check(&outcome.agents, &[collector.evidence()]);
        assert_eq!((verdict.lost, verdict.duplicated, verdict.foreign), (0, 0, 0), "{verdict:?}");
    }

    #[test]
    fn paced_agents_keep_their_schedule_and_a_skewed_one_its_share() {
        let collector = collector();
        let duration = Some(Duration::from_millis(500));
        let load = Load { messages: 0, rate: 100.0, skew: 10.0, duration, ..load(&collector) };
        let outcome = load.start().unwrap().wait();
        let of = |agent: &str| outcome.agents[agent].messages;
        assert!((400..=510).contains(&of("agent.0.0")), "{}", of("agent.0.0"));
        assert!((35..=51).contains(&of("agent.0.1")), "{}", of("agent.0.1"));
        assert_eq!(outcome.answered, 4);
    }

    #[test]
    fn nobody_listening_is_said_after_the_wait() {
        let mut collector = collector();
        collector.kill();
        let load = Load { wait: Duration::from_millis(100), ..load(&collector) };
        let outcome = load.start().unwrap().wait();
        assert_eq!((outcome.unreached, outcome.sent), (1, 0));
    }
}
