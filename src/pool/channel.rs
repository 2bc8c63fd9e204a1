//! A channel: one outbound connection and the task that owns it, with its lanes, trips and ledgers.
//!
//! The task waits in one place, `Channel::poll`, and changes things in functions that do not wait. Work arrives
//! through the [`Door`]; what cannot be carried to its end goes back to the pool, never away.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Sleep};

use crate::wire::client::{Answer, Connection};
use crate::wire::grpc::Status;
use crate::wire::quiet::Quiet;
use crate::wire::stream::{Break, BreakKind};

mod ages;
mod ending;
mod renewal;

use super::backend::Backend;
use super::door::{CallErrand, Door, Errand, OpenCall};
use super::lane::{Lane, LaneKey};
use super::trip::Trip;
use super::{Member, Pool};

/// One outbound connection at work.
pub struct Channel {
    pool: Rc<Pool>,
    /// The backend at its other end.
    member: Rc<Member>,
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
    /// Set when nothing new begins and what is open goes on: the peer said GOAWAY, or the backend is to get no more.
    retired: Option<Instant>,
    /// When another is to take its place, if ever.
    old_at: Option<Instant>,
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
    pub async fn run(pool: Rc<Pool>, member: Rc<Member>, door: Rc<Door>) {
        let backend = Arc::clone(member.backend());
        match Self::connect(&pool, &backend).await {
            Ok(connection) => Self::work(pool, member, door, connection).await,
            Err(error) => {
                tracing::debug!(backend = backend.name(), %error, "cannot connect");
                backend.unreachable();
                door.close();
                ending::give_back_inbox(&pool, &member, &door);
                door.end();
            }
        }
    }

    async fn connect(pool: &Pool, backend: &Backend) -> io::Result<Connection> {
        let settings = pool.settings();
        backend.found().connect(&settings, settings.trip.hard_deadline).await
    }

    /// Works until the connection is gone.
    async fn work(pool: Rc<Pool>, member: Rc<Member>, door: Rc<Door>, connection: Connection) {
        member.backend().connected();
        let mut channel = Self::new(pool, member, Rc::clone(&door), connection);
        let quiet = Quiet::new();
        let lost = poll_fn(|cx| quiet.poll(cx, |cx| channel.poll(cx, &quiet))).await;
        channel.end(lost);
        door.end();
    }

    fn new(pool: Rc<Pool>, member: Rc<Member>, door: Rc<Door>, connection: Connection) -> Self {
        Self {
            old_at: Self::old_at(&pool, Instant::now()),
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
            retired: None,
        }
    }

    /// The one place that waits. Order matters: what has come is read and settled first, then new work is loaded, and
    /// all that there is to say is written last, so that one pass takes everything from the inbox to the socket.
    fn poll(&mut self, cx: &mut Context<'_>, quiet: &Quiet) -> Poll<Break> {
        self.door.listen(cx);
        let now = Instant::now();
        self.connection.poll_read(cx);
        quiet.answered();
        while let Poll::Ready(Some((trip, outcome))) = self.answers.poll_next_unpin(cx) {
            self.trip_over(trip, outcome, now);
        }
        if !self.connection.is_over() {
            self.work_on(cx, now);
        }
        if let Poll::Ready(lost) = self.connection.poll_write(cx) {
            return Poll::Ready(lost);
        }
        match self.retired {
            Some(since) if self.is_done_by(now, since) => {
                Poll::Ready(Break::new(BreakKind::NotProcessed, "the backend gets nothing more"))
            }
            _ => Poll::Pending,
        }
    }

    /// Loads what there is to carry, and sees to what is under way.
    fn work_on(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.door.is_closed() {
            self.retire(now);
        }
        self.take_errands();
        self.load_lanes(now);
        self.open_calls(now);
        if self.door.take_hurry() {
            self.close_trips(now, |_| true);
        }
        self.poll_blocked(cx, now);
        self.poll_tick(cx, now);
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
        // Put back for its memory.
        let mut waiting = std::mem::take(&mut self.waiting_lanes);
        waiting.retain(|key| !self.load_lane(*key, now));
        let starved = !waiting.is_empty();
        self.waiting_lanes = waiting;
        self.door.set_starved(starved || !self.calls.is_empty());
        if starved {
            // Others want the streams: what is loaded goes, and its stream comes free with the answer.
            self.close_trips(now, |_| true);
        }
        if self.retired.is_some() {
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
            let load = &self.member.load;
            let (messages, bytes) = (trip.messages(), trip.bytes());
            trip.expect(lane.small_bytes().min(settings.trip.bytes_max));
            while let Some(parcel) = lane.pop() {
                load.wait_over(&parcel);
                trip.load(parcel, now);
                if trip.is_full(&settings.trip) || lane.is_alone() {
                    trip.close(now);
                    break;
                }
            }
            if !trip.is_filling() {
                lane.filling = None;
            }
            let (messages, bytes) = (trip.messages() - messages, trip.bytes() - bytes);
            self.member.backend().wrote(messages, bytes as u64);
            self.pump(number, now);
        }
    }

    /// Opens a stream for a lane; `None` when the peer allows no more, or is going away.
    fn open_trip(&mut self, key: LaneKey, now: Instant) -> Option<u64> {
        let lane = self.lanes.get_mut(&key)?;
        if self.retired.is_some() || self.door.streams_open() >= self.connection.streams_max() {
            return None;
        }
        let mut head = lane.head(self.member.backend().authority());
        self.pool.settings().authenticate(head.headers_mut());
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
                self.retire(now);
                None
            }
        }
    }

    /// Opens the calls that wait, as many as the peer allows.
    fn open_calls(&mut self, now: Instant) {
        while self.door.streams_open() < self.connection.streams_max() && self.retired.is_none() {
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
                Err(_) => self.retire(now),
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

    /// Tells the balancer how much the peer's windows hold up.
    fn show_blocked(&self) {
        let blocked = self.blocked.iter().filter_map(|number| self.trips.get(number));
        self.door.set_blocked_bytes(blocked.map(|(_, trip)| trip.unsent_bytes()).sum());
    }
}
