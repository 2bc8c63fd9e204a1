//! Backends that a Kubernetes cluster runs: `k8s://namespace/selector:port`, or settings.

use std::net::IpAddr;

use super::keys;
use super::problem::{Findings, Mistake};
use super::section::Section;
use crate::discovery::kubernetes::{ApiServer, Kind, Port, Settings};
use crate::pool::Endpoint;
use crate::pool::endpoint::EndpointError;

/// Longest name of a port, RFC 6335.
const PORT_CHARS_MAX: usize = 15;
/// Longest value of a label, longest name of a namespace or service.
const NAME_CHARS_MAX: usize = 63;

/// Reads `//namespace/selector:port`, what stands behind the scheme of `text`; without a namespace it is our own.
pub(super) fn of_url(text: &str, rest: &str) -> Result<Settings, Mistake> {
    let mend = "write k8s://NAMESPACE/LABELS:PORT, as in k8s://skywalking/app=oap:11800";
    let bare = rest.strip_prefix("//").unwrap_or(rest);
    let Some((namespace, rest)) = bare.split_once('/') else {
        return Err(Mistake::new(format!("\"{text}\" says no labels of pods"), mend));
    };
    let Some((selector, port)) = rest.rsplit_once(':') else {
        return Err(Mistake::new(format!("\"{text}\" has no port"), format!("write {text}:11800, or a port's name")));
    };
    let namespace = match namespace {
        "" => None,
        namespace => Some(self::name("namespace", namespace)?),
    };
    let kind = Kind::Pods { selector: self::selector(selector)?, fields: String::new() };
    Ok(Settings { kind, namespace, port: self::port(port)?, api_server: None, token_file: None, ca_file: None })
}

/// Reads the settings under `kubernetes`. What is wrong is noted, and left empty.
pub(super) fn of_settings(section: &Section<'_>, findings: &mut Findings<'_>) -> Settings {
    let is_of_service = match section.word("kind", keys::KUBERNETES_KIND, findings) {
        Some(kind) => kind == 1,
        None => section.has("service"),
    };
    let selector = section.read("selector", findings, self::selector);
    let fields = section.read("fields", findings, |text| Ok(text.to_owned()));
    let service = section.read("service", findings, |text| name("service", text));
    let (needed, others): (_, &[_]) =
        if is_of_service { ("service", &["selector", "fields"]) } else { ("selector", &["service"]) };
    for other in others.iter().filter(|other| section.has(other)) {
        let kind = keys::KUBERNETES_KIND[usize::from(is_of_service)];
        let mistake = Mistake::new(format!("does not go with `kind: {kind}`"), format!("remove it, or `{needed}`"));
        findings.error_in(&section.key(other), mistake);
    }
    if !section.has(needed) {
        let mend =
            if is_of_service { "write `service: NAME`" } else { "write `selector: app=oap`, or `service: NAME`" };
        findings.error_within(&section.key(needed), Mistake::new("nothing says which backends are meant", mend));
    }
    let settings = Settings {
        kind: match is_of_service {
            true => Kind::EndpointSlices { service: service.unwrap_or_default() },
            false => Kind::Pods { selector: selector.unwrap_or_default(), fields: fields.unwrap_or_default() },
        },
        namespace: section.read("namespace", findings, |text| name("namespace", text)),
        port: section.read("port", findings, port).unwrap_or(Port::Only),
        api_server: section.read("api_server", findings, api_server),
        token_file: section.file("token_file", findings),
        ca_file: section.file("ca", findings),
    };
    let is_open = |server: &ApiServer| !server.is_tls && !is_loopback(&server.endpoint);
    if settings.token_file.is_some() && settings.api_server.as_ref().is_some_and(is_open) {
        let mistake = Mistake::new("the token is sent to it for everybody to read", "write https://, and its `ca`");
        findings.warn_of(&section.key("api_server"), mistake);
    }
    settings
}

fn is_loopback(endpoint: &Endpoint) -> bool {
    endpoint.host == "localhost" || endpoint.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn api_server(text: &str) -> Result<ApiServer, Mistake> {
    let wrong = || {
        let mend = "write https://HOST:PORT, or http://HOST:PORT for `kubectl proxy`";
        Mistake::new(format!("\"{text}\" is not the address of an API server"), mend)
    };
    let (is_tls, rest, usual) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest, 443),
        Some(("http", rest)) => (false, rest, 80),
        _ => return Err(wrong()),
    };
    let rest = rest.trim_end_matches('/');
    let endpoint = match rest.parse() {
        Err(EndpointError::NoPort { .. }) => format!("{rest}:{usual}").parse(),
        read => read,
    };
    Ok(ApiServer { is_tls, endpoint: endpoint.map_err(|_| wrong())? })
}

