//! Sections 6.1 to 6.4, 6.6 to 6.8, 6.10 and 7: each kind of frame on its stream, of its length, with its padding.

use switchyard::wire::http2::frame::{INT31_MAX, Reason, flag, kind};
use switchyard::wire::http2::settings::Limits;
use switchyard::wire::stream::BreakKind;

use crate::ground::{
    END, Ours, WHOLE, answer, arrived, block, call, call_fields, client_ends, client_passes, ends, frame, goaway,
    goaways_in, limits, now, of_kind, passes, ping, priority, reset, resets_here, resets_in,
};

const PADDED: u8 = flag::PADDED;

fn padded(stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, PADDED, stream, payload)
}

#[test]
fn section_6_1_data_belongs_to_a_stream() {
    ends("DATA", &[crate::ground::data(0, b"x")], Reason::PROTOCOL_ERROR);
    ends("padded DATA", &[padded(0, &[0, b'x'])], Reason::PROTOCOL_ERROR);
    client_ends("DATA", &[crate::ground::data(0, b"x")], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_6_1_padding_is_cut_off_however_the_frame_is_cut() {
    let whole = [padded(1, &[2, b'a', b'b', 9, 9]), padded(1, &[0, b'c']), padded(1, &[3, 0, 0, 0])].concat();
    for piece in 1..=whole.len() {
        let server = Ours::server();
        let call = server.accept_call(1);
        whole.chunks(piece).for_each(|piece| server.hear(piece));
        assert_eq!((server.ended(), arrived(&call)), (None, b"abc".to_vec()), "in pieces of {piece}");
    }
}

#[test]
fn section_6_1_padding_as_long_as_the_frame_ends_the_connection() {
    ends("as long", &[call(1), padded(1, &[4, 0, 0, 0])], Reason::PROTOCOL_ERROR);
    ends("longer", &[call(1), padded(1, &[255, 0])], Reason::PROTOCOL_ERROR);
    ends("alone", &[call(1), padded(1, &[1])], Reason::PROTOCOL_ERROR);
    ends("without its length", &[call(1), padded(1, &[])], Reason::FRAME_SIZE_ERROR);
    client_ends("as long", &[answer(1, &[]), padded(1, &[4, 0, 0, 0])], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_6_1_padding_and_its_length_count_for_windows_and_are_given_back() {
    let small = Limits { stream_window_bytes: 1_000, ..limits() };
    let beyond = padded(1, &[&[200][..], &[0; 1_000]].concat());
    resets_here("one too many", small.clone(), &[call(1), beyond], Reason::FLOW_CONTROL_ERROR);
    let server = Ours::server_with(small);
    let call = server.accept_call(1);
    server.hear(&padded(1, &[&[255][..], &[0; 745], &[0; 254]].concat()));
    assert_eq!(arrived(&call).len(), 744);
    let said = server.said();
    let updates: Vec<_> = of_kind(&said, kind::WINDOW_UPDATE).iter().map(|(head, _)| head.stream).collect();
    assert!(updates.contains(&1) && server.ended().is_none(), "{said:?}");
}

#[test]
fn section_6_2_headers_belong_to_a_stream() {
    ends("HEADERS", &[call(0)], Reason::PROTOCOL_ERROR);
    client_ends("HEADERS", &[answer(0, &[])], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_6_2_headers_may_have_padding_and_a_priority() {
    let block = block(&call_fields(&[]));
    let headers = |flags, before: &[u8], behind: &[u8]| {
        frame(kind::HEADERS, WHOLE | flags, 1, &[before, &block[..], behind].concat())
    };
    passes("padding", &[headers(PADDED, &[3], &[0; 3])]);
    passes("a priority", &[headers(flag::PRIORITY, &[0, 0, 0, 0, 7], &[])]);
    passes("both", &[headers(PADDED | flag::PRIORITY, &[3, 0x80, 0, 0, 0, 7], &[0; 3])]);
    // RFC 7540 had a rule against it; with priorities that mean nothing there is nothing to rule.
    passes("a priority that depends on itself", &[headers(flag::PRIORITY, &[0, 0, 0, 1, 7], &[])]);
}

#[test]
fn section_6_2_padding_and_priority_longer_than_the_frame_end_the_connection() {
    let headers = |flags, payload: &[u8]| frame(kind::HEADERS, WHOLE | flags, 1, payload);
    ends("padding as long as the frame", &[headers(PADDED, &[4, 0, 0, 0])], Reason::PROTOCOL_ERROR);
    ends("padding longer than the frame", &[headers(PADDED, &[9, 0])], Reason::PROTOCOL_ERROR);
    ends("padding without its length", &[headers(PADDED, &[])], Reason::FRAME_SIZE_ERROR);
    ends("half a priority", &[headers(flag::PRIORITY, &[0; 4])], Reason::FRAME_SIZE_ERROR);
    ends(
        "padding where the priority should be",
        &[headers(PADDED | flag::PRIORITY, &[4, 0, 0, 0, 0, 0])],
        Reason::FRAME_SIZE_ERROR,
    );
}

/// On a stream the RFC asks for a stream error: that would be a reset we are made to say (CVE-2025-8671).
#[test]
fn section_6_3_priority_is_of_five_bytes_and_on_a_stream() {
    ends("no stream", &[priority(0)], Reason::PROTOCOL_ERROR);
    for length in [0, 4, 6] {
        ends("length", &[call(1), frame(kind::PRIORITY, 0, 1, &vec![0; length])], Reason::FRAME_SIZE_ERROR);
    }
    client_ends("length", &[frame(kind::PRIORITY, 0, 1, &[0; 4])], Reason::FRAME_SIZE_ERROR);
}

#[test]
fn section_6_3_priority_means_nothing_on_any_stream() {
    passes("idle, open and closed", &[priority(9), call(1), priority(1), reset(1, Reason::CANCEL), priority(1)]);
    passes("on a stream that depends on itself", &[frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 0])]);
}

#[test]
fn section_6_4_a_reset_is_of_four_bytes_and_on_a_stream_that_was_opened() {
    ends("no stream", &[reset(0, Reason::CANCEL)], Reason::PROTOCOL_ERROR);
    ends("idle", &[reset(1, Reason::CANCEL)], Reason::PROTOCOL_ERROR);
    for length in [0, 3, 5] {
        ends("length", &[call(1), frame(kind::RST_STREAM, 0, 1, &vec![0; length])], Reason::FRAME_SIZE_ERROR);
    }
    client_ends("length", &[frame(kind::RST_STREAM, 0, 1, &[0; 3])], Reason::FRAME_SIZE_ERROR);
    client_ends("no stream", &[reset(0, Reason::CANCEL)], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_6_6_nobody_pushes() {
    ends("to a server", &[call(1), frame(kind::PUSH_PROMISE, WHOLE, 1, &[0, 0, 0, 2])], Reason::PROTOCOL_ERROR);
    ends("to a server, on no stream", &[frame(kind::PUSH_PROMISE, WHOLE, 0, &[0, 0, 0, 2])], Reason::PROTOCOL_ERROR);
    let promise = [&[0, 0, 0, 2][..], &block(&call_fields(&[]))].concat();
    client_ends("to a client", &[frame(kind::PUSH_PROMISE, WHOLE, 1, &promise)], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_6_7_a_ping_is_answered_with_what_it_says() {
    for ours in [Ours::server(), Ours::client()] {
        ours.hear(&[ping(b"whatever"), ping(&[0xff; 8])].concat());
        let said = ours.said();
        let answers: Vec<_> =
            said.iter().map(|(head, payload)| (head.kind, head.flags, head.stream, &payload[..])).collect();
        assert_eq!(answers, [(kind::PING, flag::ACK, 0, &b"whatever"[..]), (kind::PING, flag::ACK, 0, &[0xff; 8])]);
    }
}

#[test]
fn section_6_7_an_answer_to_a_ping_is_not_answered() {
    let server = Ours::server();
    server.hear(&frame(kind::PING, flag::ACK, 0, b"whatever"));
    assert_eq!((server.ended(), server.said()), (None, vec![]));
}

#[test]
fn section_6_7_a_ping_is_of_eight_bytes_and_on_no_stream() {
    ends("stream", &[frame(kind::PING, 0, 1, &[0; 8])], Reason::PROTOCOL_ERROR);
    for length in [0, 6, 7, 9] {
        ends("length", &[frame(kind::PING, 0, 0, &vec![0; length])], Reason::FRAME_SIZE_ERROR);
    }
    client_ends("stream", &[frame(kind::PING, flag::ACK, 1, &[0; 8])], Reason::PROTOCOL_ERROR);
    client_ends("length", &[frame(kind::PING, flag::ACK, 0, &[0; 7])], Reason::FRAME_SIZE_ERROR);
}

#[test]
fn section_6_8_goaway_is_of_eight_bytes_at_least_and_on_no_stream() {
    ends("stream", &[frame(kind::GOAWAY, 0, 1, &[0; 8])], Reason::PROTOCOL_ERROR);
    ends("length", &[frame(kind::GOAWAY, 0, 0, &[0; 7])], Reason::FRAME_SIZE_ERROR);
    client_ends("stream", &[frame(kind::GOAWAY, 0, 1, &[0; 8])], Reason::PROTOCOL_ERROR);
    passes("without more", &[goaway(0)]);
    passes("with words for people", &[frame(kind::GOAWAY, 0, 0, &[&[0; 8][..], b"good night"].concat())]);
}

/// What was opened goes on; what the peer will not look at can be said to another.
#[test]
fn section_6_8_streams_above_a_goaways_last_are_not_processed_and_no_more_are_opened() {
    let client = Ours::client();
    let calls = [client.call(), client.call()];
    client.hear(&goaway(1));
    assert!(!client.0.borrow().is_usable());
    let lost = now(|cx| calls[1].poll_response(cx)).unwrap().unwrap_err();
    assert_eq!(lost.kind, BreakKind::NotProcessed);
    client.hear(&answer(1, &[]));
    assert!(now(|cx| calls[0].poll_response(cx)).unwrap().is_ok());
    client_passes("the same again, or less", &[goaway(INT31_MAX), goaway(9), goaway(9), goaway(1)]);
}

/// That a peer may not is a MUST for the peer; to end the connection over it is our choice. What it had taken back is
/// already said to another.
#[test]
fn section_6_8_a_goaway_that_takes_back_an_earlier_one_ends_the_connection() {
    client_ends("larger than before", &[goaway(1), goaway(3)], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_6_8_a_client_that_goes_away_is_still_served() {
    let server = Ours::server();
    let call = server.accept_call(1);
    server.hear(&[goaway(0), crate::ground::data(1, b"more")].concat());
    assert_eq!((server.ended(), arrived(&call)), (None, b"more".to_vec()));
}

/// First one that names every stream, then, once the peer has heard of it, one that names the last.
#[test]
fn section_6_8_a_server_that_leaves_says_so_twice_and_never_takes_it_back() {
    let server = Ours::server();
    let _first = server.accept_call(1);
    server.0.borrow_mut().go_away();
    let said = server.said();
    assert_eq!(goaways_in(&said), [(INT31_MAX, Reason::NO_ERROR)]);
    let _second = server.accept_call(3);
    let ping = of_kind(&said, kind::PING)[0];
    server.hear(&[frame(kind::PING, flag::ACK, 0, &ping.1), call(5)].concat());
    let said = server.said();
    assert_eq!((goaways_in(&said), resets_in(&said)), (vec![(3, Reason::NO_ERROR)], vec![]));
    assert!(server.accept().is_none(), "nobody looks at what is opened behind it");
    server.hear(&frame(kind::PING, 0, 0, &[0; 7]));
    assert_eq!(goaways_in(&server.said()), [(3, Reason::FRAME_SIZE_ERROR)]);
}

#[test]
fn section_6_10_continuation_follows_a_block_that_has_not_ended() {
    let continuation = |flags, stream| frame(kind::CONTINUATION, flags, stream, &[]);
    let begun = || frame(kind::HEADERS, 0, 1, &block(&call_fields(&[])));
    ends("on its own", &[call(1), continuation(WHOLE, 1)], Reason::PROTOCOL_ERROR);
    ends("on no stream", &[continuation(WHOLE, 0)], Reason::PROTOCOL_ERROR);
    ends("on no stream inside a block", &[begun(), continuation(WHOLE, 0)], Reason::PROTOCOL_ERROR);
    ends("behind the last", &[begun(), continuation(WHOLE, 1), continuation(WHOLE, 1)], Reason::PROTOCOL_ERROR);
    ends("behind DATA", &[call(1), crate::ground::data(1, b"x"), continuation(WHOLE, 1)], Reason::PROTOCOL_ERROR);
    passes("in its place", &[begun(), continuation(0, 1), continuation(WHOLE, 1)]);
    client_ends("on its own", &[continuation(WHOLE, 1)], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_6_10_the_end_of_the_stream_is_said_by_the_first_frame_of_a_block() {
    let server = Ours::server();
    let whole = block(&call_fields(&[]));
    server.hear(&frame(kind::HEADERS, END, 1, &whole[..9]));
    server.hear(&frame(kind::CONTINUATION, WHOLE, 1, &whole[9..]));
    let call = server.accept().unwrap();
    assert!(matches!(now(|cx| call.poll_chunk(cx)), Some(switchyard::wire::stream::Chunk::End(None))));
    // END_STREAM has no meaning for CONTINUATION.
    server.hear(&frame(kind::HEADERS, 0, 3, &whole[..9]));
    server.hear(&frame(kind::CONTINUATION, WHOLE | END, 3, &whole[9..]));
    let call = server.accept().unwrap();
    assert!(now(|cx| call.poll_chunk(cx)).is_none(), "it goes on");
}
