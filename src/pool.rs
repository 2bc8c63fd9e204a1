//! Delivering: a pool has backends, a backend has channels, a channel has lanes, a lane makes trips, a trip keeps a ledger.
//!
//! A [`Pool`] belongs to one worker and never leaves its thread; what workers share of a pool are its [`Backends`].
//! [`Pool::take`] never waits: a parcel holds its permit of the byte budget, so whatever no backend can take now may
//! queue here without memory growing.

pub mod backend;
pub mod balance;
pub mod channel;
pub mod door;
pub mod endpoint;
pub mod found;
pub mod health;
pub mod lane;
pub mod ledger;
pub mod load;
pub mod open;
pub mod probe;
mod returns;
mod settings;
mod stay;
pub mod trip;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::message::flow::Flow;
use crate::message::parcel::Parcel;
use crate::message::receipt::Books;
use crate::metrics::LostReason;

use backend::Backend;
use balance::{Balancer, Candidates};
use channel::Channel;
use door::{Door, LaneFigures};
use load::{Load, Usable};
pub use settings::{Endpoint, Policy, Settings, TripSettings};
use stay::Stay;

/// What all workers share of one pool.
pub struct Backends {
    settings: Settings,
    backends: Vec<Arc<Backend>>,
    changed: watch::Receiver<u64>,
}

/// One worker's view of a pool.
pub struct Pool {
    shared: Arc<Backends>,
    books: Rc<Books>,
    members: Vec<Member>,
    balancer: RefCell<Balancer>,
    /// By flow, for parcels that may go anywhere.
    stays: [Stay; Flow::ALL.len()],
    /// Parcels that no backend can take now, by flow, in order.
    waiting: [RefCell<VecDeque<Parcel>>; Flow::ALL.len()],
    /// Refused parcels that rest before they are tried again.
    resting: RefCell<Vec<(Instant, Parcel)>>,
    /// Told whenever a backend may have become usable.
    room: Notify,
    /// Bytes one backend may hold for this worker.
    held_bytes_max: usize,
    draining: Cell<bool>,
}

/// One worker's view of a backend.
struct Member {
    load: Rc<Load>,
    /// The channels of each flow.
    doors: [RefCell<Vec<Rc<Door>>>; Flow::ALL.len()],
}

/// What became of messages that were entrusted to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The backend answered for them.
    Delivered,
    /// It has provably not looked at them.
    NotProcessed,
    /// Nobody knows.
    Unknown,
    /// It answered with an error that may be the messages' own.
    Refused(Refusal),
}

/// What an error status says of the messages it was given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The backend does not serve the method: it has not looked at them.
    Unserved,
    /// The backend says that they are at fault (INVALID_ARGUMENT and the like).
    TheirFault,
    /// UNKNOWN, INTERNAL: any trouble of the backend, or one message its handler choked on.
    Undecided,
}

/// How often the memory of what was entrusted lately shrinks.
const COOLING: Duration = Duration::from_millis(100);

/// Bytes a backend may be ahead of the least loaded one, every [`COOLING`].
const AHEAD_MAX: u64 = 64 << 10;

// === impl Backends ===

impl Backends {
    /// The backends of a pool, none of them tried yet.
    pub fn new(settings: Settings) -> Arc<Self> {
        let (sender, changed) = watch::channel(0);
        let backend = |found| Arc::new(Backend::new(found, &settings, sender.clone()));
        let backends = settings.backends.iter().map(backend).collect();
        Arc::new(Self { backends, changed, settings })
    }

    /// What the operator decided.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Every backend, in the order of the config.
    pub fn all(&self) -> &[Arc<Backend>] {
        &self.backends
    }
}

// === impl Pool ===

impl Pool {
    /// One worker's view of a pool that `workers` workers share.
    pub fn new(shared: &Arc<Backends>, workers: usize, books: &Rc<Books>) -> Rc<Self> {
        let member = |_| Member { load: Rc::default(), doors: Default::default() };
        Rc::new(Self {
            members: shared.backends.iter().map(member).collect(),
            held_bytes_max: shared.settings.in_flight_bytes_max / workers.max(1),
            shared: Arc::clone(shared),
            books: Rc::clone(books),
            balancer: RefCell::default(),
            stays: Default::default(),
            waiting: Default::default(),
            resting: RefCell::default(),
            room: Notify::new(),
            draining: Cell::new(false),
        })
    }

