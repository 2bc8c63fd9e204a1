//! What an operator may tell the gateway to do: POST and PUT only, each logged with who, what and what came of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Request, State as Extract};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Extension, Router};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout};

use crate::metrics::{self, Verb, VerbResult};

use super::authority::{Authority, Caller, Refusal};
use super::door::Peer;
use super::query::Query;
use super::snapshot::printable;
use super::{State, text};

/// What the gateway is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Read the config again and run what it says.
    Reload,
    /// Take in nothing more, deliver what is held, and end: as SIGTERM.
    Drain,
    /// Give a backend nothing more.
    DrainBackend(Target),
    /// Give it messages again.
    UndrainBackend(Target),
    /// Log this much: a level, or levels by module.
    LogLevel(String),
}

/// A backend as an operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, as in `/snapshot`.
    pub backend: String,
    /// Its pool, where several have a backend of that name.
    pub pool: Option<String>,
}

/// Why a command was not carried out. The text says what and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It can never be done as it was said.
    Wrong(String),
    /// There is nothing of that name.
    Unknown(String),
    /// Several things have that name.
    Ambiguous(String),
    /// Not now, or not by this process.
    Impossible(String),
}

/// Carries a command out and answers what was done, one line or more.
pub type Obey = Arc<dyn Fn(Command) -> BoxFuture<'static, Result<String, Fault>> + Send + Sync>;

/// Who may use the port, and what was not said of those who may not.
pub(super) struct Guard {
    authority: Authority,
    refusals: Mutex<Option<Instant>>,
    unsaid: AtomicU64,
}

/// A command that takes longer is done or fails without its caller. A reload reads and checks files: milliseconds.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
/// Before a wrong token is answered: guessing should be slow.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_millis(250);
/// Refusals are logged at most this often, so that nobody fills a disk with them.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// The routes; [`guard`] has to stand before them.
pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/reload", post(reload))
        .route("/drain", post(drain))
        .route("/backends/{name}/drain", post(drain_backend))
        .route("/backends/{name}/undrain", post(undrain_backend))
        .route("/log-level", put(log_level).post(log_level))
}

/// Lets nobody change anything who may not, whatever the path: it is asked before any path is looked at.
pub(super) async fn guard(Extract(guard): Extract<Arc<Guard>>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let peer = peer_of(&request);
    let (parts, body) = request.into_parts();
    match guard.authority.admit(&parts, &peer) {
        Ok(caller) => {
            let mut request = Request::from_parts(parts, body);
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => {
            let verb = verb_of(parts.uri.path());
            metrics::admin_verbs(verb, VerbResult::Refused).increment(1);
            guard.note(peer.address, &parts.method, &parts.uri, refusal);
            guard.refuse(refusal).await
        }
    }
}

/// Lets no foreign page read what only this machine may see.
pub(super) async fn guard_reading(Extract(guard): Extract<Arc<Guard>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match guard.authority.admit_reader(&parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => guard.refuse(refusal).await,
    }
}

/// Lets nobody read who may not: for ports on which reading needs as much as changing.
pub(super) async fn guard_everything(Extract(guard): Extract<Arc<Guard>>, request: Request, next: Next) -> Response {
    let peer = peer_of(&request);
    let (parts, body) = request.into_parts();
    match guard.authority.admit(&parts, &peer) {
        Ok(_) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => {
            guard.note(peer.address, &parts.method, &parts.uri, refusal);
            guard.refuse(refusal).await
        }
    }
}

/// What is answered to a method that a path does not take.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Response {
    let mend = match verb_of(uri.path()) {
        Verb::Other => "only GET is answered here\n".to_owned(),
        Verb::LogLevel => {
            format!("{method} changes nothing\n  mend: PUT the level: curl -X PUT -d debug ADDRESS{uri}\n")
        }
        _ => format!("{method} changes nothing\n  mend: use POST: curl -X POST ADDRESS{uri}\n"),
    };
    text(StatusCode::METHOD_NOT_ALLOWED, mend)
}

async fn reload(caller: Extension<Caller>, state: Extract<State>) -> Response {
    act(Verb::Reload, "", *caller, &state, Ok(Command::Reload)).await
}

async fn drain(caller: Extension<Caller>, state: Extract<State>) -> Response {
    act(Verb::Drain, "", *caller, &state, Ok(Command::Drain)).await
}

async fn drain_backend(name: Path<String>, uri: Uri, caller: Extension<Caller>, state: Extract<State>) -> Response {
    let command = target(&name, &uri).map(Command::DrainBackend);
    act(Verb::BackendDrain, &name, *caller, &state, command).await
}

async fn undrain_backend(name: Path<String>, uri: Uri, caller: Extension<Caller>, state: Extract<State>) -> Response {
    let command = target(&name, &uri).map(Command::UndrainBackend);
    act(Verb::BackendUndrain, &name, *caller, &state, command).await
}

async fn log_level(uri: Uri, caller: Extension<Caller>, state: Extract<State>, body: String) -> Response {
    let level = level(&uri, &body);
    let shown = level.clone().unwrap_or_default();
    act(Verb::LogLevel, &shown, *caller, &state, level.map(Command::LogLevel)).await
}

