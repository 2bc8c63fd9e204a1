//! Batches under content rules: each resource goes its own way, and by its key there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use switchyard::config::Plan;
use switchyard::message::path::FieldPath;
use switchyard::pool::{self, Endpoint};
use switchyard::route::rule::{Action, Limit, Match, Rate, Rule, Share, Test};
use switchyard::route::{Routes, catalogue};
use switchyard::wire::grpc::Code;

use super::batches::{METRICS, SPANS, batch, framed_gzip, large_batch, metrics, metrics_in};
use super::failing::PATIENCE;
use super::placed;
use crate::backend::Backend;
use crate::caller::{Call, Caller, framed};
use crate::ground::{Road, eventually, lost};

/// Holds for resources whose first attribute, their service, is this.
fn of_service(name: &str) -> Test {
    Test::Field(FieldPath::of(&[1, 1, 1, 2, 1]), Match::Equals(name.as_bytes().into()))
}

fn rule(test: Test) -> Rule {
    Rule { test, name: Arc::from("under-test"), ..Arc::into_inner(Rule::for_the_rest()).unwrap() }
}

/// A gateway with these rules before one pool of these backends and a second one of those.
fn ruled(first: &[&Backend], second: &[&Backend], rules: Vec<Rule>, change: impl FnOnce(&mut Plan)) -> Road {
    let addresses: Vec<_> = first.iter().map(|backend| backend.address).collect();
    let endpoint =
        |backend: &&Backend| Endpoint { host: backend.address.ip().to_string(), port: backend.address.port() };
    let rules: Vec<Arc<Rule>> = rules.into_iter().map(Arc::new).collect();
    Road::through(Vec::new(), &addresses, |plan| {
        plan.routes = Arc::new(Routes::new(catalogue::methods(), |_| rules.clone()));
        plan.pools.push(pool::Settings::new("second", second.iter().map(endpoint).collect()));
        change(plan);
    })
}

/// One batch of several senders: their elements one behind the other.
fn together(batches: &[Bytes]) -> Bytes {
    batches.concat().into()
}

#[test]
fn a_resource_s_metrics_keep_meeting_one_collector_of_the_pool_a_rule_names() {
    let backends = [Backend::good(), Backend::good(), Backend::good()];
    let other = Backend::good();
    let rest = Rule { pool: 1, ..rule(of_service("nobody")) };
    let road = ruled(&backends.each_ref(), &[&other], vec![rest], |_| {});
    let senders: Vec<String> = (0..40).map(|sender| format!("sender-{sender}")).collect();
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        for _ in 0..4 {
            assert_eq!(caller.call(METRICS, &[], &[metrics(&senders)]).await.code(), Code::Ok);
        }
    });
    let mut owners: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, backend) in backends.iter().enumerate() {
        for message in backend.seen().iter().flat_map(|seen| &seen.messages) {
            metrics_in(message).into_iter().for_each(|(sender, _)| owners.entry(sender).or_default().push(at));
        }
    }
    assert_eq!(owners.len(), 40);
    for (sender, met) in &owners {
        assert!(met.len() == 4 && met.iter().all(|owner| *owner == met[0]), "{sender} met {met:?}");
    }
    assert!(backends.iter().all(|backend| !backend.seen().is_empty()), "40 senders over three");
    road.end();
}

#[test]
fn a_trace_that_spans_two_resources_is_judged_by_the_rule_of_each() {
    let (one, two) = (Backend::good(), Backend::good());
    let by_trace = || Action::Sample(Share { below: u64::MAX - 1, by: vec![FieldPath::of(&[1, 2, 2, 1])] });
    let shop = Rule { pool: 1, action: by_trace(), ..rule(of_service("shop")) };
    let till = Rule { action: by_trace(), ..rule(of_service("till")) };
    let road = ruled(&[&one], &[&two], vec![shop, till], |_| {});
    let message = together(&["shop", "till"].map(|sender| batch(sender, 7..8, 1)));
    let code = road.block_on(async { Caller::connect(road.agents()).await.call(SPANS, &[], &[message]).await.code() });
    assert_eq!(code, Code::Ok);
    let names = |backend: &Backend| placed(&[backend]).into_keys().collect::<Vec<_>>();
    assert_eq!((names(&one), names(&two)), (vec!["till-7-0".to_owned()], vec!["shop-7-0".to_owned()]));
    road.end();
}

#[test]
fn a_rate_counts_a_resource_once_though_its_batch_waits_for_memory() {
    let (one, two) = (Backend::silent_above(500_000), Backend::silent_above(500_000));
    let limit = Some(Limit::new(Arc::new(Rate::new(1, Duration::from_secs(1), 2)), Vec::new()));
    let shop = Rule { pool: 1, limit, ..rule(of_service("shop")) };
    let road = ruled(&[&one], &[&two], vec![shop], |plan| {
        plan.limits.message_bytes_max = 1 << 20;
        plan.memory_bytes = 4 << 20;
    });
    let traces: Vec<u8> = (0..250).collect();
    let part = |sender: &str| large_batch(sender, &traces, 30);
    let folded = framed_gzip(&together(&[part("shop"), part("shop"), part("till")]));
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut hogs = Vec::new();
        for _ in 0..3 {
            let mut call = caller.open(SPANS).await;
            call.send(framed(&large_batch("hog", &traces, 75))).await;
            call.half_close();
            hogs.push(call);
        }
        eventually("the memory is taken", PATIENCE, || one.seen().len() == 3);
        let mut call = caller.open_with(SPANS, &[("grpc-encoding", "gzip")]).await;
        call.send(folded).await;
        call.half_close();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!((one.seen().len(), two.seen().len()), (3, 0), "there is no memory for its parts");
        hogs.iter_mut().for_each(Call::reset);
        assert_eq!(call.answer().await.code(), Code::Ok);
    });
    assert_eq!((one.seen().len(), two.seen().len()), (4, 1), "both resources of the shop are within the rate");
    assert_eq!(lost(&road.end_with_losses()), [("relay", 3)]);
}
