//! A parcel: messages of one call that travel to one lane together, with all that answers for them.

use std::rc::Rc;

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::budget::Permit;
use super::context::Context;
use super::flow::Flow;
use super::receipt::Ticket;
use super::run::{Message, Run};
use super::tie::Ties;

/// Bytes a parcel may have beyond its first message: small, so that spreading stays fine.
pub const PARCEL_BYTES_MAX: usize = 16 << 10;
/// Messages a parcel may have, for the same reason.
pub const PARCEL_MESSAGES_MAX: u32 = 64;
/// What a message costs in the budget beside its bytes: its share of parcel, ticket and ledger.
pub const MESSAGE_OVERHEAD_BYTES: usize = 128;

/// What a run costs in the budget until it is settled.
pub fn cost(run: &Run) -> usize {
    run.bytes().len() + run.messages() as usize * MESSAGE_OVERHEAD_BYTES
}

/// Messages on their way from a call to a backend.
pub struct Parcel {
    /// The messages, with their prefixes.
    pub run: Run,
    /// What they belong to; one lane a channel.
    pub subject: Rc<Subject>,
    /// What is carried into them, where it may change within a stream.
    pub context: Option<Rc<Context>>,
    /// What ties them to backends; once it is on its way, to the one it goes to.
    pub ties: Ties,
    /// Answers for the messages.
    pub ticket: Ticket,
    /// Answers for the memory.
    pub permit: Permit,
    /// Set once a backend has refused a trip these messages were on.
    pub suspicion: Option<Suspicion>,
}

/// What is known of messages that a backend has refused, together with others or alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspicion {
    /// Since when.
    pub since: Instant,
    /// Whether they may be at fault themselves; then they travel alone.
    pub alone: bool,
    /// How often they were refused without anybody being able to say whose fault it was.
    pub undecided: u32,
    /// The backends that have refused them, and not just everything, a bit each.
    pub refused_by: u64,
}

/// What messages must have in common to share an outbound stream: the method, and what was said once per stream.
/// Equal subjects are one allocation on a worker, so that lanes are found by address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The path of the outbound call.
    pub path: &'static str,
    /// Whose channels they use.
    pub flow: Flow,
    /// What the first message of every stream must say; `None` when messages stand alone or say it when it changes.
    pub opening: Option<Rc<Context>>,
    /// The metadata its streams open with, the caller's token among it: messages of different tenants never share a
    /// stream.
    pub metadata: Vec<(HeaderName, HeaderValue)>,
    /// Whether each parcel is a data set, and so a stream of its own that is never parted.
    pub alone: bool,
    /// Whether they must not be said again once a backend may have acted on them.
    pub said_once: bool,
    /// What a backend that does not serve the method is sent instead.
    pub stand_in: Option<StandIn>,
}

/// What a backend that does not serve a method is sent instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StandIn {
    /// The elements of this repeated field of each message as a stream of another method.
    Elements {
        /// The repeated field.
        field: u32,
        /// The other method.
        path: &'static str,
    },
    /// The same messages to another method, which reads what is carried from the first message only.
    LanePerContext {
        /// The other method.
        path: &'static str,
    },
}

// === impl Parcel ===

impl Parcel {
    /// The backends it should not meet again, a bit each.
    pub fn refused_by(&self) -> u64 {
        self.suspicion.map_or(0, |suspicion| suspicion.refused_by)
    }

    /// Whether it must not share a trip: it is a data set, or its messages may be at fault.
    pub fn is_alone(&self) -> bool {
        self.subject.alone || self.suspicion.is_some_and(|suspicion| suspicion.alone)
    }

    /// Bytes on the wire.
    pub fn bytes(&self) -> usize {
        self.run.bytes().len()
    }

    /// How many messages it answers for; a stand-in may have more in its run.
    pub fn messages(&self) -> u32 {
        self.ticket.messages()
    }

    /// The parcel as a backend gets it that does not serve its method, in one piece or several; as it is when there is
    /// no stand-in.
    pub fn stand_in(mut self) -> Vec<Parcel> {
        match (self.subject.stand_in, self.context.take()) {
            (Some(StandIn::LanePerContext { .. }), Some(context)) if context.stand_in.is_some() => {
                self.subject = context.stand_in.clone().expect("asked for in the line above");
                vec![self]
            }
            (Some(StandIn::Elements { field, path }), _) => {
                let subject = Subject { path, alone: true, stand_in: None, ..(*self.subject).clone() };
                let subject = Rc::new(subject);
                let as_it_is = Rc::new(Subject { stand_in: None, ..(*self.subject).clone() });
                let as_stream = move |mut parcel: Parcel| {
                    let elements = parcel.run.iter().next().and_then(|set| Run::of_elements(&set.body(), field));
                    // One that does not parse, or has no elements, is for the backends to judge.
                    parcel.subject = Rc::clone(if elements.is_some() { &subject } else { &as_it_is });
                    parcel.run = elements.unwrap_or(parcel.run);
                    parcel
                };
                self.one_by_one().map(as_stream).collect()
            }
            (_, context) => {
                self.context = context;
                vec![self]
            }
        }
    }

    /// Every message as a parcel of its own, to find out which one it is that backends refuse.
    pub fn take_apart(self) -> impl Iterator<Item = Parcel> {
        self.one_by_one().map(|mut parcel| {
            // Alone, each is judged anew.
            if let Some(suspicion) = &mut parcel.suspicion {
                *suspicion = Suspicion { alone: true, refused_by: 0, undecided: 0, ..*suspicion };
            }
            parcel
        })
    }

    /// These of its messages, tied like that, as a parcel of their own; of it, what answers for them is less.
    pub fn part(&mut self, run: Run, ties: Ties) -> Parcel {
        Parcel {
            permit: self.permit.split(cost(&run)),
            ticket: self.ticket.split(run.messages()),
            ties,
            run,
            subject: Rc::clone(&self.subject),
            context: self.context.clone(),
            suspicion: self.suspicion,
        }
    }

    fn one_by_one(mut self) -> impl Iterator<Item = Parcel> {
        let messages: Vec<Message> = self.run.iter().collect();
        messages.into_iter().map(move |message| {
            let ties = self.ties.take_front(1);
            self.part(Run::of_message(message), ties)
        })
    }
}

// === impl Subject ===

impl Subject {
    /// Takes as much off the front of a run as may travel together: of a data set, all of it.
    pub fn take_parcel(&self, run: &mut Run) -> Option<Run> {
        match self.alone {
            true => run.take_front(usize::MAX, u32::MAX),
            false => run.take_front(PARCEL_BYTES_MAX, PARCEL_MESSAGES_MAX),
        }
    }

    /// Messages of this method that stand alone.
    pub fn new(path: &'static str, flow: Flow) -> Self {
        Self { path, flow, opening: None, metadata: Vec::new(), alone: false, said_once: false, stand_in: None }
    }
}
