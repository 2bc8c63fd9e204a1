//! Methods the operator describes: how their calls may be taken apart, and what their messages hold.

use super::file::{Node, Shape};
use super::problem::{Findings, Mistake};
use super::section::{Section, Written, scalar, word};
use super::{fields, keys};
use crate::message::flow::Flow;
use crate::message::intern;
use crate::message::path::{FieldPath, Step};
use crate::route::contract::{Carry, CarryMode, Contract, Key, Need, Replay, Split};
use crate::route::schema::{Leaf, Place, Schema};
use crate::route::{Method, Origin, catalogue};

/// Reads the list under `methods:`.
pub(super) fn read(root: &Section<'_>, schema: &Schema, findings: &mut Findings<'_>) -> Vec<Method> {
    let Some(node) = root.node("methods") else { return Vec::new() };
    let items = match &node.value {
        Shape::List(items) => items.as_slice(),
        Shape::Nothing => &[],
        Shape::Scalar(_) | Shape::Map(_) => {
            let mistake = Mistake::new("takes a list of methods", "write `methods: [ /my.pkg.Service/Method ]`");
            findings.error(findings.place(node.referenced), "methods", mistake);
            &[]
        }
    };
    let known: Vec<&str> =
        catalogue::methods().iter().flat_map(|known| [Some(known.path), known.package_less]).flatten().collect();
    let mut methods: Vec<Method> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let at = format!("methods[{index}]");
        let Some(method) = method(item, &at, schema, findings) else { continue };
        let mistake = if known.contains(&method.path) {
            Mistake::new(
                format!("Switchyard knows {} already, and how its receiver reads it", method.path),
                "remove it here; what should become of its messages is said under `routes`",
            )
        } else if methods.iter().any(|other| other.path == method.path) {
            Mistake::new(format!("{} is named twice", method.path), "name each method once")
        } else {
            methods.push(method);
            continue;
        };
        findings.error(findings.place(item.referenced), &at, mistake);
    }
    methods
}

/// Reads one item: a path, or settings.
fn method(item: &Node, at: &str, schema: &Schema, findings: &mut Findings<'_>) -> Option<Method> {
    let Shape::Map(_) = &item.value else {
        let written = scalar(item, at.to_owned(), findings)?;
        return match path(written.text) {
            Ok(path) => Some(described(&path, Flow::Control, Contract::of(Split::Whole), Vec::new())),
            Err(mistake) => {
                findings.error(written.at, &written.key, mistake);
                None
            }
        };
    };
    let section = Section::of(item, "methods", at.to_owned(), findings);
    if !section.has("path") {
        let mistake = Mistake::new("has no path", "write `path: /my.pkg.Service/Method`");
        findings.error(findings.place(item.referenced), at, mistake);
    }
    let flow = section.word("flow", keys::FLOW, findings).map_or(Flow::Control, |word| flow(keys::FLOW[word]));
    let path = section.read("path", findings, path);
    let short = short_names(&section, findings);
    // Without a path it cannot become a method, but its other settings are looked at.
    let shown = path.as_deref().unwrap_or("/unnamed.Service/Method");
    let bare = described(shown, flow, Contract::of(Split::Whole), short);
    let contract = ContractReader { section: &section, schema, method: &bare }.read(findings);
    path.map(|_| Method { contract, ..bare })
}

fn described(path: &str, flow: Flow, contract: Contract, fields: Vec<(String, FieldPath)>) -> Method {
    Method { path: intern(path), package_less: None, flow, contract, fields, origin: Origin::Config }
}

/// The flow of this name.
pub(super) fn flow(name: &str) -> Flow {
    Flow::ALL.into_iter().find(|flow| flow.name() == name).unwrap_or(Flow::Control)
}

/// Reads `fields: { service: "1.4" }`.
fn short_names(section: &Section<'_>, findings: &mut Findings<'_>) -> Vec<(String, FieldPath)> {
    let mut short = Vec::new();
    for (name, node) in section.members_of("fields", findings) {
        let key = format!("{}.{}", section.key("fields"), name.value);
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.value.starts_with(|c: char| c.is_ascii_digit())
            || name.value.is_empty()
            || !name.value.chars().all(is_word)
        {
            let mend = "use letters, digits and `_`, a letter first";
            let mistake = Mistake::new(format!("\"{}\" cannot be a name", name.value), mend);
            findings.error(findings.place(name.referenced), &key, mistake);
            continue;
        }
        let Some(written) = scalar(node, key, findings) else { continue };
        match written.text.parse() {
            Ok(path) => short.push((name.value.clone(), path)),
            Err(wrong) => {
                let mistake =
                    Mistake::new(format!("\"{}\" is not a path of field numbers", written.text), format!("{wrong}"));
                findings.error(written.at, &written.key, mistake);
            }
        }
    }
    short
}

