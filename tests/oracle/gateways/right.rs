//! Everything a contract allows, done as far as it allows: collectors must understand the same.

use switchyard::testkit::receivers::{End, Rule, Signal};

use super::{field, interleaved, parts, paths, said, streams, text, values, without};
use crate::draw::{Draw, method};
use crate::reading::{Stream, read};
use crate::verdict::{assert_none, differences};

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const METER_BATCHES: &str = "/skywalking.v3.MeterReportService/collectBatch";
const SATELLITE: &str = "/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs";

/// Takes streams apart and puts them together anew. All of it is of one method.
pub fn routed(streams: &[Stream], draw: &mut Draw) -> Vec<Stream> {
    let Some(path) = streams.first().map(|stream| stream.path.clone()) else { return Vec::new() };
    match method(&path).rule {
        Rule::Segments => segments_one_by_one(streams),
        Rule::Otlp(Signal::Metrics) => cut(streams, resources),
        Rule::Otlp(_) => cut(streams, items),
        _ if !method(&path).streams_in => streams.to_vec(),
        Rule::Logs => logs_by_service(streams, draw),
        Rule::MeterStream => batches_of_streams(streams),
        Rule::AccessLog { every_message: false } if draw.chance(50) => each_with_its_first(streams),
        Rule::EnvoyMetrics => each_with_its_first(streams),
        Rule::AccessLog { every_message } => satellite(streams, every_message, draw),
        Rule::EbpfProfiling => one_stream_with_latest(&path, streams, draw),
        Rule::EbpfAccessLog => nodes_and_connections(&path, streams, draw),
        Rule::GoProfile => profiles_one_by_one(streams),
        Rule::AsyncProfiler | Rule::Pprof => streams.to_vec(),
        _ => scattered(&path, streams, draw),
    }
}

/// Independent messages, anywhere.
fn scattered(path: &str, streams: &[Stream], draw: &mut Draw) -> Vec<Stream> {
    let mut lanes = vec![Vec::new(); 3];
    for (_, message) in interleaved(streams, draw) {
        lanes[draw.number(3) as usize].push(message);
    }
    lanes.into_iter().map(|messages| Stream::whole(path, messages)).collect()
}

fn segments_one_by_one(streams: &[Stream]) -> Vec<Stream> {
    let read = streams.iter().filter(|stream| stream.end == End::Clean);
    let segments = read.flat_map(|stream| stream.messages.iter().flat_map(|collection| values(collection, 1)));
    vec![Stream::whole(SEGMENTS, segments.collect())]
}

/// One lane a service, whoever the logs came from; the service stands in every message.
fn logs_by_service(streams: &[Stream], draw: &mut Draw) -> Vec<Stream> {
    let mut lanes: Vec<(Vec<u8>, Stream)> = Vec::new();
    let mut pinned: Vec<Option<Vec<u8>>> = vec![None; streams.len()];
    for (at, log) in interleaved(streams, draw) {
        if pinned[at].is_none() {
            pinned[at] = text(&log, 2);
        }
        // What came before any service is dropped by the receiver anyway.
        let Some(service) = &pinned[at] else { continue };
        let log = if text(&log, 2).is_some() { log } else { [log, field(2, service)].concat() };
        match lanes.iter_mut().find(|(lane, _)| lane == service) {
            Some((_, lane)) => lane.messages.push(log),
            None => {
                // Its first message must name the lane's own service, whatever the log itself says.
                let first = [log, field(2, service)].concat();
                lanes.push((service.clone(), Stream::whole(&streams[0].path, vec![first])));
            }
        }
    }
    lanes.into_iter().map(|(_, lane)| lane).collect()
}

/// A whole stream of meters as one message, whether it was half-closed or reset.
fn batches_of_streams(streams: &[Stream]) -> Vec<Stream> {
    let batch = |stream: &Stream| stream.messages.iter().flat_map(|meter| field(1, meter)).collect();
    vec![Stream::whole(METER_BATCHES, streams.iter().map(batch).collect())]
}

/// Every message on a stream of its own that begins with its call's identifier.
fn each_with_its_first(streams: &[Stream]) -> Vec<Stream> {
    let mut alone = Vec::new();
    for stream in streams {
        let first = stream.messages.first().and_then(|first| said(first, 1));
        let front = first.map(|identifier| field(1, &identifier)).unwrap_or_default();
        let each = stream.messages.iter().map(|message| without(message, 1, &front));
        alone.extend(each.map(|message| Stream::whole(&stream.path, vec![message])));
    }
    alone
}

