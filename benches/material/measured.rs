//! The parts of the data path that every message passes, each ready to be run again and again.

use std::future::poll_fn;
use std::hint::black_box;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use switchyard::message::budget::{Budget, Permit};
use switchyard::message::field;
use switchyard::message::flow::Flow;
use switchyard::message::frames::Frames;
use switchyard::message::parcel::{Parcel, Subject, cost};
use switchyard::message::path::FieldPath;
use switchyard::message::receipt::{Books, Receipt, Ticket};
use switchyard::message::run::Run;
use switchyard::message::tie::{Tie, Ties};
use switchyard::pool::ledger::Ledger;
use switchyard::pool::{self, Backends, Endpoint, Policy, Pool, Share, balance};
use switchyard::route::contract::Key;
use switchyard::route::reading::Reading;
use switchyard::route::sorter::{Sorter, Sorting};
use switchyard::wire::http2::Session;
use switchyard::wire::http2::frame::{INT31_MAX, WINDOW_BYTES, flag, kind};
use switchyard::wire::http2::handle::{Handle, Shared};
use switchyard::wire::http2::settings::Limits;
use switchyard::wire::stream::Chunk;

use super::backends::{KEY, Known};
use super::messages::{
    CHUNK_BYTES, LOGS, MESSAGES, METER_SETS, SATELLITE, SEGMENTS, access_log, body, meters, run_of, sorter, wire,
};
use super::peers::{Collector, call, frame};

/// Takes [`MESSAGES`] messages through one part.
pub type Part = Box<dyn FnMut()>;

/// Cuts messages out of DATA frames that do not line up with them.
pub fn frames(bytes: usize) -> Part {
    let wire = wire(&body(bytes, b"shop"));
    let chunks: Vec<Bytes> =
        (0..wire.len()).step_by(CHUNK_BYTES).map(|at| wire.slice(at..wire.len().min(at + CHUNK_BYTES))).collect();
    let mut frames = Frames::new(4 << 20);
    Box::new(move || {
        let mut messages = 0;
        for chunk in &chunks {
            frames.push(chunk.clone());
            while let Ok(Some(run)) = frames.next_run() {
                messages += black_box(run).messages();
            }
        }
        assert_eq!(messages as usize, MESSAGES);
    })
}

/// Looks for a log's service: the whole top level is read, because the last one wins.
pub fn scan() -> Part {
    let body = body(1024, b"shop");
    Box::new(move || {
        for _ in 0..MESSAGES {
            let service = field::last_bytes(black_box(&body), 2);
            assert_eq!(black_box(service), Ok(Some(&b"shop"[..])));
        }
    })
}

/// Reads a key by its path: a segment's first field, or a meter's fields within its collection.
pub fn key(of: &str) -> Part {
    let (key, body) = match of {
        "segment" => (Key::Fields(vec![FieldPath::of(&[1])]), body(1024, b"shop")),
        _ => (Key::LastOfElements { field: 1, paths: vec![FieldPath::of(&[3]), FieldPath::of(&[4])] }, meters()),
    };
    Box::new(move || {
        for _ in 0..MESSAGES {
            let key = key.of(&Reading { body: black_box(&body), carried: &[] });
            assert!(black_box(key).is_ok_and(|key| key.is_some()));
        }
    })
}

/// Sorts a run.
pub fn sort(what: &str) -> Part {
    let (path, before, run) = match what {
        "segments" => (SEGMENTS, None, run_of(&body(1024, b"shop"))),
        "logs that say their service" => (LOGS, Some(body(200, b"shop")), run_of(&body(200, b"shop"))),
        "logs that leave it out" => (LOGS, Some(body(200, b"shop")), run_of(&body(200, b""))),
        "access logs" => (SATELLITE, Some(body(200, b"")), run_of(&access_log())),
        _ => (METER_SETS, None, run_of(&meters())),
    };
    let (mut sorter, mut sorting): (Sorter, _) = (sorter(path), Sorting::default());
    if let Some(before) = before {
        sorter.sort(run_of(&before), &mut Sorting::default());
    }
    Box::new(move || {
        let messages = sorter.sort(run.clone(), &mut sorting);
        assert_eq!(messages as usize, MESSAGES);
        black_box(&sorting.sorted);
        sorting.sorted.clear();
    })
}

