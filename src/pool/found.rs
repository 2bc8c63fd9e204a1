//! A backend as its source describes it, before anybody has spoken to it.

use std::io;
use std::time::Duration;

use crate::wire::client::{Connection, Target};

use super::{Endpoint, Settings};

/// What a source says of one backend. A pool is told all of them at once, see [`Backends::found`](super::Backends::found).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who it is: what its load, health and keys belong to, and what metrics and logs call it. A source gives the same
    /// backend the same name each time, whatever the order of its list.
    pub name: String,
    /// Where to connect.
    pub endpoint: Endpoint,
    /// Its part of what there is to do, against the weights of the others; 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// Its tier; backends of a higher number stand by for those of a lower one. 0 is the first.
    pub priority: u32,
    /// Where it runs, if that is known.
    pub zone: Option<String>,
    /// Whom its certificate has to name; `None`: the host of its endpoint.
    pub server_name: Option<String>,
    /// It is going away: what it has it may finish, but it gets no further message.
    pub is_leaving: bool,
}

/// The most one backend can weigh.
pub const WEIGHT_MAX: u32 = 1_000;

impl Found {
    /// A backend of which nothing but its address is known; that is its name, too.
    pub fn at(endpoint: Endpoint) -> Self {
        Self {
            name: endpoint.to_string(),
            endpoint,
            weight: 1,
            priority: 0,
            zone: None,
            server_name: None,
            is_leaving: false,
        }
    }

    /// Connects to it, by the settings of its pool; see [`Connection::open`] for what that waits for.
    ///
    /// # Errors
    /// When it cannot be reached, or is not who it should be.
    pub async fn connect(&self, settings: &Settings, silence_max: Duration) -> io::Result<Connection> {
        let Endpoint { host, port } = &self.endpoint;
        let server_name = self.server_name.as_deref();
        let target = Target { host, port: *port, tls: settings.tls.as_deref(), server_name };
        Connection::open(target, settings.connect_deadline, silence_max).await
    }
}
