//! Somebody who connects by TLS, right or wrong, built of rustls alone.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use switchyard::wire::tls::Pair;

use super::Certificates;

/// Who connects, and how.
#[derive(Clone)]
pub struct Peer {
    /// Whom it trusts.
    pub authorities: PathBuf,
    /// Its certificate and key.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// Whom it wants to speak to.
    pub name: &'static str,
    pub alpn: Vec<&'static [u8]>,
}

/// The first bytes of an HTTP/2 client, with empty SETTINGS.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const SETTINGS: u8 = 4;

impl Peer {
    /// One that the gateway lets in.
    pub fn new(certificates: &Certificates) -> Self {
        let peer = Self {
            authorities: certificates.path("ca.crt"),
            pair: None,
            name: "127.0.0.1",
            alpn: vec![b"h2".as_slice()],
        };
        peer.shows(certificates, "agent")
    }

    /// The same with another certificate.
    pub fn shows(self, certificates: &Certificates, name: &str) -> Self {
        let pair = certificates.pair(name);
        Self { pair: Some((pair.certificate, pair.key)), ..self }
    }

    /// Connects and says HTTP/2's first words; right when the answer is HTTP/2's, too.
    pub fn greet(&self, to: SocketAddr) -> io::Result<()> {
        let mut stream = self.connect(to)?;
        stream.write_all(PREFACE)?;
        let mut frame = [0; 9];
        stream.read_exact(&mut frame)?;
        if frame[3] == SETTINGS { Ok(()) } else { Err(io::Error::other(format!("no SETTINGS: {frame:?}"))) }
    }

    /// The certificate it is shown.
    pub fn shown_by(&self, to: SocketAddr) -> CertificateDer<'static> {
        let mut stream = self.connect(to).expect("it connects");
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).expect("it is let in");
        }
        stream.conn.peer_certificates().expect("a server shows one")[0].clone().into_owned()
    }

    fn connect(&self, to: SocketAddr) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.authorities).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_file(certificate).unwrap();
                builder.with_client_auth_cert(vec![certificate], PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(self.name).unwrap();
        let stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(session, stream))
    }
}

/// A port that shows a certificate, whatever it is worth, to one caller.
pub fn shows(pair: &Pair) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let certificate = CertificateDer::from_pem_file(&pair.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut session = ServerConnection::new(Arc::new(config)).unwrap();
        // Until the caller refuses it.
        while session.complete_io(&mut stream).is_ok() {}
    });
    address
}

/// The first certificate of a PEM text.
pub fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Says these bytes and reads until the other side hangs up; what it said.
pub fn say(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut answer);
    answer
}
