//! What RFC 9113 says MUST happen, section by section, said by a raw peer.

use bytes::Bytes;

use super::{
    Server, call_block, client, frame, frames, limits, now, output, request, reset_of, response_block, shared,
};
use crate::wire::http2::Session;
use crate::wire::http2::frame::{INT31_MAX, PREFACE, Reason, flag, kind};
use crate::wire::http2::handle::Handle;
use crate::wire::http2::settings::Limits;
use crate::wire::stream::Chunk;

const END: u8 = flag::END_STREAM;
const WHOLE: u8 = flag::END_HEADERS;

fn call(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, WHOLE, stream, &call_block(fields))
}

fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(kind::DATA, 0, stream, bytes)
}

fn goaway(last: u32) -> Vec<u8> {
    frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

/// A greeted server that hears this ends its connection so, and says so.
#[track_caller]
fn ends(section: &str, said: &[Vec<u8>], reason: Reason) {
    let server = Server::new();
    server.hear(&said.concat());
    assert_eq!(server.ended(), Some(reason), "{section}");
    let goaway = server.said().pop().unwrap();
    assert_eq!((goaway.0.kind, &goaway.1[4..8]), (kind::GOAWAY, &reason.0.to_be_bytes()[..]), "{section}");
}

/// A greeted server that hears this resets stream 1 so, and its connection goes on.
#[track_caller]
fn resets(section: &str, said: &[Vec<u8>], reason: Reason) {
    let server = Server::with(Limits { stream_window_bytes: 1000, ..limits() });
    server.hear(&said.concat());
    assert_eq!((server.ended(), server.resets()), (None, vec![(1, reason)]), "{section}");
    let _next = server.open(9);
}

/// And this is nothing to complain about.
#[track_caller]
fn passes(section: &str, said: &[Vec<u8>]) {
    let server = Server::new();
    server.hear(&said.concat());
    assert_eq!((server.ended(), server.resets()), (None, vec![]), "{section}");
    let _next = server.open(9);
}

#[test]
fn section_3_4_the_preface_comes_first_and_settings_behind_it() {
    for said in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"] {
        let server = Server { session: shared(Session::server(limits())) };
        server.hear(said);
        assert_eq!(server.ended(), Some(Reason::PROTOCOL_ERROR));
    }
    for first in [frame(kind::PING, 0, 0, &[0; 8]), frame(kind::SETTINGS, flag::ACK, 0, &[]), call(1, &[])] {
        let server = Server { session: shared(Session::server(limits())) };
        server.hear(&[PREFACE, &first[..]].concat());
        assert_eq!(server.ended(), Some(Reason::PROTOCOL_ERROR));
    }
    let said = output(&shared(Session::client(limits())));
    assert_eq!((&said[..24], frames(&said[24..])[0].0.kind), (&PREFACE[..], kind::SETTINGS));
    assert_eq!(frames(&output(&shared(Session::server(limits()))))[0].0.kind, kind::SETTINGS);
}

#[test]
fn section_4_1_unknown_kinds_and_flags_are_ignored() {
    passes("unknown kind", &[frame(0xbe, 0xff, 5, b"whatever")]);
    passes("unknown flags", &[frame(kind::PING, 0xfe, 0, &[0; 8])]);
}

#[test]
fn section_4_2_frames_are_of_their_size() {
    ends("larger than SETTINGS_MAX_FRAME_SIZE", &[call(1, &[]), data(1, &[0; 16_385])], Reason::FRAME_SIZE_ERROR);
    passes("as large as it", &[call(1, &[]), data(1, &[0; 16_384])]);
}

#[test]
fn section_4_3_header_blocks_are_whole_and_readable() {
    let begun = frame(kind::HEADERS, 0, 1, &call_block(&[]));
    ends("unreadable", &[frame(kind::HEADERS, WHOLE, 1, &[0x80])], Reason::COMPRESSION_ERROR);
    ends("interrupted by PING", &[begun.clone(), frame(kind::PING, 0, 0, &[0; 8])], Reason::PROTOCOL_ERROR);
    ends("by another kind", &[begun.clone(), frame(0x42, 0, 1, &[])], Reason::PROTOCOL_ERROR);
    ends("by another stream", &[begun.clone(), frame(kind::CONTINUATION, WHOLE, 3, &[])], Reason::PROTOCOL_ERROR);
    ends(
        "unreadable on a refused stream, too",
        &[call(1, &[("a", " ")]), frame(kind::HEADERS, WHOLE, 3, &[0xbf])],
        Reason::COMPRESSION_ERROR,
    );
    passes("continued", &[begun, frame(kind::CONTINUATION, 0, 1, &[]), frame(kind::CONTINUATION, WHOLE, 1, &[])]);
}

