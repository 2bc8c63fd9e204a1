//! GOAWAY in both directions, and what becomes of streams at the end of a connection.

use bytes::Bytes;

use super::{Server, call_block, client, frame, frames, now, output, request, response_block};
use crate::wire::http2::frame::{INT31_MAX, Reason, flag, kind};
use crate::wire::http2::handle::Handle;
use crate::wire::stream::{BreakKind, Chunk};

fn goaways(server: &Server) -> Vec<u32> {
    let said = server.said().into_iter().filter(|(head, _)| head.kind == kind::GOAWAY);
    said.map(|(_, payload)| u32::from_be_bytes(payload[..4].try_into().unwrap())).collect()
}

fn goaway(last: u32) -> Vec<u8> {
    frame(kind::GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &[0; 4]].concat())
}

#[test]
fn a_server_that_leaves_serves_what_was_opened_before_the_peer_heard_of_it() {
    let server = Server::new();
    let first = server.open(1);
    server.session.borrow_mut().go_away();
    let said = server.said();
    assert_eq!(said[0].1[..4], INT31_MAX.to_be_bytes());
    let second = server.open(3);
    assert_eq!(said[1].0.kind, kind::PING);
    server.hear(&frame(kind::PING, flag::ACK, 0, &said[1].1));
    assert_eq!(goaways(&server), [3]);
    server.hear(&frame(kind::HEADERS, flag::END_HEADERS, 5, &call_block(&[])));
    assert!(Handle::accept(&server.session).is_none(), "nobody looks at it");
    assert!(!server.session.borrow().is_done());
    for handle in [first, second] {
        handle.respond(&http::Response::new(()).into_parts().0, true).unwrap();
        drop(handle);
    }
    server.said();
    assert!(server.session.borrow().is_done());
}

#[test]
fn a_server_that_leaves_without_calls_is_done_at_the_answer_to_its_ping() {
    let server = Server::new();
    server.session.borrow_mut().go_away();
    let ping = server.said().pop().unwrap().1;
    assert!(!server.session.borrow().is_done());
    server.hear(&frame(kind::PING, flag::ACK, 0, &ping));
    server.said();
    assert!(server.session.borrow().is_done());
}

#[test]
fn goaway_breaks_exactly_the_streams_above_it_as_not_processed() {
    let client = client();
    let handles: Vec<_> = (0..3).map(|_| Handle::call(&client, request()).unwrap()).collect();
    client.borrow_mut().receive(&goaway(INT31_MAX));
    assert!(!client.borrow().is_usable());
    assert_eq!(Handle::call(&client, request()).unwrap_err().kind, BreakKind::NotProcessed);
    client.borrow_mut().receive(&goaway(1));
    let kinds: Vec<_> = handles
        .iter()
        .map(|handle| now(|cx| handle.poll_response(cx)).map(|answer| answer.unwrap_err().kind))
        .collect();
    assert_eq!(kinds, [None, Some(BreakKind::NotProcessed), Some(BreakKind::NotProcessed)]);
    let answer = [frame(kind::HEADERS, flag::END_HEADERS, 1, &response_block()), frame(kind::DATA, 1, 1, b"ok")];
    client.borrow_mut().receive(&answer.concat());
    assert!(now(|cx| handles[0].poll_response(cx)).unwrap().is_ok());
    handles[0].half_close().unwrap();
    output(&client);
    assert!(client.borrow().is_done());
}

#[test]
fn goaway_may_not_take_back_what_an_earlier_one_said() {
    let client = client();
    client.borrow_mut().receive(&[goaway(1), goaway(3)].concat());
    assert_eq!(client.borrow().over().unwrap().reason, Some(Reason::PROTOCOL_ERROR));
}

#[test]
fn a_client_whose_ids_are_used_up_opens_no_more() {
    let client = client();
    client.borrow_mut().next_ours = INT31_MAX;
    let _last = Handle::call(&client, request()).unwrap();
    assert!(!client.borrow().is_usable() && Handle::call(&client, request()).is_err());
}

