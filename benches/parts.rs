//! What single parts of the main road cost. `cargo bench --bench parts`
//!
//! Figures are per iteration; where an iteration handles many messages the throughput says how many.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use switchyard::message::budget::Budget;
use switchyard::message::field;
use switchyard::message::flow::Flow;
use switchyard::message::frames::Frames;
use switchyard::message::receipt::{Books, Receipt};
use switchyard::message::run::Run;
use switchyard::pool::Policy;
use switchyard::pool::balance::{Balancer, Candidates};
use switchyard::route::Routes;
use switchyard::route::contract::{Carry, Sort, SortKey};
use switchyard::route::key;
use switchyard::route::sorter::{Sorter, Source, Subjects};

fn main() {
    // What counts counts for real.
    switchyard::metrics::install();
    divan::main();
}

/// DATA frames are 16 KiB unless the peer is told otherwise.
const CHUNK_BYTES: usize = 16 << 10;
const MESSAGES: usize = 64;
const LOGS: &str = "/skywalking.v3.LogReportService/collect";

/// A log or segment of `bytes` bytes: its service is field 2, its bulk field 5.
fn body(bytes: usize, service: &[u8]) -> BytesMut {
    let mut body = BytesMut::new();
    field::put_bytes(&mut body, 1, b"0123456789abcdef");
    if !service.is_empty() {
        field::put_bytes(&mut body, 2, service);
    }
    field::put_bytes(&mut body, 3, b"instance-7");
    let missing = bytes - body.len() - 3;
    field::put_bytes(&mut body, 5, &vec![b'x'; missing]);
    body
}

fn wire(bytes: usize, service: &[u8]) -> Bytes {
    let message = Run::of_body(&body(bytes, service));
    message.bytes().repeat(MESSAGES).into()
}

fn run_of(bytes: usize, service: &[u8]) -> Run {
    let mut frames = Frames::new(1 << 20);
    frames.push(wire(bytes, service));
    frames.next_run().ok().flatten().expect("a chunk of whole messages")
}

/// Cuts 64 messages out of DATA frames that do not line up with them.
#[divan::bench(args = [200, 1024])]
fn frames_cut(bencher: Bencher, bytes: usize) {
    let wire = wire(bytes, b"shop");
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        let mut frames = Frames::new(4 << 20);
        let mut messages = 0;
        for start in (0..wire.len()).step_by(CHUNK_BYTES) {
            frames.push(wire.slice(start..wire.len().min(start + CHUNK_BYTES)));
            while let Ok(Some(run)) = frames.next_run() {
                messages += black_box(run).messages();
            }
        }
        messages
    });
}

/// The service of a 1 KiB log: the whole top level is read, because the last one wins.
#[divan::bench]
fn scan_service(bencher: Bencher) {
    let body = body(1024, b"shop");
    bencher.bench_local(|| field::last_bytes(black_box(&body), 2).map(|service| service.map(<[u8]>::len)));
}

/// The key of a 1 KiB meter collection: service and instance of each of its meters.
#[divan::bench]
fn scan_meter_key(bencher: Bencher) {
    let mut meter = BytesMut::new();
    field::put_bytes(&mut meter, 3, b"shop");
    field::put_bytes(&mut meter, 4, b"instance-7");
    field::put_bytes(&mut meter, 2, &[b'x'; 100]);
    let mut collection = BytesMut::new();
    while collection.len() < 1024 - meter.len() {
        field::put_bytes(&mut collection, 1, &meter);
    }
    bencher.bench_local(|| key::of_meter_collection(black_box(&collection)));
}

fn sorter(sort: &Sort) -> Sorter {
    let source = Source { method: LOGS, flow: Flow::Logs, authentication: None };
    Sorter::new(sort, source, &Rc::new(Subjects::default()), false)
}

