//! Sorts one call's messages: makes them able to stand on another stream and says where they belong.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

use crate::message::field::{self, Malformed};
use crate::message::flow::Flow;
use crate::message::parcel::{self, Opening, Subject};
use crate::message::run::Run;

use super::contract::{Carry, Sort, SortKey};
use super::key;

/// Messages that belong together, ready to become parcels.
pub struct Sorted {
    /// The messages.
    pub run: Run,
    /// What they share.
    pub subject: Rc<Subject>,
    /// What decides their backend, if anything does.
    pub key: Option<u64>,
}

/// The sorter of one call: remembers what the call has said once.
pub struct Sorter {
    sort: Sort,
    source: Source,
    subjects: Rc<Subjects>,
    /// What the call's messages belong to; for `FirstMessageOnly` not known before the first message.
    subject: Option<Rc<Subject>>,
    /// The pinned text of `FirstNonEmptyText`.
    pinned: Option<Bytes>,
    /// The key, where the whole call has one.
    call_key: Option<u64>,
}

/// What a call's messages have in common from the start.
#[derive(Debug, Clone)]
pub struct Source {
    /// The path of the outbound call.
    pub method: &'static str,
    /// Whose channels they use.
    pub flow: Flow,
    /// The token the call came with.
    pub authentication: Option<HeaderValue>,
}

/// One allocation per subject and worker, however many calls share it.
#[derive(Default)]
pub struct Subjects {
    hasher: RandomState,
    known: RefCell<HashMap<u64, Vec<Weak<Subject>>>>,
}

// === impl Sorter ===

impl Sorter {
    /// The sorter of a call that has just begun. `hashes` says whether the pool wants keys that no contract asks for.
    pub fn new(sort: &Sort, source: Source, subjects: &Rc<Subjects>, hashes: bool) -> Self {
        let sort = Sort { key: sort.key.filter(|_| sort.sticky || hashes), ..sort.clone() };
        Self { sort, source, subjects: Rc::clone(subjects), subject: None, pinned: None, call_key: None }
    }

    /// Appends `run` to `sorted`, in one piece or several.
    ///
    /// # Errors
    /// When a message that must be read is not protobuf. Messages before it are in `sorted`.
    pub fn sort(&mut self, run: Run, sorted: &mut Vec<Sorted>) -> Result<(), Malformed> {
        match self.sort.carry {
            Some(Carry::FirstNonEmptyText { field }) => return self.carry_text(field, run, sorted),
            Some(Carry::FirstMessageOnly { field }) if self.subject.is_none() => self.carry_message(field, &run)?,
            _ => {}
        }
        let subject = self.subject(None);
        match self.sort.key {
            Some(SortKey::MeterCollection) => {
                for message in run.iter() {
                    let key = Some(key::of_meter_collection(&message.body())?);
                    sorted.push(Sorted { run: Run::of_message(message), subject: Rc::clone(&subject), key });
                }
            }
            Some(SortKey::Text { field }) => {
                for message in run.iter() {
                    // Nothing else of the message is read, so one that does not parse is the receiver's to judge.
                    let text =
                        field::first_bytes(&message.body(), field).ok().flatten().map(|text| key::of_parts([text]));
                    sorted.push(Sorted { run: Run::of_message(message), subject: Rc::clone(&subject), key: text });
                }
            }
            _ => sorted.push(Sorted { run, subject, key: self.call_key }),
        }
        Ok(())
    }

    /// Learns what the call's first message says for all of them.
    fn carry_message(&mut self, field: u32, run: &Run) -> Result<(), Malformed> {
        let first = run.iter().next().expect("a run has a message").body();
        let value = field::last_bytes(&first, field)?.map(|value| first.slice_ref(value));
        if self.sort.key == Some(SortKey::EnvoyNode) {
            self.call_key = Some(key::of_envoy_identifier(value.as_deref().unwrap_or_default()));
        }
        // Copied: a slice would keep the whole read buffer for as long as the call lives.
        let value = value.map(|value| Bytes::copy_from_slice(&value));
        self.subject = Some(self.subject(Some(Opening { field, value })));
        Ok(())
    }

