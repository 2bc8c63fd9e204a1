//! Sorts one call's messages: makes them able to stand on another stream and says where they belong.
//!
//! Two steps, and neither looks at single messages unless it must. The contract's: what the stream has said once is
//! noted or filled in (`carry`, `sets`). The operator's: rules and keys are read, and messages that belong together
//! stay together (`place`).

mod carry;
mod place;
mod sets;
mod subjects;

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::message::budget::Permit;
use crate::message::context::{Carried, Context};
use crate::message::field;
use crate::message::parcel::{Parcel, StandIn, Subject};
use crate::message::receipt::Ticket;
use crate::message::run::Run;
use crate::message::tie::{Tie, Ties};
use crate::metrics::LostReason;

use super::Route;
use super::contract::{Replay, Split, Wish};
use super::rule::decide::Rules;

use carry::Carrying;
use sets::Set;
pub use subjects::Subjects;

/// Messages that belong together, ready to become parcels.
#[derive(Clone)]
pub struct Sorted {
    /// The messages.
    pub run: Run,
    /// What they share.
    pub subject: Rc<Subject>,
    /// What is carried into them, where that may change within an outbound stream.
    pub context: Option<Rc<Context>>,
    /// What ties them to backends.
    pub ties: Ties,
    /// The pool they go to.
    pub pool: usize,
    /// A pool that gets a copy.
    pub mirror: Option<usize>,
}

/// Messages that go nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// How many.
    pub messages: u32,
    /// Why.
    pub reason: LostReason,
    /// What their caller is told, if it is to blame.
    pub complaint: Option<String>,
}

/// What became of the messages that were sorted.
#[derive(Default)]
pub struct Sorting {
    /// What goes on, in order.
    pub sorted: Vec<Sorted>,
    /// What does not.
    pub gone: Vec<Gone>,
}

/// What the sorters of one worker have in common.
pub struct Shared {
    /// One allocation for each subject and context.
    pub subjects: Rc<Subjects>,
    /// By pool, what it wants keys for that no contract asks for.
    pub wishes: Rc<[Wish]>,
}

/// The sorter of one call: remembers what the call has said once.
pub struct Sorter {
    route: Arc<Route>,
    rules: Rules,
    /// What the call's messages have in common from the start.
    subject: Rc<Subject>,
    subjects: Rc<Subjects>,
    wishes: Rc<[Wish]>,
    /// By pool, what ties messages that have no key: who sends them. Empty where no pool asks for that.
    callers: Vec<Option<Tie>>,
    carrying: Option<Carrying>,
    set: Set,
    /// Batches of a unary call: its receiver looks at nothing before the half-close.
    batches: Vec<Run>,
    /// Whether rules and keys have to be asked of each message.
    asks: bool,
}

/// A stretch of messages into which the same is carried.
struct Stretch<'a> {
    run: Run,
    subject: Rc<Subject>,
    context: Option<Rc<Context>>,
    /// What is carried, for rules and keys.
    carried: &'a [Carried],
}

// === impl Sorter ===

impl Sorter {
    /// The sorter of a call that has just begun. `metadata` is what its outbound streams open with, `head` what its
    /// caller sent, `callers` what ties messages without a key in each pool, if any asks for that.
    pub fn new(
        route: &Arc<Route>,
        listener: &str,
        head: &HeaderMap,
        metadata: Vec<(HeaderName, HeaderValue)>,
        callers: Vec<Option<Tie>>,
        shared: &Shared,
    ) -> Self {
        let contract = &route.method.contract;
        let subject = subject_of(route, metadata);
        let rules = Rules::of(&route.rules, listener, head);
        let carrying = match &contract.split {
            Split::Carry(carry) => Some(Carrying::new(carry)),
            _ => None,
        };
        let mut sorter = Self {
            asks: false,
            rules,
            subject: shared.subjects.subject(subject),
            subjects: Rc::clone(&shared.subjects),
            wishes: Rc::clone(&shared.wishes),
            callers,
            carrying,
            set: Set::default(),
            batches: Vec::new(),
            route: Arc::clone(route),
        };
        sorter.asks = sorter.must_ask();
        sorter
    }

    /// Goes on by another route of the same method, as if the call had begun with it. Answers `false`, and changes
    /// nothing, when its contract is another: what was said once may mean something else then.
    pub fn follow(
        &mut self,
        route: &Arc<Route>,
        listener: &str,
        head: &HeaderMap,
        metadata: Vec<(HeaderName, HeaderValue)>,
        callers: Vec<Option<Tie>>,
        shared: &Shared,
    ) -> bool {
        let (now, before) = (&route.method, &self.route.method);
        if now.contract != before.contract || now.flow != before.flow {
            return false;
        }
        self.rules = Rules::of(&route.rules, listener, head);
        self.subject = shared.subjects.subject(subject_of(route, metadata));
        self.subjects = Rc::clone(&shared.subjects);
        self.wishes = Rc::clone(&shared.wishes);
        self.callers = callers;
        self.route = Arc::clone(route);
        self.asks = self.must_ask();
        true
    }

