//! How a demo ended, as JSON for scripts and in a line or two for people.

use serde::{Deserialize, Serialize};

use super::layout::grouped;
use super::stage::Ending;
use crate::cli::run;

/// What `--json` prints; docs/demo.md explains it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Seconds the agents sent.
    pub seconds: f64,
    /// Messages received per second of these.
    pub rate: f64,
    /// Messages that were whole in the gateway.
    pub received: u64,
    /// Messages a collector answered for.
    pub delivered: u64,
    /// Messages the gateway still has; 0 at the end, for what it could not deliver is lost by then.
    pub held: u64,
    /// Messages the gateway gave up.
    pub lost: u64,
    /// Messages given to a second collector that a first may have had.
    pub possible_duplicates: u64,
    /// The largest of the collectors' `messages` by their mean: 1 is even.
    pub imbalance: f64,
    /// Every collector.
    pub backends: Vec<Backend>,
    /// All agents together.
    pub agents: Agents,
    /// What the ids in the messages say.
    pub exactly_once: ExactlyOnce,
}

/// One collector, by the gateway's books.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name in the table.
    pub name: String,
    /// Where it listened.
    pub address: String,
    /// Messages it answered for.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What the agents did, by their own books.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Agents {
    /// Messages sent.
    pub sent: u64,
    /// Streams answered OK.
    pub answered: u64,
    /// Streams that ended otherwise.
    pub errors: u64,
}

/// What was sent held against what arrived, message by message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExactlyOnce {
    /// Messages sent that arrived nowhere.
    pub missing: u64,
    /// Arrivals beyond the first.
    pub duplicated: u64,
}

// === impl Report ===

impl Report {
    /// The report of an ending.
    pub fn of(ending: &Ending) -> Self {
        let (totals, figures) = (&ending.summary.totals, &ending.summary.backends);
        let backend = |(name, address): &(String, String)| {
            let figures = figures.iter().find(|figures| figures.name == *address).cloned().unwrap_or_default();
            let (messages, bytes) = (figures.delivered_messages, figures.delivered_bytes);
            Backend { name: name.clone(), address: address.clone(), messages, bytes }
        };
        let backends: Vec<Backend> = ending.collectors.iter().map(backend).collect();
        let seconds = ending.sent_for.as_secs_f64();
        Self {
            seconds: rounded(seconds),
            rate: rounded(totals.received as f64 / seconds.max(0.001)),
            received: totals.received,
            delivered: totals.delivered,
            held: totals.held,
            lost: totals.lost_total(),
            possible_duplicates: totals.possible_duplicates,
            imbalance: imbalance(&backends),
            backends,
            agents: Agents {
                sent: ending.agents.sent,
                answered: ending.agents.answered,
                errors: ending.agents.errors.values().sum(),
            },
            exactly_once: ExactlyOnce {
                missing: ending.verdict.lost + ending.verdict.lost_unsure,
                duplicated: ending.verdict.duplicated,
            },
        }
    }

    /// Whether everything that was sent arrived, by the gateway's books and by the ids.
    pub fn is_complete(&self) -> bool {
        self.lost == 0 && self.exactly_once.missing == 0
    }

    /// What the ids say, for people.
    pub fn check(&self) -> String {
        let ExactlyOnce { missing, duplicated } = self.exactly_once;
        let arrived = match missing {
            0 => format!("all {} messages sent have arrived", grouped(self.agents.sent)),
            _ => format!("{} of {} messages sent have NOT arrived", grouped(missing), grouped(self.agents.sent)),
        };
        match (missing, duplicated) {
            (0, 0) => format!("{arrived}, each once"),
            (_, 0) => arrived,
            (0, _) => format!("{arrived}, {} of them twice", grouped(duplicated)),
            (_, _) => format!("{arrived}, {} have arrived twice", grouped(duplicated)),
        }
    }
}

/// The last line, for people.
pub fn one_line(ending: &Ending) -> String {
    run::one_line(&ending.summary)
}

fn imbalance(backends: &[Backend]) -> f64 {
    let sum: u64 = backends.iter().map(|backend| backend.messages).sum();
    let max = backends.iter().map(|backend| backend.messages).max().unwrap_or(0);
    if sum == 0 { 1.0 } else { rounded(max as f64 * backends.len() as f64 / sum as f64) }
}

/// To a thousandth: more would pretend.
fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(messages: [u64; 3]) -> Vec<Backend> {
        messages.into_iter().map(|messages| Backend { messages, ..Backend::default() }).collect()
    }

    #[test]
    fn imbalance_is_the_largest_by_the_mean() {
        assert_eq!(imbalance(&backends([10, 10, 10])), 1.0);
        assert_eq!(imbalance(&backends([20, 10, 0])), 2.0);
        assert_eq!(imbalance(&backends([0, 0, 0])), 1.0);
    }

    #[test]
    fn a_message_missing_or_lost_makes_the_end_a_failure() {
        let mut report = Report::default();
        assert!(report.is_complete());
        report.exactly_once.missing = 1;
        assert!(!report.is_complete());
        assert!(report.check().contains("NOT"));
        assert!(!Report { lost: 1, ..Report::default() }.is_complete());
    }

    #[test]
    fn the_docs_show_every_field_and_an_example_that_adds_up() {
        let docs = include_str!("../../../docs/demo.md");
        let (_, rest) = docs.split_once("```json\n").unwrap();
        let example: serde_json::Value = serde_json::from_str(rest.split_once("```").unwrap().0).unwrap();
        let report: Report = serde_json::from_value(example.clone()).unwrap();
        assert_eq!(serde_json::to_value(&report).unwrap(), example);
        assert_eq!(report.received, report.delivered + report.held + report.lost);
        assert_eq!(report.delivered, report.backends.iter().map(|backend| backend.messages).sum::<u64>());
        assert_eq!(report.imbalance, imbalance(&report.backends));
    }
}
