//! Sections 5.2 and 6.9: what we let be sent, and what we send, as windows allow.

use bytes::Bytes;
use http::Response;
use switchyard::wire::http2::frame::{INT31_MAX, Reason, kind};
use switchyard::wire::http2::settings::Limits;

use crate::ground::{
    END, Ours, Said, acknowledgement, answer, arrived, call, client_ends, client_passes, client_resets, data, ends,
    ends_here, frame, limits, of_kind, passes, resets_here, settings, update,
};

const FULL: usize = 16 << 10;

/// Bytes of messages that were said on a stream.
fn sent(said: &[Said], stream: u32) -> usize {
    of_kind(said, kind::DATA).iter().filter(|(head, _)| head.stream == stream).map(|(_, bytes)| bytes.len()).sum()
}

#[test]
fn section_5_2_data_beyond_a_streams_window_resets_the_stream() {
    let small = Limits { stream_window_bytes: 1_000, ..limits() };
    let beyond = [call(1), data(1, &[0; 900]), data(1, &[0; 101])];
    resets_here("by a byte", small.clone(), &beyond, Reason::FLOW_CONTROL_ERROR);
    let server = Ours::server_with(small);
    let handle = server.accept_call(1);
    server.hear(&data(1, &[7; 1_000]));
    assert_eq!((server.ended(), arrived(&handle)), (None, vec![7; 1_000]), "all of it is allowed");
    let beyond: Vec<_> = (0..5).map(|_| data(1, &[0; FULL])).collect();
    client_resets("at a client", &[vec![answer(1, &[])], beyond].concat(), Reason::FLOW_CONTROL_ERROR);
}

#[test]
fn section_5_2_data_beyond_the_connections_window_ends_the_connection() {
    let wide = Limits { stream_window_bytes: 1 << 20, connection_window_bytes: 128 << 10, ..limits() };
    let full: Vec<_> = (0..8).map(|at| data([1, 3][at % 2], &[0; FULL])).collect();
    let begun = vec![call(1), call(3)];
    let server = Ours::server_with(wide.clone());
    server.hear(&[begun.clone(), full.clone()].concat().concat());
    assert_eq!(server.ended(), None, "all of it is allowed");
    let beyond = [begun, full, vec![data(1, b"x")]].concat();
    ends_here("by a byte", wide, &beyond, Reason::FLOW_CONTROL_ERROR);
}

#[test]
fn section_5_2_what_was_read_may_be_sent_again_and_what_was_not_may_not() {
    let server = Ours::server_with(Limits { stream_window_bytes: 1_000, ..limits() });
    let handle = server.accept_call(1);
    server.hear(&data(1, &[0; 1_000]));
    assert_eq!(server.said(), [], "nobody has read it");
    assert_eq!(arrived(&handle).len(), 1_000);
    let said = server.said();
    let updates: Vec<_> =
        of_kind(&said, kind::WINDOW_UPDATE).iter().map(|(head, bytes)| (head.stream, &bytes[..])).collect();
    assert_eq!(updates, [(1, &1_000u32.to_be_bytes()[..])]);
    server.hear(&data(1, &[0; 1_000]));
    assert_eq!(server.ended(), None);
}

#[test]
fn section_5_2_a_long_conversation_never_runs_out_of_window() {
    let server = Ours::server();
    let handle = server.accept_call(1);
    for _ in 0..1_000 {
        server.hear(&data(1, &[0; FULL]));
        assert_eq!((server.ended(), arrived(&handle).len()), (None, FULL));
        server.said();
    }
}

/// Until it has acknowledged our SETTINGS, a peer may believe in the window everything begins with.
#[test]
fn section_6_9_2_our_smaller_window_holds_once_it_is_acknowledged() {
    let small = Limits { stream_window_bytes: 1_000, ..limits() };
    let greeted = |acknowledges: bool| {
        let server =
            Ours(std::rc::Rc::new(std::cell::RefCell::new(switchyard::wire::http2::Session::server(small.clone()))));
        server.hear(&[&switchyard::wire::http2::frame::PREFACE[..], &settings(&[]), &call(1)].concat());
        if acknowledges {
            server.hear(&acknowledgement());
        }
        server.hear(&[0; 4].map(|_| data(1, &[0; FULL - 1])).concat());
        crate::ground::resets_in(&server.said())
    };
    assert_eq!(greeted(false), []);
    assert_eq!(greeted(true), [(1, Reason::FLOW_CONTROL_ERROR)]);
}

#[test]
fn section_6_9_window_updates_are_of_their_length() {
    for length in [0, 3, 5] {
        ends("connection", &[frame(kind::WINDOW_UPDATE, 0, 0, &vec![1; length])], Reason::FRAME_SIZE_ERROR);
        ends("stream", &[call(1), frame(kind::WINDOW_UPDATE, 0, 1, &vec![1; length])], Reason::FRAME_SIZE_ERROR);
    }
    client_ends("client", &[frame(kind::WINDOW_UPDATE, 0, 0, &[1; 3])], Reason::FRAME_SIZE_ERROR);
    passes("the reserved bit", &[frame(kind::WINDOW_UPDATE, 0, 0, &[0x80, 0, 0, 1])]);
}

/// On a stream the RFC asks for a stream error: that would be a reset we are made to say (CVE-2025-8671).
#[test]
fn section_6_9_an_update_of_nothing_ends_the_connection() {
    ends("connection", &[update(0, 0)], Reason::PROTOCOL_ERROR);
    ends("connection, with the reserved bit", &[update(0, 1 << 31)], Reason::PROTOCOL_ERROR);
    ends("stream", &[call(1), update(1, 0)], Reason::PROTOCOL_ERROR);
    client_ends("client", &[update(1, 0)], Reason::PROTOCOL_ERROR);
}