#[test]
fn section_5_1_idle_streams_take_nothing_but_headers() {
    ends("DATA", &[data(1, b"x")], Reason::PROTOCOL_ERROR);
    ends("RST_STREAM", &[frame(kind::RST_STREAM, 0, 1, &[0; 4])], Reason::PROTOCOL_ERROR);
    ends("WINDOW_UPDATE", &[frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])], Reason::PROTOCOL_ERROR);
    ends("CONTINUATION", &[frame(kind::CONTINUATION, WHOLE, 1, &[])], Reason::PROTOCOL_ERROR);
    passes("PRIORITY", &[frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1])]);
}

#[test]
fn section_5_1_half_closed_streams_take_no_data_and_no_headers() {
    let ended = frame(kind::HEADERS, WHOLE | END, 1, &call_block(&[]));
    ends("DATA", &[ended.clone(), data(1, b"x")], Reason::STREAM_CLOSED);
    ends("HEADERS", &[ended.clone(), call(1, &[])], Reason::STREAM_CLOSED);
    passes(
        "WINDOW_UPDATE and PRIORITY",
        &[ended.clone(), frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), frame(kind::PRIORITY, 0, 1, &[0; 5])],
    );
    passes("RST_STREAM", &[ended, frame(kind::RST_STREAM, 0, 1, &[0; 4])]);
}

#[test]
fn section_5_1_closed_streams_take_nothing() {
    let reset = [call(1, &[]), frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat();
    ends("DATA behind their reset", &[reset.clone(), data(1, b"x")], Reason::STREAM_CLOSED);
    ends("HEADERS behind their reset", &[reset.clone(), call(1, &[])], Reason::STREAM_CLOSED);
    passes("WINDOW_UPDATE", &[reset, frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])]);
}

#[test]
fn section_5_1_what_was_under_way_to_a_stream_we_reset_is_ignored_and_counted() {
    let server = Server::with(Limits { stream_window_bytes: 1000, ..limits() });
    drop(server.open(1));
    server.said();
    server.hear(&[data(1, &[0; 900]), frame(kind::HEADERS, WHOLE | END, 1, &[])].concat());
    assert_eq!((server.ended(), server.said()), (None, vec![]));
    server.hear(&data(1, &[0; 101]));
    assert_eq!(server.ended(), Some(Reason::FLOW_CONTROL_ERROR));
    let client = client();
    drop(Handle::call(&client, request()).unwrap());
    let answer = [
        frame(kind::HEADERS, WHOLE, 1, &response_block()),
        data(1, b"late"),
        frame(kind::HEADERS, WHOLE | END, 1, &[]),
    ];
    client.borrow_mut().receive(&answer.concat());
    assert_eq!(client.borrow().over(), None);
    client.borrow_mut().receive(&frame(kind::HEADERS, WHOLE, 3, &response_block()));
    assert_eq!(client.borrow().over().unwrap().reason, Some(Reason::PROTOCOL_ERROR));
}

#[test]
fn section_5_1_1_stream_ids_are_odd_and_grow() {
    ends("even", &[call(2, &[])], Reason::PROTOCOL_ERROR);
    ends("zero", &[call(0, &[])], Reason::PROTOCOL_ERROR);
    ends("lower", &[call(5, &[]), call(3, &[])], Reason::STREAM_CLOSED);
    passes("with gaps", &[call(1, &[]), call(7, &[])]);
    let client = client();
    client.borrow_mut().receive(&frame(kind::HEADERS, WHOLE, 2, &response_block()));
    assert_eq!(client.borrow().over().unwrap().reason, Some(Reason::PROTOCOL_ERROR));
}

#[test]
fn section_5_1_1_a_client_whose_ids_are_used_up_opens_no_more() {
    let client = client();
    client.borrow_mut().next_ours = INT31_MAX;
    let _last = Handle::call(&client, request()).unwrap();
    assert!(!client.borrow().is_usable() && Handle::call(&client, request()).is_err());
}

