//! TLS on one of our ports.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, CertificateError, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::allow::Pattern;
use super::certificate::Facts;
use super::files::{Contents, Pair, Part, Unfit};
use super::fresh::{Fresh, Look};
use super::refusal::{Reason, Refusal};
use super::{Protocol, VERSIONS, provider};

/// What an operator decides about TLS on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// The path of the setting (`listen.agents.tls`), for logs and metrics.
    pub setting: String,
    /// Who we are.
    pub pair: Pair,
    /// The authorities of those who connect; `None` asks nobody for a certificate.
    pub client_authorities: Option<PathBuf>,
    /// Whether those who connect have to show a certificate; without authorities it means nothing.
    pub client_certificate: ClientCertificate,
    /// Whom a certificate has to name, one of these at least; empty lets in whoever has a good one.
    pub allow: Vec<Pattern>,
    /// What is spoken inside.
    pub protocol: Protocol,
}

/// Whether those who connect have to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificate {
    /// Who shows none is refused.
    #[default]
    Required,
    /// Who shows none is let in; what is shown has to be good.
    Optional,
}

/// A port's TLS: what was decided, and what was made of the files. Two are equal when what was decided is.
pub struct ServerTls {
    settings: ServerSettings,
    fresh: Fresh<ServerConfig>,
}

// === impl ServerSettings ===

impl ServerSettings {
    fn files(&self) -> Contents {
        let pair = [(Part::Certificate, &self.pair.certificate), (Part::Key, &self.pair.key)];
        let authorities = self.client_authorities.iter().map(|path| (Part::ClientAuthorities, path));
        Contents::read(pair.into_iter().chain(authorities).map(|(part, path)| (part, path as &Path)))
    }

    fn make(&self, files: &Contents) -> Result<ServerConfig, Vec<Unfit>> {
        let roots = self.client_authorities.as_ref().map(|_| files.authorities(Part::ClientAuthorities)).transpose();
        let (identity, roots) = match (files.identity(), roots) {
            (Ok(identity), Ok(roots)) => (identity, roots),
            (identity, roots) => return Err(identity.err().into_iter().flatten().chain(roots.err()).collect()),
        };
        let unusable = |part: Part, error: &dyn fmt::Display| {
            vec![Unfit::new(part, format!("it cannot be used: {error}"), "have it made anew")]
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(|error| unusable(Part::Certificate, &error))?;
        let builder = match roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
                let verifier = match self.client_certificate {
                    ClientCertificate::Required => verifier,
                    ClientCertificate::Optional => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build().map_err(|error| unusable(Part::ClientAuthorities, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        config.alpn_protocols = self.protocol.alpn();
        Ok(config)
    }
}

// === impl ServerTls ===

impl ServerTls {
    /// Reads the files. Blocks as files do. Beside it, what will soon be wrong with them.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(settings: ServerSettings) -> Result<(Self, Vec<Unfit>), Vec<Unfit>> {
        let files = settings.files();
        let config = settings.make(&files)?;
        let fresh = Fresh::new(settings.setting.clone(), config, &files);
        Ok((Self { settings, fresh }, files.soon_unfit()))
    }

    /// What was decided.
    pub fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// Looks at the files and takes them if they are new and good. Blocks as files do. [`super::keep_fresh`] calls it.
    pub fn refresh(&self) -> Look {
        self.fresh.refresh(|| self.settings.files(), |files| self.settings.make(files))
    }

    /// Shakes hands with whoever connected. Waits for the peer as long as it takes: the caller has a deadline. Dropping
    /// the future closes the connection.
    ///
    /// # Errors
    /// A [`Refusal`] within the I/O error when it is one; else what the connection says: peers that just go away (a
    /// probe of the port does) are no business of an operator.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let acceptor = TlsAcceptor::from(self.fresh.current());
        let mut stream = acceptor.accept(stream).await.map_err(|error| self.explain(error))?;
        if let Err(refusal) = self.check(&stream) {
            // So that the peer sees an orderly end; if it does not care to, that is well, too.
            let _ = stream.shutdown().await;
            return Err(refusal.into());
        }
        Ok(stream)
    }

    /// What rustls does not check.
    fn check<S>(&self, stream: &TlsStream<S>) -> Result<(), Refusal> {
        let (_, session) = stream.get_ref();
        // rustls refuses who offers something else, but not who offers nothing.
        if self.settings.protocol == Protocol::Http2 && session.alpn_protocol().is_none() {
            return Err(Refusal::no_protocol());
        }
        match session.peer_certificates() {
            Some([certificate, ..]) => self.check_names(certificate),
            _ => Ok(()),
        }
    }

    fn check_names(&self, certificate: &CertificateDer<'_>) -> Result<(), Refusal> {
        let allow = &self.settings.allow;
        let facts = Facts::read(certificate);
        let is_let_in =
            |facts: &Facts| facts.names.iter().any(|name| allow.iter().any(|pattern| pattern.lets_in(name)));
        if allow.is_empty() || facts.as_ref().is_some_and(is_let_in) {
            return Ok(());
        }
        let names = facts.map_or_else(|| "nobody".to_owned(), |facts| facts.named());
        let setting = &self.settings.setting;
        Err(Refusal::new(Reason::NotAllowed, format!("its certificate is for {names}; {setting}.allow lets none in")))
    }

    fn explain(&self, error: io::Error) -> io::Error {
        let Some(said) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
            return error;
        };
        let setting = &self.settings.setting;
        let refusal = match said {
            rustls::Error::NoCertificatesPresented => {
                let why = format!("it shows no certificate; {setting}.client_certificate is `required`");
                Refusal::new(Reason::NoCertificate, why)
            }
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                let why = format!("its certificate is not signed by an authority in {setting}.client_ca");
                Refusal::new(Reason::UnknownAuthority, why)
            }
            rustls::Error::AlertReceived(
                alert @ (AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::UnsupportedCertificate),
            ) => {
                let why = format!(
                    "it does not take our certificate ({alert:?}): it needs the authority that signed \
                     {setting}.certificate, and has to connect to a name that is in it"
                );
                Refusal::new(Reason::NotTaken, why)
            }
            said => Refusal::common(said).unwrap_or_else(|| Refusal::new(Reason::Other, said.to_string())),
        };
        refusal.into()
    }
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for ServerTls {}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}
