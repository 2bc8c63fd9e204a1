//! Brings a backend back: while it is out, one prober a backend tries it until it speaks HTTP/2 again.

use std::sync::Arc;

use crate::wire::client::Connection;

use super::Backends;
use super::backend::Backend;

/// Probes one backend for as long as its worker lives. A probe is a connection with its SETTINGS, so a process that
/// is stopped (its kernel still accepts) or a port that speaks something else does not count as back.
pub async fn run(backends: Arc<Backends>, backend: Arc<Backend>) {
    let endpoint = backend.endpoint().clone();
    loop {
        backend.probe_due().await;
        let deadline = backends.settings().connect_deadline;
        let probe = Connection::open(&endpoint.host, endpoint.port, deadline, deadline).await;
        if let Err(error) = &probe {
            tracing::debug!(backend = backend.name(), %error, "probe failed");
        }
        backend.probed(probe.is_ok());
    }
}
