//! What the operator's rules want done with a batch, resource by resource: which pool, by which key, or nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::listener::terms::Terms;
use crate::message::path::FieldPath;
use crate::message::tie::Tie;
use crate::metrics::LostReason;
use crate::pool::Pool;
use crate::route::Route;
use crate::route::contract::Split;
use crate::route::reading::Reading;
use crate::route::records::{Place, Records, Resource, Signal};
use crate::route::rule::decide::Rules;
use crate::route::rule::{Action, Rule};

/// The field of a request that holds its `Resource*` elements.
const ELEMENTS: u32 = 1;

/// Where a part of a batch goes that falls under one rule.
pub(super) struct Course {
    pub pool: Rc<Pool>,
    /// What decides the backend.
    pub records: Records,
    /// What ties to a backend what nothing else decides about: who calls.
    pub caller: Option<Tie>,
}

/// Chooses the course of each resource of a batch.
pub(super) struct Courses {
    rules: Vec<Arc<Rule>>,
    courses: Vec<Rc<Course>>,
    settled: Option<usize>,
    choosing: Rules,
    signal: Signal,
    /// What was said of each resource so far, with its rule: a batch that waits for memory is drawn again, and its
    /// resources count against a rate once.
    decided: RefCell<Vec<(Place, usize)>>,
    /// Why something was left out, once something was.
    left_out: Cell<Option<LostReason>>,
}

impl Course {
    fn of(rule: &Rule, records: Records, terms: &Terms, callers: &[Option<Tie>]) -> Rc<Self> {
        let pool = Rc::clone(&terms.pools[rule.pool]);
        let records = records.under(rule, &terms.sorters.wishes);
        Rc::new(Self { pool, records, caller: callers.get(rule.pool).copied().flatten() })
    }
}

// === impl Courses ===

impl Courses {
    /// The courses that messages of this call may take.
    pub fn new(choosing: Rules, route: &Route, terms: &Terms, callers: &[Option<Tie>]) -> Self {
        let records = match &route.method.contract.split {
            Split::Records(records) => *records,
            _ => unreachable!("calls come here by this contract only"),
        };
        let rules: Vec<Arc<Rule>> = choosing.possible().cloned().collect();
        Self {
            courses: rules.iter().map(|rule| Course::of(rule, records, terms, callers)).collect(),
            settled: choosing.settled().is_some_and(|rule| rule.only_sends()).then_some(0),
            rules,
            choosing,
            signal: records.signal,
            decided: RefCell::default(),
            left_out: Cell::default(),
        }
    }

    /// The course of all of the batch, if nothing of it need be read to know.
    pub fn settled(&self) -> Option<Rc<Course>> {
        let at = self.settled?;
        self.rules[at].count(None, 1);
        Some(Rc::clone(&self.courses[at]))
    }

    /// The course of a bucket that [`Courses::place`] or [`Courses::bucket_of`] gave; `None`: what is in it goes nowhere.
    pub fn of_bucket(&self, bucket: usize) -> Option<Rc<Course>> {
        self.courses.get(bucket).cloned()
    }

    /// What the batch's items are.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// The bucket of what no rule asks for.
    pub fn last(&self) -> usize {
        self.courses.len() - 1
    }

    /// Why something was left out, if anything was.
    pub fn left_out(&self) -> Option<LostReason> {
        self.left_out.get()
    }

    /// Where the `nth` resource's element of the request `plain` goes, and the number of its rule, for
    /// [`Courses::bucket_of`].
    pub fn place(&self, nth: usize, resource: &Resource<'_>, plain: &Bytes) -> (Place, usize) {
        let mut decided = self.decided.borrow_mut();
        if nth == decided.len() {
            decided.push(self.decide(plain.slice_ref(resource.element())));
        }
        decided[nth]
    }

    fn decide(&self, element: Bytes) -> (Place, usize) {
        let carried = [(ELEMENTS, Some(element))];
        let reading = Reading { body: b"", carried: &carried };
        let chosen = self.choosing.verdict(&reading).rule;
        let at = self.rules.iter().position(|rule| Arc::ptr_eq(rule, chosen)).unwrap_or(self.rules.len() - 1);
        let by_item = self.samples_traces(chosen);
        let stopped = if by_item { chosen.over_limit(&reading, 1) } else { chosen.stops(&reading, 1) };
        chosen.count(stopped, 1);
        match stopped {
            Some(reason) => {
                self.left_out.set(Some(reason));
                (Place::Drop, at)
            }
            None if by_item => (Place::ByItem, at),
            None => (Place::Bucket(at), at),
        }
    }

    /// The bucket of items with this key under the rule `current`: whether they are in its sample.
    pub fn bucket_of(&self, key: u64, current: usize) -> usize {
        match &self.rules[current].action {
            Action::Sample(share) if !share.has_key(key) => {
                self.left_out.set(Some(LostReason::Sampled));
                self.courses.len()
            }
            _ => current,
        }
    }

    /// Whether a rule samples by what items have and resources have not: their trace.
    fn samples_traces(&self, rule: &Rule) -> bool {
        let Action::Sample(share) = &rule.action else { return false };
        self.signal != Signal::Metrics && matches!(share.by.as_slice(), [path] if is_trace(path, self.signal))
    }
}

/// Whether a path leads to an item's trace id.
fn is_trace(path: &FieldPath, signal: Signal) -> bool {
    let trace = match signal {
        Signal::Traces => [1, 2, 2, 1],
        Signal::Logs => [1, 2, 2, 9],
        Signal::Metrics => return false,
    };
    *path == FieldPath::of(&trace)
}