#[test]
fn section_5_2_windows_are_kept() {
    resets("the stream's", &[call(1, &[]), data(1, &[0; 1001])], Reason::FLOW_CONTROL_ERROR);
    let full: Vec<_> = (0..9).map(|_| data(1, &[0; 16_384])).collect();
    let server = Server::with(Limits { stream_window_bytes: 1 << 20, connection_window_bytes: 128 << 10, ..limits() });
    let _call = server.open(1);
    server.hear(&full[..8].concat());
    assert_eq!(server.ended(), None);
    server.hear(&full[8]);
    assert_eq!(server.ended(), Some(Reason::FLOW_CONTROL_ERROR));
}

#[test]
fn section_6_1_data_belongs_to_a_stream_and_padding_counts_for_windows() {
    ends("no stream", &[data(0, b"x")], Reason::PROTOCOL_ERROR);
    let padded = |payload: &[u8]| frame(kind::DATA, flag::PADDED, 1, payload);
    ends("padding too long", &[call(1, &[]), padded(&[4, 0, 0, 0])], Reason::PROTOCOL_ERROR);
    resets(
        "padding counts",
        &[call(1, &[]), padded(&[[200].as_slice(), &[0; 1000]].concat())],
        Reason::FLOW_CONTROL_ERROR,
    );
    let server = Server::new();
    let call = server.open(1);
    let whole = padded(&[2, b'a', b'b', 0, 0]);
    // However it is cut, it is read whole.
    whole.iter().for_each(|byte| server.hear(&[*byte]));
    assert!(matches!(now(|cx| call.poll_chunk(cx)), Some(Chunk::Data(data)) if data == "ab"));
}

#[test]
fn section_6_2_headers_belong_to_a_stream_and_may_be_padded_and_prioritised() {
    let block = call_block(&[]);
    let padded = [&[3, 0, 0, 0, 0, 7], &block[..], &[0; 3]].concat();
    passes("both", &[frame(kind::HEADERS, WHOLE | flag::PADDED | flag::PRIORITY, 1, &padded)]);
    ends("padding too long", &[frame(kind::HEADERS, WHOLE | flag::PADDED, 1, &[9, 0])], Reason::PROTOCOL_ERROR);
    ends(
        "no room for the priority",
        &[frame(kind::HEADERS, WHOLE | flag::PRIORITY, 1, &[0; 4])],
        Reason::FRAME_SIZE_ERROR,
    );
}

#[test]
fn sections_6_3_and_6_4_priority_and_reset_are_of_their_size_and_on_a_stream() {
    ends("PRIORITY, length", &[frame(kind::PRIORITY, 0, 1, &[0; 4])], Reason::FRAME_SIZE_ERROR);
    ends("PRIORITY, no stream", &[frame(kind::PRIORITY, 0, 0, &[0; 5])], Reason::PROTOCOL_ERROR);
    ends("RST_STREAM, length", &[call(1, &[]), frame(kind::RST_STREAM, 0, 1, &[0; 3])], Reason::FRAME_SIZE_ERROR);
    ends("RST_STREAM, no stream", &[frame(kind::RST_STREAM, 0, 0, &[0; 4])], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_6_5_settings_are_acknowledged_and_their_values_are_possible() {
    let server = Server::new();
    server.hear(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9, 0x77, 0x77, 0, 0, 0, 1]));
    let said = server.said();
    assert_eq!((said.len(), said[0].0.kind, said[0].0.flags), (1, kind::SETTINGS, flag::ACK));
    ends("on a stream", &[frame(kind::SETTINGS, 0, 1, &[])], Reason::PROTOCOL_ERROR);
    ends("length", &[frame(kind::SETTINGS, 0, 0, &[0; 7])], Reason::FRAME_SIZE_ERROR);
    ends("ACK with payload", &[frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])], Reason::FRAME_SIZE_ERROR);
    ends("ENABLE_PUSH", &[frame(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])], Reason::PROTOCOL_ERROR);
    ends("window", &[frame(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])], Reason::FLOW_CONTROL_ERROR);
    ends("frame size", &[frame(kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 9])], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_6_6_nobody_pushes() {
    ends("to a server", &[frame(kind::PUSH_PROMISE, WHOLE, 1, &[0; 4])], Reason::PROTOCOL_ERROR);
    let client = client();
    let _call = Handle::call(&client, request()).unwrap();
    client.borrow_mut().receive(&frame(kind::PUSH_PROMISE, WHOLE, 1, &[0, 0, 0, 2]));
    assert_eq!(client.borrow().over().unwrap().reason, Some(Reason::PROTOCOL_ERROR));
}

