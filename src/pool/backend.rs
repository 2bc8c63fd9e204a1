//! One backend as all workers see it: its name, its health and the figures people ask for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::metrics;
use crate::wire::grpc::Code;

use super::balance::hash_of_name;
use super::found::Found;
use super::health::Health;
use super::{Endpoint, Settings};

/// How long a backend is believed not to serve a method; it may be upgraded.
const LACK_BELIEVED: Duration = Duration::from_secs(60);

/// A backend, shared by all workers.
pub struct Backend {
    /// As its source says it now; name and endpoint never change.
    found: ArcSwap<Found>,
    endpoint: Endpoint,
    name: String,
    name_hash: u64,
    /// What is said to it as `:authority`.
    authority: String,
    /// Counts the backends of a pool as they come.
    number: u32,
    state: Mutex<State>,
    /// A copy of what the state amounts to that the road reads without a lock. Race: a parcel may be sent to a backend
    /// that is being ejected at this moment; it is given back like any other.
    up: AtomicBool,
    /// Whether it may keep its channels, copied in the same way.
    wanted: AtomicBool,
    /// Tells the prober that the backend has gone out.
    went_out: Notify,
    /// Tells every worker that some backend came or went.
    changed: watch::Sender<u64>,
    /// Methods it answered UNIMPLEMENTED to, and until when that is believed.
    lacks: Mutex<Vec<(String, Instant)>>,
    /// Whether there is any, for the road to read without a lock.
    lacks_any: AtomicBool,
    figures: Figures,
    handles: metrics::Backend,
    started: Instant,
}

/// What speaks for and against sending it anything.
struct State {
    health: Health,
    /// The operator wants it to get nothing more.
    is_drained: bool,
    /// Its source says that it goes away.
    is_leaving: bool,
    /// Its source does not name it any more.
    is_gone: bool,
}

/// Running sums over all workers.
#[derive(Default)]
struct Figures {
    written_messages: AtomicU64,
    delivered_messages: AtomicU64,
    delivered_bytes: AtomicU64,
    in_flight_messages: AtomicU64,
    in_flight_bytes: AtomicU64,
    /// Smoothed time from half-close to answer, in microseconds.
    answer_micros: AtomicU64,
    /// When the last `OK` came, in microseconds since the start; 0 before the first.
    last_answer_micros: AtomicU64,
}

/// The figures of one backend at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackendFigures {
    /// See [`Found::name`].
    pub name: String,
    /// `up`, or why not.
    pub state: &'static str,
    /// Messages written to it, again-sent ones included.
    pub written_messages: u64,
    /// Messages it answered for.
    pub delivered_messages: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Messages written and unanswered.
    pub in_flight_messages: u64,
    /// Their bytes.
    pub in_flight_bytes: u64,
    /// Smoothed time from half-close to answer, in microseconds.
    pub answer_micros: u64,
}

// === impl Backend ===

impl Backend {
    /// A backend nobody has tried yet.
    pub fn new(found: Found, number: u32, settings: &Settings, changed: watch::Sender<u64>) -> Self {
        let name = found.name.clone();
        let handles = metrics::Backend::of(&settings.name, &name);
        let (health, is_leaving) = (Health::new(settings.eject_after), found.is_leaving);
        handles.up.set(if is_leaving { 0.0 } else { 1.0 });
        let named = found.server_name.as_ref().map(|host| Endpoint { host: host.clone(), port: found.endpoint.port });
        Self {
            endpoint: found.endpoint.clone(),
            authority: named.as_ref().unwrap_or(&found.endpoint).to_string(),
            found: ArcSwap::from_pointee(found),
            name_hash: hash_of_name(&name),
            name,
            number,
            state: Mutex::new(State { health, is_drained: false, is_leaving, is_gone: false }),
            up: AtomicBool::new(!is_leaving),
            wanted: AtomicBool::new(!is_leaving),
            went_out: Notify::new(),
            changed,
            lacks: Mutex::default(),
            lacks_any: AtomicBool::new(false),
            figures: Figures::default(),
            handles,
            started: Instant::now(),
        }
    }

    /// Its identity, see [`Found::name`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where to connect.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A number made from its name, the same on every replica.
    pub fn name_hash(&self) -> u64 {
        self.name_hash
    }

