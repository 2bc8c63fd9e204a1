//! Sections 3.4, 4 and 5.5: the preface, frames, header blocks and what is not known.

use switchyard::wire::http2::frame::{HEAD_BYTES, PREFACE, Reason, flag, kind};

use crate::ground::{
    Listener, Ours, WHOLE, acknowledgement, answer, block, call, call_fields, call_with, client_ends, client_passes,
    data, ends, frame, frames, goaways_in, passes, ping, reset, resets, settings,
};

/// What 16,384 is: the longest payload that nobody has to allow.
const PAYLOAD_BYTES_MAX: usize = 16 << 10;

#[test]
fn section_3_4_a_client_begins_with_the_preface_and_settings() {
    let said = Ours::fresh_client().raw();
    let rest = said.strip_prefix(PREFACE).expect("the preface");
    let (head, _) = &frames(rest)[0];
    assert_eq!((head.kind, head.flags, head.stream), (kind::SETTINGS, 0, 0));
}

#[test]
fn section_3_4_a_server_begins_with_settings() {
    let (head, _) = &Ours::fresh_server().said()[0];
    assert_eq!((head.kind, head.flags, head.stream), (kind::SETTINGS, 0, 0));
    let (told, _) = Listener::hears_raw(PREFACE, |told| !told.is_empty()).expect("it speaks before it is greeted");
    assert_eq!((told[0].0.kind, told[0].0.flags), (kind::SETTINGS, 0));
}

#[test]
fn section_3_4_a_wrong_preface_ends_the_connection() {
    let wrong = [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", b"INVALID"];
    for said in wrong {
        let server = Ours::fresh_server();
        server.hear(said);
        assert_eq!(server.ended(), Some(Reason::PROTOCOL_ERROR));
        let (told, hung_up) = Listener::hears_raw(said, |_| false).expect("it hangs up");
        assert!(hung_up);
        assert_eq!(goaways_in(&told).last().map(|(_, reason)| *reason), Some(Reason::PROTOCOL_ERROR));
    }
}

#[test]
fn section_3_4_a_peer_that_begins_with_anything_but_settings_is_left() {
    for first in [ping(&[0; 8]), acknowledgement(), call(1), frame(0x42, 0, 0, &[])] {
        let server = Ours::fresh_server();
        server.hear(&[PREFACE, &first[..]].concat());
        assert_eq!(server.ended(), Some(Reason::PROTOCOL_ERROR));
        let client = Ours::fresh_client();
        client.hear(&first);
        assert_eq!(client.ended(), Some(Reason::PROTOCOL_ERROR));
    }
}

#[test]
fn section_3_4_what_a_client_says_before_our_settings_come_counts() {
    let server = Ours::fresh_server();
    server.hear(&[PREFACE, &settings(&[])[..], &call(1), &data(1, b"early")].concat());
    assert_eq!(crate::ground::arrived(&server.accept().unwrap()), b"early");
}

#[test]
fn section_4_1_the_reserved_bit_is_not_looked_at() {
    let mut first = call(1);
    first[5] |= 0x80;
    let mut second = ping(&[1; 8]);
    second[5] |= 0x80;
    passes("the reserved bit", &[first, second]);
}

#[test]
fn section_4_1_flags_that_mean_nothing_for_a_kind_are_ignored() {
    passes("PING", &[frame(kind::PING, !flag::ACK, 0, &[0; 8])]);
    passes("SETTINGS", &[frame(kind::SETTINGS, !flag::ACK, 0, &[])]);
    passes("RST_STREAM", &[call(1), frame(kind::RST_STREAM, 0xff, 1, &[0; 4])]);
    passes("WINDOW_UPDATE", &[frame(kind::WINDOW_UPDATE, 0xff, 0, &[0, 0, 0, 1])]);
    passes("DATA", &[call(1), frame(kind::DATA, 0xf6, 1, b"x")]);
    client_passes("GOAWAY", &[frame(kind::GOAWAY, 0xff, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])]);
}

