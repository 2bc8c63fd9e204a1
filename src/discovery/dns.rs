//! Backends by a DNS name: its addresses, or the services its SRV records name.

use std::fmt;
use std::net::SocketAddr;

use super::Announcer;

/// Which name is asked for what, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name, in lower case; one that ends in a dot is never looked for in search domains.
    pub name: String,
    /// What is asked for.
    pub question: Question,
    /// The DNS server that is asked; `None`: those of the system.
    pub resolver: Option<SocketAddr>,
}

/// What a DNS name is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// A and AAAA: each address is a backend on this port.
    Addresses {
        /// The port of all of them.
        port: u16,
    },
    /// SRV: each record names a host, its port, weight and priority.
    Services,
}

/// Follows a name for ever.
pub async fn follow(_settings: Settings, _announcer: Announcer) {
    std::future::pending().await
}

// === impl Settings ===

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resolver = self.resolver.map(|resolver| resolver.to_string()).unwrap_or_default();
        match self.question {
            Question::Addresses { port } => write!(f, "dns://{resolver}/{}:{port}", self.name),
            Question::Services => write!(f, "dns+srv://{resolver}/{}", self.name),
        }
    }
}