/// On a stream the RFC leaves the choice between the stream and the connection.
#[test]
fn section_6_9_1_a_window_larger_than_one_can_be_ends_the_connection() {
    let most = INT31_MAX - 65_535;
    passes("as large as one can be", &[call(1), update(0, most), update(1, most)]);
    ends("connection", &[update(0, most), update(0, 1)], Reason::FLOW_CONTROL_ERROR);
    ends("stream", &[call(1), update(1, most), update(1, 1)], Reason::FLOW_CONTROL_ERROR);
    ends("stream at once", &[call(1), update(1, INT31_MAX)], Reason::FLOW_CONTROL_ERROR);
    client_ends("client", &[update(1, INT31_MAX)], Reason::FLOW_CONTROL_ERROR);
}

#[test]
fn section_6_9_1_we_send_no_more_than_a_streams_window() {
    let client = Ours::client();
    let call = client.call();
    call.send(vec![0; 70_000].into()).unwrap();
    call.half_close().unwrap();
    assert_eq!(sent(&client.said(), 1), 65_535);
    client.hear(&update(0, 1_000_000));
    assert_eq!(sent(&client.said(), 1), 0, "the connection's window alone is not enough");
    client.hear(&update(1, 1));
    assert_eq!(sent(&client.said(), 1), 1);
    client.hear(&update(1, 100_000));
    let said = client.said();
    assert_eq!(sent(&said, 1), 70_000 - 65_535 - 1);
    assert!(said.last().unwrap().0.has(END), "the end comes behind all of it");
}

#[test]
fn section_6_9_1_we_send_no_more_than_the_connections_window_over_all_streams() {
    let client = Ours::client();
    let calls = [client.call(), client.call(), client.call()];
    calls.iter().for_each(|call| call.send(vec![0; 40_000].into()).unwrap());
    let said = client.said();
    assert_eq!(sent(&said, 1) + sent(&said, 3) + sent(&said, 5), 65_535);
    client.hear(&[update(1, 99_999), update(3, 99_999), update(5, 99_999)].concat());
    assert_eq!(client.said(), [], "a stream's window alone is not enough");
    client.hear(&update(0, 99_999));
    let said = client.said();
    assert_eq!(sent(&said, 1) + sent(&said, 3) + sent(&said, 5), 120_000 - 65_535);
}

/// Frames without bytes need no window, and headers never do.
#[test]
fn section_6_9_1_without_window_a_stream_can_still_end() {
    let client = Ours::client();
    client.hear(&settings(&[(4, 0)]));
    client.said();
    let call = client.call();
    call.half_close().unwrap();
    let said = client.said();
    assert_eq!((said[0].0.kind, said[1].0.kind, said[1].0.length), (kind::HEADERS, kind::DATA, 0));
    assert!(said[1].0.has(END));
}

#[test]
fn section_6_9_2_a_new_initial_window_moves_every_streams_window_and_not_the_connections() {
    let client = Ours::client();
    client.hear(&settings(&[(4, 1)]));
    let calls = [client.call(), client.call()];
    calls.iter().for_each(|call| call.send(vec![0; 50_000].into()).unwrap());
    let said = client.said();
    assert_eq!((sent(&said, 1), sent(&said, 3)), (1, 1));
    client.hear(&settings(&[(4, 100)]));
    let said = client.said();
    assert_eq!((sent(&said, 1), sent(&said, 3)), (99, 99));
    client.hear(&settings(&[(4, 1_000_000)]));
    let said = client.said();
    assert_eq!(sent(&said, 1) + sent(&said, 3), 65_535 - 200, "the connection's window is as it was");
}

#[test]
fn section_6_9_2_a_window_may_be_negative_and_nothing_is_sent_until_it_is_positive() {
    let server = Ours::server();
    let call = server.accept_call(1);
    call.respond(&Response::new(()).into_parts().0, false).unwrap();
    call.send(vec![0; 50_000].into()).unwrap();
    assert_eq!(sent(&server.said(), 1), 50_000);
    server.hear(&settings(&[(4, 100)]));
    call.send(Bytes::from_static(b"more and more")).unwrap();
    server.hear(&update(1, 49_900));
    assert_eq!((call.room(), sent(&server.said(), 1)), (0, 0), "zero is not above zero");
    server.hear(&update(1, 7));
    assert_eq!(sent(&server.said(), 1), 7);
    server.hear(&settings(&[(4, 106)]));
    assert_eq!(sent(&server.said(), 1), 6);
}

#[test]
fn section_6_9_2_settings_that_make_a_window_larger_than_one_can_be_end_the_connection() {
    ends("a stream's", &[call(1), update(1, 1), settings(&[(4, INT31_MAX)])], Reason::FLOW_CONTROL_ERROR);
    client_ends("a stream's", &[update(1, 1), settings(&[(4, INT31_MAX)])], Reason::FLOW_CONTROL_ERROR);
    passes("as large as one can be", &[call(1), settings(&[(4, INT31_MAX)])]);
    client_passes("as large as one can be", &[settings(&[(4, INT31_MAX)])]);
}

/// A stream that is over has no window any more, though somebody of ours may still hold it.
#[test]
fn section_6_9_2_streams_that_are_over_have_no_window_that_could_overflow() {
    let server = Ours::server();
    let held = server.accept_call(1);
    server.hear(&[update(1, INT31_MAX - 65_535), frame(kind::DATA, END, 1, b"")].concat());
    held.respond(&Response::new(()).into_parts().0, true).unwrap();
    server.hear(&[settings(&[(4, 100_000)]), update(1, 100_000)].concat());
    assert_eq!(server.ended(), None);
}
