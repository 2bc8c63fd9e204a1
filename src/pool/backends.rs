//! What all workers share of one pool: its settings, and who its backends are at this moment.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Settings;
use super::backend::Backend;
use super::found::Found;

/// What all workers share of one pool.
pub struct Backends {
    settings: ArcSwap<Settings>,
    /// Those that are there, in the order of their source.
    list: ArcSwap<Vec<Arc<Backend>>>,
    /// Held by whoever changes the list.
    changing: Mutex<()>,
    next_number: AtomicU32,
    /// Counts changes: of the list, of the settings, and of who is up.
    changed: watch::Sender<u64>,
}

/// Who came and who went, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Those that are new.
    pub came: Vec<String>,
    /// Those that are gone.
    pub went: Vec<String>,
}

// === impl Backends ===

impl Backends {
    /// The backends that the operator named, none of them tried yet.
    pub fn new(settings: Settings) -> Arc<Self> {
        let found = settings.backends.clone();
        let backends = Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            list: ArcSwap::default(),
            changing: Mutex::default(),
            next_number: AtomicU32::new(0),
            changed: watch::Sender::new(0),
        });
        backends.found(found);
        backends
    }

    /// What the operator decided.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Every backend that is there, in the order of its source.
    pub fn all(&self) -> Arc<Vec<Arc<Backend>>> {
        self.list.load_full()
    }

    /// Woken at each change of the list, of the settings or of who is up; the number grows with each.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The source says who is there now; all of them, and of two with one name the first. One that is gone gets nothing
    /// more: what it has it may finish. A name with another endpoint is another backend.
    pub fn found(&self, all: Vec<Found>) -> Change {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, settings) = (self.all(), self.settings());
        let mut now: Vec<Arc<Backend>> = Vec::with_capacity(all.len());
        let mut change = Change::default();
        for found in all {
            if now.iter().any(|backend| backend.name() == found.name) {
                continue;
            }
            let same = |backend: &&Arc<Backend>| backend.name() == found.name && *backend.endpoint() == found.endpoint;
            let backend = match before.iter().find(same) {
                Some(backend) => {
                    backend.describe(found);
                    Arc::clone(backend)
                }
                None => {
                    change.came.push(found.name.clone());
                    let number = self.next_number.fetch_add(1, Relaxed);
                    Arc::new(Backend::new(found, number, &settings, self.changed.clone()))
                }
            };
            now.push(backend);
        }
        for gone in before.iter().filter(|old| !now.iter().any(|backend| Arc::ptr_eq(old, backend))) {
            change.went.push(gone.name().to_owned());
            gone.leave();
        }
        if change != Change::default() && !before.is_empty() {
            tracing::info!(pool = settings.name, came = ?change.came, went = ?change.went, "the backends have changed");
        }
        self.list.store(Arc::new(now));
        self.tell();
        change
    }

    /// The operator decided otherwise. Who the backends are is for [`Backends::found`] to say.
    pub fn reconfigure(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.tell();
    }

    /// The backend of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Backend>> {
        self.all().iter().find(|backend| backend.name() == name).cloned()
    }

    fn tell(&self) {
        self.changed.send_modify(|epoch| *epoch += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Endpoint;

    fn found(name: &str, port: u16) -> Found {
        Found { name: name.to_owned(), ..Found::at(Endpoint { host: "127.0.0.1".to_owned(), port }) }
    }

    fn names(backends: &Backends) -> Vec<String> {
        backends.all().iter().map(|backend| backend.name().to_owned()).collect()
    }

    #[test]
    fn who_stays_keeps_its_state_whatever_the_order() {
        let backends = Backends::new(Settings::new("pool", Vec::new()));
        backends.found(vec![found("a", 1), found("b", 2)]);
        let (a, b) = (backends.find("a").unwrap(), backends.find("b").unwrap());
        let change = backends.found(vec![found("c", 3), found("b", 2), found("a", 1), found("a", 1)]);
        assert_eq!(change, Change { came: vec!["c".to_owned()], went: Vec::new() });
        assert_eq!(names(&backends), ["c", "b", "a"]);
        assert!(Arc::ptr_eq(&a, &backends.find("a").unwrap()) && Arc::ptr_eq(&b, &backends.find("b").unwrap()));
    }

    #[test]
    fn a_name_at_another_address_is_another_backend() {
        let backends = Backends::new(Settings::new("pool", Vec::new()));
        backends.found(vec![found("pod-0", 1)]);
        let old = backends.find("pod-0").unwrap();
        let change = backends.found(vec![found("pod-0", 2)]);
        assert_eq!(change, Change { came: vec!["pod-0".to_owned()], went: vec!["pod-0".to_owned()] });
        assert!(!old.is_up() && backends.find("pod-0").unwrap().is_up());
    }

    #[test]
    fn one_that_leaves_is_not_up_and_is_when_it_stays_after_all() {
        let backends = Backends::new(Settings::new("pool", Vec::new()));
        backends.found(vec![found("a", 1)]);
        let a = backends.find("a").unwrap();
        backends.found(vec![Found { is_leaving: true, ..found("a", 1) }]);
        assert!(!a.is_up() && !a.is_wanted());
        backends.found(vec![found("a", 1)]);
        assert!(a.is_up() && a.is_wanted());
    }

    #[test]
    fn one_that_is_drained_stays_so_until_it_is_undrained() {
        let backends = Backends::new(Settings::new("pool", Vec::new()));
        backends.found(vec![found("a", 1)]);
        let a = backends.find("a").unwrap();
        a.drain();
        backends.found(vec![found("a", 1)]);
        assert_eq!((a.is_up(), a.figures().state), (false, "draining"));
        a.undrain();
        assert_eq!((a.is_up(), a.figures().state), (true, "up"));
    }
}
