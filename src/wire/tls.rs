//! TLS for our ports and towards backends: files that may change while the gateway runs, and refusals that say why.
//!
//! A [`ServerTls`] is one port's, a [`ClientTls`] one pool's. Both are made from files, keep what was made of them as a
//! snapshot that is swapped whole, and are looked after by [`keep_fresh`]. A connection takes the snapshot of the moment
//! it begins with and keeps it: a swap drops nobody. The provider is ring, named wherever one is needed, so that it does
//! not matter what else the process installs.

mod allow;
mod certificate;
mod client;
mod files;
mod fresh;
mod refusal;
mod server;

pub use allow::Pattern;
pub use client::{ClientSettings, ClientTls};
pub use files::{Pair, Part, Unfit};
pub use fresh::{Look, Watched, keep_fresh};
pub use refusal::{Reason, Refusal};
pub use server::{ClientCertificate, ServerSettings, ServerTls};

/// What is spoken inside TLS, agreed on by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC's. A peer that does not offer it is refused.
    Http2,
    /// That of probes and browsers. Peers that offer nothing are welcome.
    Http1,
}

// === impl Protocol ===

impl Protocol {
    fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Protocol::Http2 => vec![b"h2".to_vec()],
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
        }
    }
}

/// Versions spoken: 1.3 and 1.2, nothing older.
static VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// A setting among those under `setting`, as the operator knows it: `pool.tls.ca`; of flags, `--tls-ca`.
fn member(setting: &str, name: &str) -> String {
    if setting.starts_with('-') { format!("{setting}-{}", name.replace('_', "-")) } else { format!("{setting}.{name}") }
}

fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    std::sync::Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_flags_are_called_what_the_operator_calls_them() {
        assert_eq!(member("pools.tail.tls", "server_name"), "pools.tail.tls.server_name");
        assert_eq!(member("--tls", "server_name"), "--tls-server-name");
        assert_eq!(member("-", "ca"), "--ca");
    }
}
