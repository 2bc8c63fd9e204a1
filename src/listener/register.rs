//! The register of open calls, for people who look, and sums of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use dashmap::DashMap;

use crate::wire::pace;

/// Every open call of every worker, and sums by listener.
pub struct Register {
    calls: DashMap<u64, Arc<CallRecord>>,
    next_id: AtomicU64,
    ports: Vec<PortFigures>,
}

/// Sums of one listener over all workers.
#[derive(Debug, Default)]
pub struct PortFigures {
    /// Connections open now.
    pub connections: AtomicU64,
    /// Calls open now.
    pub calls: AtomicU64,
    /// Messages received since the start.
    pub messages: Arc<AtomicU64>,
}

/// One open call.
#[derive(Debug)]
pub struct CallRecord {
    /// The listener it came in by.
    pub listener: &'static str,
    /// Its method, or `other`.
    pub method: &'static str,
    /// The agent's address.
    pub peer: IpAddr,
    /// When it began.
    pub since: Instant,
    /// Messages received on it.
    pub messages: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
}

/// Keeps a call in the register while it is open.
pub struct Entry {
    register: Arc<Register>,
    id: u64,
    port: usize,
    record: Arc<CallRecord>,
}

// === impl Register ===

impl Register {
    /// A register for so many listeners.
    pub fn new(listeners: usize) -> Arc<Self> {
        let ports = std::iter::repeat_with(PortFigures::default).take(listeners).collect();
        Arc::new(Self { calls: DashMap::new(), next_id: AtomicU64::new(0), ports })
    }

    /// The sums of a listener, by its place in the plan.
    pub fn port(&self, port: usize) -> &PortFigures {
        &self.ports[port]
    }

    /// Enters a call.
    pub fn enter(self: &Arc<Self>, port: usize, listener: &'static str, method: &'static str, peer: IpAddr) -> Entry {
        self.ports[port].calls.fetch_add(1, Relaxed);
        let record = Arc::new(CallRecord {
            listener,
            method,
            peer,
            since: Instant::now(),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let id = self.next_id.fetch_add(1, Relaxed);
        self.calls.insert(id, Arc::clone(&record));
        Entry { register: Arc::clone(self), id, port, record }
    }

    /// Calls open now.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether no call is open.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Connections open now, over all listeners and workers.
    pub fn connections(&self) -> usize {
        let open: u64 = self.ports.iter().map(|port| port.connections.load(Relaxed)).sum();
        usize::try_from(open).unwrap_or(usize::MAX)
    }

    /// At most `max` of the open calls, in no order.
    pub fn some(&self, max: usize) -> Vec<Arc<CallRecord>> {
        self.calls.iter().take(max).map(|entry| Arc::clone(entry.value())).collect()
    }
}

// === impl Entry ===

impl Entry {
    /// The listener the call came in by.
    pub fn listener(&self) -> &'static str {
        self.record.listener
    }

    /// Calls open now on the call's listener, itself included.
    pub fn calls_open(&self) -> usize {
        usize::try_from(self.register.ports[self.port].calls.load(Relaxed)).unwrap_or(usize::MAX)
    }

    /// Notes messages that arrived, for people and for the pace of the thread.
    pub fn received(&self, messages: u64, bytes: u64) {
        pace::note_arrived(messages);
        self.record.messages.fetch_add(messages, Relaxed);
        self.record.bytes.fetch_add(bytes, Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.register.calls.remove(&self.id);
        self.register.ports[self.port].calls.fetch_sub(1, Relaxed);
    }
}
