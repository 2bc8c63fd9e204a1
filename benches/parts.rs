//! What single parts of the main road cost. `cargo bench --bench parts`
//!
//! Figures are per iteration; where an iteration handles many messages the throughput says how many.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use switchyard::config::{Overrides, load_with};
use switchyard::message::budget::Budget;
use switchyard::message::field;
use switchyard::message::flow::Flow;
use switchyard::message::frames::Frames;
use switchyard::message::path::FieldPath;
use switchyard::message::receipt::{Books, Receipt};
use switchyard::message::run::Run;
use switchyard::pool::Policy;
use switchyard::pool::balance::{self, Candidates};
use switchyard::route::Routes;
use switchyard::route::contract::Key;
use switchyard::route::reading::Reading;
use switchyard::route::records::{Limits, Plan, Records, Signal};
use switchyard::route::rule::decide::Rules;
use switchyard::route::sorter::{Shared, Sorter, Sorting};

fn main() {
    // What counts counts for real.
    switchyard::metrics::install();
    divan::main();
}

/// DATA frames are 16 KiB unless the peer is told otherwise.
const CHUNK_BYTES: usize = 16 << 10;
const MESSAGES: usize = 64;
const LOGS: &str = "/skywalking.v3.LogReportService/collect";
const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const METER_SETS: &str = "/skywalking.v3.MeterReportService/collectBatch";
const ACCESS_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const SATELLITE: &str = "/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs";

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
    let key = Key::LastOfElements { field: 1, paths: vec![FieldPath::of(&[3]), FieldPath::of(&[4])] };
    bencher.bench_local(|| key.of(&Reading { body: black_box(&collection), carried: &[] }));
}

/// The key of a 1 KiB segment: its trace id, the first of its fields.
#[divan::bench]
fn key_of_segment(bencher: Bencher) {
    let body = body(1024, b"shop");
    let key = Key::Fields(vec![FieldPath::of(&[1])]);
    bencher.bench_local(|| key.of(&Reading { body: black_box(&body), carried: &[] }));
}

/// A key that is put together from two fields of a 1 KiB segment.
#[divan::bench]
fn key_of_two_fields(bencher: Bencher) {
    let body = body(1024, b"shop");
    let key = Key::Fields(vec![FieldPath::of(&[2]), FieldPath::of(&[3])]);
    bencher.bench_local(|| key.of(&Reading { body: black_box(&body), carried: &[] }));
}

/// A log of 1 KiB with service, instance and layer.
fn log() -> BytesMut {
    let mut log = body(1000, b"shop-eu");
    field::put_bytes(&mut log, 8, b"GENERAL");
    log
}

/// The rules that a route becomes for logs.
fn rules(route: &str) -> Rules {
    let text = format!("to: a:1\npools: {{ tail: b:1 }}\nroutes: [ {{ flow: logs, {route} }} ]\n");
    let loaded = load_with(&text, "bench.yaml", &Overrides::default(), HashMap::new());
    let (plan, _) = loaded.unwrap_or_else(|problems| panic!("{}", problems[0]));
    Rules::of(&plan.routes.find(LOGS, None).expect("a path of the catalogue").rules, "agents", &http::HeaderMap::new())
}

/// Which rule a log falls under, where three fields decide; it fits, so that all three are read.
#[divan::bench(args = ["equals", "globs", "one of", "regex"])]
fn rule_of_three_fields(bencher: Bencher, how: &str) {
    let rules = rules(match how {
        "equals" => "to: tail, message: { service: shop-eu, instance: instance-7, layer: GENERAL }",
        "globs" => "to: tail, message: { service: 'shop-*', instance: '*-7', layer: '*NERA*' }",
        "one of" => {
            "to: tail, message: { service: [till, shop-eu], instance: [a, instance-7], layer: [MESH, GENERAL] }"
        }
        _ => "to: tail, message: { service: { regex: '^shop-(eu|us)$' }, instance: '*-7', layer: GENERAL }",
    });
    let log = log();
    let verdict = |body| rules.verdict(&Reading { body, carried: &[] }).rule.pool;
    assert_eq!(verdict(&log), 1);
    bencher.bench_local(|| verdict(black_box(&log)));
}

/// Whether a log passes: a share by service, and a rate for each service.
#[divan::bench(args = ["sample", "limit", "limit per service"])]
fn rule_lets_pass(bencher: Bencher, what: &str) {
    let rules = rules(match what {
        "sample" => "sample: { share: 99%, by: service }",
        "limit" => "limit: 10M/s",
        _ => "limit: { rate: 10M/s, per: service }",
    });
    let log = log();
    let rule = rules.settled().expect("no message is asked");
    bencher.bench_local(|| rule.stops(&Reading { body: black_box(&log), carried: &[] }, 1));
}

fn sorter(path: &str) -> Sorter {
    let routes = Routes::of_catalogue();
    let route = routes.find(path, None).expect("a path of the catalogue");
    let shared = Shared { subjects: Rc::default(), hashes: Rc::from([false]) };
    Sorter::new(route, "agents", &http::HeaderMap::new(), Vec::new(), &shared)
}

/// Sorts a run over and over.
fn sort(bencher: Bencher, mut sorter: Sorter, run: &Run) {
    let mut sorting = Sorting::default();
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        sorting.sorted.clear();
        sorter.sort(run.clone(), &mut sorting)
    });
}

