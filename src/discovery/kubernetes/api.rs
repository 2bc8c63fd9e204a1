//! The Kubernetes API as far as it is needed: one connection, lists in pages, watches line by line.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::lines::{Lines, TooLong};
use super::objects::{Event, Page, Status};
use super::{Kind, Settings};
use crate::discovery::dial::{DialError, TlsSettings, dial};
use crate::pool::Endpoint;

/// One connection to the API, used for one request after the other.
pub struct Session {
    requests: SendRequest<Empty<Bytes>>,
    host: HeaderValue,
    token_file: Option<PathBuf>,
    /// The collection that is followed, as a path.
    path: String,
    /// What it is called where access to it is granted.
    access: Access,
    /// Moves the connection's bytes; ends with the session.
    _driver: JoinSet<()>,
}

/// The lines of one watch.
pub struct Watch {
    body: Incoming,
    lines: Lines,
    patience: Duration,
}

/// What a service account needs to be allowed.
#[derive(Debug, Clone)]
struct Access {
    resource: &'static str,
    group: &'static str,
    namespace: String,
}

/// Why the API is of no use just now.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Nothing says where the API is.
    #[error("KUBERNETES_SERVICE_HOST is not set, so this is no pod: write `api_server`")]
    NoServer,
    /// A file of the service account cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        error: io::Error,
    },
    /// The API does not know the token.
    #[error("the API server does not accept the token: {said}")]
    Unauthorized {
        /// Its own words.
        said: String,
    },
    /// The service account lacks a right.
    #[error(
        "not allowed to {verb} {resource} in namespace {namespace}: a Role with apiGroups [\"{group}\"], resources [{resource}], \
         verbs [list, watch] has to be bound to the service account; the API server says: {said}"
    )]
    Forbidden {
        /// `list` or `watch`.
        verb: &'static str,
        /// What may not be seen.
        resource: &'static str,
        /// Its group; empty for the first one.
        group: &'static str,
        /// Where.
        namespace: String,
        /// Its own words.
        said: String,
    },
    /// The version asked for is too old, or a list changed between its pages: everything has to be listed again.
    #[error("the version asked for is no longer known")]
    Gone,
    /// Any other refusal.
    #[error("the API server answers {verb} {resource} with {code}: {said}")]
    Refused {
        /// `list` or `watch`.
        verb: &'static str,
        /// What was asked for.
        resource: &'static str,
        /// As of HTTP.
        code: u16,
        /// Its own words.
        said: String,
    },
    /// The connection broke.
    #[error("the connection to the API server broke: {0}")]
    Broken(String),
    /// It says nothing for too long.
    #[error("the API server is silent")]
    Silent,
    /// It says what is not understood.
    #[error("the API server's answer cannot be read: {0}")]
    Unreadable(String),
}

/// What the kubelet puts into every pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Time for the head of an answer, and for each further piece of a list.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Objects of one page; the number kubectl asks for.
const PAGE_OBJECTS_MAX: u32 = 500;
/// The largest page taken: 500 pods of 128 KiB.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// The longest words shown of a refusal.
const SAID_BYTES_MAX: usize = 64 << 10;
/// After this long the API ends a watch by itself. Drawn anew each time, so that replicas do not come back in step.
const WATCH_SECONDS: std::ops::RangeInclusive<u64> = 240..=300;

// === impl Session ===

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// When the API cannot be reached or its certificate is not to be trusted.
    pub async fn open(settings: &Settings) -> Result<Self, ApiError> {
        let account = Path::new(ACCOUNT);
        let (server, is_tls, token_file) = match &settings.api_server {
            Some(server) => (server.endpoint.clone(), server.is_tls, settings.token_file.clone()),
            None => (own_server()?, true, Some(settings.token_file.clone().unwrap_or_else(|| account.join("token")))),
        };
        let ca_file = settings.ca_file.clone().unwrap_or_else(|| account.join("ca.crt"));
        let tls = is_tls.then_some(TlsSettings { ca_file, identity: None, server_name: None });
        let namespace = match &settings.namespace {
            Some(namespace) => namespace.clone(),
            None => read(&account.join("namespace")).await?,
        };
        let stream = dial(&server, tls.as_ref(), "http/1.1").await?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Whoever waits for an answer hears of it.
            let _ = connection.await;
        });
        let host =
            HeaderValue::try_from(server.to_string()).map_err(|error| ApiError::Unreadable(error.to_string()))?;
        let (path, access) = collection(&settings.kind, namespace);
        Ok(Self { requests, host, token_file, path, access, _driver: driver })
    }

    /// Whether another request can be made.
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// One page of the list; `next` is what the page before named as the next one.
    ///
    /// # Errors
    /// [`ApiError::Gone`] when the list has to begin again.
    pub async fn list(&mut self, next: Option<&str>) -> Result<Page, ApiError> {
        let mut query = format!("limit={PAGE_OBJECTS_MAX}");
        if let Some(next) = next {
            query = format!("{query}&continue={}", encoded(next));
        }
        let body = self.get("list", &query).await?;
        let text = whole(body, PAGE_BYTES_MAX).await?;
        serde_json::from_slice(&text).map_err(|error| ApiError::Unreadable(error.to_string()))
    }

    /// Begins a watch at the version of a list, a bookmark or another watch's last line.
    ///
    /// # Errors
    /// [`ApiError::Gone`] when that version is too old.
    pub async fn watch(&mut self, version: &str) -> Result<Watch, ApiError> {
        let seconds = fastrand::u64(WATCH_SECONDS);
        let query = format!(
            "watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            encoded(version)
        );
        let body = self.get("watch", &query).await?;
        Ok(Watch { body, lines: Lines::default(), patience: Duration::from_secs(seconds) + ANSWER_DEADLINE })
    }

    async fn get(&mut self, verb: &'static str, query: &str) -> Result<Incoming, ApiError> {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        let mut request = Request::get(format!("{}{separator}{query}", self.path))
            .header(HOST, self.host.clone())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("switchyard/", env!("CARGO_PKG_VERSION")));
        // Read each time: tokens are replaced about once an hour.
        if let Some(file) = &self.token_file {
            let token = format!("Bearer {}", read(file).await?);
            let mut token = HeaderValue::try_from(token).map_err(|_| ApiError::File {
                path: file.clone(),
                error: io::Error::new(io::ErrorKind::InvalidData, "it holds no token"),
            })?;
            token.set_sensitive(true);
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Empty::new()).map_err(|error| ApiError::Unreadable(error.to_string()))?;
        let answer = async {
            self.requests.ready().await.map_err(broken)?;
            self.requests.send_request(request).await.map_err(broken)
        };
        let answer = timeout(ANSWER_DEADLINE, answer).await.map_err(|_| ApiError::Silent)??;
        let code = answer.status();
        if code == StatusCode::OK {
            return Ok(answer.into_body());
        }
        let text = whole(answer.into_body(), SAID_BYTES_MAX).await.unwrap_or_default();
        let said = serde_json::from_slice::<Status>(&text).unwrap_or_default().message;
        Err(self.access.refusal(verb, code.as_u16(), said))
    }
}