    /// Keeps the view fresh; runs as long as its worker.
    pub async fn run(self: Rc<Self>) {
        let mut changed = self.shared.changed.clone();
        let mut cooling = tokio::time::interval(COOLING);
        loop {
            tokio::select! {
                // The sender lives in the backends, which live as long as this.
                _ = changed.changed() => {}
                _ = cooling.tick() => {
                    self.cool();
                    self.wake_resting();
                }
            }
            self.room_changed();
        }
    }

    /// Takes a parcel for delivery: to the backend of choice, or to wait for one. Never waits itself.
    pub fn take(self: &Rc<Self>, parcel: Parcel) {
        let flow = parcel.subject.flow.index();
        let may_go_anywhere = parcel.refused_by() == 0;
        let others_wait = !self.waiting[flow].borrow().is_empty();
        if others_wait && may_go_anywhere {
            return self.waiting[flow].borrow_mut().push_back(parcel);
        }
        match self.choose_for(&parcel) {
            Some(member) => self.entrust(member, parcel),
            None if may_go_anywhere => self.waiting[flow].borrow_mut().push_back(parcel),
            // It never waits with the others: at the head of their queue it would hold up those who may go anywhere.
            None => self.rest(parcel),
        }
    }

    /// Takes a copy if some backend can have it now; otherwise it is given up.
    pub fn take_now(self: &Rc<Self>, parcel: Parcel) {
        match self.choose_for(&parcel) {
            Some(member) => self.entrust(member, parcel),
            None => parcel.ticket.lose(LostReason::Limited),
        }
    }

    /// Gives waiting parcels another chance and tells those who wait for a backend.
    pub fn room_changed(self: &Rc<Self>) {
        for queue in &self.waiting {
            loop {
                let Some(parcel) = queue.borrow_mut().pop_front() else { break };
                match self.choose_for(&parcel) {
                    Some(member) => self.entrust(member, parcel),
                    None => {
                        queue.borrow_mut().push_front(parcel);
                        break;
                    }
                }
            }
        }
        self.room.notify_waiters();
    }

    /// Lets what was sent lately count for less. Nobody may be far ahead of the least loaded: a backend that took a
    /// backlog alone would be left alone for seconds, and one that is new would get everything.
    fn cool(&self) {
        self.members.iter().for_each(|member| member.load.cool());
        let is_up = |at: &usize| self.backend(*at).is_up();
        for flow in Flow::ALL {
            let recent = |at: usize| &self.load(at).recent[flow.index()];
            let least = (0..self.members.len()).filter(is_up).map(|at| recent(at).get()).min();
            let most = least.unwrap_or(0) + AHEAD_MAX;
            (0..self.members.len()).for_each(|at| recent(at).set(recent(at).get().min(most)));
        }
    }

    /// A backend for a parcel: one that is known to serve its method if there is any, none that has refused it.
    fn choose_for(&self, parcel: &Parcel) -> Option<usize> {
        let (flow, key, avoid, messages) = (parcel.subject.flow, parcel.key, parcel.refused_by(), parcel.messages());
        let lacking = if parcel.subject.stand_in.is_some() { 0 } else { self.lacking(parcel.subject.path) };
        match lacking {
            0 if key.is_none() && avoid == 0 && self.settings().balance != Policy::RoundRobin => {
                self.choose_together(flow, parcel)
            }
            0 => self.choose(flow, key, avoid, messages),
            lacking => {
                self.choose(flow, key, avoid | lacking, messages).or_else(|| self.choose(flow, key, avoid, messages))
            }
        }
    }

    /// A backend for a parcel that may go anywhere: where the last one went, for a while.
    fn choose_together(&self, flow: Flow, parcel: &Parcel) -> Option<usize> {
        let stay = &self.stays[flow.index()];
        let is_usable = |member: &usize| Usable { pool: self, avoid: 0, flow }.is_usable(*member);
        if let Some(member) = stay.with_the_last(parcel).filter(is_usable) {
            return Some(member);
        }
        let member = self.choose(flow, None, 0, parcel.messages())?;
        stay.begin(member, parcel);
        Some(member)
    }

    /// The backends that are believed not to serve a method.
    fn lacking(&self, path: &str) -> u64 {
        let lacks = |member: &usize| self.backend(*member).lacks(path);
        (0..self.members.len()).filter(lacks).fold(0, |lacking, member| lacking | bit(member))
    }

