//! Brings a backend back: while it is out, one prober a backend tries it until it speaks HTTP/2 again.

use std::sync::Arc;

use super::Backends;
use super::backend::Backend;

/// Probes one backend for as long as its worker lives. A probe is a connection with its SETTINGS, so a process that
/// is stopped (its kernel still accepts) or a port that speaks something else does not count as back.
pub async fn run(backends: Arc<Backends>, backend: Arc<Backend>) {
    loop {
        backend.probe_due().await;
        let settings = backends.settings();
        let probe = backend.found().connect(&settings, settings.connect_deadline).await;
        if let Err(error) = &probe {
            tracing::debug!(backend = backend.name(), %error, "probe failed");
        }
        backend.probed(probe.is_ok());
    }
}
