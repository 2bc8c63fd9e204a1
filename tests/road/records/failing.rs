//! Batches whose collectors fail or whose callers go: nothing is lost silently and nothing waits for ever.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use switchyard::pool::Policy;
use switchyard::wire::grpc::{Code, Status, timeout};

use super::batches::{SPANS, batch, large_batch};
use super::{hashing, placed};
use crate::backend::{Backend, End};
use crate::caller::{Answer, Caller, framed};
use crate::ground::{Road, eventually, lost};

pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Says this status to everything.
fn saying(code: Code) -> Backend {
    Backend::start(move |mut call| async move {
        call.read().await;
        call.status(code, "said by a test");
    })
}

/// Reads everything and never answers.
pub(super) fn silent() -> Backend {
    Backend::start(|mut call| async move {
        call.read().await;
        call.wait_for_reset().await;
    })
}

pub(super) fn export(road: &Road, metadata: &[(&str, &str)], message: Bytes) -> Answer {
    road.block_on(async { Caller::connect(road.agents()).await.call(SPANS, metadata, &[message]).await })
}

/// Every span of 60 traces arrived at these, once each.
fn assert_all_arrived(backends: &[&Backend]) {
    let placed = placed(backends);
    assert_eq!(placed.len(), 60);
    assert!(placed.values().all(|places| places.len() == 1), "{placed:?}");
}

#[test]
fn what_an_overloaded_or_failing_collector_does_not_take_another_does() {
    for (code, again) in [(Code::ResourceExhausted, 1), (Code::Unavailable, 1), (Code::Unimplemented, 0)] {
        let (one, two, failing) = (Backend::good(), Backend::good(), saying(code));
        let road = hashing(&[&one, &two, &failing]);
        assert_eq!(export(&road, &[], batch("shop", 0..60, 1)).code(), Code::Ok, "{code}");
        assert_all_arrived(&[&one, &two]);
        assert_eq!(failing.seen().len(), 1, "{code}: it was asked");
        let totals = road.end().totals;
        assert_eq!((totals.delivered, totals.possible_duplicates), (1, again), "{code}");
    }
}

#[test]
fn a_method_a_collector_does_not_serve_is_not_asked_of_it_again() {
    let (one, old) = (Backend::good(), saying(Code::Unimplemented));
    let road = hashing(&[&one, &old]);
    for _ in 0..5 {
        assert_eq!(export(&road, &[], batch("shop", 0..60, 1)).code(), Code::Ok);
    }
    assert_eq!(old.seen().len(), 1);
    road.end();
}

#[test]
fn the_traces_of_a_failed_collector_go_where_they_go_without_it() {
    let (one, two, failing) = (Backend::good(), Backend::good(), saying(Code::Unavailable));
    let road = hashing(&[&one, &two, &failing]);
    assert_eq!(export(&road, &[], batch("with", 0..60, 1)).code(), Code::Ok);
    road.end();
    let road = hashing(&[&one, &two]);
    assert_eq!(export(&road, &[], batch("than", 0..60, 1)).code(), Code::Ok);
    road.end();
    let placed = placed(&[&one, &two]);
    let owners = |sender: &str| -> Vec<usize> {
        placed.iter().filter(|(name, _)| name.starts_with(sender)).map(|(_, places)| places[0].backend).collect()
    };
    assert_eq!(owners("with").len(), 60);
    assert_eq!(owners("with"), owners("than"));
}

#[test]
fn collectors_that_are_all_overloaded_are_never_said_to_be_bare() {
    let backends = [saying(Code::ResourceExhausted), saying(Code::ResourceExhausted)];
    let road = hashing(&backends.each_ref());
    let status = export(&road, &[], batch("shop", 0..60, 1)).status();
    assert_eq!(status.code, Code::Unavailable, "{status}");
    assert!(status.message.contains("said by a test"), "{status}");
    assert_eq!(lost(&road.end_with_losses()), [("relay", 1)]);
}

#[test]
fn a_collector_that_is_not_there_costs_nothing() {
    let gone: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (one, two) = (Backend::good(), Backend::good());
    let road =
        Road::through(Vec::new(), &[one.address, gone, two.address], |plan| plan.pools[0].balance = Policy::Hash);
    assert_eq!(export(&road, &[], batch("shop", 0..60, 1)).code(), Code::Ok);
    assert_all_arrived(&[&one, &two]);
    let totals = road.end().totals;
    assert_eq!((totals.delivered, totals.possible_duplicates), (1, 0));
}

