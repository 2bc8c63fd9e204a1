//! Whether a backend may be sent new messages: a pure state machine, the clock is passed in.
//!
//! ```text
//!                        `fall` checks in a row failed | no connection, or it broke in use
//!       ┌──────────────────────────────────────────────────────────────────────────────────┐
//!       │   silent: Suspect | an answer is late: Late | `fall` trips in a row: Failing     ▼
//!   Up ─┴──────────────────────────────▶ Out, judged ─────────────────a check failed────▶ Out, gone
//!    ▲ ▲                                  │     │                                          │
//!    │ └──Suspect: it answered────────────┘     │ its time has passed                      │
//!    └──────────────────────────────────────────┴──────`rise` checks in a row passed───────┘
//! ```
//!
//! Gone (unreachable, unhealthy) is what was seen to be so: nothing is sent there. Judged (suspect, late, failing) is an
//! opinion, and may be the opinion about everybody: the pool may spare such a backend, see
//! [`outlier`](super::outlier); then it is used while it is known to be alive.

use std::time::Duration;

use tokio::time::Instant;

pub use crate::metrics::Fault;

use super::check::Check;
use super::outlier::Standing;

/// What an operator decides about a pool's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSettings {
    /// How a backend is asked.
    pub check: Check,
    /// How often a backend that is up is asked, give or take a tenth; `None`: only those that are out are.
    pub interval: Option<Duration>,
    /// Time one check may take.
    pub timeout: Duration,
    /// Checks in a row that bring a backend back.
    pub rise: u32,
    /// Faults in a row, of trips or of checks, that take it out.
    pub fall: u32,
    /// The first ejection of a backend that is judged; it doubles each time in a row.
    pub ejection: Duration,
    /// The longest.
    pub ejection_max: Duration,
    /// Of a hundred backends, how many may be out because they are judged.
    pub eject_max: u32,
    /// With fewer of a hundred backends up, judged ones are used again.
    pub panic_below: u32,
    /// Time in which a backend that came or came back gets to its full part; zero gives it that at once.
    pub slow_start: Duration,
}

/// Back-off of checks of a backend that is gone: short, for a check is one connection by one prober a backend, and a
/// collector that is back should be in use within seconds.
const CHECK_WAIT_MIN: Duration = Duration::from_millis(100);
const CHECK_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long a failing backend that is used for want of a better one rests after it has failed again; doubles each time.
/// Without a rest everything held would run in circles as fast as errors come.
const REST_MIN: Duration = Duration::from_millis(250);
const REST_MAX: Duration = Duration::from_secs(2);

/// How long a suspicion holds that is neither confirmed nor disproved.
const SUSPICION_MAX: Duration = Duration::from_secs(5);

/// Answers `OK` in a row after which earlier ejections are forgotten.
const FORGIVEN_AFTER: u32 = 16;

/// Checks are this much more frequent while they disagree with what was believed.
const QUICKER: u32 = 5;

/// How often backends are checked where no interval is set and checks are due nevertheless.
const INTERVAL: Duration = Duration::from_secs(5);

/// The part a backend begins with, in thousandths.
const RAMP_FROM: u32 = 100;

/// The whole, in thousandths.
pub const RAMP_TO: u32 = 1_000;

/// What is known of one backend.
#[derive(Debug)]
pub struct Health {
    settings: HealthSettings,
    state: State,
    /// When it came up last, while it still starts slowly.
    starting_since: Option<Instant>,
    /// The pool would rather use it than do without.
    is_spared: bool,
    check_at: Option<Instant>,
    faults_in_row: u32,
    answers_in_row: u32,
    ejections_in_row: u32,
    rests_in_row: u32,
    /// In a row, whatever happened in between.
    checks_failed: u32,
    /// In a row since it went out.
    checks_passed: u32,
    /// Waits between checks since it was gone.
    waits: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Out {
        fault: Fault,
        since: Instant,
        /// It does not come back before.
        until: Instant,
        /// Something it said since then shows that it lives; without that it is never spared.
        is_alive: bool,
    },
}

// === impl Health ===

impl Health {
    /// A backend nobody has tried yet counts as up. `jitter` is drawn evenly from 0 to 1, here and everywhere.
    pub fn new(settings: HealthSettings, now: Instant, jitter: f64) -> Self {
        // The checks of many backends should not all come at once.
        let check_at = settings.interval.map(|interval| now + interval.mul_f64(jitter) / QUICKER);
        Self {
            settings,
            state: State::Up,
            starting_since: None,
            is_spared: false,
            check_at,
            faults_in_row: 0,
            answers_in_row: 0,
            ejections_in_row: 0,
            rests_in_row: 0,
            checks_failed: 0,
            checks_passed: 0,
            waits: 0,
        }
    }