/// Sorts a run of 64 logs of 200 B: all say their service, or all but the first leave it out and get it said again.
#[divan::bench(args = ["said", "left out"])]
fn sort_logs(bencher: Bencher, service: &str) {
    let mut sorter = sorter(LOGS);
    sorter.sort(run_of(200, b"shop"), &mut Sorting::default());
    let run = if service == "said" { run_of(200, b"shop") } else { run_of(200, b"") };
    sort(bencher, sorter, &run);
}

/// Sorts a run of 64 segments, which need nothing read.
#[divan::bench]
fn sort_segments(bencher: Bencher) {
    sort(bencher, sorter(SEGMENTS), &run_of(1024, b"shop"));
}

/// Sorts a run of 64 access logs of a call whose identifier is carried: read on every message, or on the first only.
#[divan::bench(args = ["satellite", "standard"])]
fn sort_access_logs(bencher: Bencher, service: &str) {
    let path = if service == "satellite" { SATELLITE } else { ACCESS_LOGS };
    let mut entry = BytesMut::new();
    field::put_bytes(&mut entry, 2, &[b'x'; 1000]);
    let framed = Run::of_body(&entry).bytes().repeat(MESSAGES);
    let mut sorter = sorter(path);
    sorter.sort(run_of(200, b""), &mut Sorting::default());
    sort(bencher, sorter, &Run::of_framed(framed.into(), MESSAGES as u32));
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
    sort(bencher, sorter(METER_SETS), &Run::of_framed(framed.into(), MESSAGES as u32));
}

/// Load, name hash and turns given.
struct Known(Vec<(u64, u64, Cell<u64>)>);

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

    fn given(&self, at: usize) -> &Cell<u64> {
        &self.0[at].2
    }
}

fn choose(bencher: Bencher, policy: Policy, key: Option<u64>, backends: usize) {
    let mut random = fastrand::Rng::with_seed(7);
    let known = Known((0..backends).map(|_| (random.u64(..1 << 20), random.u64(..), Cell::default())).collect());
    bencher.bench_local(|| balance::choose(policy, black_box(key), 1, &known, |below| random.usize(..below)));
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
    let routes = Routes::of_catalogue();
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

/// An Export request of 512 spans of about 200 B from one sender, `together` spans of a trace one behind the other.
fn export_request(together: usize) -> BytesMut {
    let (mut resource, mut spans) = (BytesMut::new(), BytesMut::new());
    for (name, value) in [("service.name", "shop"), ("service.instance.id", "shop-7f9c"), ("host.name", "node-3")] {
        let (mut attribute, mut text) = (BytesMut::new(), BytesMut::new());
        field::put_bytes(&mut attribute, 1, name.as_bytes());
        field::put_bytes(&mut text, 1, value.as_bytes());
        field::put_bytes(&mut attribute, 2, &text);
        field::put_bytes(&mut resource, 1, &attribute);
    }
    let mut random = fastrand::Rng::with_seed(7);
    let mut trace = 0;
    for number in 0..SPANS {
        if number % together == 0 {
            trace = random.u128(..);
        }
        let mut span = BytesMut::new();
        field::put_bytes(&mut span, 1, &trace.to_le_bytes());
        field::put_bytes(&mut span, 2, &random.u64(..).to_le_bytes());
        field::put_bytes(&mut span, 5, b"GET /cart/{id}");
        field::put_bytes(&mut span, 9, &[b'x'; 150]);
        field::put_bytes(&mut spans, 2, &span);
    }
    let (mut scope, mut element, mut request) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    field::put_bytes(&mut scope, 1, b"\x0a\x03lib");
    scope.extend_from_slice(&spans);
    field::put_bytes(&mut element, 1, &resource);
    field::put_bytes(&mut element, 2, &scope);
    field::put_bytes(&mut element, 3, b"https://opentelemetry.io/schemas/1.26.0");
    field::put_bytes(&mut request, 1, &element);
    request
}

/// Spans of a request: what an exporter's batch processor sends at once.
const SPANS: usize = 512;

/// Draws the plan of a request and copies it into pieces for three backends, by trace id.
#[divan::bench(args = [1, 8, 64])]
fn cut_spans_by_trace(bencher: Bencher, together: usize) {
    let records = Records::of(Signal::Traces).hashed();
    let request = export_request(together);
    let limits = Limits { piece_bytes_max: None, total_bytes_max: 64 << 20 };
    let owner = |key: u64| (0..3).max_by_key(|at| (key ^ at).wrapping_mul(0xbf58_476d_1ce4_e5b9)).unwrap_or(0) as usize;
    bencher.counter(ItemsCount::new(SPANS)).bench_local(|| {
        let plan = Plan::draw(black_box(&request), Signal::Traces, limits, |resource| records.place(resource), owner);
        plan.map(|plan| plan.cut().len())
    });
}

/// Finds out that all of a request belongs to one backend: nothing is copied.
#[divan::bench]
fn cut_nothing_of_one_resource(bencher: Bencher) {
    let records = Records::by_resource(Signal::Traces);
    let request = export_request(8);
    let limits = Limits { piece_bytes_max: None, total_bytes_max: 64 << 20 };
    bencher.bench_local(|| {
        let place = |resource: &_| records.place(resource);
        Plan::draw(black_box(&request), Signal::Traces, limits, place, |_| 0).map(|plan| plan.shape())
    });
}
