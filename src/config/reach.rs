//! How far a route reaches: which methods' messages can fall under it, and what is wrong when none can.

use super::problem::{Findings, Mistake};
use super::routes::RouteDraft;
use crate::listener;
use crate::message::path::FieldPath;
use crate::route::Method;
use crate::route::contract::{Key, Split};

/// What became of one route over all methods.
#[derive(Default)]
pub(super) struct Reach<'m> {
    /// Methods that its conditions on method and flow allow.
    pub in_scope: Vec<&'m Method>,
    /// Those of them that reach a listener it is for.
    pub heard: usize,
    /// Those of them whose messages can fall under it.
    pub live: Vec<&'m Method>,
    /// Those of them that no earlier route takes whole.
    pub left: usize,
    /// The earlier route that takes some whole.
    pub taken_by: Option<String>,
    /// Two of its conditions that cannot both hold, in words.
    pub contradiction: Option<String>,
    /// Methods whose messages its key tears apart.
    pub torn: Vec<&'m Method>,
}

// === impl Reach ===

impl Reach<'_> {
    /// Says why no message can ever fall under a route.
    pub fn note_unreachable(
        &self,
        route: &RouteDraft<'_>,
        listeners: &[listener::Settings],
        findings: &mut Findings<'_>,
    ) {
        if self.in_scope.is_empty() {
            let mistake = Mistake::new(
                "no method is all that this asks for: its flow is another, or `not` takes it away",
                "remove one of the conditions on method and flow; `switchyard catalogue` names each method's flow",
            );
            findings.error_within(&route.path, mistake);
        } else if self.heard == 0 {
            let ports: Vec<String> = listeners
                .iter()
                .map(|open| format!("{} ({})", open.name, open.only.map_or("every flow", |flow| flow.name())))
                .collect();
            let what = format!("no call of {} comes to that listener", named(&self.in_scope));
            let mistake = Mistake::new(what, format!("the listeners that are open: {}", ports.join(", ")));
            findings.warn_within(&format!("{}.listener", route.path), mistake);
        } else if self.live.is_empty() {
            let what = match &self.contradiction {
                Some(both) => format!("no message can be both: {both}"),
                None => "its conditions can never hold together".to_owned(),
            };
            findings.error_within(&route.path, Mistake::new(what, "remove one of them, or put them under `any`"));
        } else if self.left == 0 {
            let by = self.taken_by.as_deref().unwrap_or("an earlier route");
            let what = format!("nothing is left for it: {by} takes every message of {}", named(&self.live));
            findings.warn_within(&route.path, Mistake::new(what, format!("move it above {by}, or remove it")));
        }
    }

    /// Says what a route wants of methods that cannot do it.
    pub fn note_unfit(&self, route: &RouteDraft<'_>, findings: &mut Findings<'_>) {
        let all = |fits: fn(&Method) -> bool| !self.live.is_empty() && self.live.iter().all(|method| fits(method));
        let is_relayed = |method: &Method| method.contract.split == Split::Relay;
        let whole = |method: &Method| method.contract.is_kept_whole();
        let records = |method: &Method| matches!(method.contract.split, Split::Records(_));
        if route.mirror.is_some() && all(records) {
            let what = format!("a call of {} is answered once for all its parts, and not copied", named(&self.live));
            findings.error_within(
                &format!("{}.mirror", route.path),
                Mistake::new(what, "remove it, or name methods that are split"),
            );
        } else if route.mirror.is_some() && all(whole) {
            let what = format!("a call of {} is kept whole: it has one answer, and so one backend", named(&self.live));
            findings.error_within(
                &format!("{}.mirror", route.path),
                Mistake::new(what, "remove it, or name methods that are split"),
            );
        } else if route.mirror.is_some()
            && self.live.iter().any(|method| whole(method) || records(method))
            && !route.condition.patterns().is_empty()
        {
            let kept: Vec<&Method> =
                self.live.iter().copied().filter(|method| whole(method) || records(method)).collect();
            let why = if kept.iter().any(|method| records(method)) { "answered once" } else { "kept whole" };
            let what = format!("calls of {} are {why}, and not copied", named(&kept));
            findings.warn_within(&format!("{}.mirror", route.path), Mistake::new(what, "name methods that are split"));
        }
        if route.sample.is_some() && all(is_relayed) {
            let what = format!("callers of {} act on the answer, and would go without", named(&self.live));
            findings
                .error_within(&format!("{}.sample", route.path), Mistake::new(what, "remove it, or limit the rate"));
        }
        if route.drop.is_some() && all(is_relayed) {
            let what =
                format!("callers of {} act on the answer, and get FAILED_PRECONDITION instead", named(&self.live));
            findings.warn_within(
                &format!("{}.drop", route.path),
                Mistake::new(what, "drop the messages of other methods, or live with it"),
            );
        }
        if let [first, ..] = self.torn.as_slice() {
            let own = first.contract.key.as_ref().map(|key| first.key_of_words(key)).unwrap_or_default();
            let what =
                format!("messages of {} that agree in {own} must meet one backend, and would not", named(&self.torn));
            let mistake = Mistake::new(what, format!("leave it away, or use {own} or a part of it"));
            findings.warn_within(&format!("{}.key", route.path), mistake);
        }
    }
}

/// Whether messages that must meet one backend may have different keys of this kind.
pub(super) fn tears(key: &Key, method: &Method) -> bool {
    let contract = &method.contract;
    let within = |own: &[FieldPath], paths: &[FieldPath]| paths.iter().all(|path| own.contains(path));
    let is_part = match (key, &contract.key) {
        (Key::Fields(paths), Some(Key::Fields(own))) => within(own, paths),
        (Key::LastOfElements { field, paths }, Some(Key::LastOfElements { field: same, paths: own })) => {
            field == same && within(own, paths)
        }
        _ => false,
    };
    // A relayed call's stickiness is for its answers' sake; nothing is lost without.
    (contract.sticky || contract.ordered) && contract.split != Split::Relay && !is_part
}

/// One method by its name, several by their number and first name.
fn named(methods: &[&Method]) -> String {
    match methods {
        [] => "no method".to_owned(),
        [one] => one.path.to_owned(),
        [first, rest @ ..] => format!("{} and {} more", first.path, rest.len()),
    }
}
