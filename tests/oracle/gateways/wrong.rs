//! Every mistake a gateway can make with these streams, one at a time: the oracle must notice it.

use switchyard::testkit::receivers::End;

use super::{field, interleaved, parts, paths, said, streams, text, values, without};
use crate::draw::{Draw, method};
use crate::reading::{Stream, read};
use crate::verdict::differences;

/// One mistake.
struct Mistake {
    /// In words, with its number in PROTOCOLS section 5 where it has one.
    what: &'static str,
    /// Whose streams it is made with.
    paths: &'static [&'static str],
    /// All of a method's streams as the gateway that makes it would send them on.
    make: fn(&[Stream], &mut Draw) -> Vec<Stream>,
}

const LOGS: &str = "/skywalking.v3.LogReportService/collect";
const METERS: &str = "/skywalking.v3.MeterReportService/collect";
const METER_BATCHES: &str = "/skywalking.v3.MeterReportService/collectBatch";
const GO_PROFILES: &str = "/skywalking.v3.ProfileTask/goProfileReport";
const EBPF_PROFILING: &str = "/skywalking.v3.EBPFProfilingService/collectProfilingData";
const EBPF_LOGS: &str = "/skywalking.v3.EBPFAccessLogService/collect";
const ENVOY_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const SATELLITE: &str = "/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs";
const ENVOY_METRICS: &str = "/envoy.service.metrics.v3.MetricsService/StreamMetrics";
const ASYNC: &str = "/skywalking.v10.AsyncProfilerTask/collect";
const PPROF: &str = "/skywalking.v10.PprofTask/collect";
const ERRORS: &str = "/skywalking.v3.BrowserPerfService/collectErrorLogs";
const SNAPSHOTS: &str = "/skywalking.v3.ProfileTask/collectSnapshot";
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const RECORDS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

#[rustfmt::skip]
const MISTAKES: &[Mistake] = &[
    Mistake { what: "streams of several agents on one (1, 4, 5, 9, 13)", make: merge,
        paths: &[LOGS, METERS, GO_PROFILES, EBPF_PROFILING, EBPF_LOGS, ENVOY_LOGS, SATELLITE, ENVOY_METRICS, ASYNC, PPROF] },
    Mistake { what: "a stream spread without saying again what it said once (2, 8, 11, 12, 17)", make: scatter,
        paths: &[LOGS, METERS, GO_PROFILES, EBPF_PROFILING, EBPF_LOGS, ENVOY_LOGS, SATELLITE, ENVOY_METRICS, ASYNC, PPROF] },
    Mistake { what: "what another stream said once is said for this one", make: carry_of_neighbour,
        paths: &[LOGS, EBPF_PROFILING, ENVOY_LOGS, SATELLITE, ENVOY_METRICS] },
    Mistake { what: "said again on top of what the message says itself (6)", make: double,
        paths: &[EBPF_PROFILING, EBPF_LOGS, ENVOY_LOGS, SATELLITE, ENVOY_METRICS] },
    Mistake { what: "carried from the first message only, though later ones count", make: carry_first,
        paths: &[EBPF_PROFILING, SATELLITE] },
    Mistake { what: "carried from later messages, though only the first counts (7)", make: carry_latest,
        paths: &[ENVOY_LOGS, ENVOY_METRICS] },
    Mistake { what: "every log under the service it names itself", make: own_service, paths: &[LOGS] },
    Mistake { what: "the instance carried with the service (3)", make: carry_instance, paths: &[LOGS] },
    Mistake { what: "a connection with the node of another stream (10)", make: node_of_another, paths: &[EBPF_LOGS] },
    Mistake { what: "a connection with the node said last instead of its own", make: latest_node, paths: &[EBPF_LOGS] },
    Mistake { what: "a connection said again without any node (11)", make: no_node, paths: &[EBPF_LOGS] },
    Mistake { what: "the time of a task computed anew (12)", make: new_time, paths: &[EBPF_PROFILING] },
    Mistake { what: "a set cut in two (16)", make: halve, paths: &[METERS, METER_BATCHES, ENVOY_METRICS, GO_PROFILES, METRICS] },
    Mistake { what: "two sets made one (14, 17)", make: join, paths: &[METERS, METER_BATCHES, ENVOY_METRICS, METRICS] },
    Mistake { what: "an incomplete set dropped at a reset (29)", make: drop_resets, paths: &[METERS] },
    Mistake { what: "a reset turned into a half-close (28)", make: close_resets, paths: &[ASYNC, PPROF, TRACES] },
    Mistake { what: "a half-close turned into a reset (28)", make: reset_closes, paths: &[ASYNC, PPROF, TRACES, METRICS] },
    Mistake { what: "resources of different senders in one wrapper (14)", make: one_resource, paths: &[TRACES, RECORDS] },
    Mistake { what: "the resource left out (14)", make: |all, _| cut_without(all, Lost::Resource), paths: &[TRACES, METRICS, RECORDS] },
    Mistake { what: "the scope left out", make: |all, _| cut_without(all, Lost::Scope), paths: &[TRACES, METRICS, RECORDS] },
    Mistake { what: "a resource's schema left out (14)", make: |all, _| cut_without(all, Lost::Schema), paths: &[TRACES, METRICS, RECORDS] },
    Mistake { what: "a scope's schema left out (14)", make: |all, _| cut_without(all, Lost::ScopeSchema), paths: &[TRACES, METRICS, RECORDS] },
    Mistake { what: "unknown fields left out (14)", make: |all, _| cut_without(all, Lost::Unknown), paths: &[TRACES, METRICS, RECORDS] },
];