fn port(text: &str) -> Result<Port, Mistake> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(number) if number > 0 => Ok(Port::Number(number)),
            _ => Err(Mistake::new(format!("\"{text}\" is not a port"), "write a number from 1 to 65535")),
        };
    }
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > PORT_CHARS_MAX || !text.bytes().all(letter) {
        let mend = "write its number, or the name a container gives it";
        return Err(Mistake::new(format!("\"{text}\" is neither a port nor the name of one"), mend));
    }
    Ok(Port::Name(text.to_owned()))
}

/// The name of an object, RFC 1123.
fn name(what: &str, text: &str) -> Result<String, Mistake> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_framed = !text.starts_with('-') && !text.ends_with('-');
    if text.is_empty() || text.len() > NAME_CHARS_MAX || !is_framed || !text.bytes().all(letter) {
        let mend = "use small letters, digits and `-`, as Kubernetes does";
        return Err(Mistake::new(format!("\"{text}\" cannot be the name of a {what}"), mend));
    }
    Ok(text.to_owned())
}

/// A selector of labels, as `kubectl get -l` takes it.
fn selector(text: &str) -> Result<String, Mistake> {
    let text = text.trim();
    if text.is_empty() {
        let mend = "write the labels your collectors have, as in app=oap";
        return Err(Mistake::new("nothing says which pods are meant", mend));
    }
    match requirements(text).into_iter().find(|requirement| !is_requirement(requirement.trim())) {
        None => Ok(text.to_owned()),
        Some(wrong) => Err(Mistake::new(
            format!("\"{}\" selects no labels", wrong.trim()),
            "write name=value, name!=value, name in (a,b), name notin (a,b), name or !name, with commas between them",
        )),
    }
}

/// The parts between commas that do not stand in brackets.
fn requirements(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn is_requirement(text: &str) -> bool {
    if let Some(name) = text.strip_prefix('!') {
        return is_label_name(name.trim());
    }
    for sign in ["!=", "==", "="] {
        if let Some((name, value)) = text.split_once(sign) {
            return is_label_name(name.trim()) && is_label_value(value.trim());
        }
    }
    let Some((name, rest)) = text.split_once(char::is_whitespace) else { return is_label_name(text) };
    let rest = rest.trim_start();
    let set = rest.strip_prefix("notin").or_else(|| rest.strip_prefix("in")).map(str::trim);
    let values = set.and_then(|set| set.strip_prefix('(')?.strip_suffix(')'));
    is_label_name(name) && values.is_some_and(|values| values.split(',').all(|value| is_label_value(value.trim())))
}

/// `name` or `prefix/name`, where the prefix is a DNS name.
fn is_label_name(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').unwrap_or(("x", text));
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !prefix.is_empty() && prefix.bytes().all(letter) && !name.is_empty() && is_label_value(name)
}

fn is_label_value(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_framed =
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    text.is_empty() || (text.len() <= NAME_CHARS_MAX && is_framed && text.bytes().all(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_those_of_kubectl() {
        for right in [
            "app=oap",
            "app==oap,tier!=test",
            "app.kubernetes.io/name=oap, component in (a, b,c) ,!canary,zone notin (x)",
            "app",
            "app=",
        ] {
            assert_eq!(selector(right).as_deref(), Ok(right), "{right}");
        }
        for wrong in
            ["", "app oap", "=oap", "app=o/ap", "app=a,,b=c", "app in a", "app in (a", "a/b/c=d", "-a=b", "a=b-"]
        {
            assert!(selector(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_url_says_namespace_labels_and_port() {
        let read = |text: &str| of_url(text, text.strip_prefix("k8s:").unwrap());
        let settings = read("k8s://sky/app.kubernetes.io/name=oap,tier in (a,b):grpc").unwrap();
        let selector = "app.kubernetes.io/name=oap,tier in (a,b)".to_owned();
        assert_eq!(settings.kind, Kind::Pods { selector, fields: String::new() });
        assert_eq!((settings.namespace.as_deref(), settings.port), (Some("sky"), Port::Name("grpc".to_owned())));
        assert_eq!(read("k8s:///app=oap:11800").unwrap().namespace, None);
        for text in ["k8s://sky/app=oap:11800", "k8s:///app=oap:grpc"] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        for wrong in [
            "k8s://sky",
            "k8s://sky/app=oap",
            "k8s://sky/:11800",
            "k8s://Sky/a=b:1",
            "k8s://a/b=c:0",
            "k8s://a/b=c:a_b",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(read("k8s://sky/app=oap").unwrap_err().mend, "write k8s://sky/app=oap:11800, or a port's name");
    }
}
