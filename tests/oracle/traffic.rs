//! What some agents say to one method: calls, their messages, and the order in which all of it is said.

use switchyard::testkit::methods::Method;

use crate::dialect;
use crate::draw::{Draw, Mark, method};

/// The agents of one case.
#[derive(Debug, Clone)]
pub struct Traffic {
    pub calls: Vec<Call>,
    /// What happens next, from the first to the last.
    pub steps: Vec<Step>,
}

/// One call of one agent.
#[derive(Debug, Clone)]
pub struct Call {
    /// The connection it is on.
    pub connection: usize,
    pub path: String,
    /// Whether it may compress messages.
    pub gzip: bool,
    pub messages: Vec<Said>,
    pub ending: Ending,
}

/// One message.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub body: Vec<u8>,
    pub compressed: bool,
    /// Bytes of replies the agent waits for before it goes on.
    pub hears: usize,
    /// Where its receiver ends the call at it: the same message without what is wrong with it.
    pub mended: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    HalfClose,
    /// Once all that was said has been read.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A call says its next messages, in one write.
    Say {
        call: usize,
        messages: usize,
    },
    End {
        call: usize,
    },
}

/// Somebody who sends.
#[derive(Debug, Clone)]
pub struct Source {
    pub service: String,
    pub instance: String,
    /// Tells its words apart from all others'.
    pub number: u64,
    /// Whether it has a lot to say of itself, as a sidecar in a large mesh has.
    pub is_long: bool,
}

/// The agents of one method.
pub struct Cast {
    pub method: &'static Method,
    pub sources: Vec<Source>,
    /// Whether some messages are such that their receiver ends the call.
    pub poisonous: bool,
}

impl Said {
    pub fn of(body: Vec<u8>) -> Self {
        Self { body, ..Self::default() }
    }
}

impl Cast {
    pub fn draw(method: &'static Method, draw: &mut Draw) -> Self {
        let count = draw.between(1, 4);
        let service = draw.tag("shop");
        let sources = (0..count as u64).map(|number| {
            // Some share a service; names that begin alike are told apart, too.
            let service =
                if draw.chance(30) { service.clone() } else { format!("{service}{}", "s".repeat(number as usize)) };
            Source { service, instance: draw.tag("pod"), number, is_long: number == 1 && !draw.is_brief() }
        });
        let sources = sources.collect();
        Self { method, sources, poisonous: false }
    }

    pub fn somebody(&self, draw: &mut Draw) -> Source {
        draw.one_of(&self.sources)
    }
}

impl Traffic {
    /// Everything a method's agents may do, but for what ends a call at its receiver.
    pub fn draw(path: &str, draw: &mut Draw) -> Self {
        let cast = Cast::draw(method(path), draw);
        Self::of(&cast, draw)
    }

    /// Traffic of this cast.
    pub fn of(cast: &Cast, draw: &mut Draw) -> Self {
        let calls = draw.between(2, 6);
        Self::with(cast, calls, draw)
    }

    /// Traffic of so many calls.
    pub fn with(cast: &Cast, calls: usize, draw: &mut Draw) -> Self {
        let connections = draw.between(1, 3);
        let calls: Vec<Call> = (0..calls).map(|_| Call::draw(cast, connections, draw)).collect();
        let shared = (0..connections).any(|on| calls.iter().filter(|call| call.connection == on).count() > 1);
        if shared {
            draw.mark(Mark::SharedConnection);
        }
        Self::in_any_order(calls, draw)
    }

    /// These calls, each of which says its own in order.
    pub fn in_any_order(calls: Vec<Call>, draw: &mut Draw) -> Self {
        let steps = Step::interleave(&calls, draw);
        Self { calls, steps }
    }

    /// The traffic of several casts at once.
    pub fn together(parts: Vec<Traffic>, draw: &mut Draw) -> Self {
        Self::in_any_order(parts.into_iter().flat_map(|part| part.calls).collect(), draw)
    }

    /// What only these calls say, in the order in which they say it.
    pub fn only(&self, is_meant: impl Fn(usize) -> bool) -> Self {
        let numbers: Vec<usize> = (0..self.calls.len()).filter(|call| is_meant(*call)).collect();
        let number = |call: usize| numbers.iter().position(|meant| *meant == call);
        let steps = self.steps.iter().filter_map(|step| match *step {
            Step::Say { call, messages } => number(call).map(|call| Step::Say { call, messages }),
            Step::End { call } => number(call).map(|call| Step::End { call }),
        });
        Self { calls: numbers.iter().map(|call| self.calls[*call].clone()).collect(), steps: steps.collect() }
    }
}

impl Call {
    fn draw(cast: &Cast, connections: usize, draw: &mut Draw) -> Self {
        let mut messages = dialect::messages(cast, draw);
        if !messages.is_empty() && !cast.method.streams_out && cast.method.streams_in && draw.chance(10) {
            // The same words twice are two items.
            let again = draw.one_of(&messages);
            messages.push(again);
        }
        let ending = if !draw.steady && draw.chance(20) { Ending::Reset } else { Ending::HalfClose };
        if ending == Ending::Reset {
            draw.mark(Mark::Reset);
        }
        let gzip = draw.chance(40);
        for message in &mut messages {
            message.compressed = gzip && draw.chance(50);
            if message.body.is_empty() {
                draw.mark(Mark::Tiny);
            }
        }
        if messages.iter().any(|message| message.compressed) {
            draw.mark(Mark::Gzip);
        }
        if messages.is_empty() {
            draw.mark(Mark::Silent);
        }
        let connection = draw.number(connections as u64) as usize;
        Self { connection, path: cast.method.path.clone(), gzip, messages, ending }
    }
}

impl Step {
    /// Any order in which every call says its own in order.
    fn interleave(calls: &[Call], draw: &mut Draw) -> Vec<Step> {
        let mut left: Vec<usize> = calls.iter().map(|call| call.messages.len()).collect();
        let mut open: Vec<usize> = (0..calls.len()).collect();
        let mut steps = Vec::new();
        while !open.is_empty() {
            let at = draw.number(open.len() as u64) as usize;
            let call = open[at];
            if left[call] == 0 {
                open.swap_remove(at);
                steps.push(Step::End { call });
                if !open.is_empty() && calls[call].ending == Ending::HalfClose {
                    draw.mark(Mark::EarlyHalfClose);
                }
                continue;
            }
            let messages = calls[call].burst(left[call], draw);
            left[call] -= messages;
            steps.push(Step::Say { call, messages });
        }
        steps
    }
}

impl Call {
    /// How many of its messages go into the next write when `left` are left: none behind one that waits for a reply.
    fn burst(&self, left: usize, draw: &mut Draw) -> usize {
        let most = if draw.chance(40) { draw.between(1, 8).min(left) } else { 1 };
        let next = &self.messages[self.messages.len() - left..];
        let waits = next.iter().position(|message| message.hears > 0).map_or(left, |at| at + 1);
        let messages = most.min(waits);
        if messages > 1 {
            draw.mark(Mark::Burst);
        }
        messages
    }
}
