//! Messages to measure with, and sorters to sort them.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use switchyard::message::field;
use switchyard::message::frames::Frames;
use switchyard::message::run::Run;
use switchyard::route::Routes;
use switchyard::route::contract::Wish;
use switchyard::route::sorter::{Shared, Sorter};

/// DATA frames are 16 KiB unless the peer is told otherwise.
pub const CHUNK_BYTES: usize = 16 << 10;
/// Messages of a run.
pub const MESSAGES: usize = 64;

pub const LOGS: &str = "/skywalking.v3.LogReportService/collect";
pub const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
pub const METER_SETS: &str = "/skywalking.v3.MeterReportService/collectBatch";
pub const ACCESS_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
pub const SATELLITE: &str = "/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs";

/// A log or segment of `bytes` bytes: its service is field 2, its bulk field 5.
pub fn body(bytes: usize, service: &[u8]) -> BytesMut {
    let mut body = BytesMut::new();
    field::put_bytes(&mut body, 1, b"0123456789abcdef");
    if !service.is_empty() {
        field::put_bytes(&mut body, 2, service);
    }
    field::put_bytes(&mut body, 3, b"instance-7");
    let missing = bytes - body.len() - 3;
    field::put_bytes(&mut body, 5, &vec![b'x'; missing]);
    body
}

/// A collection of one meter.
pub fn meters() -> BytesMut {
    let (mut meter, mut collection) = (BytesMut::new(), BytesMut::new());
    field::put_bytes(&mut meter, 3, b"shop");
    field::put_bytes(&mut meter, 4, b"instance-7");
    field::put_bytes(&mut collection, 1, &meter);
    collection
}

/// An access log of about 1 KiB that says no identifier.
pub fn access_log() -> BytesMut {
    let mut entry = BytesMut::new();
    field::put_bytes(&mut entry, 2, &[b'x'; 1000]);
    entry
}

/// [`MESSAGES`] of these, as they stand on the wire.
pub fn wire(body: &[u8]) -> Bytes {
    Run::of_body(body).bytes().repeat(MESSAGES).into()
}

/// The same, as they are cut out of what arrives.
pub fn run_of(body: &[u8]) -> Run {
    let mut frames = Frames::new(1 << 20);
    frames.push(wire(body));
    frames.next_run().ok().flatten().expect("a chunk of whole messages")
}

/// The sorter of a call that has just begun, by the catalogue alone.
pub fn sorter(path: &str) -> Sorter {
    let routes = Routes::of_catalogue();
    let route = routes.find(path, None).expect("a path of the catalogue");
    let shared = Shared { subjects: Rc::default(), wishes: Rc::from([Wish::Nothing]) };
    Sorter::new(route, "agents", &http::HeaderMap::new(), Vec::new(), Vec::new(), &shared)
}
