//! What travels: gRPC messages in runs and parcels, a scan of their fields, the byte budget they are held under and
//! the receipt that answers for them.

pub mod budget;
pub mod context;
pub mod field;
pub mod flow;
pub mod frames;
pub mod parcel;
pub mod path;
pub mod receipt;
pub mod run;
pub mod tie;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// `text` for as long as the process lives, each text once: paths of methods are metric labels and stand in every
/// subject. Only what an operator wrote may be interned, never what a caller sends.
pub fn intern(text: &str) -> &'static str {
    static KNOWN: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(interned) = known.get(text) {
        return interned;
    }
    let interned: &'static str = Box::leak(text.into());
    known.insert(interned);
    interned
}
