//! What is learned of a backend from its answers and from checks, and how all workers come to know.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::CheckOutcome;
use crate::pool::Settings;
use crate::pool::health::{Fault, Health};
use crate::pool::outlier::Standing;
use crate::wire::grpc::Code;

use super::{Backend, State};

/// So many times its usual answer time a backend may be silent while it owes something.
const SILENCE_FACTOR: u32 = 8;

/// What a backend owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// The answer to a trip that was half-closed.
    Answer,
    /// Room in a window that is closed. A receiver that takes a message at a time opens it by the half, so patience is longer.
    Room,
}

// === impl Owed ===

impl Owed {
    /// Below this, silence is no sign whatever is usual: a collector's garbage collection pauses it for a few hundred
    /// milliseconds.
    fn silence_min(self) -> Duration {
        match self {
            Owed::Answer => Duration::from_millis(500),
            Owed::Room => Duration::from_secs(1),
        }
    }
}

// === impl Backend ===

impl Backend {
    /// Whether something speaks against it, used or not.
    pub fn is_out(&self) -> bool {
        self.state().health.fault().is_some()
    }

    /// It joins others that are at work: its part grows from small to whole.
    pub fn start_slowly(&self) {
        self.update(Health::start_slowly);
    }

    /// Other settings hold from now on.
    pub fn reconfigure(&self, settings: &Settings) {
        self.update(|health, now| health.reconfigure(settings.health.clone(), now, fastrand::f64()));
    }

    /// What the pool decides by; `None` when it is not there to be decided about: drained, leaving or gone.
    pub fn standing(&self) -> Option<Standing> {
        let state = self.state();
        state.is_wanted().then(|| state.health.standing())
    }

    /// The pool's decision: whether it is used though it is judged.
    pub fn spare(&self, is_spared: bool) {
        self.update(|health, _| health.spare(is_spared));
    }

    /// A trip was answered `OK` so long after its half-close.
    pub fn answered(&self, waited: Duration) {
        let sample = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        // An eighth of the newest: about the last ten answers count. Lost updates between workers do not matter.
        let before = self.figures.answer_micros.load(Relaxed);
        let after = if before == 0 { sample } else { before - before / 8 + sample / 8 };
        self.figures.answer_micros.store(after, Relaxed);
        self.handles.trip_seconds.record(waited.as_secs_f64());
        self.answered_call();
    }

    /// A call of its own was answered `OK`. How long that took says nothing of trips.
    pub fn answered_call(&self) {
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.figures.last_answer_micros.store(now.max(1), Relaxed);
        self.handles.answers(Code::Ok.name()).increment(1);
        self.update(|health, _| health.answered());
    }

    /// A call of its own was answered with this. Only `UNAVAILABLE` speaks of the backend alone: the others may be about what
    /// that one caller asked for.
    pub fn answered_call_with(&self, code: Code) {
        match code {
            Code::Ok => self.answered_call(),
            Code::Unavailable => self.failed(code),
            code => self.refused(code, false),
        }
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

    /// Whether it has answered anything `OK` after this moment.
    pub fn has_answered_since(&self, moment: Instant) -> bool {
        self.last_answer().is_some_and(|last| last > moment)
    }

    /// When it last answered anything `OK`.
    fn last_answer(&self) -> Option<Instant> {
        let micros = self.figures.last_answer_micros.load(Relaxed);
        (micros > 0).then(|| self.started + Duration::from_micros(micros))
    }

    /// It has owed something since then: `late` is the most that may take. Nothing at all said for many times as long as
    /// is usual is suspicious. Cheap enough for every look at a trip's age.
    pub fn owes_since(&self, owed: Owed, since: Instant, late: Duration, now: Instant) {
        let usual = Duration::from_micros(self.figures.answer_micros.load(Relaxed));
        let enough = (usual * SILENCE_FACTOR).max(owed.silence_min()).min(late);
        let silent_since = self.last_answer().map_or(since, |last| last.max(since));
        if now >= silent_since + enough && self.is_up() {
            self.update(Health::suspect);
        }
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

    /// A check that began at `begun` is over; `found` is what is wrong.
    pub fn checked(&self, found: Option<Fault>, begun: Instant) {
        let outcome = if found.is_some() { CheckOutcome::Failed } else { CheckOutcome::Passed };
        self.handles.checks(outcome).increment(1);
        self.update(|health, now| health.checked(found, begun, now, fastrand::f64()));
    }

    /// Waits until a check is due. Cancel-safe.
    pub async fn check_due(&self) {
        loop {
            let moved = self.check_moved.notified();
            let check_at = self.state().health.check_at();
            match check_at {
                Some(at) if at <= Instant::now() => return,
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = moved => {}
                    }
                }
                None => moved.await,
            }
        }
    }

    /// Changes the health and tells everybody if the backend came or went.
    fn update(&self, change: impl FnOnce(&mut Health, Instant)) {
        self.change(|state, now| change(&mut state.health, now));
    }

    /// Changes the state and tells everybody if that matters to them.
    pub(super) fn change(&self, change: impl FnOnce(&mut State, Instant)) {
        let mut state = self.state();
        let now = Instant::now();
        let (before, fault, check_at) = (state.name(), state.health.fault(), state.health.check_at());
        change(&mut state, now);
        self.ramp.store(state.health.ramp(now), Relaxed);
        let (after, is_wanted, is_up) = (state.name(), state.is_wanted(), state.is_up());
        let new_fault = state.health.fault().filter(|new| fault != Some(*new));
        let is_moved = state.health.check_at() != check_at;
        self.wanted.store(is_wanted, Relaxed);
        let was_up = self.up.swap(is_up, Relaxed);
        if is_up && !was_up {
            state.up_since = now;
        }
        drop(state);
        if is_moved {
            self.check_moved.notify_one();
        }
        if let Some(fault) = new_fault {
            self.handles.ejections(fault).increment(1);
        }
        if before == after && is_up == was_up {
            return;
        }
        if is_up != was_up {
            self.handles.up.set(if is_up { 1.0 } else { 0.0 });
        }
        self.tell(before, after, is_up, new_fault);
        self.changed.send_modify(|epoch| *epoch += 1);
    }

    fn tell(&self, before: &str, after: &str, is_up: bool, new_fault: Option<Fault>) {
        let backend = &self.name;
        match new_fault {
            // It comes and goes with a method that takes its time; what comes of it is told.
            Some(Fault::Suspect) => {
                tracing::debug!(%backend, "backend owes answers and is silent: others get the new messages until it speaks");
            }
            None if before == Fault::Suspect.name() => tracing::debug!(%backend, after, "backend has answered"),
            Some(_) => tracing::warn!(%backend, before, fault = after, "backend is out: it gets no new messages"),
            None if is_up && after != "up" => {
                tracing::info!(%backend, state = after, "backend gets messages though it is not well or not warm");
            }
            None => tracing::info!(%backend, before, after, "backend has changed"),
        }
    }
}
