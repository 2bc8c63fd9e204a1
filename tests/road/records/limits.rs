//! Batches that are too large, broken or slow, that come when there is no memory, or when the gateway leaves.

use std::time::Duration;

use bytes::Bytes;
use switchyard::pool::Policy;
use switchyard::wire::grpc::Code;

use super::batches::{SPANS, batch, framed_gzip, large_batch};
use super::failing::{PATIENCE, export, silent};
use super::hashing;
use crate::backend::Backend;
use crate::caller::{Caller, framed};
use crate::ground::{Road, eventually, lost};

#[test]
fn a_batch_that_is_too_large_is_refused_and_nothing_of_it_is_sent() {
    let one = Backend::good();
    let road = Road::through(Vec::new(), &[one.address], |plan| {
        plan.pools[0].balance = Policy::Hash;
        plan.limits.message_bytes_max = 10_000;
    });
    let traces: Vec<u8> = (0..200).collect();
    let large = large_batch("shop", &traces, 10);
    let answers = road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let plain = caller.call(SPANS, &[], std::slice::from_ref(&large)).await;
        let mut call = caller.open_with(SPANS, &[("grpc-encoding", "gzip")]).await;
        // Its half-close may come after the refusal.
        call.send(framed_gzip(&vec![0; 1 << 20])).await;
        call.half_close();
        [plain, call.answer().await]
    });
    for answer in answers {
        assert_eq!(answer.code(), Code::InvalidArgument, "{}", answer.status());
    }
    assert!(one.seen().is_empty());
    assert_eq!(lost(&road.end_with_losses()), [("malformed", 1)], "the first never was a whole message");
}

#[test]
fn a_batch_that_is_not_protobuf_is_refused_with_the_place() {
    let one = Backend::good();
    let road = hashing(&[&one]);
    let mut broken = batch("shop", 0..3, 1).to_vec();
    let behind = broken.len();
    broken.extend([0x0a, 100, 1, 2]);
    let status = export(&road, &[], broken.into()).status();
    assert_eq!(status.code, Code::InvalidArgument);
    assert!(status.message.contains(&format!("broken at byte {behind}")), "{status}");
    assert!(one.seen().is_empty());
    assert_eq!(lost(&road.end_with_losses()), [("malformed", 1)]);
}

#[test]
fn a_compression_we_do_not_know_is_named_where_the_batch_has_to_be_read() {
    let one = Backend::good();
    let road = hashing(&[&one]);
    let status = road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open_with(SPANS, &[("grpc-encoding", "zstd")]).await;
        call.send(framed_gzip(b"whatever")).await;
        call.half_close();
        call.answer().await.status()
    });
    assert_eq!(status.code, Code::Unimplemented);
    assert!(status.message.contains("zstd") && status.message.contains("gzip"), "{status}");
    road.end_with_losses();
}

#[test]
fn a_unary_call_brings_one_message_and_ends() {
    let one = Backend::good();
    let road = hashing(&[&one]);
    let whole = framed(&batch("shop", 0..3, 1));
    let cut_short = whole.slice(..whole.len() - 1);
    let two = Bytes::from([&whole[..], &whole].concat());
    let codes = road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut codes = Vec::new();
        for sent in [Bytes::new(), two, cut_short] {
            let mut call = caller.open(SPANS).await;
            call.send(sent).await;
            call.half_close();
            codes.push(call.answer().await.code());
        }
        // Two that come one after the other.
        let mut call = caller.open(SPANS).await;
        for _ in 0..2 {
            call.send(whole.clone()).await;
            tokio::task::yield_now().await;
        }
        call.half_close();
        codes.push(call.answer().await.code());
        codes
    });
    assert_eq!(codes, [Code::Internal; 4]);
    assert!(one.seen().is_empty());
    assert_eq!(lost(&road.end_with_losses()), [("malformed", 2)]);
}

#[test]
fn an_empty_batch_is_answered_by_a_collector() {
    let one = Backend::good();
    let road = hashing(&[&one]);
    assert_eq!(export(&road, &[], Bytes::new()).code(), Code::Ok);
    assert_eq!(one.seen()[0].messages, [Bytes::new()]);
    road.end();
}

#[test]
fn a_message_that_drips_in_ends_at_its_deadline() {
    let one = Backend::good();
    let road =
        Road::through(Vec::new(), &[one.address], |plan| plan.limits.message_deadline = Duration::from_millis(300));
    let code = road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(SPANS).await;
        call.send(framed(&batch("shop", 0..3, 1)).slice(..20)).await;
        call.answer().await.code()
    });
    assert_eq!(code, Code::DeadlineExceeded);
    assert!(one.seen().is_empty());
    assert_eq!(road.end().totals.received, 0);
}

