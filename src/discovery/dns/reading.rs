//! What answers of DNS say of a pool, in the light of the ones before: pure, so that every case can be tried.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::discovery::Trouble;
use crate::pool::Endpoint;
use crate::pool::found::{Found, WEIGHT_MAX};

/// What a name has of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Records<T> {
    /// These, so long.
    Some { all: Vec<T>, fresh_for: Duration },
    /// None: there is no such name, or it has no such records.
    None,
    /// Nobody could say, and why.
    Failed(String),
}

/// What one SRV record names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    /// A whole name, with its dot; `.` says that the service is decidedly not there.
    pub host: String,
    pub port: u16,
    pub weight: u16,
    pub priority: u16,
}

/// The last good addresses of each host by family, for the family that cannot be asked for now.
///
/// Many servers fail on AAAA alone, and one lost packet must not take half of a pool away.
#[derive(Debug, Default)]
pub(super) struct Memory {
    hosts: BTreeMap<String, [Vec<IpAddr>; 2]>,
}

// === impl Memory ===

impl Memory {
    /// The addresses of one host, in order, each once.
    ///
    /// # Errors
    /// When it has none, or none is known and nobody could be asked.
    pub fn addresses(&mut self, host: &str, answers: [Records<IpAddr>; 2]) -> Result<(Vec<IpAddr>, Duration), Trouble> {
        let known = self.hosts.entry(host.to_owned()).or_default();
        let (mut fresh_for, mut failure, mut answered) = (Duration::MAX, None, false);
        let mut now: [Vec<IpAddr>; 2] = Default::default();
        for ((answer, known), now) in answers.into_iter().zip(known.iter()).zip(&mut now) {
            match answer {
                Records::Some { all, fresh_for: so_long } => {
                    answered = true;
                    fresh_for = fresh_for.min(so_long);
                    *now = all;
                }
                Records::None => {}
                Records::Failed(why) => {
                    // Asked for again soon, unless it never said anything: some servers fail on AAAA for ever.
                    if !known.is_empty() {
                        fresh_for = Duration::ZERO;
                    }
                    failure = Some(why);
                    now.clone_from(known);
                }
            }
        }
        match failure {
            Some(why) if !answered => return Err(Trouble::Failed(format!("{}: {why}", shown(host)))),
            _ if !answered => return Err(Trouble::Empty(format!("{} has no address", shown(host)))),
            _ => {}
        }
        known.clone_from(&now);
        let all: BTreeSet<IpAddr> = now.into_iter().flatten().collect();
        Ok((all.into_iter().collect(), fresh_for))
    }

    /// What is known of a host from before.
    pub fn known(&self, host: &str) -> Vec<IpAddr> {
        self.hosts.get(host).into_iter().flatten().flatten().copied().collect()
    }

    /// Forgets hosts that nobody names any more.
    pub fn keep(&mut self, hosts: &BTreeSet<&str>) {
        self.hosts.retain(|host, _| hosts.contains(host.as_str()));
    }
}

/// The backends of a name whose addresses these are: each is one, by its address.
pub(super) fn of_addresses(host: &str, port: u16, addresses: &[IpAddr]) -> Vec<Found> {
    addresses.iter().map(|address| Found { server_name: Some(shown(host).to_owned()), ..at(*address, port) }).collect()
}

/// The backends of SRV records whose hosts have these addresses.
///
/// A host with one address is one backend and goes by its own name, so that it stays the same, with its keys, when it
/// comes back with another address. A host with several is as many backends, by their addresses.
pub(super) fn of_services(services: &[Service], addresses: &BTreeMap<String, Vec<IpAddr>>) -> Vec<Found> {
    let ranks: BTreeSet<u16> = services.iter().map(|service| service.priority).collect();
    let heaviest = services.iter().map(|service| service.weight).max().unwrap_or_default();
    let mut all = Vec::new();
    for service in services {
        let host = shown(&service.host);
        let found = addresses.get(&service.host).map(Vec::as_slice).unwrap_or_default();
        for address in found {
            let bare = at(*address, service.port);
            all.push(Found {
                name: if found.len() == 1 { format!("{host}:{}", service.port) } else { bare.name.clone() },
                weight: weight(service.weight, heaviest),
                priority: u32::try_from(ranks.range(..service.priority).count()).unwrap_or(u32::MAX),
                server_name: Some(host.to_owned()),
                ..bare
            });
        }
    }
    all
}

fn at(address: IpAddr, port: u16) -> Found {
    Found::at(Endpoint { host: address.to_string(), port })
}

/// SRV's weight as a pool's: as it stands where all of them fit, else in proportion. 0 is RFC 2782's "hardly ever".
fn weight(weight: u16, heaviest: u16) -> u32 {
    let (weight, heaviest) = (u32::from(weight), u32::from(heaviest));
    let scaled = if heaviest > WEIGHT_MAX { weight * WEIGHT_MAX / heaviest } else { weight };
    scaled.clamp(1, WEIGHT_MAX)
}