/// Seeds each mistake is tried with, and how many of them have to give it away at least.
const SEEDS: u64 = 40;
const NOTICED_MIN: usize = 8;

fn assert_noticed(what: &str, path: &str, make: fn(&[Stream], &mut Draw) -> Vec<Stream>) {
    let is_noticed = |seed: &u64| {
        let (streams, mut draw) = streams(path, *seed);
        let mistaken = make(&streams, &mut draw);
        !differences(&read(&streams), &read(&mistaken)).is_empty()
    };
    let noticed = (0..SEEDS).filter(is_noticed).count();
    println!("{what}, {path}: noticed in {noticed} of {SEEDS} cases");
    assert!(noticed >= NOTICED_MIN, "{what}, {path}: noticed in {noticed} of {SEEDS} cases only");
}

#[test]
fn every_mistake_is_noticed() {
    for mistake in MISTAKES {
        for path in mistake.paths {
            assert_noticed(mistake.what, path, mistake.make);
        }
    }
}

#[test]
fn a_lost_a_doubled_and_a_misdirected_message_is_noticed_in_every_method() {
    for path in paths() {
        assert_noticed("a message lost", path, lose_one);
        assert_noticed("a message sent to another method", path, misdirect_one);
        assert_noticed("a message said twice", path, say_one_twice);
    }
}

// --- lost, doubled, misdirected ---

/// Some message of some stream.
fn any_message(streams: &[Stream], draw: &mut Draw) -> Option<(usize, usize)> {
    let of_stream = |(at, stream): (usize, &Stream)| (0..stream.messages.len()).map(move |message| (at, message));
    let all: Vec<_> = streams.iter().enumerate().flat_map(of_stream).collect();
    (!all.is_empty()).then(|| draw.one_of(&all))
}

fn lose_one(streams: &[Stream], draw: &mut Draw) -> Vec<Stream> {
    let mut changed = streams.to_vec();
    if let Some((stream, message)) = any_message(streams, draw) {
        changed[stream].messages.remove(message);
    }
    changed
}

fn say_one_twice(streams: &[Stream], draw: &mut Draw) -> Vec<Stream> {
    let mut changed = streams.to_vec();
    let Some((stream, message)) = any_message(streams, draw) else { return changed };
    if method(&changed[stream].path).streams_in {
        let again = changed[stream].messages[message].clone();
        changed[stream].messages.insert(message, again);
    } else {
        changed.push(changed[stream].clone());
    }
    changed
}

fn misdirect_one(streams: &[Stream], draw: &mut Draw) -> Vec<Stream> {
    let mut changed = streams.to_vec();
    let Some((stream, message)) = any_message(streams, draw) else { return changed };
    let lost = changed[stream].messages.remove(message);
    let other = if changed[stream].path == ERRORS { SNAPSHOTS } else { ERRORS };
    changed.push(Stream::whole(other, vec![lost]));
    changed
}

// --- streams and what they say once ---

fn merge(streams: &[Stream], draw: &mut Draw) -> Vec<Stream> {
    let messages = interleaved(streams, draw).into_iter().map(|(_, message)| message).collect();
    streams.first().map(|stream| Stream::whole(&stream.path, messages)).into_iter().collect()
}

