//! TLS: on ports and towards backends, with the files that it needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::Shape;
use super::keys;
use super::problem::{Findings, Mistake};
use super::section::{Section, Written, scalar};
use crate::wire::tls::{
    ClientCertificate, ClientSettings, ClientTls, Pair, Part, Pattern, Protocol, ServerSettings, ServerTls, Unfit,
};

/// A port's TLS, from the group of its settings.
pub(super) fn of_port(port: &Section<'_>, name: &str, findings: &mut Findings<'_>) -> Option<Arc<ServerTls>> {
    let setting = port.key("tls");
    // Whatever port it is: the table has them once.
    let section = Section::of(port.node("tls")?, "listen.agents.tls", setting.clone(), findings);
    let pair = pair(&section, findings);
    let client_authorities = file(&section, Part::ClientAuthorities, findings);
    let words = [ClientCertificate::Required, ClientCertificate::Optional];
    let asked = section.word("client_certificate", keys::CLIENT_CERTIFICATE, findings).map(|word| words[word]);
    let allow = allow(&section, findings);
    if client_authorities.is_none() && findings.fine(&[&section.key("client_ca")]) {
        for name in ["client_certificate", "allow"].into_iter().filter(|name| section.has(name)) {
            let what = "nobody is asked for a certificate: there is no `client_ca`";
            let mend = "write `client_ca: FILE` with the authority of the agents, or remove this";
            findings.error_in(&section.key(name), Mistake::new(what, mend));
        }
    }
    if asked == Some(ClientCertificate::Optional) && client_authorities.is_some() && !allow.is_empty() {
        let what = "who shows no certificate is let in, whatever this says";
        let mistake = Mistake::new(what, "write `client_certificate: required` once all agents have one");
        findings.warn_of(&section.key("allow"), mistake);
    }
    let protocol = if matches!(name, "prometheus" | "admin") { Protocol::Http1 } else { Protocol::Http2 };
    let Some(pair) = pair else {
        if !section.has("certificate") && !section.has("key") && findings.fine(&[&setting]) {
            let mend = "write `certificate: FILE` and `key: FILE` under it";
            findings.error_in(&setting, Mistake::new("a port needs a certificate of its own to speak TLS", mend));
        }
        return None;
    };
    let settings = ServerSettings {
        setting: setting.clone(),
        pair,
        client_authorities,
        client_certificate: asked.unwrap_or_default(),
        allow,
        protocol,
    };
    loaded(ServerTls::load(settings), &setting, findings)
}

/// The TLS of a pool, from the group of its settings.
pub(super) fn of_pool(pool: &Section<'_>, findings: &mut Findings<'_>) -> Option<Arc<ClientTls>> {
    let node = pool.node("tls")?;
    let setting = pool.key("tls");
    let mut settings = ClientSettings {
        setting: setting.clone(),
        authorities: None,
        pair: None,
        server_name: None,
        verify: true,
        protocol: Protocol::Http2,
    };
    match &node.value {
        Shape::Scalar(_) => {
            if pool.word("tls", keys::TRUTH, findings) != Some(1) {
                return None;
            }
        }
        Shape::Map(_) => {
            let section = pool.section("tls", findings);
            settings.authorities = file(&section, Part::Authorities, findings);
            settings.pair = pair(&section, findings);
            settings.server_name = section.read("server_name", findings, server_name);
            settings.verify = section.word("verify", keys::TRUTH_OR_NOT, findings) != Some(1);
            note_unverified(&section, &settings, findings);
        }
        Shape::Nothing | Shape::List(_) => {
            let mistake = Mistake::new("takes settings, true, or false", "write `tls: true`, or `tls: { ca: FILE }`");
            findings.error(findings.place(node.referenced), &setting, mistake);
            return None;
        }
    }
    if !findings
        .fine(&["ca", "certificate", "key"].map(|name| format!("{setting}.{name}")).each_ref().map(String::as_str))
    {
        return None;
    }
    loaded(ClientTls::load(settings), &setting, findings)
}

fn note_unverified(section: &Section<'_>, settings: &ClientSettings, findings: &mut Findings<'_>) {
    if settings.verify {
        return;
    }
    let what = "anybody between here and the backends can read and change what is sent";
    let mend = "remove this and name the authority of the backends in `ca`";
    findings.warn_of(&section.key("verify"), Mistake::new(what, mend));
    if settings.authorities.is_some() {
        let mistake = Mistake::new("it is not looked at: `verify` is false", "remove `verify: false`");
        findings.warn_of(&section.key("ca"), mistake);
    }
}

/// Our certificate and key: both, or none.
fn pair(section: &Section<'_>, findings: &mut Findings<'_>) -> Option<Pair> {
    let certificate = file(section, Part::Certificate, findings);
    let key = file(section, Part::Key, findings);
    let alone = |there: &str, missing: &str| {
        Mistake::new(format!("there is a {there} and no {missing}"), format!("write `{missing}: FILE` as well"))
    };
    for (there, missing) in [("certificate", "key"), ("key", "certificate")] {
        if section.has(there) && !section.has(missing) && findings.fine(&[&section.key(there)]) {
            findings.error_in(&section.key(there), alone(there, missing));
        }
    }
    Some(Pair { certificate: certificate?, key: key? })
}

/// A file, found beside the config.
fn file(section: &Section<'_>, part: Part, findings: &mut Findings<'_>) -> Option<PathBuf> {
    let Written { text, at, key } = section.written(part.name(), findings)?;
    if text.contains("-----BEGIN") {
        // It may be a key: nothing of it is shown.
        findings.hide_value(text);
        if let Some(place) = at {
            findings.hide_line(place.line);
        }
        let mistake = Mistake::new("takes the name of a file, not what is in it", "write it to a file and name that");
        findings.error(at, &key, mistake);
        return None;
    }
    Some(findings.directory().map_or_else(|| Path::new(text).to_owned(), |directory| directory.join(text)))
}

fn allow(section: &Section<'_>, findings: &mut Findings<'_>) -> Vec<Pattern> {
    let key = section.key("allow");
    if let Some(node) = section.node("allow") {
        findings.remember(&key, &key, findings.place(node.referenced));
    }
    let mut allow = Vec::new();
    for item in section.items("allow") {
        let Some(written) = scalar(item, key.clone(), findings) else { continue };
        match Pattern::parse(written.text) {
            Some(pattern) => allow.push(pattern),
            None => {
                let mistake = Mistake::new("is longer than any name", "write a DNS name, an address or a URI");
                findings.error(written.at, &key, mistake);
            }
        }
    }
    allow
}

fn server_name(text: &str) -> Result<String, Mistake> {
    if ClientTls::is_server_name(text) {
        return Ok(text.to_owned());
    }
    let mend = "write a DNS name or an IP address as the certificate has it, without a port";
    Err(Mistake::new(format!("no certificate can be for \"{text}\""), mend))
}

/// What was made of the files, with what is wrong with them told at their settings.
fn loaded<T>(
    outcome: Result<(T, Vec<Unfit>), Vec<Unfit>>,
    setting: &str,
    findings: &mut Findings<'_>,
) -> Option<Arc<T>> {
    let at = |unfit: &Unfit| format!("{setting}.{}", unfit.part.name());
    match outcome {
        Ok((made, soon_unfit)) => {
            for unfit in soon_unfit {
                findings.warn_within(&at(&unfit), Mistake::new(unfit.what, unfit.mend));
            }
            Some(Arc::new(made))
        }
        Err(unfit) => {
            for unfit in unfit {
                findings.error_within(&at(&unfit), Mistake::new(unfit.what, unfit.mend));
            }
            None
        }
    }
}
