//! Backends that register in etcd: `etcd://member:2379,member:2379/prefix/`, or settings.

use super::file::{Node, Shape};
use super::problem::{Findings, Mistake};
use super::section::{Section, scalar};
use crate::discovery::dial::{IdentityFiles, TlsSettings};
use crate::discovery::etcd::{Password, Settings, User};
use crate::pool::Endpoint;
use crate::pool::endpoint::EndpointError;

/// Where etcd listens for clients.
const PORT: u16 = 2379;

/// Reads `//member,member/prefix/`, what stands behind the scheme of `text`. As in gRPC's names for etcd the slash before
/// the prefix is not part of it.
pub(super) fn of_url(text: &str, rest: &str) -> Result<Settings, Mistake> {
    let bare = rest.strip_prefix("//").unwrap_or(rest);
    let (members, prefix) = bare.split_once('/').unwrap_or((bare, ""));
    if members.is_empty() {
        let what = format!("\"{text}\" names no member of etcd");
        return Err(Mistake::new(what, format!("write etcd://etcd:2379/{prefix}")));
    }
    let members = members.split(',').map(member).collect::<Result<Vec<_>, _>>()?;
    Ok(Settings { members, prefix: self::prefix(prefix)?, tls: None, user: None })
}

/// Reads the settings under `etcd`. What is wrong is noted, and left empty.
pub(super) fn of_settings(section: &Section<'_>, findings: &mut Findings<'_>) -> Settings {
    let members = members(section, findings);
    let prefix = section.read("prefix", findings, prefix);
    for (needed, mend) in [("members", "write `members: [etcd:2379]`"), ("prefix", "write `prefix: oap/`")] {
        if !section.has(needed) {
            findings.error_within(&section.key(needed), Mistake::new("is needed", mend));
        }
    }
    let tls = section.has("tls").then(|| tls(&section.section("tls", findings), findings));
    let name = section.read("username", findings, |text| Ok(text.to_owned()));
    let password = section.read("password", findings, |text| Ok(Password(text.to_owned())));
    let user = match (name, password) {
        (Some(name), Some(password)) => Some(User { name, password }),
        (None, None) => None,
        (name, _) => {
            let (has, lacks) = if name.is_some() { ("username", "password") } else { ("password", "username") };
            let mistake = Mistake::new(format!("there is no `{lacks}` to it"), format!("write `{lacks}`, too"));
            findings.error_in(&section.key(has), mistake);
            None
        }
    };
    Settings { members, prefix: prefix.unwrap_or_default(), tls: tls.flatten(), user }
}

fn members(section: &Section<'_>, findings: &mut Findings<'_>) -> Vec<Endpoint> {
    let mut members: Vec<Endpoint> = Vec::new();
    for item in section.items("members") {
        if let Shape::Map(_) | Shape::List(_) = item.value {
            let mistake = Mistake::new("takes addresses", "write `members: [etcd:2379]`");
            findings.error(findings.place(item.referenced), &section.key("members"), mistake);
            continue;
        }
        read_members(item, section.key("members"), &mut members, findings);
    }
    members
}

fn read_members(item: &Node, key: String, members: &mut Vec<Endpoint>, findings: &mut Findings<'_>) {
    let Some(written) = scalar(item, key, findings) else { return };
    for text in written.text.split(',') {
        match member(text.trim()) {
            Ok(member) if members.contains(&member) => {
                let mistake = Mistake::new(format!("{member} is named twice"), "name each member once");
                findings.error(written.at, &written.key, mistake);
            }
            Ok(member) => members.push(member),
            Err(mistake) => findings.error(written.at, &written.key, mistake),
        }
    }
}

/// TLS towards the members. Their authority has to be named: it is hardly ever a public one.
fn tls(section: &Section<'_>, findings: &mut Findings<'_>) -> Option<TlsSettings> {
    let ca_file = section.file("ca", findings);
    if ca_file.is_none() && findings.fine(&[&section.key("ca")]) {
        let mend = "write `ca: FILE`, the certificates that may have signed the members' own";
        findings.error_within(&section.key("ca"), Mistake::new("is needed", mend));
    }
    let identity = match (section.file("certificate", findings), section.file("key", findings)) {
        (Some(certificate), Some(key)) => Some(IdentityFiles { certificate, key }),
        (None, None) => None,
        (certificate, _) => {
            let (has, lacks) = if certificate.is_some() { ("certificate", "key") } else { ("key", "certificate") };
            let mistake = Mistake::new(format!("there is no `{lacks}` to it"), format!("write `{lacks}: FILE`, too"));
            findings.error_within(&section.key(has), mistake);
            None
        }
    };
    let server_name = section.read("server_name", findings, |text| Ok(text.to_owned()));
    Some(TlsSettings { ca_file: ca_file?, identity, server_name })
}

fn member(text: &str) -> Result<Endpoint, Mistake> {
    let endpoint = match text.parse() {
        Err(EndpointError::NoPort { .. }) => format!("{text}:{PORT}").parse(),
        read => read,
    };
    endpoint.map_err(|error: EndpointError| {
        let mend = match text.split_once("://") {
            Some((_, rest)) => format!("write {rest}; `tls` beside it says how its certificate is known"),
            None => format!("write host:port, as in etcd:{PORT}"),
        };
        Mistake::new(error.to_string(), mend)
    })
}

/// A prefix is a folder: it ends in a slash, so that `oap` does not take the keys of `oap-test`.
fn prefix(text: &str) -> Result<String, Mistake> {
    if text.trim_matches('/').is_empty() {
        let mend = "write what the keys of your collectors begin with, as in oap/";
        return Err(Mistake::new("every key of etcd would be a backend", mend));
    }
    Ok(if text.ends_with('/') { text.to_owned() } else { format!("{text}/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_members_and_prefix() {
        let read = |text: &str| of_url(text, text.strip_prefix("etcd:").unwrap());
        for (text, shown) in [
            ("etcd://a:1,b:2/oap/", "etcd://a:1,b:2/oap/"),
            ("etcd://a/oap", "etcd://a:2379/oap/"),
            ("etcd://a,[::1]:1//services/oap", "etcd://a:2379,[::1]:1//services/oap/"),
        ] {
            assert_eq!(read(text).unwrap().to_string(), shown);
            assert_eq!(read(shown).unwrap(), read(text).unwrap());
        }
        assert_eq!(read("etcd://a//services/oap/").unwrap().prefix, "/services/oap/");
        for wrong in ["etcd:///oap/", "etcd://a:1", "etcd://a:1/", "etcd://a:0/oap", "etcd://a:1,,b:1/oap/"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
