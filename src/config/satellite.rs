//! The variables of SkyWalking Satellite's own configuration, laid under the file as the settings they stand for.
//!
//! They are no second way to configure: each becomes a setting of the file's tree where the file does not say it, and is
//! read, checked and complained about like any other, by the variable's name. So flags win over the file, the file over
//! these, and these over the defaults.

mod spelling;
mod variables;

use std::collections::{BTreeMap, HashMap};

use serde_saphyr::{Location, Spanned};

use super::file::{Node, Shape};
use super::keys;
use super::nearest::nearest;
use super::problem::{Findings, Mistake};
use variables::Meaning;
pub(super) use variables::PREFIX;

/// The variables that are set, by their names without the prefix, with the names as they were written.
struct Environment<'a>(BTreeMap<String, (&'a str, &'a str)>);

/// Lays what the variables say under what the file says. `is_to_said`: a flag says where to send.
pub(super) fn lay_under(
    tree: &mut Node,
    variables: &HashMap<String, String>,
    is_to_said: bool,
    findings: &mut Findings<'_>,
) {
    let environment = Environment::of(variables);
    if environment.0.is_empty() {
        return;
    }
    let mut under = Under { tree, findings };
    let (says_backends, says_pools) = (under.says("to") || under.says("pool.endpoints"), under.says("pools"));
    if !is_to_said && !says_backends && !says_pools {
        under.backends(&environment);
    }
    // Where the file names its pools, it says how they are reached as well.
    if says_backends || !says_pools {
        under.tls(&environment);
    }
    let mut useless = Useless::default();
    for (name, (written, value)) in &environment.0 {
        match variables::meaning(name) {
            Some(Meaning::Setting(path, _) | Meaning::IfKnown(path, _) | Meaning::Secret(path))
                if path.starts_with("pool.") && says_pools && !says_backends => {}
            Some(Meaning::IfKnown(path, _)) if !keys::is_setting(path) => useless.others.push(written),
            Some(Meaning::Setting(path, spell) | Meaning::IfKnown(path, spell)) => {
                under.lay(path, spell(value), written)
            }
            Some(Meaning::Secret(path)) => {
                under.findings.hide_value(value);
                under.lay(path, (*value).to_owned(), written);
            }
            Some(Meaning::Only(only)) if *value != only => {
                under.findings.warn_of(written, variables::only(value, only))
            }
            Some(Meaning::Refused(why)) => {
                under.findings.error(None, written, Mistake::new(why, variables::REFUSED_MEND))
            }
            Some(Meaning::Together | Meaning::Only(_)) => {}
            Some(Meaning::Queue) => useless.queues += 1,
            Some(Meaning::Nothing) => useless.others.push(written),
            None if variables::is_service_link(name) => {}
            None => under.findings.warn_of(written, unknown(name)),
        }
    }
    useless.tell(findings);
}

fn unknown(name: &str) -> Mistake {
    let mend = match nearest(name, variables::names()) {
        Some(meant) => format!("did you mean `{PREFIX}{meant}`?"),
        None => "remove it; docs/satellite.md lists those that are read".to_owned(),
    };
    Mistake::new("there is no such variable of Satellite's", mend)
}

/// Variables that change nothing here.
#[derive(Default)]
struct Useless<'a> {
    queues: usize,
    others: Vec<&'a str>,
}

// === impl Useless ===

impl Useless<'_> {
    /// One line for all of them: the file Satellite ships has some sixty.
    fn tell(self, findings: &mut Findings<'_>) {
        let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        let queues = (self.queues > 0)
            .then(|| format!("{} ignored: there are no queues to tune", count(self.queues, "queue setting")));
        let others = (!self.others.is_empty()).then(|| {
            format!(
                "{} ignored, with nothing to set here: {}",
                count(self.others.len(), "other"),
                self.others.join(", ")
            )
        });
        let said: Vec<String> = queues.into_iter().chain(others).collect();
        if !said.is_empty() {
            let mistake = Mistake::new(said.join("; "), "nothing has to be done; remove them when you like");
            findings.warn_of(&format!("{PREFIX}*"), mistake);
        }
    }
}

// === impl Environment ===

impl<'a> Environment<'a> {
    /// What is empty is not set: Satellite's own file takes it so.
    fn of(variables: &'a HashMap<String, String>) -> Self {
        let ours = |(written, value): (&'a String, &'a String)| {
            let (name, value) = (written.strip_prefix(PREFIX)?, value.trim());
            // The file that Satellite ships has one in mixed case.
            (!value.is_empty()).then(|| (name.to_ascii_uppercase(), (written.as_str(), value)))
        };
        Self(variables.iter().filter_map(ours).collect())
    }

