//! Backends as etcd has them: each key under a prefix is one, its value says where; read once and then watched.
//!
//! A read is of one revision of the whole store, and a watch goes on from there. One that breaks goes on where it was, at
//! another member; only when that revision has been compacted away is everything read again.

mod client;
mod messages;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use super::dial::TlsSettings;
use super::retry::Retry;
use super::roster::{Look, Roster, Seen};
use super::{Announcer, Trouble};
use crate::pool::Endpoint;
use client::{EtcdError, Session};
use messages::{Event, EventType, KeyValue};

/// What is followed, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The members; at least one. Any of them will do.
    pub members: Vec<Endpoint>,
    /// What keys begin with.
    pub prefix: String,
    /// TLS; `None`: without.
    pub tls: Option<TlsSettings>,
    /// Who we are; `None`: nobody, or whom our certificate names.
    pub user: Option<User>,
}

/// A user of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: Password,
}

/// A password. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

/// The wait between two members; a round of all that fails is followed by one that grows.
const NEXT_MEMBER_AFTER: Duration = Duration::from_millis(50);

/// Follows the keys under a prefix for ever.
pub async fn follow(settings: Settings, announcer: Announcer) {
    // Replicas start at different members.
    let turn = fastrand::usize(..settings.members.len());
    let mut follower = Follower {
        turn,
        troubles: vec![None; settings.members.len()],
        failed: 0,
        settings,
        announcer,
        retry: Retry::default(),
        roster: Roster::default(),
        keys: BTreeMap::new(),
        odd: None,
        revision: None,
    };
    loop {
        let Err(error) = follower.session().await;
        let wait = follower.failed(&error);
        tokio::time::sleep(wait).await;
    }
}

/// What is known, from one connection to the next.
struct Follower {
    settings: Settings,
    announcer: Announcer,
    /// The member whose turn it is.
    turn: usize,
    /// What went wrong at each member since it last went well.
    troubles: Vec<Option<String>>,
    /// Attempts since it last went well.
    failed: usize,
    retry: Retry,
    roster: Roster,
    /// Each key's backend.
    keys: BTreeMap<Vec<u8>, Seen>,
    /// What was last wrong with a value.
    odd: Option<String>,
    /// Everything up to this revision is in `keys`; `None` when they have to be read.
    revision: Option<i64>,
}

// === impl Follower ===

impl Follower {
    /// Reads if need be, and watches for as long as one connection lasts.
    async fn session(&mut self) -> Result<std::convert::Infallible, EtcdError> {
        let to = self.settings.members[self.turn].clone();
        let mut session = Session::open(&self.settings, &to).await?;
        let revision = match self.revision {
            Some(revision) => revision,
            None => self.read(&mut session).await?,
        };
        let mut watch = session.watch(revision + 1).await?;
        if !self.announcer.is_well() {
            self.announce();
        }
        loop {
            let answer = watch.next().await?;
            for event in &answer.events {
                self.apply(event);
            }
            if let Some(revision) = answer.revision() {
                self.revision = Some(revision);
            }
            self.announce();
            self.well();
        }
    }

    async fn read(&mut self, session: &mut Session) -> Result<i64, EtcdError> {
        let (all, revision) = session.all().await?;
        // A value that cannot be read leaves what its key said before.
        let before = std::mem::take(&mut self.keys);
        for KeyValue { key, value, .. } in all {
            if let Some(seen) = before.get(&key) {
                self.keys.insert(key.clone(), seen.clone());
            }
            self.put(key, &value);
        }
        self.revision = Some(revision);
        self.announce();
        Ok(revision)
    }

    fn apply(&mut self, event: &Event) {
        let Some(KeyValue { key, value, .. }) = &event.kv else { return };
        if event.r#type() == EventType::Delete {
            self.keys.remove(key);
        } else {
            self.put(key.clone(), value);
        }
    }

    fn put(&mut self, key: Vec<u8>, value: &[u8]) {
        let shown = String::from_utf8_lossy(&key).into_owned();
        let name = shown.strip_prefix(&self.settings.prefix).filter(|name| !name.is_empty()).unwrap_or(&shown);
        match record::read(name, value) {
            Ok(seen) => drop(self.keys.insert(key, seen)),
            Err(error) => {
                let odd = format!("the value of {shown} is no backend: {error}");
                if self.odd.as_ref() != Some(&odd) {
                    tracing::warn!(source = %self.settings, "{odd}");
                    self.odd = Some(odd);
                }
            }
        }
    }

    fn announce(&mut self) {
        // Who registers again under a new key, before the old one has expired, is there once.
        let mut endpoints = HashSet::new();
        let seen: Vec<_> = self.keys.values().filter(|seen| endpoints.insert(&seen.found.endpoint)).cloned().collect();
        match self.roster.look(seen) {
            Look::Ready(all) => return self.announcer.found(all),
            Look::Left(all) if !all.is_empty() => self.announcer.found(all),
            Look::Left(_) | Look::Kept => {}
        }
        let why = match &self.odd {
            Some(odd) if self.keys.is_empty() => odd.clone(),
            _ => format!("there is no backend under {}", self.settings.prefix),
        };
        self.announcer.failed(Trouble::Empty(why));
    }

    fn well(&mut self) {
        self.troubles.fill(None);
        self.failed = 0;
        self.retry.well();
    }

    /// Notes what went wrong; answers how long to wait before the next member is asked.
    fn failed(&mut self, error: &EtcdError) -> Duration {
        let members = self.settings.members.len();
        self.failed += 1;
        self.troubles[self.turn] = Some(error.to_string());
        let is_passing = matches!(error, EtcdError::Compacted | EtcdError::Broken { .. });
        if let EtcdError::Compacted = error {
            self.revision = None;
        } else {
            self.turn = (self.turn + 1) % members;
        }
        // While there is another member to ask, or a connection just ends, nothing is wrong.
        if self.failed < members || (self.failed == 1 && is_passing) {
            tracing::debug!(%error, "etcd is asked again");
        } else {
            // In the order of members, so that the same trouble has the same text whoever was asked last.
            let all: Vec<_> = self.troubles.iter().flatten().map(String::as_str).collect();
            self.announcer.failed(Trouble::Failed(all.join("; ")));
        }
        match self.failed % members {
            0 => self.retry.after_failure(),
            _ => NEXT_MEMBER_AFTER,
        }
    }
}

// === impl Settings ===

impl fmt::Display for Settings {
    /// As the operator would write it; who we are is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.members.iter().map(Endpoint::to_string).collect();
        write!(f, "etcd://{}/{}", members.join(","), self.prefix)
    }
}

// === impl Password ===

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}
