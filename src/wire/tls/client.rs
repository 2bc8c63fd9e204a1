//! TLS towards those we connect to.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::files::{Contents, Pair, Part, Unfit};
use super::fresh::{Fresh, Look};
use super::refusal::{Reason, Refusal};
use super::{Protocol, VERSIONS, member, provider};

/// What an operator decides about TLS towards the backends of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// The path of the setting (`pool.tls`), for logs and metrics; of flags, what they begin with (`--tls`).
    pub setting: String,
    /// Their authorities; `None`: those the machine trusts, as they are when the settings are loaded.
    pub authorities: Option<PathBuf>,
    /// Who we are, for backends that ask.
    pub pair: Option<Pair>,
    /// Whom their certificates have to name, whatever they are reached as.
    pub server_name: Option<String>,
    /// Whether their certificates are looked at. Without it, anybody on the way can read and change everything.
    pub verify: bool,
    /// What is spoken inside.
    pub protocol: Protocol,
}

/// A pool's TLS: what was decided, and what was made of the files. Two are equal when what was decided is.
pub struct ClientTls {
    settings: ClientSettings,
    fresh: Fresh<ClientConfig>,
}

/// Takes any certificate; that the peer has its key is still looked at.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

// === impl ClientSettings ===

impl ClientSettings {
    fn files(&self) -> Contents {
        let pair = self.pair.iter().flat_map(|pair| [(Part::Certificate, &pair.certificate), (Part::Key, &pair.key)]);
        let authorities = self.authorities.iter().map(|path| (Part::Authorities, path));
        Contents::read(pair.chain(authorities).map(|(part, path)| (part, path as &Path)))
    }

    fn make(&self, files: &Contents) -> Result<ClientConfig, Vec<Unfit>> {
        let identity = self.pair.as_ref().map(|_| files.identity()).transpose();
        let (identity, verifier) = match (identity, self.verifier(files)) {
            (Ok(identity), Ok(verifier)) => (identity, verifier),
            (identity, verifier) => {
                return Err(identity.err().into_iter().flatten().chain(verifier.err()).collect());
            }
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(|error| vec![Unfit::new(Part::Authorities, error.to_string(), "report this defect")])?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocol.alpn();
        Ok(config)
    }

    fn verifier(&self, files: &Contents) -> Result<Arc<dyn ServerCertVerifier>, Unfit> {
        if !self.verify {
            return Ok(Arc::new(Anybody(provider().signature_verification_algorithms)));
        }
        let roots = match &self.authorities {
            Some(_) => files.authorities(Part::Authorities)?,
            None => of_the_machine()?,
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        match verifier {
            Ok(verifier) => Ok(verifier),
            Err(error) => Err(Unfit::new(Part::Authorities, format!("it cannot be used: {error}"), "name another")),
        }
    }
}

/// The authorities this machine trusts.
fn of_the_machine() -> Result<RootCertStore, Unfit> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let what = "this machine trusts no authority that a backend's certificate could be checked by";
        return Err(Unfit::new(Part::Authorities, what, "write `ca: FILE` with the authority of the backends"));
    }
    Ok(roots)
}

// === impl ClientTls ===

