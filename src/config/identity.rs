//! Who may call, and what keeps callers apart.

use http::{HeaderName, HeaderValue};

use super::keys;
use super::pools::token;
use super::problem::{Findings, Mistake};
use super::section::{Section, scalar};
use crate::listener::identity::{Identity, Tokens};
use crate::wire::grpc::AUTHENTICATION;

/// Metadata that speaks of one hop, or that gRPC says itself: it cannot be passed on as a caller brought it.
const OF_ONE_HOP: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Reads `identity:`.
pub(super) fn read(root: &Section<'_>, findings: &mut Findings<'_>) -> Identity {
    let section = root.section("identity", findings);
    let accepted = tokens(&section, findings);
    let missing = section.word("missing_token", keys::MISSING_TOKEN, findings).map(|word| keys::MISSING_TOKEN[word]);
    if missing.is_some() && !section.has("tokens") {
        let mistake =
            Mistake::new("no token can be missing where none is asked for", "write `tokens:`, or remove this");
        findings.warn_of(&section.key("missing_token"), mistake);
    }
    let may_be_missing = missing == Some("accept");
    Identity {
        tokens: (!accepted.is_empty()).then_some(Tokens { accepted, may_be_missing }),
        separate_by: separate_by(&section, findings),
    }
}

fn tokens(section: &Section<'_>, findings: &mut Findings<'_>) -> Vec<HeaderValue> {
    let mut accepted: Vec<HeaderValue> = Vec::new();
    for (at, item) in section.items("tokens").iter().enumerate() {
        let Some(written) = scalar(item, format!("{}[{at}]", section.key("tokens")), findings) else { continue };
        match token(written.text) {
            Ok(token) if accepted.contains(&token) => {
                findings.error(
                    written.at,
                    &written.key,
                    Mistake::new("is one of the tokens above", "write each token once"),
                );
            }
            Ok(token) => accepted.push(token),
            Err(mistake) => findings.error(written.at, &written.key, mistake),
        }
    }
    accepted
}

fn separate_by(section: &Section<'_>, findings: &mut Findings<'_>) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for item in section.items("separate_by") {
        let Some(written) = scalar(item, section.key("separate_by"), findings) else { continue };
        match separator(written.text) {
            Ok(name) if names.contains(&name) => {
                let mistake = Mistake::new(format!("{name} is named twice"), "name each once");
                findings.error(written.at, &written.key, mistake);
            }
            Ok(name) => names.push(name),
            Err(mistake) => findings.error(written.at, &written.key, mistake),
        }
    }
    names
}

fn separator(text: &str) -> Result<HeaderName, Mistake> {
    let name = HeaderName::from_bytes(text.to_ascii_lowercase().as_bytes()).map_err(|_| {
        Mistake::new(format!("\"{text}\" cannot be the name of metadata"), "use letters, digits, `-`, `_` and `.`")
    })?;
    match name.as_str() {
        AUTHENTICATION => Err(Mistake::new(format!("`{name}` keeps callers apart anyway"), "remove it")),
        known if known.starts_with("grpc-") || OF_ONE_HOP.contains(&known) => {
            let what = format!("`{name}` is gRPC's own and says nothing of who calls");
            Err(Mistake::new(what, "name metadata that your agents set, such as x-tenant"))
        }
        _ => Ok(name),
    }
}
