//! What is said once per stream stays with its messages: nobody's data is filed under another's name, wherever it lands.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;
use switchyard::proto::envoy::config::core::v3::Node;
use switchyard::proto::envoy::service::accesslog::v3::stream_access_logs_message::{
    HttpAccessLogEntries, Identifier, LogEntries,
};
use switchyard::proto::envoy::service::accesslog::v3::{
    HttpAccessLogEntry, HttpRequestProperties, StreamAccessLogsMessage,
};
use switchyard::proto::google::protobuf::value::Kind;
use switchyard::proto::google::protobuf::{Struct, Value};
use switchyard::testkit::agents::{Load, Outcome, Traffic};

use crate::caller::{Caller, framed};
use crate::ground::{Road, assert_once_each};

/// Messages by source, over all collectors.
fn filed(road: &Road, path: &str) -> BTreeMap<String, u64> {
    let mut filed = BTreeMap::new();
    for collector in &road.collectors {
        let counts = collector.counts();
        let Some(method) = counts.methods.get(path) else { continue };
        assert!(method.discarded.is_empty(), "a collector threw something away: {:?}", method.discarded);
        for (source, messages) in &method.sources {
            *filed.entry(source.clone()).or_default() += messages.messages;
        }
    }
    filed
}

/// What each source sent, by the agents' own books. `name` makes a source of service and agent.
fn sent(outcome: &Outcome, load: &Load, name: impl Fn(&str, &str) -> String) -> BTreeMap<String, u64> {
    let mut by_source = BTreeMap::new();
    for (agent, sent) in &outcome.agents {
        let numbers: Vec<usize> = agent.rsplit('.').take(2).map(|number| number.parse().unwrap()).collect();
        let number = numbers[1] * load.streams + numbers[0];
        let service = format!("service-{}", number % load.services);
        *by_source.entry(name(&service, agent)).or_default() += sent.messages;
    }
    by_source
}

fn of_agent(service: &str, agent: &str) -> String {
    format!("{service}/{agent}")
}

fn of_node(service: &str, _: &str) -> String {
    format!("sidecar~10.0.0.1~{service}.test~test.svc.cluster.local")
}

fn of_metadata(service: &str, _: &str) -> String {
    format!("{service}.test/{service}")
}

/// No source is known to two collectors.
fn assert_each_source_met_one_collector(road: &Road, path: &str) {
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    for (number, collector) in road.collectors.iter().enumerate() {
        for source in collector.counts().methods.get(path).into_iter().flat_map(|method| method.sources.keys()) {
            if let Some(before) = met.insert(source.clone(), number) {
                panic!("{source} met collectors {before} and {number}");
            }
        }
    }
    let used: std::collections::BTreeSet<_> = met.values().collect();
    assert!(used.len() > 1, "all of {} sources went to one collector", met.len());
}

/// Interleaved streams of many sources; each source's count at the collectors is what it sent.
fn keeps_sources_apart(traffic: Traffic, sticky: bool, name: fn(&str, &str) -> String) {
    let road = Road::to_collectors(3);
    let load = Load { traffic, connections: 3, streams: 7, services: 7, messages: 150, ..road.load() };
    let expected_of = load.clone();
    let outcome = load.start().unwrap().wait();
    assert_eq!((outcome.errors.len(), outcome.answered), (0, 21), "{outcome:?}");
    road.wait_until_delivered(Duration::from_secs(5));
    assert_once_each(&road.verdict(&outcome));
    assert_eq!(filed(&road, traffic.path()), sent(&outcome, &expected_of, name));
    if sticky {
        assert_each_source_met_one_collector(&road, traffic.path());
    }
    assert_eq!(road.end().totals.possible_duplicates, 0);
}

#[test]
fn a_pool_that_hashes_keeps_each_log_service_with_one_collector() {
    let road = Road::to_collectors_with(3, |plan| plan.pools[0].balance = switchyard::pool::Policy::Hash);
    let load = Load { traffic: Traffic::Log, connections: 3, streams: 7, services: 7, messages: 50, ..road.load() };
    let outcome = load.start().unwrap().wait();
    road.wait_until_delivered(Duration::from_secs(5));
    assert_once_each(&road.verdict(&outcome));
    assert_each_source_met_one_collector(&road, Traffic::Log.path());
    road.end();
}

/// The same while one of the collectors is killed and comes back: nothing lost, nothing under another's name.
fn keeps_sources_apart_through_a_kill(traffic: Traffic, name: fn(&str, &str) -> String) {
    let mut road = Road::to_collectors(3);
    let load = Load {
        traffic,
        connections: 3,
        streams: 4,
        services: 6,
        rate: 150.0,
        messages: 180,
        messages_per_stream: 60,
        ..road.load()
    };
    let expected_of = load.clone();
    let running = load.start().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    for victim in 0..2 {
        road.collectors[victim].kill();
        std::thread::sleep(Duration::from_millis(200));
        road.collectors[victim].restart().unwrap();
    }
    let outcome = running.wait();
    assert!(outcome.errors.is_empty(), "agents notice nothing: {outcome:?}");
    road.wait_until_delivered(Duration::from_secs(10));
    let verdict = road.verdict(&outcome);
    assert_eq!((verdict.lost, verdict.lost_unsure, verdict.foreign), (0, 0, 0), "{verdict:?}");
    let (filed, expected) = (filed(&road, traffic.path()), sent(&outcome, &expected_of, name));
    assert_eq!(filed.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "nobody else is named");
    for (source, messages) in &expected {
        assert!(filed[source] >= *messages, "{source} sent {messages}, but {} are filed", filed[source]);
    }
    let doubled = filed.values().sum::<u64>() - expected.values().sum::<u64>();
    assert_eq!(doubled, verdict.duplicated);
    let totals = road.end().totals;
    assert!(doubled <= totals.possible_duplicates, "{doubled} doubled, {} possible", totals.possible_duplicates);
}

