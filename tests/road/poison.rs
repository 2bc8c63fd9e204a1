//! A message that every backend refuses is found among its company, given up and counted; nobody else suffers.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use switchyard::listener::Reply;
use switchyard::proto::skywalking::v3::SegmentObject;
use switchyard::wire::grpc::Code;

use crate::backend::{Backend, End};
use crate::caller::{Caller, framed};
use crate::ground::{Road, lost};

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// Refuses every call with poison in it and remembers what it answered `OK` for.
fn wary() -> Backend {
    Backend::start(|mut call| async move {
        if call.read().await != End::HalfClosed {
            return;
        }
        if call.messages().iter().any(is_poison) {
            return call.status(Code::InvalidArgument, "I will not have this");
        }
        call.ok(b"");
    })
}

fn is_poison(message: &Bytes) -> bool {
    message.windows(6).any(|window| window == b"poison")
}

fn segment(name: &str) -> Bytes {
    SegmentObject { trace_id: name.into(), service: "shop".into(), ..SegmentObject::default() }.encode_to_vec().into()
}

/// Names that some backend answered `OK` for.
fn accepted(backends: &[Backend]) -> std::collections::BTreeSet<String> {
    let clean = |seen: &crate::backend::Seen| seen.end == End::HalfClosed && !seen.messages.iter().any(is_poison);
    let calls = backends.iter().flat_map(|backend| backend.seen().into_iter().filter(clean).collect::<Vec<_>>());
    let name = |message: Bytes| SegmentObject::decode(message).expect("a segment").trace_id;
    calls.flat_map(|seen| seen.messages.into_iter().map(name).collect::<Vec<_>>()).collect()
}

fn send(poisoned: &[usize], reply: Reply) {
    let backends = [wary(), wary(), wary()];
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let road = Road::through(Vec::new(), &addresses, |plan| plan.reply = reply);
    let names: Vec<String> = (0..300)
        .map(|number| if poisoned.contains(&number) { format!("poison-{number}") } else { format!("good-{number}") })
        .collect();
    let answer = road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut call = caller.open(SEGMENTS).await;
        let together: Vec<u8> = names.iter().flat_map(|name| framed(&segment(name)).to_vec()).collect();
        call.send(together.into()).await;
        call.half_close();
        call.answer().await
    });
    road.wait_until_delivered(Duration::from_secs(10));
    let summary = road.end_with_losses();
    let expected: std::collections::BTreeSet<_> = names.into_iter().filter(|name| name.starts_with("good")).collect();
    assert_eq!(accepted(&backends), expected, "its company is delivered");
    assert_eq!(lost(&summary), [("rejected", poisoned.len() as u64)]);
    assert_eq!(summary.totals.delivered, 300 - poisoned.len() as u64);
    match reply {
        Reply::Received => assert_eq!(answer.code(), Code::Ok),
        Reply::Delivered => {
            assert_ne!(answer.code(), Code::Ok, "its caller is told");
            assert!(answer.status().message.contains(&poisoned.len().to_string()), "{}", answer.status());
        }
    }
}

#[test]
fn only_the_message_every_backend_refuses_is_lost() {
    send(&[137], Reply::Received);
}

#[test]
fn several_poisoned_messages_in_one_parcel_are_all_found() {
    send(&[0, 10, 11, 63, 299], Reply::Received);
}

#[test]
fn a_caller_that_waits_for_delivery_is_told_of_it() {
    send(&[42, 200], Reply::Delivered);
}
