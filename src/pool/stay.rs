//! Lets small parcels of one pass go together: to one backend, until they are as much as one parcel may be.
//!
//! A pass brings a message from each of many calls. Spread one by one they would cost every backend a write each, and
//! a write is most of what a message costs at agents' rates. A parcel of 16 KiB or 64 messages is how finely load is
//! spread anyway; so that is how much goes one way before the balancer is asked again. The next pass always asks.

use std::cell::RefCell;
use std::rc::Rc;

use crate::message::parcel::{PARCEL_BYTES_MAX, PARCEL_MESSAGES_MAX};
use crate::wire::pace;

use super::Member;

/// Where the parcels of one flow go for now.
#[derive(Default)]
pub(super) struct Stay(RefCell<Option<Place>>);

struct Place {
    member: Rc<Member>,
    pass: u64,
    bytes_left: usize,
    messages_left: u32,
}

impl Stay {
    /// Where so much goes if it may go where the last went.
    pub(super) fn with_the_last(&self, bytes: usize, messages: u32) -> Option<Rc<Member>> {
        let mut place = self.0.borrow_mut();
        let place = place.as_mut().filter(|place| place.pass == pace::pass())?;
        let bytes_left = place.bytes_left.checked_sub(bytes)?;
        place.messages_left = place.messages_left.checked_sub(messages)?;
        place.bytes_left = bytes_left;
        Some(Rc::clone(&place.member))
    }

    /// So much goes to `member`, and more may follow.
    pub(super) fn begin(&self, member: &Rc<Member>, bytes: usize, messages: u32) {
        self.0.replace(Some(Place {
            member: Rc::clone(member),
            pass: pace::pass(),
            bytes_left: PARCEL_BYTES_MAX.saturating_sub(bytes),
            messages_left: PARCEL_MESSAGES_MAX.saturating_sub(messages),
        }));
    }

    /// The next parcel is chosen for anew.
    pub(super) fn end(&self) {
        self.0.replace(None);
    }
}