#[test]
fn logs_of_many_services_are_filed_under_their_own() {
    keeps_sources_apart(Traffic::Log, false, of_agent);
}

#[test]
fn access_logs_are_filed_under_the_envoy_that_wrote_them() {
    keeps_sources_apart(Traffic::Als, false, of_node);
}

#[test]
fn envoy_metrics_are_filed_under_their_envoy_and_meet_one_collector() {
    keeps_sources_apart(Traffic::EnvoyMetrics, true, of_metadata);
}

#[test]
fn meter_batches_of_an_instance_meet_one_collector() {
    keeps_sources_apart(Traffic::MeterBatch, true, of_agent);
}

#[test]
fn a_meter_stream_is_one_set_and_an_instance_meets_one_collector() {
    let road = Road::to_collectors(3);
    let load = Load {
        traffic: Traffic::Meter,
        connections: 3,
        streams: 4,
        services: 5,
        messages: 150,
        messages_per_stream: 30,
        ..road.load()
    };
    let expected_of = load.clone();
    let outcome = load.start().unwrap().wait();
    assert_eq!((outcome.errors.len(), outcome.answered), (0, 12 * 5), "{outcome:?}");
    assert_once_each(&road.verdict(&outcome));
    assert_eq!(filed(&road, Traffic::Meter.path()), sent(&outcome, &expected_of, of_agent));
    assert_each_source_met_one_collector(&road, Traffic::Meter.path());
    let calls: u64 = road.collectors.iter().map(|collector| collector.counts().calls).sum();
    assert_eq!(calls, outcome.calls, "a set is neither split nor joined with another");
    road.end();
}

#[test]
fn logs_stay_with_their_service_while_collectors_die() {
    keeps_sources_apart_through_a_kill(Traffic::Log, of_agent);
}

#[test]
fn access_logs_stay_with_their_envoy_while_collectors_die() {
    keeps_sources_apart_through_a_kill(Traffic::Als, of_node);
}

#[test]
fn envoy_metrics_stay_with_their_envoy_while_collectors_die() {
    keeps_sources_apart_through_a_kill(Traffic::EnvoyMetrics, of_metadata);
}

#[test]
fn meter_batches_stay_with_their_instance_while_collectors_die() {
    keeps_sources_apart_through_a_kill(Traffic::MeterBatch, of_agent);
}

#[test]
fn meter_streams_stay_whole_while_collectors_die() {
    keeps_sources_apart_through_a_kill(Traffic::Meter, of_agent);
}

/// An access log of a node whose metadata makes its identifier 61 KB, as a sidecar's in a large mesh is.
fn entry(node: Option<usize>, id: String) -> StreamAccessLogsMessage {
    let request = HttpRequestProperties { path: "/".into(), user_agent: String::new(), request_id: id };
    let entries = HttpAccessLogEntries { log_entry: vec![HttpAccessLogEntry { request: Some(request) }] };
    let identifier = node.map(|node| {
        let long = Value { kind: Some(Kind::StringValue("m".repeat(61 << 10))) };
        let metadata = Struct { fields: [("PROXY_CONFIG".to_owned(), long)].into() };
        let node = Node { id: format!("sidecar~{node}"), cluster: "mesh".into(), metadata: Some(metadata) };
        Identifier { node: Some(node), log_name: "mesh".into() }
    });
    StreamAccessLogsMessage { identifier, log_entries: Some(LogEntries::HttpLogs(entries)) }
}

#[test]
fn an_identifier_of_61_kib_is_said_once_per_trip_and_holds_for_all_streams_of_its_envoy() {
    const NODES: usize = 3;
    const STREAMS: usize = 2;
    const MESSAGES: u64 = 150;
    let road = Road::to_collectors(3);
    let to = road.listener("access_logs");
    road.block_on(async {
        let mut streams = Vec::new();
        for node in 0..NODES {
            let caller = Caller::connect(to).await;
            for stream in 0..STREAMS {
                let mut call = caller.open(Traffic::Als.path()).await;
                call.send(framed(&entry(Some(node), format!("{node}.{stream}-0")).encode_to_vec())).await;
                streams.push((node, stream, call));
            }
        }
        for number in 1..MESSAGES {
            for (node, stream, call) in &mut streams {
                call.send(framed(&entry(None, format!("{node}.{stream}-{number}")).encode_to_vec())).await;
            }
        }
        for (_, _, mut call) in streams {
            call.half_close();
            assert_eq!(call.answer().await.code().name(), "OK");
        }
    });
    road.wait_until_delivered(Duration::from_secs(5));
    let expected: BTreeMap<String, u64> =
        (0..NODES).map(|node| (format!("sidecar~{node}"), STREAMS as u64 * MESSAGES)).collect();
    assert_eq!(filed(&road, Traffic::Als.path()), expected);
    let counts: Vec<_> = road.collectors.iter().map(|collector| collector.counts()).collect();
    let (calls, bytes): (u64, u64) =
        counts.iter().fold((0, 0), |sum, counts| (sum.0 + counts.calls, sum.1 + counts.bytes));
    let ids: u64 = counts.iter().map(|counts| counts.ids.unique).sum();
    assert_eq!(ids, NODES as u64 * STREAMS as u64 * MESSAGES);
    // Streams' own first messages keep theirs.
    let said = bytes / (61 << 10);
    let most = calls + (NODES * STREAMS) as u64;
    assert!(said <= most, "the identifier was said {said} times on {calls} trips");
    road.end();
}
