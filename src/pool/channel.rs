//! A channel: one outbound connection and the task that owns it, with its lanes, trips and ledgers.
//!
//! The task waits in one place, [`Channel::poll`], and changes things in functions that do not wait. Work arrives
//! through the [`Door`]; what cannot be carried to its end goes back to the pool, never away.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Sleep};

use crate::message::parcel::Parcel;
use crate::wire::client::{Answer, Connection};
use crate::wire::grpc::{Code, Status};
use crate::wire::stream::{Break, BreakKind};

use super::door::{CallErrand, Door, Errand, OpenCall};
use super::lane::{Lane, LaneKey};
use super::trip::{Patience, Trip};
use super::{Outcome, Pool};

/// How often ages are looked at while a trip is open.
const TICK: Duration = Duration::from_millis(50);

/// How long a lane waits for a stream before its messages are given to another backend.
const STARVED_MAX: Duration = Duration::from_millis(500);

/// Lanes shown in a snapshot, per channel.
const LANES_SHOWN: usize = 32;

/// One outbound connection at work.
pub struct Channel {
    pool: Rc<Pool>,
    /// Which of the pool's backends this is.
    member: usize,
    door: Rc<Door>,
    connection: Connection,
    lanes: HashMap<LaneKey, Lane>,
    /// Lanes with parcels that are not loaded yet.
    waiting_lanes: Vec<LaneKey>,
    trips: HashMap<u64, (LaneKey, Trip)>,
    /// Trips that wait for the peer's window.
    blocked: Vec<u64>,
    answers: FuturesUnordered<TripAnswer>,
    /// Calls that wait for a stream.
    calls: VecDeque<CallErrand>,
    next_trip: u64,
    tick: Pin<Box<Sleep>>,
    is_ticking: bool,
    /// The peer said GOAWAY: what is open goes on, nothing new begins.
    retired: bool,
}

/// Waits for the answer to one trip.
struct TripAnswer {
    trip: u64,
    answer: Answer,
}

impl Future for TripAnswer {
    type Output = (u64, Result<Status, Break>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let trip = self.trip;
        self.answer.poll_status(cx).map(|outcome| (trip, outcome))
    }
}

// === impl Channel ===

impl Channel {
    /// Connects and then works until the connection is gone; whatever is unfinished goes back to the pool.
    pub async fn run(pool: Rc<Pool>, member: usize, door: Rc<Door>) {
        let backend = Arc::clone(pool.backend(member));
        let endpoint = backend.endpoint();
        match Connection::open(&endpoint.host, endpoint.port, pool.settings().connect_deadline).await {
            Ok(connection) => {
                backend.connected();
                let mut channel = Self::new(pool, member, door, connection);
                let lost = poll_fn(|cx| channel.poll(cx)).await;
                channel.end(lost);
            }
            Err(error) => {
                tracing::debug!(backend = backend.name(), %error, "cannot connect");
                backend.unreachable();
                door.close();
                give_back_inbox(&pool, member, &door);
            }
        }
    }

    fn new(pool: Rc<Pool>, member: usize, door: Rc<Door>, connection: Connection) -> Self {
        Self {
            pool,
            member,
            door,
            connection,
            lanes: HashMap::new(),
            waiting_lanes: Vec::new(),
            trips: HashMap::new(),
            blocked: Vec::new(),
            answers: FuturesUnordered::new(),
            calls: VecDeque::new(),
            next_trip: 0,
            tick: Box::pin(tokio::time::sleep(Duration::ZERO)),
            is_ticking: false,
            retired: false,
        }
    }

