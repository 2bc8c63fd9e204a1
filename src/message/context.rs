//! What a stream says once and means for all its messages, and how it is said again on another stream.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::field::{self, Malformed, Value};
use super::parcel::Subject;
use super::run::Message;

/// A carried field: its number, and its value; `None` when the stream has not said it.
pub type Carried = (u32, Option<Bytes>);

/// The carried fields of a stream, or of a stretch of one. Equal contexts are one allocation on a worker, so that they
/// are compared by address.
#[derive(Debug)]
pub struct Context {
    /// In the order in which later ones depend on earlier ones: a receiver reads the last one in the light of the others,
    /// as they were when it was said, and keeps it so.
    fields: Vec<Carried>,
    /// The others as they were said since.
    now: Vec<Carried>,
    /// The subject whose streams say this context in their first message only; for backends that can do no better.
    pub stand_in: Option<Rc<Subject>>,
}

/// A first message in the words it needs where it will stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restated {
    /// A message that has to come before it and says nothing but carried fields: what holds was said in two messages.
    pub before: Option<Message>,
    /// The message.
    pub message: Message,
}

// === impl Context ===

impl Context {
    /// What is carried once all of these fields have been said.
    pub fn new(fields: Vec<Carried>) -> Self {
        let now = fields.split_last().map_or_else(Vec::new, |(_, earlier)| earlier.to_vec());
        Self { fields, now, stand_in: None }
    }

    /// The same after earlier fields were said anew and the last one was not; `now` has all but the last.
    pub fn since(fields: Vec<Carried>, now: Vec<Carried>) -> Self {
        Self { fields, now, stand_in: None }
    }

    /// The same, with a subject for backends that read it in a stream's first message only.
    pub fn with_stand_in(self, stand_in: Option<Rc<Subject>>) -> Self {
        Self { stand_in, ..self }
    }

    /// The fields, as they were when the last one was said.
    pub fn fields(&self) -> &[Carried] {
        &self.fields
    }

    /// `first` as it must stand at the head of a stream: with these fields and no others of their numbers.
    ///
    /// Fields are replaced rather than added, because protobuf merges a repeated sub-message: two senders' node
    /// metadata would become one.
    ///
    /// # Errors
    /// When the message does not parse.
    pub fn open(&self, first: &Message) -> Result<Restated, Malformed> {
        self.state(&self.fields, first)
    }

    /// `first` as it must stand where `before` was said last. What `before` said and this does not is said as empty,
    /// which receivers take for unsaid.
    ///
    /// # Errors
    /// When the message does not parse.
    pub fn follow(&self, before: &Context, first: &Message) -> Result<Restated, Malformed> {
        let unsaid_as_empty = |(field, value): &Carried| (*field, Some(value.clone().unwrap_or_default()));
        let anew = |fields: &[Carried]| fields.iter().map(unsaid_as_empty).collect::<Vec<_>>();
        if self.fields == before.fields {
            let changed = self.now.iter().zip(&before.now).position(|(new, old)| new != old);
            let said = changed.map_or_else(Vec::new, |changed| anew(&self.now[changed..]));
            return Ok(Restated { before: None, message: say(&said, first)? });
        }
        // The last field has to be said, and what it is read in the light of, as far as that is not in force.
        let changed = self.fields.iter().zip(&before.now).position(|(new, old)| new != old);
        self.state(&anew(&self.fields[changed.unwrap_or(before.now.len())..]), first)
    }

    /// Says `fields`, and then what has been said since.
    fn state(&self, fields: &[Carried], first: &Message) -> Result<Restated, Malformed> {
        if self.fields.starts_with(&self.now) {
            return Ok(Restated { before: None, message: say(fields, first)? });
        }
        let before = say(fields, &Message::of_body(b""))?;
        Ok(Restated { before: Some(before), message: say(&self.now, first)? })
    }
}

