//! Section 8: requests and answers that are none, each of which ends its stream and nothing else.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use switchyard::wire::http2::frame::{Reason, flag, kind};
use switchyard::wire::http2::handle::Handle;
use switchyard::wire::stream::{BreakKind, Chunk};

use crate::ground::{
    END, Ours, WHOLE, answer, arrived, block, call, call_fields, call_with, client_ends, client_passes, client_resets,
    data, ended_call, frame, now, of_kind, passes, read, reset, resets, resets_in, trailers,
};

/// A call whose head is exactly these fields.
fn only(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, WHOLE, 1, &block(fields))
}

#[track_caller]
fn malformed(what: &str, said: &[Vec<u8>]) {
    resets(what, said, Reason::PROTOCOL_ERROR);
}

#[track_caller]
fn malformed_answer(what: &str, fields: &[(&str, &str)]) {
    client_resets(what, &[only(fields)], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_8_1_a_call_is_a_head_then_data_then_perhaps_trailers() {
    passes("all of it", &[call(1), data(1, b"x"), data(1, b"y"), trailers(1, &[("a", "b")])]);
    passes("only a head", &[ended_call(1)]);
    let server = Ours::server();
    let handle = server.accept_call(1);
    server.hear(&[data(1, b"x"), trailers(1, &[("a", "b")])].concat());
    let (bytes, behind) = read(&handle);
    assert!(bytes == b"x" && matches!(behind, Some(Chunk::End(Some(trailers))) if trailers["a"] == "b"));
}

#[test]
fn section_8_1_headers_in_the_middle_that_do_not_end_the_stream_are_malformed() {
    malformed("behind the head", &[call(1), frame(kind::HEADERS, WHOLE, 1, &block(&[("a", "b")]))]);
    malformed("behind DATA", &[call(1), data(1, b"x"), frame(kind::HEADERS, WHOLE, 1, &block(&[("a", "b")]))]);
    client_resets(
        "of an answer",
        &[answer(1, &[]), frame(kind::HEADERS, WHOLE, 1, &block(&[("a", "b")]))],
        Reason::PROTOCOL_ERROR,
    );
}

#[test]
fn section_8_1_an_answer_begins_with_its_head() {
    client_resets("DATA", &[data(1, b"early")], Reason::PROTOCOL_ERROR);
    client_resets("the end", &[frame(kind::DATA, END, 1, b"")], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_8_1_interim_answers_are_passed_over() {
    let interim = |status| only(&[(":status", status), ("link", "</a>")]);
    let client = Ours::client();
    let handle = client.call();
    client.hear(&[interim("100"), interim("103"), answer(1, &[("a", "b")])].concat());
    assert_eq!(now(|cx| handle.poll_response(cx)).unwrap().unwrap().headers["a"], "b");
    let ends = frame(kind::HEADERS, WHOLE | END, 1, &block(&[(":status", "103")]));
    client_resets("one that ends the stream", &[ends], Reason::PROTOCOL_ERROR);
    client_resets("one behind the head", &[answer(1, &[]), interim("103")], Reason::PROTOCOL_ERROR);
    client_resets("DATA behind one", &[interim("103"), data(1, b"x")], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_8_1_an_answer_may_be_whole_before_the_call_is_and_is_kept() {
    let client = Ours::client();
    let handle = client.call();
    client.hear(&[answer(1, &[]), data(1, b"all"), trailers(1, &[]), reset(1, Reason::NO_ERROR)].concat());
    assert!(now(|cx| handle.poll_response(cx)).unwrap().is_ok());
    let (bytes, behind) = read(&handle);
    assert!(bytes == b"all" && matches!(behind, Some(Chunk::End(Some(_)))));
    let server = Ours::server();
    let handle = server.accept_call(1);
    handle.respond(&Response::new(()).into_parts().0, true).unwrap();
    drop(handle);
    let said = server.said();
    assert!(said[0].0.has(END), "the answer is whole");
    assert_eq!(resets_in(&said), [(1, Reason::NO_ERROR)], "and the rest of the call is of no use");
}

#[test]
fn section_8_1_1_a_malformed_call_is_reset_before_anybody_sees_it_and_its_neighbours_go_on() {
    let server = Ours::server();
    let neighbour = server.accept_call(1);
    server.hear(&[call_with(3, &[("te", "gzip")]), data(3, b"late"), data(1, b"fine")].concat());
    assert_eq!((server.ended(), resets_in(&server.said())), (None, vec![(3, Reason::PROTOCOL_ERROR)]));
    assert!(server.accept().is_none());
    assert_eq!(arrived(&neighbour), b"fine");
}

#[test]
fn section_8_1_1_content_length_is_what_comes() {
    let length = |length| call_with(1, &[("content-length", length)]);
    let end = |bytes: &[u8]| frame(kind::DATA, END, 1, bytes);
    malformed("more", &[length("3"), data(1, b"four")]);
    malformed("more, in two", &[length("3"), data(1, b"two"), data(1, b"x")]);
    malformed("less", &[length("5"), end(b"four")]);
    malformed("less, in two", &[length("5"), data(1, b"four"), end(b"")]);
    malformed("less, by trailers", &[length("5"), data(1, b"four"), trailers(1, &[])]);
    let only_head = block(&call_fields(&[("content-length", "1")]));
    malformed("none", &[frame(kind::HEADERS, WHOLE | END, 1, &only_head)]);
    passes("as much", &[length("4"), data(1, b"fo"), frame(kind::DATA, flag::PADDED, 1, &[2, b'u', 0, 0])]);
    client_resets("of an answer", &[answer(1, &[("content-length", "1")]), end(b"")], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_8_1_1_content_length_is_a_number_and_one() {
    for wrong in ["", "-1", "+1", "0x1", "1 2", "1,2", "99999999999999999999"] {
        malformed(wrong, &[call_with(1, &[("content-length", wrong)])]);
    }
    let twice = |again| only(&[&call_fields(&[])[..], &[("content-length", "1"), ("content-length", again)]].concat());
    malformed("two that differ", &[twice("2")]);
    passes("twice the same", &[twice("1")]);
}

#[test]
fn section_8_2_1_names_are_in_lower_case_and_of_letters_that_names_have() {
    for wrong in ["Upper", "uppeR", "", "a b", "a\u{7f}", "a\0", "a:b", ":a:b", "a\r\nb", "é", "a(b)", "a\"b"] {
        malformed(wrong, &[call_with(1, &[(wrong, "x")])]);
        malformed(wrong, &[call(1), trailers(1, &[(wrong, "x")])]);
        malformed_answer(wrong, &[(":status", "200"), (wrong, "x")]);
    }
}

#[test]
fn section_8_2_1_values_have_no_line_ends_no_zeros_and_no_blanks_around_them() {
    for wrong in ["a\r\nb: c", "a\rb", "a\nb", "a\0b", "\0", " a", "a ", "\ta", "a\t", " "] {
        malformed(wrong, &[call_with(1, &[("x", wrong)])]);
        malformed(wrong, &[call(1), trailers(1, &[("x", wrong)])]);
        malformed_answer(wrong, &[(":status", "200"), ("x", wrong)]);
        malformed(wrong, &[call_with(1, &[(":path", &format!("/{wrong}"))])]);
        malformed(wrong, &[call_with(1, &[(":authority", &format!("gateway{wrong}"))])]);
    }
    passes(
        "blanks inside, no value, letters of all the world",
        &[call_with(1, &[("x", "a b\tc"), ("y", ""), ("z", "é")])],
    );
}

#[test]
fn section_8_2_2_fields_of_a_connection_have_no_place() {
    let of_a_connection = [
        ("connection", "close"),
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
    ];
    for field in of_a_connection {
        malformed(field.0, &[call_with(1, &[field])]);
        malformed(field.0, &[call(1), trailers(1, &[field])]);
        malformed_answer(field.0, &[(":status", "200"), field]);
    }
}

#[test]
fn section_8_2_2_te_is_trailers_or_nothing() {
    passes("trailers", &[call_with(1, &[("te", "trailers")])]);
    for wrong in ["gzip", "trailers, deflate;q=0.5", "", "trailers,"] {
        malformed(wrong, &[call_with(1, &[("te", wrong)])]);
    }
}

/// Cookies have to be put together again only for who speaks another HTTP, and we do not.
#[test]
fn section_8_2_3_cookies_may_come_in_pieces() {
    passes("cookies", &[only(&[&call_fields(&[])[..], &[("cookie", "a=b"), ("cookie", "c=d")]].concat())]);
}

#[test]
fn section_8_3_pseudo_headers_come_first() {
    let mut fields = call_fields(&[]);
    let last_pseudo = fields.iter().rposition(|(name, _)| name.starts_with(':')).unwrap();
    fields.swap(last_pseudo, last_pseudo + 1);
    malformed("behind a field", &[only(&fields)]);
    malformed_answer("behind a field", &[("a", "b"), (":status", "200")]);
}

#[test]
fn section_8_3_pseudo_headers_are_those_that_are_known() {
    malformed("unknown", &[only(&[&[(":unknown", "x")], &call_fields(&[])[..]].concat())]);
    malformed("of an answer", &[only(&[&[(":status", "200")], &call_fields(&[])[..]].concat())]);
    malformed("of extended CONNECT", &[only(&[&[(":protocol", "websocket")], &call_fields(&[])[..]].concat())]);
    for name in [":method", ":scheme", ":authority", ":path", ":unknown"] {
        malformed_answer(name, &[(":status", "200"), (name, "/")]);
    }
}

#[test]
fn section_8_3_pseudo_headers_come_once() {
    for again in [":method", ":scheme", ":authority", ":path"] {
        let fields = call_fields(&[]);
        let same = *fields.iter().find(|(name, _)| *name == again).unwrap();
        malformed(again, &[only(&[&[same], &fields[..]].concat())]);
    }
    malformed_answer(":status", &[(":status", "200"), (":status", "200")]);
}

#[test]
fn section_8_3_trailers_have_no_pseudo_headers() {
    for field in [(":method", "POST"), (":path", "/"), (":status", "200"), (":unknown", "x")] {
        malformed(field.0, &[call(1), data(1, b"x"), trailers(1, &[field])]);
        client_resets(field.0, &[answer(1, &[]), trailers(1, &[field])], Reason::PROTOCOL_ERROR);
    }
}

#[test]
fn section_8_3_1_a_request_has_a_method_a_scheme_and_a_path() {
    for missing in [":method", ":scheme", ":path"] {
        let mut fields = call_fields(&[]);
        fields.retain(|(name, _)| *name != missing);
        malformed(missing, &[only(&fields)]);
        malformed(missing, &[call_with(1, &[(missing, "")])]);
    }
    malformed("nothing at all", &[only(&[])]);
}

/// gRPC clients leave `:authority` out on Unix sockets, and some say `host` in its place.
#[test]
fn section_8_3_1_a_request_may_be_without_authority() {
    let mut fields = call_fields(&[]);
    fields.retain(|(name, _)| *name != ":authority");
    passes("none", &[only(&fields)]);
    passes("host", &[only(&[&fields[..], &[("host", "gateway")]].concat())]);
    malformed("one with user information", &[call_with(1, &[(":authority", "me@gateway")])]);
}

#[test]
fn section_8_3_1_a_path_begins_with_a_slash_unless_it_is_the_star_of_options() {
    for wrong in ["a.B/c", "*", "http://gateway/a.B/c", "?a"] {
        malformed(wrong, &[call_with(1, &[(":path", wrong)])]);
    }
    let server = Ours::server();
    server.hear(&call_with(1, &[(":method", "OPTIONS"), (":path", "*")]));
    assert!(server.accept().is_some());
}

#[test]
fn section_8_3_1_our_requests_have_all_of_it_in_front() {
    let client = Ours::client();
    let mut head = Request::post("https://backend:443/a.B/c").body(()).unwrap();
    head.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    let _call = Handle::call(&client.0, head).unwrap();
    // A server of ours reads it back, and it is as strict with us as with anybody.
    let server = Ours::server();
    server.hear(&client.raw());
    let (head, _call) = Handle::accept(&server.0).expect("it is a request");
    assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("POST", "https://backend:443/a.B/c"));
    assert_eq!(head.headers["te"], "trailers");
}

#[test]
fn section_8_3_2_an_answer_has_a_status_of_three_digits() {
    malformed_answer("none", &[("a", "b")]);
    malformed_answer("nothing at all", &[]);
    for wrong in ["", "20", "2000", "abc", "-20", "099"] {
        malformed_answer(wrong, &[(":status", wrong)]);
    }
    client_passes("one nobody knows", &[only(&[(":status", "599")])]);
    let server = Ours::server();
    let handle = server.accept_call(1);
    handle.respond(&Response::new(()).into_parts().0, false).unwrap();
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", HeaderValue::from_static("0"));
    handle.send(Bytes::from_static(b"x")).unwrap();
    handle.send_trailers(fields).unwrap();
    let client = Ours::client();
    let call = client.call();
    client.hear(&server.raw());
    assert_eq!(now(|cx| call.poll_response(cx)).unwrap().unwrap().status, 200);
    let (bytes, behind) = read(&call);
    assert!(bytes == b"x" && matches!(behind, Some(Chunk::End(Some(trailers))) if trailers["grpc-status"] == "0"));
}

#[test]
fn section_8_4_a_client_that_forbids_pushes_takes_none() {
    let promise = frame(kind::PUSH_PROMISE, WHOLE, 1, &[&[0, 0, 0, 2][..], &block(&call_fields(&[]))].concat());
    client_ends("PUSH_PROMISE", &[answer(1, &[]), promise], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_8_5_connect_has_an_authority_and_nothing_else() {
    malformed("with a path", &[call_with(1, &[(":method", "CONNECT")])]);
    malformed("without authority", &[only(&[(":method", "CONNECT")])]);
    let server = Ours::server();
    server.hear(&only(&[(":method", "CONNECT"), (":authority", "gateway:1")]));
    assert!(server.accept().is_some(), "whoever serves it may refuse it");
}

#[test]
fn section_8_6_nobody_switches_protocols() {
    malformed_answer("101", &[(":status", "101")]);
}

/// A call that was refused has not been looked at and may be said again; one that was cancelled may not.
#[test]
fn section_8_7_a_refused_call_is_told_from_a_failed_one() {
    for (reason, kind) in [(Reason::REFUSED_STREAM, BreakKind::NotProcessed), (Reason::CANCEL, BreakKind::Cancelled)] {
        let client = Ours::client();
        let handle = client.call();
        client.hear(&reset(1, reason));
        assert_eq!(now(|cx| handle.poll_response(cx)).unwrap().unwrap_err().kind, kind);
    }
}

/// The limit is ours to set, and a caller that goes over it is told so rather than cut off.
#[test]
fn section_10_5_1_a_header_list_over_the_limit_is_answered_431() {
    let long = "x".repeat(120);
    let fields: Vec<_> = (0..120).map(|_| ("a", long.as_str())).collect();
    let server = Ours::server();
    server.hear(&call_with(1, &fields)[..]);
    let said = server.said();
    let head = of_kind(&said, kind::HEADERS)[0];
    assert!(head.0.has(END) && head.1.ends_with(b"431"), "{said:?}");
    assert_eq!((server.ended(), resets_in(&said)), (None, vec![(1, Reason::NO_ERROR)]));
}
