//! What a stream says once: noted as it is said, and held ready for messages that will stand on other streams.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::message::context::{Carried, Context};
use crate::message::field::{self, Field, Malformed, Value, fields};
use crate::message::parcel::Subject;
use crate::message::run::{self, PREFIX_BYTES, Run};
use crate::route::contract::{Carry, CarryMode};

use super::{Sorter, Sorting, Stretch};

/// What a call has said so far.
pub(super) struct Carrying {
    mode: CarryMode,
    /// The fields in force, for the messages that are being sorted.
    fields: Vec<Carried>,
    /// What was said last, which later fields will be read in the light of; `Latest` only.
    said: Vec<Carried>,
    /// The subject or the context that says the fields in force; `None` before anything was read.
    in_force: Option<InForce>,
}

#[derive(Clone)]
struct InForce {
    subject: Rc<Subject>,
    context: Option<Rc<Context>>,
}

// === impl Carrying ===

impl Carrying {
    pub(super) fn new(carry: &Carry) -> Self {
        let unsaid: Vec<Carried> = carry.fields.iter().map(|field| (*field, None)).collect();
        Self { mode: carry.mode, said: unsaid.clone(), fields: unsaid, in_force: None }
    }

    /// The numbers of the carried fields.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.fields.iter().map(|(number, _)| *number)
    }

    /// Whether a message changes what is in force, or what will be; nothing is copied to find out.
    fn is_news(&self, body: &[u8]) -> Result<bool, Malformed> {
        let mut news = self.in_force.is_none();
        let last = self.said.last().map(|(number, _)| *number);
        for field in fields(body) {
            let field = field?;
            if let Some((_, held)) = self.said.iter().find(|(number, _)| *number == field.number) {
                news |= !matches!(field.value, Value::Bytes(bytes) if Some(bytes) == held.as_deref());
                // Said anew, the last field is read in the light of what was said since.
                news |= Some(field.number) == last && self.fields != self.said;
            }
        }
        Ok(news)
    }
}

/// The carried fields a message says. A sub-message said in several pieces is all of them, one behind the other: that
/// is what parsers make of it.
fn said(body: &[u8], carried: &[Carried]) -> Result<Vec<Option<Bytes>>, Malformed> {
    let mut said: Vec<Option<Bytes>> = vec![None; carried.len()];
    for field in fields(body) {
        if let Field { number, value: Value::Bytes(bytes), .. } = field?
            && let Some(at) = carried.iter().position(|(field, _)| *field == number)
        {
            // Copied: a slice would keep the whole read buffer for as long as the call lives.
            let pieces = [said[at].as_deref().unwrap_or_default(), bytes];
            said[at] = Some(Bytes::from(pieces.concat()));
        }
    }
    Ok(said)
}

/// The last value of a text field, if it is not empty.
fn last_text(body: &[u8], number: u32) -> Result<Option<&[u8]>, Malformed> {
    field::last_bytes(body, number).map(|text| text.filter(|text| !text.is_empty()))
}

impl Sorter {
    pub(super) fn sort_carried(&mut self, run: Run, out: &mut Sorting) {
        let Some(mut carrying) = self.carrying.take() else { return };
        match carrying.mode {
            CarryMode::FirstMessage if carrying.in_force.is_some() => self.pass(&carrying, run, out),
            CarryMode::FirstMessage => self.sort_from_first(&mut carrying, run, out),
            CarryMode::FirstNonEmpty => self.sort_pinned(&mut carrying, run, out),
            CarryMode::Latest => self.sort_latest(&mut carrying, run, out),
        }
        self.carrying = Some(carrying);
    }

    /// Places messages into which what is in force is carried.
    fn pass(&mut self, carrying: &Carrying, run: Run, out: &mut Sorting) {
        let InForce { subject, context } = match &carrying.in_force {
            Some(in_force) => in_force.clone(),
            None => InForce { subject: Rc::clone(&self.subject), context: None },
        };
        self.place(Stretch { run, subject, context, carried: &carrying.fields }, out);
    }

    /// A subject whose streams say these fields in their first message.
    fn opening_with(&self, fields: &[Carried]) -> InForce {
        let opening = self.subjects.context(Context::new(fields.to_vec()));
        let subject = Subject { opening: Some(opening), ..(*self.subject).clone() };
        InForce { subject: self.subjects.subject(subject), context: None }
    }

    /// The first message that can be read says it for all of them, present or not.
    fn sort_from_first(&mut self, carrying: &mut Carrying, mut run: Run, out: &mut Sorting) {
        while run.messages() > 0 {
            let message = run.iter().next().expect("asked for in the line above");
            match said(&message.body(), &carrying.fields) {
                Err(broken) => {
                    run.take_front(usize::MAX, 1);
                    out.refuse(1, broken.to_string());
                }
                Ok(first) => {
                    carrying.fields.iter_mut().zip(first).for_each(|((_, value), said)| *value = said);
                    carrying.in_force = Some(self.opening_with(&carrying.fields));
                    return self.pass(carrying, run, out);
                }
            }
        }
    }