    /// How many backends there are.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    fn choose(&self, flow: Flow, key: Option<u64>, avoid: u64, messages: u32) -> Option<usize> {
        let usable = Usable { pool: self, avoid, flow };
        self.balancer
            .borrow_mut()
            .choose(self.shared.settings.balance, key, messages, &usable, |below| fastrand::usize(..below))
    }

    /// Gives a parcel to a backend, as that can read it.
    fn entrust(self: &Rc<Self>, member: usize, parcel: Parcel) {
        if parcel.subject.stand_in.is_some() && self.backend(member).lacks(parcel.subject.path) {
            return parcel.stand_in().into_iter().for_each(|parcel| self.hand_over(member, parcel));
        }
        self.hand_over(member, parcel);
    }

    fn hand_over(self: &Rc<Self>, member: usize, parcel: Parcel) {
        let load = self.load(member);
        load.held.set(load.held.get() + parcel.bytes());
        let recent = &load.recent[parcel.subject.flow.index()];
        recent.set(recent.get() + parcel.bytes() as u64);
        load.wait(&parcel);
        let door = self.door(member, parcel.subject.flow);
        let is_awaited = parcel.ticket.is_awaited();
        door.entrust(parcel);
        if is_awaited {
            door.hurry();
        }
    }

    /// A channel of this backend and flow that is not held up by the peer's stream limit; a new one where there is
    /// none yet and another is allowed.
    fn door(self: &Rc<Self>, member: usize, flow: Flow) -> Rc<Door> {
        let mut doors = self.members[member].doors[flow.index()].borrow_mut();
        doors.retain(|door| !door.is_closed() || door.held_messages() > 0);
        if let Some(door) = doors.iter().find(|door| !door.is_closed() && !door.is_starved()) {
            return Rc::clone(door);
        }
        let open = doors.iter().filter(|door| !door.is_closed());
        if open.clone().count() >= self.shared.settings.channels_max
            && let Some(shortest) = open.min_by_key(|door| door.backlog())
        {
            return Rc::clone(shortest);
        }
        let door = Door::new();
        doors.push(Rc::clone(&door));
        tokio::task::spawn_local(Channel::run(Rc::clone(self), member, Rc::clone(&door)));
        door
    }

    /// Somebody waits for the answers of what was taken for this flow.
    pub fn hurry(&self, flow: Flow) {
        for member in &self.members {
            member.doors[flow.index()].borrow().iter().for_each(|door| door.hurry());
        }
    }

    /// From now on trips are closed as soon as they are loaded.
    pub fn drain(&self) {
        self.draining.set(true);
    }

    /// Whether [`Pool::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Gives up what waits for a backend; for the end of a drain that ran out of time.
    pub fn give_up_waiting(&self, reason: LostReason) {
        for queue in &self.waiting {
            for parcel in queue.borrow_mut().drain(..) {
                parcel.ticket.lose(reason);
            }
        }
        for (_, parcel) in self.resting.borrow_mut().drain(..) {
            parcel.ticket.lose(reason);
        }
    }

    /// What the operator decided.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// One of the backends.
    pub fn backend(&self, member: usize) -> &Arc<Backend> {
        &self.shared.backends[member]
    }

    /// How loaded this worker has made it.
    fn load(&self, member: usize) -> &Load {
        &self.members[member].load
    }

    /// Messages held here by a count of their own, to audit the books with.
    pub fn held_messages(&self) -> u64 {
        let messages = |parcel: &Parcel| u64::from(parcel.messages());
        let waiting = |queue: &RefCell<VecDeque<Parcel>>| queue.borrow().iter().map(messages).sum::<u64>();
        let resting: u64 = self.resting.borrow().iter().map(|(_, parcel)| messages(parcel)).sum();
        resting
            + self.waiting.iter().map(waiting).sum::<u64>()
            + self.doors().map(|(_, door)| door.held_messages()).sum::<u64>()
    }

    /// Messages that wait for each backend, not yet loaded onto a trip.
    pub fn waiting_messages(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.load.waiting_messages.get()).collect()
    }

    /// What the lanes were doing in the last second, with the backend each belongs to.
    pub fn lanes(&self) -> Vec<(String, LaneFigures)> {
        let named = |(member, door): (usize, Rc<Door>)| {
            let name = self.backend(member).name().to_owned();
            door.lanes().into_iter().map(move |lane| (name.clone(), lane))
        };
        self.doors().flat_map(named).collect()
    }

    fn doors(&self) -> impl Iterator<Item = (usize, Rc<Door>)> + '_ {
        self.members.iter().enumerate().flat_map(|(at, member)| {
            let doors = member.doors.iter().flat_map(|doors| doors.borrow().clone());
            doors.map(move |door| (at, door)).collect::<Vec<_>>()
        })
    }
}

/// A backend's bit in a set of backends. Beyond 64 two share one, and a refused message skips both.
pub fn bit(member: usize) -> u64 {
    1 << (member % 64)
}