fn scatter(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    let alone = |stream: &Stream| {
        let path = stream.path.clone();
        stream.messages.clone().into_iter().map(move |message| Stream::whole(&path, vec![message]))
    };
    streams.iter().flat_map(alone).collect()
}

/// The field that is said once.
fn once(path: &str) -> u32 {
    if path == LOGS { 2 } else { 1 }
}

/// Every message on its own stream, with the context that `context` names for it.
fn carry(streams: &[Stream], context: impl Fn(usize, usize) -> Option<Vec<u8>>) -> Vec<Stream> {
    let mut carried = Vec::new();
    for (at, stream) in streams.iter().enumerate() {
        let number = once(&stream.path);
        for (index, message) in stream.messages.iter().enumerate() {
            let front = context(at, index).map(|value| field(number, &value)).unwrap_or_default();
            carried.push(Stream::whole(&stream.path, vec![without(message, number, &front)]));
        }
    }
    carried
}

/// What a stream has said last, up to and with a message.
fn latest(stream: &Stream, index: usize) -> Option<Vec<u8>> {
    stream.messages[..=index].iter().rev().find_map(|message| said(message, once(&stream.path)))
}

fn carry_of_neighbour(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    let first = |stream: &Stream| stream.messages.iter().find_map(|message| said(message, once(&stream.path)));
    carry(streams, |at, _| first(&streams[(at + 1) % streams.len()]))
}

fn carry_first(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    carry(streams, |at, _| said(&streams[at].messages[0], 1))
}

fn carry_latest(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    carry(streams, |at, index| latest(&streams[at], index))
}

fn own_service(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    carry(streams, |at, index| latest(&streams[at], index))
}

fn double(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    let mut doubled = streams.to_vec();
    for stream in &mut doubled {
        let mut known = None;
        for message in &mut stream.messages {
            known = said(message, 1).or(known);
            if let Some(known) = &known {
                message.extend(field(1, known));
            }
        }
    }
    doubled
}

fn carry_instance(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    let mut changed = streams.to_vec();
    for stream in &mut changed {
        let mut known = None;
        for log in &mut stream.messages {
            known = text(log, 3).or(known);
            if let (Some(known), None) = (&known, text(log, 3)) {
                log.extend(field(3, known));
            }
        }
    }
    changed
}

fn new_time(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    let mut changed = streams.to_vec();
    for message in changed.iter_mut().flat_map(|stream| &mut stream.messages) {
        if let Some(mut task) = said(message, 1) {
            task.extend([4 << 3, 1]);
            *message = without(message, 1, &field(1, &task));
        }
    }
    changed
}

// --- nodes and connections ---

/// Every message on its own stream with its latest connection, and the node that `node` names for it.
fn with_node(streams: &[Stream], node: impl Fn(usize, usize) -> Option<Vec<u8>>) -> Vec<Stream> {
    let mut paired = Vec::new();
    for (at, stream) in streams.iter().enumerate() {
        for (index, message) in stream.messages.iter().enumerate() {
            let connection = stream.messages[..=index].iter().rev().find_map(|message| said(message, 2));
            let front = connection.map(|connection| field(2, &connection)).unwrap_or_default();
            let front = [node(at, index).map(|node| field(1, &node)).unwrap_or_default(), front].concat();
            paired.push(Stream::whole(&stream.path, vec![without(&without(message, 1, b""), 2, &front)]));
        }
    }
    paired
}

fn node_of_another(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    with_node(streams, |at, _| streams[(at + 1) % streams.len()].messages.first().and_then(|first| said(first, 1)))
}

fn latest_node(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    with_node(streams, |at, index| latest(&streams[at], index))
}

fn no_node(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    with_node(streams, |_, _| None)
}

// --- sets ---

