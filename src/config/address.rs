//! Addresses: where to listen, and where backends are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::problem::Mistake;
use crate::pool::Endpoint;
use crate::pool::endpoint::EndpointError;

/// Reads where to listen: `ip:port`, `:port` or a bare port (on `usual`), or `off`.
pub(super) fn listen(text: &str, usual: IpAddr) -> Result<Option<SocketAddr>, Mistake> {
    let text = text.trim();
    if text == "off" {
        return Ok(None);
    }
    if let Ok(address) = text.parse() {
        return Ok(Some(address));
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
        let port = port.parse().map_err(|_| too_large(port))?;
        return Ok(Some(SocketAddr::new(usual, port)));
    }
    let mend = match text.rsplit_once(':') {
        _ if text.parse::<IpAddr>().is_ok() => "write the port as well, as in 0.0.0.0:11800".to_owned(),
        Some(("localhost", port)) => format!("write 127.0.0.1:{port}"),
        Some(("*", port)) => format!("write 0.0.0.0:{port}"),
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => format!("write [{host}]:{port}"),
        _ => "write an IP address and a port, as in 0.0.0.0:11800, or a port alone, or off".to_owned(),
    };
    Err(Mistake::new(format!("\"{text}\" is not an address to listen on"), mend))
}

/// Reads where a backend listens: `host:port` or `[ipv6]:port`.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, Mistake> {
    let text = text.trim();
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.trim_end_matches('/');
        let mend = match scheme {
            "https" | "grpcs" | "tls" => format!("write {rest}, and `tls: true` under the settings of its pool"),
            _ => format!("write {rest}"),
        };
        return Err(Mistake::new(format!("\"{scheme}://\" does not belong to a backend's address"), mend));
    }
    text.parse().map_err(|error: EndpointError| {
        let mend = match &error {
            EndpointError::Empty => "write host:port, with one comma between two".to_owned(),
            EndpointError::NoBrackets(text) => match text.rsplit_once(':') {
                Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => {
                    format!("write [{text}]:11800, or [{host}]:{port}")
                }
                _ => format!("write [{text}]:11800"),
            },
            EndpointError::NoPort { host } | EndpointError::PortZero { host } => format!("write {host}:11800"),
            EndpointError::NotAPort { port, .. } if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                "write a number up to 65535".to_owned()
            }
            EndpointError::NotAPort { host, .. } => format!("write {host}:11800, without a path"),
            EndpointError::NotAHost(host) if host.is_empty() => {
                return Mistake::new("there is no host before the port", "write host:port");
            }
            EndpointError::NotAHost(_) => {
                "write a DNS name, an IPv4 address, or an IPv6 address in brackets".to_owned()
            }
        };
        Mistake::new(error.to_string(), mend)
    })
}

/// Whether two addresses cannot both be listened on.
pub(super) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    // Port 0 is a different free port each time.
    a.port() == b.port() && a.port() != 0 && (covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

/// Whether a backend's address is surely the listener's own.
pub(super) fn is_self(listener: SocketAddr, backend: &Endpoint) -> bool {
    let backend_ip = match backend.host.as_str() {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => match host.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) => return false,
        },
    };
    // A wildcard also takes this machine's other addresses, which cannot be told from others' here.
    let ours = backend_ip == listener.ip() || backend_ip.is_loopback() || backend_ip.is_unspecified();
    backend.port == listener.port() && ours && covers(listener.ip(), backend_ip)
}

/// Whether a listener on `ip` takes what is sent to `other`. `[::]` takes IPv4 as well, as Linux has it.
fn covers(ip: IpAddr, other: IpAddr) -> bool {
    ip == other || (ip.is_unspecified() && (ip.is_ipv6() || other.is_ipv4()))
}

fn too_large(port: &str) -> Mistake {
    Mistake::new(format!("\"{port}\" is not a port"), "write a number up to 65535")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    #[test]
    fn backends_are_names_ipv4_or_ipv6_in_brackets() {
        let shown = |text: &str| endpoint(text).map(|endpoint| endpoint.to_string());
        assert_eq!(shown("collector-a:11800"), Ok("collector-a:11800".into()));
        assert_eq!(shown("Oap.SkyWalking.svc.:11800"), Ok("oap.skywalking.svc:11800".into()));
        assert_eq!(shown("10.0.0.1:11800"), Ok("10.0.0.1:11800".into()));
        assert_eq!(shown("[2001:DB8:0::1]:11800"), Ok("[2001:db8::1]:11800".into()));
        for wrong in
            ["", ":1", "a", "a:", "a:b", "a:0", "a:70000", "a b:1", "-a:1", "10.0.0.256:1", "[::1]", "[x]:1", "a..b:1"]
        {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
        assert_eq!(endpoint("::1").unwrap_err().mend, "write [::1]:11800");
        assert_eq!(endpoint("http://oap:11800/").unwrap_err().mend, "write oap:11800");
        assert_eq!(
            endpoint("https://oap:11800").unwrap_err().mend,
            "write oap:11800, and `tls: true` under the settings of its pool"
        );
    }

    #[test]
    fn a_bare_port_listens_on_the_usual_address() {
        assert_eq!(listen("11800", ANY), Ok(Some("0.0.0.0:11800".parse().unwrap())));
        assert_eq!(listen(":9901", Ipv4Addr::LOCALHOST.into()), Ok(Some("127.0.0.1:9901".parse().unwrap())));
        assert_eq!(listen("[::]:11800", ANY), Ok(Some("[::]:11800".parse().unwrap())));
        assert_eq!(listen("off", ANY), Ok(None));
        assert_eq!(listen("localhost:9901", ANY).unwrap_err().mend, "write 127.0.0.1:9901");
        assert!(listen("70000", ANY).is_err());
        assert!(listen("", ANY).is_err());
    }

    #[test]
    fn a_wildcard_takes_the_port_from_every_other_address() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(collide(address("0.0.0.0:1"), address("127.0.0.1:1")));
        assert!(collide(address("127.0.0.1:1"), address("[::]:1")));
        assert!(!collide(address("127.0.0.2:1"), address("127.0.0.1:1")));
        assert!(!collide(address("0.0.0.0:1"), address("[::1]:1")));
        assert!(!collide(address("0.0.0.0:0"), address("0.0.0.0:0")));
    }
}