#[test]
fn a_batch_for_which_there_is_no_memory_is_turned_away_in_time() {
    let backends = [silent(), silent(), silent()];
    let road = Road::through(Vec::new(), &backends.each_ref().map(|backend| backend.address), |plan| {
        plan.pools[0].balance = Policy::Hash;
        plan.limits.message_bytes_max = 1 << 20;
        plan.memory_bytes = 4 << 20;
    });
    let traces: Vec<u8> = (0..250).collect();
    let large = large_batch("shop", &traces, 70);
    assert!(large.len() > 700_000);
    let statuses = road.block_on(async {
        let mut calling = Vec::new();
        for _ in 0..6 {
            let mut call = Caller::connect(road.agents()).await.open_with(SPANS, &[("grpc-timeout", "1500m")]).await;
            let framed = framed(&large);
            calling.push(tokio::spawn(async move {
                call.send(framed).await;
                call.half_close();
                call.answer().await.status()
            }));
        }
        let mut statuses = Vec::new();
        for call in calling {
            statuses.push(call.await.unwrap());
        }
        statuses
    });
    let without_memory = statuses.iter().filter(|status| status.message.contains("no memory")).count();
    assert!(without_memory > 0, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status.code, Code::Unavailable | Code::DeadlineExceeded)));
    eventually("permits are given back", PATIENCE, || road.snapshot().budget.used_bytes == 0);
    road.end_with_losses();
}

#[test]
fn a_collector_that_is_slow_to_answer_is_left_alone_by_batches_without_a_key() {
    let backends = [Backend::silent_above(300_000), Backend::silent_above(300_000)];
    let road = Road::through(Vec::new(), &backends.each_ref().map(|backend| backend.address), |_| {});
    let traces: Vec<u8> = (0..250).collect();
    let (large, small) = (large_batch("shop", &traces, 60), large_batch("shop", &traces, 2));
    assert!(large.len() > 20 * small.len());
    let counts = road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut call = caller.open(SPANS).await;
        call.send(framed(&large)).await;
        call.half_close();
        eventually("the large batch has come", PATIENCE, || backends.iter().any(|backend| !backend.seen().is_empty()));
        // What was sent lately counts for less by then; what is not answered does not.
        tokio::time::sleep(Duration::from_millis(300)).await;
        for _ in 0..20 {
            assert_eq!(caller.call(SPANS, &[], std::slice::from_ref(&small)).await.code(), Code::Ok);
        }
        call.reset();
        let mut counts = backends.each_ref().map(|backend| backend.seen().len());
        counts.sort_unstable();
        counts
    });
    assert_eq!(counts, [1, 20]);
    road.end_with_losses();
}

/// Begins a call on a thread of its own, waits until `is_under_way` and lets the gateway leave; what the caller was told.
fn told_while_leaving(road: Road, sent: Bytes, half_closes: bool, is_under_way: impl Fn(&Road) -> bool) -> Code {
    let agents = road.agents();
    let calling = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut call = Caller::connect(agents).await.open(SPANS).await;
            call.send(sent).await;
            if half_closes {
                call.half_close();
            }
            call.answer().await.code()
        })
    });
    eventually("the call is under way", PATIENCE, || is_under_way(&road));
    road.end();
    calling.join().unwrap()
}

#[test]
fn a_batch_that_is_whole_is_answered_though_the_gateway_leaves() {
    let backend = Backend::start(|mut call| async move {
        call.read().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        call.ok(b"");
    });
    let road = hashing(&[&backend]);
    let told = told_while_leaving(road, framed(&batch("shop", 0..3, 1)), true, |_| !backend.seen().is_empty());
    assert_eq!(told, Code::Ok);
}

#[test]
fn a_batch_that_is_not_whole_is_to_be_tried_again_when_the_gateway_leaves() {
    let backend = Backend::good();
    let road = hashing(&[&backend]);
    let half = framed(&batch("shop", 0..3, 1)).slice(..30);
    let told = told_while_leaving(road, half, false, |road| road.snapshot().calls_total == 1);
    assert_eq!(told, Code::Aborted);
    assert!(backend.seen().is_empty());
}

#[test]
fn a_compressed_batch_waits_for_the_memory_it_unfolds_to() {
    // Three batches that nobody answers for leave too little for one that is small as it comes and has to be cut.
    let backend = Backend::silent_above(500_000);
    let road = Road::through(Vec::new(), &[backend.address], |plan| {
        plan.limits.message_bytes_max = 1 << 20;
        plan.memory_bytes = 4 << 20;
        plan.pools[0].message_bytes_max = Some(900_000);
    });
    let traces: Vec<u8> = (0..250).collect();
    let (hog, unfolded) = (large_batch("hog", &traces, 75), large_batch("shop", &traces, 90));
    let folded = framed_gzip(&unfolded);
    assert!((700_000..900_000).contains(&hog.len()) && unfolded.len() > 900_000 && folded.len() < 200_000);
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut hogs = Vec::new();
        for _ in 0..3 {
            let mut call = caller.open(SPANS).await;
            call.send(framed(&hog)).await;
            call.half_close();
            hogs.push(call);
        }
        eventually("the memory is taken", PATIENCE, || backend.seen().len() == 3);
        let mut call = caller.open_with(SPANS, &[("grpc-encoding", "gzip")]).await;
        call.send(folded).await;
        call.half_close();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(backend.seen().len(), 3, "there is no memory for its pieces");
        hogs.iter_mut().for_each(crate::caller::Call::reset);
        assert_eq!(call.answer().await.code(), Code::Ok);
    });
    assert_eq!(backend.seen().len(), 5, "it came in two pieces");
    let totals = road.end_with_losses().totals;
    assert_eq!((totals.received, totals.delivered), (4, 1));
}