#[test]
fn what_a_collector_took_with_it_is_said_to_another() {
    let (one, two, dying) = (Backend::good(), Backend::good(), silent());
    let road = hashing(&[&one, &two, &dying]);
    let mut dying = Some(dying);
    let agents = road.agents();
    let calling = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(async { Caller::connect(agents).await.call(SPANS, &[], &[batch("shop", 0..60, 1)]).await.code() })
    });
    let has_read = || dying.as_ref().is_some_and(|dying| dying.seen().iter().any(|seen| seen.end == End::HalfClosed));
    eventually("the collector has the piece", PATIENCE, has_read);
    let (snapshot, piece) = (road.snapshot(), dying.as_ref().map_or(0, |dying| dying.seen()[0].messages[0].len()));
    assert_eq!(snapshot.held, 1);
    assert!(snapshot.budget.used_bytes >= piece as u64, "what is in flight is in memory");
    dying.take();
    assert_eq!(calling.join().unwrap(), Code::Ok);
    assert_all_arrived(&[&one, &two]);
    let totals = road.end().totals;
    assert_eq!((totals.delivered, totals.possible_duplicates), (1, 1));
}

#[test]
fn a_stream_that_a_collector_resets_is_said_to_another() {
    for (reason, again) in [(Reason::INTERNAL_ERROR, 1), (Reason::REFUSED_STREAM, 0)] {
        let resetting = Backend::start(move |mut call| async move {
            call.read().await;
            call.reset(reason);
        });
        let one = Backend::good();
        let road = hashing(&[&one, &resetting]);
        assert_eq!(export(&road, &[], batch("shop", 0..60, 1)).code(), Code::Ok, "{reason}");
        assert_all_arrived(&[&one]);
        assert_eq!(road.end().totals.possible_duplicates, again, "{reason}");
    }
}

#[test]
fn an_ok_before_the_whole_batch_was_sent_is_none() {
    let hasty = Backend::start(|call| async move { call.ok(b"") });
    let one = Backend::good();
    let road = hashing(&[&one, &hasty]);
    // More than the window of a collector that reads nothing.
    let traces: Vec<u8> = (0..60).collect();
    let large = large_batch("shop", &traces, 200);
    assert!(large.len() > 500_000);
    assert_eq!(export(&road, &[], large).code(), Code::Ok);
    assert_eq!(placed(&[&one]).len(), 60 * 200);
    assert_eq!(road.end().totals.possible_duplicates, 1);
}

#[test]
fn one_collector_s_refusal_is_the_reply_and_says_how_much_was_accepted() {
    let (one, two, strict) = (Backend::good(), Backend::good(), saying(Code::InvalidArgument));
    let road = hashing(&[&one, &two, &strict]);
    let status = export(&road, &[], batch("shop", 0..60, 1)).status();
    assert_eq!(status, Status::new(Code::InvalidArgument, "2 of 3 parts were accepted: said by a test"));
    assert_eq!(strict.seen().len(), 1, "it would be refused elsewhere, too");
    assert_eq!(lost(&road.end_with_losses()), [("relay", 1)]);
}

#[test]
fn what_is_to_be_tried_again_is_the_reply_though_another_piece_was_refused() {
    let (one, strict, late) = (Backend::good(), saying(Code::InvalidArgument), silent());
    let road = hashing(&[&one, &strict, &late]);
    let status = export(&road, &[("grpc-timeout", "400m")], batch("shop", 0..60, 1)).status();
    assert_eq!(status.code, Code::DeadlineExceeded, "{status}");
    road.end_with_losses();
}

#[test]
fn details_of_the_only_status_pass_so_that_an_exporter_knows_when_to_come_back() {
    let backend = Backend::start(|mut call| async move {
        call.read().await;
        let status = Status::new(Code::Unavailable, "in a while");
        call.answer(&[], &status, &[("grpc-status-details-bin", "CA4")]);
    });
    let road = hashing(&[&backend]);
    let answer = export(&road, &[], batch("shop", 0..3, 1));
    assert_eq!((answer.code(), answer.trailers.get("grpc-status-details-bin").is_some()), (Code::Unavailable, true));
    road.end_with_losses();
}

