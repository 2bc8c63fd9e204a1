//! What a collector has received: counts per method and source, and evidence of every single message that carries an id.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::attribution::{Attributed, Attribution};
use super::check::{Evidence, IdCounts};
use super::methods::MethodId;

/// How closely a collector looks at messages. What it does not look at costs it nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Detail {
    /// Messages and bytes per method; no field is read (except where the reply speaks of the request).
    Counts,
    /// Also per source, with OAP's stream rules.
    #[default]
    Sources,
    /// Also every id.
    Ids,
    /// Also every item, with all that it was filed under.
    Items,
}

/// A snapshot, as `GET /counts` answers it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages read, whether filed or discarded.
    pub messages: u64,
    /// Bytes of their bodies as they came over the wire.
    pub bytes: u64,
    /// Calls that began.
    pub calls: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Calls the peer reset or whose connection broke.
    pub broken: u64,
    /// Answers given, by status name.
    pub answers: BTreeMap<String, u64>,
    /// By path; only methods that were called.
    pub methods: BTreeMap<String, MethodCounts>,
    /// Ids seen; all zero unless ids are recorded.
    pub ids: IdCounts,
}

/// One method's share of [`Counts`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodCounts {
    /// Calls that began.
    pub calls: u64,
    /// Messages read.
    pub messages: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Messages OAP would drop without an error, by reason.
    pub discarded: BTreeMap<String, u64>,
    /// Items filed, by the source OAP would file them under.
    pub sources: BTreeMap<String, Filed>,
}

/// Items filed under one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filed {
    /// How many: messages, or elements of a batch that may be cut.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The number of a source within its method.
pub type SourceId = usize;

/// The book a collector keeps. It outlives the collector's death, as a log file would.
#[derive(Debug, Default)]
pub struct Tally {
    detail: Detail,
    methods: Vec<MethodTally>,
    evidence: Evidence,
    attributed: Attributed,
    /// The same items in the order in which they were filed.
    filed: Vec<Attribution>,
    /// How often which words were read, filed or not.
    words: HashMap<u64, u64>,
    log: Option<Log>,
    /// Written by the collector.
    pub(super) connections: u64,
    pub(super) connections_open: u64,
    /// Written by the collector.
    pub(super) broken: u64,
    answers: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct MethodTally {
    calls: u64,
    messages: u64,
    bytes: u64,
    discarded: BTreeMap<&'static str, u64>,
    by_name: HashMap<Box<[u8]>, SourceId>,
    sources: Vec<(String, Filed)>,
}

/// Lines not yet written stay below this; they are also written before every answer.
const LOG_BATCH_BYTES: usize = 64 << 10;
/// Sources beyond this are filed together, so that nonsense cannot eat the machine.
const SOURCES_MAX: usize = 100_000;

#[derive(Debug)]
struct Log {
    file: File,
    lines: Vec<u8>,
}

// === impl Tally ===

impl Tally {
    /// An empty book; with a log file, ids are recorded whatever `detail` says.
    ///
    /// # Errors
    /// When the log cannot be opened for appending.
    pub fn new(detail: Detail, log: Option<&Path>) -> io::Result<Self> {
        let log = match log {
            Some(path) => Some(Log { file: File::options().create(true).append(true).open(path)?, lines: Vec::new() }),
            None => None,
        };
        let detail = if log.is_some() { detail.max(Detail::Ids) } else { detail };
        let methods = MethodId::all().map(|_| MethodTally::default()).collect();
        Ok(Self { detail, methods, log, ..Self::default() })
    }

    /// How closely messages are looked at.
    pub fn detail(&self) -> Detail {
        self.detail
    }