    /// It joins others that are at work: its part grows from small to whole.
    pub fn start_slowly(&mut self, now: Instant) {
        self.starting_since = (!self.settings.slow_start.is_zero()).then_some(now);
    }

    /// Other settings hold from now on; what is known stays.
    pub fn reconfigure(&mut self, settings: HealthSettings, now: Instant, jitter: f64) {
        self.settings = settings;
        if self.state == State::Up {
            self.check_at = self.settings.interval.map(|interval| now + interval.mul_f64(jitter) / QUICKER);
        }
    }

    /// Why it is out; `None` when it is up.
    pub fn fault(&self) -> Option<Fault> {
        match self.state {
            State::Up => None,
            State::Out { fault, .. } => Some(fault),
        }
    }

    /// Whether it may be sent new messages.
    pub fn is_usable(&self) -> bool {
        match self.state {
            State::Up => true,
            State::Out { fault, is_alive, .. } => fault.is_judgement() && is_alive && self.is_spared,
        }
    }

    /// What the pool decides by.
    pub fn standing(&self) -> Standing {
        match self.state {
            State::Up => Standing::Up,
            State::Out { fault, since, .. } if fault.is_judgement() => Standing::Judged { since },
            State::Out { .. } => Standing::Gone,
        }
    }

    /// The pool's decision: whether it is used though it is judged.
    pub fn spare(&mut self, is_spared: bool) {
        self.is_spared = is_spared;
    }

    /// When the next check is due; `None`: there is nothing to ask.
    pub fn check_at(&self) -> Option<Instant> {
        self.check_at
    }

    /// Whether it still starts slowly.
    pub fn is_starting(&self) -> bool {
        self.starting_since.is_some()
    }

    /// Its part of what it would get otherwise, in thousandths; less than all while it starts slowly.
    pub fn ramp(&mut self, now: Instant) -> u32 {
        let Some(since) = self.starting_since else { return RAMP_TO };
        let part = ramp(now.saturating_duration_since(since), self.settings.slow_start);
        if part >= RAMP_TO {
            self.starting_since = None;
        }
        part
    }

    /// A trip or a call was answered `OK`.
    pub fn answered(&mut self) {
        self.faults_in_row = 0;
        self.rests_in_row = 0;
        self.answers_in_row = self.answers_in_row.saturating_add(1);
        if self.answers_in_row >= FORGIVEN_AFTER {
            self.ejections_in_row = 0;
        }
        match &mut self.state {
            State::Out { fault: Fault::Suspect, .. } => self.come_back(),
            State::Out { is_alive, .. } => *is_alive = true,
            State::Up => {}
        }
    }

    /// A trip or a call ended in an error that is the backend's.
    pub fn failed(&mut self, now: Instant) {
        self.answers_in_row = 0;
        self.faults_in_row = self.faults_in_row.saturating_add(1);
        let is_enough = self.faults_in_row >= self.settings.fall;
        match &mut self.state {
            State::Up | State::Out { fault: Fault::Suspect, .. } if is_enough => self.eject(Fault::Failing, now),
            State::Out { fault, is_alive, .. } if *is_alive && *fault != Fault::Suspect => {
                *is_alive = false;
                self.checks_passed = 0;
                self.check_at = Some(now + self.rest());
            }
            _ => {}
        }
    }

    /// An answer did not come in time.
    pub fn late(&mut self, now: Instant) {
        self.answers_in_row = 0;
        if matches!(self.state, State::Up | State::Out { fault: Fault::Suspect, .. }) {
            self.eject(Fault::Late, now);
        }
    }

    /// It owes answers and has been silent for longer than is usual for it. Not a fault yet, and nothing that counts.
    pub fn suspect(&mut self, now: Instant) {
        if self.state == State::Up {
            self.go_out(Fault::Suspect, now, now + SUSPICION_MAX, now);
        }
    }

    /// A connection could not be opened or broke in use.
    pub fn unreachable(&mut self, now: Instant, jitter: f64) {
        self.answers_in_row = 0;
        if self.standing() != Standing::Gone {
            self.go_out(Fault::Unreachable, now, now, now + check_wait(0, jitter));
        }
    }

    /// A check that began at `begun` is over, and this is what it found wrong.
    pub fn checked(&mut self, found: Option<Fault>, begun: Instant, now: Instant, jitter: f64) {
        match found {
            None => self.check_passed(begun, now, jitter),
            Some(fault) => self.check_failed(fault, now, jitter),
        }
    }

