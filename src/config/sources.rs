//! Where a pool's backends are: addresses, addresses with more said of them, or the URL of a source.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::file::{Node, Shape};
#[cfg(feature = "k8s")]
use super::kubernetes;
use super::nearest::nearest;
use super::problem::{Findings, Mistake, Place};
use super::section::{Section, empty, scalar};
use super::{address, balance, etcd, keys};
use crate::discovery::{Source, dns, file};
use crate::pool::endpoint::host_name;
use crate::pool::found::Found;

/// Where a pool's backends are, as it was written. Either there are backends or there is a source.
#[derive(Default)]
pub(super) struct Backing {
    pub backends: Vec<Found>,
    pub source: Source,
}

/// What one text stands for.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Backend(Found),
    Source(Source),
}

/// How the URLs of sources begin.
const SCHEMES: &[&str] = &["dns", "dns+srv", "srv", "file", "k8s", "etcd"];

/// Sources that have settings of their own.
const REGISTRIES: [&str; 2] = ["kubernetes", "etcd"];

/// Schemes of things that are connected to, not of sources.
const PROTOCOLS: &[&str] = &["http", "https", "grpc", "grpcs", "h2c", "tcp", "tls"];

/// Where DNS servers listen unless something else is said.
const DNS_PORT: u16 = 53;

/// Longest name of a backend: that of a DNS name with its port.
const NAME_CHARS_MAX: usize = 260;

/// Reads a list of backends, a string of several with commas between them, or the URL of a source; `path` is where they
/// are looked for later.
pub(super) fn read(node: &Node, key: &str, path: &str, findings: &mut Findings<'_>) -> Backing {
    findings.remember(path, key, findings.place(node.referenced));
    let mut backing = Backing::default();
    let items = match &node.value {
        Shape::List(items) => items.as_slice(),
        Shape::Scalar(text) if !text.trim().is_empty() => std::slice::from_ref(node),
        Shape::Map(members) if members.iter().any(|(name, _)| nearest(&name.value, REGISTRIES).is_some()) => {
            backing.source = registry(node, key, findings).unwrap_or_default();
            return backing;
        }
        Shape::Map(_) => {
            let mend =
                "write `to: [collector-a:11800]`; settings of the pool go under `pool:`, more pools under `pools:`";
            findings.error(findings.place(node.referenced), key, Mistake::new("takes backends, not settings", mend));
            return backing;
        }
        Shape::Scalar(_) | Shape::Nothing => {
            let mistake = empty(node.defined, findings);
            findings.error(findings.place(node.referenced), key, mistake);
            return backing;
        }
    };
    for (index, item) in items.iter().enumerate() {
        let at = findings.place(item.referenced);
        if let Shape::Map(_) = &item.value {
            let read = |text: &str| address::endpoint(text).map(Found::at);
            if let Some(found) = balance::backend(item, format!("{key}[{index}]"), findings, read) {
                backing.add(Meaning::Backend(found), key, at, findings);
            }
            continue;
        }
        let Some(written) = scalar(item, key.to_owned(), findings) else { continue };
        for (part, range) in parts(written.text) {
            let place = findings.place_of(written.text, range, item.referenced);
            backing.read(part, key, place, findings);
        }
    }
    backing
}