// === impl Access ===

impl Access {
    fn refusal(&self, verb: &'static str, code: u16, said: String) -> ApiError {
        let Self { resource, group, ref namespace } = *self;
        match code {
            401 => ApiError::Unauthorized { said },
            403 => ApiError::Forbidden { verb, resource, group, namespace: namespace.clone(), said },
            410 => ApiError::Gone,
            _ => ApiError::Refused { verb, resource, code, said },
        }
    }
}

// === impl Watch ===

impl Watch {
    /// Waits for the next line and takes those that came with it; `None` when the watch is over, as the API ends each
    /// after some minutes. Cancel-safe.
    ///
    /// # Errors
    /// When it breaks off, or says nothing for longer than it was to last.
    pub async fn next(&mut self) -> Result<Option<Vec<Event>>, ApiError> {
        loop {
            let mut events = Vec::new();
            while let Some(line) = self.lines.next_line() {
                events.push(serde_json::from_slice(&line).map_err(|error| ApiError::Unreadable(error.to_string()))?);
            }
            if !events.is_empty() {
                return Ok(Some(events));
            }
            let Some(frame) = timeout(self.patience, self.body.frame()).await.map_err(|_| ApiError::Silent)? else {
                return Ok(None);
            };
            if let Ok(piece) = frame.map_err(broken)?.into_data() {
                self.lines.add(&piece).map_err(|error: TooLong| ApiError::Unreadable(error.to_string()))?;
            }
        }
    }
}

// === impl ApiError ===

impl ApiError {
    /// Whether it may happen to the best of connections, and need only be told of when it happens again.
    pub fn is_passing(&self) -> bool {
        matches!(self, ApiError::Gone | ApiError::Broken(_) | ApiError::Silent)
    }

    /// What a line of a watch reports.
    pub fn of_event(event: &Event) -> Self {
        let Status { code, message } = Status::deserialize(&event.object).unwrap_or_default();
        match code {
            410 => ApiError::Gone,
            code => ApiError::Refused { verb: "watch", resource: "its objects", code, said: message },
        }
    }
}

/// The path of what is followed, and the right it takes.
fn collection(kind: &Kind, namespace: String) -> (String, Access) {
    let (root, resource, group) = match kind {
        Kind::Pods { .. } => ("/api/v1", "pods", ""),
        Kind::EndpointSlices { .. } => ("/apis/discovery.k8s.io/v1", "endpointslices", "discovery.k8s.io"),
    };
    let selectors = match kind {
        Kind::Pods { selector, fields } => [("labelSelector", selector.clone()), ("fieldSelector", fields.clone())],
        Kind::EndpointSlices { service } => {
            [("labelSelector", format!("kubernetes.io/service-name={service}")), ("fieldSelector", String::new())]
        }
    };
    let selectors = selectors.iter().filter(|(_, value)| !value.is_empty());
    let query: Vec<_> = selectors.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    let path = format!("{root}/namespaces/{}/{resource}{mark}{}", encoded(&namespace), query.join("&"));
    (path, Access { resource, group, namespace })
}

/// Where the kubelet says that the API is.
fn own_server() -> Result<Endpoint, ApiError> {
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let host = variable("KUBERNETES_SERVICE_HOST").ok_or(ApiError::NoServer)?;
    let port = variable("KUBERNETES_SERVICE_PORT").and_then(|port| port.parse().ok()).unwrap_or(443);
    Ok(Endpoint { host, port })
}

/// The text of a small file, without the line end.
async fn read(path: &Path) -> Result<String, ApiError> {
    let text = tokio::fs::read_to_string(path).await;
    text.map(|text| text.trim().to_owned()).map_err(|error| ApiError::File { path: path.to_owned(), error })
}

async fn whole(mut body: Incoming, bytes_max: usize) -> Result<Vec<u8>, ApiError> {
    let mut text = Vec::new();
    while let Some(frame) = timeout(ANSWER_DEADLINE, body.frame()).await.map_err(|_| ApiError::Silent)? {
        let Ok(piece) = frame.map_err(broken)?.into_data() else { continue };
        if text.len() + piece.len() > bytes_max {
            return Err(ApiError::Unreadable(format!("it is longer than {bytes_max} bytes")));
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

fn broken(error: hyper::Error) -> ApiError {
    ApiError::Broken(error.to_string())
}

/// A text as a part of a query.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