/// All calls on one stream of Satellite's service, every message with its own identifier.
fn satellite(streams: &[Stream], every_message: bool, draw: &mut Draw) -> Vec<Stream> {
    let mut known: Vec<Option<Vec<u8>>> = vec![None; streams.len()];
    let messages = interleaved(streams, draw).into_iter().map(|(at, message)| {
        if known[at].is_none() || (every_message && said(&message, 1).is_some()) {
            known[at] = Some(said(&message, 1).unwrap_or_default());
        }
        without(&message, 1, &field(1, known[at].as_deref().unwrap_or_default()))
    });
    vec![Stream::whole(SATELLITE, messages.collect())]
}

/// All calls on one stream, every message with the latest its call has said.
fn one_stream_with_latest(path: &str, streams: &[Stream], draw: &mut Draw) -> Vec<Stream> {
    let mut latest: Vec<Vec<u8>> = vec![Vec::new(); streams.len()];
    let messages = interleaved(streams, draw).into_iter().map(|(at, message)| match said(&message, 1) {
        Some(said) => {
            latest[at] = said;
            message
        }
        None => [field(1, &latest[at]), message].concat(),
    });
    vec![Stream::whole(path, messages.collect())]
}

/// All calls on one stream: connections are said with the node they were said under, then the node in force.
fn nodes_and_connections(path: &str, streams: &[Stream], draw: &mut Draw) -> Vec<Stream> {
    #[derive(Clone, Default)]
    struct Known {
        node: Vec<u8>,
        connection: Option<(Vec<u8>, Vec<u8>)>,
    }
    let mut known = vec![Known::default(); streams.len()];
    let mut messages = Vec::new();
    for (at, message) in interleaved(streams, draw) {
        let Known { node, connection } = &mut known[at];
        if let Some(said) = said(&message, 1) {
            *node = said;
        }
        if let Some(said) = said(&message, 2) {
            *connection = Some((node.clone(), said));
        }
        // Without a connection it is dropped by the receiver anyway.
        let Some((under, connection)) = connection else { continue };
        let rest = without(&without(&message, 1, b""), 2, b"");
        let pair = [field(1, under), field(2, connection)].concat();
        if under == node {
            messages.push([pair, rest].concat());
        } else {
            messages.extend([pair, [field(1, node), rest].concat()]);
        }
    }
    vec![Stream::whole(path, messages)]
}

/// Every whole profile on a stream of its own.
fn profiles_one_by_one(streams: &[Stream]) -> Vec<Stream> {
    let mut profiles = Vec::new();
    for stream in streams {
        let mut run: Vec<Vec<u8>> = Vec::new();
        for chunk in &stream.messages {
            let Some(task) = text(chunk, 1) else { continue };
            if run.last().is_some_and(|last| text(last, 1) != Some(task)) {
                run.clear();
            }
            run.push(chunk.clone());
            let is_last = parts(chunk).iter().any(|(number, bytes)| *number == 3 && bytes.last() == Some(&1));
            if is_last {
                profiles.push(Stream::whole(&stream.path, std::mem::take(&mut run)));
            }
        }
    }
    profiles
}

/// Every request that was half-closed, cut.
fn cut(streams: &[Stream], how: fn(&[u8]) -> Vec<Vec<u8>>) -> Vec<Stream> {
    let read = streams.iter().filter(|stream| stream.end == End::Clean);
    let requests =
        read.flat_map(|stream| stream.messages.iter().flat_map(|request| how(request)).map(move |cut| (stream, cut)));
    requests.map(|(stream, cut)| Stream::whole(&stream.path, vec![cut])).collect()
}

/// A request for each resource.
pub fn resources(request: &[u8]) -> Vec<Vec<u8>> {
    let beside = without(request, 1, b"");
    values(request, 1).iter().map(|resource| [field(1, resource), beside.clone()].concat()).collect()
}

/// A request for each span or record, in copies of its wrappers.
pub fn items(request: &[u8]) -> Vec<Vec<u8>> {
    let beside = without(request, 1, b"");
    let mut cut = Vec::new();
    for resource in values(request, 1) {
        for scope in values(&resource, 2) {
            for item in values(&scope, 2) {
                let scope = without(&scope, 2, &field(2, &item));
                let resource = without(&resource, 2, &field(2, &scope));
                cut.push([field(1, &resource), beside.clone()].concat());
            }
        }
    }
    cut
}

#[test]
fn what_contracts_allow_changes_nothing() {
    let mut items = 0;
    for path in paths() {
        for seed in 0..25 {
            let (streams, mut draw) = streams(path, seed);
            let expected = read(&streams);
            let routed = routed(&streams, &mut draw);
            assert_none(&differences(&expected, &read(&routed)), &format!("{path}, seed {seed}"));
            items += expected.len();
        }
    }
    assert!(items > 8_000, "only {items} items: the generator hardly says anything");
}