impl ClientTls {
    /// Reads the files. Blocks as files do. Beside it, what will soon be wrong with them.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(settings: ClientSettings) -> Result<(Self, Vec<Unfit>), Vec<Unfit>> {
        let files = settings.files();
        let config = settings.make(&files)?;
        let fresh = Fresh::new(settings.setting.clone(), config, &files);
        Ok((Self { settings, fresh }, files.soon_unfit()))
    }

    /// What was decided.
    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    /// Looks at the files and takes them if they are new and good. Blocks as files do. [`super::keep_fresh`] calls it.
    pub fn refresh(&self) -> Look {
        self.fresh.refresh(|| self.settings.files(), |files| self.settings.make(files))
    }

    /// Whether `name` is one that a certificate can have: a DNS name or an IP address.
    pub fn is_server_name(name: &str) -> bool {
        ServerName::try_from(name).is_ok()
    }

    /// Shakes hands with whom we connected to; `host` is whom its certificate has to name unless the operator said
    /// otherwise. Waits for the peer as long as it takes: the caller has a deadline. Dropping the future closes the
    /// connection.
    ///
    /// # Errors
    /// A [`Refusal`] within the I/O error when it is one; else what the connection says.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>> {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|_| Refusal::new(Reason::WrongName, format!("no certificate can be for \"{name}\"")))?;
        let connector = TlsConnector::from(self.fresh.current());
        let stream = connector.connect(server_name, stream).await.map_err(|error| self.explain(error))?;
        let is_http2 = stream.get_ref().1.alpn_protocol().is_some();
        if self.settings.protocol == Protocol::Http2 && !is_http2 {
            return Err(Refusal::no_protocol().into());
        }
        Ok(stream)
    }

    fn explain(&self, error: io::Error) -> io::Error {
        match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
            Some(said) => self.refusal(said).into(),
            // Servers that speak no TLS often just hang up on what they cannot read.
            None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                let why = format!("it hung up in the middle of the handshake; perhaps it speaks no TLS{}", self.away());
                Refusal::new(Reason::NotTls, why).into()
            }
            None => error,
        }
    }

    /// What a fault means; one may also come after the handshake, when the peer has looked at our certificate.
    pub(in crate::wire) fn refusal(&self, said: &rustls::Error) -> Refusal {
        match said {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                let trusted = match self.settings.authorities {
                    Some(_) => format!("an authority in {}", self.named("ca")),
                    None => "an authority this machine trusts".to_owned(),
                };
                let ca = self.named("ca");
                let why = format!("its certificate is not signed by {trusted}; name the one that did in {ca}");
                Refusal::new(Reason::UnknownAuthority, why)
            }
            rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
                let (names, expected) = (Refusal::names_presented(presented), expected.to_str());
                let why = format!(
                    "its certificate is for {names}, not for {expected}; if it is the right one, set {} to a name \
                     it has",
                    self.named("server_name")
                );
                Refusal::new(Reason::WrongName, why)
            }
            rustls::Error::AlertReceived(alert) => self.alert(*alert, said),
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
                Refusal::new(Reason::NotTls, format!("it speaks no TLS{}", self.away()))
            }
            said => Refusal::common(said).unwrap_or_else(|| Refusal::new(Reason::Other, said.to_string())),
        }
    }

    fn named(&self, name: &str) -> String {
        member(&self.settings.setting, name)
    }

    /// How to do without TLS.
    fn away(&self) -> String {
        match self.settings.setting.as_str() {
            flags if flags.starts_with('-') => String::new(),
            setting => format!("; remove {setting}, or send to its TLS port"),
        }
    }

    fn alert(&self, alert: AlertDescription, said: &rustls::Error) -> Refusal {
        use AlertDescription as Alert;
        let is_about_us = matches!(
            alert,
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateUnknown
                | Alert::CertificateExpired
                | Alert::CertificateRevoked
                | Alert::UnknownCA
                | Alert::AccessDenied
        );
        match &self.settings.pair {
            // TLS 1.2 has no alert of its own for a certificate that is missing.
            None if is_about_us || alert == Alert::HandshakeFailure => {
                let (certificate, key) = (self.named("certificate"), self.named("key"));
                let why = format!("it wants a certificate of ours ({alert:?}); set {certificate} and {key}");
                Refusal::new(Reason::NoCertificate, why)
            }
            Some(pair) if is_about_us => {
                let file = pair.certificate.display();
                let why = format!("it does not take our certificate, {file} ({alert:?}); its own log may say why");
                Refusal::new(Reason::NotTaken, why)
            }
            _ => Refusal::common(said)
                .unwrap_or_else(|| Refusal::new(Reason::Other, format!("it broke off ({alert:?})"))),
        }
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for ClientTls {}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

// === impl Anybody ===

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
