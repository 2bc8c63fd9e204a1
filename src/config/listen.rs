//! Ports: where each of them listens, and what agents may take of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::file::Shape;
use super::problem::{Findings, Mistake};
use super::section::Section;
use super::{address, tls};
use crate::listener::{self, SourcePrefix};
use crate::message::flow::Flow;
use crate::wire::tls::ServerTls;

/// One port, of agents or of our own.
pub(super) struct Listen {
    pub name: &'static str,
    /// The address a bare port is taken on.
    pub usual: IpAddr,
    pub address: Option<SocketAddr>,
    pub tls: Option<Arc<ServerTls>>,
    shares: Shares,
}

/// What agents may take of a port together.
#[derive(Clone, Copy)]
pub(super) struct Shares {
    connections_max: usize,
    calls_max: Option<usize>,
    connections_per_source_max: Option<usize>,
    source_prefix: SourcePrefix,
}

const CONNECTIONS_MAX: usize = 10_000;

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The ports in the order of the file: name, the address a bare port is taken on, the usual port, and under which path
/// the table has what else it takes.
const PORTS: [(&str, IpAddr, u16, &str); 5] = [
    ("agents", ANY, 11_800, "listen.agents"),
    ("access_logs", ANY, 11_802, "listen.agents"),
    ("metrics", ANY, 11_803, "listen.agents"),
    ("prometheus", ANY, 1_234, "listen.prometheus"),
    ("admin", HERE, 9_901, "listen.admin"),
];

/// Reads the ports; `limits` says what holds for those that do not say it themselves.
pub(super) fn read(root: &Section<'_>, limits: &Section<'_>, findings: &mut Findings<'_>) -> [Listen; 5] {
    let section = root.section("listen", findings);
    let shares = Shares {
        connections_max: limits.size("connections_per_listener", CONNECTIONS_MAX, findings),
        calls_max: limits.size_or_off("calls_per_listener", None, findings),
        connections_per_source_max: limits.size_or_off("connections_per_source", None, findings),
        source_prefix: source_prefix(&limits.section("source_prefix", findings), findings),
    };
    PORTS.map(|(name, usual, port, path)| {
        let default = Some(SocketAddr::new(usual, port));
        let mut listen = Listen { name, usual, address: default, tls: None, shares };
        let address = |section: &Section<'_>, name: &str, findings: &mut Findings<'_>| {
            section.read(name, findings, |text| address_of_file(text, usual, port)).unwrap_or(default)
        };
        match section.node(name) {
            Some(node) if matches!(node.value, Shape::Map(_)) => {
                let own = Section::of(node, path, section.key(name), findings);
                listen.address = address(&own, "address", findings);
                listen.tls = tls::of_port(&own, name, findings);
                if path == "listen.agents" {
                    listen.shares = shares.or_of(&own, findings);
                }
            }
            _ => listen.address = address(&section, name, findings),
        }
        listen
    })
}

fn source_prefix(section: &Section<'_>, findings: &mut Findings<'_>) -> SourcePrefix {
    let usual = SourcePrefix::default();
    SourcePrefix {
        ipv4_bits: section.count("ipv4", usual.ipv4_bits, findings),
        ipv6_bits: section.count("ipv6", usual.ipv6_bits, findings),
    }
}

/// Reads an address. The flags allow port 0, for tests: who writes a file wants to know the port.
fn address_of_file(text: &str, usual: IpAddr, port: u16) -> Result<Option<SocketAddr>, Mistake> {
    match address::listen(text, usual)? {
        Some(address) if address.port() == 0 => {
            Err(Mistake::new("nobody can find port 0", format!("write {}:{port}, or off", address.ip())))
        }
        address => Ok(address),
    }
}

// === impl Listen ===

impl Listen {
    /// The settings of a port for agents; `None` when it is off.
    pub fn settings(self, only: Option<Flow>) -> Option<listener::Settings> {
        Some(listener::Settings {
            name: self.name,
            address: self.address?,
            only,
            tls: self.tls,
            connections_max: self.shares.connections_max,
            calls_max: self.shares.calls_max,
            connections_per_source_max: self.shares.connections_per_source_max,
            source_prefix: self.shares.source_prefix,
        })
    }
}

// === impl Shares ===

impl Shares {
    /// What a port says itself, and these for the rest.
    fn or_of(self, own: &Section<'_>, findings: &mut Findings<'_>) -> Self {
        Self {
            connections_max: own.size("connections", self.connections_max, findings),
            calls_max: own.size_or_off("calls", self.calls_max, findings),
            connections_per_source_max: own.size_or_off(
                "connections_per_source",
                self.connections_per_source_max,
                findings,
            ),
            ..self
        }
    }
}