    /// A snapshot of everything counted.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            connections: self.connections,
            connections_open: self.connections_open,
            broken: self.broken,
            answers: self.answers.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
            ids: self.evidence.counts(),
            ..Counts::default()
        };
        for (id, tally) in MethodId::all().zip(&self.methods) {
            if tally.calls == 0 {
                continue;
            }
            counts.calls += tally.calls;
            counts.messages += tally.messages;
            counts.bytes += tally.bytes;
            let method = MethodCounts {
                calls: tally.calls,
                messages: tally.messages,
                bytes: tally.bytes,
                discarded: tally.discarded.iter().map(|(reason, n)| ((*reason).to_owned(), *n)).collect(),
                sources: tally.sources.iter().cloned().collect(),
            };
            counts.methods.insert(id.method().path.clone(), method);
        }
        counts
    }

    /// The ids seen.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Every item filed, and how often.
    pub fn attributed(&self) -> &Attributed {
        &self.attributed
    }

    /// Every item filed, in order.
    pub fn filed(&self) -> &[Attribution] {
        &self.filed
    }

    /// How often a message with these words of its own was read; see [`own_words`](super::receivers::own_words).
    pub fn times_read(&self, words: u64) -> u64 {
        self.words.get(&words).copied().unwrap_or_default()
    }

    /// A call began.
    pub fn call(&mut self, method: MethodId) {
        self.methods[method.0].calls += 1;
    }

    /// A call was answered.
    pub fn answer(&mut self, code: &'static str) {
        *self.answers.entry(code).or_default() += 1;
    }

    /// Messages were read.
    pub fn read(&mut self, method: MethodId, messages: u64, bytes: u64) {
        let tally = &mut self.methods[method.0];
        tally.messages += messages;
        tally.bytes += bytes;
    }

    /// A message with these words of its own was read.
    pub fn read_words(&mut self, words: u64) {
        *self.words.entry(words).or_default() += 1;
    }

    /// The number of a source.
    pub fn source(&mut self, method: MethodId, name: &[u8]) -> SourceId {
        let tally = &mut self.methods[method.0];
        if let Some(id) = tally.by_name.get(name) {
            return *id;
        }
        let name = if tally.sources.len() >= SOURCES_MAX { &b"(more)"[..] } else { name };
        if let Some(id) = tally.by_name.get(name) {
            return *id;
        }
        let id = tally.sources.len();
        tally.sources.push((String::from_utf8_lossy(name).into_owned(), Filed::default()));
        tally.by_name.insert(name.into(), id);
        id
    }

    /// Items are filed under a source.
    pub fn file(&mut self, method: MethodId, source: SourceId, messages: u64, bytes: usize) {
        let filed = &mut self.methods[method.0].sources[source].1;
        filed.messages += messages;
        filed.bytes += bytes as u64;
    }

    /// Messages are dropped as OAP would drop them.
    pub fn discard(&mut self, method: MethodId, reason: &'static str, messages: u64) {
        if messages > 0 {
            *self.methods[method.0].discarded.entry(reason).or_default() += messages;
        }
    }

    /// An id is filed under a source. Anything that is not `<agent>-<seq>` is no id.
    pub fn record(&mut self, method: MethodId, source: SourceId, id: &[u8]) {
        let Some((agent, seq)) = parse_id(id) else {
            return;
        };
        self.evidence.saw(agent, seq);
        if let Some(log) = &mut self.log {
            let source = &self.methods[method.0].sources[source].0;
            log.push(&method.method().path, source, agent, seq);
            if log.lines.len() >= LOG_BATCH_BYTES {
                log.write();
            }
        }
    }

    /// An item is filed under a source, by what `context` digests.
    pub fn attribute(&mut self, method: MethodId, source: SourceId, context: u64, item: String) {
        let source = self.methods[method.0].sources[source].0.clone();
        let attribution = Attribution { group: &method.method().group, source, context, item };
        self.filed.push(attribution.clone());
        *self.attributed.entry(attribution).or_default() += 1;
    }

    /// Writes the log's lines so far, with one write. Called before every answer: what was answered is in the file.
    pub fn write_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.write();
        }
    }
}

impl Log {
    /// `method source agent seq`; the source may hold any bytes, so blanks in it become `_`.
    fn push(&mut self, method: &str, source: &str, agent: &[u8], seq: u64) {
        self.lines.extend_from_slice(method.as_bytes());
        self.lines.push(b' ');
        if source.is_empty() {
            self.lines.push(b'-');
        }
        self.lines.extend(source.bytes().map(|byte| if byte.is_ascii_whitespace() { b'_' } else { byte }));
        self.lines.push(b' ');
        self.lines.extend_from_slice(agent);
        self.lines.push(b' ');
        let _ = write!(self.lines, "{seq}");
        self.lines.push(b'\n');
    }

    /// A log that cannot be written would turn a test's verdict into a guess, so it is fatal for the collector.
    fn write(&mut self) {
        if !self.lines.is_empty() {
            self.file.write_all(&self.lines).expect("the collector's log can be written");
            self.lines.clear();
        }
    }
}

/// `<agent>-<seq>`: the seq is what follows the last dash.
pub(super) fn parse_id(id: &[u8]) -> Option<(&[u8], u64)> {
    let dash = id.iter().rposition(|byte| *byte == b'-')?;
    let digits = &id[dash + 1..];
    if dash == 0 || digits.is_empty() || digits.len() > 18 || id[..dash].iter().any(u8::is_ascii_whitespace) {
        return None;
    }
    let mut seq = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        seq = seq * 10 + u64::from(digit - b'0');
    }
    Some((&id[..dash], seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_split_at_its_last_dash() {
        assert_eq!(parse_id(b"agent-2.0-17"), Some((&b"agent-2.0"[..], 17)));
        for bad in [&b"agent"[..], b"-3", b"agent-", b"agent-1x", b"an agent-1", b""] {
            assert_eq!(parse_id(bad), None);
        }
    }

    #[test]
    fn every_id_is_in_the_log_once_it_is_written() {
        let path = std::env::temp_dir().join(format!("switchyard-tally-{}-{}", std::process::id(), fastrand::u64(..)));
        let mut tally = Tally::new(Detail::Counts, Some(&path)).unwrap();
        let method = MethodId::find("/skywalking.v3.LogReportService/collect").unwrap();
        let source = tally.source(method, b"a shop");
        tally.record(method, source, b"agent-0");
        tally.record(method, source, b"agent-1");
        tally.write_log();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            text,
            "/skywalking.v3.LogReportService/collect a_shop agent 0\n\
             /skywalking.v3.LogReportService/collect a_shop agent 1\n"
        );
    }
}