    /// Pins the first non-empty value and says it in every message that does not. Messages before it stay without:
    /// OAP drops them, and inventing a service for them would be worse.
    fn carry_text(&mut self, field: u32, mut run: Run, sorted: &mut Vec<Sorted>) -> Result<(), Malformed> {
        let (mut unpinned, mut pinned) = (0, 0);
        // Bytes of the unpinned messages, and of all that were looked at.
        let (mut unpinned_bytes, mut bytes) = (0, 0);
        // The pinned messages as they must leave, from the first one on that lacks the value.
        let mut filled: Option<BytesMut> = None;
        let mut outcome = Ok(());
        for message in run.iter() {
            let body = message.body();
            let said = match field::last_bytes(&body, field) {
                Ok(said) => said.filter(|text| !text.is_empty()),
                Err(malformed) => {
                    outcome = Err(malformed);
                    break;
                }
            };
            if let (None, Some(text)) = (&self.pinned, said) {
                let text = Bytes::copy_from_slice(text);
                self.call_key = self.sort.key.map(|_| key::of_parts([&text[..]]));
                self.pinned = Some(text.clone());
                self.subject = Some(self.subject(Some(Opening { field, value: Some(text) })));
            }
            let start = bytes;
            bytes += message.framed().len();
            match (&self.pinned, said) {
                (None, _) => {
                    unpinned += 1;
                    unpinned_bytes = bytes;
                    continue;
                }
                (Some(_), Some(_)) => {
                    if let Some(filled) = &mut filled {
                        filled.extend_from_slice(message.framed());
                    }
                }
                (Some(text), None) => {
                    let before = || BytesMut::from(&run.bytes()[unpinned_bytes..start]);
                    parcel::with_scalar(&message, field, text, filled.get_or_insert_with(before));
                }
            }
            pinned += 1;
        }
        if let Some(run) = run.take_front(usize::MAX, unpinned) {
            sorted.push(Sorted { run, subject: self.subjects.find(&self.source, None), key: None });
        }
        if let Some(as_they_came) = run.take_front(usize::MAX, pinned) {
            let run = filled.map_or(as_they_came, |filled| Run::of_framed(filled.freeze(), pinned));
            sorted.push(Sorted { run, subject: self.subject(None), key: self.call_key });
        }
        outcome
    }

    /// What the call belongs to by now, or with the opening it has just said.
    fn subject(&self, opening: Option<Opening>) -> Rc<Subject> {
        match (&self.subject, opening) {
            (Some(subject), None) => Rc::clone(subject),
            (_, opening) => self.subjects.find(&self.source, opening),
        }
    }
}

// === impl Subjects ===