/// Chooses a backend.
pub fn choose(tie: Option<Tie>, backends: usize) -> Part {
    let policy = if tie.is_some() { Policy::Hash } else { Policy::LeastLoad };
    let (known, mut random) = (Known::alike(policy, backends), fastrand::Rng::with_seed(7));
    Box::new(move || {
        for _ in 0..MESSAGES {
            let chosen = balance::choose(black_box(tie), 1, &known, |below| random.usize(..below));
            assert!(black_box(chosen).is_some());
        }
    })
}

/// What ties messages that have a key.
pub const TIED: Option<Tie> = Some(Tie::Sticky(KEY));

/// Takes a permit for a chunk, splits off a parcel's and gives both back.
pub fn permit() -> Part {
    let budget = Budget::new(256 << 20);
    Box::new(move || {
        for _ in 0..MESSAGES {
            let mut permit = budget.try_reserve(Flow::Traces, black_box(16 << 10)).expect("nobody else takes any");
            drop(black_box(permit.split(black_box(1000))));
        }
    })
}

/// Issues a ticket and settles it.
pub fn ticket() -> Part {
    let receipt = Receipt::open(&Books::new());
    Box::new(move || (0..MESSAGES).for_each(|_| black_box(receipt.issue(black_box(1))).settle()))
}

/// Parcels of one segment of 200 bytes.
struct Packer {
    subject: Rc<Subject>,
    run: Run,
    permit: Permit,
    ticket: Ticket,
}

impl Packer {
    fn new() -> Self {
        let run = Run::of_body(&body(200, b"shop"));
        let permit = Budget::new(256 << 20).try_reserve(Flow::Traces, 10_000_000).expect("nobody else takes any");
        let ticket = Receipt::open(&Books::new()).issue(100_000);
        Self { subject: Rc::new(Subject::new(SEGMENTS, Flow::Traces)), permit, ticket, run }
    }

    fn pack(&mut self) -> Parcel {
        Parcel {
            run: self.run.clone(),
            subject: Rc::clone(&self.subject),
            context: None,
            ties: Ties::Alike(None),
            ticket: self.ticket.split(1),
            permit: self.permit.split(cost(&self.run)),
            suspicion: None,
        }
    }
}

/// Enters parcels of one message in a ledger and settles it.
pub fn settle() -> Part {
    let mut packer = Packer::new();
    Box::new(move || {
        let mut ledger = Ledger::default();
        (0..MESSAGES).for_each(|_| ledger.enter(packer.pack()));
        black_box(ledger).settle();
    })
}

/// Takes parcels of one message to a backend on a trip of their own, and its answer: door, lane, trip, ledger and our
/// HTTP/2, by a real socket.
pub fn trip() -> Part {
    let mut packer = Packer::new();
    delivered(1, move |pool, receipt| {
        (0..MESSAGES).for_each(|_| pool.take(Parcel { ticket: receipt.issue(1), ..packer.pack() }));
    })
}

/// The same with one parcel of messages that are each tied by another key, to three backends.
pub fn deal() -> Part {
    let mut packer = Packer::new();
    let messages = MESSAGES as u32;
    let run = Run::of_framed(packer.run.bytes().repeat(MESSAGES).into(), messages);
    delivered(3, move |pool, receipt| {
        let ties = Ties::Each((0..MESSAGES as u64).map(|key| Some(Tie::Sticky(key << 32))).collect());
        let permit = packer.permit.split(cost(&run));
        pool.take(Parcel { run: run.clone(), ties, permit, ticket: receipt.issue(messages), ..packer.pack() });
    })
}

