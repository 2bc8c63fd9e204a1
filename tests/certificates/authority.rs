//! Authorities and certificates made for one test.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as PEM.
pub struct Signed {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("ring makes keys");
        let pem = params.self_signed(&key).expect("it may sign itself").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for these names: addresses, URIs, or else DNS names.
    pub fn sign(&self, names: &[&str]) -> Signed {
        self.sign_with(names, |_| {})
    }

    /// One that expired years ago.
    pub fn sign_expired(&self, names: &[&str]) -> Signed {
        self.sign_with(names, |params| params.not_after = date_time_ymd(2020, 2, 29))
    }

    /// One that will soon expire.
    pub fn sign_for(&self, names: &[&str], left: Duration) -> Signed {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        self.sign_with(names, |params| params.not_after = date_time_ymd(1970, 1, 1) + since + left)
    }

    fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) if name.contains("://") => SanType::URI((*name).try_into().expect("ASCII")),
                Err(_) => SanType::DnsName((*name).try_into().expect("ASCII")),
            })
            .collect();
        change(&mut params);
        let key = KeyPair::generate().expect("ring makes keys");
        let certificate = params.signed_by(&key, &self.issuer).expect("it may sign").pem();
        Signed { certificate, key: key.serialize_pem() }
    }
}

impl Signed {
    /// Writes `NAME.crt` and `NAME.key`.
    pub fn write(&self, directory: &Path, name: &str) {
        std::fs::write(directory.join(format!("{name}.crt")), &self.certificate).expect("a file of ours");
        std::fs::write(directory.join(format!("{name}.key")), &self.key).expect("a file of ours");
    }
}
