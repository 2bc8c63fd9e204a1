//! Who follows the sources: a task for each pool whose backends are not those of the config.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

use crate::config::Plan;
use crate::discovery::{self, Source};
use crate::pool::Backends;

/// One task for each pool that has a source.
#[derive(Default)]
pub struct Followers(Vec<Follower>);

struct Follower {
    /// A pool keeps its name, and its backends' state, through every reload.
    pool: Arc<Backends>,
    source: Source,
    task: JoinHandle<()>,
    /// Whether the pool still listens to it. A task that is aborted may be in the middle of telling; held while it does,
    /// this makes sure that nothing is told once the follower is dropped.
    heard: Arc<Mutex<bool>>,
}

// === impl Followers ===

impl Followers {
    /// Ends those whose pool or source is not in this plan. Once it returns, they say nothing more.
    pub fn keep(&mut self, plan: &Plan) {
        self.0.retain(|old| {
            let name = &old.pool.settings().name;
            plan.pools_and_sources().any(|(pool, source)| pool.name == *name && old.source == *source)
        });
    }

    /// Follows these and no others: one whose pool and source are as before goes on undisturbed. Until a new one has
    /// found somebody, its pool keeps what it has. Must be called within a tokio runtime, which runs the tasks.
    pub fn follow<'a>(&mut self, pools: impl IntoIterator<Item = (&'a Arc<Backends>, &'a Source)>) {
        let before = std::mem::take(&mut self.0);
        let mut before: Vec<Option<Follower>> = before.into_iter().map(Some).collect();
        for (pool, source) in pools.into_iter().filter(|(_, source)| **source != Source::Static) {
            let same = |old: &&mut Option<Follower>| {
                old.as_ref().is_some_and(|old| Arc::ptr_eq(&old.pool, pool) && old.source == *source)
            };
            let kept = before.iter_mut().find(same).and_then(Option::take);
            self.0.push(kept.unwrap_or_else(|| Follower::start(pool, source)));
        }
        // What is left is of pools or sources that are gone.
    }

    /// Follows nothing any more.
    pub fn stop(&mut self) {
        self.0.clear();
    }
}

// === impl Follower ===

impl Follower {
    fn start(pool: &Arc<Backends>, source: &Source) -> Self {
        let heard = Arc::new(Mutex::new(true));
        let (told, is_heard) = (Arc::clone(pool), Arc::clone(&heard));
        let tell = move |all| {
            let is_heard = is_heard.lock().unwrap_or_else(PoisonError::into_inner);
            if *is_heard {
                told.found(all);
            }
        };
        let (name, followed) = (pool.settings().name.clone(), source.clone());
        let task = tokio::spawn(async move { discovery::run(followed, &name, tell).await });
        Self { pool: Arc::clone(pool), source: source.clone(), task, heard }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::file;
    use crate::pool::Settings;

    fn listed(name: &str) -> Source {
        Source::File(file::Settings { path: std::env::temp_dir().join(format!("no-such-list-{name}.yaml")) })
    }

    /// The tasks, to tell whether they are the same.
    fn tasks(followers: &Followers) -> Vec<tokio::task::Id> {
        followers.0.iter().map(|follower| follower.task.id()).collect()
    }

    #[tokio::test]
    async fn only_what_is_different_is_followed_anew() {
        let [a, b] = ["a", "b"].map(|name| Backends::new(Settings::new(name, Vec::new())));
        let mut followers = Followers::default();
        followers.follow([(&a, &listed("one")), (&b, &Source::Static)]);
        let first = tasks(&followers);
        assert_eq!(first.len(), 1, "a static source has no follower");
        followers.follow([(&b, &listed("two")), (&a, &listed("one"))]);
        let second = tasks(&followers);
        assert_eq!((second.len(), second[1]), (2, first[0]));
        followers.follow([(&a, &listed("two"))]);
        assert_ne!(tasks(&followers), first);
        followers.stop();
        assert!(tasks(&followers).is_empty());
    }
}
