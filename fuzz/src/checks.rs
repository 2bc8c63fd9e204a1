//! What must hold for any input at all. The fuzz targets call these, and so does tests/corpus.rs.
//!
//! Each takes raw bytes, reads what it needs of settings off their front and panics when something does not hold.

mod http2;
mod records;

use std::collections::HashMap;
use std::io::Write as _;

use bytes::Bytes;
use http::HeaderMap;
use switchyard::config::{Overrides, Plan, load_with};
use switchyard::message::context::Context;
use switchyard::message::field::{self, Value, fields};
use switchyard::message::frames::{Counter, FrameError, Frames};
use switchyard::message::path::FieldPath;
use switchyard::message::run::{Message, PREFIX_BYTES};
use switchyard::route::contract::Key;
use switchyard::route::reading::Reading;
use switchyard::route::rule::decide::Rules;
use switchyard::wire::compression::{Encoding, InflateError};

pub use http2::{hpack, http2_client, http2_server};
pub use records::records;

/// However a stream is chunked, what comes out is what a parser that sees all of it at once finds.
///
/// Input: limit, number of chunk sizes, the sizes (used again and again), the stream.
pub fn frames(input: &[u8]) {
    let [limit, sizes, rest @ ..] = input else { return };
    let limit = usize::from(*limit) * 8;
    let (sizes, stream) = rest.split_at(rest.len().min(usize::from(*sizes)));
    let (expected, end) = parsed_at_once(stream, limit);

    let (mut frames, mut counter) = (Frames::new(limit), Counter::new(limit));
    let (mut cut, mut counted) = (Vec::new(), Ok(0));
    let mut outcome = Ok(());
    for chunk in chunks(stream, sizes) {
        counted = counted.and_then(|sum| counter.count(chunk).map(|more| sum + more as usize));
        frames.push(Bytes::copy_from_slice(chunk));
        outcome = drain(&mut frames, &mut cut, usize::from(limit as u8));
        if outcome.is_err() {
            break;
        }
    }
    assert_eq!(cut, expected, "messages");
    match end {
        Ok(left) => {
            assert_eq!(outcome, Ok(()));
            assert_eq!(frames.is_mid_message(), left > 0, "{left} bytes are left");
            assert_eq!(frames.partial_bytes(), left);
            assert_eq!(counted, Ok(expected.len()), "the counter");
        }
        Err(error) => {
            assert_eq!(outcome, Err(error));
            assert_eq!(counted, Err(error), "the counter");
        }
    }
}

/// Whole framed messages, and the bytes left behind them or what is wrong there.
fn parsed_at_once(stream: &[u8], limit: usize) -> (Vec<Vec<u8>>, Result<usize, FrameError>) {
    let (mut messages, mut rest) = (Vec::new(), stream);
    while let Some([flag, a, b, c, d]) = rest.first_chunk::<PREFIX_BYTES>() {
        let announced = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if *flag > 1 {
            return (messages, Err(FrameError::BadFlag(*flag)));
        }
        if announced > limit {
            return (messages, Err(FrameError::Oversize { announced, limit }));
        }
        let Some((message, behind)) = rest.split_at_checked(PREFIX_BYTES + announced) else { break };
        messages.push(message.to_vec());
        rest = behind;
    }
    (messages, Ok(rest.len()))
}

fn chunks<'a>(mut stream: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    // Sizes that are all 0 would never end.
    for size in sizes.iter().cycle().take(stream.len()) {
        let (chunk, rest) = stream.split_at(stream.len().min(usize::from(*size)));
        chunks.push(chunk);
        stream = rest;
    }
    chunks.push(stream);
    chunks
}

/// Takes what is whole, each run in pieces of at most `bytes_max` bytes and three messages.
fn drain(frames: &mut Frames, cut: &mut Vec<Vec<u8>>, bytes_max: usize) -> Result<(), FrameError> {
    while let Some(mut run) = frames.next_run()? {
        let before = cut.len();
        cut.extend(run.iter().map(|message| message.framed().to_vec()));
        assert_eq!(cut.len() - before, run.messages() as usize);
        assert_eq!(cut[before..].concat(), run.bytes()[..]);
        assert_eq!(run.any_compressed(), cut[before..].iter().any(|message| message[0] == 1));
        let mut at = before;
        while let Some(part) = run.take_front(bytes_max, 3) {
            assert!(part.messages() <= 3 && (part.messages() == 1 || part.bytes().len() <= bytes_max));
            let next = at + part.messages() as usize;
            assert_eq!(cut[at..next].concat(), part.bytes()[..], "a piece of a run");
            at = next;
        }
        assert_eq!(at, cut.len(), "the pieces are the run");
    }
    Ok(())
}

