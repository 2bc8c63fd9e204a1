//! What an operator may look at over HTTP: readiness, Prometheus metrics, a snapshot and a page that draws it.
//!
//! Everything here only reads. Two doors: [`serve_admin`] for a loopback port with everything, [`serve_prometheus`]
//! for a port the cluster may see, with counts and probes but no word of an agent.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Extract;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

mod door;
pub mod snapshot;

pub use door::Port;
pub use snapshot::Snapshot;

/// How a snapshot is made: asks the workers, answers within a second or so.
pub type TakeSnapshot = Arc<dyn Fn() -> BoxFuture<'static, Snapshot> + Send + Sync>;

/// What the pages are made of.
#[derive(Clone)]
pub struct State {
    /// Makes one snapshot per request of `/snapshot`.
    pub snapshot: TakeSnapshot,
    /// Written by the gateway, read by `/ready`.
    pub ready: watch::Receiver<Readiness>,
    /// Renders `/metrics`.
    pub prometheus: PrometheusHandle,
}

/// Whether the gateway wants new connections.
///
/// ```text
/// Starting [-> Waiting] -> Ready -> Draining
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet.
    #[default]
    Starting,
    /// Not until something has come that it needs: what that is.
    Waiting(String),
    /// Yes.
    Ready,
    /// No more, and why (`SIGTERM`, `the drain was asked for`).
    Draining(String),
}

/// A snapshot that takes longer than this is answered with 503: the page must not pile up requests.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(2);

const ADMIN_PATHS: &str = "/            a page that draws /snapshot
/snapshot    what is going on, as JSON
/ready       200 when new connections are welcome, else 503 and why (also /readyz)
/live        200 while the process runs (also /livez, /healthz)
/metrics     counts for Prometheus
";

const PROMETHEUS_PATHS: &str = "/metrics     counts for Prometheus
/ready       200 when new connections are welcome, else 503 and why (also /readyz)
/live        200 while the process runs (also /livez, /healthz)
";

/// The page needs nothing but its own inline style and script, and nobody may frame it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                           connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'";

/// Serves every page on `port` until `shutdown`, then lets requests that have begun end.
pub async fn serve_admin(port: Port, state: State, shutdown: impl Future<Output = ()>) {
    let router = common().route("/", get(page)).route("/snapshot", get(snapshot));
    door::serve(port, finish(router, ADMIN_PATHS, state), shutdown).await;
}

/// Serves metrics and probes only, for a port that more than the operator can reach.
pub async fn serve_prometheus(port: Port, state: State, shutdown: impl Future<Output = ()>) {
    door::serve(port, finish(common(), PROMETHEUS_PATHS, state), shutdown).await;
}

fn common() -> Router<State> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(ready))
        .route("/readyz", get(ready))
        .route("/live", get(live))
        .route("/healthz", get(live))
        .route("/livez", get(live))
}

fn finish(router: Router<State>, paths: &'static str, state: State) -> Router {
    router
        .fallback(async move || text(StatusCode::NOT_FOUND, format!("nothing here; there is\n\n{paths}")))
        .method_not_allowed_fallback(async || text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n"))
        .with_state(state)
}

async fn page() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, PAGE_POLICY)];
    (headers, PLAIN, include_str!("admin/page.html")).into_response()
}

async fn snapshot(Extract(state): Extract<State>) -> Response {
    match tokio::time::timeout(SNAPSHOT_DEADLINE, (state.snapshot)()).await {
        Ok(snapshot) => (PLAIN, Json(snapshot)).into_response(),
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "the workers did not answer in 2 s\n"),
    }
}

async fn ready(Extract(state): Extract<State>) -> Response {
    let readiness = state.ready.borrow().clone();
    match readiness {
        Readiness::Ready => text(StatusCode::OK, "ready\n"),
        Readiness::Starting => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Readiness::Waiting(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("waiting: {reason}\n")),
        Readiness::Draining(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("draining: {reason}\n")),
    }
}

async fn live() -> Response {
    text(StatusCode::OK, "live\n")
}

async fn metrics(Extract(state): Extract<State>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (headers, PLAIN, state.prometheus.render()).into_response()
}

