//! One worker's view of a backend: what this worker has made of it and its channels there.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::task::AbortHandle;

use crate::message::flow::Flow;
use crate::message::parcel::Parcel;

use super::backend::Backend;
use super::door::Door;
use super::load::Load;

/// One worker's view of a backend.
pub struct Member {
    backend: Arc<Backend>,
    pub(super) load: Load,
    /// The channels of each flow.
    doors: [RefCell<Vec<Rc<Door>>>; Flow::ALL.len()],
    /// Messages given to it in turn.
    pub(super) given: Cell<u64>,
    /// Its prober, on the one worker that has it.
    prober: Option<AbortHandle>,
}

// === impl Member ===

impl Member {
    pub(super) fn new(backend: Arc<Backend>, prober: Option<AbortHandle>) -> Rc<Self> {
        let (load, doors, given) = Default::default();
        Rc::new(Self { backend, load, doors, given, prober })
    }

    /// The backend.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// The channels of every flow.
    pub(super) fn doors(&self) -> Vec<Rc<Door>> {
        self.doors.iter().flat_map(|doors| doors.borrow().clone()).collect()
    }

    /// The channels of one flow.
    pub(super) fn doors_of(&self, flow: Flow) -> &RefCell<Vec<Rc<Door>>> {
        &self.doors[flow.index()]
    }

    /// The flow of one of its channels.
    pub(super) fn flow_of(&self, door: &Rc<Door>) -> Option<Flow> {
        Flow::ALL.into_iter().find(|flow| self.doors_of(*flow).borrow().iter().any(|other| Rc::ptr_eq(other, door)))
    }

    /// Messages that its channels hold.
    pub(super) fn held_messages(&self) -> u64 {
        self.doors.iter().map(|doors| doors.borrow().iter().map(|door| door.held_messages()).sum::<u64>()).sum()
    }

    /// Bytes that wait for the peer's windows, over all channels.
    pub(super) fn blocked_bytes(&self) -> usize {
        self.doors.iter().map(|doors| doors.borrow().iter().map(|door| door.blocked_bytes()).sum::<usize>()).sum()
    }

    /// Notes a parcel that goes to one of its channels.
    pub(super) fn entrusted(&self, parcel: &Parcel) {
        let (load, bytes) = (&self.load, parcel.bytes());
        load.held.set(load.held.get() + bytes);
        let recent = &load.recent[parcel.subject.flow.index()];
        recent.set(recent.get() + bytes as u64);
        load.wait(parcel);
    }

    /// It gets nothing more: every channel finishes what it has and closes.
    pub(super) fn retire(&self) {
        self.doors().iter().for_each(|door| door.retire());
    }

    /// Whether every channel has closed.
    pub(super) fn is_over(&self) -> bool {
        self.doors.iter().all(|doors| doors.borrow().iter().all(|door| door.is_over()))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(prober) = &self.prober {
            prober.abort();
        }
    }
}
