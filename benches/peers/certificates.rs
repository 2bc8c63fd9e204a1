//! Certificates of a run's own: an authority, and a certificate for localhost that gateways and sinks show.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Where they are, in PEM.
pub struct Certificates {
    pub authority: PathBuf,
    pub chain: PathBuf,
    pub key: PathBuf,
}

// === impl Certificates ===

impl Certificates {
    /// Makes new ones below `directory`.
    pub fn make(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let made = |error: rcgen::Error| io::Error::other(error.to_string());
        let mut authority = CertificateParams::default();
        // By default both would have the same name, which OpenSSL takes for a certificate that signed itself.
        authority.distinguished_name.push(DnType::CommonName, "benches/peers");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().map_err(made)?).map_err(made)?;
        let key = KeyPair::generate().map_err(made)?;
        let server = CertificateParams::new(vec!["localhost".to_owned()]).map_err(made)?;
        let server = server.signed_by(&key, &authority).map_err(made)?;
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            fs::write(&path, text).map(|()| path)
        };
        Ok(Self {
            authority: write("authority.pem", authority.pem())?,
            chain: write("localhost.pem", server.pem())?,
            key: write("localhost.key", key.serialize_pem())?,
        })
    }

    /// Certificate and key in one file, as HAProxy wants them.
    pub fn chain_and_key(&self) -> io::Result<PathBuf> {
        let both = fs::read_to_string(&self.chain)? + &fs::read_to_string(&self.key)?;
        let path = self.chain.with_extension("both.pem");
        fs::write(&path, both).map(|()| path)
    }
}