fn target(name: &str, uri: &Uri) -> Result<Target, String> {
    let query = Query::read(uri.query())?;
    if let Some(name) = query.unknown(&["pool"]).next() {
        return Err(format!("`{}` is no parameter here; there is `pool`", printable(name.as_bytes())));
    }
    Ok(Target { backend: name.to_owned(), pool: query.text("pool")?.map(str::to_owned) })
}

/// The level in the body, or behind `?level=`.
fn level(uri: &Uri, body: &str) -> Result<String, String> {
    let query = Query::read(uri.query())?;
    match (query.text("level")?, body.trim()) {
        (Some(level), "") => Ok(level.to_owned()),
        (None, "") => {
            Err("there is no level; write one into the body, as `debug` or `info,switchyard=debug`".to_owned())
        }
        (None, level) => Ok(level.to_owned()),
        (Some(_), _) => Err("there are two levels, in the query and in the body; write one of them".to_owned()),
    }
}

/// Has a command carried out and keeps book of it.
async fn act(verb: Verb, what: &str, caller: Caller, state: &State, command: Result<Command, String>) -> Response {
    let outcome = match command {
        Err(wrong) => Err(Fault::Wrong(wrong)),
        Ok(command) => timeout(COMMAND_DEADLINE, (state.obey)(command)).await.unwrap_or_else(|_| {
            Err(Fault::Impossible("no answer in 10 s; it may still be done: look at the log".to_owned()))
        }),
    };
    let (verb_name, what) = (verb.name(), printable(what.as_bytes()));
    let result = if outcome.is_ok() { VerbResult::Done } else { VerbResult::Failed };
    metrics::admin_verbs(verb, result).increment(1);
    match outcome {
        Ok(done) => {
            tracing::info!(verb = verb_name, what, %caller, result = %one_line(&done), "an operator's command was carried out");
            let status = if verb == Verb::Drain { StatusCode::ACCEPTED } else { StatusCode::OK };
            text(status, ended(done))
        }
        Err(fault) => {
            tracing::warn!(verb = verb_name, what, %caller, result = %one_line(&fault.to_string()), "an operator's command was not carried out");
            text(fault.status(), ended(fault.to_string()))
        }
    }
}

/// The verb a path stands for, as metrics call it.
fn verb_of(path: &str) -> Verb {
    match path {
        "/reload" => Verb::Reload,
        "/drain" => Verb::Drain,
        "/log-level" => Verb::LogLevel,
        path => match path.strip_prefix("/backends/").and_then(|rest| rest.split_once('/')) {
            Some((_, "drain")) => Verb::BackendDrain,
            Some((_, "undrain")) => Verb::BackendUndrain,
            _ => Verb::Other,
        },
    }
}

/// Who asks. Nobody can be mistaken for this machine where the door did not say.
fn peer_of(request: &Request) -> Peer {
    let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let unknown = || Peer { address: nobody, is_certified: false, watches: Arc::default() };
    request.extensions().get::<Peer>().cloned().unwrap_or_else(unknown)
}

/// As a log has it: on one line, and nothing in it that moves a terminal's cursor.
fn one_line(text: &str) -> String {
    text.trim_end().replace('\n', "; ").replace(char::is_control, "·")
}

fn ended(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

// === impl Guard ===

impl Guard {
    pub fn new(authority: Authority) -> Arc<Self> {
        Arc::new(Self { authority, refusals: Mutex::default(), unsaid: AtomicU64::new(0) })
    }

    async fn refuse(&self, refusal: Refusal) -> Response {
        if refusal == Refusal::WrongToken {
            sleep(WRONG_TOKEN_PAUSE).await;
        }
        let answer = text(refusal.status(), self.authority.explain(refusal));
        match refusal.status() {
            StatusCode::UNAUTHORIZED => {
                ([(header::WWW_AUTHENTICATE, "Bearer realm=\"switchyard\"")], answer).into_response()
            }
            _ => answer,
        }
    }

    /// Logs a refusal, or counts it when one was logged a moment ago. The query stays out: it may hold a token.
    fn note(&self, peer: SocketAddr, method: &Method, uri: &Uri, refusal: Refusal) {
        let now = Instant::now();
        let mut last = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now < last + REFUSAL_PAUSE) {
            self.unsaid.fetch_add(1, Relaxed);
            return;
        }
        *last = Some(now);
        let (unsaid, path) = (self.unsaid.swap(0, Relaxed), printable(uri.path().as_bytes()));
        tracing::warn!(%peer, %method, path, why = ?refusal, unsaid, "somebody was not let in");
    }
}

// === impl Fault ===

impl Fault {
    fn status(&self) -> StatusCode {
        match self {
            Fault::Wrong(_) => StatusCode::BAD_REQUEST,
            Fault::Unknown(_) => StatusCode::NOT_FOUND,
            Fault::Ambiguous(_) => StatusCode::CONFLICT,
            Fault::Impossible(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Fault::Wrong(text) | Fault::Unknown(text) | Fault::Ambiguous(text) | Fault::Impossible(text)) = self;
        f.write_str(text)
    }
}
