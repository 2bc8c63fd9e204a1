//! What the table shows: rates over the last second or so, and what has changed, from snapshots of the gateway.

use std::collections::VecDeque;
use std::time::Duration;

use crate::admin::snapshot::Snapshot;

use super::layout::grouped;

/// Rates are measured over at least this long: four trips of the demo, so that answers, which come a trip at a time, do
/// not make them jump.
const WINDOW: Duration = Duration::from_millis(1_000);

/// Both sides of `received = delivered + held + lost`. As rates, `held` is the change and may be negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Law {
    /// Messages received.
    pub received: u64,
    /// Messages a backend answered for.
    pub delivered: u64,
    /// Messages queued or in flight.
    pub held: i64,
    /// Messages that will reach no backend.
    pub lost: u64,
}

/// One collector at one moment, as the gateway sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackendRow {
    /// The collector's name.
    pub name: String,
    /// Messages written to it per second.
    pub per_second: u64,
    /// Its part of what is written to all, 0 to 1.
    pub share: f64,
    /// Messages written and not yet answered for.
    pub in_flight: u64,
    /// `up`, or why it gets nothing.
    pub state: String,
}

/// Everything the table shows of one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// By collector.
    pub backends: Vec<BackendRow>,
    /// The law per second.
    pub per_second: Law,
    /// The law since the start.
    pub in_all: Law,
    /// Messages given to a second backend that a first may have had.
    pub possible_duplicates: u64,
}

/// The snapshots of the last second, as far as they matter here.
#[derive(Debug)]
pub struct History {
    /// Collectors' names and addresses; backends are known by their address.
    collectors: Vec<(String, String)>,
    samples: VecDeque<Sample>,
    /// Collectors found out at the last snapshot. They are told of at the next one, when every worker has noticed and
    /// the number of possible duplicates is whole.
    outages: Vec<String>,
    /// Possible duplicates in the snapshot before the last.
    duplicates_before: u64,
}

#[derive(Debug, Clone, Default)]
struct Sample {
    at: Duration,
    law: Law,
    possible_duplicates: u64,
    backends: Vec<BackendSample>,
}

#[derive(Debug, Clone, Default)]
struct BackendSample {
    /// Delivered and in flight: what was written less what was given back. It falls when a backend dies.
    carried: u64,
    /// Grows by what `carried` grows by.
    written: u64,
    in_flight: u64,
    state: String,
}

// === impl History ===

impl History {
    /// An empty one for these collectors (name, address).
    pub fn new(collectors: Vec<(String, String)>) -> Self {
        Self { collectors, samples: VecDeque::new(), outages: Vec::new(), duplicates_before: 0 }
    }

    /// Takes a snapshot in, `at` after the start; answers what a person should be told of.
    pub fn take_in(&mut self, at: Duration, snapshot: &Snapshot) -> Vec<String> {
        let law = Law {
            received: snapshot.received,
            delivered: snapshot.delivered,
            held: i64::try_from(snapshot.held).unwrap_or(i64::MAX),
            lost: snapshot.lost_total,
        };
        let before = self.samples.back().cloned().unwrap_or_default();
        let backends = self.collectors.iter().enumerate().map(|(at, (_, address))| {
            let backend = snapshot.backends.iter().find(|backend| backend.name == *address);
            let backend = backend.cloned().unwrap_or_default();
            let before = before.backends.get(at).cloned().unwrap_or_default();
            let carried = backend.messages + backend.in_flight_messages;
            let written = before.written + carried.saturating_sub(before.carried);
            BackendSample { carried, written, in_flight: backend.in_flight_messages, state: backend.state }
        });
        let sample =
            Sample { at, law, possible_duplicates: snapshot.possible_duplicates, backends: backends.collect() };
        let news = self.news(&before, &sample);
        self.samples.push_back(sample);
        while self.samples.get(1).is_some_and(|second| at.saturating_sub(second.at) >= WINDOW) {
            self.samples.pop_front();
        }
        news
    }

    fn news(&mut self, before: &Sample, now: &Sample) -> Vec<String> {
        let mut told = Vec::new();
        if !self.outages.is_empty() {
            let is_any_up = now.backends.iter().any(|backend| backend.state == "up");
            let names = std::mem::take(&mut self.outages).join(", ");
            let again = now.possible_duplicates.saturating_sub(self.duplicates_before);
            told.push(match (is_any_up, again) {
                (false, _) => format!("{names} out: no backend is left, messages wait"),
                (true, 0) => format!("{names} out: the others take over"),
                (true, _) => format!("{names} out: the others take over, {} unanswered sent again", grouped(again)),
            });
        }
        for ((name, _), (was, is)) in self.collectors.iter().zip(before.backends.iter().zip(&now.backends)) {
            match (was.state == "up", is.state == "up") {
                (true, false) => self.outages.push(name.clone()),
                (false, true) => told.push(format!("{name} up again")),
                _ => {}
            }
        }
        self.duplicates_before = before.possible_duplicates;
        told
    }

