//! Asks one backend how it is whenever a check is due: those that are out until they are back, those that are up where the
//! operator wants it.

use std::sync::Arc;

use tokio::time::Instant;

use super::backend::Backend;
use super::check::{Check, Unfit};
use super::found::Found;
use super::{Backends, Settings};

/// Checks one backend for as long as its worker has it.
pub async fn run(backends: Arc<Backends>, backend: Arc<Backend>) {
    loop {
        backend.check_due().await;
        let (settings, begun) = (backends.settings(), Instant::now());
        let found = ask(&backend.found(), &settings, backend.is_out()).await;
        if let Err(unfit) = &found {
            tracing::debug!(backend = backend.name(), why = %unfit, "check failed");
        }
        backend.checked(found.err().map(|unfit| unfit.fault), begun);
    }
}

/// One that is out has to take messages again, too: a health page is served by other threads or another process, and the
/// kernel of one that is frozen goes on accepting.
async fn ask(found: &Found, settings: &Settings, is_out: bool) -> Result<(), Unfit> {
    let check = &settings.health.check;
    if is_out && matches!(check, Check::Tcp | Check::Http { .. }) {
        Check::Connect.ask(found, settings).await?;
    }
    check.ask(found, settings).await
}
