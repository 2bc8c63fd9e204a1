//! One check of a backend: whether it is there, and whether it says that it is well.

use std::fmt;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::wire::ask;
use crate::wire::client::Connection;

use super::found::Found;
use super::health::Fault;
use super::{Endpoint, Settings};

/// How a backend is asked whether it is well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Check {
    /// It accepts an HTTP/2 connection and says its SETTINGS. A process that is stopped (its kernel still accepts) or a port
    /// that speaks something else does not.
    #[default]
    Connect,
    /// `grpc.health.v1` says SERVING, or is not served, or not to us.
    Grpc {
        /// The service asked about; empty: the process as a whole.
        service: String,
    },
    /// It accepts a TCP connection.
    Tcp,
    /// A GET by HTTP/1.1 is answered with 200 to 399.
    Http {
        /// What is asked for.
        path: String,
        /// The port that answers, on the backend's own host.
        port: u16,
    },
}

/// What a check found wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unfit {
    /// Whether nobody is there, or somebody who is not well.
    pub fault: Fault,
    /// For people.
    pub why: String,
}

// === impl Check ===

impl Check {
    /// Asks one backend. Takes at most `health.timeout`. Cancel-safe: its connection is closed.
    ///
    /// # Errors
    /// What is wrong with the backend.
    pub async fn ask(&self, found: &Found, settings: &Settings) -> Result<(), Unfit> {
        let (timeout, endpoint) = (settings.health.timeout, &found.endpoint);
        let until = Instant::now() + timeout;
        let unreachable = |why: String| Unfit { fault: Fault::Unreachable, why };
        let unhealthy = |why: String| Unfit { fault: Fault::Unhealthy, why };
        let silent = |_| unhealthy(format!("no answer to the check within {timeout:?}"));
        match self {
            Check::Connect => connect(found, settings).await.map(drop).map_err(unreachable),
            Check::Grpc { service } => {
                let mut connection = connect(found, settings).await.map_err(unreachable)?;
                let mut metadata = http::HeaderMap::new();
                settings.authenticate(&mut metadata);
                let authority = endpoint.to_string();
                let asking = ask::check(&mut connection, &authority, service, metadata);
                timeout_at(until, asking).await.map_err(silent)?.map_err(unhealthy)
            }
            Check::Tcp => tcp(endpoint, until).await.map(drop).map_err(unreachable),
            Check::Http { path, port } => {
                let endpoint = Endpoint { host: endpoint.host.clone(), port: *port };
                let stream = tcp(&endpoint, until).await.map_err(unreachable)?;
                let authority = endpoint.to_string();
                let status = timeout_at(until, ask::get(stream, &authority, path)).await.map_err(silent)?;
                match status.map_err(|error| unhealthy(error.to_string()))? {
                    status if (200..400).contains(&status.as_u16()) => Ok(()),
                    status => Err(unhealthy(format!("GET {path} was answered with {status}"))),
                }
            }
        }
    }
}

async fn connect(found: &Found, settings: &Settings) -> Result<Connection, String> {
    let settings = &Settings { connect_deadline: settings.health.timeout, ..settings.clone() };
    found.connect(settings, settings.connect_deadline).await.map_err(|error| error.to_string())
}

async fn tcp(endpoint: &Endpoint, until: Instant) -> Result<TcpStream, String> {
    match timeout_at(until, TcpStream::connect((endpoint.host.as_str(), endpoint.port))).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err("no connection in time".to_owned()),
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Connect => f.write_str("connect"),
            Check::Grpc { service } if service.is_empty() => f.write_str("grpc"),
            Check::Grpc { service } => write!(f, "grpc ({service})"),
            Check::Tcp => f.write_str("tcp"),
            Check::Http { path, port } => write!(f, "http (GET {path} on port {port})"),
        }
    }
}
