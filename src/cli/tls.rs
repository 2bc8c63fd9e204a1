//! The flags by which the tools speak TLS.

use std::path::PathBuf;
use std::sync::Arc;

use crate::wire::tls::{
    ClientCertificate, ClientSettings, ClientTls, Pair, Protocol, ServerSettings, ServerTls, Unfit,
};

/// TLS of a tool that is connected to.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct ServerArgs {
    /// Speak TLS, with this certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Ask for certificates that this authority signed (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_client_ca: Option<PathBuf>,
}

/// TLS of a tool that connects.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct ClientArgs {
    /// Speak TLS, with whom this authority vouches for (PEM).
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The certificate to show (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    tls_certificate: Option<PathBuf>,
    /// The key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// The name that the other side's certificate has to have, instead of the host.
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    tls_server_name: Option<String>,
}

// === impl ServerArgs ===

impl ServerArgs {
    /// What they say; `None` without a certificate.
    ///
    /// # Errors
    /// Everything that is wrong with the files, in one text.
    pub fn load(self) -> Result<Option<Arc<ServerTls>>, String> {
        let Some(pair) = pair(self.tls_certificate, self.tls_key) else { return Ok(None) };
        let settings = ServerSettings {
            setting: "--tls".to_owned(),
            pair,
            client_authorities: self.tls_client_ca,
            client_certificate: ClientCertificate::Required,
            allow: Vec::new(),
            protocol: Protocol::Http2,
        };
        ServerTls::load(settings).map(|(tls, _)| Some(Arc::new(tls))).map_err(|unfit| all(&unfit))
    }
}

// === impl ClientArgs ===

impl ClientArgs {
    /// What they say; `None` without an authority.
    ///
    /// # Errors
    /// Everything that is wrong with the files, in one text.
    pub fn load(self) -> Result<Option<Arc<ClientTls>>, String> {
        if self.tls_ca.is_none() {
            return Ok(None);
        }
        let settings = ClientSettings {
            setting: "--tls".to_owned(),
            authorities: self.tls_ca,
            pair: pair(self.tls_certificate, self.tls_key),
            server_name: self.tls_server_name,
            verify: true,
            protocol: Protocol::Http2,
        };
        client(settings).map(Some)
    }
}

/// TLS by these settings.
///
/// # Errors
/// Everything that is wrong with the files, in one text.
pub fn client(settings: ClientSettings) -> Result<Arc<ClientTls>, String> {
    ClientTls::load(settings).map(|(tls, _)| Arc::new(tls)).map_err(|unfit| all(&unfit))
}

/// A certificate with its key; `None` when either is missing.
pub fn pair(certificate: Option<PathBuf>, key: Option<PathBuf>) -> Option<Pair> {
    Some(Pair { certificate: certificate?, key: key? })
}

fn all(unfit: &[Unfit]) -> String {
    let each = |unfit: &Unfit| format!("--tls-{}: {}; {}", unfit.part.name().replace('_', "-"), unfit.what, unfit.mend);
    unfit.iter().map(each).collect::<Vec<_>>().join("\n")
}