    /// What is said to it as `:authority`: whom its certificate names, or where it listens.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Its number among all backends its pool has had.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its bit in a set of backends. Of more than 64, two share one, and a refused message skips both.
    pub fn bit(&self) -> u64 {
        1 << (self.number % 64)
    }

    /// What its source says of it now.
    pub fn found(&self) -> Arc<Found> {
        self.found.load_full()
    }

    /// Its source says this of it from now on; name and endpoint are the same.
    pub fn describe(&self, found: Found) {
        let is_leaving = found.is_leaving;
        self.found.store(Arc::new(found));
        self.change(|state, _| state.is_leaving = is_leaving);
    }

    /// Its source does not name it any more.
    pub fn leave(&self) {
        self.change(|state, _| state.is_gone = true);
    }

    /// The operator wants it to get nothing more until [`Backend::undrain`]: what it has it finishes, its channels close.
    pub fn drain(&self) {
        self.change(|state, _| state.is_drained = true);
    }

    /// The operator wants it back.
    pub fn undrain(&self) {
        self.change(|state, _| state.is_drained = false);
    }

    /// Whether it may keep its channels; not when it is drained, leaving or gone.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    /// Whether it may be sent new messages.
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// Its metric handles.
    pub fn handles(&self) -> &metrics::Backend {
        &self.handles
    }

    /// The figures now. Each is exact, together they may be a moment apart.
    pub fn figures(&self) -> BackendFigures {
        let figures = &self.figures;
        BackendFigures {
            name: self.name.clone(),
            state: self.state().name(),
            written_messages: figures.written_messages.load(Relaxed),
            delivered_messages: figures.delivered_messages.load(Relaxed),
            delivered_bytes: figures.delivered_bytes.load(Relaxed),
            in_flight_messages: figures.in_flight_messages.load(Relaxed),
            in_flight_bytes: figures.in_flight_bytes.load(Relaxed),
            answer_micros: figures.answer_micros.load(Relaxed),
        }
    }

    /// Messages were written to it.
    pub fn wrote(&self, messages: u64, bytes: u64) {
        self.figures.written_messages.fetch_add(messages, Relaxed);
        self.figures.in_flight_messages.fetch_add(messages, Relaxed);
        self.figures.in_flight_bytes.fetch_add(bytes, Relaxed);
        self.handles.written_messages.increment(messages);
        self.handles.in_flight_messages.increment(messages as f64);
        self.handles.in_flight_bytes.increment(bytes as f64);
    }

    /// A trip is over, whatever came of it: its messages are no longer in flight.
    pub fn trip_over(&self, messages: u64, bytes: u64) {
        self.figures.in_flight_messages.fetch_sub(messages, Relaxed);
        self.figures.in_flight_bytes.fetch_sub(bytes, Relaxed);
        self.handles.in_flight_messages.decrement(messages as f64);
        self.handles.in_flight_bytes.decrement(bytes as f64);
        self.handles.trips.increment(1);
    }

    /// It answered for messages.
    pub fn delivered(&self, messages: u64, bytes: u64) {
        self.figures.delivered_messages.fetch_add(messages, Relaxed);
        self.figures.delivered_bytes.fetch_add(bytes, Relaxed);
        self.handles.messages.increment(messages);
        self.handles.bytes.increment(bytes);
    }

    /// It answered a relayed call.
    pub fn relayed(&self, messages: u64, bytes: u64) {
        self.figures.written_messages.fetch_add(messages, Relaxed);
        self.handles.written_messages.increment(messages);
        self.delivered(messages, bytes);
    }

    /// A trip was answered `OK` so long after its half-close.
    pub fn answered(&self, waited: Duration) {
        let sample = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        // An eighth of the newest: about the last ten answers count. Lost updates between workers do not matter.
        let before = self.figures.answer_micros.load(Relaxed);
        self.figures.answer_micros.store(before - before / 8 + sample / 8, Relaxed);
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.figures.last_answer_micros.store(now.max(1), Relaxed);
        self.handles.answers(Code::Ok.name()).increment(1);
        self.handles.trip_seconds.record(waited.as_secs_f64());
        self.state().health.answered();
    }

    /// A trip ended in an error that is the backend's.
    pub fn failed(&self, code: Code) {
        self.handles.answers(code.name()).increment(1);
        self.update(|health, now| health.failed(now));
    }