    fn check_passed(&mut self, begun: Instant, now: Instant, jitter: f64) {
        self.checks_failed = 0;
        match &mut self.state {
            State::Up => self.check_at = self.settings.interval.map(|interval| now + around(interval, jitter)),
            // It speaks of the time before.
            State::Out { since, .. } if begun < *since => self.check_at = self.check_at.max(Some(now)),
            // A rest is not to be cut short by a check that began before it.
            State::Out { fault: Fault::Failing, is_alive: false, .. } if self.check_at > Some(begun) => {}
            State::Out { is_alive, until, .. } => {
                *is_alive = true;
                self.checks_passed = self.checks_passed.saturating_add(1);
                let (until, quick) = (*until, self.quick());
                if now < until {
                    self.check_at = Some(until.min(now + quick));
                } else if self.checks_passed >= self.settings.rise {
                    self.come_back();
                    self.start_slowly(now);
                    self.check_at = self.settings.interval.map(|interval| now + around(interval, jitter));
                } else {
                    self.check_at = Some(now + quick);
                }
            }
        }
    }

    fn check_failed(&mut self, fault: Fault, now: Instant, jitter: f64) {
        self.checks_passed = 0;
        self.checks_failed = self.checks_failed.saturating_add(1);
        match self.standing() {
            Standing::Up if self.checks_failed < self.settings.fall => self.check_at = Some(now + self.quick()),
            Standing::Up | Standing::Judged { .. } => self.go_out(fault, now, now, now + check_wait(0, jitter)),
            Standing::Gone => {
                if let State::Out { fault: before, .. } = &mut self.state {
                    *before = fault;
                }
                self.waits = self.waits.saturating_add(1);
                self.check_at = Some(now + check_wait(self.waits, jitter));
            }
        }
    }

    fn eject(&mut self, fault: Fault, now: Instant) {
        let settings = &self.settings;
        let time = settings.ejection.saturating_mul(1 << self.ejections_in_row.min(10)).min(settings.ejection_max);
        self.ejections_in_row = self.ejections_in_row.saturating_add(1);
        // One that has just said no is alive, and is not to be bothered; one that says nothing may be dead.
        let check_at = if fault == Fault::Failing { now + self.rest() } else { now };
        self.go_out(fault, now, now + time, check_at);
    }

    fn go_out(&mut self, fault: Fault, now: Instant, until: Instant, check_at: Instant) {
        self.state = State::Out { fault, since: now, until, is_alive: false };
        self.starting_since = None;
        self.check_at = Some(check_at);
        (self.checks_passed, self.waits) = (0, 0);
    }

    fn come_back(&mut self) {
        self.state = State::Up;
        self.faults_in_row = 0;
    }

    fn rest(&mut self) -> Duration {
        let rest = REST_MIN.saturating_mul(1 << self.rests_in_row.min(10)).min(REST_MAX);
        self.rests_in_row = self.rests_in_row.saturating_add(1);
        rest
    }

    /// Between checks that disagree with what was believed.
    fn quick(&self) -> Duration {
        self.settings.interval.unwrap_or(INTERVAL) / QUICKER
    }
}

/// The part of a backend that came so long ago, in thousandths: from a tenth to all, evenly over `slow_start`.
pub fn ramp(since: Duration, slow_start: Duration) -> u32 {
    if since >= slow_start {
        return RAMP_TO;
    }
    let grown = since.as_nanos() * u128::from(RAMP_TO - RAMP_FROM) / slow_start.as_nanos();
    RAMP_FROM + grown as u32
}

/// Full jitter, but never less than half: a wait near zero would be no wait.
fn check_wait(failed: u32, jitter: f64) -> Duration {
    let ceiling = CHECK_WAIT_MIN.saturating_mul(1 << failed.min(10)).min(CHECK_WAIT_MAX);
    ceiling.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// Give or take a tenth.
fn around(interval: Duration, jitter: f64) -> Duration {
    interval.mul_f64(0.9 + jitter.clamp(0.0, 1.0) / 5.0)
}

impl Fault {
    /// Whether it is an opinion, which the whole pool may be under, rather than something seen.
    pub fn is_judgement(self) -> bool {
        matches!(self, Fault::Failing | Fault::Late | Fault::Suspect)
    }
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            check: Check::default(),
            interval: None,
            timeout: Duration::from_secs(2),
            rise: 1,
            fall: 3,
            ejection: Duration::from_secs(1),
            ejection_max: Duration::from_secs(30),
            eject_max: 50,
            panic_below: 50,
            slow_start: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests;