    /// The one place that waits. Order matters: what was read is settled first, then new work is loaded, and the
    /// connection is driven last, so that one pass takes everything from the inbox to the socket.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Break> {
        self.door.listen(cx);
        let now = Instant::now();
        while let Poll::Ready(Some((trip, outcome))) = self.answers.poll_next_unpin(cx) {
            self.trip_over(trip, outcome, now);
        }
        self.take_errands();
        self.load_lanes(now);
        self.open_calls();
        if self.door.take_hurry() {
            self.close_trips(now, |_| true);
        }
        self.poll_blocked(cx, now);
        self.poll_tick(cx, now);
        if let Poll::Ready(lost) = self.connection.poll(cx) {
            return Poll::Ready(lost);
        }
        if self.retired && self.trips.is_empty() && self.door.streams_open() == 0 {
            return Poll::Ready(Break::new(BreakKind::NotProcessed, "the backend asked us to go (GOAWAY)"));
        }
        Poll::Pending
    }

    /// Sorts the inbox into lanes.
    fn take_errands(&mut self) {
        while let Some(errand) = self.door.next_errand() {
            match errand {
                Errand::Call(call) => self.calls.push_back(call),
                Errand::Parcel(parcel) => {
                    let key = LaneKey::of(&parcel);
                    let lane = self.lanes.entry(key).or_insert_with(|| Lane::for_parcel(&parcel));
                    if lane.is_empty() {
                        self.waiting_lanes.push(key);
                    }
                    lane.enqueue(parcel);
                }
            }
        }
    }

    /// Loads what waits onto trips, opening them as the peer allows, and sends.
    fn load_lanes(&mut self, now: Instant) {
        let mut starved = false;
        for key in std::mem::take(&mut self.waiting_lanes) {
            if !self.load_lane(key, now) {
                starved = true;
                self.waiting_lanes.push(key);
            }
        }
        self.door.set_starved(starved || !self.calls.is_empty());
        if self.retired {
            self.give_back_waiting();
        }
    }

    /// Loads one lane; answers whether nothing of it waits any more.
    fn load_lane(&mut self, key: LaneKey, now: Instant) -> bool {
        loop {
            let Some(lane) = self.lanes.get(&key).filter(|lane| !lane.is_empty()) else {
                return true;
            };
            let Some(number) = lane.filling.or_else(|| self.open_trip(key, now)) else {
                let lane = self.lanes.get_mut(&key).expect("seen above");
                lane.starved_since.get_or_insert(now);
                return false;
            };
            let (lane, settings) = (self.lanes.get_mut(&key).expect("seen above"), self.pool.settings());
            let (_, trip) = self.trips.get_mut(&number).expect("a filling trip is a trip");
            let load = self.pool.load(self.member);
            let (messages, bytes) = (trip.messages(), trip.bytes());
            trip.expect(lane.queue_bytes().min(settings.trip.bytes_max));
            while let Some(parcel) = lane.pop() {
                load.wait_over(&parcel);
                trip.load(parcel, now);
                if trip.is_full(&settings.trip) || lane.is_suspect() {
                    trip.close(now);
                    break;
                }
            }
            if !trip.is_filling() {
                lane.filling = None;
            }
            let (messages, bytes) = (trip.messages() - messages, trip.bytes() - bytes);
            self.pool.backend(self.member).wrote(messages, bytes as u64);
            self.pump(number, now);
        }
    }

    /// Opens a stream for a lane; `None` when the peer allows no more, or is going away.
    fn open_trip(&mut self, key: LaneKey, now: Instant) -> Option<u64> {
        let lane = self.lanes.get_mut(&key)?;
        if self.retired || self.door.streams_open() >= self.connection.streams_max() {
            return None;
        }
        let head = lane.head(self.pool.backend(self.member).name());
        match self.connection.call(head) {
            Ok((outflow, answer)) => {
                let number = self.next_trip;
                self.next_trip += 1;
                lane.filling = Some(number);
                lane.starved_since = None;
                lane.trips_open += 1;
                self.trips.insert(number, (key, Trip::new(outflow, self.door.take_stream(), now)));
                self.answers.push(TripAnswer { trip: number, answer });
                Some(number)
            }
            Err(_) => {
                self.retire();
                None
            }
        }
    }

    /// Opens the calls that wait, as many as the peer allows.
    fn open_calls(&mut self) {
        while self.door.streams_open() < self.connection.streams_max() && !self.retired {
            let Some(errand) = self.calls.pop_front() else { return };
            if errand.opened.is_closed() {
                continue;
            }
            match self.connection.call(errand.head) {
                Ok((outflow, answer)) => {
                    let call = OpenCall { outflow, answer, slot: self.door.take_stream() };
                    // Nobody waits any more: dropping the call cancels it.
                    let _ = errand.opened.send(call);
                }
                Err(_) => self.retire(),
            }
        }
    }

    /// Sends what the window of one trip has room for.
    fn pump(&mut self, number: u64, now: Instant) {
        let Some((_, trip)) = self.trips.get_mut(&number) else { return };
        // A stream that is gone says so in its answer; nothing is lost by not looking here.
        let _ = trip.pump(now);
        if trip.is_blocked() && !self.blocked.contains(&number) {
            self.blocked.push(number);
        }
        self.show_blocked();
    }

    /// Goes on with the trips whose window has opened.
    fn poll_blocked(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.blocked.is_empty() {
            return;
        }
        self.blocked.retain(|number| {
            let Some((_, trip)) = self.trips.get_mut(number) else { return false };
            while trip.poll_room(cx).is_ready() {
                if trip.pump(now).is_err() {
                    return false;
                }
                if !trip.is_blocked() {
                    return false;
                }
            }
            true
        });
        self.show_blocked();
    }

    /// A trip's stream has ended, one way or the other.
    fn trip_over(&mut self, number: u64, outcome: Result<Status, Break>, now: Instant) {
        let Some((key, trip)) = self.trips.remove(&number) else { return };
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.trips_open -= 1;
            if lane.filling == Some(number) {
                lane.filling = None;
            }
        }
        let backend = self.pool.backend(self.member);
        let (messages, bytes) = (trip.messages(), trip.bytes());
        backend.trip_over(messages, bytes as u64);
        let half_closed_for = trip.half_closed_for(now);
        let outcome = match outcome {
            Ok(Status { code: Code::Ok, .. }) => match half_closed_for {
                Some(waited) => {
                    backend.answered(waited);
                    backend.delivered(messages, bytes as u64);
                    Outcome::Delivered
                }
                None => {
                    tracing::debug!(backend = backend.name(), "answered OK before the stream was half-closed");
                    backend.failed(Code::Ok);
                    Outcome::Unknown
                }
            },
            Ok(status) if is_backend_fault(status.code) => {
                tracing::debug!(backend = backend.name(), %status, "trip failed");
                backend.failed(status.code);
                Outcome::Unknown
            }
            Ok(status) => {
                tracing::debug!(backend = backend.name(), %status, "trip refused");
                backend.refused(status.code);
                Outcome::Refused
            }
            Err(Break { kind: BreakKind::NotProcessed, .. }) => Outcome::NotProcessed,
            Err(_) if !trip.sent_anything() => Outcome::NotProcessed,
            Err(Break { kind: BreakKind::ConnectionLost, .. }) => Outcome::Unknown,
            Err(lost) => {
                tracing::debug!(backend = backend.name(), %lost, "trip broken");
                backend.failed(Code::Internal);
                Outcome::Unknown
            }
        };
        self.settle(trip, outcome);
    }

    /// Takes a trip's messages off this channel.
    fn settle(&mut self, trip: Trip, outcome: Outcome) {
        let load = self.pool.load(self.member);
        load.held.set(load.held.get() - trip.bytes());
        self.door.let_go(trip.messages());
        let ledger = trip.into_ledger();
        match outcome {
            Outcome::Delivered => ledger.settle(),
            outcome => ledger.give_back().for_each(|parcel| self.pool.give_back(parcel, self.member, outcome)),
        }
        self.show_blocked();
        self.pool.room_changed();
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>, now: Instant) {
        let is_busy = !self.trips.is_empty() || !self.lanes.is_empty() || !self.calls.is_empty();
        if is_busy && !self.is_ticking {
            self.is_ticking = true;
            self.tick.as_mut().reset(now + TICK);
        }
        while self.is_ticking && self.tick.as_mut().poll(cx).is_ready() {
            self.look_at_ages(now);
            if !self.connection.poll_usable(cx) {
                self.retire();
            }
            self.is_ticking = is_busy;
            self.tick.as_mut().reset(now + TICK);
        }
    }

    /// Closes trips that are due, reports answers that are late and gives up on those that are too late.
    fn look_at_ages(&mut self, now: Instant) {
        let pool = Rc::clone(&self.pool);
        let settings = &pool.settings().trip;
        self.close_trips(now, |trip| trip.is_due(settings, now) || pool.is_draining());
        let numbers: Vec<u64> = self.trips.keys().copied().collect();
        for number in numbers {
            let Some((_, trip)) = self.trips.get_mut(&number) else { continue };
            match trip.patience(settings, now) {
                Patience::InTime => {}
                Patience::Late => pool.backend(self.member).late(),
                Patience::Over => {
                    trip.cancel();
                    let late = Break::new(BreakKind::Reset, "no answer before the hard deadline");
                    self.trip_over(number, Err(late), now);
                }
            }
        }
        let is_starved = |lane: &Lane| lane.starved_since.is_some_and(|since| now >= since + STARVED_MAX);
        let starved = self.lanes.values().any(is_starved);
        pool.load(self.member).starved.set(starved && self.door.streams_open() == 0);
        if starved {
            self.give_back_waiting();
        }
        self.lanes.retain(|_, lane| !lane.is_done());
        self.door.show_lanes(self.lanes.values().take(LANES_SHOWN).map(Lane::figures).collect());
    }

    /// Closes the trips that are filling and of which this holds; their lanes open others when they need them.
    fn close_trips(&mut self, now: Instant, holds: impl Fn(&Trip) -> bool) {
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

    /// The peer is going away: nothing new begins here, what has not begun goes elsewhere.
    fn retire(&mut self) {
        if !self.retired {
            self.retired = true;
            self.door.close();
            self.give_back_waiting();
            self.calls.clear();
        }
    }

    /// Gives what is not loaded back to the pool: provably not processed.
    fn give_back_waiting(&mut self) {
        self.waiting_lanes.clear();
        let mut parcels = Vec::new();
        for lane in self.lanes.values_mut() {
            lane.starved_since = None;
            parcels.extend(std::iter::from_fn(|| lane.pop()));
        }
        give_back_unloaded(&self.pool, self.member, &self.door, parcels);
        if self.door.is_closed() {
            give_back_inbox(&self.pool, self.member, &self.door);
        }
    }

    /// The connection is gone: every answer is known now, every other message goes back.
    fn end(mut self, lost: Break) {
        let now = Instant::now();
        let backend = self.pool.backend(self.member);
        if !self.trips.is_empty() && lost.kind == BreakKind::ConnectionLost {
            tracing::debug!(backend = backend.name(), %lost, trips = self.trips.len(), "connection lost");
            backend.unreachable();
        }
        self.retired = true;
        self.door.close();
        // h2 has told every stream of its end, so the answers are all ready.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some((trip, outcome))) = self.answers.poll_next_unpin(&mut cx) {
            self.trip_over(trip, outcome, now);
        }
        let rest: Vec<u64> = self.trips.keys().copied().collect();
        for number in rest {
            self.trip_over(number, Err(lost.clone()), now);
        }
        self.give_back_waiting();
        self.pool.load(self.member).starved.set(false);
    }

    /// Tells the balancer how much the peer's windows hold up.
    fn show_blocked(&self) {
        let blocked = self.blocked.iter().filter_map(|number| self.trips.get(number));
        self.door.set_blocked_bytes(blocked.map(|(_, trip)| trip.unsent_bytes()).sum());
    }
}

/// Gives back what was never taken out of the inbox. Calls are dropped: whoever asked asks elsewhere.
fn give_back_inbox(pool: &Rc<Pool>, member: usize, door: &Door) {
    let mut parcels = Vec::new();
    while let Some(errand) = door.next_errand() {
        if let Errand::Parcel(parcel) = errand {
            parcels.push(parcel);
        }
    }
    give_back_unloaded(pool, member, door, parcels);
}

fn give_back_unloaded(pool: &Rc<Pool>, member: usize, door: &Door, parcels: Vec<Parcel>) {
    let load = pool.load(member);
    for parcel in &parcels {
        load.wait_over(parcel);
        load.held.set(load.held.get() - parcel.bytes());
        door.let_go(u64::from(parcel.messages()));
    }
    for parcel in parcels {
        pool.give_back(parcel, member, Outcome::NotProcessed);
    }
}

/// Whether an error status speaks of the backend rather than of the messages.
fn is_backend_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::Cancelled
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::PermissionDenied
            | Code::Unauthenticated
    )
}
