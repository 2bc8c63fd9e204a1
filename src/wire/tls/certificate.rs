//! What a certificate says of itself: whom it names and until when.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

/// What of a certificate people ask for.
pub(super) struct Facts {
    /// Its subject alternative names, in its order.
    pub names: Vec<Name>,
    /// From when it counts, in seconds of Unix time.
    pub not_before: i64,
    /// Until when, in seconds of Unix time.
    pub not_after: i64,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// A DNS name or an IP address.
    Host(String),
    /// A URI, such as `spiffe://mesh/ns/shop/sa/agent`.
    Uri(String),
}

const DAY: Duration = Duration::from_secs(86_400);

// === impl Facts ===

impl Facts {
    /// Reads a certificate; `None` when it is none.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()?.map(|names| names.value.general_names.as_slice());
        let validity = parsed.validity();
        Some(Self {
            names: names.unwrap_or_default().iter().filter_map(Name::read).collect(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Why it does not count now; `None` when it does.
    pub fn untimely(&self) -> Option<String> {
        let now = now();
        if self.not_after < now {
            return Some(format!("expired on {}", day(self.not_after)));
        }
        (self.not_before > now).then(|| format!("counts only from {} on", day(self.not_before)))
    }

    /// How long it still counts.
    pub fn left(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.not_after - now()).unwrap_or(0))
    }

    /// The names as one text.
    pub fn named(&self) -> String {
        listed(self.names.iter().map(Name::text))
    }
}

// === impl Name ===

impl Name {
    fn read(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(name) => Some(Name::Host((*name).to_owned())),
            GeneralName::URI(uri) => Some(Name::Uri((*uri).to_owned())),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
                let v6 = || <[u8; 16]>::try_from(*bytes).map(|bytes| Ipv6Addr::from(bytes).to_string());
                v4.or_else(|_| v6()).ok().map(Name::Host)
            }
            _ => None,
        }
    }

    fn text(&self) -> &str {
        match self {
            Name::Host(name) | Name::Uri(name) => name,
        }
    }
}

/// Names in a certificate that are told; one may have hundreds.
const NAMES_TOLD: usize = 5;

/// `a, b and 3 more`, or `nobody`. What a peer wrote is made harmless for terminals.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let told: Vec<String> = names.iter().take(NAMES_TOLD).map(|name| name.escape_debug().collect()).collect();
    match names.len().saturating_sub(NAMES_TOLD) {
        0 if told.is_empty() => "nobody (it has no subject alternative name)".to_owned(),
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

/// The day of a moment in Unix time, `2026-11-21`.
pub(super) fn day(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds)
        .map_or_else(|_| format!("{seconds} s of Unix time"), |time| time.to_datetime().date().to_string())
}

/// `3 days`, `1 day`, `less than a day`.
pub(super) fn days(time: Duration) -> String {
    match time.as_secs() / DAY.as_secs() {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
