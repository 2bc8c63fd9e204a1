//! The generator does what it claims: every method's agents do, sooner or later, everything its receiver has rules for.

use std::collections::BTreeSet;

use switchyard::testkit::methods::{Method, MethodId};
use switchyard::testkit::receivers::Rule;

use crate::draw::{Draw, Mark};
use crate::traffic::Traffic;

const SEEDS: u64 = 100;

/// What a method's agents have to do at least once.
fn expected(method: &Method) -> BTreeSet<Mark> {
    let mut expected = BTreeSet::from([
        Mark::Gzip,
        Mark::Huge,
        Mark::AnyOrder,
        Mark::Reset,
        Mark::EarlyHalfClose,
        Mark::SharedConnection,
    ]);
    if method.rule != Rule::Segments {
        expected.insert(Mark::UnknownFields);
    }
    if method.streams_in {
        expected.extend([Mark::Silent, Mark::Burst]);
    }
    if !matches!(method.rule, Rule::Events | Rule::EbpfProfiling) {
        expected.insert(Mark::Tiny);
    }
    let carries = matches!(
        method.rule,
        Rule::Logs
            | Rule::MeterStream
            | Rule::MeterBatch
            | Rule::AccessLog { .. }
            | Rule::EnvoyMetrics
            | Rule::EbpfProfiling
            | Rule::EbpfAccessLog
    );
    if carries {
        expected.extend([Mark::LateContext, Mark::ChangedContext]);
    }
    let is_two_fields = method.rule == Rule::EbpfAccessLog;
    if (carries && !is_two_fields) || matches!(method.rule, Rule::Otlp(_)) {
        expected.insert(Mark::SaidTwice);
    }
    expected
}

#[test]
fn every_method_s_agents_do_everything_its_receiver_has_rules_for() {
    for method in MethodId::all().map(MethodId::method).filter(|method| !method.path.contains("grpc.health")) {
        let mut missing = expected(method);
        for seed in 0..SEEDS {
            let mut draw = Draw::new(seed);
            Traffic::draw(&method.path, &mut draw);
            missing.retain(|mark| !draw.marks().contains(mark));
            if missing.is_empty() {
                break;
            }
        }
        assert!(missing.is_empty(), "{} never in {SEEDS} cases: {missing:?}", method.path);
    }
}

#[test]
fn a_seed_says_the_same_every_time() {
    for path in
        ["/skywalking.v3.EBPFAccessLogService/collect", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"]
    {
        let said = || {
            let traffic = Traffic::draw(path, &mut Draw::new(7));
            format!("{:?}", (traffic.steps, traffic.calls))
        };
        assert_eq!(said(), said());
    }
}
