//! Routes made into rules: for each method, with names resolved to places; what cannot be done is told once.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::conditions::{Condition, unknown};
use super::problem::{Findings, Mistake};
use super::reach::{Reach, tears};
use super::routes::{RouteDraft, ShareDraft};
use super::section::Written;
use super::tries::Tries;
use super::{contradiction, fields};
use crate::listener;
use crate::message::path::FieldPath;
use crate::pool;
use crate::route::Method;
use crate::route::contract::{Key, Split};
use crate::route::records::{RecordKey, Signal};
use crate::route::rule::{Action, Limit, Mirror, Rule, Share, Test};
use crate::route::schema::Schema;

/// The rules of each method, by its path.
pub(super) type Compiled = HashMap<&'static str, Vec<Arc<Rule>>>;

/// What routes are made into rules with.
pub(super) struct Compiler<'c> {
    pub methods: &'c [Method],
    pub pools: &'c [pool::Settings],
    pub listeners: &'c [listener::Settings],
    pub schema: &'c Schema,
}

/// One route being compiled.
struct Compiling<'c, 'd, 'a> {
    compiler: &'c Compiler<'c>,
    route: &'d RouteDraft<'a>,
    tries: Tries,
    to: usize,
    mirror_to: Option<usize>,
}

// === impl Compiler ===

impl Compiler<'_> {
    /// Makes rules of all routes.
    pub fn compile(&self, routes: &[RouteDraft<'_>], findings: &mut Findings<'_>) -> Compiled {
        let mut compiled = Compiled::new();
        // By method, the route that takes all of its messages.
        let mut taken: HashMap<&'static str, String> = HashMap::new();
        for route in routes {
            let mut compiling = Compiling {
                compiler: self,
                route,
                tries: Tries::default(),
                to: self.pool(route.to.as_ref(), findings).unwrap_or(0),
                mirror_to: route.mirror.as_ref().and_then(|mirror| self.pool(mirror.to.as_ref(), findings)),
            };
            let mut reach = Reach::default();
            for method in self.methods {
                let Some(rule) = compiling.rule(method, &mut reach) else { continue };
                if let Some(by) = taken.get(method.path) {
                    reach.taken_by = Some(by.clone());
                    continue;
                }
                reach.left += 1;
                if matches!(rule.test, Test::Always) {
                    taken.insert(method.path, route.path.clone());
                }
                compiled.entry(method.path).or_default().push(Arc::new(rule));
            }
            compiling.note(&reach, findings);
        }
        compiled
    }

    /// The pool of this name, by its place in the plan.
    fn pool(&self, name: Option<&Written<'_>>, findings: &mut Findings<'_>) -> Option<usize> {
        let name = name?;
        let found = self.pools.iter().position(|pool| pool.name == name.text);
        if found.is_none() {
            let names: Vec<&str> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
            findings.error(name.at, &name.key, unknown("pool", name.text, &names));
        }
        found
    }
}

// === impl Compiling ===

