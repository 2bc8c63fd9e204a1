//! A parcel: messages of one call that travel to one lane together, with all that answers for them.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use tokio::time::Instant;

use super::budget::Permit;
use super::field::{self, Malformed};
use super::flow::Flow;
use super::receipt::Ticket;
use super::run::{self, Message, Run};

/// Bytes a parcel may have beyond its first message: small, so that spreading stays fine.
pub const PARCEL_BYTES_MAX: usize = 16 << 10;
/// Messages a parcel may have, for the same reason.
pub const PARCEL_MESSAGES_MAX: u32 = 64;
/// What a message costs in the budget beside its bytes: its share of parcel, ticket and ledger.
pub const MESSAGE_OVERHEAD_BYTES: usize = 128;

/// Messages on their way from a call to a backend.
pub struct Parcel {
    /// The messages, with their prefixes.
    pub run: Run,
    /// What they belong to; one lane a channel.
    pub subject: Rc<Subject>,
    /// Decides the backend where the contract is sticky or the pool hashes.
    pub key: Option<u64>,
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
#[derive(Debug)]
pub struct Subject {
    /// The path of the outbound call.
    pub path: &'static str,
    /// Whose channels they use.
    pub flow: Flow,
    /// What the first message of every stream must say; `None` when messages stand alone.
    pub opening: Option<Opening>,
    /// The token the call came with: messages of different tokens never share a stream.
    pub authentication: Option<HeaderValue>,
}

/// A field that a receiver reads from a stream's first message and applies to all that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The field's number.
    pub field: u32,
    /// Its value; `None` when the call's own first message did not have it, and so no first message may.
    pub value: Option<Bytes>,
}

// === impl Parcel ===

impl Parcel {
    /// The backends it should not meet again, a bit each.
    pub fn refused_by(&self) -> u64 {
        self.suspicion.map_or(0, |suspicion| suspicion.refused_by)
    }

    /// Whether it must not share a trip.
    pub fn is_suspect(&self) -> bool {
        self.suspicion.is_some_and(|suspicion| suspicion.alone)
    }

    /// Bytes on the wire.
    pub fn bytes(&self) -> usize {
        self.run.bytes().len()
    }

    /// How many messages.
    pub fn messages(&self) -> u32 {
        self.run.messages()
    }

    /// Every message as a parcel of its own, to find out which one it is that backends refuse.
    pub fn take_apart(mut self) -> impl Iterator<Item = Parcel> {
        let messages: Vec<Message> = self.run.iter().collect();
        messages.into_iter().map(move |message| {
            let cost = message.framed().len() + MESSAGE_OVERHEAD_BYTES;
            Parcel {
                run: Run::of_message(message),
                subject: Rc::clone(&self.subject),
                key: self.key,
                ticket: self.ticket.split(1),
                permit: self.permit.split(cost),
                // Alone, each is judged anew.
                suspicion: self.suspicion.map(|suspicion| Suspicion {
                    alone: true,
                    refused_by: 0,
                    undecided: 0,
                    ..suspicion
                }),
            }
        })
    }
}

// === impl Opening ===

impl Opening {
    /// `first` as it must stand at the head of a stream: with this value of the field and no other.
    ///
    /// The field is replaced rather than added, because protobuf merges a repeated sub-message: two senders' node
    /// metadata would become one.
    ///
    /// # Errors
    /// When the message does not parse.
    pub fn open(&self, first: &Message) -> Result<Message, Malformed> {
        let body = first.body();
        let mut occurrences = 0;
        let mut same = false;
        for field in field::fields(&body) {
            let field = field?;
            if field.number == self.field {
                occurrences += 1;
                same = matches!(field.value, field::Value::Bytes(bytes) if Some(bytes) == self.value.as_deref());
            }
        }
        if (occurrences == 1 && same) || (occurrences == 0 && self.value.is_none()) {
            return Ok(first.clone());
        }
        let said = self.value.as_ref().map_or(0, |value| field::bytes_field_len(self.field, value.len()));
        let mut opened = BytesMut::with_capacity(said + body.len());
        if let Some(value) = &self.value {
            field::put_bytes(&mut opened, self.field, value);
        }
        for field in field::fields(&body) {
            let field = field?;
            if field.number != self.field {
                opened.extend_from_slice(&body[field.range]);
            }
        }
        Ok(Message::of_body(&opened))
    }
}

/// `message` with a length-delimited scalar field appended. Protobuf reads the last occurrence, so this is right
/// for strings and wrong for sub-messages.
pub fn with_scalar(message: &Message, number: u32, value: &[u8], out: &mut BytesMut) {
    let body = message.body();
    run::put_prefix(out, body.len() + field::bytes_field_len(number, value.len()));
    out.extend_from_slice(&body);
    field::put_bytes(out, number, value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(fields: &[(u32, Vec<u8>)]) -> Message {
        let mut body = BytesMut::new();
        for (number, value) in fields {
            field::put_bytes(&mut body, *number, value);
        }
        Message::of_body(&body)
    }

    proptest! {
        #[test]
        fn an_opened_message_says_the_opening_once_and_all_else_as_before(
            fields in prop::collection::vec((1u32..4, prop::collection::vec(any::<u8>(), 0..20)), 0..8),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        ) {
            let opening = Opening { field: 1, value: value.clone().map(Bytes::from) };
            let opened = opening.open(&message(&fields)).unwrap();
            let body = opened.body();
            let (said, others): (Vec<_>, Vec<_>) = field::fields(&body)
                .map(|field| field.unwrap())
                .map(|field| (field.number, match field.value { field::Value::Bytes(bytes) => bytes.to_vec(), _ => vec![] }))
                .partition(|(number, _)| *number == 1);
            prop_assert_eq!(said, value.map(|value| (1, value)).into_iter().collect::<Vec<_>>());
            prop_assert_eq!(others, fields.into_iter().filter(|(number, _)| *number != 1).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_message_that_says_it_already_is_not_copied() {
        let first = message(&[(1, b"node".to_vec()), (2, b"entries".to_vec())]);
        let opening = Opening { field: 1, value: Some(Bytes::from_static(b"node")) };
        assert_eq!(opening.open(&first).unwrap().framed().as_ptr(), first.framed().as_ptr());
    }
}
