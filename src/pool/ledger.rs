//! The ledger of a trip: messages written and not yet answered for.

use crate::message::parcel::Parcel;

/// Parcels in the order they were written.
#[derive(Default)]
pub struct Ledger {
    parcels: Vec<Parcel>,
}

// === impl Ledger ===

impl Ledger {
    /// Enters a parcel that is being written.
    pub fn enter(&mut self, parcel: Parcel) {
        self.parcels.push(parcel);
    }

    /// The backend answered for all of them.
    pub fn settle(self) {
        for parcel in self.parcels {
            parcel.ticket.settle();
        }
    }

    /// The parcels back, for another trip.
    pub fn give_back(self) -> impl Iterator<Item = Parcel> {
        self.parcels.into_iter()
    }
}
