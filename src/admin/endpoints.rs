//! Which backends of a pool to connect to, for those who would rather do so directly: `GET /v1/endpoints`.
//!
//! With a key the order is the one in which the gateway itself would give messages of that key to backends, on every
//! replica; without one the least loaded backend comes first. Only those that take new messages are told.

use std::cmp::Reverse;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::extract::{Request, State as Extract};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use crate::pool::balance::roster::Roster;
use crate::pool::found::Found;
use crate::pool::{self, Policy};
use crate::route::key;

use super::authority::{Authority, SharedToken};
use super::query::Query;
use super::snapshot::printable;
use super::verbs::{Guard, guard_everything};
use super::{Port, Readiness, door, text};

mod watching;

/// What a pool looks like now; `None` asks for the first pool. Answers the names of all pools where there is none of
/// that name.
pub type Look = Arc<dyn Fn(Option<&str>) -> Result<View, Vec<String>> + Send + Sync>;

/// What the port is made of.
#[derive(Clone)]
pub struct State {
    /// Looks at a pool; never waits.
    pub look: Look,
    /// Written by the gateway, when it has been given another plan, too: who watches is let go when it drains.
    pub ready: watch::Receiver<Readiness>,
    /// What opens the port to others than this machine.
    pub token: SharedToken,
}

/// One pool at one moment.
pub struct View {
    /// Its name.
    pub pool: String,
    /// Counts the changes of its backends. Read before they were, so that a change meanwhile is seen as one.
    pub epoch: u64,
    /// Told of every change that comes after the backends were looked at.
    pub changed: watch::Receiver<u64>,
    /// Backends that take new messages, in any order.
    pub backends: Vec<Endpoint>,
}

/// One backend to connect to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its name, as in `/snapshot`.
    pub name: String,
    /// Where to connect, `host:port`.
    pub endpoint: String,
    /// Whom its certificate names, where that is not the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Its part of what there is to do, against the weights of the others.
    pub weight: u32,
    /// Its tier; 0 is the first.
    pub priority: u32,
    /// Where it runs, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// One word, as in `/snapshot`.
    pub state: String,
    /// What the gateway sees of its load.
    pub load: Load,
}

/// What the gateway sees of a backend's load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Messages written to it and not yet answered for.
    pub in_flight_messages: u64,
    /// Their bytes.
    pub in_flight_bytes: u64,
    /// Its part of its pool's messages in the last second, 0 to 1.
    pub share: f64,
    /// From a trip's half-close to its answer, smoothed.
    pub answer_ms: f64,
}

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The pool.
    pub pool: String,
    /// Counts the changes of its backends; starts again with the process.
    pub epoch: u64,
    /// Backends that take new messages, also those left out for `count`.
    pub total: usize,
    /// They, the first choice first.
    pub backends: Vec<Endpoint>,
}

/// Connections served at once. Each may watch.
const BOUNDS: door::Bounds = door::Bounds { connections_max: 256, ..door::FOR_OPERATORS };
/// Answers under way that last: fewer than connections, so that there is always one to ask by.
const WATCHERS_MAX: usize = 192;
/// Backends in one answer.
const COUNT_MAX: usize = 256;
/// Bytes of a key, all parts together.
const KEY_BYTES_MAX: usize = 1_024;

const PATHS: &str = "nothing here; there is

/v1/endpoints          backends of a pool, the first choice first: ?pool=&key=&count=
/v1/endpoints/watch    the same as server-sent events, one at once and one for every change
";

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    pool: Option<String>,
    key: Option<u64>,
    count: usize,
}

/// What handlers share.
#[derive(Clone)]
struct Shared {
    state: State,
    places: Arc<Semaphore>,
}

/// Serves `/v1/endpoints` on `port` until `shutdown`. Nobody is answered, whatever the path, who may not read.
pub async fn serve(port: Port, state: State, shutdown: impl Future<Output = ()>) {
    let authority = Authority::of(&port.listener, Arc::clone(&state.token), "endpoints.token");
    door::serve(port, BOUNDS, router(state, Guard::new(authority)), shutdown).await;
}

