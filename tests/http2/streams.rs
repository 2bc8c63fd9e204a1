//! Sections 5.1 and 5.4: the states of a stream, row by row, identifiers, concurrency and errors.

use bytes::Bytes;
use http::Response;
use switchyard::wire::http2::frame::{INT31_MAX, Reason, flag, kind};
use switchyard::wire::http2::settings::Limits;
use switchyard::wire::stream::{BreakKind, Chunk};

use crate::ground::{
    END, Listener, Ours, WHOLE, answer, arrived, call, call_with, client_ends, client_passes, data, ended_call, ends,
    ends_here, frame, goaways_in, limits, now, of_kind, passes, ping, priority, read, reset, resets_in, trailers,
    update,
};

#[test]
fn section_5_1_idle_takes_headers_and_priority_and_nothing_else() {
    ends("DATA", &[data(1, b"x")], Reason::PROTOCOL_ERROR);
    ends("RST_STREAM", &[reset(1, Reason::CANCEL)], Reason::PROTOCOL_ERROR);
    ends("WINDOW_UPDATE", &[update(1, 1)], Reason::PROTOCOL_ERROR);
    ends("CONTINUATION", &[frame(kind::CONTINUATION, WHOLE, 1, &[])], Reason::PROTOCOL_ERROR);
    ends("DATA on a stream only we could open", &[data(2, b"x")], Reason::PROTOCOL_ERROR);
    ends("RST_STREAM on one", &[reset(2, Reason::CANCEL)], Reason::PROTOCOL_ERROR);
    ends("WINDOW_UPDATE on one", &[update(2, 1)], Reason::PROTOCOL_ERROR);
    passes("PRIORITY", &[priority(1), priority(7)]);
    passes("HEADERS", &[call(1)]);
}

#[test]
fn section_5_1_idle_at_a_client_is_what_it_has_not_opened() {
    client_ends("DATA", &[data(3, b"x")], Reason::PROTOCOL_ERROR);
    client_ends("HEADERS", &[answer(3, &[])], Reason::PROTOCOL_ERROR);
    client_ends("RST_STREAM", &[reset(3, Reason::CANCEL)], Reason::PROTOCOL_ERROR);
    client_ends("WINDOW_UPDATE", &[update(3, 1)], Reason::PROTOCOL_ERROR);
    client_ends("DATA on a stream of the server's", &[data(2, b"x")], Reason::PROTOCOL_ERROR);
    client_passes("PRIORITY", &[priority(3)]);
}