#[test]
fn sections_6_7_and_6_8_ping_is_answered_and_both_are_of_their_size() {
    let server = Server::new();
    server.hear(&frame(kind::PING, 0, 0, b"whatever"));
    let (head, payload) = server.said().pop().unwrap();
    assert_eq!((head.kind, head.flags, &payload[..]), (kind::PING, flag::ACK, &b"whatever"[..]));
    ends("PING, length", &[frame(kind::PING, 0, 0, &[0; 7])], Reason::FRAME_SIZE_ERROR);
    ends("PING on a stream", &[frame(kind::PING, 0, 1, &[0; 8])], Reason::PROTOCOL_ERROR);
    ends("GOAWAY on a stream", &[frame(kind::GOAWAY, 0, 1, &[0; 8])], Reason::PROTOCOL_ERROR);
    ends("GOAWAY, length", &[frame(kind::GOAWAY, 0, 0, &[0; 7])], Reason::FRAME_SIZE_ERROR);
    passes("GOAWAY", &[goaway(0)]);
}

#[test]
fn section_6_9_windows_grow_by_something_and_not_without_end() {
    let update = |stream, more: u32| frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    ends("length", &[frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])], Reason::FRAME_SIZE_ERROR);
    ends("nothing", &[update(0, 0)], Reason::PROTOCOL_ERROR);
    ends("nothing on a stream", &[call(1, &[]), update(1, 0)], Reason::PROTOCOL_ERROR);
    ends("too far", &[update(0, INT31_MAX)], Reason::FLOW_CONTROL_ERROR);
    ends("too far on a stream", &[call(1, &[]), update(1, INT31_MAX)], Reason::FLOW_CONTROL_ERROR);
    let larger = frame(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    ends("too far by SETTINGS", &[call(1, &[]), update(1, 1), larger], Reason::FLOW_CONTROL_ERROR);
}

/// SETTINGS may take a window below zero; nothing is sent until updates have brought it above.
#[test]
fn section_6_9_2_a_window_may_be_negative() {
    let client = client();
    let call = Handle::call(&client, request()).unwrap();
    call.want(60_000);
    call.send(Bytes::from(vec![0; 50_000])).unwrap();
    client.borrow_mut().receive(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100]));
    assert_eq!(call.room(), 0);
    assert!(now(|cx| call.poll_room(cx)).is_none());
    client.borrow_mut().receive(&frame(kind::WINDOW_UPDATE, 0, 1, &49_900u32.to_be_bytes()));
    assert_eq!(call.room(), 0, "zero is not above zero");
    client.borrow_mut().receive(&frame(kind::WINDOW_UPDATE, 0, 1, &7u32.to_be_bytes()));
    call.want(60_000);
    assert_eq!(call.room(), 7);
    let session = client.borrow();
    assert_eq!((session.granted, session.send_window), (7, 65_535 - 50_000));
}

#[test]
fn section_8_1_messages_have_their_order() {
    resets("trailers that do not end", &[call(1, &[]), frame(kind::HEADERS, WHOLE, 1, &[])], Reason::PROTOCOL_ERROR);
    let pseudo = frame(kind::HEADERS, WHOLE | END, 1, &call_block(&[]));
    resets("trailers with pseudo-headers", &[call(1, &[]), pseudo], Reason::PROTOCOL_ERROR);
    let client = client();
    let _call = Handle::call(&client, request()).unwrap();
    output(&client);
    client.borrow_mut().receive(&data(1, b"early"));
    let said = frames(&output(&client)).pop().unwrap();
    assert_eq!(reset_of(said), (1, Reason::PROTOCOL_ERROR));
}

/// Every malformed request of `fields.rs` ends its stream and only that; these stand for all.
#[test]
fn sections_8_2_and_8_3_malformed_requests_are_reset() {
    for fields in [[("Upper", "x")], [("connection", "close")], [("te", "gzip")], [("a", "b ")], [(":path", "")]] {
        resets("malformed", &[call(1, &fields)], Reason::PROTOCOL_ERROR);
    }
}

#[test]
fn section_8_1_1_content_length_is_kept() {
    let length = |length| call(1, &[("content-length", length)]);
    resets("more", &[length("3"), data(1, b"four")], Reason::PROTOCOL_ERROR);
    resets("less", &[length("5"), frame(kind::DATA, END, 1, b"four")], Reason::PROTOCOL_ERROR);
    resets(
        "nothing",
        &[frame(kind::HEADERS, WHOLE | END, 1, &call_block(&[("content-length", "1")]))],
        Reason::PROTOCOL_ERROR,
    );
    passes("as much", &[length("4"), data(1, b"fo"), frame(kind::DATA, END, 1, b"ur")]);
}