impl Subjects {
    /// The one subject that is like this.
    pub fn find(&self, source: &Source, opening: Option<Opening>) -> Rc<Subject> {
        let Source { method: path, flow, authentication } = source.clone();
        let hash = self.hasher.hash_one((path, opening.as_ref().map(|opening| &opening.value), &authentication));
        let mut known = self.known.borrow_mut();
        let alike = known.entry(hash).or_default();
        alike.retain(|subject| subject.strong_count() > 0);
        let same = |subject: &Rc<Subject>| {
            subject.path == path && subject.opening == opening && subject.authentication == authentication
        };
        if let Some(subject) = alike.iter().filter_map(Weak::upgrade).find(same) {
            return subject;
        }
        let subject = Rc::new(Subject { path, flow, opening, authentication });
        alike.push(Rc::downgrade(&subject));
        if known.len().is_power_of_two() {
            known.retain(|_, alike| alike.iter().any(|subject| subject.strong_count() > 0));
        }
        subject
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::frames::Frames;
    use crate::message::run::Message;

    fn log(service: &str, text: &str) -> Message {
        let mut body = BytesMut::new();
        field::put_bytes(&mut body, 2, service.as_bytes());
        field::put_bytes(&mut body, 5, text.as_bytes());
        Message::of_body(&body)
    }

    fn run(messages: &[Message]) -> Run {
        let mut frames = Frames::new(1 << 20);
        let whole: Vec<u8> = messages.iter().flat_map(|message| message.framed().to_vec()).collect();
        frames.push(whole.into());
        frames.next_run().unwrap().unwrap()
    }

    fn sorter(carry: Option<Carry>, key: Option<SortKey>, subjects: &Rc<Subjects>) -> Sorter {
        let source = Source { method: "/logs", flow: Flow::Logs, authentication: None };
        Sorter::new(&Sort { carry, key, sticky: false }, source, subjects, true)
    }

    fn services(sorted: &[Sorted]) -> Vec<Option<String>> {
        let service = |message: Message| {
            let body = message.body();
            let text = field::last_bytes(&body, 2).unwrap().unwrap_or_default();
            (!text.is_empty()).then(|| String::from_utf8(text.to_vec()).unwrap())
        };
        sorted.iter().flat_map(|sorted| sorted.run.iter().map(service).collect::<Vec<_>>()).collect()
    }

    const SERVICE: Option<Carry> = Some(Carry::FirstNonEmptyText { field: 2 });
    const IDENTIFIER: Option<Carry> = Some(Carry::FirstMessageOnly { field: 1 });

    #[test]
    fn logs_that_lack_their_service_say_the_stream_s_first_one() {
        let subjects = Rc::new(Subjects::default());
        let (mut sorter, mut sorted) = (sorter(SERVICE, None, &subjects), Vec::new());
        sorter.sort(run(&[log("", "too early"), log("shop", "a"), log("", "b")]), &mut sorted).unwrap();
        sorter.sort(run(&[log("", "c"), log("till", "d")]), &mut sorted).unwrap();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(services(&sorted), [None, some("shop"), some("shop"), some("shop"), some("till")]);
        assert_eq!(sorted[0].subject.opening, None);
        assert!(sorted[1..].iter().all(|part| Rc::ptr_eq(&part.subject, &sorted[1].subject)));
        assert_eq!(sorted[1].subject.opening.as_ref().unwrap().value.as_deref(), Some(&b"shop"[..]));
    }

    #[test]
    fn a_run_that_lacks_nothing_is_not_copied() {
        let subjects = Rc::new(Subjects::default());
        let (mut sorter, mut sorted) = (sorter(SERVICE, None, &subjects), Vec::new());
        let whole = run(&[log("shop", "a"), log("shop", "b")]);
        sorter.sort(whole.clone(), &mut sorted).unwrap();
        assert_eq!(sorted[0].run.bytes().as_ptr(), whole.bytes().as_ptr());
    }

    #[test]
    fn calls_that_carry_the_same_share_one_subject_and_others_do_not() {
        let subjects = Rc::new(Subjects::default());
        let subject_of = |service: &str| {
            let mut sorted = Vec::new();
            sorter(SERVICE, None, &subjects).sort(run(&[log(service, "a")]), &mut sorted).unwrap();
            Rc::clone(&sorted[0].subject)
        };
        let (one, same, other) = (subject_of("shop"), subject_of("shop"), subject_of("till"));
        assert!(Rc::ptr_eq(&one, &same) && !Rc::ptr_eq(&one, &other));
    }

    #[test]
    fn an_identifier_is_read_from_the_first_message_only_even_when_that_has_none() {
        let subjects = Rc::new(Subjects::default());
        let (mut sorter, mut sorted) = (sorter(IDENTIFIER, Some(SortKey::EnvoyNode), &subjects), Vec::new());
        let mut named = BytesMut::new();
        field::put_bytes(&mut named, 1, b"identifier");
        sorter.sort(run(&[log("x", "no identifier")]), &mut sorted).unwrap();
        sorter.sort(run(&[Message::of_body(&named)]), &mut sorted).unwrap();
        assert!(Rc::ptr_eq(&sorted[0].subject, &sorted[1].subject));
        assert_eq!(sorted[1].subject.opening, Some(Opening { field: 1, value: None }));
    }

    #[test]
    fn keys_that_no_contract_asks_for_are_read_only_where_the_pool_hashes() {
        let subjects = Rc::new(Subjects::default());
        let keys = |hashes: bool, sticky: bool| {
            let source = Source { method: "/traces", flow: Flow::Traces, authentication: None };
            let sort = Sort { carry: None, key: Some(SortKey::Text { field: 2 }), sticky };
            let mut sorted = Vec::new();
            let messages = run(&[log("one", "a"), log("two", "b"), log("one", "c"), log("", "no key")]);
            Sorter::new(&sort, source, &subjects, hashes).sort(messages, &mut sorted).unwrap();
            sorted.iter().map(|part| part.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(false, false), [None]);
        let hashed = keys(true, false);
        assert_eq!(hashed, keys(false, true));
        assert_eq!(hashed[0], hashed[2]);
        assert_ne!(hashed[0], hashed[1]);
    }

    #[test]
    fn messages_before_a_broken_one_are_kept() {
        let subjects = Rc::new(Subjects::default());
        let (mut sorter, mut sorted) = (sorter(SERVICE, None, &subjects), Vec::new());
        let messages = [log("", "early"), log("shop", "a"), log("", "b"), Message::of_body(&[0x0a, 200]), log("", "c")];
        assert!(sorter.sort(run(&messages), &mut sorted).is_err());
        let shop = || Some("shop".to_owned());
        assert_eq!(services(&sorted), [None, shop(), shop()]);
    }

    #[test]
    fn a_message_that_is_not_protobuf_is_refused() {
        let subjects = Rc::new(Subjects::default());
        let broken = run(&[Message::of_body(&[0x0a, 200])]);
        assert!(sorter(SERVICE, None, &subjects).sort(broken, &mut Vec::new()).is_err());
    }
}