impl PartialEq for Context {
    fn eq(&self, other: &Self) -> bool {
        let same_stand_in = match (&self.stand_in, &other.stand_in) {
            (Some(one), Some(other)) => Rc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_stand_in && self.fields == other.fields && self.now == other.now
    }
}

impl Eq for Context {}

impl Hash for Context {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.fields, &self.now).hash(hasher);
    }
}

/// The message with exactly these values of these fields, in front of all others.
fn say(fields: &[Carried], message: &Message) -> Result<Message, Malformed> {
    let body = message.body();
    if says(fields, &body)? {
        return Ok(message.clone());
    }
    let value_len =
        |(field, value): &Carried| value.as_ref().map_or(0, |value| field::bytes_field_len(*field, value.len()));
    let mut said = BytesMut::with_capacity(fields.iter().map(value_len).sum::<usize>() + body.len());
    for (number, value) in fields {
        if let Some(value) = value {
            field::put_bytes(&mut said, *number, value);
        }
    }
    for field in field::fields(&body) {
        let field = field?;
        if !fields.iter().any(|(number, _)| *number == field.number) {
            said.extend_from_slice(&body[field.range]);
        }
    }
    Ok(Message::of_body(&said))
}

/// Whether the message says these fields so already, each at most once.
fn says(fields: &[Carried], body: &[u8]) -> Result<bool, Malformed> {
    let mut right = 0;
    let mut wrong = false;
    for field in field::fields(body) {
        let field = field?;
        let Some((_, value)) = fields.iter().find(|(number, _)| *number == field.number) else { continue };
        match field.value {
            Value::Bytes(bytes) if Some(bytes) == value.as_deref() => right += 1,
            _ => wrong = true,
        }
    }
    // One said twice and another not at all would add up, too; but then fields differ, and twice the same is the same.
    let wanted = fields.iter().filter(|(_, value)| value.is_some()).count();
    Ok(!wrong && right == wanted && (wanted < 2 || each_once(fields, body)))
}