    /// A trip ended in an error that may be the messages' own. Said of trip after trip of messages nobody suspects, it
    /// is the backend's.
    pub fn refused(&self, code: Code, in_company: bool) {
        self.handles.answers(code.name()).increment(1);
        if in_company {
            self.update(|health, now| health.failed(now));
        }
    }

    /// It does not serve a method: believed for a while, so that an old collector in a mixed pool is not asked for it
    /// with every message.
    pub fn lack(&self, path: &str) {
        let mut lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + LACK_BELIEVED;
        match lacks.iter_mut().find(|(method, _)| method == path) {
            Some((_, believed)) => *believed = until,
            None => {
                tracing::warn!(backend = %self.name, method = path, "backend does not serve this method; others are asked");
                lacks.push((path.to_owned(), until));
            }
        }
        self.lacks_any.store(true, Relaxed);
    }

    /// Whether it is believed not to serve a method.
    pub fn lacks(&self, path: &str) -> bool {
        if !self.lacks_any.load(Relaxed) {
            return false;
        }
        let mut lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        lacks.retain(|(_, until)| *until > now);
        self.lacks_any.store(!lacks.is_empty(), Relaxed);
        lacks.iter().any(|(method, _)| method == path)
    }

    /// Whether a trip was answered `OK` after this moment.
    pub fn has_answered_since(&self, moment: Instant) -> bool {
        let micros = self.figures.last_answer_micros.load(Relaxed);
        micros > 0 && self.started + Duration::from_micros(micros) > moment
    }

    /// An answer did not come in time.
    pub fn late(&self) {
        self.update(|health, now| health.late(now));
    }

    /// A connection could not be opened or broke.
    pub fn unreachable(&self) {
        self.handles.connect_failures.increment(1);
        self.update(|health, now| health.unreachable(now, fastrand::f64()));
    }

    /// A connection was opened.
    pub fn connected(&self) {
        self.handles.connects.increment(1);
    }

    /// A probe is over.
    pub fn probed(&self, succeeded: bool) {
        self.update(|health, now| match succeeded {
            true => health.probe_succeeded(),
            false => health.probe_failed(now, fastrand::f64()),
        });
    }

    /// Waits until a probe is due. Cancel-safe.
    pub async fn probe_due(&self) {
        loop {
            let probe_at = self.state().health.probe_at();
            match probe_at {
                Some(at) => return tokio::time::sleep_until(at).await,
                None => self.went_out.notified().await,
            }
        }
    }

    /// Changes the health and tells everybody if the backend came or went.
    fn update(&self, change: impl FnOnce(&mut Health, Instant)) {
        self.change(|state, now| change(&mut state.health, now));
    }

    /// Changes the state and tells everybody if that matters to them.
    fn change(&self, change: impl FnOnce(&mut State, Instant)) {
        let mut state = self.state();
        let (before, fault) = (state.name(), state.health.fault());
        change(&mut state, Instant::now());
        let (after, is_wanted, is_up) = (state.name(), state.is_wanted(), state.is_up());
        let new_fault = state.health.fault().filter(|_| fault.is_none());
        self.wanted.store(is_wanted, Relaxed);
        let was_up = self.up.swap(is_up, Relaxed);
        drop(state);
        if let Some(fault) = new_fault {
            tracing::warn!(backend = %self.name, fault = fault.name(), "backend is out: it gets no new messages until a probe succeeds");
            self.handles.ejections.increment(1);
            self.went_out.notify_one();
        }
        if before == after {
            return;
        }
        if is_up != was_up {
            self.handles.up.set(if is_up { 1.0 } else { 0.0 });
        }
        if new_fault.is_none() {
            tracing::info!(backend = %self.name, before, after, "backend has changed");
        }
        self.changed.send_modify(|epoch| *epoch += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn is_wanted(&self) -> bool {
        !self.is_drained && !self.is_leaving && !self.is_gone
    }

    fn is_up(&self) -> bool {
        self.is_wanted() && self.health.fault().is_none()
    }

    /// `up`, or why not.
    fn name(&self) -> &'static str {
        match self.health.fault() {
            _ if self.is_gone => "gone",
            _ if self.is_drained => "draining",
            _ if self.is_leaving => "leaving",
            Some(fault) => fault.name(),
            None => "up",
        }
    }
}
