//! What all workers share of one pool: its settings, and who its backends are at this moment.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use super::Settings;
use super::backend::Backend;
use super::balance::affinity::Memory;
use super::found::Found;
use super::outlier::spared;

/// What all workers share of one pool.
pub struct Backends {
    settings: ArcSwap<Settings>,
    /// Those that are there, in the order of their source.
    list: ArcSwap<Vec<Arc<Backend>>>,
    /// Where keys went before, if that is kept.
    memory: ArcSwapOption<Memory>,
    /// Held by whoever changes the list.
    changing: Mutex<()>,
    /// Held by whoever reviews the judgements.
    reviewing: Mutex<()>,
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
            memory: ArcSwapOption::new(memory_of(&settings)),
            settings: ArcSwap::from_pointee(settings),
            list: ArcSwap::default(),
            changing: Mutex::default(),
            reviewing: Mutex::default(),
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
                    let backend = Arc::new(Backend::new(found, number, &settings, self.changed.clone()));
                    // Those who are first have nobody to leave the work to.
                    if !before.is_empty() {
                        backend.start_slowly();
                    }
                    backend
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

    /// Where keys went before, if that is kept.
    pub fn memory(&self) -> Option<Arc<Memory>> {
        self.memory.load_full()
    }

    /// The operator decided otherwise. Who the backends are is for [`Backends::found`] to say.
    pub fn reconfigure(&self, settings: Settings) {
        if self.settings().affinity != settings.affinity {
            self.memory.store(memory_of(&settings));
        }
        let settings = Arc::new(settings);
        self.settings.store(Arc::clone(&settings));
        self.all().iter().for_each(|backend| backend.reconfigure(&settings));
        self.tell();
    }

    /// Decides who of the judged is used all the same. Everybody who sees a change calls it; the last one to do so has seen
    /// all of them.
    pub fn review(&self) {
        let _reviewing = self.reviewing.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, settings) = (self.all(), self.settings());
        let standing: Vec<_> = all.iter().filter_map(|backend| Some((backend, backend.standing()?))).collect();
        let standings: Vec<_> = standing.iter().map(|(_, standing)| *standing).collect();
        let spared = spared(&standings, settings.health.eject_max, settings.health.panic_below);
        standing.iter().zip(spared).for_each(|((backend, _), is_spared)| backend.spare(is_spared));
    }

    /// The backend of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Backend>> {
        self.all().iter().find(|backend| backend.name() == name).cloned()
    }

    fn tell(&self) {
        self.changed.send_modify(|epoch| *epoch += 1);
    }
}

fn memory_of(settings: &Settings) -> Option<Arc<Memory>> {
    settings.affinity.as_ref().map(|affinity| Arc::new(Memory::new(affinity.entries_max, affinity.ttl)))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::pool::Endpoint;
    use crate::pool::backend::Owed;
    use crate::pool::health::Fault;
    use crate::wire::grpc::Code;

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

    /// A pool of backends that all took messages.
    fn pool_of(count: u16) -> Arc<Backends> {
        let endpoint = |port| Endpoint { host: "127.0.0.1".to_owned(), port };
        Backends::new(Settings::new("pool", (1..=count).map(endpoint).collect()))
    }

    /// Each of these passes the check that is due.
    async fn check(backends: &[Arc<Backend>]) {
        for backend in backends {
            backend.check_due().await;
            backend.checked(None, Instant::now());
        }
    }

    fn up(backends: &Backends) -> usize {
        backends.all().iter().filter(|backend| backend.is_up()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_that_is_late_as_a_whole_is_used_once_it_is_known_to_be_alive() {
        let backends = pool_of(3);
        let all = backends.all();
        all[0].late();
        backends.review();
        check(&all[..1]).await;
        assert_eq!(up(&backends), 2, "one late of three is out, alive or not");
        all.iter().for_each(|backend| backend.late());
        backends.review();
        assert_eq!(up(&backends), 1, "the one that has passed a check");
        check(&all[1..2]).await;
        assert_eq!(up(&backends), 2);
        all[2].checked(Some(Fault::Unreachable), Instant::now());
        backends.review();
        assert_eq!((up(&backends), all[2].figures().state), (2, "unreachable"), "a frozen one is never used");
    }

    #[tokio::test(start_paused = true)]
    async fn the_share_of_failing_backends_that_are_out_is_limited() {
        let mut settings = (*pool_of(5).settings()).clone();
        (settings.health.eject_max, settings.health.panic_below, settings.health.fall) = (40, 0, 1);
        let backends = Backends::new(settings);
        let all = backends.all();
        for backend in &all[..4] {
            backend.failed(Code::Unavailable);
            backends.review();
            tokio::time::advance(std::time::Duration::from_millis(1)).await;
        }
        check(&all[..4]).await;
        let is_up: Vec<bool> = all.iter().map(|backend| backend.is_up()).collect();
        assert_eq!(is_up, [false, false, true, true, true], "the first two to fail are out");
        all[4].drain();
        backends.review();
        let is_up: Vec<bool> = all.iter().map(|backend| backend.is_up()).collect();
        assert_eq!(is_up, [false, true, true, true, false], "40 of 100 of four is one: a drained one does not count");
    }

    #[tokio::test(start_paused = true)]
    async fn who_joins_others_starts_slowly_and_the_first_do_not() {
        let backends = pool_of(2);
        let mut found_now: Vec<Found> = backends.all().iter().map(|backend| (*backend.found()).clone()).collect();
        found_now.push(found("new", 9));
        backends.found(found_now);
        let all = backends.all();
        assert_eq!(all.iter().map(|backend| backend.ramp()).collect::<Vec<_>>(), [1_000, 1_000, 100]);
        assert_eq!((all[2].figures().state, all[2].is_up()), ("starting", true));
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        all[2].grow();
        assert_eq!(all[2].ramp(), 550);
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        all[2].grow();
        assert_eq!((all[2].ramp(), all[2].figures().state), (1_000, "up"));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_suspicious_by_what_is_usual_and_an_answer_ends_it() {
        let backends = pool_of(2);
        let (all, late) = (backends.all(), std::time::Duration::from_secs(30));
        let millis = std::time::Duration::from_millis;
        let owes = |owed, since| all[0].owes_since(owed, since, late, Instant::now());
        let since = Instant::now();
        tokio::time::advance(millis(499)).await;
        owes(Owed::Answer, since);
        assert_eq!(all[0].figures().state, "up");
        tokio::time::advance(millis(1)).await;
        owes(Owed::Room, since);
        assert_eq!(all[0].figures().state, "up", "a window may stay shut for longer");
        owes(Owed::Answer, since);
        assert_eq!((all[0].figures().state, all[0].is_up()), ("suspect", false));
        all[0].answered(millis(400));
        assert_eq!((all[0].figures().state, all[0].is_up()), ("up", true));
        let since = Instant::now();
        tokio::time::advance(millis(3_199)).await;
        owes(Owed::Answer, since);
        assert_eq!(all[0].figures().state, "up", "8 times the usual 400 ms");
        tokio::time::advance(millis(1)).await;
        owes(Owed::Answer, since);
        assert_eq!(all[0].figures().state, "suspect");
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
