//! What the oracle has found, each in the fewest words that show it.
//!
//! What is not mended yet stands in [`NOT_YET`]: agents on real roads do not do it, those before made-up gateways do. Its
//! tests are ignored; whoever mends it takes away both.

use switchyard::listener::Reply;

use crate::traffic::{Call, Ending, Said, Step, Traffic};
use crate::ways::{Setting, assert_alike};
use crate::wire::Draft;

/// Something agents may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A resource is said in two halves: its key is read from the last one (replicas.rs). What it says is kept.
    HalvedResource,
}

/// What the gateway does not do right yet.
pub const NOT_YET: [Found; 1] = [Found::HalvedResource];

const METERS: &str = "/skywalking.v3.MeterReportService/collect";

/// One call, said in one go.
fn one_call(path: &str, messages: Vec<Said>, ending: Ending) -> Traffic {
    let say = Step::Say { call: 0, messages: messages.len() };
    let gzip = messages.iter().any(|said| said.compressed);
    let call = Call { connection: 0, path: path.to_owned(), gzip, messages, ending };
    Traffic { calls: vec![call], steps: vec![say, Step::End { call: 0 }] }
}

fn meter(service: &str, instance: &str, timestamp: u64) -> Said {
    let mut meter = Draft::default();
    meter.texts(&[(&[1, 1], "requests"), (&[3], service), (&[4], instance)]).varint(5, timestamp);
    Said::of(meter.encode())
}

/// PROTOCOLS 5, 29: OAP evaluates what it has when a meter stream is reset.
#[test]
fn a_meter_set_whose_names_stand_in_two_messages_survives_a_reset() {
    let messages = vec![meter("shop", "", 1), meter("", "pod", 0)];
    assert_alike(&one_call(METERS, messages, Ending::Reset), Setting::plain(Reply::Received));
}

#[test]
fn a_meter_set_that_came_compressed_survives_a_reset() {
    let messages = vec![Said { compressed: true, ..meter("shop", "pod", 1) }];
    assert_alike(&one_call(METERS, messages, Ending::Reset), Setting::plain(Reply::Received));
}

/// A sub-message said twice is both together, for every protobuf reader.
#[test]
fn an_identifier_said_in_two_halves_is_carried_whole() {
    const ACCESS_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
    let entry = |request: &str| {
        let mut message = Draft::default();
        message.texts(&[(&[2, 1, 3, 9], request)]);
        message
    };
    let mut first = entry("a");
    first.texts(&[(&[1, 1, 1], "sidecar~a")]).texts(&[(&[1, 2], "mesh")]);
    let messages = [first, entry("b")].iter().map(|message| Said::of(message.encode())).collect();
    assert_alike(&one_call(ACCESS_LOGS, messages, Ending::HalfClose), Setting::plain(Reply::Received));
}

/// PROTOCOLS 1.2.4: OAP reads times by the node in force, names by the one its connection was said under.
#[test]
fn a_node_said_alone_dates_what_follows_and_leaves_the_connection_its_own() {
    const ACCESS_LOGS: &str = "/skywalking.v3.EBPFAccessLogService/collect";
    let log = |node: &str, service: &str| {
        let mut message = Draft::default();
        message.text(3, &format!("kernel log behind {node}{service}"));
        if !node.is_empty() {
            message.texts(&[(&[1, 1], node)]);
        }
        if !service.is_empty() {
            message.texts(&[(&[2, 1, 1, 1], service)]);
        }
        Said::of(message.encode())
    };
    let messages = vec![log("node", "shop"), log("node, booted anew", ""), log("", "")];
    assert_alike(&one_call(ACCESS_LOGS, messages, Ending::HalfClose), Setting::plain(Reply::Received));
}

/// PROTOCOLS 1.2.6: chunks with an empty task are ignored; the call goes on and is answered well.
#[test]
fn a_chunk_without_a_task_is_passed_over() {
    const GO_PROFILES: &str = "/skywalking.v3.ProfileTask/goProfileReport";
    let chunk = |task: &str, last: u64| {
        let mut chunk = Draft::default();
        chunk.text(1, task).text(2, "payload").varint(3, last);
        Said::of(chunk.encode())
    };
    let messages = vec![chunk("task", 0), chunk("", 0), chunk("task", 1)];
    assert_alike(&one_call(GO_PROFILES, messages, Ending::HalfClose), Setting::plain(Reply::Received));
}
