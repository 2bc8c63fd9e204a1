//! Delivering: a pool has backends, a backend has channels, a channel has lanes, a lane makes trips, a trip keeps a ledger.
//!
//! A [`Pool`] belongs to one worker and never leaves its thread; what workers share of a pool are its [`Backends`].
//! [`Pool::take`] never waits: a parcel holds its permit of the byte budget, so whatever no backend can take now may
//! queue here without memory growing.

pub mod backend;
pub mod backends;
pub mod balance;
pub mod channel;
pub mod check;
mod choose;
mod deal;
pub mod door;
pub mod endpoint;
pub mod found;
pub mod health;
pub mod lane;
pub mod ledger;
pub mod load;
pub mod member;
pub mod open;
pub mod outlier;
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

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::message::flow::Flow;
use crate::message::parcel::Parcel;
use crate::message::receipt::Books;
use crate::message::tie::Ties;
use crate::metrics::LostReason;

use backend::Backend;
pub use backends::Backends;
use balance::affinity::{Memory, Moment};
use balance::roster::Roster;
use channel::Channel;
pub use check::Check;
use door::{Door, LaneFigures};
pub use member::Member;
pub use returns::{Outcome, Refusal};
pub use settings::{Affinity, AffinityBy, Endpoint, Policy, Settings, TripSettings};
use stay::Stay;

/// One worker's view of a pool.
pub struct Pool {
    shared: Arc<Backends>,
    share: Share,
    books: Rc<Books>,
    /// The settings as this worker has them.
    settings: RefCell<Rc<Settings>>,
    members: RefCell<Members>,
    /// How they stand, as of the last change or tick.
    roster: RefCell<Rc<Roster>>,
    /// Where keys went before, if that is kept, and its moment of the last tick.
    memory: RefCell<Option<Arc<Memory>>>,
    moment: Cell<Moment>,
    /// Backends that are gone and whose channels still finish what they have.
    departing: RefCell<Vec<Rc<Member>>>,
    /// By flow, for parcels that may go anywhere.
    stays: [Stay; Flow::ALL.len()],
    /// Parcels that no backend can take now, by flow, in order.
    waiting: [RefCell<VecDeque<Parcel>>; Flow::ALL.len()],
    /// Refused parcels that rest before they are tried again.
    resting: RefCell<Vec<(Instant, Parcel)>>,
    /// Told whenever a backend may have become usable.
    room: Notify,
    /// Bytes one backend may hold for this worker.
    held_bytes_max: Cell<usize>,
    /// Messages, where the operator bounds them.
    held_messages_max: Cell<Option<u64>>,
    draining: Cell<bool>,
}

/// The backends that are there, as one worker has them.
pub type Members = Rc<[Rc<Member>]>;

/// Which of how many workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// From 0.
    pub number: usize,
    /// At least one.
    pub workers: usize,
}

/// How often the memory of what was entrusted lately shrinks.
const COOLING: Duration = Duration::from_millis(100);

// === impl Pool ===

impl Pool {
    /// One worker's view of a pool.
    pub fn new(shared: &Arc<Backends>, share: Share, books: &Rc<Books>) -> Rc<Self> {
        let pool = Rc::new(Self {
            shared: Arc::clone(shared),
            share,
            books: Rc::clone(books),
            settings: RefCell::new(Rc::new((*shared.settings()).clone())),
            members: RefCell::new(Rc::new([])),
            roster: RefCell::new(Rc::new(Roster::new(&shared.settings(), &[], Instant::now()))),
            memory: RefCell::default(),
            moment: Cell::default(),
            departing: RefCell::default(),
            stays: Default::default(),
            waiting: Default::default(),
            resting: RefCell::default(),
            room: Notify::new(),
            held_bytes_max: Cell::default(),
            held_messages_max: Cell::default(),
            draining: Cell::new(false),
        });
        pool.follow();
        pool
    }

    /// Keeps the view fresh; runs as long as its worker.
    pub async fn run(self: Rc<Self>) {
        let mut changed = self.shared.changes();
        let mut cooling = tokio::time::interval(COOLING);
        self.follow();
        loop {
            tokio::select! {
                // The sender lives in the backends, which live as long as this.
                _ = changed.changed() => self.follow(),
                _ = cooling.tick() => {
                    self.look_around();
                    self.cool();
                    self.wake_resting();
                    self.departing.borrow_mut().retain(|member| !member.is_over());
                }
            }
            self.room_changed();
        }
    }