/// Takes messages to so many backends and waits until they are answered for.
fn delivered(backends: usize, mut take: impl FnMut(&Rc<Pool>, &Receipt) + 'static) -> Part {
    let collectors: Vec<_> = std::iter::repeat_with(Collector::start).take(backends).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
    let local = tokio::task::LocalSet::new();
    let address = |at: &Collector| Endpoint { host: at.address().ip().to_string(), port: at.address().port() };
    let books = Books::new();
    let pool = local.block_on(&runtime, async {
        let settings = pool::Settings::new("measured", collectors.iter().map(address).collect());
        Pool::new(&Backends::new(settings), Share { number: 0, workers: 1 }, &books)
    });
    Box::new(move || {
        let receipt = Receipt::open(&books);
        let delivered = books.totals().delivered + MESSAGES as u64;
        local.block_on(&runtime, async {
            take(&pool, &receipt);
            pool.hurry(Flow::Traces);
            let _ = poll_fn(|cx| receipt.poll_settled(cx)).await;
        });
        assert_eq!(books.totals().delivered, delivered);
    })
}

fn limits() -> Limits {
    Limits {
        streams_max: 100,
        header_list_bytes_max: 16 << 10,
        stream_window_bytes: 256 << 10,
        connection_window_bytes: 1 << 20,
    }
}

/// Throws away what a session would write.
fn write_out(session: &Shared) {
    let mut session = session.borrow_mut();
    while !session.output().is_empty() {
        let (slices, filled) = session.output().slices::<8>();
        let bytes = slices[..filled].iter().map(|slice| black_box(slice).len()).sum();
        session.written(bytes);
    }
}

/// Receives a DATA frame for each message, takes what came as a chunk and gives the window back.
pub fn receive(bytes: usize) -> Part {
    let session: Shared = Rc::new(Session::server(limits()).into());
    let greeting = [frame(kind::SETTINGS, 0, 0, &[]), frame(kind::SETTINGS, flag::ACK, 0, &[]), call(SEGMENTS)];
    session.borrow_mut().receive(switchyard::wire::http2::frame::PREFACE);
    session.borrow_mut().receive(&greeting.concat());
    let (_, stream) = Handle::accept(&session).expect("a call has begun");
    let message = frame(kind::DATA, 0, 1, Run::of_body(&body(bytes, b"shop")).bytes());
    let (read, length) = (message.repeat(MESSAGES), (message.len() - 9) * MESSAGES);
    Box::new(move || {
        session.borrow_mut().receive(black_box(&read));
        let chunk = stream.poll_chunk(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(&chunk, Poll::Ready(Chunk::Data(chunk)) if chunk.len() == length));
        drop(black_box(chunk));
        stream.release(length);
        write_out(&session);
    })
}

/// Sends messages one by one, as chunks of their own, and writes them out.
pub fn send(bytes: usize) -> Part {
    let session: Shared = Rc::new(Session::client(limits()).into());
    let window = [&4u16.to_be_bytes()[..], &INT31_MAX.to_be_bytes()].concat();
    let greeting = [
        frame(kind::SETTINGS, 0, 0, &window),
        frame(kind::WINDOW_UPDATE, 0, 0, &(INT31_MAX - WINDOW_BYTES).to_be_bytes()),
    ];
    session.borrow_mut().receive(&greeting.concat());
    let head = http::Request::post(format!("http://collector{SEGMENTS}")).body(()).expect("it is well formed");
    let stream = Handle::call(&session, head).expect("the peer is there");
    let message = Run::of_body(&body(bytes, b"shop")).bytes().clone();
    Box::new(move || {
        stream.want(message.len() * MESSAGES);
        assert!(stream.room() >= message.len() * MESSAGES);
        (0..MESSAGES).for_each(|_| assert!(stream.send(black_box(message.clone())).is_ok()));
        write_out(&session);
    })
}