/// Whether no carried field is said twice.
fn each_once(fields: &[Carried], body: &[u8]) -> bool {
    let times = |wanted: u32| field::fields(body).flatten().filter(|field| field.number == wanted).count();
    fields.iter().all(|(number, _)| times(*number) <= 1)
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

    fn context(fields: &[(u32, Option<&str>)]) -> Context {
        let carried = |(number, value): &(u32, Option<&str>)| {
            (*number, value.map(|value| Bytes::copy_from_slice(value.as_bytes())))
        };
        Context::new(fields.iter().map(carried).collect())
    }

    fn said(message: &Message) -> Vec<(u32, String)> {
        let text = |field: field::Field<'_>| match field.value {
            Value::Bytes(bytes) => (field.number, String::from_utf8_lossy(bytes).into_owned()),
            _ => unreachable!("these tests write bytes"),
        };
        field::fields(&message.body()).map(|field| text(field.unwrap())).collect()
    }

    fn pairs(fields: &[(u32, &str)]) -> Vec<(u32, String)> {
        fields.iter().map(|(number, text)| (*number, (*text).to_owned())).collect()
    }

    proptest! {
        #[test]
        fn an_opened_message_says_the_context_once_and_all_else_as_before(
            fields in prop::collection::vec((1u32..5, prop::collection::vec(any::<u8>(), 0..20)), 0..8),
            values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 2),
        ) {
            let carried: Vec<Carried> = (1..).zip(values.into_iter().map(|value| value.map(Bytes::from))).collect();
            let opened = Context::new(carried.clone()).open(&message(&fields)).unwrap().message;
            let body = opened.body();
            let (said, others): (Vec<_>, Vec<_>) = field::fields(&body)
                .map(|field| field.unwrap())
                .map(|field| (field.number, match field.value { Value::Bytes(bytes) => bytes.to_vec(), _ => vec![] }))
                .partition(|(number, _)| *number < 3);
            let wanted: Vec<_> = carried.into_iter().filter_map(|(number, value)| Some((number, value?.to_vec()))).collect();
            let mut said = said;
            said.sort();
            prop_assert_eq!(said, wanted);
            prop_assert_eq!(others, fields.into_iter().filter(|(number, _)| *number > 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_message_that_says_it_already_is_not_copied() {
        let first = message(&[(1, b"node".to_vec()), (2, b"entries".to_vec())]);
        assert_eq!(
            context(&[(1, Some("node"))]).open(&first).unwrap().message.framed().as_ptr(),
            first.framed().as_ptr()
        );
    }

    #[test]
    fn a_field_said_twice_with_another_missing_is_not_taken_for_both() {
        let first = message(&[(1, b"a".to_vec()), (1, b"a".to_vec())]);
        let opened = context(&[(1, Some("a")), (2, Some("b"))]).open(&first).unwrap();
        assert_eq!(said(&opened.message), pairs(&[(1, "a"), (2, "b")]));
    }

    #[test]
    fn what_depends_on_a_changed_field_is_said_anew_and_what_stands_before_it_is_not() {
        let before = context(&[(1, Some("node")), (2, Some("connection"))]);
        let log = message(&[(3, b"log".to_vec())]);
        let other_node = context(&[(1, Some("other")), (2, Some("connection"))]);
        assert_eq!(
            said(&other_node.follow(&before, &log).unwrap().message),
            pairs(&[(1, "other"), (2, "connection"), (3, "log")])
        );
        let other_connection = context(&[(1, Some("node")), (2, Some("other"))]);
        assert_eq!(said(&other_connection.follow(&before, &log).unwrap().message), pairs(&[(2, "other"), (3, "log")]));
        let unsaid = context(&[(1, Some("node")), (2, None)]);
        assert_eq!(said(&unsaid.follow(&before, &log).unwrap().message), pairs(&[(2, ""), (3, "log")]));
        assert_eq!(said(&before.follow(&before, &log).unwrap().message), pairs(&[(3, "log")]));
    }

    /// What a receiver has in force after these messages: the earlier field, the last one, and the earlier as it was then.
    fn in_force(messages: &[Message]) -> (String, String, String) {
        let (mut node, mut connection, mut under) = (String::new(), String::new(), String::new());
        for message in messages {
            for (number, text) in said(message) {
                match number {
                    1 => node = text,
                    2 => (connection, under) = (text, String::new()),
                    _ => {}
                }
            }
            if said(message).iter().any(|(number, _)| *number == 2) {
                under.clone_from(&node);
            }
        }
        (node, connection, under)
    }

    proptest! {
        /// Whatever was in force on a stream, what comes next is read as on its own.
        #[test]
        fn what_follows_is_read_in_its_own_context(
            contexts in prop::collection::vec((0u8..3, 0u8..3, 0u8..3), 1..8),
        ) {
            let name = |kind: &str, number: u8| Bytes::from(format!("{kind} {number}"));
            let of = |(under, connection, node): (u8, u8, u8)| {
                let fields = vec![(1, Some(name("node", under))), (2, Some(name("connection", connection)))];
                Context::since(fields, vec![(1, Some(name("node", node)))])
            };
            let (mut stream, mut last): (Vec<Message>, Option<Context>) = (Vec::new(), None);
            for wanted in contexts {
                let (context, log) = (of(wanted), message(&[(3, b"log".to_vec())]));
                let restated = match &last {
                    Some(last) => context.follow(last, &log),
                    None => context.open(&log),
                };
                let Restated { before, message } = restated.unwrap();
                stream.extend(before);
                stream.push(message);
                let text = |kind: &str, number: u8| format!("{kind} {number}");
                prop_assert_eq!(
                    in_force(&stream),
                    (text("node", wanted.2), text("connection", wanted.1), text("node", wanted.0))
                );
                last = Some(context);
            }
        }
    }
}
