//! Content rules on the road: messages go to the pool their content names, or nowhere, and are counted either way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use switchyard::config::Plan;
use switchyard::listener::Reply;
use switchyard::message::path::FieldPath;
use switchyard::pool::{self, Endpoint};
use switchyard::route::rule::{Action, Limit, Match, Mirror, Rate, Rule, Share, Test};
use switchyard::route::{Routes, catalogue};
use switchyard::testkit::behaviour::Behaviour;
use switchyard::testkit::collector::Collector;
use switchyard::wire::grpc::Code;

use crate::backend::Backend;
use crate::caller::{Caller, framed};
use crate::contracts::say;
use crate::ground::{Road, collector, eventually, lost};
use crate::records::batches::{SPANS, batch, place_of};

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const JVM: &str = "/skywalking.v3.JVMMetricReportService/collect";
const QUERY: &str = "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations";

fn rule(test: Test) -> Rule {
    Rule { test, name: Arc::from("under-test"), ..Arc::into_inner(Rule::for_the_rest()).unwrap() }
}

fn field_is(number: u32, text: &str) -> Test {
    Test::Field(FieldPath::of(&[number]), Match::Equals(text.as_bytes().into()))
}

/// The gateway's rules, the same for every method, and a second pool with this collector.
fn with_rules(plan: &mut Plan, rules: Vec<Rule>, second: &Collector) {
    let rules: Vec<Arc<Rule>> = rules.into_iter().map(Arc::new).collect();
    plan.routes = Arc::new(Routes::new(catalogue::methods(), |_| rules.clone()));
    let (host, port) = (second.address().ip().to_string(), second.address().port());
    plan.pools.push(pool::Settings::new("second", vec![Endpoint { host, port }]));
}

fn segment(service: &str, number: usize) -> bytes::Bytes {
    let (trace, id) = (format!("trace-{number}"), format!("{service}-{number}"));
    say(&[(1, trace.as_bytes()), (2, id.as_bytes()), (4, service.as_bytes())])
}

/// Sends so many segments of each service, in turns, on one call.
fn send(road: &Road, services: &[&str], each: usize) {
    road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(SEGMENTS).await;
        for number in 0..each {
            for service in services {
                call.send(framed(&segment(service, number))).await;
            }
        }
        call.half_close();
        assert_eq!(call.answer().await.code(), Code::Ok);
    });
    road.wait_until_delivered(Duration::from_secs(5));
}

fn arrived(collector: &Collector, service: &str, each: usize) -> usize {
    let evidence = collector.evidence();
    (0..each as u64).filter(|number| evidence.has(service, *number)).count()
}

#[test]
fn a_message_goes_to_the_pool_its_content_names() {
    let second = collector(Behaviour::default());
    let shop = Rule { pool: 1, ..rule(field_is(4, "shop")) };
    let noise = Rule { action: Action::Drop { reason: Arc::from("noise") }, ..rule(field_is(4, "noise")) };
    let road = Road::to_collectors_with(1, |plan| {
        with_rules(plan, vec![shop, noise], &second);
        // What is dropped is nobody's fault: the caller hears OK for the rest.
        plan.reply = Reply::Delivered;
    });
    send(&road, &["shop", "till", "noise"], 50);
    assert_eq!((arrived(&second, "shop", 50), arrived(&road.collectors[0], "till", 50)), (50, 50));
    assert_eq!((second.counts().ids.unique, road.collectors[0].counts().ids.unique), (50, 50));
    assert_eq!(lost(&road.end_with_losses()), [("dropped", 50)]);
}

#[test]
fn a_sample_is_the_same_share_on_every_replica() {
    let run = || {
        let second = collector(Behaviour::default());
        let share = Share { below: u64::MAX / 4, by: vec![FieldPath::of(&[1])] };
        let sample = Rule { action: Action::Sample(share), ..rule(Test::Always) };
        let road = Road::to_collectors_with(1, |plan| with_rules(plan, vec![sample], &second));
        send(&road, &["shop"], 1_000);
        let evidence = road.collectors[0].evidence();
        let kept: Vec<u64> = (0..1_000).filter(|number| evidence.has("shop", *number)).collect();
        let lost = lost(&road.end_with_losses());
        assert_eq!(lost, [("sampled", 1_000 - kept.len() as u64)]);
        kept
    };
    let kept = run();
    assert!((200..300).contains(&kept.len()), "{} of 1,000", kept.len());
    assert_eq!(kept, run());
}

#[test]
fn a_rate_lets_a_burst_pass_and_counts_the_rest() {
    let second = collector(Behaviour::default());
    let rate = Arc::new(Rate::new(1, Duration::from_secs(1), 40));
    let limit = Limit::new(rate, vec![FieldPath::of(&[4])]);
    let limited = Rule { limit: Some(limit), ..rule(Test::Always) };
    let road = Road::to_collectors_with(1, |plan| with_rules(plan, vec![limited], &second));
    send(&road, &["shop", "till"], 100);
    for service in ["shop", "till"] {
        let passed = arrived(&road.collectors[0], service, 100);
        assert!((40..50).contains(&passed), "{passed} of {service}");
    }
    let delivered = road.collectors[0].counts().ids.unique;
    assert_eq!(lost(&road.end_with_losses()), [("limited", 200 - delivered)]);
}

