//! A relayed call whose backend fails: tried elsewhere where it may be said twice, answered in the right tone where not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use switchyard::wire::grpc::Code;

use crate::backend::Backend;
use crate::caller::{Answer, Caller};
use crate::ground::Road;
use crate::process::free_addresses;
use crate::relay::{METERS, QUERY};

const NEVER_TWICE: [&str; 2] =
    ["/skywalking.v3.ContinuousProfilingService/reportProfilingTask", "/skywalking.v3.ProfileTask/reportTaskFinish"];

/// Resets each call with `reason` after it was read, the first `times` over all calls; then answers.
fn resets_first(reason: Reason, read: bool) -> [Backend; 2] {
    let failed = Arc::new(AtomicBool::new(false));
    [(); 2].map(|()| {
        let failed = Arc::clone(&failed);
        Backend::start(move |mut call| {
            let failed = Arc::clone(&failed);
            async move {
                if read {
                    call.read().await;
                }
                if !failed.swap(true, Relaxed) {
                    return call.reset(reason);
                }
                call.read().await;
                call.ok(b"from the second");
            }
        })
    })
}

fn call(backends: &[Backend], path: &str) -> Answer {
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let road = Road::through(Vec::new(), &addresses, |_| {});
    let answer =
        road.block_on(async { Caller::connect(road.agents()).await.call(path, &[], &[Bytes::from_static(b"")]).await });
    road.end_with_losses();
    answer
}

fn calls(backends: &[Backend]) -> usize {
    backends.iter().map(|backend| backend.seen().len()).sum()
}

#[test]
fn a_refused_stream_is_tried_elsewhere_whatever_the_method() {
    for path in [QUERY, METERS, NEVER_TWICE[0], NEVER_TWICE[1]] {
        let backends = resets_first(Reason::REFUSED_STREAM, false);
        let answer = call(&backends, path);
        assert_eq!((answer.code(), calls(&backends)), (Code::Ok, 2), "{path}");
        assert_eq!(answer.messages(), ["from the second"], "{path}");
    }
}

#[test]
fn a_call_a_backend_may_have_taken_is_not_said_twice_where_that_does_harm() {
    for path in NEVER_TWICE {
        let backends = resets_first(Reason::INTERNAL_ERROR, true);
        let answer = call(&backends, path);
        assert_ne!(answer.code(), Code::Ok, "{path}");
        assert_eq!(calls(&backends), 1, "{path} was said twice");
        let silencing = [Code::Unavailable, Code::ResourceExhausted, Code::Unknown, Code::Unimplemented];
        assert!(!silencing.contains(&answer.code()), "{} silences an agent", answer.code());
    }
}

#[test]
fn a_set_whose_backend_fails_before_its_end_is_tried_elsewhere() {
    let backends = resets_first(Reason::INTERNAL_ERROR, true);
    assert_eq!((call(&backends, METERS).code(), calls(&backends)), (Code::Ok, 2));
}

#[test]
fn a_collector_that_dies_before_it_answers_costs_an_agent_no_silence() {
    let backends = resets_first(Reason::INTERNAL_ERROR, true);
    let answer = call(&backends, QUERY);
    let silencing = [Code::Unavailable, Code::ResourceExhausted, Code::Unknown, Code::Unimplemented];
    assert!(!silencing.contains(&answer.code()), "{} silences an agent", answer.code());
}

#[test]
fn with_no_backend_up_each_caller_hears_a_code_it_can_live_with_within_the_deadline() {
    let [closed, closed_too] = free_addresses();
    let deadline = Duration::from_millis(600);
    for (path, code) in [
        (QUERY, Code::DeadlineExceeded),
        (METERS, Code::DeadlineExceeded),
        ("/ManagementService/keepAlive", Code::DeadlineExceeded),
        ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Code::Unavailable),
    ] {
        let road = Road::through(Vec::new(), &[closed, closed_too], |plan| plan.limits.relay_deadline = deadline);
        let since = Instant::now();
        let answer =
            road.block_on(async { Caller::connect(road.agents()).await.call(path, &[], &[Bytes::new()]).await });
        let waited = since.elapsed();
        road.end_with_losses();
        assert_eq!(answer.code(), code, "{path}: {}", answer.status());
        assert!(waited >= deadline / 2 && waited < deadline * 3, "{path}: {waited:?}");
    }
}

#[test]
fn a_set_that_never_names_its_source_does_not_wait_for_ever() {
    let road = Road::to_collectors_with(1, |plan| plan.limits.relay_deadline = Duration::from_millis(600));
    let answer = road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut call = caller.open_with(METERS, &[("grpc-timeout", "500m")]).await;
        call.send(crate::caller::framed(b"\x12\x00")).await;
        call.answer().await
    });
    assert_eq!(answer.code(), Code::DeadlineExceeded, "its own deadline holds while it is not yet placed");
    road.end_with_losses();
}
