//! How things end on a channel: a trip with its answer, a channel with its connection; nothing ends unaccounted for.

use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use tokio::time::Instant;

use crate::message::parcel::Parcel;
use crate::wire::grpc::{Code, Status};
use crate::wire::stream::{Break, BreakKind};

use super::Channel;
use crate::pool::door::{Door, Errand};
use crate::pool::trip::Trip;
use crate::pool::{Member, Outcome, Pool, Refusal};

impl Channel {
    /// A trip's stream has ended, one way or the other.
    pub(super) fn trip_over(&mut self, number: u64, outcome: Result<Status, Break>, now: Instant) {
        let Some((key, trip)) = self.trips.remove(&number) else { return };
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.trips_open -= 1;
            if lane.filling == Some(number) {
                lane.filling = None;
            }
        }
        let backend = self.member.backend();
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
                let is_unsuspected = self.lanes.get(&key).is_some_and(|lane| !lane.is_alone());
                let in_company = is_unsuspected && refusal(status.code) != Refusal::Unserved;
                backend.refused(status.code, in_company);
                Outcome::Refused(refusal(status.code))
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
    pub(super) fn settle(&mut self, trip: Trip, outcome: Outcome) {
        let load = &self.member.load;
        load.held.set(load.held.get() - trip.bytes());
        self.door.let_go(trip.messages());
        let ledger = trip.into_ledger();
        match outcome {
            Outcome::Delivered => ledger.settle(),
            outcome => ledger.give_back().for_each(|parcel| self.pool.give_back(parcel, &self.member, outcome)),
        }
        self.show_blocked();
        self.pool.room_changed();
    }

    /// Nothing new begins here, what has not begun goes elsewhere, and what has is brought to its end.
    pub(super) fn retire(&mut self, now: Instant) {
        if self.retired.is_none() {
            self.retired = Some(now);
            self.door.close();
            self.give_back_waiting();
            self.calls.clear();
            self.close_trips(now, |_| true);
        }
    }

    /// Whether a channel that was retired `since` is done. Trips end by their hard deadline; calls that are kept whole
    /// and have no end get as long, and all the time they want where the channel is merely old.
    pub(super) fn is_done_by(&self, now: Instant, since: Instant) -> bool {
        let is_cut = || !self.door.has_given_way() && now >= since + self.pool.settings().trip.hard_deadline;
        let calls_over = || self.door.streams_open() == 0 || is_cut();
        self.trips.is_empty() && calls_over()
    }

    /// Gives what is not loaded back to the pool: provably not processed.
    pub(super) fn give_back_waiting(&mut self) {
        self.waiting_lanes.clear();
        let mut parcels = Vec::new();
        for lane in self.lanes.values_mut() {
            lane.starved_since = None;
            parcels.extend(std::iter::from_fn(|| lane.pop()));
        }
        give_back_unloaded(&self.pool, &self.member, &self.door, parcels);
        if self.door.is_closed() {
            give_back_inbox(&self.pool, &self.member, &self.door);
        }
    }

    /// The connection is gone: every answer is known now, every other message goes back.
    pub(super) fn end(mut self, lost: Break) {
        let now = Instant::now();
        let backend = self.member.backend();
        // An idle connection that closes is nothing; one with a trip or a call on it is.
        let streams = self.door.streams_open();
        if streams > 0 && lost.kind == BreakKind::ConnectionLost {
            tracing::debug!(backend = backend.name(), %lost, streams, "connection lost");
            backend.unreachable();
        }
        self.retired = Some(now);
        self.door.close();
        // Every stream has been told of the connection's end, so the answers are all ready.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some((trip, outcome))) = self.answers.poll_next_unpin(&mut cx) {
            self.trip_over(trip, outcome, now);
        }
        let rest: Vec<u64> = self.trips.keys().copied().collect();
        for number in rest {
            self.trip_over(number, Err(lost.clone()), now);
        }
        self.give_back_waiting();
        self.member.load.starved.set(false);
    }
}

/// Gives back what was never taken out of the inbox. Calls are dropped: whoever asked asks elsewhere.
pub(super) fn give_back_inbox(pool: &Rc<Pool>, member: &Member, door: &Door) {
    let mut parcels = Vec::new();
    while let Some(errand) = door.next_errand() {
        if let Errand::Parcel(parcel) = errand {
            parcels.push(parcel);
        }
    }
    give_back_unloaded(pool, member, door, parcels);
}

fn give_back_unloaded(pool: &Rc<Pool>, member: &Member, door: &Door, parcels: Vec<Parcel>) {
    let load = &member.load;
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

/// What an error status that is not the backend's own says of the messages.
fn refusal(code: Code) -> Refusal {
    match code {
        Code::Unimplemented => Refusal::Unserved,
        Code::Unknown | Code::Internal | Code::DataLoss => Refusal::Undecided,
        _ => Refusal::TheirFault,
    }
}