/// The fields of a message lie one behind the other up to its end or to what is broken, and what looks one up agrees.
pub fn field_scan(message: &[u8]) {
    let mut end = 0;
    let mut broken = None;
    let mut found: HashMap<u32, Vec<&[u8]>> = HashMap::new();
    for field in fields(message) {
        assert_eq!(broken, None, "nothing comes after an error");
        match field {
            Ok(field) => {
                assert_eq!(field.range.start, end, "fields tile the message");
                assert!(field.range.end > end && field.range.end <= message.len());
                end = field.range.end;
                if let Value::Bytes(bytes) = field.value {
                    assert!(message[field.range].ends_with(bytes));
                    found.entry(field.number).or_default().push(bytes);
                }
            }
            Err(error) => broken = Some(error),
        }
    }
    assert_eq!(broken.map_or(message.len(), |error| error.at), end, "all of it was looked at");
    for number in found.keys().copied().chain([1, 2, 3]) {
        let all = found.get(&number).map(Vec::as_slice).unwrap_or_default();
        let last = field::last_bytes(message, number);
        assert_eq!(last.ok(), broken.is_none().then_some(all.last().copied()));
        match field::first_bytes(message, number) {
            Ok(first) => assert_eq!(first, all.first().copied()),
            Err(error) => assert_eq!((Some(error), all.len()), (broken, 0)),
        }
    }
    let paths = || vec![FieldPath::of(&[3]), FieldPath::of(&[1, 1])];
    let reading = Reading { body: message, carried: &[] };
    let _ = Key::Fields(paths()).of(&reading);
    assert!(Key::LastOfElements { field: 1, paths: paths() }.of(&reading).is_err() || broken.is_none());
}

/// What stands at the head of a stream says exactly what the opening says, and all else as it was.
///
/// Input: field number, length of its value (from 200 on: it has none), the value, the first message.
pub fn opening(input: &[u8]) {
    let [number, length, rest @ ..] = input else { return };
    let number = u32::from(*number % 20) + 1;
    let has_value = *length < 200;
    let (value, body) = rest.split_at(if has_value { rest.len().min(usize::from(*length)) } else { 0 });
    let value = has_value.then(|| Bytes::copy_from_slice(value));
    let opening = Context::new(vec![(number, value.clone())]);
    let parses = fields(body).all(|field| field.is_ok());
    let opened = match opening.open(&Message::of_body(body)) {
        Ok(opened) => opened.message,
        Err(_) => return assert!(!parses, "a message that parses can be opened"),
    };
    assert!(parses, "a message that does not parse is refused");
    let (before, after) = (apart(body, number), apart(&opened.body(), number));
    assert_eq!(after.0, value.iter().map(|value| value.to_vec()).collect::<Vec<_>>(), "the field");
    assert_eq!(after.1, before.1, "the other fields");
    assert_eq!(opening.open(&opened).map(|restated| restated.message), Ok(opened), "opening twice is opening once");
}

/// The values of a length-delimited field (an occurrence of another kind is none of them), and everything else.
fn apart(message: &[u8], number: u32) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut values, mut others) = (Vec::new(), Vec::new());
    for field in fields(message).map_while(Result::ok) {
        match field.value {
            Value::Bytes(value) if field.number == number => values.push(value.to_vec()),
            _ if field.number == number => {}
            _ => others.extend_from_slice(&message[field.range]),
        }
    }
    (values, others)
}

/// A body decompresses to what it was, to less than the limit or not at all.
///
/// Input: limit, whether the rest is compressed already, the rest.
pub fn inflate(input: &[u8]) {
    let [limit, as_is, rest @ ..] = input else { return };
    let limit = usize::from(*limit) * 16;
    assert_eq!(Encoding::Identity.inflate(rest, limit), Err(InflateError::Unannounced));
    if as_is % 2 == 0 {
        if let Ok(plain) = Encoding::Gzip.inflate(rest, limit) {
            assert!(plain.len() <= limit);
        }
        return;
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let body = encoder.write_all(rest).and_then(|()| encoder.finish()).expect("memory takes all");
    match Encoding::Gzip.inflate(&body, limit) {
        Ok(plain) => assert!(plain == rest && plain.len() <= limit),
        Err(error) => assert!(error == InflateError::Oversize(limit) && rest.len() > limit, "{error}"),
    }
}

/// Any text is a plan or problems that can be printed.
///
/// Input: the config; what stands before a NUL, if there is one, is the flag `--to`.
pub fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (to, text) = match text.split_once('\0') {
        Some((to, text)) => (Some(to.to_owned()), text),
        None => (None, &*text),
    };
    let variables = HashMap::from([("PORT".to_owned(), "11800".to_owned()), ("EMPTY".to_owned(), String::new())]);
    match load_with(text, "fuzz.yaml", &Overrides { to, ..Overrides::default() }, variables) {
        Ok((plan, warnings)) => {
            assert!(!plan.describe().is_empty() && !plan.pools[0].backends.is_empty());
            assert!(warnings.iter().all(|problem| !problem.to_string().is_empty()));
            ask_every_rule(&plan, input);
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            assert!(problems.iter().all(|problem| !problem.to_string().is_empty()));
        }
    }
}

/// Rules answer for any message, also for one that is a config.
fn ask_every_rule(plan: &Plan, message: &[u8]) {
    let message = Reading { body: message, carried: &[] };
    for route in plan.routes.all() {
        let rules = Rules::of(&route.rules, "agents", &HeaderMap::new());
        let rule = rules.verdict(&message).rule;
        assert!(
            rule.pool < plan.pools.len() && rule.mirror.as_ref().is_none_or(|mirror| mirror.pool < plan.pools.len())
        );
        let _ = rule.stops(&message, 1);
        let _ = rule.key.as_ref().map(|key| key.of(&message));
    }
}
