//! Backends as Kubernetes has them: the pods of a selector, or the endpoints of a service, listed once and then watched.
//!
//! A list says who is there and at which version; a watch goes on from that version and says line by line what changes. A
//! watch that breaks goes on where it was; only when the API no longer knows the version is everything listed again. Pods
//! are what the rights of a SkyWalking Satellite allow to be seen; the slices of a service also know zones, and that a
//! pod still serves while it ends.

mod api;
mod lines;
mod objects;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::retry::Retry;
use super::roster::{Look, Roster, Seen};
use super::{Announcer, Trouble};
use crate::pool::Endpoint;
use api::{ApiError, Session};
use objects::{Event, EventKind, Object};

/// What is followed, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What stands for a backend.
    pub kind: Kind,
    /// Where it is looked for; `None`: where the gateway's own pod runs.
    pub namespace: Option<String>,
    /// The port that backends listen on.
    pub port: Port,
    /// The API; `None`: as the kubelet tells every pod.
    pub api_server: Option<ApiServer>,
    /// Holds the token; it is read at each request. `None`: the pod's own, or none if `api_server` is set.
    pub token_file: Option<PathBuf>,
    /// Certificates that may have signed the API's own, PEM. `None`: as the kubelet gives every pod.
    pub ca_file: Option<PathBuf>,
}

/// What stands for a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Each pod that runs and is ready.
    Pods {
        /// Of labels, as `kubectl get -l` takes it; empty: every pod.
        selector: String,
        /// Of fields, as `kubectl get --field-selector` takes it; empty: all.
        fields: String,
    },
    /// Each endpoint of a service that is ready.
    EndpointSlices {
        /// The service.
        service: String,
    },
}

/// Which port of a backend is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// This one.
    Number(u16),
    /// The one a container, or a service, calls so.
    Name(String),
    /// The only one there is.
    Only,
}

/// Where the API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiServer {
    /// `https`, not `http`.
    pub is_tls: bool,
    /// Host and port.
    pub endpoint: Endpoint,
}

/// A watch that is over sooner than this was not ended because its time was up.
const WATCH_LEAST: Duration = Duration::from_secs(1);

/// Follows pods or endpoints for ever.
pub async fn follow(settings: Settings, announcer: Announcer) {
    let mut follower = Follower {
        settings,
        announcer,
        retry: Retry::default(),
        roster: Roster::default(),
        objects: BTreeMap::new(),
        version: None,
    };
    loop {
        if let Err(error) = follower.session().await {
            let wait = follower.failed(&error);
            tokio::time::sleep(wait).await;
        }
    }
}

/// What is known, from one connection to the next.
struct Follower {
    settings: Settings,
    announcer: Announcer,
    retry: Retry,
    roster: Roster,
    /// Each object's backends by its name, or why it cannot have any.
    objects: BTreeMap<String, Result<Vec<Seen>, String>>,
    /// The version `objects` are at; `None` when they have to be listed.
    version: Option<String>,
}

// === impl Follower ===

impl Follower {
    /// Lists if need be, and watches for as long as one connection lasts.
    async fn session(&mut self) -> Result<(), ApiError> {
        let mut session = Session::open(&self.settings).await?;
        while session.is_open() {
            let version = match self.version.clone() {
                Some(version) => version,
                None => self.list(&mut session).await?,
            };
            self.watch(&mut session, &version).await?;
        }
        Ok(())
    }

    async fn list(&mut self, session: &mut Session) -> Result<String, ApiError> {
        let mut objects = BTreeMap::new();
        let mut next = None;
        let version = loop {
            let page = session.list(next.as_deref()).await?;
            for object in page.items.unwrap_or_default() {
                let backends = object.backends(&self.settings.kind, &self.settings.port);
                objects.insert(object.metadata.name, backends);
            }
            next = page.metadata.next_page.filter(|next| !next.is_empty());
            if next.is_none() {
                break page.metadata.resource_version;
            }
        };
        self.objects = objects;
        self.version = Some(version.clone());
        self.announce();
        Ok(version)
    }

