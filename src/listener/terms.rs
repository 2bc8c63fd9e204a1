//! The terms calls are served under: what the operator decided, and the pools it speaks of. Swapped whole by a reload.

use std::rc::Rc;
use std::sync::Arc;

use crate::message::flow::Flow;
use crate::pool::{Policy, Pool};
use crate::route::Routes;
use crate::route::sorter::{self, Subjects};
use crate::wire::tls::ServerTls;

use super::identity::Identity;
use super::{Limits, Reply, Settings};

/// What the operator decided about calls; the same for all workers.
#[derive(Debug, Clone)]
pub struct Decided {
    /// The listeners that are open.
    pub listeners: Vec<Settings>,
    /// What any one peer may ask.
    pub limits: Limits,
    /// When sorted calls are answered.
    pub reply: Reply,
    /// Who may call, and what keeps callers apart.
    pub identity: Identity,
    /// Who serves which path.
    pub routes: Arc<Routes>,
}

/// The terms calls are served under, as one worker has them. A call keeps the terms it began under until it looks for
/// new ones; numbers of pools are good under their own terms only.
pub struct Terms {
    /// What the operator decided.
    pub decided: Arc<Decided>,
    /// Who delivers, in the order of the plan.
    pub pools: Vec<Rc<Pool>>,
    /// What the sorters of calls under these terms have in common.
    pub sorters: sorter::Shared,
}

// === impl Terms ===

impl Terms {
    /// The terms of a plan whose pools are these. `subjects` are the worker's: they outlive terms.
    pub fn new(decided: Arc<Decided>, pools: Vec<Rc<Pool>>, subjects: &Rc<Subjects>) -> Rc<Self> {
        let hashes = pools.iter().map(|pool| pool.settings().balance == Policy::Hash).collect();
        Rc::new(Self { sorters: sorter::Shared { subjects: Rc::clone(subjects), hashes }, decided, pools })
    }

    /// What any one peer may ask.
    pub fn limits(&self) -> &Limits {
        &self.decided.limits
    }

    /// The TLS of the listener of this name, if it has any.
    pub fn tls(&self, listener: &str) -> Option<&ServerTls> {
        self.decided.listeners.iter().find(|other| other.name == listener)?.tls.as_deref()
    }

    /// Calls that may be open at once on a listener, by its place among [`LISTENERS`](super::LISTENERS).
    pub fn calls_max(&self, port: usize) -> Option<usize> {
        self.decided.listeners.iter().find(|listener| listener.number() == port)?.calls_max
    }

    /// A listener that serves a flow, to send a lost caller to: its own if it has one.
    pub fn port_of(&self, flow: Flow) -> Option<u16> {
        let with = |only| self.decided.listeners.iter().find(|listener| listener.only == only);
        with(Some(flow)).or_else(|| with(None)).map(|listener| listener.address.port())
    }
}
