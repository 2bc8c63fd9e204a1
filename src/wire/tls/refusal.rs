//! Why a TLS handshake came to nothing, in words an operator can act on.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

use super::certificate::{day, listed};

/// A handshake that was refused, by us or by the peer. Its text speaks of the peer as "it".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of trouble it was.
    pub reason: Reason,
    why: String,
}

/// Kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// What it said is no TLS.
    NotTls,
    /// It spoke TLS where none is spoken.
    Tls,
    /// It knows nothing newer than TLS 1.1.
    OldVersion,
    /// It has no cipher in common with us.
    NoCipher,
    /// It does not offer what is spoken inside.
    NoProtocol,
    /// No certificate was shown where one is required.
    NoCertificate,
    /// Nobody we trust signed its certificate.
    UnknownAuthority,
    /// Its certificate has expired, or does not count yet.
    Untimely,
    /// Its certificate is for others.
    WrongName,
    /// Its certificate is for nobody who is let in.
    NotAllowed,
    /// Its certificate is no good otherwise.
    BadCertificate,
    /// It does not take our certificate.
    NotTaken,
    /// Anything else.
    Other,
}

/// Lines that may be logged of one reason within [`WINDOW_SECONDS`]: enough to see who it is, few enough for a scan of
/// ports not to fill a disk. Each reason has its own, so that a scan does not hide an agent with a wrong certificate.
const LINES_MAX: u32 = 10;
const WINDOW_SECONDS: u64 = 10;

/// What was told of one reason.
struct Told {
    window: u64,
    lines: u32,
    left_out: u64,
}

static TOLD: [Mutex<Told>; Reason::Other as usize + 1] =
    [const { Mutex::new(Told { window: 0, lines: 0, left_out: 0 }) }; Reason::Other as usize + 1];

// === impl Refusal ===

impl Refusal {
    pub(super) fn new(reason: Reason, why: impl Into<String>) -> Self {
        Self { reason, why: why.into() }
    }

    /// The one inside an I/O error, if that is what it is.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// A peer that spoke TLS where none is spoken.
    pub fn tls_without_need(why: impl Into<String>) -> Self {
        Self::new(Reason::Tls, why)
    }

    /// Whether it may be logged: with how many like it that were not, since the last one that was. Counts.
    pub fn may_be_told(&self) -> Option<u64> {
        let window = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / WINDOW_SECONDS;
        let mut told = TOLD[self.reason as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if told.window != window {
            (told.window, told.lines) = (window, 0);
        }
        if told.lines == LINES_MAX {
            told.left_out += 1;
            return None;
        }
        told.lines += 1;
        Some(std::mem::take(&mut told.left_out))
    }

    /// What both sides say alike; `None` when it depends on the side.
    pub(super) fn common(error: &rustls::Error) -> Option<Self> {
        use PeerIncompatible as Lacks;
        Some(match error {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                Self::new(Reason::NotTls, "what it said is no TLS")
            }
            rustls::Error::PeerIncompatible(
                Lacks::Tls12NotOffered
                | Lacks::Tls12NotOfferedOrEnabled
                | Lacks::SupportedVersionsExtensionRequired
                // TLS 1.2 brought it and cannot do without.
                | Lacks::SignatureAlgorithmsExtensionRequired
                | Lacks::ServerDoesNotSupportTls12Or13
                | Lacks::ServerTlsVersionIsDisabledByOurConfig,
            )
            | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
                Self::new(Reason::OldVersion, "it speaks TLS 1.1 or older; 1.2 is the least that is taken")
            }
            rustls::Error::PeerIncompatible(
                lacks @ (Lacks::NoCipherSuitesInCommon
                | Lacks::NoKxGroupsInCommon
                | Lacks::NoSignatureSchemesInCommon
                | Lacks::NoCertificateRequestSignatureSchemesInCommon),
            ) => Self::new(Reason::NoCipher, format!("it has no cipher in common with us ({lacks:?})")),
            rustls::Error::NoApplicationProtocol
            | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::no_protocol(),
            rustls::Error::InvalidCertificate(wrong) => return Self::timeliness(wrong).or_else(|| Self::making(wrong)),
            _ => return None,
        })
    }

    /// Whoever speaks gRPC offers h2.
    pub(super) fn no_protocol() -> Self {
        Self::new(Reason::NoProtocol, "it does not offer HTTP/2 (ALPN h2), which gRPC needs")
    }

    fn timeliness(wrong: &CertificateError) -> Option<Self> {
        let why = match wrong {
            CertificateError::Expired => "its certificate has expired".to_owned(),
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("its certificate expired on {}", day(signed(not_after.as_secs())))
            }
            CertificateError::NotValidYet => "its certificate does not count yet".to_owned(),
            CertificateError::NotValidYetContext { not_before, .. } => {
                format!("its certificate counts only from {} on", day(signed(not_before.as_secs())))
            }
            _ => return None,
        };
        Some(Self::new(Reason::Untimely, why))
    }

    /// Certificates that were made for something else, or badly.
    fn making(wrong: &CertificateError) -> Option<Self> {
        let why = match wrong {
            // What is trusted and who is meant depends on the side.
            CertificateError::UnknownIssuer
            | CertificateError::NotValidForName
            | CertificateError::NotValidForNameContext { .. } => return None,
            // Of webpki, which rustls hands on as it is.
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "its certificate is an authority's own (CA:TRUE); it needs one that such an authority signed".to_owned()
            }
            CertificateError::Other(other) if other.to_string().contains("UnsupportedCertVersion") => {
                "its certificate is of X.509 version 1; it needs one of version 3, with a subject alternative name"
                    .to_owned()
            }
            wrong => format!("its certificate is no good: {wrong}"),
        };
        Some(Self::new(Reason::BadCertificate, why))
    }

    /// The names a certificate has, as rustls tells them: `DnsName("a.local")`.
    pub(super) fn names_presented(presented: &[String]) -> String {
        let bare = |name: &'_ String| {
            let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
            inside.trim_matches('"').to_owned()
        };
        let names: Vec<String> = presented.iter().map(bare).collect();
        listed(names.iter().map(String::as_str))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, refusal)
    }
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_is_told_in_few_lines_and_hides_no_other_kind() {
        let (scan, agent) =
            (Refusal::new(Reason::NoCipher, "a scan"), Refusal::new(Reason::BadCertificate, "an agent"));
        let told = (0..1_000).filter(|_| scan.may_be_told().is_some()).count();
        // Twice as many when a new window begins meanwhile.
        assert!((10..=20).contains(&told), "{told}");
        assert_eq!(agent.may_be_told(), Some(0));
    }

    #[test]
    fn names_are_told_without_what_wraps_them() {
        let presented = ["DnsName(\"a.local\")".to_owned(), "IpAddress(10.0.0.1)".to_owned()];
        assert_eq!(Refusal::names_presented(&presented), "a.local, 10.0.0.1");
        assert_eq!(Refusal::names_presented(&[]), "nobody (it has no subject alternative name)");
    }
}