#[test]
fn a_deadline_passes_on_with_less_time_and_is_kept_when_a_collector_does_not() {
    let (one, two, late) = (Backend::good(), Backend::good(), silent());
    let road = hashing(&[&one, &two, &late]);
    let since = Instant::now();
    let status = export(&road, &[("grpc-timeout", "400m")], batch("shop", 0..60, 1)).status();
    let waited = since.elapsed();
    assert_eq!(status.code, Code::DeadlineExceeded, "{status}");
    assert!((Duration::from_millis(350)..Duration::from_millis(1_500)).contains(&waited), "{waited:?}");
    let passed = timeout(&late.seen()[0].headers).expect("a deadline passed");
    assert!(passed <= Duration::from_millis(400) && passed > Duration::from_millis(100), "{passed:?}");
    eventually("the late one is told", PATIENCE, || late.seen()[0].end == End::Reset(Reason::CANCEL));
    assert_eq!(lost(&road.end_with_losses()), [("relay", 1)]);
}

#[test]
fn a_caller_without_a_deadline_waits_for_ours() {
    let late = silent();
    let road =
        Road::through(Vec::new(), &[late.address], |plan| plan.limits.relay_deadline = Duration::from_millis(300));
    assert_eq!(export(&road, &[], batch("shop", 0..3, 1)).code(), Code::DeadlineExceeded);
    road.end_with_losses();
}

#[test]
fn no_collector_in_time_is_unavailable() {
    let gone: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for policy in [Policy::Hash, Policy::LeastLoad] {
        let road = Road::through(Vec::new(), &[gone], |plan| plan.pools[0].balance = policy);
        let status = export(&road, &[("grpc-timeout", "300m")], batch("shop", 0..3, 1)).status();
        assert_eq!(status.code, Code::Unavailable, "{policy:?}: {status}");
        road.end_with_losses();
    }
}

#[test]
fn a_collector_that_answers_late_gets_nothing_new() {
    let (one, late) = (Backend::good(), silent());
    let road = Road::through(Vec::new(), &[one.address, late.address], |plan| {
        plan.pools[0].balance = Policy::Hash;
        plan.pools[0].trip.answer_deadline = Duration::from_millis(100);
    });
    let status = export(&road, &[("grpc-timeout", "400m")], batch("shop", 0..60, 1)).status();
    assert_eq!(status.code, Code::DeadlineExceeded);
    assert_eq!(export(&road, &[], batch("till", 0..60, 1)).code(), Code::Ok, "the others take its traces");
    assert_eq!(late.seen().len(), 1);
    road.end_with_losses();
}

#[test]
fn a_collector_that_keeps_failing_is_left_alone() {
    let (one, failing) = (Backend::good(), saying(Code::Unavailable));
    let road = hashing(&[&one, &failing]);
    for _ in 0..20 {
        assert_eq!(export(&road, &[], batch("shop", 0..60, 1)).code(), Code::Ok);
    }
    assert!(failing.seen().len() < 15, "asked {} times", failing.seen().len());
    road.end();
}

#[test]
fn a_caller_that_resets_cancels_every_piece() {
    let backends = [silent(), silent(), silent()];
    let all = backends.each_ref();
    let road = hashing(&all);
    road.block_on(async {
        let mut call = Caller::connect(road.agents()).await.open(SPANS).await;
        call.send(framed(&batch("shop", 0..60, 1))).await;
        call.half_close();
        let all_have_it = || all.iter().all(|backend| backend.seen().iter().any(|seen| seen.end == End::HalfClosed));
        let until = Instant::now() + PATIENCE;
        while !all_have_it() {
            assert!(Instant::now() < until, "every collector gets its piece");
            tokio::task::yield_now().await;
        }
        call.reset();
        // The connection has to be driven until the reset is out.
        while !all.iter().all(|backend| backend.seen()[0].end == End::Reset(Reason::CANCEL)) {
            assert!(Instant::now() < until, "every collector is told");
            tokio::task::yield_now().await;
        }
    });
    eventually("the books are closed", PATIENCE, || road.snapshot().held == 0);
    assert_eq!(lost(&road.end_with_losses()), [("relay", 1)]);
}
