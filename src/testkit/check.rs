//! The checker: given what agents sent and what collectors got, says what was lost, said twice or reordered.
//!
//! As in Jepsen, a message on a call that ended without OK is *unsure*: it may have arrived or not, and neither is
//! wrong by the sender's books. It is reported apart, because Switchyard promises more than that.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What one agent sent: the messages `0..messages`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// How many messages were handed to the transport.
    pub messages: u64,
    /// Those on calls that were not answered OK, as `[from, to)`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsure: Vec<(u64, u64)>,
}

/// What every agent sent, by its name.
pub type SentBy = BTreeMap<String, Sent>;

/// The ids one collector saw, or several taken together.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    by_name: HashMap<Box<[u8]>, usize>,
    agents: Vec<Seen>,
    /// The agent of the last id: ids come in runs.
    last: usize,
}

/// Sums over [`Evidence`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdCounts {
    /// Distinct ids.
    pub unique: u64,
    /// Arrivals beyond the first.
    pub duplicates: u64,
    /// First arrivals after a later one of the same agent.
    pub reordered: u64,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    name: Box<[u8]>,
    /// One bit per sequence number.
    bits: Vec<u64>,
    counts: IdCounts,
    /// One above the highest seen.
    next: u64,
}

/// Numbers above this are not kept (a bitmap of 128 MiB for one agent is a mistake).
const SEQ_MAX: u64 = 1 << 30;
/// Lost ids named in a verdict.
const EXAMPLES_MAX: usize = 20;

/// The checker's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Messages sent.
    pub sent: u64,
    /// Distinct messages that arrived, of those sent.
    pub arrived: u64,
    /// Messages on calls answered OK that arrived nowhere.
    pub lost: u64,
    /// Messages on calls not answered OK that arrived nowhere.
    pub lost_unsure: u64,
    /// Arrivals beyond the first, over all collectors.
    pub duplicated: u64,
    /// First arrivals after a later message of the same agent, within one collector.
    pub reordered: u64,
    /// Arrivals nobody sent.
    pub foreign: u64,
    /// Some of the lost, sure ones first.
    pub examples: Vec<String>,
}

// === impl Evidence ===

impl Evidence {
    /// Reads a collector's log. A last line without its newline was cut by the kill and does not count.
    ///
    /// # Errors
    /// When the file cannot be read or has a line that is not `method source agent seq`.
    pub fn read_log(path: &Path) -> io::Result<Self> {
        let mut evidence = Self::default();
        let mut reader = BufReader::new(std::fs::File::open(path)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if line.pop() != Some(b'\n') {
                break;
            }
            let mut words = line.split(|byte| *byte == b' ').skip(2);
            let agent = words.next();
            let seq = words.next().and_then(|seq| std::str::from_utf8(seq).ok()).and_then(|seq| seq.parse().ok());
            let (Some(agent), Some(seq)) = (agent, seq) else {
                let line = String::from_utf8_lossy(&line).into_owned();
                let message = format!("{}: not a line of a collector's log: {line:?}", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            };
            evidence.saw(agent, seq);
            line.clear();
        }
        Ok(evidence)
    }

    /// One message arrived.
    pub fn saw(&mut self, agent: &[u8], seq: u64) {
        if seq >= SEQ_MAX {
            return;
        }
        if self.agents.get(self.last).is_none_or(|seen| *seen.name != *agent) {
            self.last = match self.by_name.get(agent) {
                Some(at) => *at,
                None => {
                    self.by_name.insert(agent.into(), self.agents.len());
                    self.agents.push(Seen { name: agent.into(), ..Seen::default() });
                    self.agents.len() - 1
                }
            };
        }
        self.agents[self.last].saw(seq);
    }

    /// Sums over all agents.
    pub fn counts(&self) -> IdCounts {
        self.agents.iter().fold(IdCounts::default(), |sum, seen| IdCounts {
            unique: sum.unique + seen.counts.unique,
            duplicates: sum.duplicates + seen.counts.duplicates,
            reordered: sum.reordered + seen.counts.reordered,
        })
    }

    /// Whether a message arrived.
    pub fn has(&self, agent: &str, seq: u64) -> bool {
        self.by_name.get(agent.as_bytes()).is_some_and(|at| self.agents[*at].has(seq))
    }

    fn take_in(&mut self, other: &Evidence) {
        for seen in &other.agents {
            let at = *self.by_name.entry(seen.name.clone()).or_insert_with(|| {
                self.agents.push(Seen { name: seen.name.clone(), ..Seen::default() });
                self.agents.len() - 1
            });
            self.agents[at].take_in(seen);
        }
    }
}

impl Seen {
    fn saw(&mut self, seq: u64) {
        let (word, bit) = ((seq / 64) as usize, 1u64 << (seq % 64));
        if word >= self.bits.len() {
            self.bits.resize((word + 1).max(self.bits.len() * 2), 0);
        }
        if self.bits[word] & bit != 0 {
            self.counts.duplicates += 1;
            return;
        }
        self.bits[word] |= bit;
        self.counts.unique += 1;
        if seq < self.next {
            self.counts.reordered += 1;
        } else {
            self.next = seq + 1;
        }
    }

    fn has(&self, seq: u64) -> bool {
        self.bits.get((seq / 64) as usize).is_some_and(|word| word & (1 << (seq % 64)) != 0)
    }