/// Reads the exact path of a method.
pub(super) fn path(text: &str) -> Result<String, Mistake> {
    let name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let mut parts = text.strip_prefix('/').unwrap_or(text).split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(service), Some(method), None) if service.split('.').all(name) && name(method) => {
            if text.starts_with('/') {
                return Ok(text.to_owned());
            }
            Err(Mistake::new(format!("\"{text}\" does not begin with a slash"), format!("write /{text}")))
        }
        _ => {
            let mend = "write /my.pkg.Service/Method, one method each";
            Err(Mistake::new(format!("\"{text}\" is not the path of a method"), mend))
        }
    }
}

fn split_word(text: &str) -> Result<&'static str, Mistake> {
    if text == "records" {
        let what = "only requests whose records Switchyard knows how to cut can be `records`: OTLP's";
        return Err(Mistake::new(what, format!("write one of {}", keys::SPLIT.join(", "))));
    }
    word(text, keys::SPLIT).map(|word| keys::SPLIT[word])
}

/// Reads the contract out of a method's settings.
struct ContractReader<'r, 'a> {
    section: &'r Section<'a>,
    schema: &'r Schema,
    /// The method so far, for its short names.
    method: &'r Method,
}

impl ContractReader<'_, '_> {
    fn read(&self, findings: &mut Findings<'_>) -> Contract {
        let word = self.section.read("split", findings, split_word).unwrap_or(keys::SPLIT[0]);
        let split = self.split(word, findings);
        self.note_misplaced(word, findings);
        let usual = Contract::of(split);
        let replays = [Replay::Always, Replay::NotProcessed];
        let contract = Contract {
            key: self.key(findings),
            sticky: self.truth("sticky", findings),
            ordered: self.truth("ordered", findings),
            replay: self.section.word("replay", keys::REPLAY, findings).map_or(usual.replay, |word| replays[word]),
            needs: self.needs(findings),
            ..usual
        };
        self.note_contradictions(&contract, findings);
        contract
    }

    fn truth(&self, name: &str, findings: &mut Findings<'_>) -> bool {
        self.section.word(name, keys::TRUTH, findings).is_some_and(|word| keys::TRUTH[word] == "true")
    }

    fn split(&self, word: &str, findings: &mut Findings<'_>) -> Split {
        match word {
            "each" => Split::Each,
            "carry" => self.carry(findings).map_or(Split::Each, Split::Carry),
            "sets" => self.sets(findings),
            "relay" => Split::Relay,
            _ => Split::Whole,
        }
    }

    /// What is carried; `None` when that cannot be said, which is noted.
    fn carry(&self, findings: &mut Findings<'_>) -> Option<Carry> {
        let section = self.section.section("carry", findings);
        let names = fields::names(&section, "fields", findings);
        if names.is_empty() {
            if !section.has("fields") {
                let what = "nothing is said of what each stream says once";
                let mend = "write `carry: { fields: [source], mode: latest }`, or another `split`";
                let path =
                    if self.section.has("carry") { self.section.key("carry") } else { self.section.key("split") };
                findings.error_within(&path, Mistake::new(what, mend));
            }
            return None;
        }
        let modes = [CarryMode::FirstMessage, CarryMode::FirstNonEmpty, CarryMode::Latest];
        let mode = section.word("mode", keys::CARRY_MODE, findings).map(|word| modes[word]);
        if !section.has("mode") {
            let what = "nothing is said of how the receiver reads what is said once";
            let mend = format!("write `mode:` and one of {}", keys::CARRY_MODE.join(", "));
            findings.error_within(&section.key("fields"), Mistake::new(what, mend));
        }
        let (mode, fits) = (mode?, if mode == Some(CarryMode::FirstNonEmpty) { pinned } else { carried });
        let places = fields::places(&names, self.schema, self.method, fits, findings)?;
        if mode == CarryMode::FirstNonEmpty && places.len() > 1 {
            let mistake = Mistake::new("first_non_empty carries one text", "name one field, or write `mode: latest`");
            findings.error_within(&section.key("fields"), mistake);
        }
        Some(Carry { fields: places.iter().map(FieldPath::field).collect(), mode })
    }

    fn sets(&self, findings: &mut Findings<'_>) -> Split {
        let mut number = |name: &str, what: &str, fits: fn(&Place) -> Result<FieldPath, Mistake>| {
            if !self.section.has(name) {
                let mistake =
                    Mistake::new(format!("sets need a field that {what}"), format!("write `{name}: its_name`"));
                findings.error_within(&self.section.key("split"), mistake);
            }
            let names = fields::names(self.section, name, findings);
            let places = fields::places(&names, self.schema, self.method, fits, findings)?;
            if places.len() > 1 {
                findings.error_within(&self.section.key(name), Mistake::new("takes one field", "name one"));
            }
            places.first().map(FieldPath::field)
        };
        let last = number("last", "is true in the last message of one", truth_at_the_top);
        let name = number("name", "names the set a message belongs to", pinned);
        match (last, name) {
            (Some(last), Some(name)) => Split::Sets { last, name },
            _ => Split::Whole,
        }
    }