    /// Takes over what was changed: settings, who is there, who gets nothing more.
    fn follow(&self) {
        self.shared.review();
        let (settings, list) = (self.shared.settings(), self.shared.all());
        if **self.settings.borrow() != *settings {
            self.settings.replace(Rc::new((*settings).clone()));
        }
        self.held_bytes_max.set(settings.in_flight_bytes_max / self.share.workers.max(1));
        self.held_messages_max
            .set(settings.in_flight_messages_max.map(|most| (most / self.share.workers.max(1)).max(1) as u64));
        let before = self.members();
        let known = |backend: &Arc<Backend>| before.iter().find(|member| Arc::ptr_eq(member.backend(), backend));
        let member = |backend: &Arc<Backend>| known(backend).cloned().unwrap_or_else(|| self.admit(backend));
        let now: Members = list.iter().map(member).collect();
        let is_gone = |member: &&Rc<Member>| !now.iter().any(|other| Rc::ptr_eq(member, other));
        self.departing.borrow_mut().extend(before.iter().filter(is_gone).cloned());
        before
            .iter()
            .chain(now.iter())
            .filter(|member| !member.backend().is_wanted())
            .for_each(|member| member.retire());
        self.stays.iter().for_each(Stay::end);
        self.members.replace(now);
        // Where the first one gets everything, nothing is kept elsewhere.
        self.memory.replace(self.shared.memory().filter(|_| settings.balance != Policy::PickFirst));
        self.look_around();
    }

    /// A backend that this worker has not known. It has missed its turns and does not get them now.
    fn admit(&self, backend: &Arc<Backend>) -> Rc<Member> {
        let is_ours = backend.number() as usize % self.share.workers.max(1) == self.share.number;
        let probe =
            || tokio::task::spawn_local(probe::run(Arc::clone(&self.shared), Arc::clone(backend))).abort_handle();
        Member::new(Arc::clone(backend), is_ours.then(probe))
    }

    /// Takes a parcel for delivery: to the backend of choice, or to wait for one. Never waits itself.
    pub fn take(self: &Rc<Self>, parcel: Parcel) {
        let flow = parcel.subject.flow.index();
        let may_go_anywhere = parcel.refused_by() == 0;
        let others_wait = !self.waiting[flow].borrow().is_empty();
        if others_wait && may_go_anywhere {
            return self.waiting[flow].borrow_mut().push_back(parcel);
        }
        match self.offer(parcel) {
            None => {}
            Some(left) if may_go_anywhere => self.waiting[flow].borrow_mut().push_back(left),
            // It never waits with the others: at the head of their queue it would hold up those who may go anywhere.
            Some(left) => self.rest(left),
        }
    }

    /// Takes a copy if some backend can have it now; otherwise it is given up.
    pub fn take_now(self: &Rc<Self>, parcel: Parcel) {
        if let Some(left) = self.offer(parcel) {
            left.ticket.lose(LostReason::Limited);
        }
    }

    /// Entrusts a parcel to the backend of choice, or to several; answers what no backend can take now.
    fn offer(self: &Rc<Self>, mut parcel: Parcel) -> Option<Parcel> {
        let tie = match &mut parcel.ties {
            Ties::Alike(tie) => *tie,
            Ties::Each(ties) => {
                let ties = std::mem::take(ties);
                return self.deal(parcel, ties);
            }
        };
        match self.choose_for(self.wanted(&parcel), tie, parcel.bytes(), parcel.messages()) {
            Some(member) => self.entrust(&member, parcel),
            None => return Some(parcel),
        }
        None
    }

    /// Gives waiting parcels another chance and tells those who wait for a backend.
    pub fn room_changed(self: &Rc<Self>) {
        for queue in &self.waiting {
            loop {
                let Some(parcel) = queue.borrow_mut().pop_front() else { break };
                if let Some(left) = self.offer(parcel) {
                    queue.borrow_mut().push_front(left);
                    break;
                }
            }
        }
        self.room.notify_waiters();
    }