/// Reads the settings of a source; `None` when it is not known which, which is noted.
fn registry(node: &Node, key: &str, findings: &mut Findings<'_>) -> Option<Source> {
    let Shape::Map(members) = &node.value else { return None };
    let Some((name, _)) = members.iter().find(|(name, _)| REGISTRIES.contains(&name.value.as_str())) else {
        let (name, _) = members.iter().find(|(name, _)| nearest(&name.value, REGISTRIES).is_some())?;
        let mend = format!("did you mean `{}`?", nearest(&name.value, REGISTRIES)?);
        findings.error(
            findings.place(name.referenced),
            key,
            Mistake::new(format!("`{}` is no source", name.value), mend),
        );
        return None;
    };
    let section = Section::of(node, "pool.endpoints", key.to_owned(), findings);
    if members.iter().filter(|(name, _)| keys::names_under("pool.endpoints").any(|known| known == name.value)).count()
        > 1
    {
        let mistake = Mistake::new("a source is all of a pool", "give the others pools of their own under `pools:`");
        findings.error(findings.place(node.referenced), key, mistake);
    }
    match name.value.as_str() {
        "etcd" => {
            let settings = section.section("etcd", findings);
            Some(Source::Etcd(etcd::of_settings(&settings, findings)))
        }
        #[cfg(feature = "k8s")]
        _ => {
            let settings = section.section("kubernetes", findings);
            Some(Source::Kubernetes(kubernetes::of_settings(&settings, findings)))
        }
        #[cfg(not(feature = "k8s"))]
        _ => {
            findings.error(findings.place(name.referenced), key, without_kubernetes());
            None
        }
    }
}

/// What is said where Kubernetes was left out.
#[cfg(not(feature = "k8s"))]
fn without_kubernetes() -> Mistake {
    Mistake::new(
        "this program was built without Kubernetes",
        "take a release, or build it with `cargo build --release --features k8s`",
    )
}

/// Reads the backends of `--to`.
pub(super) fn of_flag(text: &str, findings: &mut Findings<'_>) -> Backing {
    let mut backing = Backing::default();
    for (part, _) in parts(text) {
        backing.read(part, "--to", None, findings);
    }
    backing
}

/// Reads the address of a DNS server: `ip` or `ip:port`.
pub(super) fn resolver(text: &str) -> Result<SocketAddr, Mistake> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DNS_PORT));
    }
    text.parse().ok().filter(|server: &SocketAddr| server.port() != 0).ok_or_else(|| {
        Mistake::new(
            format!("\"{text}\" is not the address of a DNS server"),
            "write its IP address, with a port if it is not 53: 10.0.0.10 or 10.0.0.10:5353",
        )
    })
}

/// The texts between commas and where they stand; the URL of a source is one text, commas or not.
fn parts(text: &str) -> Vec<(&str, std::ops::Range<usize>)> {
    if scheme(text.trim()).is_some() {
        return vec![(text.trim(), 0..text.len())];
    }
    let mut start = 0;
    text.split(',')
        .map(|part| {
            let from = start + part.len() - part.trim_start().len();
            start += part.len() + 1;
            (part.trim(), from..from + part.trim().len())
        })
        .collect()
}

/// Reads what a backend is called.
pub(super) fn backend_name(text: &str) -> Result<String, Mistake> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '[' | ']');
    if text.len() > NAME_CHARS_MAX || !text.chars().all(is_word) {
        let mend = format!("use up to {NAME_CHARS_MAX} letters, digits, `_`, `-`, `.`, `:` and `/`");
        return Err(Mistake::new(format!("\"{text}\" cannot be the name of a backend"), mend));
    }
    Ok(text.to_owned())
}

// === impl Backing ===

impl Backing {
    /// Whether nothing was said of where backends are.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty() && self.source == Source::Static
    }

    fn read(&mut self, text: &str, key: &str, at: Option<Place>, findings: &mut Findings<'_>) {
        match meaning(text, findings.directory()) {
            Ok(meaning) => self.add(meaning, key, at, findings),
            Err(mistake) => findings.error(at, key, mistake),
        }
    }

    fn add(&mut self, meaning: Meaning, key: &str, at: Option<Place>, findings: &mut Findings<'_>) {
        let is_first = self.is_empty();
        let mistake = match meaning {
            Meaning::Source(source) if is_first => {
                self.source = source;
                return;
            }
            Meaning::Backend(found) if self.source == Source::Static => {
                let named = |what: &str| Mistake::new(format!("{what} is named twice"), "name each backend once");
                if self.backends.iter().any(|other| other.endpoint == found.endpoint) {
                    named(&found.endpoint.to_string())
                } else if self.backends.iter().any(|other| other.name == found.name) {
                    named(&found.name)
                } else {
                    return self.backends.push(found);
                }
            }
            Meaning::Source(_) | Meaning::Backend(_) => Mistake::new(
                "a source is all of a pool: nothing may stand beside it",
                "give it a pool of its own under `pools:`, or name every backend by host:port",
            ),
        };
        findings.error(at, key, mistake);
    }
}

