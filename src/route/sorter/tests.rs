//! The sorter against calls of every kind.

mod rules;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

use super::*;
use crate::message::field::{self, Value};
use crate::message::flow::Flow;
use crate::message::frames::Frames;
use crate::message::path::FieldPath;
use crate::message::run::Message;
use crate::route::contract::{Carry, CarryMode, Contract, Key, Need};
use crate::route::key::of_parts;
use crate::route::rule::Rule;
use crate::route::{Method, Origin};

/// A message with these text fields.
fn message(fields: &[(u32, &str)]) -> Message {
    let mut body = BytesMut::new();
    for (number, text) in fields {
        field::put_bytes(&mut body, *number, text.as_bytes());
    }
    Message::of_body(&body)
}

fn log(service: &str, text: &str) -> Message {
    message(&[(2, service), (5, text)])
}

fn broken() -> Message {
    Message::of_body(&[0x0a, 200])
}

fn run(messages: &[Message]) -> Run {
    let mut frames = Frames::new(1 << 20);
    let whole: Vec<u8> = messages.iter().flat_map(|message| message.framed().to_vec()).collect();
    frames.push(whole.into());
    frames.next_run().unwrap().unwrap()
}

/// A worker's sorters.
struct Worker(Shared);

impl Worker {
    fn new(hashes: bool) -> Self {
        Self(Shared {
            subjects: Rc::default(),
            wishes: Rc::from([if hashes { Wish::Hash } else { Wish::Nothing }, Wish::Nothing]),
        })
    }

    fn sorter_with(&self, contract: Contract, rules: Vec<Rule>, token: Option<&'static str>) -> Sorter {
        let method = Method {
            path: "/test.Service/Method",
            package_less: None,
            flow: Flow::Logs,
            contract,
            fields: Vec::new(),
            origin: Origin::Config,
        };
        let rules = rules.into_iter().map(Arc::new).chain([Rule::for_the_rest()]).collect();
        let token = token.map(|token| (HeaderName::from_static("authentication"), HeaderValue::from_static(token)));
        let route = Arc::new(Route { method, rules });
        Sorter::new(&route, "agents", &HeaderMap::new(), token.into_iter().collect(), Vec::new(), &self.0)
    }

    fn sorter(&self, contract: Contract) -> Sorter {
        self.sorter_with(contract, Vec::new(), None)
    }
}

fn carry(mode: CarryMode, fields: &[u32]) -> Contract {
    Contract::of(Split::Carry(Carry { fields: fields.to_vec(), mode }))
}

fn logs() -> Contract {
    carry(CarryMode::FirstNonEmpty, &[2])
}

fn keyed(field: u32, sticky: bool) -> Contract {
    Contract { key: Some(Key::Fields(vec![FieldPath::of(&[field])])), sticky, ..Contract::of(Split::Each) }
}

fn sort(sorter: &mut Sorter, messages: &[Message]) -> Sorting {
    let mut out = Sorting::default();
    let held_before = sorter.held().1;
    let counted = sorter.sort(run(messages), &mut out) + held_before;
    let placed: u32 = out.sorted.iter().map(|part| part.run.messages()).sum();
    let gone: u32 = out.gone.iter().map(|gone| gone.messages).sum();
    assert_eq!(counted, placed + gone + sorter.held().1, "every message is somewhere");
    out
}

fn text(message: &Message, number: u32) -> Option<String> {
    let body = message.body();
    let text = field::last_bytes(&body, number).unwrap().unwrap_or_default();
    (!text.is_empty()).then(|| String::from_utf8(text.to_vec()).unwrap())
}