    /// The backends that are there. Cheap: a handle on the list as it is now.
    pub fn members(&self) -> Members {
        Rc::clone(&self.members.borrow())
    }

    /// Gives a parcel to a backend, as that can read it.
    fn entrust(self: &Rc<Self>, member: &Rc<Member>, parcel: Parcel) {
        if parcel.subject.stand_in.is_some() && member.backend().lacks(parcel.subject.path) {
            return parcel.stand_in().into_iter().for_each(|parcel| self.hand_over(member, parcel));
        }
        self.hand_over(member, parcel);
    }

    fn hand_over(self: &Rc<Self>, member: &Rc<Member>, parcel: Parcel) {
        member.entrusted(&parcel);
        let door = self.door(member, parcel.subject.flow);
        let is_awaited = parcel.ticket.is_awaited();
        door.entrust(parcel);
        if is_awaited {
            door.hurry();
        }
    }

    /// A channel of this backend and flow that is not held up by the peer's stream limit; a new one where there is
    /// none yet and another is allowed.
    fn door(self: &Rc<Self>, member: &Rc<Member>, flow: Flow) -> Rc<Door> {
        let mut doors = member.doors_of(flow).borrow_mut();
        doors.retain(|door| !door.is_closed() || !door.is_over());
        if let Some(door) = doors.iter().find(|door| !door.is_closed() && !door.is_starved()) {
            return Rc::clone(door);
        }
        let open = doors.iter().filter(|door| !door.is_closed());
        if open.clone().count() >= self.settings.borrow().channels_max
            && let Some(shortest) = open.min_by_key(|door| door.backlog())
        {
            return Rc::clone(shortest);
        }
        let door = Door::new();
        doors.push(Rc::clone(&door));
        tokio::task::spawn_local(Channel::run(Rc::clone(self), Rc::clone(member), Rc::clone(&door)));
        door
    }

    /// Somebody waits for the answers of what was taken for this flow.
    pub fn hurry(&self, flow: Flow) {
        for member in self.members.borrow().iter() {
            member.doors_of(flow).borrow().iter().for_each(|door| door.hurry());
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

    /// What the operator decided, as of now.
    pub fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.settings.borrow())
    }

    /// What all workers share of it.
    pub fn shared(&self) -> &Arc<Backends> {
        &self.shared
    }

    /// The pool is no longer in the plan: its backends get nothing from those who do not hold it already. Answers
    /// whether nothing is left of it.
    pub fn depart(&self) -> bool {
        let is_empty = self.held_messages() == 0;
        if is_empty {
            self.everyone().iter().for_each(|member| member.retire());
        }
        is_empty && self.everyone().iter().all(|member| member.is_over())
    }

    /// Messages held here by a count of their own, to audit the books with.
    pub fn held_messages(&self) -> u64 {
        let messages = |parcel: &Parcel| u64::from(parcel.messages());
        let waiting = |queue: &RefCell<VecDeque<Parcel>>| queue.borrow().iter().map(messages).sum::<u64>();
        let resting: u64 = self.resting.borrow().iter().map(|(_, parcel)| messages(parcel)).sum();
        let at = |member: &Rc<Member>| member.doors().iter().map(|door| door.held_messages()).sum::<u64>();
        resting + self.waiting.iter().map(waiting).sum::<u64>() + self.everyone().iter().map(at).sum::<u64>()
    }

    /// Messages that wait for each backend, by its name, not yet loaded onto a trip.
    pub fn waiting_messages(&self) -> Vec<(String, u64)> {
        let waiting = |member: &Rc<Member>| (member.backend().name().to_owned(), member.load.waiting_messages.get());
        self.members.borrow().iter().map(waiting).collect()
    }

    /// What the lanes were doing in the last second, with the backend each belongs to.
    pub fn lanes(&self) -> Vec<(String, LaneFigures)> {
        let mut lanes = Vec::new();
        for member in self.everyone() {
            let named = |lane| (member.backend().name().to_owned(), lane);
            lanes.extend(member.doors().iter().flat_map(|door| door.lanes()).map(named));
        }
        lanes
    }

    /// Those that are there and those that are gone but not done.
    fn everyone(&self) -> Vec<Rc<Member>> {
        self.members.borrow().iter().chain(self.departing.borrow().iter()).cloned().collect()
    }
}