    /// Sorts `run`; answers how many messages it counts as. What is held back until a data set is whole is among them.
    pub fn sort(&mut self, run: Run, out: &mut Sorting) -> u32 {
        let messages = run.messages();
        match self.route.method.contract.split {
            Split::Elements { field, .. } => return self.sort_elements(&run, field, out),
            Split::Sets { last, name } => self.sort_sets(run, last, name, out),
            Split::Carry(_) => self.sort_carried(run, out),
            _ => self.place(Stretch { run, subject: Rc::clone(&self.subject), context: None, carried: &[] }, out),
        }
        messages
    }

    /// The call is over; `half_closed` if its caller ended it. Of what is held back, batches are sorted then, and data sets
    /// will not become whole.
    pub fn end(&mut self, half_closed: bool, out: &mut Sorting) {
        self.set.give_up(out);
        for run in std::mem::take(&mut self.batches) {
            let subject = Rc::clone(&self.subject);
            match half_closed {
                true => self.place(Stretch { run, subject, context: None, carried: &[] }, out),
                false => out.give_up(run.messages(), LostReason::Unfinished),
            }
        }
    }

    /// Bytes held back until a data set is whole or the call half-closed, and their messages.
    pub fn held(&self) -> (usize, u32) {
        let (bytes, messages) = self.set.held();
        let batches = self.batches.iter();
        batches.fold((bytes, messages), |(bytes, messages), run| (bytes + run.bytes().len(), messages + run.messages()))
    }

    /// Takes a batch apart: each element is a message of another method.
    fn sort_elements(&mut self, batches: &Run, number: u32, out: &mut Sorting) -> u32 {
        let mut messages = 0;
        for batch in batches.iter() {
            let body = batch.body();
            if let Some(broken) = field::fields(&body).find_map(Result::err) {
                messages += 1;
                out.refuse(1, broken.to_string());
            } else if let Some(elements) = Run::of_elements(&body, number) {
                messages += elements.messages();
                self.batches.push(elements);
            }
        }
        messages
    }

    /// The subject of a method that reads what is carried from the first message, for backends that do not serve ours.
    fn stand_in(&self, fields: &[Carried]) -> Option<Rc<Subject>> {
        let Some(StandIn::LanePerContext { path }) = self.subject.stand_in else { return None };
        let opening = self.subjects.context(Context::new(fields.to_vec()));
        let subject = Subject { path, stand_in: None, opening: Some(opening), ..(*self.subject).clone() };
        Some(self.subjects.subject(subject))
    }
}

/// What the messages of a call by this route have in common from the start.
fn subject_of(route: &Route, metadata: Vec<(HeaderName, HeaderValue)>) -> Subject {
    let (method, contract) = (&route.method, &route.method.contract);
    let path = if let Split::Elements { path, .. } = contract.split { path } else { method.path };
    Subject {
        metadata,
        alone: matches!(contract.split, Split::Sets { .. }),
        said_once: contract.replay == Replay::NotProcessed,
        stand_in: contract.stand_in,
        ..Subject::new(path, method.flow)
    }
}

// === impl Sorted ===

impl Sorted {
    /// Takes off what makes the next parcel. Where each message is tied by its own, the pool cuts it.
    pub fn take(&mut self) -> Option<(Run, Ties)> {
        let run = match self.ties {
            Ties::Alike(_) => self.subject.take_parcel(&mut self.run)?,
            Ties::Each(_) => self.run.take_front(usize::MAX, u32::MAX)?,
        };
        let ties = self.ties.take_front(run.messages());
        Some((run, ties))
    }

    /// What was taken off as a parcel, with what answers for it.
    pub fn parcel(&self, (run, ties): (Run, Ties), ticket: Ticket, permit: Permit) -> Parcel {
        let (subject, context) = (Rc::clone(&self.subject), self.context.clone());
        Parcel { run, subject, context, ties, ticket, permit, suspicion: None }
    }
}

// === impl Sorting ===

impl Sorting {
    /// Messages that nobody is to blame for and that go nowhere.
    fn give_up(&mut self, messages: u32, reason: LostReason) {
        self.gone.push(Gone { messages, reason, complaint: None });
    }

    /// Messages that their caller is to blame for.
    fn refuse(&mut self, messages: u32, complaint: impl Into<String>) {
        self.gone.push(Gone { messages, reason: LostReason::Malformed, complaint: Some(complaint.into()) });
    }
}

#[cfg(test)]
mod tests;
