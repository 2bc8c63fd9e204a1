//! Who a pool's backends are: a source is followed for as long as the pool lives, and the pool told whenever its set changes.
//!
//! A [`Source`] is what the config says of it, and nothing else; [`run`] follows it. Each kind of source is a file with its
//! `Settings` and a `follow` that never ends and speaks to an [`Announcer`]: `found` with *all* backends after each good look,
//! `failed` after each other one. The announcer knows what the pool was told last. It passes on what differs, keeps the last
//! good set whatever goes wrong, and says once that something does, in the log and in metrics.

pub mod announcer;
pub mod dial;
pub mod dns;
pub mod etcd;
pub mod file;
#[cfg(feature = "k8s")]
pub mod kubernetes;
mod retry;
mod roster;

pub use announcer::{Announcer, Trouble};

use crate::pool::found::Found;

/// Where the backends of a pool are known from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Source {
    /// The config alone: they are those of [`pool::Settings`](crate::pool::Settings).
    #[default]
    Static,
    /// A DNS name.
    Dns(dns::Settings),
    /// A file that lists them.
    File(file::Settings),
    /// Keys in etcd.
    Etcd(etcd::Settings),
    /// What a Kubernetes cluster runs.
    #[cfg(feature = "k8s")]
    Kubernetes(kubernetes::Settings),
}

/// Follows a source for ever; `tell` gets all backends each time they have changed, never an empty set, and must not wait.
///
/// Nothing that goes wrong ends it. Cancel-safe: it keeps nothing beyond its own state and is ended by dropping it. A
/// static source has nothing to tell.
pub async fn run(source: Source, pool: &str, tell: impl Fn(Vec<Found>) + Send + 'static) {
    match source {
        Source::Static => std::future::pending().await,
        Source::Dns(settings) => dns::follow(settings, Announcer::new(pool, tell)).await,
        Source::File(settings) => file::follow(settings, Announcer::new(pool, tell)).await,
        Source::Etcd(settings) => etcd::follow(settings, Announcer::new(pool, tell)).await,
        #[cfg(feature = "k8s")]
        Source::Kubernetes(settings) => kubernetes::follow(settings, Announcer::new(pool, tell)).await,
    }
}

// === impl Source ===

impl std::fmt::Display for Source {
    /// As the operator would write it; `the config` for a static one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Static => f.write_str("the config"),
            Source::Dns(settings) => settings.fmt(f),
            Source::File(settings) => settings.fmt(f),
            Source::Etcd(settings) => settings.fmt(f),
            #[cfg(feature = "k8s")]
            Source::Kubernetes(settings) => settings.fmt(f),
        }
    }
}