#[test]
fn a_lost_connection_breaks_what_has_not_ended_and_keeps_what_has_arrived() {
    let server = Server::new();
    let (open, ended) = (server.open(1), server.open(3));
    server.hear(&[frame(kind::DATA, 0, 1, b"some"), frame(kind::DATA, flag::END_STREAM, 3, b"all")].concat());
    server.session.borrow_mut().lose("cable cut");
    assert!(matches!(now(|cx| open.poll_chunk(cx)), Some(Chunk::Data(data)) if data == "some"));
    let Some(Chunk::Broken(lost)) = now(|cx| open.poll_chunk(cx)) else { panic!("it is broken") };
    assert_eq!((lost.kind, lost.why.as_str()), (BreakKind::ConnectionLost, "cable cut"));
    assert!(matches!(now(|cx| ended.poll_chunk(cx)), Some(Chunk::Data(data)) if data == "all"));
    assert!(matches!(now(|cx| ended.poll_chunk(cx)), Some(Chunk::End(None))));
    assert!(ended.send(Bytes::from_static(b"late")).is_err());
}

#[test]
fn calls_that_came_whole_before_the_end_are_still_handed_out() {
    let server = Server::new();
    let call = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &call_block(&[]));
    server.hear(&call);
    server.session.borrow_mut().lose("end of file");
    assert!(Handle::accept(&server.session).is_some());
}

#[test]
fn a_stream_that_is_dropped_is_cancelled_and_one_that_was_answered_is_told_no_error() {
    let server = Server::new();
    drop(server.open(1));
    assert_eq!(server.resets(), [(1, Reason::CANCEL)]);
    let answered = server.open(3);
    answered.respond(&http::Response::new(()).into_parts().0, true).unwrap();
    drop(answered);
    assert_eq!(server.resets(), [(3, Reason::NO_ERROR)]);
    let client = client();
    drop(Handle::call(&client, request()).unwrap());
    let said = frames(&output(&client));
    assert_eq!(said.last().unwrap().1, Reason::CANCEL.0.to_be_bytes());
}

/// Two ends that are dropped, each with more to say than its window lets it, would wait for each other for ever.
#[test]
fn a_call_that_is_dropped_is_cancelled_though_there_is_more_to_say_and_an_answer_is_said_first() {
    let client = client();
    let call = Handle::call(&client, request()).unwrap();
    call.send(vec![0; 70_000].into()).unwrap();
    call.half_close().unwrap();
    drop(call);
    let said = frames(&output(&client));
    assert_eq!(super::reset_of(said.last().unwrap().clone()), (1, Reason::CANCEL));
    let server = Server::new();
    let call = server.open(1);
    call.respond(&http::Response::new(()).into_parts().0, false).unwrap();
    call.send(vec![0; 70_000].into()).unwrap();
    call.half_close().unwrap();
    drop(call);
    assert_eq!(server.resets(), []);
    let more = 10_000u32.to_be_bytes();
    server.hear(&[frame(kind::WINDOW_UPDATE, 0, 0, &more), frame(kind::WINDOW_UPDATE, 0, 1, &more)].concat());
    let said = server.said();
    assert_eq!(said.iter().map(|(head, _)| head.kind).collect::<Vec<_>>(), [kind::DATA, kind::RST_STREAM]);
}

#[test]
fn a_cancel_is_told_from_an_end_and_a_refusal_from_a_failure() {
    for (reason, expected) in [
        (Reason::CANCEL, BreakKind::Cancelled),
        (Reason::REFUSED_STREAM, BreakKind::NotProcessed),
        (Reason::INTERNAL_ERROR, BreakKind::Reset),
    ] {
        let client = client();
        let call = Handle::call(&client, request()).unwrap();
        client.borrow_mut().receive(&frame(kind::RST_STREAM, 0, 1, &reason.0.to_be_bytes()));
        assert_eq!(now(|cx| call.poll_response(cx)).unwrap().unwrap_err().kind, expected);
        assert_eq!(now(|cx| call.poll_reset(cx)).unwrap().kind, expected);
    }
}

/// A server that has answered may reset what is left of the request (RFC 9113, section 8.1): the answer counts.
#[test]
fn a_reset_behind_a_whole_answer_does_not_take_the_answer_away() {
    let client = client();
    let call = Handle::call(&client, request()).unwrap();
    let status = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &response_block());
    client.borrow_mut().receive(&[status, frame(kind::RST_STREAM, 0, 1, &[0; 4])].concat());
    assert!(now(|cx| call.poll_response(cx)).unwrap().is_ok());
    assert!(matches!(now(|cx| call.poll_chunk(cx)), Some(Chunk::End(None))));
    assert!(call.send(Bytes::from_static(b"more")).is_err());
}
