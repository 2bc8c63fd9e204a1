//! Asks one backend how it is whenever a check is due: those that are out until they are back, those that are up where the
//! operator wants it.

use std::sync::Arc;

use tokio::time::Instant;

use super::Backends;
use super::backend::Backend;

/// Checks one backend for as long as its worker has it.
pub async fn run(backends: Arc<Backends>, backend: Arc<Backend>) {
    let endpoint = backend.endpoint().clone();
    loop {
        backend.check_due().await;
        let (settings, begun) = (backends.settings(), Instant::now());
        let found = settings.health.check.ask(&endpoint, &settings).await.err();
        if let Some(unfit) = &found {
            tracing::debug!(backend = backend.name(), why = %unfit, "check failed");
        }
        backend.checked(found.map(|unfit| unfit.fault), begun);
    }
}
