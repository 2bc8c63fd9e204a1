//! What a channel does because time has passed: trips are closed, answers are late, lanes starve.

use std::future::Future;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use crate::wire::stream::{Break, BreakKind};

use super::Channel;
use crate::pool::lane::{Lane, LaneKey};
use crate::pool::trip::{Patience, Trip};

/// How often ages are looked at while a trip is open.
const TICK: Duration = Duration::from_millis(50);

/// How long a lane waits for a stream before its messages are given to another backend.
const STARVED_MAX: Duration = Duration::from_millis(500);

/// Lanes shown in a snapshot, per channel.
const LANES_SHOWN: usize = 32;

impl Channel {
    /// Looks at ages while there is anything that can age.
    pub(super) fn poll_tick(&mut self, cx: &mut Context<'_>, now: Instant) {
        let ages = self.old_at.is_some() && self.door.streams_open() > 0;
        let is_busy = ages
            || !self.trips.is_empty()
            || !self.lanes.is_empty()
            || !self.calls.is_empty()
            || self.retired.is_some();
        if is_busy && !self.is_ticking {
            self.is_ticking = true;
            self.tick.as_mut().reset(now + TICK);
        }
        while self.is_ticking && self.tick.as_mut().poll(cx).is_ready() {
            self.look_at_ages(now);
            self.look_at_own_age(now);
            if !self.connection.is_usable() {
                self.retire(now);
            }
            self.is_ticking = is_busy;
            self.tick.as_mut().reset(now + TICK);
        }
    }

    /// Closes trips that are due, reports silence and answers that are late and gives up on those that are too late.
    pub(super) fn look_at_ages(&mut self, now: Instant) {
        let pool = Rc::clone(&self.pool);
        let settings = &pool.settings().trip;
        self.close_trips(now, |trip| trip.is_due(settings, now) || pool.is_draining());
        let numbers: Vec<u64> = self.trips.keys().copied().collect();
        for number in numbers {
            let Some((_, trip)) = self.trips.get_mut(&number) else { continue };
            match trip.patience(settings, now) {
                Patience::InTime => {
                    if let Some((owed, since)) = trip.owed() {
                        self.member.backend().owes_since(owed, since, settings.answer_deadline, now);
                    }
                }
                Patience::Late => self.member.backend().late(),
                Patience::Over => {
                    trip.cancel();
                    let late = Break::new(BreakKind::Reset, "no answer before the hard deadline");
                    self.trip_over(number, Err(late), now);
                }
            }
        }
        let is_starved = |lane: &Lane| lane.starved_since.is_some_and(|since| now >= since + STARVED_MAX);
        let starved = self.lanes.values().any(is_starved);
        self.member.load.starved.set(starved && self.door.streams_open() == 0);
        if starved {
            self.give_back_waiting();
        }
        self.lanes.retain(|_, lane| !lane.is_done());
        self.door.show_lanes(self.lanes.values().take(LANES_SHOWN).map(Lane::figures).collect());
    }

    /// Closes the trips that are filling and of which this holds; their lanes open others when they need them.
    pub(super) fn close_trips(&mut self, now: Instant, holds: impl Fn(&Trip) -> bool) {
        let filling: Vec<(LaneKey, u64)> =
            self.lanes.iter().filter_map(|(key, lane)| lane.filling.map(|number| (*key, number))).collect();
        for (key, number) in filling {
            let Some((_, trip)) = self.trips.get_mut(&number).filter(|(_, trip)| holds(trip)) else { continue };
            trip.close(now);
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.filling = None;
            }
            self.pump(number, now);
        }
    }
}
