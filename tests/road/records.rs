//! OTLP batches: cut by key over the collectors, each piece with its wrappers, and answered as one.

pub mod batches;
mod failing;
mod limits;
mod ruled;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use switchyard::pool::Policy;
use switchyard::proto::opentelemetry::proto::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use switchyard::wire::grpc::{Code, Status};

use crate::backend::{Backend, End};
use crate::caller::{Caller, framed, messages};
use crate::ground::Road;
use batches::{LOGS, METRICS, Place, SPANS, batch, framed_gzip, gunzip, logs, metrics, place_of, spans_in};

/// A gateway before these backends that hashes.
fn hashing(backends: &[&Backend]) -> Road {
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    Road::through(Vec::new(), &addresses, |plan| plan.pools[0].balance = Policy::Hash)
}

/// Where each span arrived, by its name.
fn placed(backends: &[&Backend]) -> BTreeMap<String, Vec<Place>> {
    let mut found: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for (at, backend) in backends.iter().enumerate() {
        for seen in backend.seen() {
            for (name, place) in seen.messages.iter().flat_map(|message| place_of(message, at)) {
                found.entry(name).or_default().push(place);
            }
        }
    }
    found
}

fn good() -> [Backend; 3] {
    [Backend::good(), Backend::good(), Backend::good()]
}

#[test]
fn spans_of_one_trace_meet_one_collector_whoever_sends_them() {
    let backends = good();
    let all = backends.each_ref();
    let road = hashing(&all);
    road.block_on(async {
        for sender in ["shop", "till"] {
            let answer = Caller::connect(road.agents()).await.call(SPANS, &[], &[batch(sender, 0..60, 3)]).await;
            assert_eq!((answer.code(), answer.messages()), (Code::Ok, vec![Bytes::new()]));
        }
    });
    let placed = placed(&all);
    assert_eq!(placed.len(), 2 * 60 * 3, "every span arrived");
    let mut of_trace: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for (name, places) in &placed {
        let [place] = &places[..] else { panic!("{name} arrived {} times", places.len()) };
        assert_eq!(*of_trace.entry(place.trace.clone()).or_insert(place.backend), place.backend, "{name}");
        assert!(name.starts_with(&place.service), "{name} stands in the resource of {}", place.service);
        assert_eq!((&*place.scope, &*place.schemas), ("lib", "of the resource, of the scope"), "{name}");
    }
    let shares: Vec<usize> =
        (0..3).map(|backend| of_trace.values().filter(|owner| **owner == backend).count()).collect();
    assert!(shares.iter().all(|share| *share > 2), "60 traces over three: {shares:?}");
    let totals = road.end().totals;
    assert_eq!((totals.received, totals.delivered, totals.possible_duplicates), (2, 2, 0));
}

#[test]
fn gateways_with_shuffled_backends_agree_on_every_trace() {
    let backends = good();
    let [a, b, c] = backends.each_ref();
    let owners = |order: &[&Backend], sender: &str| -> Vec<usize> {
        let road = hashing(order);
        road.block_on(async {
            let answer = Caller::connect(road.agents()).await.call(SPANS, &[], &[batch(sender, 0..40, 1)]).await;
            assert_eq!(answer.code(), Code::Ok);
        });
        road.end();
        let placed = placed(&[a, b, c]);
        placed.iter().filter(|(name, _)| name.starts_with(sender)).map(|(_, places)| places[0].backend).collect()
    };
    assert_eq!(owners(&[a, b, c], "shop"), owners(&[c, a, b], "till"));
}

#[test]
fn a_batch_that_came_compressed_leaves_compressed() {
    let backends = good();
    let all = backends.each_ref();
    let road = hashing(&all);
    road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open_with(SPANS, &[("grpc-encoding", "gzip")]).await;
        call.send(framed_gzip(&batch("shop", 0..40, 2))).await;
        call.half_close();
        assert_eq!(call.answer().await.code(), Code::Ok);
    });
    let mut spans = 0;
    for backend in all {
        for seen in backend.seen() {
            assert_eq!(seen.headers["grpc-encoding"], "gzip");
            spans += spans_in(&gunzip(&seen.messages[0])).len();
        }
        assert_eq!(backend.seen().len(), 1, "one piece each");
    }
    assert_eq!(spans, 80);
    road.end();
}

