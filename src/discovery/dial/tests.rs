//! TLS with registries whose certificates are made here.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("switchyard-dial-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this name, and its key.
fn certified(authority: &Authority, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.signed_by(&key, authority).unwrap(), key)
}

/// A registry that answers a byte with the next one and wants to know whom it talks to if there is an authority for it.
async fn registry(authority: &Authority, name: &str, clients: Option<&Authority>) -> (Endpoint, JoinSet<()>) {
    let (certificate, key) = certified(authority, name);
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            config.with_client_cert_verifier(verifier)
        }
    };
    let acceptor =
        TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = Endpoint { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let Ok(byte) = stream.read_u8().await else { continue };
            stream.write_u8(byte + 1).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (to, task)
}

async fn refusal(to: &Endpoint, tls: &TlsSettings) -> String {
    dial(to, Some(tls), "h2").await.err().expect("it must not be trusted").to_string()
}

#[tokio::test]
async fn a_registry_reached_by_its_address_is_known_by_another_name_if_it_is_told() {
    let folder = Folder::new("name");
    let ours = authority();
    let (to, _task) = registry(&ours, "member1.etcd.local", None).await;
    let named = TlsSettings {
        ca_file: folder.file("ca.pem", &ours.pem()),
        identity: None,
        server_name: Some("member1.etcd.local".to_owned()),
    };
    let mut stream = dial(&to, Some(&named), "h2").await.unwrap();
    stream.write_u8(1).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 2);

    let said = refusal(&to, &TlsSettings { server_name: None, ..named.clone() }).await;
    assert!(said.contains("127.0.0.1") && said.contains("member1.etcd.local"), "{said}");
    assert!(said.contains("write that name as `server_name`"), "{said}");

    let other = TlsSettings { ca_file: folder.file("other.pem", &authority().pem()), ..named.clone() };
    let said = refusal(&to, &other).await;
    assert!(said.contains("name its issuer's certificate as `ca`"), "{said}");

    for (name, text) in [("empty.pem", ""), ("broken.pem", "-----BEGIN CERTIFICATE-----\nx")] {
        let said = refusal(&to, &TlsSettings { ca_file: folder.file(name, text), ..named.clone() }).await;
        assert!(said.contains(name), "{said}");
    }
    let said = refusal(&to, &TlsSettings { ca_file: folder.0.join("missing.pem"), ..named }).await;
    assert!(said.contains("missing.pem"), "{said}");
}

#[tokio::test]
async fn a_registry_that_asks_who_we_are_is_shown_our_certificate() {
    let folder = Folder::new("identity");
    let ours = authority();
    let (to, _task) = registry(&ours, "127.0.0.1", Some(&ours)).await;
    let (certificate, key) = certified(&ours, "switchyard");
    let identity = IdentityFiles {
        certificate: folder.file("client.pem", &certificate.pem()),
        key: folder.file("client.key", &key.serialize_pem()),
    };
    let stranger = TlsSettings { ca_file: folder.file("ca.pem", &ours.pem()), identity: None, server_name: None };
    let known = TlsSettings { identity: Some(identity), ..stranger.clone() };
    let mut stream = dial(&to, Some(&known), "h2").await.unwrap();
    stream.write_u8(1).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 2);

    // TLS 1.3 tells a client that it is refused only after its handshake.
    let mut stream = dial(&to, Some(&stranger), "h2").await.unwrap();
    let _ = stream.write_u8(1).await;
    let said = stream.read_u8().await.unwrap_err().to_string();
    assert!(said.contains("CertificateRequired"), "{said}");
}
