//! Calls of their own on a pool's backends: for what is relayed whole, and for the pieces of batches.

use std::rc::Rc;

use http::Request;
use tokio::sync::oneshot;

use crate::message::flow::Flow;
use crate::message::tie::Tie;

use super::balance::roster::Roster;
use super::balance::usable;
use super::door::{CallErrand, OpenCall};
use super::load::Usable;
use super::{Member, Members, Pool};

/// The backends that could take a call at one moment, to ask for the owners of many keys.
#[derive(Clone)]
pub struct Owners {
    members: Members,
    roster: Rc<Roster>,
    /// Positions among the members; never empty.
    usable: Vec<usize>,
}

/// Bytes a backend has been sent and not answered for; they speak against it while this lives.
pub struct Carried {
    pool: Rc<Pool>,
    member: Rc<Member>,
    bytes: usize,
}

// === impl Pool ===

impl Pool {
    /// Opens a call on some backend's channel. Waits for a backend as long as it takes; the caller has a deadline.
    /// Cancel-safe. Answers which backend it was.
    pub async fn open(
        self: &Rc<Self>,
        flow: Flow,
        path: &str,
        tie: Option<Tie>,
        avoid: u64,
        head: impl Fn(&str) -> Request<()>,
    ) -> (Rc<Member>, OpenCall) {
        loop {
            let room = self.room.notified();
            let Some(member) =
                self.choose(flow, tie, avoid | self.lacking(path), 1).or_else(|| self.choose(flow, tie, avoid, 1))
            else {
                room.await;
                continue;
            };
            if let Some(call) = self.open_on(&member, flow, &head).await {
                return (member, call);
            }
        }
    }

    /// Opens a call on this backend; `None` when its channel ended before it could. Waits for a stream the peer allows.
    /// Cancel-safe.
    pub async fn open_on(
        self: &Rc<Self>,
        member: &Rc<Member>,
        flow: Flow,
        head: impl Fn(&str) -> Request<()>,
    ) -> Option<OpenCall> {
        let (opened, call) = oneshot::channel();
        let mut head = head(member.backend().authority());
        self.settings().authenticate(head.headers_mut());
        self.door(member, flow).ask(CallErrand { head, opened });
        call.await.ok()
    }

    /// Who owns which key now, among the backends that may take a call and are not to be avoided. Waits until there is
    /// one; the caller has a deadline. Cancel-safe.
    pub async fn owners(&self, flow: Flow, path: &str, avoid: u64) -> Owners {
        loop {
            let room = self.room.notified();
            let owners = self.owners_now(flow, avoid | self.lacking(path)).or_else(|| self.owners_now(flow, avoid));
            match owners {
                Some(owners) => return owners,
                None => room.await,
            }
        }
    }

    fn owners_now(&self, flow: Flow, avoid: u64) -> Option<Owners> {
        let (members, roster) = (self.members(), Rc::clone(&self.roster.borrow()));
        let usable: Vec<usize> =
            usable(&Usable { pool: self, members: &members, roster: &roster, avoid, flow }).collect();
        (!usable.is_empty()).then_some(Owners { members, roster, usable })
    }

    /// Adds a backend that has failed a call to those that have; answers whether another try makes sense. A backend that
    /// is out by now may well serve it once it is back; when all that are up have failed it, nobody will.
    pub fn strike(&self, failed: &mut u64, member: &Member) -> bool {
        if !member.backend().is_up() {
            return true;
        }
        *failed |= member.backend().bit();
        self.members.borrow().iter().any(|member| *failed & member.backend().bit() == 0)
    }

    /// Counts bytes of a call against a backend until it has answered.
    pub fn carry(self: &Rc<Self>, member: &Rc<Member>, flow: Flow, bytes: usize) -> Carried {
        let load = &member.load;
        load.held.set(load.held.get() + bytes);
        load.waiting.set(load.waiting.get() + bytes);
        load.give(flow, bytes);
        Carried { pool: Rc::clone(self), member: Rc::clone(member), bytes }
    }
}

// === impl Owners ===

impl Owners {
    /// The number of the backend a key belongs to, for [`Owners::member`]; every replica that sees the same backends up
    /// finds the same backend, and it is the one that a message with this key goes to if it must not move.
    pub fn of(&self, key: u64) -> usize {
        self.roster.owner(key, self.usable.iter().copied()).expect("there is a backend, see `Pool::owners`")
    }

    /// The backend of a number that [`Owners::of`] gave.
    pub fn member(&self, number: usize) -> Rc<Member> {
        Rc::clone(&self.members[number])
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let load = &self.member.load;
        let was_full = load.held.get() >= self.pool.held_bytes_max.get();
        load.held.set(load.held.get() - self.bytes);
        load.waiting.set(load.waiting.get() - self.bytes);
        if was_full {
            self.pool.room_changed();
        }
    }
}