/// Nobody may push to us and we never push: whatever comes for a reserved stream comes for an idle one.
#[test]
fn section_5_1_reserved_does_not_exist_here() {
    client_ends("HEADERS", &[answer(2, &[])], Reason::PROTOCOL_ERROR);
    client_ends("RST_STREAM", &[reset(2, Reason::CANCEL)], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_5_1_open_takes_every_kind() {
    let every = [data(1, b"x"), priority(1), update(1, 1), frame(0x42, 0, 1, &[])];
    passes("on a call", &[vec![call(1)], every.to_vec(), vec![trailers(1, &[("a", "b")])]].concat());
    passes("RST_STREAM", &[call(1), reset(1, Reason::CANCEL)]);
    client_passes("on an answer", &[vec![answer(1, &[])], every.to_vec(), vec![trailers(1, &[])]].concat());
}

#[test]
fn section_5_1_half_closed_local_takes_every_kind() {
    let client = Ours::client();
    let call = client.call();
    call.half_close().unwrap();
    client.hear(&[answer(1, &[]), priority(1), update(1, 1), data(1, b"answer"), trailers(1, &[])].concat());
    assert_eq!(client.ended(), None);
    assert!(now(|cx| call.poll_response(cx)).unwrap().is_ok());
    let (bytes, behind) = read(&call);
    assert!(bytes == b"answer" && matches!(behind, Some(Chunk::End(Some(_)))));
}

/// The RFC asks for a stream error. Whoever speaks behind its own END_STREAM is not in step with us, and made to reset
/// it we would be a means of flooding (CVE-2025-8671).
#[test]
fn section_5_1_half_closed_remote_takes_no_data_and_no_headers() {
    for whole in [[ended_call(1)].concat(), [call(1), frame(kind::DATA, END, 1, b"")].concat()] {
        ends("DATA", &[whole.clone(), data(1, b"x")], Reason::STREAM_CLOSED);
        ends("HEADERS", &[whole.clone(), call(1)], Reason::STREAM_CLOSED);
        ends("trailers", &[whole.clone(), trailers(1, &[])], Reason::STREAM_CLOSED);
        ends("CONTINUATION", &[whole, frame(kind::CONTINUATION, WHOLE, 1, &[])], Reason::PROTOCOL_ERROR);
    }
    let answered = || [answer(1, &[]), frame(kind::DATA, END, 1, b"x")].concat();
    client_ends("DATA", &[answered(), data(1, b"x")], Reason::STREAM_CLOSED);
    client_ends("HEADERS", &[answered(), answer(1, &[])], Reason::STREAM_CLOSED);
}

#[test]
fn section_5_1_half_closed_remote_takes_windows_priorities_and_a_reset() {
    passes("WINDOW_UPDATE and PRIORITY", &[ended_call(1), update(1, 1), priority(1)]);
    passes("RST_STREAM", &[ended_call(1), reset(1, Reason::CANCEL)]);
}

#[test]
fn section_5_1_closed_by_both_ends_takes_no_data_and_no_headers() {
    let both_ended = || {
        let server = Ours::server();
        server.hear(&ended_call(1));
        server.accept().unwrap().respond(&Response::new(()).into_parts().0, true).unwrap();
        server.said();
        server
    };
    for late in [data(1, b"x"), call(1), trailers(1, &[])] {
        let server = both_ended();
        server.hear(&late);
        assert_eq!(server.ended(), Some(Reason::STREAM_CLOSED));
    }
    // These may have been under way when it was closed.
    let server = both_ended();
    server.hear(&[update(1, 1), reset(1, Reason::CANCEL), priority(1)].concat());
    assert_eq!((server.ended(), server.said()), (None, vec![]));
}

#[test]
fn section_5_1_closed_by_their_reset_takes_no_data_and_no_headers() {
    let gone = || [call(1), reset(1, Reason::CANCEL)].concat();
    ends("DATA", &[gone(), data(1, b"x")], Reason::STREAM_CLOSED);
    ends("HEADERS", &[gone(), call(1)], Reason::STREAM_CLOSED);
    passes("PRIORITY", &[gone(), priority(1)]);
    passes("WINDOW_UPDATE and RST_STREAM, which are of no use", &[gone(), update(1, 1), reset(1, Reason::CANCEL)]);
    client_ends("DATA", &[answer(1, &[]), reset(1, Reason::CANCEL), data(1, b"x")], Reason::STREAM_CLOSED);
}

#[test]
fn section_5_1_what_was_under_way_to_a_stream_we_have_reset_is_ignored() {
    let server = Ours::server();
    drop(server.accept_call(1));
    assert_eq!(resets_in(&server.said()), [(1, Reason::CANCEL)]);
    server.hear(&[data(1, &[0; 900]), update(1, 9), priority(1), trailers(1, &[])].concat());
    assert_eq!((server.ended(), server.said()), (None, vec![]));
    let client = Ours::client();
    drop(client.call());
    client.said();
    client.hear(&[answer(1, &[]), data(1, b"late"), trailers(1, &[])].concat());
    assert_eq!((client.ended(), client.said()), (None, vec![]));
}

/// It counts for the connection's window, and what is not taken is given back there.
#[test]
fn section_5_1_data_for_a_stream_we_have_reset_counts_for_the_connection() {
    let server = Ours::server_with(Limits { stream_window_bytes: 100 << 10, ..limits() });
    drop(server.accept_call(1));
    server.said();
    (0..4).for_each(|_| server.hear(&data(1, &[0; 16 << 10])));
    let said = server.said();
    let updates = of_kind(&said, kind::WINDOW_UPDATE);
    assert!(updates.len() == 1 && updates[0].0.stream == 0, "{updates:?}");
    let beyond = [&[call(1), wrong_trailers(1)][..], &vec![data(1, &[0; 16 << 10]); 9]].concat();
    // Beyond what the stream was promised it is a mistake again.
    let limits = Limits { stream_window_bytes: 64 << 10, ..limits() };
    ends_here("beyond its window", limits, &beyond, Reason::FLOW_CONTROL_ERROR);
}

/// What makes us reset a stream: trailers that do not end it.
fn wrong_trailers(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, WHOLE, stream, &[])
}

#[test]
fn section_5_1_1_clients_open_odd_streams_that_grow() {
    ends("even", &[call(2)], Reason::PROTOCOL_ERROR);
    ends("zero", &[call(0)], Reason::PROTOCOL_ERROR);
    passes("with gaps", &[call(1), call(7)]);
    Ours::server().accept_call(INT31_MAX);
    let client = Ours::client();
    let _calls = [client.call(), client.call(), client.call()];
    let ids: Vec<_> = of_kind(&client.said(), kind::HEADERS).iter().map(|(head, _)| head.stream).collect();
    assert_eq!(ids, [1, 3, 5]);
}

/// A lower stream that was never used is closed by the higher one (section 5.1.1), and we do not remember which were
/// used: the error is that of a closed stream, STREAM_CLOSED, where a server that remembers would say PROTOCOL_ERROR.
#[test]
fn section_5_1_1_a_lower_stream_ends_the_connection() {
    ends("HEADERS", &[call(5), call(3)], Reason::STREAM_CLOSED);
    ends("DATA", &[call(5), data(3, b"x")], Reason::STREAM_CLOSED);
}

#[test]
fn section_5_1_2_streams_beyond_our_limit_are_refused_and_the_others_go_on() {
    let server = Ours::server_with(Limits { streams_max: 2, ..limits() });
    let first = server.accept_call(1);
    let second = server.accept_call(3);
    server.hear(&call(5));
    assert_eq!(resets_in(&server.said()), [(5, Reason::REFUSED_STREAM)]);
    assert!(server.accept().is_none());
    // Half-closed streams count, those that are over do not.
    server.hear(&[frame(kind::DATA, END, 1, b"one"), call(7)].concat());
    assert_eq!(resets_in(&server.said()), [(7, Reason::REFUSED_STREAM)]);
    assert_eq!(arrived(&first), b"one");
    first.respond(&Response::new(()).into_parts().0, true).unwrap();
    server.accept_call(9);
    server.hear(&data(3, b"three"));
    assert_eq!(arrived(&second), b"three");
}

/// The session says how many there may be; who opens them keeps to it: tests/road/streams.rs.
#[test]
fn section_5_1_2_the_peers_limit_is_known_once_it_has_greeted_and_follows_its_settings() {
    let client = Ours::fresh_client();
    assert_eq!(client.0.borrow().streams_max(), 0);
    client.hear(&crate::ground::settings(&[(3, 7)]));
    assert_eq!(client.0.borrow().streams_max(), 7);
    client.hear(&crate::ground::settings(&[(3, 0)]));
    assert_eq!(client.0.borrow().streams_max(), 0);
    client.hear(&crate::ground::settings(&[(3, u32::MAX)]));
    assert_eq!(client.0.borrow().streams_max(), u32::MAX as usize);
}

#[test]
fn section_5_4_1_an_error_of_the_connection_names_the_last_stream_and_ends_it() {
    let server = Ours::server();
    let handles = [server.accept_call(1), server.accept_call(5)];
    server.hear(&[data(1, b"before"), frame(kind::SETTINGS, 0, 1, &[]), ping(&[0; 8])].concat());
    let said = server.said();
    assert_eq!(goaways_in(&said).last().map(|(last, _)| *last), Some(5));
    assert_eq!(said.last().map(|(head, _)| head.kind), Some(kind::GOAWAY), "nothing comes behind it");
    // What came before the mistake still counts; then it is lost, and nothing is answered any more.
    assert_eq!(arrived(&handles[0]), b"before");
    for handle in &handles {
        assert!(
            matches!(now(|cx| handle.poll_chunk(cx)), Some(Chunk::Broken(lost)) if lost.kind == BreakKind::ConnectionLost)
        );
        assert!(handle.send(Bytes::from_static(b"x")).is_err());
    }
    server.hear(&[call(7), ping(&[0; 8])].concat());
    assert_eq!((server.said(), server.accept().is_none()), (vec![], true));
    let told = Listener::hears(&[call(1), call(5), data(0, b"x")], false).expect("a listener hangs up");
    assert_eq!(goaways_in(&told), [(5, Reason::PROTOCOL_ERROR)]);
}

#[test]
fn section_5_4_2_a_reset_is_not_answered_by_a_reset() {
    let server = Ours::server();
    let handle = server.accept_call(1);
    server.hear(&reset(1, Reason::INTERNAL_ERROR));
    handle.reset(Reason::CANCEL);
    drop(handle);
    assert_eq!(server.said(), []);
    let client = Ours::client();
    let call = client.call();
    client.said();
    client.hear(&reset(1, Reason::REFUSED_STREAM));
    drop(call);
    assert_eq!(client.said(), []);
}

#[test]
fn section_5_4_2_nothing_follows_our_reset() {
    let server = Ours::server();
    let handle = server.accept_call(1);
    handle.respond(&Response::new(()).into_parts().0, false).unwrap();
    handle.send(vec![0; 100_000].into()).unwrap();
    handle.reset(Reason::CANCEL);
    assert!(handle.send(Bytes::from_static(b"more")).is_err() && handle.half_close().is_err());
    server.said();
    server.hear(&[update(0, 1 << 20), update(1, 1 << 20)].concat());
    assert_eq!(server.said(), []);
}

#[test]
fn section_5_4_3_a_connection_that_is_cut_breaks_its_streams() {
    let client = Ours::client();
    let call = client.call();
    client.0.borrow_mut().lose("cut");
    assert!(matches!(now(|cx| call.poll_response(cx)), Some(Err(lost)) if lost.kind == BreakKind::ConnectionLost));
    assert!(!client.0.borrow().is_usable());
}

#[test]
fn section_5_4_codes_nobody_knows_are_no_special_case() {
    passes("RST_STREAM", &[call(1), frame(kind::RST_STREAM, 0, 1, &0x99u32.to_be_bytes())]);
    passes("GOAWAY", &[frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])]);
    let client = Ours::client();
    let call = client.call();
    client.hear(&frame(kind::RST_STREAM, flag::ACK, 1, &0x99u32.to_be_bytes()));
    assert!(matches!(now(|cx| call.poll_response(cx)), Some(Err(lost)) if lost.kind == BreakKind::Reset));
    passes("CANCEL of a call that waits", &[call_with(1, &[("a", "b")]), reset(1, Reason::CANCEL)]);
}
