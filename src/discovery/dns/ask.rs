//! Asks DNS servers for the records of a name, as the system would: hosts file, search domains, and TCP where UDP is too small.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{TokioResolver, system_conf};

use super::reading::{Records, Service};

/// Who is asked, and by which names.
pub(super) struct Asker {
    resolver: TokioResolver,
    /// Search domains, the nearest first.
    search: Vec<Name>,
    /// Dots from which on a name is first asked for as it stands.
    dots_min: usize,
}

/// Patience with one packet, at most: the system's may be 5 s, and a pool has more to follow than that.
const PACKET_DEADLINE: Duration = Duration::from_secs(1);

/// Times that a question is asked again at once. The name is asked for again soon anyway.
const RETRIES_MAX: usize = 1;

// === impl Asker ===

impl Asker {
    /// Asks this server, names being taken as they stand; or, without one, whom and how the system says. That is read anew
    /// each time, since it may have changed: the files are small and looked at once a second at most.
    ///
    /// # Errors
    /// What is wrong with the system's settings, in words.
    pub fn new(resolver: Option<SocketAddr>) -> Result<Self, String> {
        let (config, mut options) = match resolver {
            Some(server) => of_server(server),
            None => {
                system_conf::read_system_conf().map_err(|error| format!("/etc/resolv.conf cannot be used: {error}"))?
            }
        };
        // When to ask again is decided here, by the records' age.
        options.cache_size = 0;
        options.timeout = options.timeout.min(PACKET_DEADLINE);
        options.attempts = options.attempts.min(RETRIES_MAX);
        let search = config.domain.iter().chain(&config.search).cloned().collect();
        let dots_min = options.ndots;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { resolver, search, dots_min })
    }

    /// The IPv4 and the IPv6 addresses of a name. The first of the names it may stand for that has any decides.
    pub async fn addresses(&self, name: &str) -> [Records<IpAddr>; 2] {
        let mut last = [Records::None, Records::None];
        for name in self.names(name) {
            let (four, six) = tokio::join!(
                self.records(&name, RecordType::A, |data| match data {
                    RData::A(address) => Some(IpAddr::V4(address.0)),
                    _ => None,
                }),
                self.records(&name, RecordType::AAAA, |data| match data {
                    RData::AAAA(address) => Some(IpAddr::V6(address.0)).filter(has_route),
                    _ => None,
                }),
            );
            last = [four, six];
            // A name that could not be asked for may be the one that is meant: a farther one must not answer in its place.
            if last.iter().any(|records| !matches!(records, Records::None)) {
                break;
            }
        }
        last
    }

    /// The services of a name.
    pub async fn services(&self, name: &str) -> Records<Service> {
        for name in self.names(name) {
            let records = self.records(&name, RecordType::SRV, |data| match data {
                RData::SRV(record) => Some(Service {
                    // With its dot: a target is a whole name.
                    host: record.target.to_ascii().to_ascii_lowercase(),
                    port: record.port,
                    weight: record.weight,
                    priority: record.priority,
                }),
                _ => None,
            });
            match records.await {
                Records::None => {}
                records => return records,
            }
        }
        Records::None
    }

    async fn records<T>(&self, name: &Name, kind: RecordType, read: impl Fn(&RData) -> Option<T>) -> Records<T> {
        match self.resolver.lookup(name.clone(), kind).await {
            Ok(lookup) => {
                let answers = lookup.answers();
                let all: Vec<T> = answers.iter().filter_map(|record| read(&record.data)).collect();
                if all.is_empty() {
                    return Records::None;
                }
                // Aliases on the way count: what they point to may change before the addresses do.
                let seconds = answers.iter().map(|record| record.ttl).min().unwrap_or_default();
                Records::Some { all, fresh_for: Duration::from_secs(seconds.into()) }
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Records::None,
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Records::Failed(format!("the DNS server says {code}")),
            Err(NetError::Timeout) => Records::Failed("no DNS server answers".to_owned()),
            Err(error) => Records::Failed(format!("DNS cannot be asked: {error}")),
        }
    }

    /// The whole names that a name may stand for, in the order in which they are asked for.
    fn names(&self, name: &str) -> Vec<Name> {
        let Ok(mut as_it_stands) = Name::from_utf8(name) else { return Vec::new() };
        let is_whole = as_it_stands.is_fqdn();
        let relative = as_it_stands.clone();
        as_it_stands.set_fqdn(true);
        if is_whole {
            return vec![as_it_stands];
        }
        let mut names: Vec<Name> = Vec::with_capacity(self.search.len() + 1);
        for domain in &self.search {
            // A name that would become too long is none.
            let Ok(mut longer) = relative.clone().append_domain(domain) else { continue };
            longer.set_fqdn(true);
            if !names.contains(&longer) {
                names.push(longer);
            }
        }
        let dots = usize::from(relative.num_labels()).saturating_sub(1);
        let at = if dots >= self.dots_min { 0 } else { names.len() };
        names.insert(at, as_it_stands);
        names
    }
}

/// Whether this machine could send there at all. Where there is no IPv6, an IPv6 address is nobody's backend.
fn has_route(address: &IpAddr) -> bool {
    // A datagram socket is connected without a packet being sent; 9 is the port for what nobody wants.
    UdpSocket::bind("[::]:0").and_then(|socket| socket.connect((*address, 9))).is_ok()
}

fn of_server(server: SocketAddr) -> (ResolverConfig, ResolverOpts) {
    let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
    name_server.connections.iter_mut().for_each(|connection| connection.port = server.port());
    let mut options = ResolverOpts::default();
    options.use_hosts_file = hickory_resolver::config::ResolveHosts::Never;
    (ResolverConfig::from_parts(None, Vec::new(), vec![name_server]), options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(search: &[&str], dots_min: usize, name: &str) -> Vec<String> {
        let search = search.iter().map(|domain| Name::from_utf8(domain).unwrap()).collect();
        let resolver = Asker::new(Some(SocketAddr::from(([127, 0, 0, 1], 53)))).unwrap().resolver;
        let asker = Asker { resolver, search, dots_min };
        asker.names(name).iter().map(Name::to_string).collect()
    }

    #[tokio::test]
    async fn search_domains_are_tried_as_the_system_does() {
        let pod = ["sw.svc.cluster.local", "svc.cluster.local", "cluster.local"];
        assert_eq!(
            names(&pod, 5, "oap"),
            ["oap.sw.svc.cluster.local.", "oap.svc.cluster.local.", "oap.cluster.local.", "oap."]
        );
        assert_eq!(names(&["lan"], 1, "oap.example.org"), ["oap.example.org.", "oap.example.org.lan."]);
        assert_eq!(names(&pod, 5, "oap.example.org."), ["oap.example.org."], "a dot at the end ends the search");
        assert_eq!(names(&[], 1, "oap"), ["oap."]);
        assert_eq!(names(&["lan", "lan."], 1, "oap"), ["oap.lan.", "oap."]);
    }
}
