//! Which messages a route is for, as the operator writes it.

use http::HeaderName;

use super::fields::one_of;
use super::file::{Node, Shape};
use super::matches::Wanted;
use super::problem::{Findings, Mistake};
use super::section::{Section, Written, scalar, word};
use super::{keys, methods};
use crate::listener;
use crate::message::field::Value;
use crate::message::flow::Flow;
use crate::route::Method;
use crate::route::rule::{Match, glob};

/// A condition, not yet held against any method.
pub(super) enum Condition<'a> {
    /// The method is one of these.
    Method(Vec<Pattern<'a>>),
    /// Its flow is one of these.
    Flow(Vec<Flow>),
    /// The call came to one of these listeners.
    Listener(Vec<&'static str>),
    /// The call's metadata has this.
    Metadata(HeaderName, Wanted<'a>),
    /// The message has this in the field of this name.
    Message(Written<'a>, Wanted<'a>),
    /// All of these hold.
    All(Vec<Condition<'a>>),
    /// One of these holds.
    Any(Vec<Condition<'a>>),
    /// This does not hold.
    Not(Box<Condition<'a>>),
    /// Something is wrong in it, which is noted.
    Wrong,
}

/// One method, or a glob over `pkg.Service/Method`.
pub(super) struct Pattern<'a> {
    pub said: Written<'a>,
    wanted: Match,
}

/// The names of conditions; everything else of a route says what becomes of messages.
pub(super) const CONDITIONS: [&str; 8] = ["method", "flow", "listener", "metadata", "message", "any", "all", "not"];

// === impl Condition ===

impl<'a> Condition<'a> {
    /// Reads the conditions of a route, or of a group of conditions; all must hold.
    pub fn read(section: &Section<'a>, findings: &mut Findings<'_>) -> Self {
        let mut all = Vec::new();
        if section.has("method") {
            all.push(Self::Method(patterns(section, findings)));
        }
        if section.has("flow") {
            let words = words(section, "flow", keys::FLOW, findings);
            all.push(Self::Flow(words.into_iter().map(methods::flow).collect()));
        }
        if section.has("listener") {
            all.push(Self::Listener(words(section, "listener", keys::LISTENER, findings)));
        }
        for (name, node) in section.members_of("metadata", findings) {
            let key = format!("{}.{}", section.key("metadata"), name.value);
            let header = metadata_name(&name.value)
                .map_err(|wrong| findings.error(findings.place(name.referenced), &key, wrong));
            let wanted = Wanted::read(node, &key, findings);
            all.push(match (header, wanted) {
                (Ok(name), Some(wanted)) => Self::Metadata(name, wanted),
                _ => Self::Wrong,
            });
        }
        for (name, node) in section.members_of("message", findings) {
            let key = format!("{}.{}", section.key("message"), name.value);
            let said = Written { text: &name.value, at: findings.place(name.referenced), key };
            let wanted = Wanted::read(node, &said.key, findings);
            all.push(wanted.map_or(Self::Wrong, |wanted| Self::Message(said, wanted)));
        }
        for (name, join) in [("any", Self::Any as fn(_) -> _), ("all", Self::All)] {
            if let Some(node) = section.node(name) {
                all.push(group(node, &section.key(name), findings).map_or(Self::Wrong, join));
            }
        }
        if let Some(node) = section.node("not") {
            all.push(Self::Not(Box::new(nested(node, section.key("not"), findings))));
        }
        Self::All(all)
    }

    /// Whether a method's messages can fall under it, as far as method, flow and the open listeners decide; `None`: its
    /// messages decide.
    pub fn scope(&self, method: &Method, open: Option<&[listener::Settings]>) -> Option<bool> {
        match self {
            Self::Method(patterns) => Some(patterns.iter().any(|pattern| pattern.is_for(method))),
            Self::Flow(flows) => Some(flows.contains(&method.flow)),
            Self::Listener(names) => {
                let hears = |open: &listener::Settings| {
                    names.contains(&open.name) && open.only.is_none_or(|flow| flow == method.flow)
                };
                open.is_some_and(|open| !open.iter().any(hears)).then_some(false)
            }
            Self::Metadata(..) | Self::Message(..) | Self::Wrong => None,
            Self::All(all) => decided(all, false, method, open),
            Self::Any(any) => decided(any, true, method, open),
            Self::Not(not) => not.scope(method, open).map(|holds| !holds),
        }
    }

    /// Every pattern of a method in it.
    pub fn patterns(&self) -> Vec<&Pattern<'a>> {
        match self {
            Self::Method(patterns) => patterns.iter().collect(),
            Self::All(inner) | Self::Any(inner) => inner.iter().flat_map(Self::patterns).collect(),
            Self::Not(inner) => inner.patterns(),
            _ => Vec::new(),
        }
    }

    /// Whether something in it is wrong, which has been noted.
    pub fn is_wrong(&self) -> bool {
        match self {
            Self::Wrong => true,
            Self::Method(patterns) => patterns.is_empty(),
            Self::Flow(flows) => flows.is_empty(),
            Self::Listener(names) => names.is_empty(),
            Self::Metadata(..) | Self::Message(..) => false,
            Self::All(inner) | Self::Any(inner) => inner.iter().any(Self::is_wrong),
            Self::Not(inner) => inner.is_wrong(),
        }
    }
}

/// What the first condition decides that comes out as `decisive`; the opposite if all come out so.
fn decided(
    all: &[Condition<'_>],
    decisive: bool,
    method: &Method,
    open: Option<&[listener::Settings]>,
) -> Option<bool> {
    let mut otherwise = Some(!decisive);
    for condition in all {
        match condition.scope(method, open) {
            Some(holds) if holds == decisive => return Some(decisive),
            Some(_) => {}
            None => otherwise = None,
        }
    }
    otherwise
}

/// A list of groups of conditions.
fn group<'a>(node: &'a Node, key: &str, findings: &mut Findings<'_>) -> Option<Vec<Condition<'a>>> {
    match &node.value {
        Shape::List(items) if !items.is_empty() => {
            Some(items.iter().enumerate().map(|(at, item)| nested(item, format!("{key}[{at}]"), findings)).collect())
        }
        _ => {
            let name = key.rsplit('.').next().unwrap_or(key);
            let mend = format!("write `{name}: [ {{ flow: logs }}, {{ message: {{ service: shop }} }} ]`");
            findings.error(findings.place(node.referenced), key, Mistake::new("takes a list of conditions", mend));
            None
        }
    }
}

/// Conditions within conditions.
fn nested<'a>(node: &'a Node, key: String, findings: &mut Findings<'_>) -> Condition<'a> {
    let Shape::Map(members) = &node.value else {
        let mend = format!("write one or more of {}", CONDITIONS.join(", "));
        findings.error(findings.place(node.referenced), &key, Mistake::new("takes conditions", mend));
        return Condition::Wrong;
    };
    let section = Section::of(node, "routes", key, findings);
    for (name, _) in members {
        let is_action = keys::names_under("routes").any(|known| known == name.value);
        if is_action && !CONDITIONS.contains(&name.value.as_str()) {
            let what = format!("`{}` says what becomes of messages; only conditions stand here", name.value);
            let mistake = Mistake::new(what, "write it at the route itself");
            findings.error(findings.place(name.referenced), &section.key(&name.value), mistake);
        }
    }
    if members.is_empty() {
        let mend = format!("write one or more of {}", CONDITIONS.join(", "));
        findings.error(findings.place(node.referenced), &section.key(""), Mistake::new("is empty", mend));
    }
    Condition::read(&section, findings)
}

/// Words of a closed set: one, or a list.
fn words(
    section: &Section<'_>,
    name: &str,
    known: &'static [&'static str],
    findings: &mut Findings<'_>,
) -> Vec<&'static str> {
    let mut said = Vec::new();
    for item in section.items(name) {
        let Some(written) = scalar(item, section.key(name), findings) else { continue };
        match word(written.text, known) {
            Ok(at) => said.push(known[at]),
            Err(mistake) => findings.error(written.at, &written.key, mistake),
        }
    }
    let key = section.key(name);
    findings.remember(&key, &key, section.node(name).and_then(|node| findings.place(node.referenced)));
    said
}

/// Methods: one, or a list.
fn patterns<'a>(section: &Section<'a>, findings: &mut Findings<'_>) -> Vec<Pattern<'a>> {
    let key = section.key("method");
    findings.remember(&key, &key, section.node("method").and_then(|node| findings.place(node.referenced)));
    let mut patterns = Vec::new();
    for item in section.items("method") {
        let Some(said) = scalar(item, key.clone(), findings) else { continue };
        match glob::compile(said.text.strip_prefix('/').unwrap_or(said.text)) {
            Ok(wanted) => patterns.push(Pattern { said, wanted }),
            Err(_) => {
                let mistake =
                    Mistake::new("this glob would take too much memory", "write fewer stars and question marks");
                findings.error(said.at, &said.key, mistake);
            }
        }
    }
    patterns
}

/// The name of metadata that a caller may bring.
pub(super) fn metadata_name(text: &str) -> Result<HeaderName, Mistake> {
    let lower = text.to_ascii_lowercase();
    let wrong = |what: String, mend: &str| Err(Mistake::new(what, mend));
    match HeaderName::from_bytes(lower.as_bytes()) {
        Err(_) => wrong(format!("\"{text}\" cannot be the name of metadata"), "use letters, digits, `-`, `_` and `.`"),
        Ok(name) if name.as_str().ends_with("-bin") => {
            wrong(format!("`{name}` holds bytes in base64, which are not compared"), "use metadata of text")
        }
        Ok(name) => Ok(name),
    }
}

// === impl Pattern ===

impl Pattern<'_> {
    /// Whether it is for a method, under either of its names.
    pub fn is_for(&self, method: &Method) -> bool {
        let names = [Some(method.path), method.package_less].into_iter().flatten();
        names.into_iter().any(|path| self.wanted.holds(Value::Bytes(&path.as_bytes()[1..])))
    }

    /// What to say when it is for none of the methods.
    pub fn mistake(&self, methods: &[Method]) -> Mistake {
        let text = self.said.text;
        if glob::is_glob(text) {
            let what = format!("\"{text}\" matches none of the {} methods", methods.len());
            return Mistake::new(what, "`*` stands for anything, `?` for one character: skywalking.v3.*/collect");
        }
        let paths = methods.iter().map(|method| method.path);
        let bare = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
        let mend = match super::nearest::nearest(&bare, paths) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "describe it under `methods`, or write one of `switchyard catalogue`".to_owned(),
        };
        Mistake::new(format!("there is no method {bare}"), mend)
    }
}

/// What to say of a word that is none of an operator's own.
pub(super) fn unknown(what: &str, written: &str, known: &[&str]) -> Mistake {
    Mistake::new(format!("there is no {what} `{written}`"), one_of(written, known.iter().copied()))
}