#[test]
fn a_batch_that_needs_no_cutting_leaves_byte_for_byte_as_it_came() {
    let backend = Backend::good();
    for (policy, encoding) in [(Policy::LeastLoad, "zstd"), (Policy::Hash, "gzip")] {
        let road = Road::through(Vec::new(), &[backend.address], |plan| plan.pools[0].balance = policy);
        // Without a key nothing is read, so it need not even be something we know.
        let body = if encoding == "gzip" { framed_gzip(&batch("shop", 0..200, 5)) } else { framed(&[7; 100_000]) };
        let code = road.block_on(async {
            let mut call = Caller::connect(road.agents()).await.open_with(SPANS, &[("grpc-encoding", encoding)]).await;
            call.send(body.clone()).await;
            call.half_close();
            call.answer().await.code()
        });
        assert_eq!(code, Code::Ok, "{encoding}");
        let seen = backend.seen().pop().unwrap();
        assert_eq!((&seen.messages, seen.end), (&messages(&body), End::HalfClosed), "{encoding}");
        assert_eq!(seen.headers["grpc-encoding"], encoding);
        road.end();
    }
}

#[test]
fn what_collectors_rejected_of_their_pieces_is_summed() {
    let rejecting = |rejected_spans: i64, error_message: &str, compressed: bool| {
        let partial = ExportTracePartialSuccess { rejected_spans, error_message: error_message.to_owned() };
        let response = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        Backend::start(move |mut call| {
            let response = response.clone();
            async move {
                call.read().await;
                match compressed {
                    true => call.answer_gzip(&response),
                    false => call.ok(&response),
                }
            }
        })
    };
    let backends = [rejecting(2, "too old", false), rejecting(0, "", false), rejecting(5, "too long", true)];
    let road = hashing(&backends.each_ref());
    road.block_on(async {
        let answer = Caller::connect(road.agents()).await.call(SPANS, &[], &[batch("shop", 0..60, 1)]).await;
        assert_eq!(answer.code(), Code::Ok);
        let partial = ExportTraceServiceResponse::decode(&answer.messages()[0][..]).unwrap().partial_success.unwrap();
        assert_eq!(partial.rejected_spans, 7);
        let mut said: Vec<&str> = partial.error_message.split("; ").collect();
        said.sort_unstable();
        assert_eq!(said, ["too long", "too old"]);
    });
    assert_eq!(road.end().totals.delivered, 1, "partly accepted is accepted");
}

#[test]
fn the_only_answer_passes_with_its_metadata() {
    let backend = Backend::start(|mut call| async move {
        call.read().await;
        call.answer(&[b"\x0a\x02\x08\x07"], &Status::ok(), &[("x-seen-by", "collector")]);
    });
    let road = hashing(&[&backend]);
    road.block_on(async {
        let metadata = [("authentication", "token"), ("authorization", "secret"), ("grpc-accept-encoding", "gzip")];
        let answer = Caller::connect(road.agents()).await.call(SPANS, &metadata, &[batch("shop", 0..9, 1)]).await;
        assert_eq!((answer.code(), answer.messages()), (Code::Ok, vec![Bytes::from_static(b"\x0a\x02\x08\x07")]));
        assert_eq!(answer.trailers["x-seen-by"], "collector");
    });
    let headers = &backend.seen()[0].headers;
    assert_eq!(headers["authentication"], "token");
    assert!(headers.get("authorization").is_none(), "it speaks of the hop that ends here");
    assert!(headers.get("grpc-accept-encoding").is_none(), "answers are read here");
    road.end();
}