    fn key(&self, findings: &mut Findings<'_>) -> Option<Key> {
        let names = fields::names(self.section, "key", findings);
        let places = fields::places(&names, self.schema, self.method, fields::key_part, findings)?;
        (!places.is_empty()).then_some(Key::Fields(places))
    }

    /// Each item is a field, or a list of fields of which a message must have one.
    fn needs(&self, findings: &mut Findings<'_>) -> Vec<Need> {
        let mut needs = Vec::new();
        for item in self.section.items("needs") {
            let items =
                if let Shape::List(items) = &item.value { items.as_slice() } else { std::slice::from_ref(item) };
            let key = self.section.key("needs");
            let names: Vec<Written<'_>> = items.iter().filter_map(|item| scalar(item, key.clone(), findings)).collect();
            let Some(places) = fields::places(&names, self.schema, self.method, at_the_top, findings) else { continue };
            if places.is_empty() {
                continue;
            }
            let said = names.iter().map(|name| name.text).collect::<Vec<_>>().join(" or ");
            let complaint = intern(&format!("a message must have {said}"));
            needs.push(Need { any_of: places.iter().map(FieldPath::field).collect(), complaint });
        }
        needs
    }

    /// Settings that belong to another split.
    fn note_misplaced(&self, split: &str, findings: &mut Findings<'_>) {
        for (name, of) in [("carry", "carry"), ("last", "sets"), ("name", "sets")] {
            if self.section.has(name) && split != of {
                let mistake = Mistake::new(
                    format!("goes with `split: {of}`, and this method is `{split}`"),
                    format!("remove it, or write `split: {of}`"),
                );
                let (key, at) = (self.section.key(name), self.section.node(name).map(|node| node.referenced));
                findings.error(at.and_then(|at| findings.place(at)), &key, mistake);
            }
        }
    }

    fn note_contradictions(&self, contract: &Contract, findings: &mut Findings<'_>) {
        for (name, is_set) in [("sticky", contract.sticky), ("ordered", contract.ordered)] {
            if is_set && !self.section.has("key") {
                let what = format!("nothing is said of what messages have in common that are {name}");
                findings.error_within(
                    &self.section.key(name),
                    Mistake::new(what, "write `key:` and the fields that say it"),
                );
            }
        }
        if contract.ordered && contract.is_kept_whole() {
            let mistake = Mistake::new(
                format!(
                    "a call that is `{}` keeps its order anyway, and calls have none among them",
                    contract.split.name()
                ),
                "remove it, or write `split: each`",
            );
            findings.error_within(&self.section.key("ordered"), mistake);
        }
        if !contract.needs.is_empty() && contract.is_kept_whole() {
            let mistake = Mistake::new(
                format!("a call that is `{}` is not looked at message by message", contract.split.name()),
                "remove it, or write `split: each`",
            );
            let (key, at) = (self.section.key("needs"), self.section.node("needs").map(|node| node.referenced));
            findings.error(at.and_then(|at| findings.place(at)), &key, mistake);
        }
        let streams = self.schema.answers_with_a_stream(self.method.path) == Some(true);
        if streams && !contract.is_kept_whole() {
            let mistake =
                Mistake::new("this method answers with a stream, which only a backend can say", "write `split: relay`");
            findings.error_within(&self.section.key("split"), mistake);
        }
    }
}

// What a field must be.

/// At the top of the message, whatever it is.
fn at_the_top(place: &Place) -> Result<FieldPath, Mistake> {
    match place.path.steps() {
        [Step::Field(_)] => Ok(place.path.clone()),
        _ => Err(Mistake::new("stands further in", "name a field of the message itself")),
    }
}

/// Text or a message at the top.
fn carried(place: &Place) -> Result<FieldPath, Mistake> {
    match &place.leaf {
        _ if place.is_repeated && place.leaf != Leaf::Unknown => {
            Err(Mistake::new("is repeated, and what a stream says once is not", "name another field"))
        }
        Leaf::Text | Leaf::Message(_) | Leaf::Variant(_) | Leaf::Unknown => at_the_top(place),
        leaf => {
            Err(Mistake::new(format!("is {}; only texts and messages are carried", leaf.noun()), "name another field"))
        }
    }
}

/// Text at the top.
fn pinned(place: &Place) -> Result<FieldPath, Mistake> {
    match &place.leaf {
        Leaf::Text | Leaf::Unknown => at_the_top(place),
        leaf => Err(Mistake::new(format!("is {}, and must be a text", leaf.noun()), "name a text")),
    }
}

/// A boolean at the top.
fn truth_at_the_top(place: &Place) -> Result<FieldPath, Mistake> {
    match &place.leaf {
        Leaf::Bool | Leaf::Unknown => at_the_top(place),
        leaf => Err(Mistake::new(format!("is {}, and must be true or false", leaf.noun()), "name a boolean")),
    }
}