fn halve(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    let mut halved = Vec::new();
    for stream in streams {
        match &stream.path[..] {
            METERS | GO_PROFILES => {
                let (front, back) = stream.messages.split_at(stream.messages.len() / 2);
                // Even with its names said again.
                let names: Vec<u8> = front
                    .iter()
                    .flat_map(|meter| parts(meter))
                    .filter(|(number, _)| (3..6).contains(number))
                    .flat_map(|(_, bytes)| bytes)
                    .collect();
                let named = back.iter().map(|meter| {
                    if stream.path == METERS { [names.clone(), meter.clone()].concat() } else { meter.clone() }
                });
                halved.push(Stream { messages: front.to_vec(), ..stream.clone() });
                halved.push(Stream { messages: named.collect(), ..stream.clone() });
            }
            METRICS => {
                let cut = stream.messages.iter().flat_map(|request| super::right::items(request));
                halved.extend(cut.map(|request| Stream { messages: vec![request], ..stream.clone() }));
            }
            _ => {
                let element = if stream.path == ENVOY_METRICS { 2 } else { 1 };
                let messages = stream.messages.iter().flat_map(|message| {
                    let all = values(message, element);
                    let beside = without(message, element, b"");
                    let half = move |half: &[Vec<u8>]| {
                        [half.iter().flat_map(|one| field(element, one)).collect(), beside.clone()].concat()
                    };
                    let (front, back) = all.split_at(all.len() / 2);
                    [half(front), half(back)]
                });
                halved.push(Stream { messages: messages.collect(), ..stream.clone() });
            }
        }
    }
    halved
}

fn join(streams: &[Stream], draw: &mut Draw) -> Vec<Stream> {
    match streams.first().map(|stream| &stream.path[..]) {
        Some(METERS) => merge(streams, draw),
        // Two messages one behind the other are one, with the lists of both.
        Some(METER_BATCHES | ENVOY_METRICS) => {
            let pairs = |stream: &Stream| stream.messages.chunks(2).map(|pair| pair.concat()).collect();
            streams.iter().map(|stream| Stream { messages: pairs(stream), ..stream.clone() }).collect()
        }
        _ => one_resource(streams, draw),
    }
}

fn drop_resets(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    streams.iter().filter(|stream| stream.end == End::Clean).cloned().collect()
}

fn close_resets(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    streams.iter().map(|stream| Stream { end: End::Clean, ..stream.clone() }).collect()
}

fn reset_closes(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    streams.iter().map(|stream| Stream { end: End::Broken, ..stream.clone() }).collect()
}

// --- wrappers ---

/// All resources of a request merged into its first.
fn one_resource(streams: &[Stream], _: &mut Draw) -> Vec<Stream> {
    let merged = |request: &Vec<u8>| {
        let resources = values(request, 1);
        let Some((first, others)) = resources.split_first() else { return request.clone() };
        let scopes = others.iter().flat_map(|other| values(other, 2)).flat_map(|scope| field(2, &scope));
        let whole: Vec<u8> = first.iter().copied().chain(scopes).collect();
        without(request, 1, &field(1, &whole))
    };
    streams
        .iter()
        .map(|stream| Stream { messages: stream.messages.iter().map(merged).collect(), ..stream.clone() })
        .collect()
}

/// What gets lost around an item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    Resource,
    Scope,
    Schema,
    ScopeSchema,
    Unknown,
}

/// Requests without one thing of their wrappers.
fn cut_without(streams: &[Stream], lost: Lost) -> Vec<Stream> {
    let request = |request: &Vec<u8>| {
        rewrap(request, 1, |resource| {
            let known = |number: u32| number <= 3;
            let resource = match lost {
                Lost::Resource => without(resource, 1, b""),
                Lost::Schema => without(resource, 3, b""),
                Lost::Unknown => parts(resource)
                    .into_iter()
                    .filter(|(number, _)| known(*number))
                    .flat_map(|(_, bytes)| bytes)
                    .collect(),
                Lost::Scope | Lost::ScopeSchema => resource.to_vec(),
            };
            rewrap(&resource, 2, |scope| match lost {
                Lost::Scope => without(scope, 1, b""),
                Lost::ScopeSchema => without(scope, 3, b""),
                _ => scope.to_vec(),
            })
        })
    };
    streams
        .iter()
        .map(|stream| Stream { messages: stream.messages.iter().map(request).collect(), ..stream.clone() })
        .collect()
}

/// A message with every occurrence of a sub-message changed.
fn rewrap(message: &[u8], number: u32, change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut elements = values(message, number).into_iter();
    let mut part = |(other, bytes)| match (other == number).then(|| elements.next()).flatten() {
        Some(element) => field(number, &change(&element)),
        None => bytes,
    };
    parts(message).into_iter().flat_map(|field: (u32, Vec<u8>)| part(field)).collect()
}