fn router(state: State, guard: Arc<Guard>) -> Router {
    Router::new()
        .route("/v1/endpoints", get(endpoints))
        .route("/v1/endpoints/watch", get(watch))
        .fallback(async || text(StatusCode::NOT_FOUND, PATHS))
        .method_not_allowed_fallback(async || text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n"))
        .layer(from_fn_with_state(guard, guard_everything))
        .with_state(Shared { state, places: Arc::new(Semaphore::new(WATCHERS_MAX)) })
}

async fn endpoints(Extract(shared): Extract<Shared>, request: Request) -> Response {
    let accepts = |value: &HeaderValue| value.as_bytes().starts_with(b"text/event-stream");
    if request.headers().get(header::ACCEPT).is_some_and(accepts) {
        return watch(Extract(shared), request).await;
    }
    match look(&shared.state, request.uri()) {
        Ok((asked, view)) => respond(&asked.answer(view), request.headers()),
        Err(refused) => refused,
    }
}

async fn watch(Extract(shared): Extract<Shared>, request: Request) -> Response {
    match look(&shared.state, request.uri()) {
        Ok((asked, view)) => watching::respond(asked, view, shared, &request),
        Err(refused) => refused,
    }
}

/// What was asked for and what it is asked of; or what is answered instead.
#[allow(clippy::result_large_err, reason = "either is an answer and is sent at once")]
fn look(state: &State, uri: &Uri) -> Result<(Asked, View), Response> {
    let asked = Asked::read(uri).map_err(|wrong| text(StatusCode::BAD_REQUEST, wrong + "\n"))?;
    match (state.look)(asked.pool.as_deref()) {
        Ok(view) => Ok((asked, view)),
        Err(pools) => {
            let name = printable(asked.pool.unwrap_or_default().as_bytes());
            Err(text(StatusCode::NOT_FOUND, format!("there is no pool \"{name}\"; there is {}\n", pools.join(", "))))
        }
    }
}

fn respond(answer: &Answer, headers: &HeaderMap) -> Response {
    // Not the epoch, which also counts what is undone again and starts anew with the process.
    let tag = format!("W/\"{:x}\"", answer.fingerprint());
    let is_known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| matches!(known.trim(), "*") || known.trim() == tag);
    let headers = [
        (header::ETAG, tag.as_str()),
        // A copy may be kept by whoever asked, and has to be asked about before it is used.
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::VARY, "authorization, accept"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    if is_known { (StatusCode::NOT_MODIFIED, headers).into_response() } else { (headers, Json(answer)).into_response() }
}

// === impl Asked ===

impl Asked {
    fn read(uri: &Uri) -> Result<Self, String> {
        let query = Query::read(uri.query())?;
        if let Some(name) = query.unknown(&["pool", "key", "count"]).next() {
            let name = printable(name.as_bytes());
            return Err(format!("`{name}` is no parameter here; there are `pool`, `key` and `count`"));
        }
        let count = match query.text("count")? {
            None => COUNT_MAX,
            Some(count) => count
                .parse()
                .ok()
                .filter(|count| (1..=COUNT_MAX).contains(count))
                .ok_or(format!("`count` takes 1 to {COUNT_MAX}"))?,
        };
        let parts: Vec<&[u8]> = query.values("key").collect();
        if parts.iter().map(|part| part.len()).sum::<usize>() > KEY_BYTES_MAX {
            return Err(format!("`key` is longer than {KEY_BYTES_MAX} bytes"));
        }
        if !parts.is_empty() && parts.iter().all(|part| part.is_empty()) {
            return Err("`key` is empty; leave it out to have the least loaded first".to_owned());
        }
        let key = (!parts.is_empty()).then(|| key::of_parts(parts));
        Ok(Self { pool: query.text("pool")?.map(str::to_owned), key, count })
    }

    /// The backends of a pool in the order that was asked for.
    fn answer(&self, view: View) -> Answer {
        let View { pool, epoch, mut backends, .. } = view;
        let total = backends.len();
        match self.key {
            Some(key) => {
                let order = in_order(key, &backends);
                backends = order.into_iter().map(|at| std::mem::take(&mut backends[at])).collect();
            }
            None => backends.sort_by_cached_key(Endpoint::reluctance),
        }
        backends.truncate(self.count);
        Answer { pool, epoch, total, backends }
    }
}

/// The order in which the gateway itself would try them for a key.
fn in_order(key: u64, backends: &[Endpoint]) -> Vec<usize> {
    let nowhere = || pool::Endpoint { host: String::new(), port: 0 };
    let found = |backend: &Endpoint| Found {
        name: backend.name.clone(),
        weight: backend.weight,
        priority: backend.priority,
        ..Found::at(nowhere())
    };
    let backends = backends.iter().map(found).collect();
    Roster::at_rest(&pool::Settings { balance: Policy::Hash, backends, ..pool::Settings::new("", Vec::new()) })
        .in_order(key)
}

// === impl Endpoint ===

impl Endpoint {
    /// Sorts the least loaded to the front: by tier, bytes in flight for its weight, recent share, name.
    fn reluctance(&self) -> (u32, u64, u64, Reverse<u32>, String) {
        let weight = u64::from(self.weight.max(1));
        // In millionths: floats have no order.
        let share = (self.load.share * 1e6) as u64;
        (self.priority, self.load.in_flight_bytes / weight, share / weight, Reverse(self.weight), self.name.clone())
    }
}

// === impl Answer ===

impl Answer {
    /// A number that differs when another backend, another order or anything but load is told.
    fn fingerprint(&self) -> u64 {
        fingerprint(&self.pool, self.total, self.backends.iter())
    }

    /// The same whatever the order.
    fn fingerprint_of_set(&self) -> u64 {
        let mut backends: Vec<&Endpoint> = self.backends.iter().collect();
        backends.sort_by_key(|backend| &backend.name);
        fingerprint(&self.pool, self.total, backends.into_iter())
    }
}

fn fingerprint<'a>(pool: &str, total: usize, backends: impl Iterator<Item = &'a Endpoint>) -> u64 {
    let mut hash = DefaultHasher::new();
    (pool, total).hash(&mut hash);
    for backend in backends {
        let Endpoint { name, endpoint, server_name, weight, priority, zone, state, load: _ } = backend;
        (name, endpoint, server_name, weight, priority, zone, state).hash(&mut hash);
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(query: &str) -> Result<Asked, String> {
        Asked::read(&format!("/v1/endpoints?{query}").parse().unwrap())
    }

    fn backend(name: &str, weight: u32, in_flight_bytes: u64) -> Endpoint {
        let load = Load { in_flight_bytes, ..Load::default() };
        Endpoint { name: name.to_owned(), weight, load, ..Endpoint::default() }
    }

    fn view(backends: Vec<Endpoint>) -> View {
        View { pool: "oap".to_owned(), epoch: 3, changed: watch::channel(3).1, backends }
    }

    fn names(answer: &Answer) -> Vec<&str> {
        answer.backends.iter().map(|backend| backend.name.as_str()).collect()
    }

    #[test]
    fn every_parameter_has_a_bound() {
        assert_eq!(asked("").unwrap(), Asked { pool: None, key: None, count: COUNT_MAX });
        assert!(asked("pool=oap&key=a&count=256").is_ok());
        let long = format!("key={}", "k".repeat(KEY_BYTES_MAX + 1));
        for (wrong, says) in [
            ("count=0", "1 to 256"),
            ("count=257", "1 to 256"),
            ("count=-1", "1 to 256"),
            ("count=1&count=2", "twice"),
            ("pool=%ff", "UTF-8"),
            ("key=", "empty"),
            ("kei=a", "`kei`"),
            (long.as_str(), "longer"),
        ] {
            let told = asked(wrong).unwrap_err();
            assert!(told.contains(says), "{wrong}: {told}");
        }
    }

    #[test]
    fn without_a_key_the_least_loaded_for_its_weight_comes_first() {
        let mut standby = backend("standby", 1, 0);
        standby.priority = 1;
        let backends = vec![standby, backend("busy", 1, 900), backend("large", 10, 900), backend("idle", 1, 50)];
        let answer = asked("count=3").unwrap().answer(view(backends));
        assert_eq!((names(&answer), answer.total), (vec!["idle", "large", "busy"], 4));
    }

    #[test]
    fn a_fingerprint_ignores_load_and_nothing_else() {
        let answer = |backends| Answer { backends, ..Answer::default() };
        let (a, b) = (backend("a", 1, 0), backend("b", 1, 0));
        let one = answer(vec![a.clone(), b.clone()]);
        assert_eq!(one.fingerprint(), answer(vec![backend("a", 1, 99), b.clone()]).fingerprint());
        let turned = answer(vec![b.clone(), a.clone()]);
        assert_ne!(one.fingerprint(), turned.fingerprint());
        assert_eq!(one.fingerprint_of_set(), turned.fingerprint_of_set());
        for other in [vec![a.clone()], vec![a.clone(), backend("b", 2, 0)], vec![backend("x", 1, 0), b]] {
            assert_ne!(one.fingerprint_of_set(), answer(other).fingerprint_of_set());
        }
    }

    proptest! {
        #[test]
        fn the_order_of_a_key_does_not_depend_on_the_order_of_the_list(key in "[a-z0-9]{1,32}", seed in any::<u64>()) {
            let mut backends: Vec<Endpoint> = (0..7).map(|at| backend(&format!("collector-{at}:11800"), 1, at)).collect();
            let asked = asked(&format!("key={key}")).unwrap();
            let first = asked.answer(view(backends.clone()));
            fastrand::Rng::with_seed(seed).shuffle(&mut backends);
            prop_assert_eq!(first, asked.answer(view(backends)));
        }
    }
}