#[test]
fn section_4_2_a_frame_as_long_as_allowed_is_taken() {
    passes("DATA", &[call(1), data(1, &[0; PAYLOAD_BYTES_MAX])]);
    passes("an unknown kind", &[frame(0x42, 0, 0, &[0; PAYLOAD_BYTES_MAX])]);
}

/// For DATA the RFC would let us reset the stream. What it is that comes behind such a head is anybody's guess, and
/// nothing of it is worth reading.
#[test]
fn section_4_2_a_longer_frame_ends_the_connection() {
    let too_long = [0; PAYLOAD_BYTES_MAX + 1];
    ends("DATA", &[call(1), data(1, &too_long)], Reason::FRAME_SIZE_ERROR);
    ends("HEADERS", &[frame(kind::HEADERS, WHOLE, 1, &too_long)], Reason::FRAME_SIZE_ERROR);
    ends("SETTINGS", &[frame(kind::SETTINGS, 0, 0, &too_long)], Reason::FRAME_SIZE_ERROR);
    ends("an unknown kind", &[frame(0x42, 0, 0, &too_long)], Reason::FRAME_SIZE_ERROR);
    client_ends("DATA", &[answer(1, &[]), data(1, &too_long)], Reason::FRAME_SIZE_ERROR);
}

#[test]
fn section_4_2_our_frames_are_as_long_as_the_peer_allows_and_no_longer() {
    for allowed in [1 << 14, 20_000] {
        let client = Ours::client();
        client.hear(&settings(&[(5, allowed), (4, 1 << 20)]));
        client.hear(&crate::ground::update(0, 1 << 20));
        client.call().send(vec![0; 100_000].into()).unwrap();
        let lengths: Vec<_> = crate::ground::of_kind(&client.said(), kind::DATA)
            .iter()
            .map(|(head, payload)| (head.length, payload.len()))
            .collect();
        assert!(lengths.iter().all(|(length, _)| *length <= allowed), "{lengths:?}");
        assert_eq!(lengths.iter().map(|(_, bytes)| bytes).sum::<usize>(), 100_000);
    }
}

#[test]
fn section_4_3_a_block_that_cannot_be_read_ends_the_connection() {
    ends("HEADERS", &[frame(kind::HEADERS, WHOLE, 1, &[0x80])], Reason::COMPRESSION_ERROR);
    let begun = frame(kind::HEADERS, 0, 1, &[0x40]);
    ends("CONTINUATION", &[begun, frame(kind::CONTINUATION, WHOLE, 1, &[])], Reason::COMPRESSION_ERROR);
    client_ends("HEADERS", &[frame(kind::HEADERS, WHOLE, 1, &[0x80])], Reason::COMPRESSION_ERROR);
}

/// The next block builds on its table, whatever becomes of its stream.
#[test]
fn section_4_3_blocks_of_streams_that_are_refused_reset_or_malformed_are_read_too() {
    let indexed = |stream, name: &[u8]| {
        let field = [&[0x40, name.len() as u8], name, &[1, b'v']].concat();
        frame(kind::HEADERS, WHOLE, stream, &[block(&call_fields(&[])), field].concat())
    };
    let names_it = |stream| frame(kind::HEADERS, WHOLE, stream, &[block(&call_fields(&[])), vec![0xbe]].concat());
    resets("malformed", &[indexed(1, b"Upper"), call(3)], Reason::PROTOCOL_ERROR);
    passes("a table that a call has filled", &[indexed(1, b"a"), names_it(3)]);
    // The entry that a malformed block added makes the next one malformed.
    let server = Ours::server();
    server.hear(&[indexed(1, b"Upper"), names_it(3)].concat());
    let expected = vec![(1, Reason::PROTOCOL_ERROR), (3, Reason::PROTOCOL_ERROR)];
    assert_eq!((server.ended(), crate::ground::resets_in(&server.said())), (None, expected));
    // A stream that we have reset: its trailers add an entry, and a block that names it can be read.
    let server = Ours::server();
    drop(server.accept_call(1));
    let late = frame(kind::HEADERS, WHOLE | flag::END_STREAM, 1, &[0x40, 1, b'a', 1, b'v']);
    server.hear(&[late, names_it(3)].concat());
    assert!(server.ended().is_none() && server.accept().is_some());
    // And one that cannot be read ends the connection, though nobody would have looked at it.
    server.hear(&frame(kind::HEADERS, WHOLE | flag::END_STREAM, 1, &[0xff]));
    assert_eq!(server.ended(), Some(Reason::COMPRESSION_ERROR));
}