    /// Pins the first non-empty value and says it in every message that does not. Messages before it stay without:
    /// OAP drops them, and inventing a service for them would be worse.
    fn sort_pinned(&mut self, carrying: &mut Carrying, run: Run, out: &mut Sorting) {
        let number = carrying.fields[0].0;
        let messages = run.clone();
        let mut stretch = Filling { run, messages: 0, bytes: 0, filled: None };
        for message in messages.framed() {
            let text = match last_text(&message[PREFIX_BYTES..], number) {
                Ok(text) => text,
                Err(broken) => {
                    self.pass_filled(carrying, &mut stretch, out);
                    stretch.run.take_front(usize::MAX, 1);
                    out.refuse(1, broken.to_string());
                    continue;
                }
            };
            if let (None, Some(text)) = (&carrying.fields[0].1, text) {
                self.pass_filled(carrying, &mut stretch, out);
                carrying.fields[0].1 = Some(Bytes::copy_from_slice(text));
                carrying.in_force = Some(self.opening_with(&carrying.fields));
            }
            stretch.add(message, number, carrying.fields[0].1.as_deref().filter(|_| text.is_none()));
        }
        self.pass_filled(carrying, &mut stretch, out);
    }

    fn pass_filled(&mut self, carrying: &Carrying, stretch: &mut Filling, out: &mut Sorting) {
        if let Some(run) = stretch.take() {
            self.pass(carrying, run, out);
        }
    }

    /// Notes every change; the messages between two changes are one stretch.
    fn sort_latest(&mut self, carrying: &mut Carrying, mut run: Run, out: &mut Sorting) {
        let mut unchanged = 0;
        let messages = run.clone();
        for body in messages.bodies() {
            let news = carrying.is_news(body);
            if news == Ok(false) {
                unchanged += 1;
                continue;
            }
            if let Some(before) = run.take_front(usize::MAX, std::mem::take(&mut unchanged)) {
                self.pass(carrying, before, out);
            }
            let message = run.take_front(usize::MAX, 1);
            match news {
                Ok(_) => {
                    self.change(carrying, body);
                    self.pass(carrying, message.expect("it is one of the run"), out);
                }
                Err(broken) => out.refuse(1, broken.to_string()),
            }
        }
        if run.messages() > 0 {
            self.pass(carrying, run, out);
        }
    }

    /// Notes what a message says anew.
    ///
    /// The last field is read in the light of those before it and keeps that: OAP builds a connection under the node in
    /// force (`AccessLogServiceHandler`). Until it is said again, others of them may hold for all else.
    fn change(&mut self, carrying: &mut Carrying, body: &[u8]) {
        // It was read a moment ago and does parse.
        let now = said(body, &carrying.said).unwrap_or_default();
        let says_last = now.last().is_some_and(Option::is_some);
        for (held, said) in carrying.said.iter_mut().zip(now) {
            held.1 = said.or_else(|| held.1.take());
        }
        let (last, earlier) = carrying.said.split_last().expect("something is carried");
        let keeps_last = last.1.is_some() && !says_last;
        if !keeps_last {
            carrying.fields.clone_from(&carrying.said);
        }
        let stand_in = self.stand_in(&carrying.fields);
        let context = Context::since(carrying.fields.clone(), earlier.to_vec()).with_stand_in(stand_in);
        let context = Some(self.subjects.context(context));
        carrying.in_force = Some(InForce { subject: Rc::clone(&self.subject), context });
    }
}

/// Messages of one stretch, as they must leave.
struct Filling {
    /// They, and what comes behind them, as they came.
    run: Run,
    messages: u32,
    /// Their bytes as they came.
    bytes: usize,
    /// Their bytes as they must leave, from the first one on that lacks the value.
    filled: Option<BytesMut>,
}

impl Filling {
    /// The next message belongs to the stretch; `missing` is what it lacks.
    fn add(&mut self, message: &[u8], number: u32, missing: Option<&[u8]>) {
        match missing {
            Some(text) => {
                let before = || {
                    let added = self.run.messages() as usize * field::bytes_field_len(number, text.len());
                    let mut filled = BytesMut::with_capacity(self.run.bytes().len() + added);
                    filled.extend_from_slice(&self.run.bytes()[..self.bytes]);
                    filled
                };
                with_scalar(&message[PREFIX_BYTES..], number, text, self.filled.get_or_insert_with(before));
            }
            None => {
                if let Some(filled) = &mut self.filled {
                    filled.extend_from_slice(message);
                }
            }
        }
        self.messages += 1;
        self.bytes += message.len();
    }

    /// The stretch; another one begins.
    fn take(&mut self) -> Option<Run> {
        self.bytes = 0;
        let as_they_came = self.run.take_front(usize::MAX, std::mem::take(&mut self.messages))?;
        let filled = self.filled.take();
        Some(
            filled.map_or_else(
                || as_they_came.clone(),
                |filled| Run::of_framed(filled.freeze(), as_they_came.messages()),
            ),
        )
    }
}

/// The message with a text field appended: of a text, parsers take the last occurrence.
fn with_scalar(body: &[u8], number: u32, value: &[u8], out: &mut BytesMut) {
    run::put_prefix(out, body.len() + field::bytes_field_len(number, value.len()));
    out.extend_from_slice(body);
    field::put_bytes(out, number, value);
}
