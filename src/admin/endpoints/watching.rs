//! Tells a watcher of every change of a pool, as server-sent events.
//!
//! A watcher is told the present, never the past: while it does not read, nothing is made for it, and changes that
//! follow each other closely are told as one.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::admin::door::Peer;
use crate::admin::{Readiness, Token, text};

use super::{Asked, Shared, State, View};

/// A comment that is sent when nothing else is, so that both sides notice when the other is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Changes within this are told as one.
const GAP: Duration = Duration::from_millis(50);
/// A watch ends after this, or up to a tenth less so that watchers do not come back together; clients come back at once.
const AGE_MAX: Duration = Duration::from_secs(3_600);
/// When a client that was let go should come back.
const RETRY: Duration = Duration::from_secs(2);
/// What one that finds no place is told to wait, in seconds.
const RETRY_AFTER: &str = "5";

/// One watcher.
struct Watch {
    asked: Asked,
    state: State,
    changed: watch::Receiver<u64>,
    ready: watch::Receiver<Readiness>,
    /// What had to be brought when it began.
    token: Option<Arc<Token>>,
    /// Of what was told last.
    told: Option<u64>,
    until: Instant,
    /// Given back when the watch ends.
    _place: OwnedSemaphorePermit,
    _connection: Lasting,
}

/// Keeps its connection from ending for its age.
struct Lasting(Arc<AtomicBool>);

/// The answer to a watcher, which lasts.
pub(super) fn respond(asked: Asked, view: View, shared: Shared, request: &Request) -> Response {
    let Shared { state, places } = shared;
    if is_draining(&state.ready) {
        return later("this gateway is draining; ask another\n");
    }
    let Ok(place) = places.try_acquire_owned() else {
        return later("as many watch as may; poll /v1/endpoints, or come back\n");
    };
    let lasting = request.extensions().get::<Peer>().map(|peer| Arc::clone(&peer.watches)).unwrap_or_default();
    lasting.store(true, Relaxed);
    let watch = Watch {
        asked,
        ready: state.ready.clone(),
        token: state.token.load_full(),
        state,
        changed: view.changed,
        told: None,
        until: Instant::now() + AGE_MAX.mul_f64(1.0 - 0.1 * fastrand::f64()),
        _place: place,
        _connection: Lasting(lasting),
    };
    let events = Sse::new(watch.events()).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    ([(header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], events).into_response()
}

fn later(why: &str) -> Response {
    ([(header::RETRY_AFTER, RETRY_AFTER)], text(StatusCode::SERVICE_UNAVAILABLE, why)).into_response()
}

fn is_draining(ready: &watch::Receiver<Readiness>) -> bool {
    matches!(*ready.borrow(), Readiness::Draining(_))
}

// === impl Watch ===

impl Watch {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut watch| async move {
            let event = watch.next().await?;
            Some((Ok(event), watch))
        })
    }

    /// Waits for something to tell; `None` when the gateway drains, the pool is gone, another token has to be brought
    /// or the watch is old. It looks again when the gateway has been given another plan, too.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let view = (self.state.look)(self.asked.pool.as_deref()).ok()?;
            // Another plan may mean another pool.
            self.changed = view.changed.clone();
            let is_keyed = self.asked.key.is_some();
            let answer = self.asked.answer(view);
            // Without a key the order is the load's, which never rests: only the set counts as a change.
            let told = if is_keyed { answer.fingerprint() } else { answer.fingerprint_of_set() };
            if self.told.replace(told) != Some(told) {
                let event = Event::default().id(answer.epoch.to_string()).event("endpoints").retry(RETRY);
                return event.json_data(&answer).ok();
            }
            tokio::select! {
                _ = self.changed.changed() => sleep(GAP).await,
                // Without a gateway there is nothing to tell.
                changed = self.ready.changed() => changed.ok()?,
                () = sleep_until(self.until) => return None,
            }
            if is_draining(&self.ready) || self.state.token.load_full() != self.token {
                return None;
            }
        }
    }
}

// === impl Lasting ===

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}