    /// The figures now; all zero before the first snapshot.
    pub fn figures(&self) -> Figures {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else { return Figures::default() };
        let seconds = last.at.saturating_sub(first.at).as_secs_f64();
        let rate = |first: u64, last: u64| match seconds > 0.0 {
            true => (last.saturating_sub(first) as f64 / seconds).round() as u64,
            false => 0,
        };
        let received = rate(first.law.received, last.law.received);
        let delivered = rate(first.law.delivered, last.law.delivered);
        let lost = rate(first.law.lost, last.law.lost);
        // The change of what is held follows from the others, so that the column adds up after rounding too.
        let held = received as i64 - delivered as i64 - lost as i64;
        let rates: Vec<u64> =
            first.backends.iter().zip(&last.backends).map(|(first, last)| rate(first.written, last.written)).collect();
        let sum: u64 = rates.iter().sum();
        let row = |((name, _), (backend, per_second)): (&(String, String), (&BackendSample, &u64))| BackendRow {
            name: name.clone(),
            per_second: *per_second,
            share: if sum > 0 { *per_second as f64 / sum as f64 } else { 0.0 },
            in_flight: backend.in_flight,
            state: backend.state.clone(),
        };
        Figures {
            backends: self.collectors.iter().zip(last.backends.iter().zip(&rates)).map(row).collect(),
            per_second: Law { received, delivered, held, lost },
            in_all: last.law,
            possible_duplicates: last.possible_duplicates,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::snapshot::Backend;

    fn history() -> History {
        History::new(vec![("collector-a".into(), "127.0.0.1:1".into()), ("collector-b".into(), "127.0.0.1:2".into())])
    }

    fn backend(port: u16, state: &str, messages: u64, in_flight_messages: u64) -> Backend {
        Backend {
            name: format!("127.0.0.1:{port}"),
            state: state.into(),
            messages,
            in_flight_messages,
            ..Backend::default()
        }
    }

    fn snapshot(received: u64, delivered: u64, backends: Vec<Backend>) -> Snapshot {
        Snapshot { received, delivered, held: received - delivered, backends, ..Snapshot::default() }
    }

    #[test]
    fn rates_are_of_the_last_second_and_the_law_holds_in_them() {
        let mut history = history();
        for step in 0..20u64 {
            let snapshot = snapshot(
                step * 1_000,
                step * 700,
                vec![backend(2, "up", step * 500, 100), backend(1, "up", step * 200, step * 300)],
            );
            assert!(history.take_in(Duration::from_millis(step * 200), &snapshot).is_empty() || step == 0);
        }
        let figures = history.figures();
        assert_eq!(figures.per_second, Law { received: 5_000, delivered: 3_500, held: 1_500, lost: 0 });
        assert_eq!(figures.in_all.received, 19_000);
        assert_eq!(figures.backends.iter().map(|row| row.per_second).collect::<Vec<_>>(), [2_500, 2_500]);
        assert_eq!(figures.backends[0].share, 0.5);
    }

    #[test]
    fn what_a_dead_collector_gives_back_is_no_rate_and_is_told_once() {
        let mut history = history();
        let all_up = |at: u64| vec![backend(1, "up", at, 100), backend(2, "up", at, 100)];
        history.take_in(Duration::from_millis(0), &snapshot(200, 0, all_up(0)));
        let mut died = snapshot(400, 200, vec![backend(1, "up", 200, 200), backend(2, "unreachable", 0, 0)]);
        died.possible_duplicates = 1_100;
        assert!(
            history.take_in(Duration::from_millis(1_000), &died).is_empty(),
            "the other worker has not noticed yet"
        );
        assert_eq!(history.figures().backends[1].per_second, 0);
        died.possible_duplicates = 1_200;
        let news = history.take_in(Duration::from_millis(1_200), &died);
        assert_eq!(news, ["collector-b out: the others take over, 1,200 unanswered sent again"]);
        assert!(history.take_in(Duration::from_millis(1_300), &died).is_empty());
        let back = snapshot(400, 400, all_up(200));
        assert_eq!(history.take_in(Duration::from_millis(1_400), &back), ["collector-b up again"]);
    }

    #[test]
    fn before_the_first_snapshot_and_after_one_all_rates_are_zero() {
        let mut history = history();
        assert_eq!(history.figures(), Figures::default());
        history.take_in(Duration::ZERO, &snapshot(10, 5, vec![]));
        assert_eq!(history.figures().per_second, Law::default());
        assert_eq!(history.figures().in_all.received, 10);
    }
}