    /// The union; an arrival in both is a duplicate.
    fn take_in(&mut self, other: &Seen) {
        if self.bits.len() < other.bits.len() {
            self.bits.resize(other.bits.len(), 0);
        }
        let mut both = 0;
        for (mine, theirs) in self.bits.iter_mut().zip(&other.bits) {
            both += u64::from((*mine & theirs).count_ones());
            *mine |= theirs;
        }
        self.counts.unique += other.counts.unique - both;
        self.counts.duplicates += other.counts.duplicates + both;
        self.counts.reordered += other.counts.reordered;
        self.next = self.next.max(other.next);
    }
}

// === the checks ===

/// Checks what was sent against what collectors hold in memory.
pub fn check(sent: &SentBy, collectors: &[Evidence]) -> Verdict {
    let mut all = Evidence::default();
    for evidence in collectors {
        all.take_in(evidence);
    }
    let counts = all.counts();
    let mut verdict = Verdict { duplicated: counts.duplicates, reordered: counts.reordered, ..Verdict::default() };
    let (mut lost, mut lost_unsure) = (Vec::new(), Vec::new());
    for (agent, sent) in sent {
        verdict.sent += sent.messages;
        let seen = all.by_name.get(agent.as_bytes()).map(|at| &all.agents[*at]);
        let mut unsure = sent.unsure.iter().peekable();
        for seq in 0..sent.messages {
            if seen.is_some_and(|seen| seen.has(seq)) {
                verdict.arrived += 1;
                continue;
            }
            while unsure.next_if(|(_, to)| *to <= seq).is_some() {}
            let is_unsure = unsure.peek().is_some_and(|(from, _)| *from <= seq);
            let (count, examples) =
                if is_unsure { (&mut verdict.lost_unsure, &mut lost_unsure) } else { (&mut verdict.lost, &mut lost) };
            *count += 1;
            if examples.len() < EXAMPLES_MAX {
                examples.push(format!("{agent}-{seq}"));
            }
        }
    }
    verdict.foreign = counts.unique - verdict.arrived;
    lost.append(&mut lost_unsure);
    lost.truncate(EXAMPLES_MAX);
    verdict.examples = lost;
    verdict
}

/// Checks what was sent against the logs of collectors, which survive any kill.
///
/// # Errors
/// When a log cannot be read.
pub fn check_logs(sent: &SentBy, logs: &[impl AsRef<Path>]) -> io::Result<Verdict> {
    let collectors: Vec<Evidence> =
        logs.iter().map(|log| Evidence::read_log(log.as_ref())).collect::<io::Result<_>>()?;
    Ok(check(sent, &collectors))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(ids: &[(&str, u64)]) -> Evidence {
        let mut evidence = Evidence::default();
        for (agent, seq) in ids {
            evidence.saw(agent.as_bytes(), *seq);
        }
        evidence
    }

    fn sent(agents: &[(&str, u64)]) -> SentBy {
        agents.iter().map(|(name, n)| ((*name).to_owned(), Sent { messages: *n, unsure: vec![] })).collect()
    }

    #[test]
    fn every_message_once_over_two_collectors_is_a_clean_verdict() {
        let verdict =
            check(&sent(&[("a", 3), ("b", 1)]), &[evidence(&[("a", 0), ("a", 2)]), evidence(&[("a", 1), ("b", 0)])]);
        assert_eq!(verdict, Verdict { sent: 4, arrived: 4, ..Verdict::default() });
    }

    #[test]
    fn a_message_that_arrived_nowhere_is_lost_and_named() {
        let verdict = check(&sent(&[("a", 3)]), &[evidence(&[("a", 0), ("a", 2)])]);
        assert_eq!((verdict.lost, verdict.examples), (1, vec!["a-1".to_owned()]));
    }

    #[test]
    fn a_message_of_a_failed_call_is_lost_apart() {
        let mut sent = sent(&[("a", 10)]);
        sent.get_mut("a").unwrap().unsure = vec![(2, 4), (7, 8)];
        let verdict = check(&sent, &[evidence(&[("a", 0), ("a", 1), ("a", 4), ("a", 5), ("a", 6), ("a", 8)])]);
        assert_eq!((verdict.lost, verdict.lost_unsure), (1, 3));
        assert_eq!(verdict.examples, ["a-9", "a-2", "a-3", "a-7"]);
    }

    #[test]
    fn an_arrival_at_two_collectors_or_twice_at_one_is_a_duplicate() {
        let verdict = check(&sent(&[("a", 2)]), &[evidence(&[("a", 0), ("a", 0), ("a", 1)]), evidence(&[("a", 0)])]);
        assert_eq!((verdict.duplicated, verdict.lost, verdict.reordered), (2, 0, 0));
    }

    #[test]
    fn overtaking_counts_within_one_collector_only() {
        let verdict = check(&sent(&[("a", 4)]), &[evidence(&[("a", 3), ("a", 1)]), evidence(&[("a", 0), ("a", 2)])]);
        assert_eq!(verdict.reordered, 1);
    }

    #[test]
    fn what_nobody_sent_is_foreign() {
        let verdict = check(&sent(&[("a", 1)]), &[evidence(&[("a", 0), ("a", 1), ("z", 0)])]);
        assert_eq!(verdict.foreign, 2);
    }

    #[test]
    fn a_line_cut_by_a_kill_does_not_count() {
        let path = std::env::temp_dir().join(format!("switchyard-check-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::write(&path, "/m s a 0\n/m - a 1\n/m s a 1").unwrap();
        let verdict = check_logs(&sent(&[("a", 12)]), &[&path]).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((verdict.arrived, verdict.duplicated, verdict.lost), (2, 0, 10));
    }
}