/// Reads one backend or the URL of a source; a relative file lies in `directory`.
fn meaning(text: &str, directory: Option<&Path>) -> Result<Meaning, Mistake> {
    let Some((scheme, rest)) = scheme(text) else {
        return address::endpoint(text).map(Found::at).map(Meaning::Backend);
    };
    match scheme {
        "dns" => of_name(text, rest),
        "dns+srv" | "srv" => of_services(text, rest),
        "file" => of_file(text, rest, directory),
        "etcd" => etcd::of_url(text, rest).map(Source::Etcd).map(Meaning::Source),
        #[cfg(feature = "k8s")]
        "k8s" => kubernetes::of_url(text, rest).map(Source::Kubernetes).map(Meaning::Source),
        #[cfg(not(feature = "k8s"))]
        "k8s" => Err(without_kubernetes()),
        scheme if PROTOCOLS.contains(&scheme) => address::endpoint(text).map(Found::at).map(Meaning::Backend),
        scheme => {
            let known = SCHEMES.iter().map(|scheme| format!("{scheme}:")).collect::<Vec<_>>().join(", ");
            let mend = match nearest(scheme, SCHEMES.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}:`? There are {known}"),
                None => format!("write host:port, or a source: {known}"),
            };
            Err(Mistake::new(format!("\"{scheme}:\" is no source of backends"), mend))
        }
    }
}

/// What stands before and behind the colon of a URL; `None` when the text is none. `dns:11800` is a host's port.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_port = rest.bytes().all(|byte| byte.is_ascii_digit());
    (rest.starts_with("//") || (SCHEMES.contains(&scheme) && !is_port)).then_some((scheme, rest))
}

/// Takes the server apart from the name: `//server/name`, `//name` (which gRPC would take for a server, and nobody
/// means) or `name`.
fn server_and_name<'t>(text: &str, rest: &'t str) -> Result<(Option<SocketAddr>, &'t str), Mistake> {
    if rest.contains(',') {
        let what = format!("\"{text}\" names more than one source");
        return Err(Mistake::new(
            what,
            "give each a pool of its own under `pools:`, or name every backend by host:port",
        ));
    }
    let (server, name) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_once('/').unwrap_or(("", rest)),
        None => ("", rest),
    };
    let server = if server.is_empty() { None } else { Some(resolver(server)?) };
    Ok((server, name.trim_end_matches('/')))
}

/// `dns:///name:port`.
fn of_name(text: &str, rest: &str) -> Result<Meaning, Mistake> {
    let (resolver, name) = server_and_name(text, rest)?;
    if !name.contains(':') {
        let host = if name.is_empty() { "collector" } else { name };
        return Err(Mistake::new(format!("\"{text}\" has no port"), format!("write dns:///{host}:11800")));
    }
    let endpoint = address::endpoint(name)?;
    // What is an address already needs no asking.
    if endpoint.host.parse::<IpAddr>().is_ok() {
        return Ok(Meaning::Backend(Found::at(endpoint)));
    }
    // A dot at the end keeps search domains away; an endpoint's host has none.
    let is_whole = name.rsplit_once(':').is_some_and(|(host, _)| host.ends_with('.'));
    let name = if is_whole { format!("{}.", endpoint.host) } else { endpoint.host };
    let question = dns::Question::Addresses { port: endpoint.port };
    Ok(Meaning::Source(Source::Dns(dns::Settings { name, question, resolver })))
}

/// `dns+srv:///_grpc._tcp.name`.
fn of_services(text: &str, rest: &str) -> Result<Meaning, Mistake> {
    let (resolver, name) = server_and_name(text, rest)?;
    if let Some((host, port)) = name.rsplit_once(':') {
        let what = format!("SRV records say the port themselves, and \"{text}\" says {port}");
        return Err(Mistake::new(what, format!("write dns+srv:///{host}, or dns:///{host}:{port} for its addresses")));
    }
    let not_a_name =
        || Mistake::new(format!("\"{text}\" names no service"), "write dns+srv:///_grpc._tcp.collector.example.org");
    let host = host_name(name).filter(|host| host.parse::<IpAddr>().is_err()).ok_or_else(not_a_name)?;
    let name = if name.ends_with('.') { format!("{host}.") } else { host };
    Ok(Meaning::Source(Source::Dns(dns::Settings { name, question: dns::Question::Services, resolver })))
}

/// `file:///path` or `file:path`, beside the config.
fn of_file(text: &str, rest: &str, directory: Option<&Path>) -> Result<Meaning, Mistake> {
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(path) if path.starts_with('/') => path,
        // Behind two slashes a URL has a host, and a file has none.
        Some(path) => {
            let mend = format!("write file:{path} for a file beside the config, file:///{path} for one at the root");
            return Err(Mistake::new(format!("\"{text}\" has two slashes: three or none are meant"), mend));
        }
    };
    if path.is_empty() || path.ends_with('/') {
        let mend = "write file:backends.yaml or file:///etc/switchyard/backends.yaml";
        return Err(Mistake::new(format!("\"{text}\" names no file"), mend));
    }
    let path = directory.map_or_else(|| Path::new(path).to_path_buf(), |directory| directory.join(path));
    Ok(Meaning::Source(Source::File(file::Settings { path })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match meaning(text, Some(Path::new("etc"))) {
            Ok(Meaning::Backend(found)) => format!("backend {}", found.name),
            Ok(Meaning::Source(source)) => source.to_string(),
            Err(mistake) => format!("{}; {}", mistake.what, mistake.mend),
        }
    }

    #[test]
    fn the_spellings_of_sources() {
        for (text, expected) in [
            ("dns:///oap:11800", "dns:///oap:11800"),
            ("dns://oap:11800", "dns:///oap:11800"),
            ("dns:oap:11800", "dns:///oap:11800"),
            ("dns:///Oap.Example.Org.:1", "dns:///oap.example.org.:1"),
            ("dns://10.0.0.10:53/oap:1", "dns://10.0.0.10:53/oap:1"),
            ("dns://10.0.0.10/oap:1", "dns://10.0.0.10:53/oap:1"),
            ("dns://[fd00::1]:5353/oap:1", "dns://[fd00::1]:5353/oap:1"),
            ("dns:///10.0.0.1:1", "backend 10.0.0.1:1"),
            ("dns:///[::1]:1", "backend [::1]:1"),
            ("dns:11800", "backend dns:11800"),
            ("file:11800", "backend file:11800"),
            ("dns+srv:///_grpc._tcp.oap", "dns+srv:///_grpc._tcp.oap"),
            ("dns+srv://_grpc._tcp.oap", "dns+srv:///_grpc._tcp.oap"),
            ("srv:_grpc._tcp.oap", "dns+srv:///_grpc._tcp.oap"),
            ("srv://10.0.0.10:53/oap.service.consul.", "dns+srv://10.0.0.10:53/oap.service.consul."),
            ("file:///run/b.yaml", "file:/run/b.yaml"),
            ("file:/run/b.yaml", "file:/run/b.yaml"),
            ("file:b.yaml", "file:etc/b.yaml"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_shown_of_a_source_reads_as_the_same_source() {
        for text in ["dns:///oap:1", "dns://10.0.0.10:53/oap.:1", "srv:///_grpc._tcp.oap", "file:///run/b.yaml"] {
            let once = meaning(text, None).unwrap();
            let Meaning::Source(source) = &once else { panic!("{text}") };
            assert_eq!(meaning(&source.to_string(), None).unwrap(), once);
        }
    }
}