fn texts(sorting: &Sorting, number: u32) -> Vec<Option<String>> {
    sorting
        .sorted
        .iter()
        .flat_map(|part| part.run.iter().map(|message| text(&message, number)).collect::<Vec<_>>())
        .collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn carried(context: &Option<Rc<Context>>) -> Vec<Option<Bytes>> {
    context.as_ref().unwrap().fields().iter().map(|(_, value)| value.clone()).collect()
}

fn values(texts: &[Option<&'static str>]) -> Vec<Option<Bytes>> {
    texts.iter().map(|text| text.map(|text| Bytes::from_static(text.as_bytes()))).collect()
}

#[test]
fn logs_that_lack_their_service_say_the_stream_s_first_one() {
    let worker = Worker::new(false);
    let mut sorter = worker.sorter(logs());
    let first = sort(&mut sorter, &[log("", "too early"), log("shop", "a"), log("", "b")]);
    let then = sort(&mut sorter, &[log("", "c"), log("till", "d")]);
    assert_eq!(texts(&first, 2), [None, some("shop"), some("shop")]);
    assert_eq!(texts(&then, 2), [some("shop"), some("till")]);
    assert_eq!(first.sorted[0].subject.opening, None);
    assert!(Rc::ptr_eq(&first.sorted[1].subject, &then.sorted[0].subject));
    let opening = first.sorted[1].subject.opening.clone();
    assert_eq!(carried(&opening), values(&[Some("shop")]));
}

#[test]
fn a_run_that_lacks_nothing_is_not_copied() {
    let worker = Worker::new(false);
    let whole = run(&[log("shop", "a"), log("shop", "b")]);
    let mut out = Sorting::default();
    worker.sorter(logs()).sort(whole.clone(), &mut out);
    assert_eq!(out.sorted[0].run.bytes().as_ptr(), whole.bytes().as_ptr());
}

#[test]
fn calls_that_carry_the_same_share_one_subject_and_others_do_not() {
    let worker = Worker::new(false);
    let subject_of = |service: &str, token: Option<&'static str>| {
        let mut sorter = worker.sorter_with(logs(), Vec::new(), token);
        Rc::clone(&sort(&mut sorter, &[log(service, "a")]).sorted[0].subject)
    };
    let (one, same, other) = (subject_of("shop", None), subject_of("shop", None), subject_of("till", None));
    assert!(Rc::ptr_eq(&one, &same) && !Rc::ptr_eq(&one, &other));
    assert!(!Rc::ptr_eq(&one, &subject_of("shop", Some("tenant"))));
}

#[test]
fn an_identifier_is_read_from_the_first_message_only_even_when_that_has_none() {
    let worker = Worker::new(false);
    let mut sorter = worker.sorter(carry(CarryMode::FirstMessage, &[1]));
    let first = sort(&mut sorter, &[log("x", "no identifier")]);
    let then = sort(&mut sorter, &[message(&[(1, "identifier")])]);
    assert!(Rc::ptr_eq(&first.sorted[0].subject, &then.sorted[0].subject));
    assert_eq!(carried(&then.sorted[0].subject.opening), values(&[None]));
}

#[test]
fn a_first_message_that_is_broken_says_nothing_for_the_others() {
    let worker = Worker::new(false);
    let mut sorter = worker.sorter(carry(CarryMode::FirstMessage, &[1]));
    let sorting = sort(&mut sorter, &[broken(), message(&[(1, "envoy")]), message(&[(2, "entry")])]);
    assert_eq!(sorting.gone.len(), 1);
    assert_eq!(carried(&sorting.sorted[0].subject.opening), values(&[Some("envoy")]));
}

#[test]
fn what_is_carried_latest_is_what_was_said_last() {
    let worker = Worker::new(false);
    let mut sorter = worker.sorter(carry(CarryMode::Latest, &[1]));
    let first = sort(&mut sorter, &[log("", "nobody"), message(&[(1, "one")]), log("", "a"), message(&[(1, "one")])]);
    let then = sort(&mut sorter, &[log("", "b"), message(&[(1, "two")])]);
    let parts: Vec<_> =
        first.sorted.iter().chain(&then.sorted).map(|part| (part.run.messages(), carried(&part.context))).collect();
    assert_eq!(
        parts,
        [
            (1, values(&[None])),
            (1, values(&[Some("one")])),
            (2, values(&[Some("one")])),
            (1, values(&[Some("one")])),
            (1, values(&[Some("two")]))
        ]
    );
    assert!(Rc::ptr_eq(first.sorted[1].context.as_ref().unwrap(), then.sorted[0].context.as_ref().unwrap()));
    assert!(first.sorted.iter().chain(&then.sorted).all(|part| Rc::ptr_eq(&part.subject, &first.sorted[0].subject)));
}

#[test]
fn a_connection_keeps_the_node_it_was_said_under() {
    let worker = Worker::new(false);
    let mut sorter = worker.sorter(carry(CarryMode::Latest, &[1, 2]));
    let said = [
        message(&[(1, "node a"), (2, "connection 1")]),
        message(&[(1, "node b"), (3, "still of connection 1")]),
        message(&[(3, "still of connection 1")]),
        message(&[(2, "connection 1"), (3, "now under node b")]),
        message(&[(2, "connection 2")]),
    ];
    let sorting = sort(&mut sorter, &said);
    let by_message: Vec<_> =
        sorting.sorted.iter().flat_map(|part| vec![carried(&part.context); part.run.messages() as usize]).collect();
    let under_a = values(&[Some("node a"), Some("connection 1")]);
    let under_b = values(&[Some("node b"), Some("connection 1")]);
    let second = values(&[Some("node b"), Some("connection 2")]);
    assert_eq!(by_message, [under_a.clone(), under_a.clone(), under_a, under_b, second]);
    let two = sorting.sorted[1].context.as_ref().unwrap();
    assert!(!Rc::ptr_eq(two, sorting.sorted[0].context.as_ref().unwrap()), "the node in force is another");
}

#[test]
fn a_sub_message_in_several_pieces_is_carried_as_all_of_them() {
    let worker = Worker::new(false);
    let mut sorter = worker.sorter(carry(CarryMode::Latest, &[1]));
    let sorting = sort(&mut sorter, &[message(&[(1, "ab"), (3, "x"), (1, "cd")])]);
    assert_eq!(carried(&sorting.sorted[0].context), values(&[Some("abcd")]));
}

#[test]
fn keys_that_no_contract_asks_for_are_read_only_where_the_pool_hashes() {
    let keys = |hashes: bool, sticky: bool| {
        let mut sorter = Worker::new(hashes).sorter(keyed(2, sticky));
        let sorting = sort(&mut sorter, &[log("one", "a"), log("two", "b"), log("one", "c"), log("", "no key")]);
        sorting.sorted[0].ties.clone()
    };
    assert_eq!(keys(false, false), Ties::Alike(None));
    let (Ties::Each(hashed), Ties::Each(sticky)) = (keys(true, false), keys(false, true)) else {
        panic!("one for each")
    };
    assert_eq!(hashed[0], hashed[2]);
    assert_ne!(hashed[0], hashed[1]);
    assert_eq!(hashed[3], None);
    for (hashed, sticky) in hashed.into_iter().zip(sticky) {
        let Some(Tie::Hashed(key)) = hashed else { continue };
        assert_eq!(sticky, Some(Tie::Sticky(key)));
    }
}

#[test]
fn a_key_that_stands_in_what_is_carried_is_the_same_for_all_messages() {
    let contract = Contract { key: Some(Key::Fields(vec![FieldPath::of(&[2])])), sticky: true, ..logs() };
    let mut sorter = Worker::new(false).sorter(contract);
    let sorting = sort(&mut sorter, &[log("shop", "a"), log("", "b"), log("till", "c")]);
    assert_eq!((sorting.sorted.len(), sorting.sorted[0].run.messages()), (1, 3));
    assert_eq!(sorting.sorted[0].ties, Ties::Alike(Some(Tie::Sticky(of_parts([&b"shop"[..]])))));
}

#[test]
fn messages_of_one_rule_stay_together_whatever_ties_them() {
    let mut sorter = Worker::new(false).sorter(keyed(2, true));
    let sorting = sort(&mut sorter, &[log("one", "a"), log("two", "b"), log("one", "c")]);
    let tie = |service: &str| Some(Tie::Sticky(of_parts([service.as_bytes()])));
    assert_eq!(sorting.sorted[0].ties, Ties::Each(vec![tie("one"), tie("two"), tie("one")]));
}

#[test]
fn a_broken_message_is_refused_alone() {
    let some = |text: &str| Some(text.to_owned());
    for contract in [logs(), keyed(2, true)] {
        let mut sorter = Worker::new(false).sorter(contract);
        let sorting = sort(&mut sorter, &[log("shop", "a"), broken(), log("shop", "b")]);
        assert_eq!(texts(&sorting, 5), [some("a"), some("b")]);
        assert_eq!((sorting.gone[0].messages, sorting.gone[0].reason), (1, LostReason::Malformed));
        assert!(sorting.gone[0].complaint.is_some());
    }
}

#[test]
fn what_nobody_reads_is_not_judged() {
    let mut sorter = Worker::new(false).sorter(keyed(2, false));
    let sorting = sort(&mut sorter, &[broken(), log("shop", "a")]);
    assert_eq!((sorting.gone.len(), sorting.sorted[0].run.messages()), (0, 2));
}

#[test]
fn a_message_its_receiver_would_end_the_call_for_is_refused_alone() {
    let needs = vec![Need { any_of: vec![9], complaint: "an event must name its layer" }];
    let mut sorter = Worker::new(false).sorter(Contract { needs, ..Contract::of(Split::Each) });
    let events = [
        message(&[(1, "a"), (9, "GENERAL")]),
        message(&[(1, "b")]),
        message(&[(1, "c"), (9, "")]),
        message(&[(1, "d"), (9, "K8S")]),
    ];
    let sorting = sort(&mut sorter, &events);
    assert_eq!(texts(&sorting, 1), [some("a"), some("d")]);
    assert!(sorting.gone.iter().all(|gone| gone.complaint.as_deref() == Some("an event must name its layer")));
}

fn chunk(task: &str, is_last: bool) -> Message {
    let mut body = BytesMut::new();
    field::put_bytes(&mut body, 1, task.as_bytes());
    if is_last {
        field::put_varint(&mut body, 3 << 3);
        field::put_varint(&mut body, 1);
    }
    Message::of_body(&body)
}

#[test]
fn a_data_set_leaves_whole_or_not_at_all() {
    let mut sorter = Worker::new(false).sorter(Contract::of(Split::Sets { last: 3, name: 1 }));
    let first = sort(&mut sorter, &[chunk("a", false), chunk("a", false)]);
    assert!(first.sorted.is_empty());
    assert_eq!(sorter.held().1, 2);
    let then = sort(&mut sorter, &[chunk("a", true), chunk("b", false), chunk("c", true), chunk("", true)]);
    assert_eq!(then.sorted.iter().map(|set| set.run.messages()).collect::<Vec<_>>(), [3, 1]);
    assert!(then.sorted.iter().all(|set| set.subject.alone));
    let gone: Vec<_> = then.gone.iter().map(|gone| (gone.messages, gone.reason)).collect();
    assert_eq!(gone, [(1, LostReason::Unfinished), (1, LostReason::Malformed)]);
}

#[test]
fn a_data_set_that_is_broken_off_is_given_up() {
    let mut sorter = Worker::new(false).sorter(Contract::of(Split::Sets { last: 3, name: 1 }));
    sort(&mut sorter, &[chunk("a", false), chunk("a", false)]);
    let mut out = Sorting::default();
    sorter.end(false, &mut out);
    assert_eq!((out.gone[0].messages, out.gone[0].reason, sorter.held()), (2, LostReason::Unfinished, (0, 0)));
}

#[test]
fn a_batch_is_as_many_messages_of_the_streaming_method() {
    let contract = Contract {
        key: Some(Key::Fields(vec![FieldPath::of(&[1])])),
        ..Contract::of(Split::Elements { field: 1, path: "/test.Service/One" })
    };
    let mut sorter = Worker::new(true).sorter(contract);
    let element = |trace: &str| message(&[(1, trace)]).body();
    let mut batch = BytesMut::new();
    for trace in ["one", "two"] {
        field::put_bytes(&mut batch, 1, &element(trace));
    }
    let sorting = sort(&mut sorter, &[Message::of_body(&batch), broken(), Message::of_body(b"")]);
    assert_eq!((sorting.sorted.len(), sorter.held().1), (0, 2), "before its half-close a unary call has said nothing");
    let refused = sorting.gone.len();
    let mut sorting = Sorting::default();
    sorter.end(true, &mut sorting);
    assert_eq!(texts(&sorting, 1), [some("one"), some("two")]);
    assert_eq!(refused, 1);
    assert!(sorting.sorted.iter().all(|part| part.subject.path == "/test.Service/One"));
}

#[test]
fn a_carried_message_without_its_sub_message_keeps_its_bytes() {
    let worker = Worker::new(false);
    let whole = run(&[message(&[(1, "one"), (3, "a")]), message(&[(3, "b")]), message(&[(3, "c")])]);
    let mut out = Sorting::default();
    worker.sorter(carry(CarryMode::Latest, &[1])).sort(whole.clone(), &mut out);
    let bytes: Vec<u8> = out.sorted.iter().flat_map(|part| part.run.bytes().to_vec()).collect();
    assert_eq!(bytes, whole.bytes()[..]);
    let body = out.sorted[1].run.iter().next().unwrap().body();
    assert_eq!(field::fields(&body).next().unwrap().unwrap().value, Value::Bytes(b"b"));
}
