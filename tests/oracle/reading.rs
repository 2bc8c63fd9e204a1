//! What receivers make of streams when there is no network between: the yardstick of both ways.

use switchyard::testkit::attribution::Attributed;
use switchyard::testkit::methods::MethodId;
use switchyard::testkit::receivers::{End, Receiver};
use switchyard::testkit::tally::{Detail, Tally};

use crate::traffic::{Call, Ending};

/// A stream as a receiver gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub path: String,
    pub messages: Vec<Vec<u8>>,
    pub end: End,
}

impl Stream {
    /// What a call would be if it met its receiver directly.
    pub fn of(call: &Call) -> Self {
        let messages = call.messages.iter().map(|said| said.body.clone()).collect();
        let end = if call.ending == Ending::Reset { End::Broken } else { End::Clean };
        Self { path: call.path.clone(), messages, end }
    }

    /// A stream that is half-closed.
    pub fn whole(path: &str, messages: Vec<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), messages, end: End::Clean }
    }
}

/// Every item of these streams.
pub fn read<'a>(streams: impl IntoIterator<Item = &'a Stream>) -> Attributed {
    let mut tally = Tally::new(Detail::Items, None).expect("there is no log to open");
    for stream in streams {
        let mut receiver = Receiver::new(MethodId::find(&stream.path).expect("a method of the test kit"));
        let mut messages = stream.messages.iter();
        let read = messages.try_for_each(|body| receiver.message(body, &mut tally).map(drop));
        // Whoever throws at the half-close has filed what came before.
        let _ = receiver.end(if read.is_ok() { stream.end } else { End::Closed }, &mut tally);
    }
    tally.attributed().clone()
}
