//! Connections to what keeps the lists of backends: TCP, and TLS if it is wanted.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::pool::Endpoint;

/// TLS towards a registry. The files are read at each connection, so that they may be replaced at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificates that may have signed the registry's own, PEM.
    pub ca_file: PathBuf,
    /// Who we are, if the registry asks.
    pub identity: Option<IdentityFiles>,
    /// Whom its certificate has to name; `None`: the host that is connected to.
    pub server_name: Option<String>,
}

/// A client's certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate and those between it and its root, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// A connection, with TLS or without.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No address of the host accepts.
    #[error("{to} cannot be reached: {error}")]
    Unreachable {
        /// Who.
        to: Endpoint,
        /// As the system says it.
        error: io::Error,
    },
    /// It takes longer than [`DEADLINE`].
    #[error("{to} cannot be reached: no answer within {DEADLINE:?}")]
    Late {
        /// Who.
        to: Endpoint,
    },
    /// A file cannot be used.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The two do not agree on TLS.
    #[error("no TLS with {to}: {why}")]
    Tls {
        /// Who.
        to: Endpoint,
        /// What is wrong, and the mend if there is one.
        why: String,
    },
}

/// Time for names, TCP and TLS together.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// A watch may be silent for minutes: the kernel asks whether its peer is still there, and gives up after three times.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Connects. With TLS the peer is asked for `protocol` by ALPN, but need not answer.
///
/// # Errors
/// When it cannot be reached within [`DEADLINE`], or is not whom it should be.
pub async fn dial(to: &Endpoint, tls: Option<&TlsSettings>, protocol: &str) -> Result<Box<dyn Stream>, DialError> {
    let connecting = async {
        let stream = reach(to).await.map_err(|error| DialError::Unreachable { to: to.clone(), error })?;
        match tls {
            None => Ok(Box::new(stream) as Box<dyn Stream>),
            Some(tls) => secure(stream, to, tls, protocol).await,
        }
    };
    tokio::time::timeout(DEADLINE, connecting).await.unwrap_or_else(|_| Err(DialError::Late { to: to.clone() }))
}

async fn reach(to: &Endpoint) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(KEEPALIVE_RETRIES);
    let options = SockRef::from(&stream);
    options.set_tcp_keepalive(&keepalive)?;
    options.set_tcp_user_timeout(Some(KEEPALIVE * (KEEPALIVE_RETRIES + 1)))?;
    Ok(stream)
}

async fn secure(
    stream: TcpStream,
    to: &Endpoint,
    tls: &TlsSettings,
    protocol: &str,
) -> Result<Box<dyn Stream>, DialError> {
    let failed = |why: &dyn fmt::Display| DialError::Tls { to: to.clone(), why: why.to_string() };
    let name = tls.server_name.as_ref().unwrap_or(&to.host);
    let name = ServerName::try_from(name.clone()).map_err(|error| failed(&error))?;
    let mut config = client_config(tls).map_err(|error| match error {
        ConfigError::File { path, why } => DialError::File { path, why },
        ConfigError::Rustls(error) => failed(&error),
    })?;
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| {
        let advice = advice(&error).unwrap_or_default();
        failed(&format_args!("{error}{advice}"))
    })?;
    Ok(Box::new(stream))
}

enum ConfigError {
    File { path: PathBuf, why: String },
    Rustls(rustls::Error),
}

fn client_config(tls: &TlsSettings) -> Result<rustls::ClientConfig, ConfigError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&tls.ca_file)? {
        roots.add(certificate).map_err(|error| wrong(&tls.ca_file, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ConfigError::Rustls)?
        .with_root_certificates(roots);
    let Some(identity) = &tls.identity else { return Ok(config.with_no_client_auth()) };
    let chain = certificates(&identity.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(|error| wrong(&identity.key, &error))?;
    config.with_client_auth_cert(chain, key).map_err(|error| wrong(&identity.certificate, &error))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let all = CertificateDer::pem_file_iter(file).map_err(|error| wrong(file, &error))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| wrong(file, &error))?;
    if all.is_empty() {
        return Err(wrong(file, &"there is no certificate in it"));
    }
    Ok(all)
}

fn wrong(path: &Path, why: &dyn fmt::Display) -> ConfigError {
    ConfigError::File { path: path.to_owned(), why: why.to_string() }
}

/// What to do when the certificate is somebody else's.
fn advice(error: &io::Error) -> Option<String> {
    use rustls::CertificateError::{BadSignature, NotValidForName, NotValidForNameContext, UnknownIssuer};
    let rustls::Error::InvalidCertificate(wrong) = error.get_ref()?.downcast_ref::<rustls::Error>()? else {
        return None;
    };
    match wrong {
        NotValidForName | NotValidForNameContext { .. } => {
            Some("; if that is who it should be, write that name as `server_name`".to_owned())
        }
        // The signature is bad where an authority was made anew under its old name.
        UnknownIssuer | BadSignature => Some("; name its issuer's certificate as `ca`".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
