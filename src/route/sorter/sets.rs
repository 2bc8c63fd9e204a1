//! Runs of messages that are one data set: held back until the last one is there, then sent as one.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::message::field::{Field, Malformed, Value, fields};
use crate::message::run::{Message, Run};
use crate::metrics::LostReason;

use super::{Sorter, Sorting, Stretch};

/// Bytes a data set may have: as much as OAP takes of one profile.
const SET_BYTES_MAX: usize = 30 << 20;

/// The data set a call is in the middle of.
#[derive(Default)]
pub(super) struct Set {
    name: Bytes,
    held: BytesMut,
    messages: u32,
    /// Whether it has become too large; what belongs to it is given up as it comes.
    is_too_large: bool,
}

/// What a message of a set says.
struct Said {
    name: Bytes,
    is_last: bool,
}

// === impl Set ===

impl Set {
    pub(super) fn held(&self) -> (usize, u32) {
        (self.held.len(), self.messages)
    }

    /// What is held will not become whole.
    pub(super) fn give_up(&mut self, out: &mut Sorting) {
        self.drop_held(LostReason::Unfinished, out);
        *self = Self::default();
    }

    fn drop_held(&mut self, reason: LostReason, out: &mut Sorting) {
        self.held.clear();
        let messages = std::mem::take(&mut self.messages);
        if messages > 0 {
            out.give_up(messages, reason);
        }
    }

    fn add(&mut self, message: &Message, out: &mut Sorting) {
        self.messages += 1;
        self.is_too_large |= self.held.len() + message.framed().len() > SET_BYTES_MAX;
        if self.is_too_large {
            return self.drop_held(LostReason::TooLarge, out);
        }
        self.held.extend_from_slice(message.framed());
    }

    /// The set, which is whole now; `None` when it was too large.
    fn finish(&mut self) -> Option<Run> {
        let set = std::mem::take(self);
        (set.messages > 0).then(|| Run::of_framed(set.held.freeze(), set.messages))
    }
}

impl Sorter {
    pub(super) fn sort_sets(&mut self, run: Run, last: u32, name: u32, out: &mut Sorting) {
        for message in run.iter() {
            match said(&message.body(), last, name) {
                Err(broken) => out.refuse(1, broken.to_string()),
                // OAP ignores what belongs to no set, and says nothing.
                Ok(said) if said.name.is_empty() => {
                    out.give_up(1, LostReason::Malformed);
                }
                Ok(said) => {
                    if said.name != self.set.name {
                        self.set.give_up(out);
                        self.set.name = said.name;
                    }
                    self.set.add(&message, out);
                    if said.is_last
                        && let Some(run) = self.set.finish()
                    {
                        let subject = Rc::clone(&self.subject);
                        self.place(Stretch { run, subject, context: None, carried: &[] }, out);
                    }
                }
            }
        }
    }
}

fn said(body: &Bytes, last: u32, name: u32) -> Result<Said, Malformed> {
    let mut said = Said { name: Bytes::new(), is_last: false };
    for field in fields(body) {
        match field? {
            Field { number, value: Value::Bytes(bytes), .. } if number == name => {
                said.name = Bytes::copy_from_slice(bytes)
            }
            Field { number, value: Value::Varint(set), .. } if number == last => said.is_last = set != 0,
            _ => {}
        }
    }
    Ok(said)
}