/// A host without the dot at its end, as certificates and people name it.
fn shown(host: &str) -> &str {
    host.strip_suffix('.').filter(|rest| !rest.is_empty()).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn some(texts: &[&str], fresh_for: Duration) -> Records<IpAddr> {
        Records::Some { all: ips(texts), fresh_for }
    }

    fn failed() -> Records<IpAddr> {
        Records::Failed("no DNS server answers".to_owned())
    }

    #[test]
    fn addresses_of_both_families_are_taken_in_order_and_once() {
        let mut memory = Memory::default();
        let answers = [some(&["10.0.0.2", "10.0.0.1", "10.0.0.2"], MINUTE), some(&["fd00::1"], SECOND)];
        assert_eq!(memory.addresses("oap.", answers), Ok((ips(&["10.0.0.1", "10.0.0.2", "fd00::1"]), SECOND)));
    }

    #[test]
    fn a_family_that_fails_keeps_its_addresses_and_is_asked_again_soon() {
        let mut memory = Memory::default();
        memory.addresses("oap", [some(&["10.0.0.1"], MINUTE), some(&["fd00::1"], MINUTE)]).unwrap();
        let half = memory.addresses("oap", [some(&["10.0.0.9"], MINUTE), failed()]);
        assert_eq!(half, Ok((ips(&["10.0.0.9", "fd00::1"]), Duration::ZERO)));
        let gone = memory.addresses("oap", [some(&["10.0.0.9"], MINUTE), Records::None]);
        assert_eq!(gone, Ok((ips(&["10.0.0.9"]), MINUTE)), "no such record is an answer, too");
        let never = memory.addresses("oap", [some(&["10.0.0.9"], MINUTE), failed()]);
        assert_eq!(never, Ok((ips(&["10.0.0.9"]), MINUTE)), "a server that always fails on AAAA is not asked at once");
    }

    #[test]
    fn no_address_is_told_from_no_answer() {
        let mut memory = Memory::default();
        let none = memory.addresses("oap.", [Records::None, Records::None]);
        assert_eq!(none, Err(Trouble::Empty("oap has no address".to_owned())));
        let silent = memory.addresses("oap", [failed(), Records::None]);
        assert_eq!(silent, Err(Trouble::Failed("oap: no DNS server answers".to_owned())));
        assert!(memory.known("oap").is_empty());
    }

    #[test]
    fn hosts_that_are_named_no_more_are_forgotten() {
        let mut memory = Memory::default();
        memory.addresses("a.", [some(&["10.0.0.1"], MINUTE), Records::None]).unwrap();
        memory.keep(&BTreeSet::from(["b."]));
        assert!(memory.known("a.").is_empty());
    }

    #[test]
    fn an_address_is_a_backend_whose_certificate_names_the_host() {
        let all = of_addresses("oap.sw.", 11_800, &ips(&["10.0.0.1", "fd00::1"]));
        let said: Vec<_> = all.iter().map(|found| (found.name.as_str(), found.endpoint.host.as_str())).collect();
        assert_eq!(said, [("10.0.0.1:11800", "10.0.0.1"), ("[fd00::1]:11800", "fd00::1")]);
        assert!(all.iter().all(|found| found.server_name.as_deref() == Some("oap.sw") && found.weight == 1));
    }

    fn service(host: &str, port: u16, weight: u16, priority: u16) -> Service {
        Service { host: host.to_owned(), port, weight, priority }
    }

    #[test]
    fn services_keep_their_weights_and_the_order_of_their_priorities() {
        let services = [service("a.", 1, 60, 10), service("b.", 2, 0, 10), service("c.", 3, 5, 700)];
        let addresses = BTreeMap::from(["a.", "b.", "c."].map(|host| (host.to_owned(), ips(&["10.0.0.1"]))));
        let all = of_services(&services, &addresses);
        let said: Vec<_> = all.iter().map(|found| (found.name.as_str(), found.weight, found.priority)).collect();
        assert_eq!(said, [("a:1", 60, 0), ("b:2", 1, 0), ("c:3", 5, 1)]);
        assert_eq!(all[0].endpoint, Endpoint { host: "10.0.0.1".to_owned(), port: 1 });
        assert_eq!(all[0].server_name.as_deref(), Some("a"));
    }

    #[test]
    fn large_weights_keep_their_proportion() {
        assert_eq!((weight(u16::MAX, u16::MAX), weight(u16::MAX / 2, u16::MAX)), (1_000, 499));
        assert_eq!((weight(1, u16::MAX), weight(1_000, 1_000), weight(3, 7)), (1, 1_000, 3));
    }

    #[test]
    fn a_host_of_several_addresses_is_as_many_backends_and_one_of_none_is_none() {
        let services = [service("a.", 1, 1, 0), service("gone.", 1, 1, 0), service(".", 0, 0, 0)];
        let addresses = BTreeMap::from([("a.".to_owned(), ips(&["10.0.0.1", "10.0.0.2"]))]);
        let names: Vec<_> = of_services(&services, &addresses).into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["10.0.0.1:1", "10.0.0.2:1"]);
    }
}