/// Answers are what they say they are, and of this moment.
const PLAIN: [(HeaderName, &str); 2] =
    [(header::X_CONTENT_TYPE_OPTIONS, "nosniff"), (header::CACHE_CONTROL, "no-store")];

fn text(status: StatusCode, body: impl Into<String>) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], PLAIN, body.into()).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;

    use super::snapshot::{Backend, Call};
    use super::*;

    struct Served {
        address: std::net::SocketAddr,
        ready: watch::Sender<Readiness>,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<()>,
    }

    fn example() -> Snapshot {
        let backend = Backend { name: "oap-0:11800".to_owned(), share: 1.0, ..Default::default() };
        let call = Call { method: "</script>\u{1b}[2J\n\"".to_owned(), ..Default::default() };
        Snapshot { received: 7, backends: vec![backend], calls: vec![call], ..Default::default() }
    }

    async fn start(admin: bool) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, readiness) = watch::channel(Readiness::Starting);
        let (stop, stopped) = oneshot::channel::<()>();
        let state = State {
            snapshot: Arc::new(|| Box::pin(async { example() })),
            ready: readiness,
            prometheus: crate::metrics::install(),
        };
        let shutdown = async {
            let _ = stopped.await;
        };
        let port = Port { name: "admin", listener, tls: None };
        let task = if admin {
            tokio::spawn(serve_admin(port, state, shutdown))
        } else {
            tokio::spawn(serve_prometheus(port, state, shutdown))
        };
        Served { address, ready, stop, task }
    }

    impl Served {
        /// The whole answer to one request, head and body.
        async fn ask(&self, method: &str, path: &str) -> String {
            let mut socket = TcpStream::connect(self.address).await.unwrap();
            let request = format!("{method} {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            answer
        }

        async fn get(&self, path: &str) -> String {
            self.ask("GET", path).await
        }
    }

    #[tokio::test]
    async fn ready_follows_the_gateway() {
        let served = start(false).await;
        for path in ["/ready", "/readyz"] {
            served.ready.send_replace(Readiness::Starting);
            assert!(served.get(path).await.starts_with("HTTP/1.1 503"));
            served.ready.send_replace(Readiness::Ready);
            assert!(served.get(path).await.ends_with("\r\n\r\nready\n"));
            served.ready.send_replace(Readiness::Draining("SIGTERM".to_owned()));
            assert!(served.get(path).await.ends_with("draining: SIGTERM\n"));
            // A drain must not make a liveness probe kill what it drains.
            for path in ["/live", "/livez", "/healthz"] {
                assert!(served.get(path).await.starts_with("HTTP/1.1 200"), "{path}");
            }
        }
    }

    #[tokio::test]
    async fn the_snapshot_reads_back_and_cannot_break_out_of_its_line() {
        let served = start(true).await;
        let answer = served.get("/snapshot").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("application/json") && head.contains("nosniff"), "{head}");
        assert!(!body.contains('\u{1b}') && !body.contains('\n'), "{body}");
        assert_eq!(serde_json::from_str::<Snapshot>(body).unwrap(), example());
    }

    #[tokio::test]
    async fn the_metrics_port_shows_no_agent() {
        let served = start(false).await;
        let totals = crate::metrics::Totals::resolve();
        assert!(served.get("/metrics").await.contains("# TYPE switchyard_messages_delivered_total counter"));
        drop(totals);
        for path in ["/", "/snapshot"] {
            let answer = served.get(path).await;
            assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("/metrics"), "{answer}");
        }
    }

    #[tokio::test]
    async fn the_page_is_served_and_nothing_but_get() {
        let served = start(true).await;
        let page = served.get("/").await;
        assert!(page.contains("<!doctype html>") && page.contains("frame-ancestors 'none'"));
        for method in ["POST", "PUT", "DELETE"] {
            assert!(served.ask(method, "/snapshot").await.starts_with("HTTP/1.1 405"), "{method}");
        }
        assert!(served.get("/nope").await.contains("/snapshot"));
    }

    #[tokio::test]
    async fn shutdown_closes_the_port() {
        let served = start(true).await;
        let _idle = TcpStream::connect(served.address).await.unwrap();
        served.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), served.task).await.unwrap().unwrap();
        assert!(TcpStream::connect(served.address).await.is_err());
    }
}
