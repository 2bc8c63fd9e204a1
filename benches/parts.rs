//! What single parts of the main road cost. `cargo bench --bench parts`
//!
//! Figures are per iteration; where an iteration handles many messages the throughput says how many.

#[path = "material/backends.rs"]
mod backends;
#[path = "material/messages.rs"]
mod messages;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
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
use switchyard::message::tie::Tie;
use switchyard::pool::balance;
use switchyard::pool::balance::affinity::Memory;
use switchyard::pool::balance::roster::Roster;
use switchyard::pool::found::Found;
use switchyard::pool::{self, Endpoint, Policy};
use switchyard::route::Routes;
use switchyard::route::contract::Key;
use switchyard::route::reading::Reading;
use switchyard::route::records::{Limits, Plan, Records, Signal};
use switchyard::route::rule::decide::Rules;
use switchyard::route::sorter::{Sorter, Sorting};

use backends::{KEY, Known};
use messages::{
    ACCESS_LOGS, CHUNK_BYTES, LOGS, MESSAGES, METER_SETS, SATELLITE, SEGMENTS, access_log, body, meters, run_of,
    sorter, wire,
};

fn main() {
    // What counts counts for real.
    switchyard::metrics::install();
    divan::main();
}

/// Cuts 64 messages out of DATA frames that do not line up with them.
#[divan::bench(args = [200, 1024])]
fn frames_cut(bencher: Bencher, bytes: usize) {
    let wire = wire(&body(bytes, b"shop"));
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
    sorter.sort(run_of(&body(200, b"shop")), &mut Sorting::default());
    let run = if service == "said" { run_of(&body(200, b"shop")) } else { run_of(&body(200, b"")) };
    sort(bencher, sorter, &run);
}

/// Sorts a run of 64 segments, which need nothing read.
#[divan::bench]
fn sort_segments(bencher: Bencher) {
    sort(bencher, sorter(SEGMENTS), &run_of(&body(1024, b"shop")));
}

/// Sorts a run of 64 access logs of a call whose identifier is carried: read on every message, or on the first only.
#[divan::bench(args = ["satellite", "standard"])]
fn sort_access_logs(bencher: Bencher, service: &str) {
    let path = if service == "satellite" { SATELLITE } else { ACCESS_LOGS };
    let mut sorter = sorter(path);
    sorter.sort(run_of(&body(200, b"")), &mut Sorting::default());
    sort(bencher, sorter, &run_of(&access_log()));
}

/// Sorts a run of 64 meter collections, each by its own key.
#[divan::bench]
fn sort_meters(bencher: Bencher) {
    sort(bencher, sorter(METER_SETS), &run_of(&meters()));
}

fn choose(bencher: Bencher, tie: Option<Tie>, known: &Known) {
    let mut random = fastrand::Rng::with_seed(7);
    bencher.bench_local(|| balance::choose(black_box(tie), 1, known, |below| random.usize(..below)));
}

#[divan::bench(args = [3, 300])]
fn choose_least_load(bencher: Bencher, backends: usize) {
    choose(bencher, None, &Known::alike(Policy::LeastLoad, backends));
}

#[divan::bench(args = [3, 300])]
fn choose_in_turn(bencher: Bencher, backends: usize) {
    choose(bencher, None, &Known::alike(Policy::RoundRobin, backends));
}

#[divan::bench(args = [3, 300])]
fn choose_by_key(bencher: Bencher, backends: usize) {
    choose(bencher, Some(Tie::Sticky(KEY)), &Known::alike(Policy::Hash, backends));
}

/// By key where backends weigh differently: each draw needs a logarithm.
#[divan::bench(args = [3, 300])]
fn choose_by_key_weighted(bencher: Bencher, backends: usize) {
    let weights = (0..backends).map(|at| 1 + at as u32 % 4);
    choose(bencher, Some(Tie::Sticky(KEY)), &Known::new(Policy::Hash, weights));
}

/// Where a key went before, of many keys.
#[divan::bench]
fn recall_affinity(bencher: Bencher) {
    let memory = Memory::new(100_000, Duration::from_secs(600));
    let now = memory.moment(tokio::time::Instant::now());
    let mut random = fastrand::Rng::with_seed(7);
    let keys: Vec<u64> = (0..40_000).map(|_| random.u64(..)).collect();
    keys.iter().for_each(|key| memory.remember(*key, 1, now));
    bencher.bench_local(|| memory.recall(keys[random.usize(..keys.len())], now));
}

/// How backends stand: put together ten times a second.
#[divan::bench(args = [3, 300])]
fn roster(bencher: Bencher, backends: usize) {
    let found = |at| Found::at(Endpoint { host: format!("collector-{at}"), port: 11_800 });
    let settings = pool::Settings { backends: (0..backends).map(found).collect(), ..pool::Settings::new("p", vec![]) };
    bencher.bench_local(|| Roster::at_rest(black_box(&settings)));
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
