//! The PEM files of one `tls` setting, read at one moment, and what is wrong with them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use twox_hash::XxHash3_64;

use super::certificate::{Facts, days};
use super::provider;

/// A certificate and the key it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, with those between it and the authority behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What a file is for. Its name is that of the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Our certificate.
    Certificate,
    /// Our private key.
    Key,
    /// The authorities of those who connect to us.
    ClientAuthorities,
    /// The authorities of those we connect to.
    Authorities,
}

/// One thing that is wrong with the files of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Which file.
    pub part: Part,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub mend: String,
}

/// The files of one setting.
pub(super) struct Contents {
    files: Vec<(Part, PathBuf, io::Result<Vec<u8>>)>,
}

/// A bundle of all public authorities has 230 KiB; what is larger is no PEM file of ours.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A certificate with less time left than this is worth a word.
const SOON: Duration = Duration::from_secs(7 * 86_400);

// === impl Part ===

impl Part {
    /// The setting's name.
    pub fn name(self) -> &'static str {
        match self {
            Part::Certificate => "certificate",
            Part::Key => "key",
            Part::ClientAuthorities => "client_ca",
            Part::Authorities => "ca",
        }
    }
}

// === impl Contents ===

impl Contents {
    /// Reads files; blocks as files do. What cannot be read is told when it is asked for.
    pub fn read<'a>(files: impl Iterator<Item = (Part, &'a Path)>) -> Self {
        Self { files: files.map(|(part, path)| (part, path.to_owned(), read(path))).collect() }
    }

    /// A number that differs when any of the files does.
    pub fn digest(&self) -> u64 {
        self.files.iter().fold(0, |so_far, (_, _, bytes)| match bytes {
            Ok(bytes) => XxHash3_64::oneshot_with_seed(so_far, bytes),
            Err(error) => XxHash3_64::oneshot_with_seed(so_far, error.to_string().as_bytes()),
        })
    }

    /// Our certificate with its key.
    ///
    /// # Errors
    /// Everything that is wrong with either, or that they do not belong together.
    pub fn identity(&self) -> Result<Arc<CertifiedKey>, Vec<Unfit>> {
        let (chain, key) = match (self.chain(Part::Certificate), self.key()) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
        };
        if let Some(why) = chain.first().and_then(Facts::read).and_then(|facts| facts.untimely()) {
            let what = format!("{} {why}", self.shown(Part::Certificate));
            return Err(vec![Unfit::new(Part::Certificate, what, "have it renewed")]);
        }
        CertifiedKey::from_der(chain, key, &provider()).map(Arc::new).map_err(|error| {
            let (certificate, key) = (self.shown(Part::Certificate), self.shown(Part::Key));
            let what = match error {
                rustls::Error::InconsistentKeys(_) => format!("{key} is not the key of {certificate}"),
                error => format!("{key} cannot be used: {error}"),
            };
            vec![Unfit::new(Part::Key, what, "write the two files that were made together")]
        })
    }

    /// The authorities in a file; those that have expired are left out.
    ///
    /// # Errors
    /// When there is none that counts.
    pub fn authorities(&self, part: Part) -> Result<RootCertStore, Unfit> {
        let all = self.chain(part)?;
        let mut roots = RootCertStore::empty();
        let mut why_not = None;
        for certificate in all {
            match Facts::read(&certificate).map(|facts| facts.untimely()) {
                Some(None) => {
                    if let Err(error) = roots.add(certificate) {
                        why_not = Some(format!("cannot be used: {error}"));
                    }
                }
                Some(Some(why)) => why_not = Some(why),
                None => why_not = Some("cannot be read".to_owned()),
            }
        }
        match why_not {
            Some(why) if roots.is_empty() => {
                Err(Unfit::new(part, format!("{} {why}", self.shown(part)), "name the authority that is in use"))
            }
            _ => Ok(roots),
        }
    }

    /// By file with certificates, the first moment at which one of them expires, in seconds of Unix time.
    pub fn expiries(&self) -> Vec<(Part, i64)> {
        let first = |part: Part| {
            let of = |certificate: &CertificateDer<'_>| Facts::read(certificate).map(|facts| facts.not_after);
            self.chain(part).ok()?.iter().filter_map(of).min().map(|at| (part, at))
        };
        let parts = self.files.iter().map(|(part, ..)| *part).filter(|part| *part != Part::Key);
        parts.filter_map(first).collect()
    }

    /// What will soon be wrong.
    pub fn soon_unfit(&self) -> Vec<Unfit> {
        let soon = |part: Part| {
            let left = self.chain(part).ok()?.iter().filter_map(Facts::read).map(|facts| facts.left()).min()?;
            let what = format!("{} expires in {}", self.shown(part), days(left));
            (left < SOON).then(|| Unfit::new(part, what, "have it renewed; a new file is taken without a restart"))
        };
        let parts = self.files.iter().map(|(part, ..)| *part).filter(|part| *part != Part::Key);
        parts.filter_map(soon).collect()
    }

    fn chain(&self, part: Part) -> Result<Vec<CertificateDer<'static>>, Unfit> {
        let bytes = self.bytes(part)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
        match chain {
            Ok(chain) if chain.iter().any(|certificate| Facts::read(certificate).is_none()) => {
                let what = format!("a certificate in {} cannot be read", self.shown(part));
                Err(Unfit::new(part, what, "write a file with X.509 certificates in PEM"))
            }
            Ok(chain) if !chain.is_empty() => Ok(chain),
            _ => {
                let what = format!("{} has no certificate", self.shown(part));
                let mend = match PrivateKeyDer::from_pem_slice(bytes) {
                    Ok(_) => "it has a private key: were the files swapped?",
                    Err(_) => "write a PEM file, with a line -----BEGIN CERTIFICATE-----",
                };
                Err(Unfit::new(part, what, mend))
            }
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, Unfit> {
        let bytes = self.bytes(Part::Key)?;
        PrivateKeyDer::from_pem_slice(bytes).map_err(|_| {
            let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            let mend = if has("ENCRYPTED") {
                "it is encrypted: write it without a passphrase, as `openssl pkey` does"
            } else if has("BEGIN CERTIFICATE") {
                "it has a certificate: were the files swapped?"
            } else {
                "write a PEM file, with a line -----BEGIN PRIVATE KEY-----"
            };
            Unfit::new(Part::Key, format!("{} has no private key", self.shown(Part::Key)), mend)
        })
    }

    fn bytes(&self, part: Part) -> Result<&[u8], Unfit> {
        match self.file(part) {
            Some((path, Err(error))) => {
                let what = format!("cannot read {}: {error}", path.display());
                Err(Unfit::new(part, what, "name a PEM file that the gateway may read"))
            }
            Some((_, Ok(bytes))) => Ok(bytes),
            None => Err(Unfit::new(part, "there is no such file", "name a PEM file")),
        }
    }

    fn file(&self, part: Part) -> Option<(&Path, &io::Result<Vec<u8>>)> {
        self.files.iter().find(|(other, ..)| *other == part).map(|(_, path, bytes)| (path.as_path(), bytes))
    }

    fn shown(&self, part: Part) -> String {
        self.file(part).map_or_else(String::new, |(path, _)| path.display().to_string())
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would be waited for.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 4 MiB, which no certificate is"));
    }
    Ok(bytes)
}

// === impl Unfit ===

impl Unfit {
    pub(super) fn new(part: Part, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { part, what: what.into(), mend: mend.into() }
    }
}
