//! Names that were looked for in the messages of many methods: wrong is only what none of them has.

use std::collections::{BTreeMap, HashSet};

use super::fields;
use super::problem::{Findings, Mistake, Place};
use super::section::Written;
use crate::message::path::FieldPath;
use crate::route::Method;
use crate::route::schema::{Mend, NoPlace};

/// What came of looking for each name of one route, by where it is written.
#[derive(Default)]
pub(super) struct Tries {
    names: BTreeMap<(String, String), Tried>,
    repeated: HashSet<FieldPath>,
}

/// What came of looking for one name.
#[derive(Default)]
struct Tried {
    at: Option<Place>,
    is_found: bool,
    methods: usize,
    /// How far the best try got.
    right_steps: usize,
    mistake: Option<Mistake>,
    /// The method of the best try.
    best: &'static str,
    /// What there would have been instead of a first name that no method knows.
    instead: Vec<String>,
}

// === impl Tries ===

impl Tries {
    /// A name was looked for in a method's messages.
    pub fn place(&mut self, name: &Written<'_>, method: &Method, found: Result<(), NoPlace>) {
        let tried = self.of(name);
        tried.methods += 1;
        let Err(none) = found else { return };
        if let Mend::OneOf { names, .. } = &none.mend
            && none.right_steps == 0
        {
            let new = names.iter().filter(|name| !tried.instead.contains(name)).cloned().collect::<Vec<_>>();
            tried.instead.extend(new);
        }
        if tried.mistake.is_none() || none.right_steps > tried.right_steps {
            (tried.right_steps, tried.mistake) = (none.right_steps, Some(fields::mistake(&none)));
            tried.best = method.path;
        }
    }

    /// What was found in a method's messages fits what is wanted, or does not.
    pub fn value(&mut self, name: &Written<'_>, method: &Method, fits: Result<(), Mistake>) {
        let tried = self.of(name);
        match fits {
            Ok(()) => tried.is_found = true,
            // Nothing comes nearer than a name that is right.
            Err(mistake) => {
                (tried.right_steps, tried.mistake) = (usize::MAX, Some(mistake));
                tried.best = method.path;
            }
        }
    }

    /// A word was looked for among those that a method's requests are cut by.
    pub fn word(&mut self, name: &Written<'_>, found: Result<(), Mistake>) {
        let tried = self.of(name);
        tried.methods += 1;
        match found {
            Ok(()) => tried.is_found = true,
            Err(mistake) if tried.mistake.is_none() => tried.mistake = Some(mistake),
            Err(_) => {}
        }
    }

    /// There may be several values at this place.
    pub fn is_repeated(&mut self, path: &FieldPath) {
        self.repeated.insert(path.clone());
    }

    /// Whether there may be several values at this place.
    pub fn repeated(&self, path: &FieldPath) -> bool {
        self.repeated.contains(path)
    }

    /// Says which names nothing stands for; answers whether there are any.
    pub fn note(self, findings: &mut Findings<'_>) -> bool {
        let mut is_any = false;
        for ((key, name), tried) in self.names {
            let (false, Some(mut mistake)) = (tried.is_found, tried.mistake) else { continue };
            if tried.methods > 1 && tried.right_steps == 0 && !tried.instead.is_empty() {
                mistake = Mistake::new(
                    format!("none of the {} methods that this is for has a field `{name}`", tried.methods),
                    fields::one_of(&name, tried.instead.iter().map(String::as_str)),
                );
            } else if tried.methods > 1 && !tried.best.is_empty() {
                mistake.what = format!("{} (in a message of {})", mistake.what, tried.best);
            }
            findings.error(tried.at, &key, mistake);
            is_any = true;
        }
        is_any
    }

    fn of(&mut self, name: &Written<'_>) -> &mut Tried {
        let tried = self.names.entry((name.key.clone(), name.text.to_owned())).or_default();
        tried.at = name.at;
        tried
    }
}
