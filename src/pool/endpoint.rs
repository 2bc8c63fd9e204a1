//! `host:port` as people and sources write it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::Endpoint;

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Nothing is there.
    #[error("a backend is empty")]
    Empty,
    /// Which colon is before the port cannot be told.
    #[error("\"{0}\" is an IPv6 address without brackets")]
    NoBrackets(String),
    /// A host alone.
    #[error("\"{host}\" has no port")]
    NoPort {
        /// What stands before the port, or should.
        host: String,
    },
    /// What stands behind the host is no number up to 65535.
    #[error("\"{port}\" is not a port")]
    NotAPort {
        /// What stands before it.
        host: String,
        /// What stands where the port should.
        port: String,
    },
    /// Port 0.
    #[error("nothing can listen on port 0")]
    PortZero {
        /// What stands before it.
        host: String,
    },
    /// Neither a DNS name nor an IP address.
    #[error("\"{0}\" is not a host")]
    NotAHost(String),
}

// === impl Endpoint ===

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `name:port`, `ipv4:port` or `[ipv6]:port`.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(EndpointError::NoBrackets(text.to_owned()));
        }
        let no_port = |host: &str| EndpointError::NoPort { host: host.to_owned() };
        let (host, port) = text.rsplit_once(':').filter(|_| !text.ends_with(']')).ok_or_else(|| no_port(text))?;
        if port.is_empty() {
            return Err(no_port(host));
        }
        let not_a_port = || EndpointError::NotAPort { host: host.to_owned(), port: port.to_owned() };
        // Not `parse` alone: it takes a plus sign.
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(not_a_port());
        }
        let port = port.parse().map_err(|_| not_a_port())?;
        if port == 0 {
            return Err(EndpointError::PortZero { host: host.to_owned() });
        }
        Ok(Self { host: host_name(host).ok_or_else(|| EndpointError::NotAHost(host.to_owned()))?, port })
    }
}

/// The host as it will be known: IP addresses in their one spelling, names in lower case; `None` when it is neither.
pub fn host_name(host: &str) -> Option<String> {
    if let Some(inside) = host.strip_prefix('[') {
        return Some(inside.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.to_string());
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Some(ip.to_string());
    }
    // RFC 1123 names, and the underscore compose and some clusters put into theirs. A last label of digits is a broken IP.
    let name = host.strip_suffix('.').unwrap_or(host);
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(letter) && !label.starts_with('-');
    let last_is_number = name.rsplit('.').next()?.bytes().all(|byte| byte.is_ascii_digit());
    (name.len() <= 253 && name.split('.').all(label) && !last_is_number).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_is_a_name_an_ipv4_address_or_an_ipv6_address_in_brackets() {
        let shown = |text: &str| text.parse().map(|endpoint: Endpoint| endpoint.to_string());
        assert_eq!(shown("Oap.SkyWalking.svc.:11800"), Ok("oap.skywalking.svc:11800".into()));
        assert_eq!(shown("[2001:DB8:0::1]:11800"), Ok("[2001:db8::1]:11800".into()));
        assert_eq!(shown("a"), Err(EndpointError::NoPort { host: "a".into() }));
        assert_eq!(shown("::1"), Err(EndpointError::NoBrackets("::1".into())));
        assert_eq!(shown("a:+1"), Err(EndpointError::NotAPort { host: "a".into(), port: "+1".into() }));
        assert_eq!(shown("10.0.0.256:1"), Err(EndpointError::NotAHost("10.0.0.256".into())));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_alike(text in "[a-zA-Z0-9._\\[\\]:-]{0,40}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }
    }
}
