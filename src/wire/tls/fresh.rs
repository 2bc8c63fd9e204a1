//! What was made of files, made anew when they change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::metrics::{self, ReloadResult};

use super::client::ClientTls;
use super::files::{Contents, Part, Unfit};
use super::server::ServerTls;

/// How often files are looked at. By content: what Kubernetes mounts changes by a swapped link, which watches of a file
/// do not see.
const LOOK: Duration = Duration::from_secs(2);

/// Something made of files.
pub(super) struct Fresh<C> {
    /// The path of the setting, for logs and metrics.
    setting: String,
    current: ArcSwap<C>,
    seen: Mutex<Seen>,
}

/// What the last look has seen.
struct Seen {
    /// Of the files that `current` was made of.
    adopted: u64,
    /// Of files that were no good, and whether that was told.
    refused: Option<(u64, bool)>,
    expiries: Vec<(Part, i64)>,
}

/// What a look at the files has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// They are what is in use.
    Same,
    /// They are new, and in use from now on.
    Swapped,
    /// They are new and no good: what was in use stays.
    Kept,
}

/// What [`keep_fresh`] looks after.
#[derive(Debug, Clone)]
pub enum Watched {
    /// A port's.
    Server(Arc<ServerTls>),
    /// A pool's.
    Client(Arc<ClientTls>),
}

/// Looks at the files of all of them every two seconds, for ever; shows how long certificates last, and swaps in those
/// that are new and good.
pub async fn keep_fresh(all: Vec<Watched>) {
    if all.is_empty() {
        return std::future::pending().await;
    }
    let all: Arc<[Watched]> = all.into();
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let all = Arc::clone(&all);
        // Files may lie on a network: whoever accepts connections must not wait for them.
        let looking = tokio::task::spawn_blocking(move || {
            for watched in all.iter() {
                watched.refresh();
            }
        });
        if let Err(error) = looking.await {
            tracing::error!(%error, "looking at certificates failed: this is a defect");
        }
    }
}

// === impl Watched ===

impl Watched {
    fn refresh(&self) -> Look {
        match self {
            Watched::Server(server) => server.refresh(),
            Watched::Client(client) => client.refresh(),
        }
    }
}

// === impl Fresh ===

impl<C> Fresh<C> {
    /// What was made of these files.
    pub fn new(setting: String, made: C, of: &Contents) -> Self {
        let seen = Seen { adopted: of.digest(), refused: None, expiries: of.expiries() };
        Self { setting, current: ArcSwap::from_pointee(made), seen: Mutex::new(seen) }
    }

    /// What is in use now.
    pub fn current(&self) -> Arc<C> {
        self.current.load_full()
    }

    /// Makes it anew if the files are others than before. Files are replaced one after the other, and a look may fall
    /// between the two: files that are no good are complained of when the next look finds them unchanged.
    pub fn refresh(
        &self,
        read: impl FnOnce() -> Contents,
        make: impl FnOnce(&Contents) -> Result<C, Vec<Unfit>>,
    ) -> Look {
        let mut seen = self.seen();
        let files = read();
        let digest = files.digest();
        let found = if digest == seen.adopted {
            seen.refused = None;
            Look::Same
        } else if seen.refused == Some((digest, true)) {
            Look::Kept
        } else {
            match make(&files) {
                Ok(made) => {
                    self.current.store(Arc::new(made));
                    *seen = Seen { adopted: digest, refused: None, expiries: files.expiries() };
                    metrics::tls_reloads(&self.setting, ReloadResult::Swapped).increment(1);
                    tracing::info!(setting = self.setting, "new certificates are in use");
                    Look::Swapped
                }
                Err(wrong) => {
                    let is_lasting = seen.refused.is_some_and(|(refused, _)| refused == digest);
                    if is_lasting {
                        self.complain(&wrong);
                    }
                    seen.refused = Some((digest, is_lasting));
                    Look::Kept
                }
            }
        };
        for (part, at) in &seen.expiries {
            metrics::tls_certificate_expiry(&format!("{}.{}", self.setting, part.name())).set(*at as f64);
        }
        found
    }

    fn complain(&self, wrong: &[Unfit]) {
        metrics::tls_reloads(&self.setting, ReloadResult::Failed).increment(1);
        let why: Vec<String> = wrong.iter().map(|unfit| format!("{}: {}", unfit.what, unfit.mend)).collect();
        tracing::error!(
            setting = self.setting,
            why = why.join("; "),
            "new certificates are no good; the old ones stay in use"
        );
    }

    /// Race: two looks at once follow each other. Files are read under the lock, or an older look could end last and
    /// bring back what it has read; nobody but looks waits for it.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
