//! What stands between a source and its pool: passes on what changed, keeps the last good set, says once what is wrong.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::metrics;
use crate::pool::found::{Found, WEIGHT_MAX};

/// Tells one pool of its backends.
pub struct Announcer {
    pool: String,
    tell: Box<dyn Fn(Vec<Found>) + Send>,
    /// What the pool was told last, in the order of names.
    told: Option<Vec<Found>>,
    /// What is wrong now; `None` after a good look.
    trouble: Option<Trouble>,
    handles: metrics::Discovery,
}

/// Why a look at a source gave no set of backends. Its text is the same for the same trouble, since it is logged when it
/// changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The source answered, and names nobody.
    Empty(String),
    /// The source did not answer, or not in a way that can be read.
    Failed(String),
}

/// Names in the log's line on a first set.
const NAMES_SHOWN: usize = 8;

// === impl Announcer ===

impl Announcer {
    /// For the pool of this name, which has been told nothing yet.
    pub fn new(pool: &str, tell: impl Fn(Vec<Found>) + Send + 'static) -> Self {
        let handles = metrics::Discovery::of(pool);
        Self { pool: pool.to_owned(), tell: Box::new(tell), told: None, trouble: None, handles }
    }

    /// The source names these backends and no others. The order does not matter; of two with one name the first counts,
    /// and weights are brought within their bounds. An empty set is [`Trouble::Empty`]: a pool is never told to send nowhere.
    pub fn found(&mut self, all: Vec<Found>) {
        let all = in_order(all);
        if all.is_empty() {
            return self.failed(Trouble::Empty("it names no backend".to_owned()));
        }
        if let Some(trouble) = self.trouble.take() {
            tracing::info!(pool = %self.pool, backends = all.len(), "source is well again, it was: {trouble}");
        }
        // The wall clock, since people and Prometheus compare it with theirs.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.handles.last_success_seconds.set(now.as_secs_f64());
        if self.told.as_ref() == Some(&all) {
            self.handles.unchanged.increment(1);
            return;
        }
        // Later changes are the pool's to log: it knows who is new to it.
        if self.told.is_none() {
            let names: Vec<&str> = all.iter().take(NAMES_SHOWN).map(|found| found.name.as_str()).collect();
            tracing::info!(pool = %self.pool, backends = all.len(), first = ?names, "backends found");
        }
        self.handles.changed.increment(1);
        self.handles.backends.set(all.len() as f64);
        self.told = Some(all.clone());
        (self.tell)(all);
    }

    /// The source could not be looked at: the pool keeps what it has. Logged when it is another trouble than the last.
    pub fn failed(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Empty(_) => self.handles.empty.increment(1),
            Trouble::Failed(_) => self.handles.failed.increment(1),
        }
        if self.trouble.as_ref() == Some(&trouble) {
            return;
        }
        let kept = self.told.as_ref().map_or(0, Vec::len);
        match kept {
            0 => {
                tracing::warn!(pool = %self.pool, "source gives no backends: {trouble}; messages of this pool wait for them")
            }
            _ => {
                tracing::warn!(pool = %self.pool, kept, "source gives no backends: {trouble}; the last good set stays")
            }
        }
        self.trouble = Some(trouble);
    }

    /// Whether the last look was a good one.
    pub fn is_well(&self) -> bool {
        self.trouble.is_none() && self.told.is_some()
    }
}

/// By name, each once, weights within bounds.
fn in_order(mut all: Vec<Found>) -> Vec<Found> {
    // Stable, so that of one name the first is kept.
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.dedup_by(|later, first| later.name == first.name);
    all.iter_mut().for_each(|found| found.weight = found.weight.clamp(1, WEIGHT_MAX));
    all
}

// === impl Trouble ===

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Empty(what) | Trouble::Failed(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::pool::Endpoint;

    fn backend(name: &str) -> Found {
        Found::at(Endpoint { host: name.to_owned(), port: 11_800 })
    }

    type Told = Arc<Mutex<Vec<Vec<String>>>>;

    /// An announcer, and the names of each set it told.
    fn announcer() -> (Announcer, Told) {
        let told = Told::default();
        let to = Arc::clone(&told);
        let tell = move |all: Vec<Found>| {
            let names = all.into_iter().map(|found| found.endpoint.host).collect();
            to.lock().unwrap().push(names);
        };
        (Announcer::new("oap", tell), told)
    }

    #[test]
    fn a_set_is_told_once_whatever_its_order() {
        let (mut announcer, told) = announcer();
        announcer.found(vec![backend("b"), backend("a")]);
        announcer.found(vec![backend("a"), backend("b"), backend("a")]);
        assert_eq!(*told.lock().unwrap(), [["a", "b"]]);
        announcer.found(vec![Found { weight: 2, ..backend("a") }, backend("b")]);
        assert_eq!(told.lock().unwrap().len(), 2, "a weight is a change");
    }

    #[test]
    fn neither_an_empty_set_nor_a_failure_reaches_the_pool() {
        let (mut announcer, told) = announcer();
        announcer.failed(Trouble::Failed("no answer".to_owned()));
        assert!(!announcer.is_well());
        announcer.found(vec![backend("a")]);
        assert!(announcer.is_well());
        announcer.found(Vec::new());
        announcer.failed(Trouble::Failed("no answer".to_owned()));
        assert!(!announcer.is_well());
        announcer.found(vec![backend("a")]);
        assert!(announcer.is_well());
        assert_eq!(*told.lock().unwrap(), [["a"]]);
    }

    #[test]
    fn a_weight_beyond_its_bounds_is_brought_back() {
        let all = in_order(vec![Found { weight: 0, ..backend("a") }, Found { weight: 70_000, ..backend("b") }]);
        assert_eq!(all.iter().map(|found| found.weight).collect::<Vec<_>>(), [1, WEIGHT_MAX]);
    }

    #[test]
    fn every_look_is_counted_by_what_it_gave() {
        let prometheus = metrics::install();
        let mut announcer = Announcer::new("announced", |_| {});
        announcer.failed(Trouble::Failed("no answer".to_owned()));
        announcer.found(vec![backend("a"), backend("b")]);
        announcer.found(vec![backend("b"), backend("a")]);
        announcer.found(Vec::new());
        let text = prometheus.render();
        let value = |of: &str| {
            let line = text.lines().find(|line| line.contains("\"announced\"") && line.contains(of)).unwrap();
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        let counts = ["changed", "unchanged", "empty", "failed"].map(|result| value(&format!("result=\"{result}\"")));
        assert_eq!((counts, value("discovery_backends")), ([1.0; 4], 2.0));
        assert!(value("last_success_timestamp") > 1.7e9, "Unix time");
    }
}