    /// Watches until the API ends it because its time is up.
    async fn watch(&mut self, session: &mut Session, version: &str) -> Result<(), ApiError> {
        let mut watch = session.watch(version).await?;
        let begun = Instant::now();
        if !self.announcer.is_well() {
            self.announce();
        }
        while let Some(events) = watch.next().await? {
            // What came before an error still holds.
            let outcome = events.iter().try_for_each(|event| self.apply(event));
            self.announce();
            outcome?;
            self.retry.well();
        }
        if begun.elapsed() < WATCH_LEAST {
            return Err(ApiError::Broken("a watch ended as soon as it began".to_owned()));
        }
        self.retry.well();
        Ok(())
    }

    /// Takes one line of a watch.
    fn apply(&mut self, event: &Event) -> Result<(), ApiError> {
        match event.kind {
            EventKind::Added | EventKind::Modified | EventKind::Deleted => {
                let object = Object::of(event).map_err(|error| ApiError::Unreadable(error.to_string()))?;
                let version = object.metadata.resource_version.clone();
                let backends = object.backends(&self.settings.kind, &self.settings.port);
                if event.kind == EventKind::Deleted {
                    self.remove(&object.metadata.name, backends);
                } else {
                    self.objects.insert(object.metadata.name, backends);
                }
                self.version = Some(version);
            }
            EventKind::Bookmark => self.version = event.version().or(self.version.take()),
            EventKind::Error => return Err(ApiError::of_event(event)),
            EventKind::Unknown => {}
        }
        Ok(())
    }

    /// A pod that is deleted, or no longer selected, has ended. A slice says nothing about the pods behind it.
    fn remove(&mut self, name: &str, backends: Result<Vec<Seen>, String>) {
        let before = self.objects.remove(name);
        if let Kind::Pods { .. } = self.settings.kind {
            let ended = before.into_iter().chain([backends]).flatten().flatten();
            ended.for_each(|seen| self.roster.forget(&seen.found.name));
        }
    }

    fn announce(&mut self) {
        let seen = self.objects.values().flatten().flatten().cloned();
        match self.roster.look(seen) {
            Look::Ready(all) => return self.announcer.found(all),
            Look::Left(all) if !all.is_empty() => self.announcer.found(all),
            Look::Left(_) | Look::Kept => {}
        }
        let why = match self.objects.values().find_map(|backends| backends.as_ref().err()) {
            Some(odd) => odd.clone(),
            None if self.objects.is_empty() => format!("{} has none", self.settings),
            None => format!("none of {} is ready", self.settings),
        };
        self.announcer.failed(Trouble::Empty(why));
    }

    /// Notes what went wrong; answers how long to wait before the next attempt.
    fn failed(&mut self, error: &ApiError) -> Duration {
        if let ApiError::Gone | ApiError::Unreadable(_) = error {
            self.version = None;
        }
        // The first of a row is the usual end of a connection whose other side is replaced.
        if self.retry.failures() == 0 && error.is_passing() {
            tracing::debug!(%error, "a watch is begun again");
        } else {
            self.announcer.failed(Trouble::Failed(error.to_string()));
        }
        self.retry.after_failure()
    }
}

// === impl Settings ===

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        match &self.kind {
            Kind::Pods { selector, .. } => write!(f, "k8s://{namespace}/{selector}{}", self.port),
            Kind::EndpointSlices { service } if namespace.is_empty() => {
                write!(f, "endpoint slices of {service}{}", self.port)
            }
            Kind::EndpointSlices { service } => write!(f, "endpoint slices of {namespace}/{service}{}", self.port),
        }
    }
}

// === impl Port ===

impl fmt::Display for Port {
    /// With the colon before it; nothing when it is the only one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Number(number) => write!(f, ":{number}"),
            Port::Name(name) => write!(f, ":{name}"),
            Port::Only => Ok(()),
        }
    }
}
