//! What the operator wrote becomes what will run: a file and flags in, a sound plan or every problem at once out.
//!
//! The road is one way: `file` reads the YAML into a tree in which everything knows its place, `section` reads settings
//! out of it with the bounds of `keys`, `draft` gathers them, `sound` looks at them together, `plan` is the result. What
//! Satellite's variables say is laid under the tree (`satellite`).
//! Nothing on the road stops at a mistake: it is noted as a `Problem`, the default is taken, and reading goes on.
//! The one exception is text that is no YAML at all, of which the parser can name only the first fault.

use std::collections::HashMap;

mod address;
mod balance;
mod compile;
mod conditions;
mod contradiction;
mod draft;
mod etcd;
mod fields;
mod file;
mod health;
mod identity;
pub mod keys;
#[cfg(feature = "k8s")]
mod kubernetes;
mod listen;
mod matches;
mod methods;
mod nearest;
mod operators;
mod overrides;
mod plan;
mod pools;
mod problem;
mod protos;
mod reach;
mod routes;
mod satellite;
mod secrets;
mod section;
mod sound;
mod sources;
mod tls;
mod tries;
pub mod unit;
mod written;

pub(crate) use nearest::nearest;
pub use overrides::Overrides;
pub use plan::{Log, LogFormat, Plan};
pub use problem::{Place, Problem, Severity};
pub use written::{Change, Written};

use problem::Findings;

/// The variable that says where the gateway runs, where the file does not: a deployment knows it, its config does not.
const ZONE: &str = "SWITCHYARD_ZONE";

/// Reads a config file's `text`, which may be empty; flags win over it, and it wins over Satellite's variables. Files that it names are looked for beside `source_name`. `${VAR:-default}` is filled from the process's environment.
///
/// # Errors
/// Every problem found, in the file's order. Warnings alone are no error: they come beside the plan.
pub fn load(text: &str, source_name: &str, overrides: &Overrides) -> Result<(Plan, Vec<Problem>), Vec<Problem>> {
    // vars_os, because vars() panics at a variable that is not UTF-8; such a variable counts as unset.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    load_with(text, source_name, overrides, variables)
}

/// As [`load`], with the variables given instead of taken from the environment.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    text: &str,
    source_name: &str,
    overrides: &Overrides,
    variables: HashMap<String, String>,
) -> Result<(Plan, Vec<Problem>), Vec<Problem>> {
    let mut findings = Findings::new(source_name, text);
    let zone = variables.get(ZONE).filter(|zone| !zone.is_empty()).cloned();
    let tree = file::read(text, variables.clone(), &mut findings);
    if let Some(mut tree) = tree {
        satellite::lay_under(&mut tree, &variables, overrides.to.is_some(), &mut findings);
        let mut draft = draft::read(&tree, &mut findings);
        draft.zone = draft.zone.or(zone);
        overrides.apply(&mut draft, &mut findings);
        let (mut plan, paths) = draft.into_plan(&mut findings);
        plan.written = Written::of(&tree);
        sound::check(&plan, &paths, &mut findings);
        return findings.verdict().map(|warnings| (plan, warnings));
    }
    Err(findings.into_problems())
}

/// Whether a text is what `log.level` takes.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn check_level(text: &str) -> Result<(), String> {
    draft::level(text).map(|_| ()).map_err(|mistake| format!("{}\n  mend: {}", mistake.what, mistake.mend))
}

impl Plan {
    /// The plan of flags alone, everything else at its default: `switchyard run --to a:11800,b:11800`.
    ///
    /// # Errors
    /// Every problem found in the flags.
    pub fn from_flags(overrides: &Overrides) -> Result<(Plan, Vec<Problem>), Vec<Problem>> {
        load_with("", "", overrides, HashMap::new())
    }
}
