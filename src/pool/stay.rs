//! Lets small parcels of one pass go together: to one backend, until they are as much as one parcel may be.
//!
//! A pass brings a message from each of many calls. Spread one by one they would cost every backend a write each, and
//! a write is most of what a message costs at agents' rates. A parcel of 16 KiB or 64 messages is how finely load is
//! spread anyway; so that is how much goes one way before the balancer is asked again. The next pass always asks.

use std::cell::Cell;

use crate::message::parcel::{PARCEL_BYTES_MAX, PARCEL_MESSAGES_MAX, Parcel};
use crate::wire::pace;

/// Where the parcels of one flow go for now.
#[derive(Default)]
pub(super) struct Stay(Cell<Option<Place>>);

#[derive(Clone, Copy)]
struct Place {
    member: usize,
    pass: u64,
    bytes_left: usize,
    messages_left: u32,
}

impl Stay {
    /// Where this parcel goes if it may go where the last one went.
    pub(super) fn with_the_last(&self, parcel: &Parcel) -> Option<usize> {
        let place = self.0.get().filter(|place| place.pass == pace::pass())?;
        let bytes_left = place.bytes_left.checked_sub(parcel.bytes())?;
        let messages_left = place.messages_left.checked_sub(parcel.messages())?;
        self.0.set(Some(Place { bytes_left, messages_left, ..place }));
        Some(place.member)
    }

    /// This parcel goes to `member`, and others may follow.
    pub(super) fn begin(&self, member: usize, parcel: &Parcel) {
        self.0.set(Some(Place {
            member,
            pass: pace::pass(),
            bytes_left: PARCEL_BYTES_MAX.saturating_sub(parcel.bytes()),
            messages_left: PARCEL_MESSAGES_MAX.saturating_sub(parcel.messages()),
        }));
    }
}