impl Compiling<'_, '_, '_> {
    /// The route as it stands for one method; `None` when it is not for it.
    fn rule<'m>(&mut self, method: &'m Method, reach: &mut Reach<'m>) -> Option<Rule> {
        let condition = &self.route.condition;
        if condition.scope(method, None) == Some(false) {
            return None;
        }
        reach.in_scope.push(method);
        if condition.scope(method, Some(self.compiler.listeners)) == Some(false) {
            return None;
        }
        reach.heard += 1;
        let test = match self.test(condition, method, reach) {
            None | Some(Test::Never) => return None,
            Some(test) => test,
        };
        reach.live.push(method);
        let is_relayed = method.contract.split == Split::Relay;
        let (key, record_key) = self.key(method);
        let action = match (&self.route.drop, &self.route.sample) {
            (Some(reason), _) => Action::Drop { reason: Arc::clone(reason) },
            // A call whose answer has content is wanted whole or not at all.
            (None, Some(sample)) if !is_relayed => Action::Sample(self.share(sample, method, record_key)),
            _ => Action::Send,
        };
        if key.as_ref().is_some_and(|key| tears(key, method)) {
            reach.torn.push(method);
        }
        Some(Rule {
            name: Arc::from(self.route.name.as_str()),
            test,
            action,
            pool: self.to,
            key,
            record_key,
            mirror: self.mirror(method, record_key),
            limit: self.route.limit.as_ref().map(|limit| {
                let per = self.places(&limit.per, method).unwrap_or_default();
                Limit::new(Arc::clone(&limit.rate), per)
            }),
            malformed: self.route.malformed,
            counts: OnceLock::new(),
        })
    }

    /// A condition as it stands for one method; `None` when it asks for a field that the method's messages do not have.
    fn test<'m>(&mut self, condition: &Condition<'_>, method: &'m Method, reach: &mut Reach<'m>) -> Option<Test> {
        match condition.scope(method, Some(self.compiler.listeners)) {
            Some(true) => return Some(Test::Always),
            Some(false) => return Some(Test::Never),
            None => {}
        }
        match condition {
            Condition::Method(_) | Condition::Flow(_) | Condition::Wrong => None,
            Condition::Listener(names) => Some(Test::any(names.iter().map(|name| Test::Listener(Arc::from(*name))))),
            Condition::Metadata(name, wanted) => Some(wanted.of_metadata(name)),
            Condition::Message(name, wanted) => {
                let found = self.compiler.schema.find(method, name.text);
                self.tries.place(name, method, found.clone().map(|_| ()));
                let place = found.ok()?;
                let test = wanted
                    .at(&place)
                    .map_err(|Mistake { what, mend }| Mistake::new(format!("`{}` {what}", name.text), mend));
                self.tries.value(name, method, test.as_ref().map(|_| ()).map_err(Clone::clone));
                if place.is_repeated {
                    self.tries.is_repeated(&place.path);
                }
                test.ok()
            }
            Condition::All(all) => {
                let tests: Vec<Option<Test>> = all.iter().map(|inner| self.test(inner, method, reach)).collect();
                if tests.iter().any(|test| matches!(test, Some(Test::Never))) {
                    return Some(Test::Never);
                }
                let test = Test::all(tests.into_iter().collect::<Option<Vec<_>>>()?);
                let found = contradiction::find(&test, &|path| self.tries.repeated(path));
                if let Some((one, other)) = found {
                    reach.contradiction =
                        Some(format!("{} and {}", method.test_in_words(&one), method.test_in_words(&other)));
                    return Some(Test::Never);
                }
                Some(test)
            }
            Condition::Any(any) => {
                let tests: Vec<Test> = any.iter().filter_map(|inner| self.test(inner, method, reach)).collect();
                if tests.is_empty() { None } else { Some(Test::any(tests)) }
            }
            Condition::Not(not) => self.test(not, method, reach).map(Test::not),
        }
    }

    /// The places of all these names; `None` when the method lacks one.
    fn places(&mut self, names: &[Written<'_>], method: &Method) -> Option<Vec<FieldPath>> {
        let mut found = Vec::new();
        for name in names {
            let place = self.compiler.schema.find(method, name.text);
            self.tries.place(name, method, place.clone().map(|_| ()));
            let Ok(place) = place else { continue };
            let part = fields::key_part(&place)
                .map_err(|Mistake { what, mend }| Mistake::new(format!("`{}` {what}", name.text), mend));
            self.tries.value(name, method, part.as_ref().map(|_| ()).map_err(Clone::clone));
            found.extend(part.ok());
        }
        (found.len() == names.len()).then_some(found)
    }

    /// What decides the backend under this route.
    fn key(&mut self, method: &Method) -> (Option<Key>, Option<RecordKey>) {
        if self.route.key.is_empty() || self.route.drop.is_some() {
            return (None, None);
        }
        if let Split::Records(records) = &method.contract.split {
            return (None, self.record_key(records.signal, method));
        }
        let Some(paths) = self.places(&self.route.key, method) else { return (None, None) };
        let key = match &method.contract.key {
            // Filed under the last element that names it, so the key must be read there, too.
            Some(Key::LastOfElements { field, .. }) => {
                let inside = |path: &FieldPath| path.inside(*field);
                match paths.iter().map(inside).collect::<Option<Vec<_>>>() {
                    Some(paths) => Key::LastOfElements { field: *field, paths },
                    None => Key::Fields(paths),
                }
            }
            _ => Key::Fields(paths),
        };
        (Some(key), None)
    }

    fn record_key(&mut self, signal: Signal, method: &Method) -> Option<RecordKey> {
        let known: &[(&str, RecordKey)] = match signal {
            Signal::Metrics => &[("service", RecordKey::Service), ("resource", RecordKey::Resource)],
            Signal::Traces | Signal::Logs => {
                &[("trace_id", RecordKey::TraceId), ("service", RecordKey::Service), ("resource", RecordKey::Resource)]
            }
        };
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        let (name, more) = self.route.key.split_first()?;
        for name in more {
            let mend = format!("write one of {}", words.join(", "));
            self.tries.word(name, Err(Mistake::new("a request is cut by one key, not by several", mend)));
        }
        let found = known.iter().find(|(word, _)| *word == name.text).map(|(_, key)| *key);
        let mistake = || {
            Mistake::new(
                format!("a request of {} is not cut by `{}`", method.path, name.text),
                fields::one_of(name.text, words.iter().copied()),
            )
        };
        self.tries.word(name, found.map(|_| ()).ok_or_else(mistake));
        found
    }

    fn share(&mut self, share: &ShareDraft<'_>, method: &Method, record_key: Option<RecordKey>) -> Share {
        let by = if share.by.is_empty() {
            own_key(method, record_key)
        } else {
            self.places(&share.by, method).unwrap_or_default()
        };
        Share::of_million(share.parts, by)
    }

    fn mirror(&mut self, method: &Method, record_key: Option<RecordKey>) -> Option<Mirror> {
        let mirror = self.route.mirror.as_ref()?;
        let share = self.share(&mirror.share, method, record_key);
        // A call that is kept whole has one answer, and so one backend.
        Some(Mirror { pool: self.mirror_to?, share }).filter(|_| !method.contract.is_kept_whole())
    }

    /// Says what is wrong with the route as a whole.
    fn note(self, reach: &Reach<'_>, findings: &mut Findings<'_>) {
        let Self { compiler, route, tries, to, mirror_to } = self;
        let mut is_told = route.condition.is_wrong();
        for pattern in route.condition.patterns() {
            if !compiler.methods.iter().any(|method| pattern.is_for(method)) {
                findings.error(pattern.said.at, &pattern.said.key, pattern.mistake(compiler.methods));
                is_told = true;
            }
        }
        is_told |= tries.note(findings);
        let mirror_key = format!("{}.mirror", route.path);
        if mirror_to == Some(to) && route.mirror.is_some() {
            let what = format!("its messages go to {} anyway", compiler.pools[to].name);
            findings.error_within(&mirror_key, Mistake::new(what, "name another pool"));
        }
        if !is_told {
            reach.note_unreachable(route, compiler.listeners, findings);
        }
        reach.note_unfit(route, findings);
    }
}

/// What a method's messages are told apart by where the operator does not say.
fn own_key(method: &Method, record_key: Option<RecordKey>) -> Vec<FieldPath> {
    match (&method.contract.key, &method.contract.split) {
        (Some(Key::Fields(paths)), _) => paths.clone(),
        (Some(Key::LastOfElements { field, paths }), _) => paths.iter().map(|path| path.below(*field)).collect(),
        (None, Split::Records(records)) => vec![of_records(method, record_key.or(records.key), records.signal)],
        (None, _) => Vec::new(),
    }
}

/// Never nothing: what a batch is cut into has no bytes of its own that a share could be of.
fn of_records(method: &Method, key: Option<RecordKey>, signal: Signal) -> FieldPath {
    let short = |name: &str| method.fields.iter().find(|(short, _)| short == name).map(|(_, path)| path.clone());
    let resource = || FieldPath::of(&[1, 1]);
    match key {
        Some(RecordKey::Service) => short("service").unwrap_or_else(resource),
        Some(RecordKey::TraceId) | None if signal != Signal::Metrics => short("trace_id").unwrap_or_else(resource),
        _ => resource(),
    }
}
