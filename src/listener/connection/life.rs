//! When a connection's time is up, and for what: the first call, its age, what is left of its calls, idleness.

use std::time::Duration;

use tokio::time::Instant;

use crate::listener::Limits;

/// How long a connection that was asked to go may take when nothing is open on it. A peer that is gone never answers.
const PARTING_MAX: Duration = Duration::from_secs(5);

/// The deadlines of one connection.
///
/// ```text
/// silent --first call--> at work --age, or idle--> leaving --grace--> its calls are ended
///    \--deadline--> over          (idle: no call for that long)   \--nothing open, and no answer--> over
/// ```
#[derive(Debug)]
pub struct Life {
    /// Until its first call.
    first_call_by: Option<Instant>,
    /// Until it was asked to leave.
    leaves_at: Option<Instant>,
    idle_max: Option<Duration>,
    grace: Option<Duration>,
    /// Since when no call has been open; `None` while one is.
    idle_since: Option<Instant>,
    /// Once it was asked to leave: when what is open is ended.
    calls_end_at: Option<Instant>,
    /// Once it was asked to leave, or never called: when it is closed unless a call is open.
    over_at: Option<Instant>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It never called: it is closed.
    Silent,
    /// It is old: it is asked to leave.
    Old,
    /// It has had no call for long: it is asked to leave.
    Idle,
    /// It was asked to leave long ago: its calls are ended.
    EndCalls,
    /// It was asked to leave, has nothing open and does not go: it is closed.
    Over,
}

// === impl Life ===

impl Life {
    /// A connection that begins now; `age_max` is its own, jitter included.
    pub fn begin(now: Instant, limits: &Limits, age_max: Option<Duration>) -> Self {
        Self {
            first_call_by: Some(now + limits.first_call_deadline),
            leaves_at: age_max.map(|age| now + age),
            idle_max: limits.connection_idle_max,
            grace: limits.connection_age_grace,
            idle_since: Some(now),
            calls_end_at: None,
            over_at: None,
        }
    }

    /// A call has begun.
    pub fn call_begun(&mut self) {
        self.first_call_by = None;
        self.idle_since = None;
    }

    /// The last open call has ended.
    pub fn idle(&mut self, now: Instant) {
        self.idle_since = Some(now);
        if self.has_left() {
            self.over_at = Some(now + PARTING_MAX);
        }
    }

    /// It was asked to leave, for whatever reason.
    pub fn left(&mut self, now: Instant) {
        self.leaves_at = None;
        self.idle_max = None;
        self.calls_end_at = self.grace.map(|grace| now + grace);
        self.over_at = Some(now + PARTING_MAX);
    }

    /// When to look again; nothing that happens meanwhile makes it earlier but [`Life::idle`] and [`Life::left`].
    pub fn next(&self, now: Instant) -> Option<Instant> {
        // While a call is open it is looked at as if idleness began now: one look more when it did.
        let idle_at = self.idle_max.map(|idle| self.idle_since.unwrap_or(now) + idle);
        let over_at = self.over_at.filter(|_| self.idle_since.is_some());
        let idle_at = idle_at.filter(|_| self.first_call_by.is_none());
        [self.first_call_by, self.leaves_at, idle_at, self.calls_end_at, over_at].into_iter().flatten().min()
    }

    /// What is due, one at a time.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let is_idle = self.idle_since.is_some();
        if is_past(self.first_call_by) {
            return Some(Due::Silent);
        }
        if is_idle && is_past(self.over_at) {
            return Some(Due::Over);
        }
        if is_past(self.calls_end_at) {
            self.calls_end_at = None;
            return Some(Due::EndCalls);
        }
        if is_past(self.leaves_at) {
            self.left(now);
            return Some(Due::Old);
        }
        let idle_at = self.idle_since.zip(self.idle_max).map(|(since, idle)| since + idle);
        if self.first_call_by.is_none() && is_past(idle_at) {
            self.left(now);
            return Some(Due::Idle);
        }
        None
    }

    fn has_left(&self) -> bool {
        self.over_at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(60);
    const GRACE: Duration = Duration::from_secs(20);
    const IDLE: Duration = Duration::from_secs(30);

    /// A life and its begin.
    fn life(grace: Option<Duration>, idle: Option<Duration>, age: Option<Duration>) -> (Life, Instant) {
        let limits = Limits { connection_age_grace: grace, connection_idle_max: idle, ..Limits::default() };
        let now = Instant::now();
        (Life::begin(now, &limits, age), now)
    }

    /// Everything that is due until nothing is left to wait for or `until`, with the seconds since `start`.
    fn course(life: &mut Life, start: Instant, until: u64) -> Vec<(u64, Due)> {
        let (mut said, mut now) = (Vec::new(), start);
        while let Some(next) = life.next(now).filter(|next| *next <= start + Duration::from_secs(until)) {
            now = next;
            while let Some(due) = life.due(now) {
                said.push(((now - start).as_secs(), due));
                if matches!(due, Due::Silent | Due::Over) {
                    return said;
                }
            }
        }
        said
    }

    #[test]
    fn a_connection_that_never_calls_is_over_at_its_deadline() {
        let (mut life, start) = life(None, Some(IDLE), Some(AGE));
        assert_eq!(course(&mut life, start, 100), [(10, Due::Silent)]);
    }

    #[test]
    fn an_old_connection_leaves_and_its_calls_end_after_the_grace() {
        let (mut life, start) = life(Some(GRACE), None, Some(AGE));
        life.call_begun();
        assert_eq!(course(&mut life, start, 1_000), [(60, Due::Old), (80, Due::EndCalls)]);
        life.idle(start + Duration::from_secs(81));
        assert_eq!(course(&mut life, start, 1_000), [(86, Due::Over)]);
    }

    #[test]
    fn without_a_grace_endless_calls_stay() {
        let (mut life, start) = life(None, Some(IDLE), Some(AGE));
        life.call_begun();
        assert_eq!(course(&mut life, start, 100_000), [(60, Due::Old)]);
    }

    #[test]
    fn idleness_counts_from_the_end_of_the_last_call() {
        let (mut life, start) = life(None, Some(IDLE), None);
        life.call_begun();
        assert_eq!(course(&mut life, start, 1_000), [], "it is never idle with a call open");
        life.idle(start + Duration::from_secs(7));
        assert_eq!(course(&mut life, start, 1_000), [(37, Due::Idle), (42, Due::Over)]);
    }

    #[test]
    fn a_call_that_begins_while_it_leaves_is_not_cut_off() {
        let (mut life, start) = life(None, Some(IDLE), None);
        life.call_begun();
        life.idle(start);
        assert_eq!(course(&mut life, start, 30), [(30, Due::Idle)]);
        life.call_begun();
        assert_eq!(course(&mut life, start, 1_000), []);
    }
}