#[test]
fn section_4_3_nothing_comes_between_the_frames_of_a_block() {
    let begun = || frame(kind::HEADERS, 0, 1, &block(&call_fields(&[])));
    let between = [
        ("PING", ping(&[0; 8])),
        ("SETTINGS", settings(&[])),
        ("DATA", data(1, b"x")),
        ("HEADERS of the same stream", call(1)),
        ("HEADERS of another", call(3)),
        ("RST_STREAM", reset(1, Reason::CANCEL)),
        ("an unknown kind", frame(0x42, 0, 1, &[])),
        ("CONTINUATION of another stream", frame(kind::CONTINUATION, WHOLE, 3, &[])),
    ];
    for (what, frame) in between {
        ends(what, &[begun(), frame], Reason::PROTOCOL_ERROR);
    }
    let begun = frame(kind::HEADERS, 0, 1, &block(&[(":status", "200")]));
    client_ends("PING", &[begun, ping(&[0; 8])], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_4_3_a_block_may_be_cut_anywhere() {
    let whole = block(&call_fields(&[("a", "b")]));
    for at in 0..=whole.len() {
        let server = Ours::server();
        server.hear(&frame(kind::HEADERS, flag::END_STREAM, 1, &whole[..at]));
        server.hear(&frame(kind::CONTINUATION, 0, 1, &whole[at..]));
        server.hear(&frame(kind::CONTINUATION, WHOLE, 1, &[]));
        let (head, _call) = switchyard::wire::http2::handle::Handle::accept(&server.0).expect("a call");
        assert_eq!(head.headers["a"], "b", "cut at {at}");
    }
    passes(
        "three pieces",
        &[
            frame(kind::HEADERS, 0, 1, &whole[..3]),
            frame(kind::CONTINUATION, 0, 1, &whole[3..9]),
            frame(kind::CONTINUATION, WHOLE, 1, &whole[9..]),
        ],
    );
}

#[test]
fn section_4_3_1_a_smaller_table_is_acknowledged_at_the_head_of_the_next_block() {
    let client = Ours::client();
    let _first = client.call();
    assert_ne!(client.said()[0].1[0] & 0xe0, 0x20, "nothing has changed yet");
    client.hear(&[settings(&[(1, 0)]), settings(&[(1, 4_096)])].concat());
    client.said();
    let _second = client.call();
    assert_eq!(client.said()[0].1[0], 0x20, "the smallest size between two blocks has to be said: nothing is used");
    let _third = client.call();
    assert_ne!(client.said()[0].1[0] & 0xe0, 0x20, "once is enough");
}

#[test]
fn section_5_5_frames_and_settings_nobody_knows_are_ignored() {
    passes("a kind, on no stream", &[frame(0xbe, 0xff, 0, b"whatever")]);
    passes("a kind, on streams", &[call(1), frame(0xbe, 0xff, 1, b"whatever"), frame(0x10, 0, 7, &[])]);
    passes("a setting", &[settings(&[(0x99, 1), (0, 0), (0xffff, u32::MAX)])]);
    client_passes("a kind", &[frame(0xbe, 0xff, 1, &[0; HEAD_BYTES])]);
    passes("a field", &[call_with(1, &[("x-whatever", "1")])]);
}
