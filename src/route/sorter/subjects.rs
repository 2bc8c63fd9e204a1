//! One allocation for all that is equal on a worker, so that equal things are known by their address.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::rc::{Rc, Weak};

use crate::message::context::Context;
use crate::message::parcel::Subject;

/// The subjects and contexts of one worker, for as long as somebody holds them.
#[derive(Default)]
pub struct Subjects {
    subjects: Interner<Subject>,
    contexts: Interner<Context>,
}

struct Interner<T> {
    hasher: RandomState,
    known: RefCell<HashMap<u64, Vec<Weak<T>>>>,
}

// === impl Subjects ===

impl Subjects {
    /// The one subject that is like this.
    pub fn subject(&self, subject: Subject) -> Rc<Subject> {
        self.subjects.find(subject)
    }

    /// The one context that is like this.
    pub fn context(&self, context: Context) -> Rc<Context> {
        self.contexts.find(context)
    }
}

// === impl Interner ===

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), known: RefCell::default() }
    }
}

impl<T: Hash + Eq> Interner<T> {
    fn find(&self, wanted: T) -> Rc<T> {
        let mut known = self.known.borrow_mut();
        let alike = known.entry(self.hasher.hash_one(&wanted)).or_default();
        alike.retain(|one| one.strong_count() > 0);
        if let Some(same) = alike.iter().filter_map(Weak::upgrade).find(|one| **one == wanted) {
            return same;
        }
        let new = Rc::new(wanted);
        alike.push(Rc::downgrade(&new));
        if known.len().is_power_of_two() {
            known.retain(|_, alike| alike.iter().any(|one| one.strong_count() > 0));
        }
        new
    }
}
