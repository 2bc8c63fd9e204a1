//! Whole gRPC messages that lie one behind the other, prefixes kept, so that they can be written out as they came.

use bytes::{Bytes, BytesMut};

use super::field::{self, Field, Value};

/// Bytes of the prefix before every gRPC message.
pub const PREFIX_BYTES: usize = 5;

/// Whole messages that lie one behind the other in one piece of memory, each with its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    bytes: Bytes,
    messages: u32,
    /// Whether any message may carry the compressed flag.
    compressed: bool,
}

/// One message of a [`Run`], still with its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    framed: Bytes,
}

// === impl Run ===

impl Run {
    pub(super) fn new(bytes: Bytes, messages: u32, compressed: bool) -> Self {
        Self { bytes, messages, compressed }
    }

    /// A run of one message made from its body.
    pub fn of_body(body: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + body.len());
        put_prefix(&mut bytes, body.len());
        bytes.extend_from_slice(body);
        Self { bytes: bytes.freeze(), messages: 1, compressed: false }
    }

    /// A run of `messages` framed, uncompressed messages that lie whole in `bytes`.
    ///
    /// The caller answers for the count; it is not looked at again.
    pub fn of_framed(bytes: Bytes, messages: u32) -> Self {
        Self { bytes, messages, compressed: false }
    }

    /// A run of exactly one already framed message.
    pub fn of_message(message: Message) -> Self {
        Self { messages: 1, compressed: message.is_compressed(), bytes: message.framed }
    }

    /// The elements of a repeated field of `message` as a run of messages; `None` when there are none or the message
    /// does not parse.
    pub fn of_elements(message: &[u8], field: u32) -> Option<Self> {
        let mut bytes = BytesMut::with_capacity(message.len() + message.len() / 8);
        let mut messages = 0;
        for found in field::fields(message) {
            match found.ok()? {
                Field { number, value: Value::Bytes(element), .. } if number == field => {
                    put_prefix(&mut bytes, element.len());
                    bytes.extend_from_slice(element);
                    messages += 1;
                }
                _ => {}
            }
        }
        (messages > 0).then(|| Self { bytes: bytes.freeze(), messages, compressed: false })
    }

    /// The messages with their prefixes, as they stand on the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many messages the run has; never 0.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Whether any message may carry the compressed flag.
    pub fn any_compressed(&self) -> bool {
        self.compressed
    }

    /// The messages one by one; shares the run's memory.
    pub fn iter(&self) -> impl Iterator<Item = Message> + '_ {
        let mut rest = self.bytes.clone();
        (0..self.messages).map(move |_| Message { framed: rest.split_to(framed_len(&rest)) })
    }

    /// The messages one by one as they stand, prefixes kept. Borrowed: unlike [`Run::iter`] it counts no references.
    pub fn framed(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        (0..self.messages).map(move |_| {
            let (message, behind) = rest.split_at(framed_len(rest));
            rest = behind;
            message
        })
    }

    /// The same without their prefixes.
    pub fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        self.framed().map(|message| &message[PREFIX_BYTES..])
    }

    /// Takes a run of at most `messages_max` messages and, beyond its first message, at most `bytes_max` bytes off
    /// the front; `None` when nothing is left.
    pub fn take_front(&mut self, bytes_max: usize, messages_max: u32) -> Option<Run> {
        if self.messages == 0 || messages_max == 0 {
            return None;
        }
        if self.messages <= messages_max && self.bytes.len() <= bytes_max {
            let all = Run { bytes: std::mem::take(&mut self.bytes), ..*self };
            self.messages = 0;
            return Some(all);
        }
        let (mut length, mut messages) = (0, 0);
        while messages < self.messages.min(messages_max) {
            let next = length + framed_len(&self.bytes[length..]);
            if messages > 0 && next > bytes_max {
                break;
            }
            length = next;
            messages += 1;
        }
        self.messages -= messages;
        Some(Run { bytes: self.bytes.split_to(length), messages, compressed: self.compressed })
    }
}

/// Bytes of the framed message at the start of `bytes`, which is known to be whole.
fn framed_len(bytes: &[u8]) -> usize {
    let prefix = bytes.first_chunk::<PREFIX_BYTES>().expect("a run holds whole messages only");
    PREFIX_BYTES + u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize
}

/// Appends the prefix of an uncompressed message of `body_bytes` bytes.
///
/// # Panics
/// When `body_bytes` is over 4 GiB, which no limit allows.
pub fn put_prefix(out: &mut BytesMut, body_bytes: usize) {
    let length = u32::try_from(body_bytes).expect("a message is under 4 GiB: limits.message_bytes is");
    out.extend_from_slice(&[0]);
    out.extend_from_slice(&length.to_be_bytes());
}

// === impl Message ===

impl Message {
    /// An uncompressed message made from its body.
    pub fn of_body(body: &[u8]) -> Self {
        Self { framed: Run::of_body(body).bytes }
    }

    /// A message made from its body in compressed form.
    pub fn of_compressed(body: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + body.len());
        put_prefix(&mut bytes, body.len());
        bytes[0] = 1;
        bytes.extend_from_slice(body);
        Self { framed: bytes.freeze() }
    }

    /// The message with its prefix.
    pub fn framed(&self) -> &Bytes {
        &self.framed
    }

    /// The message without its prefix; compressed if [`Message::is_compressed`].
    pub fn body(&self) -> Bytes {
        self.framed.slice(PREFIX_BYTES..)
    }

    /// Whether the body is compressed in the call's `grpc-encoding`.
    pub fn is_compressed(&self) -> bool {
        self.framed[0] == 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_run_taken_apart_is_the_same_run(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..40),
            bytes_max in 1usize..2000, messages_max in 1u32..20,
        ) {
            let framed: Vec<u8> = bodies.iter().flat_map(|body| Run::of_body(body).bytes().to_vec()).collect();
            let mut run = Run::of_framed(framed.into(), bodies.len() as u32);
            let (whole, count) = (run.bytes().clone(), run.messages());
            let (mut bytes, mut messages) = (Vec::new(), 0);
            while let Some(part) = run.take_front(bytes_max, messages_max) {
                prop_assert!(part.messages() <= messages_max);
                prop_assert!(part.messages() == 1 || part.bytes().len() <= bytes_max);
                prop_assert_eq!(part.messages() as usize, part.iter().count());
                bytes.extend_from_slice(part.bytes());
                messages += part.messages();
            }
            prop_assert_eq!(messages, count);
            prop_assert_eq!(Bytes::from(bytes), whole);
        }
    }
}
