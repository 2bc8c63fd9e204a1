//! A channel's old age: another connection is opened, and only when that works does the old one take nothing more.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::Channel;
use crate::pool::door::Door;
use crate::pool::{Member, Pool};

/// How long after a connection that was to replace this one failed another is tried.
const TRY_AGAIN: Duration = Duration::from_secs(10);

impl Channel {
    /// When a channel that begins now is old; give or take a tenth, so that those that began together do not end
    /// together.
    pub(super) fn old_at(pool: &Pool, now: Instant) -> Option<Instant> {
        pool.settings().channel_age_max.map(|age| now + age.mul_f64(0.9 + 0.2 * fastrand::f64()))
    }

    /// Asks for another connection once this one is old. Until that is there this one goes on.
    pub(super) fn look_at_own_age(&mut self, now: Instant) {
        if self.retired.is_none() && self.old_at.is_some_and(|at| at <= now) {
            self.old_at = Some(now + TRY_AGAIN);
            let (pool, member, old) = (Rc::clone(&self.pool), Rc::clone(&self.member), Rc::clone(&self.door));
            tokio::task::spawn_local(replace(pool, member, old));
        }
    }
}

/// Connects once more, lets the old channel give way and works in its place. A backend that does not take the connection
/// keeps the old one, which says nothing against it: that still works.
async fn replace(pool: Rc<Pool>, member: Rc<Member>, old: Rc<Door>) {
    let connection = match Channel::connect(&pool, member.backend()).await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(backend = member.backend().name(), %error, "an old connection stays: no other to be had");
            return;
        }
    };
    // The old one may have ended meanwhile; whoever needs a channel then opens one.
    let Some(flow) = member.flow_of(&old).filter(|_| !old.is_closed()) else { return };
    let door = Door::new();
    member.doors_of(flow).borrow_mut().push(Rc::clone(&door));
    old.give_way();
    Channel::work(pool, member, door, connection).await;
}
