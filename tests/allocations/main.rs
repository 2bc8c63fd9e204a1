//! What the data path allocates: nothing for a message, and for a parcel what is stated here.
//!
//! When a count is too high, `ALLOCATIONS=dhat.json cargo test --test allocations` writes down where each allocation was
//! made, and docs/budgets.md says how to read it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod count;
mod road;

#[path = "../../benches/material/backends.rs"]
#[allow(dead_code, reason = "benches use the rest")]
mod backends;
#[path = "../../benches/material/measured.rs"]
#[allow(dead_code, reason = "benches use the rest")]
mod measured;
#[path = "../../benches/material/messages.rs"]
#[allow(dead_code, reason = "benches use the rest")]
mod messages;
#[path = "../../benches/material/peers.rs"]
mod peers;

use std::fmt::Write;

use switchyard::message::field;

use count::Count;
use measured::{Part, TIED};

use messages::{LOGS, METER_SETS, SATELLITE, SEGMENTS, access_log, body, meters};
use road::Road;

/// Compares what was counted with what is stated, all of it at once.
#[track_caller]
fn assert_counts(counted: impl IntoIterator<Item = (String, u64, u64)>) {
    let mut wrong = String::new();
    for (what, stated, counted) in counted {
        println!("{what}: {counted}");
        if counted != stated {
            writeln!(wrong, "  {what}: {counted} allocations, {stated} are stated").unwrap();
        }
    }
    assert!(wrong.is_empty(), "what is allocated is not what is stated:\n{wrong}see docs/budgets.md");
}

#[test]
fn each_part_allocates_what_is_stated_for_64_messages() {
    // Named, and what each may allocate.
    let parts: [(&str, Part, u64); 19] = [
        ("frames of 200 B", measured::frames(200), 0),
        ("frames of 1 KiB, of which four straddle chunks", measured::frames(1024), 4),
        ("scan of a field", measured::scan(), 0),
        ("key of a segment", measured::key("segment"), 0),
        ("key of meters", measured::key("meters"), 0),
        ("sorter, segments", measured::sort("segments"), 0),
        ("sorter, logs that say their service", measured::sort("logs that say their service"), 0),
        ("sorter, logs that leave it out", measured::sort("logs that leave it out"), 1),
        ("sorter, access logs", measured::sort("access logs"), 0),
        ("sorter, meters by key", measured::sort("meters"), 0),
        ("choice by load", measured::choose(None, 3), 0),
        ("choice by key", measured::choose(TIED, 3), 0),
        ("permit", measured::permit(), 0),
        ("ticket", measured::ticket(), 0),
        ("ledger of 64 parcels", measured::settle(), 5),
        ("HTTP/2, 64 DATA frames of 200 B in", measured::receive(200), 1),
        ("HTTP/2, 64 DATA frames of 1 KiB in", measured::receive(1024), 1),
        ("HTTP/2, 64 chunks of 200 B out", measured::send(200), 0),
        ("HTTP/2, 64 chunks of 1 KiB out", measured::send(1024), 0),
    ];
    let counting = Count::begin();
    assert_counts(parts.into_iter().map(|(what, mut part, stated)| {
        part();
        part();
        (what.to_owned(), stated, counting.fewest(5, part))
    }));
}

/// Parcels of up to 4 KiB are copied together; these are well below, so that a trip's room for them holds five and more.
///
/// What was read: its bytes. Everything else lives as long as its call, its trip or its worker.
const ARRIVING: u64 = 1;

/// And the count of those who hold them, once they are more than one.
const HELD_BY_MORE: u64 = 2;

/// On the whole road: socket, call, sorter, pool, channel, trip, socket.
#[test]
fn a_parcel_allocates_what_is_stated_and_its_messages_nothing() {
    let counting = Count::begin();
    let mut counted = Vec::new();
    for (what, path, body, stated) in [
        ("segments", SEGMENTS, body(44, b""), ARRIVING),
        ("logs", LOGS, body(42, b"shop"), HELD_BY_MORE),
        ("access logs", SATELLITE, body(44, b""), HELD_BY_MORE),
        ("meters by key", METER_SETS, meters(), HELD_BY_MORE),
    ] {
        let mut road = Road::begin(path);
        for messages in [1, 64] {
            let found = road.allocations_per_parcel(&counting, &body, messages);
            counted.push((format!("{what}, {messages} in a parcel"), stated, found));
        }
        if path == LOGS {
            road.added_bytes = field::bytes_field_len(2, b"shop".len());
            for messages in [1, 64] {
                let found = road.allocations_per_parcel(&counting, &self::body(38, b""), messages);
                counted.push((
                    format!("logs that leave their service out, {messages} in a parcel"),
                    HELD_BY_MORE + 1,
                    found,
                ));
            }
        }
    }
    for (what, path, body, messages) in
        [("segments of 200 B", SEGMENTS, body(200, b""), 64), ("access logs of 1 KiB", SATELLITE, access_log(), 16)]
    {
        let found = Road::begin(path).allocations_per_parcel(&counting, &body, messages);
        counted.push((format!("{what}, {messages} in a parcel"), HELD_BY_MORE, found));
    }
    assert_counts(counted);
}