/// Sorts a run of 64 logs of 200 B: all say their service, or all but the first leave it out and get it said again.
#[divan::bench(args = ["said", "left out"])]
fn sort_logs(bencher: Bencher, service: &str) {
    let mut sorter = sorter(&Sort { carry: Some(Carry::FirstNonEmptyText { field: 2 }), key: None, sticky: false });
    let mut sorted = Vec::new();
    sorter.sort(run_of(200, b"shop"), &mut sorted).expect("protobuf");
    let run = if service == "said" { run_of(200, b"shop") } else { run_of(200, b"") };
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        sorted.clear();
        sorter.sort(run.clone(), &mut sorted).map(|()| sorted.len())
    });
}

/// Sorts a run of 64 segments, which need nothing read.
#[divan::bench]
fn sort_segments(bencher: Bencher) {
    let mut sorter = sorter(&Sort { carry: None, key: None, sticky: false });
    let (run, mut sorted) = (run_of(1024, b"shop"), Vec::new());
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        sorted.clear();
        sorter.sort(run.clone(), &mut sorted).map(|()| sorted.len())
    });
}

/// Sorts a run of 64 meter collections, each by its own key.
#[divan::bench]
fn sort_meters(bencher: Bencher) {
    let mut meter = BytesMut::new();
    field::put_bytes(&mut meter, 3, b"shop");
    field::put_bytes(&mut meter, 4, b"instance-7");
    let mut collection = BytesMut::new();
    field::put_bytes(&mut collection, 1, &meter);
    let framed = Run::of_body(&collection).bytes().repeat(MESSAGES);
    let run = Run::of_framed(framed.into(), MESSAGES as u32);
    let mut sorter = sorter(&Sort { carry: None, key: Some(SortKey::MeterCollection), sticky: true });
    let mut sorted = Vec::new();
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        sorted.clear();
        sorter.sort(run.clone(), &mut sorted).map(|()| sorted.len())
    });
}

struct Known(Vec<(u64, u64)>);

impl Candidates for Known {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn is_usable(&self, _: usize) -> bool {
        true
    }

    fn load(&self, at: usize) -> u64 {
        self.0[at].0
    }

    fn name_hash(&self, at: usize) -> u64 {
        self.0[at].1
    }
}

fn choose(bencher: Bencher, policy: Policy, key: Option<u64>, backends: usize) {
    let mut random = fastrand::Rng::with_seed(7);
    let known = Known((0..backends).map(|_| (random.u64(..1 << 20), random.u64(..))).collect());
    let mut balancer = Balancer::default();
    bencher.bench_local(|| balancer.choose(policy, black_box(key), 1, &known, |below| random.usize(..below)));
}

#[divan::bench(args = [3, 300])]
fn choose_least_load(bencher: Bencher, backends: usize) {
    choose(bencher, Policy::LeastLoad, None, backends);
}

#[divan::bench(args = [3, 300])]
fn choose_by_key(bencher: Bencher, backends: usize) {
    choose(bencher, Policy::Hash, Some(0x1234_5678_9abc_def0), backends);
}

#[divan::bench]
fn find_route(bencher: Bencher) {
    let routes = Routes::new(&[]);
    bencher.bench_local(|| routes.find(black_box(LOGS), None).is_ok());
}

/// A permit from the flow's own reserve, and one that also needs the shared part.
#[divan::bench(args = ["reserve", "shared"])]
fn budget_reserve_release(bencher: Bencher, from: &str) {
    let budget: Arc<Budget> = Budget::new(256 << 20);
    let _held = (from == "shared").then(|| budget.try_reserve(Flow::Traces, 16 << 20));
    bencher.bench_local(|| budget.try_reserve(Flow::Traces, black_box(16 << 10)).is_some());
}

#[divan::bench]
fn ticket_issue_settle(bencher: Bencher) {
    let receipt = Receipt::open(&Books::new());
    bencher.bench_local(|| receipt.issue(black_box(16)).settle());
}