#[test]
fn a_resource_s_metrics_keep_meeting_one_collector_whatever_the_policy_and_are_never_cut() {
    let backends = good();
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let road = Road::through(Vec::new(), &addresses, |plan| plan.pools[0].message_bytes_max = Some(500));
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        for round in 0..4 {
            let senders: Vec<String> = (round..round + 60).map(|sender| format!("sender-{sender}")).collect();
            let answer = caller.call(METRICS, &[], &[metrics(&senders)]).await;
            assert_eq!(answer.code(), Code::Ok);
        }
    });
    let mut owners: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, backend) in backends.iter().enumerate() {
        for message in backend.seen().iter().flat_map(|seen| &seen.messages) {
            for (sender, count) in batches::metrics_in(message) {
                assert_eq!(count, 20, "{sender} is one set, though over the limit");
                owners.entry(sender).or_default().push(at);
            }
        }
    }
    assert_eq!(owners.values().map(Vec::len).sum::<usize>(), 4 * 60);
    for (sender, met) in &owners {
        assert!(met.iter().all(|owner| *owner == met[0]), "{sender} met {met:?}");
    }
    let used: std::collections::BTreeSet<usize> = owners.values().map(|met| met[0]).collect();
    assert_eq!(used.len(), 3, "63 senders over three");
    road.end();
}

#[test]
fn logs_stay_with_their_sender_where_the_pool_hashes() {
    let backends = good();
    let all = backends.each_ref();
    let road = hashing(&all);
    let senders: Vec<String> = (0..20).map(|sender| format!("sender-{sender}")).collect();
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        for _ in 0..3 {
            assert_eq!(caller.call(LOGS, &[], &[logs(&senders)]).await.code(), Code::Ok);
        }
    });
    let mut owners: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, backend) in all.iter().enumerate() {
        for message in backend.seen().iter().flat_map(|seen| &seen.messages) {
            batches::logs_in(message).into_iter().for_each(|sender| owners.entry(sender).or_default().push(at));
        }
    }
    assert_eq!(owners.len(), 20);
    assert!(owners.values().all(|met| met.len() == 3 && met.iter().all(|owner| *owner == met[0])), "{owners:?}");
    road.end();
}

#[test]
fn a_batch_over_the_backends_limit_is_cut_to_fit_with_a_key_or_without() {
    for policy in [Policy::LeastLoad, Policy::Hash] {
        let backends = good();
        let all = backends.each_ref();
        let addresses: Vec<_> = all.iter().map(|backend| backend.address).collect();
        let road = Road::through(Vec::new(), &addresses, |plan| {
            plan.pools[0].balance = policy;
            plan.pools[0].message_bytes_max = Some(2_000);
        });
        road.block_on(async {
            let caller = Caller::connect(road.agents()).await;
            assert_eq!(caller.call(SPANS, &[], &[batch("shop", 0..50, 4)]).await.code(), Code::Ok);
            let mut call = caller.open_with(SPANS, &[("grpc-encoding", "gzip")]).await;
            call.send(framed_gzip(&batch("till", 0..50, 4))).await;
            call.half_close();
            assert_eq!(call.answer().await.code(), Code::Ok);
        });
        let mut spans = 0;
        for seen in all.iter().flat_map(|backend| backend.seen()) {
            let message = &seen.messages[0];
            let plain = if seen.headers.contains_key("grpc-encoding") { gunzip(message) } else { message.clone() };
            assert!(plain.len() <= 2_000, "{} bytes", plain.len());
            spans += spans_in(&plain).len();
        }
        assert_eq!(spans, 400, "{policy:?}");
        let totals = road.end().totals;
        assert_eq!((totals.received, totals.delivered), (2, 2));
    }
}

#[test]
fn each_piece_counts_once_for_the_backend_that_got_it() {
    let backends = good();
    let road = hashing(&backends.each_ref());
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        for _ in 0..5 {
            assert_eq!(caller.call(SPANS, &[], &[batch("shop", 0..60, 1)]).await.code(), Code::Ok);
        }
    });
    let snapshot = road.snapshot();
    assert_eq!((snapshot.received, snapshot.delivered, snapshot.held), (5, 5, 0));
    for backend in &snapshot.backends {
        assert_eq!(backend.messages, 5, "{}", backend.name);
    }
    assert_eq!(snapshot.budget.used_bytes, 0, "permits are given back");
    road.end();
}