#[test]
fn a_mirror_gets_copies_and_its_death_harms_nobody() {
    let mut second = collector(Behaviour::default());
    let mirror = Mirror { pool: 1, share: Share { below: u64::MAX, by: Vec::new() } };
    let mirrored = Rule { mirror: Some(mirror), ..rule(Test::Always) };
    let road = Road::to_collectors_with(1, |plan| with_rules(plan, vec![mirrored], &second));
    send(&road, &["shop"], 200);
    let copies = || arrived(&second, "shop", 200) == 200;
    eventually("every message has been copied", Duration::from_secs(5), copies);
    second.kill();
    send(&road, &["till"], 200);
    assert_eq!(arrived(&road.collectors[0], "till", 200), 200);
    let totals = road.end().totals;
    assert_eq!((totals.received, totals.delivered), (400, 400));
}

#[test]
fn a_call_that_is_kept_whole_goes_where_its_first_message_says() {
    let second = collector(Behaviour::default());
    let shop = Rule { pool: 1, ..rule(field_is(2, "shop")) };
    let noise = Rule { action: Action::Drop { reason: Arc::from("noise") }, ..rule(field_is(2, "noise")) };
    let query = Rule { action: Action::Drop { reason: Arc::from("no queries") }, ..rule(field_is(1, "noise")) };
    let road = Road::to_collectors_with(1, |plan| with_rules(plan, vec![shop, noise, query], &second));
    let codes = road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut codes = Vec::new();
        for service in ["shop", "till", "noise"] {
            codes.push(caller.call(JVM, &[], &[say(&[(2, service.as_bytes())])]).await.code());
        }
        codes.push(caller.call(QUERY, &[], &[say(&[(1, b"noise")])]).await.code());
        codes
    });
    // Nobody can answer a query in the backend's place.
    assert_eq!(codes, [Code::Ok, Code::Ok, Code::Ok, Code::FailedPrecondition]);
    let got = |collector: &Collector| collector.counts().methods.get(JVM).map_or(0, |counts| counts.messages);
    assert_eq!((got(&second), got(&road.collectors[0])), (1, 1));
    assert_eq!(lost(&road.end_with_losses()), [("dropped", 2)]);
}

/// Spans that arrived: trace and service.
type Spans = Vec<(Vec<u8>, String)>;

/// The spans that arrived, by the place of their backend.
fn spans(backends: &[&Backend]) -> Vec<Spans> {
    let of = |backend: &Backend| {
        let messages = backend.seen().into_iter().flat_map(|seen| seen.messages);
        messages.flat_map(|message| place_of(&message, 0)).map(|(_, place)| (place.trace, place.service)).collect()
    };
    backends.iter().map(|backend| of(backend)).collect()
}

/// Sends one batch of each sender's spans, every trace twice; answers what arrived at the first and the second pool.
fn export(rules: Vec<Rule>, senders: &[&str]) -> (Vec<Spans>, Vec<(&'static str, u64)>) {
    let backends = [Backend::good(), Backend::good()];
    let second = backends[1].address;
    let road = Road::through(Vec::new(), &[backends[0].address], |plan| {
        let rules: Vec<Arc<Rule>> = rules.into_iter().map(Arc::new).collect();
        plan.routes = Arc::new(Routes::new(catalogue::methods(), |_| rules.clone()));
        let endpoint = Endpoint { host: second.ip().to_string(), port: second.port() };
        plan.pools.push(pool::Settings::new("second", vec![endpoint]));
    });
    // What protobuf reads as one request is several, one behind the other.
    let request: Vec<u8> = senders.iter().flat_map(|sender| batch(sender, 0..100, 2)).collect();
    let answer =
        road.block_on(async { Caller::connect(road.agents()).await.call(SPANS, &[], &[request.into()]).await });
    assert_eq!(answer.code(), Code::Ok);
    (spans(&backends.each_ref()), lost(&road.end_with_losses()))
}

fn service(name: &str) -> Test {
    let path = "1.1.1[service.name].1".parse().unwrap();
    Test::Field(path, Match::Equals(name.as_bytes().into()))
}

#[test]
fn each_resource_of_a_batch_falls_under_its_own_rule() {
    let shop = Rule { pool: 1, ..rule(service("shop")) };
    let noise = Rule { action: Action::Drop { reason: Arc::from("noise") }, ..rule(service("noise")) };
    let (arrived, lost) = export(vec![shop, noise], &["shop", "till", "noise"]);
    let services = |at: usize| arrived[at].iter().map(|(_, service)| service.as_str()).collect::<BTreeSet<_>>();
    assert_eq!((services(0), services(1)), (BTreeSet::from(["till"]), BTreeSet::from(["shop"])));
    assert_eq!((arrived[0].len(), arrived[1].len()), (200, 200));
    assert_eq!(lost, [], "what is left of the batch was delivered");
}

#[test]
fn a_batch_of_which_nothing_is_left_is_answered_and_lost() {
    let noise = Rule { action: Action::Drop { reason: Arc::from("noise") }, ..rule(service("noise")) };
    let (arrived, lost) = export(vec![noise], &["noise"]);
    assert_eq!((arrived[0].len() + arrived[1].len(), lost), (0, vec![("dropped", 1)]));
}

#[test]
fn a_sample_of_traces_takes_whole_traces_whoever_sent_their_spans() {
    let share = Share { below: u64::MAX / 2, by: vec![FieldPath::of(&[1, 2, 2, 1])] };
    let sample = Rule { action: Action::Sample(share), ..rule(Test::Always) };
    let (arrived, _) = export(vec![sample], &["shop", "till"]);
    let mut times: BTreeMap<&[u8], usize> = BTreeMap::new();
    arrived[0].iter().for_each(|(trace, _)| *times.entry(trace).or_default() += 1);
    assert!((30..70).contains(&times.len()), "{} of 100 traces", times.len());
    assert!(times.values().all(|times| *times == 4), "{times:?}");
}