    fn get(&self, name: &str) -> Option<(&'a str, &'a str)> {
        self.0.get(name).copied()
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|(_, value)| spelling::is_true(value))
    }
}

/// The tree that settings are laid under.
struct Under<'t, 'f, 'a> {
    tree: &'t mut Node,
    findings: &'f mut Findings<'a>,
}

// === impl Under ===

impl Under<'_, '_, '_> {
    /// Where the backends are: named, or found in a cluster.
    fn backends(&mut self, environment: &Environment<'_>) {
        match environment.get("GRPC_CLIENT_FINDER") {
            None | Some((_, "static")) => {
                if let Some((variable, value)) = environment.get("GRPC_CLIENT") {
                    self.lay("to", value.to_owned(), variable);
                }
            }
            Some((variable, "kubernetes")) => match variables::cluster(|name| environment.get(name)) {
                Ok(settings) => {
                    for (path, value, by) in settings {
                        self.lay(path, value, if by.is_empty() { variable } else { by });
                    }
                }
                Err((variable, mistake)) => self.findings.error(None, variable, mistake),
            },
            Some((variable, value)) => {
                let mistake = Mistake::new(format!("\"{value}\" finds no backends"), "write static or kubernetes");
                self.findings.error(None, variable, mistake);
            }
        }
    }

    /// TLS to the backends.
    fn tls(&mut self, environment: &Environment<'_>) {
        let Some((variable, _)) = environment.get("GRPC_ENABLE_TLS").filter(|(_, value)| spelling::is_true(value))
        else {
            return;
        };
        let mut is_bare = !self.says("pool.tls");
        for (name, path) in variables::TLS {
            if let Some((variable, value)) = environment.get(name) {
                self.lay(path, value.to_owned(), variable);
                is_bare = false;
            }
        }
        if environment.is_true(variables::SKIP_VERIFY) {
            self.lay(
                "pool.tls.verify",
                "false".to_owned(),
                environment.get(variables::SKIP_VERIFY).map_or("", |v| v.0),
            );
            is_bare = false;
        }
        if is_bare {
            self.lay("pool.tls", "true".to_owned(), variable);
        }
    }

    /// Whether the file says something there.
    fn says(&self, path: &str) -> bool {
        path.split('.').try_fold(&*self.tree, |node, name| member(node, name)).is_some()
    }

    /// Makes the setting of a path say this unless the file says it.
    fn lay(&mut self, path: &str, text: String, variable: &str) {
        let mut node = &mut *self.tree;
        let mut is_new = false;
        let mut walked = String::new();
        for name in path.split('.') {
            match &mut node.value {
                Shape::Nothing => node.value = Shape::Map(Vec::new()),
                // A port that is an address alone, in the long form: what else it takes can stand beside it.
                Shape::Scalar(_) if walked.starts_with("listen.") => {
                    let address = std::mem::replace(node, unplaced(Shape::Nothing));
                    node.value = Shape::Map(vec![(name_of("address"), address)]);
                }
                Shape::Scalar(_) | Shape::List(_) | Shape::Map(_) => {}
            }
            // Something else stands where settings should, or the file says it the short way: that holds.
            let Shape::Map(members) = &mut node.value else { return };
            walked = if walked.is_empty() { name.to_owned() } else { format!("{walked}.{name}") };
            let known = members.iter().position(|(key, _)| key.value == name);
            is_new = known.is_none();
            let at = known.unwrap_or_else(|| {
                members.push((name_of(name), unplaced(Shape::Nothing)));
                self.findings.came_from(&walked, variable);
                members.len() - 1
            });
            node = &mut members[at].1;
        }
        if is_new {
            node.value = Shape::Scalar(text);
        }
    }
}

fn member<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Shape::Map(members) = &node.value else { return None };
    members.iter().find(|(key, _)| key.value == name).map(|(_, node)| node)
}

fn name_of(name: &str) -> Spanned<String> {
    Spanned::new(name.to_owned(), Location::UNKNOWN, Location::UNKNOWN)
}

/// A value that stands nowhere in the file.
fn unplaced(shape: Shape) -> Node {
    Spanned::new(shape, Location::UNKNOWN, Location::UNKNOWN)
}
