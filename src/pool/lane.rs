//! A lane: messages of one subject on their way to one backend, a trip at a time.

use std::collections::VecDeque;
use std::rc::Rc;

use http::Request;
use tokio::time::Instant;

use crate::message::parcel::{Parcel, Subject};
use crate::wire::grpc;

use super::door::LaneFigures;
use super::trip::Trip;

/// Characters of a carried context that people are shown.
const CONTEXT_SHOWN: usize = 64;
/// Bytes of it that hold that many characters.
const CONTEXT_BYTES_READ: usize = 4 * CONTEXT_SHOWN;

/// Finds a lane in its channel. Equal subjects are one allocation, so the address says it all; data sets and suspects
/// have lanes of their own, where every parcel is a trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneKey {
    subject: usize,
    alone: bool,
}

/// Messages of one subject that wait for a trip, and the trip that is filling.
pub struct Lane {
    subject: Rc<Subject>,
    alone: bool,
    queue: VecDeque<Parcel>,
    /// Bytes that wait and will be copied together; the others are sent from where they are.
    small_bytes: usize,
    /// The trip that is being loaded, by its number in the channel.
    pub filling: Option<u64>,
    /// Since when it has wanted a stream that the peer does not allow.
    pub starved_since: Option<Instant>,
    /// Trips that are not over.
    pub trips_open: usize,
    messages: u64,
}

// === impl LaneKey ===

impl LaneKey {
    /// The lane a parcel belongs on.
    pub fn of(parcel: &Parcel) -> Self {
        Self { subject: Rc::as_ptr(&parcel.subject).addr(), alone: parcel.is_alone() }
    }
}

// === impl Lane ===

impl Lane {
    /// The lane for parcels like this one.
    pub fn for_parcel(parcel: &Parcel) -> Self {
        Self {
            subject: Rc::clone(&parcel.subject),
            alone: parcel.is_alone(),
            queue: VecDeque::new(),
            small_bytes: 0,
            filling: None,
            starved_since: None,
            trips_open: 0,
            messages: 0,
        }
    }

    /// Puts a parcel behind the others.
    pub fn enqueue(&mut self, parcel: Parcel) {
        self.small_bytes += Trip::copied_bytes(&parcel);
        self.messages += u64::from(parcel.messages());
        self.queue.push_back(parcel);
    }

    /// The next parcel to load.
    pub fn pop(&mut self) -> Option<Parcel> {
        let parcel = self.queue.pop_front()?;
        self.small_bytes -= Trip::copied_bytes(&parcel);
        Some(parcel)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait and will be copied together.
    pub fn small_bytes(&self) -> usize {
        self.small_bytes
    }

    /// Whether each parcel is a trip of its own.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// The head its trips open with.
    ///
    /// # Panics
    /// When the authority cannot stand in a URI, which the plan does not allow.
    pub fn head(&self, authority: &str) -> Request<()> {
        let mut head = grpc::request_head(authority, self.subject.path)
            .expect("endpoints and catalogue paths were checked when the plan was made");
        head.headers_mut().extend(self.subject.metadata.iter().cloned());
        head
    }

    /// Nothing waits and no trip is under way: the lane may go.
    pub fn is_done(&self) -> bool {
        self.queue.is_empty() && self.trips_open == 0
    }

    /// What people are shown.
    pub fn figures(&self) -> LaneFigures {
        let said = self.subject.opening.iter().flat_map(|opening| opening.fields());
        let context: Vec<u8> =
            said.filter_map(|(_, value)| value.as_deref()).flatten().take(CONTEXT_BYTES_READ).copied().collect();
        LaneFigures {
            method: self.subject.path,
            context: String::from_utf8_lossy(&context)
                .chars()
                .map(|shown| if shown.is_control() { '.' } else { shown })
                .take(CONTEXT_SHOWN)
                .collect(),
            trips_open: self.trips_open,
            queued_messages: self.queue.iter().map(|parcel| u64::from(parcel.messages())).sum(),
            messages: self.messages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::budget::Budget;
    use crate::message::flow::Flow;
    use crate::message::parcel::cost;
    use crate::message::receipt::{Books, Receipt};
    use crate::message::run::Run;
    use crate::message::tie::Ties;

    fn parcel(body_bytes: usize) -> Parcel {
        let run = Run::of_body(&vec![0; body_bytes]);
        Parcel {
            subject: Rc::new(Subject::new("/a.B/c", Flow::Logs)),
            context: None,
            ties: Ties::Alike(None),
            ticket: Receipt::open(&Books::new()).issue(1),
            permit: Budget::new(1 << 20).try_reserve(Flow::Logs, cost(&run)).unwrap(),
            suspicion: None,
            run,
        }
    }

    #[test]
    fn room_is_made_for_what_is_copied_and_for_nothing_else() {
        let mut lane = Lane::for_parcel(&parcel(1));
        let mut room = Vec::new();
        for body_bytes in [100, 60_000, 200, 5_000] {
            lane.enqueue(parcel(body_bytes));
            room.push(lane.small_bytes());
        }
        while lane.pop().is_some() {
            room.push(lane.small_bytes());
        }
        assert_eq!(room, [105, 105, 310, 310, 205, 205, 0, 0]);
    }
}
