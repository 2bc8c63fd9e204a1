//! Attacks that have a name, and some that have none: each ends with its connection, and honest peers are left alone.

use super::{Server, call_block, client, frame, limits, now, output, request, response_block};
use crate::wire::http2::frame::{PAYLOAD_BYTES_MAX, Reason, flag, kind};
use crate::wire::http2::handle::Handle;
use crate::wire::http2::settings::Limits;
use crate::wire::stream::Chunk;

/// Says `round` until the connection ends; answers how often that was.
fn until_it_ends(server: &Server, most: usize, mut round: impl FnMut(usize) -> Vec<u8>) -> Option<usize> {
    for at in 0..most {
        if server.session.borrow().over().is_some() {
            assert_eq!(server.ended(), Some(Reason::ENHANCE_YOUR_CALM));
            return Some(at);
        }
        server.hear(&round(at));
        output(&server.session);
    }
    None
}

fn id(at: usize) -> u32 {
    2 * at as u32 + 1
}

#[track_caller]
fn ends_within(most: usize, round: impl FnMut(usize) -> Vec<u8>) {
    let ended = until_it_ends(&Server::new(), most + 1, round);
    assert!(ended.is_some_and(|at| at <= most), "{ended:?}");
}

#[test]
fn floods_of_frames_that_mean_nothing_end() {
    ends_within(2_000, |_| frame(kind::PING, 0, 0, &[0; 8]));
    ends_within(2_000, |_| frame(kind::PING, flag::ACK, 0, &[0; 8]));
    ends_within(500, |_| frame(kind::SETTINGS, 0, 0, &[]));
    ends_within(2_000, |_| frame(kind::SETTINGS, flag::ACK, 0, &[]));
    ends_within(2_000, |_| frame(kind::PRIORITY, 0, 7, &[0, 0, 0, 0, 1]));
    ends_within(2_000, |_| frame(kind::WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()));
    ends_within(2_000, |_| frame(0x42, 0, 0, &[0; 100]));
}

#[test]
fn a_flood_of_data_without_data_ends() {
    for (flags, payload) in [(0, &[][..]), (flag::PADDED, &[0][..]), (flag::PADDED, &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0])] {
        let server = Server::new();
        let _call = server.open(1);
        let ended = until_it_ends(&server, 1_000, |_| frame(kind::DATA, flags, 1, payload));
        assert!(ended.is_some_and(|at| at <= 201), "{ended:?}");
    }
}

/// CVE-2023-44487.
#[test]
fn calls_that_are_reset_at_once_end_the_connection() {
    let server = Server::new();
    let ended = until_it_ends(&server, 1_000, |at| {
        let call = frame(kind::HEADERS, flag::END_HEADERS, id(at), &call_block(&[]));
        [call, frame(kind::RST_STREAM, 0, id(at), &Reason::CANCEL.0.to_be_bytes())].concat()
    });
    assert!(ended.is_some_and(|at| at <= 101), "{ended:?}");
    assert!(Handle::accept(&server.session).is_none(), "nobody has to look at them");
}

#[test]
fn calls_that_are_served_and_then_reset_end_it_too() {
    let server = Server::new();
    let ended = until_it_ends(&server, 1_000, |at| {
        drop(Handle::accept(&server.session));
        let call = frame(kind::HEADERS, flag::END_HEADERS, id(at), &call_block(&[]));
        [call, frame(kind::RST_STREAM, 0, id(at), &[0; 4])].concat()
    });
    assert!(ended.is_some_and(|at| at <= 101), "{ended:?}");
}

/// CVE-2025-8671: what makes a server reset streams costs as much as resetting them.
#[test]
fn whatever_makes_us_reset_streams_ends_the_connection_in_time() {
    type Primitive = fn(u32) -> Vec<u8>;
    let primitives: [(&str, Primitive, usize); 8] = [
        ("a field of the connection", |id| call(id, &[("connection", "close")]), 251),
        ("a malformed path", |id| call(id, &[(":path", "none")]), 251),
        (
            "too much by its length",
            |id| [call(id, &[("content-length", "1")]), frame(kind::DATA, 0, id, b"two")].concat(),
            251,
        ),
        (
            "too little by its length",
            |id| [call(id, &[("content-length", "9")]), frame(kind::DATA, 1, id, b"two")].concat(),
            251,
        ),
        ("trailers without end", |id| [call(id, &[]), frame(kind::HEADERS, flag::END_HEADERS, id, &[])].concat(), 251),
        ("beyond its window", |id| [call(id, &[]), frame(kind::DATA, 0, id, &[0; 200])].concat(), 251),
        ("nothing as an increment", |id| [call(id, &[]), frame(kind::WINDOW_UPDATE, 0, id, &[0; 4])].concat(), 1),
        (
            "an increment too far",
            |id| [call(id, &[]), frame(kind::WINDOW_UPDATE, 0, id, &[0x7f, 255, 255, 255])].concat(),
            1,
        ),
    ];
    fn call(id: u32, fields: &[(&str, &str)]) -> Vec<u8> {
        frame(kind::HEADERS, flag::END_HEADERS, id, &call_block(fields))
    }
    for (name, primitive, most) in primitives {
        let server = Server::with(Limits { stream_window_bytes: 100, ..limits() });
        let mut rounds = 0;
        while server.ended().is_none() && rounds < 5_000 {
            server.hear(&primitive(id(rounds)));
            output(&server.session);
            rounds += 1;
        }
        assert!(rounds <= most, "{name}: {rounds} rounds");
    }
}

#[test]
fn streams_beyond_the_limit_are_refused_and_in_the_end_so_is_the_connection() {
    let server = Server::with(Limits { streams_max: 3, ..limits() });
    let _calls: Vec<_> = (0..3).map(|at| server.open(id(at))).collect();
    server.hear(&frame(kind::HEADERS, flag::END_HEADERS, 7, &call_block(&[])));
    assert_eq!(server.resets(), [(7, Reason::REFUSED_STREAM)]);
    let ended =
        until_it_ends(&server, 1_000, |at| frame(kind::HEADERS, flag::END_HEADERS, id(at + 4), &call_block(&[])));
    assert!(ended.is_some_and(|at| at <= 250), "{ended:?}");
}

/// CVE-2024-27316.
#[test]
fn a_header_block_without_end_ends_the_connection() {
    for piece in [&[][..], &[0x82], &[0; 4_000]] {
        let server = Server::new();
        server.hear(&frame(kind::HEADERS, 0, 1, &[]));
        let ended = until_it_ends(&server, 100, |_| frame(kind::CONTINUATION, 0, 1, piece));
        assert!(ended.is_some_and(|at| at <= 20), "{ended:?}");
    }
}

/// A block of 5 KB that claims megabytes: one large entry named again and again.
#[test]
fn a_header_bomb_ends_the_connection_and_fills_no_memory() {
    let mut bomb = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    bomb.extend_from_slice(&[b'x'; 4_000]);
    bomb.extend_from_slice(&[0xbe; 5_000]);
    let server = Server::new();
    server.hear(&frame(kind::HEADERS, flag::END_HEADERS, 1, &bomb));
    assert_eq!(server.ended(), Some(Reason::ENHANCE_YOUR_CALM));
}

#[test]
fn a_header_list_over_the_limit_is_answered_431_and_the_connection_goes_on() {
    let server = Server::with(Limits { header_list_bytes_max: 500, ..limits() });
    let long = "x".repeat(120);
    let fields: Vec<_> = (0..4).map(|_| ("a", long.as_str())).collect();
    server.hear(&frame(kind::HEADERS, flag::END_HEADERS, 1, &call_block(&fields)));
    let said = server.said();
    assert_eq!(said[0].1, [8, 3, b'4', b'3', b'1']);
    assert_eq!(
        (said[0].0.kind, said[0].0.has(flag::END_STREAM), said[1].0.kind),
        (kind::HEADERS, true, kind::RST_STREAM)
    );
    let _next = server.open(3);
}

#[test]
fn an_honest_agent_of_many_tiny_frames_is_left_alone() {
    let server = Server::new();
    let call = server.open(1);
    let mut unread = 0;
    for _ in 0..100_000 {
        if unread + 5 <= 60 << 10 {
            server.hear(&frame(kind::DATA, 0, 1, &[0; 5]));
            unread += 5;
        } else {
            let Some(Chunk::Data(data)) = now(|cx| call.poll_chunk(cx)) else { panic!("it is there") };
            assert_eq!(data.len(), unread, "all frames are one chunk");
            call.release(std::mem::take(&mut unread));
            output(&server.session);
        }
    }
    assert_eq!(server.session.borrow().over(), None);
}

#[test]
fn an_honest_agent_that_pings_behind_each_of_many_short_calls_is_left_alone() {
    let server = Server::new();
    for at in 0..20_000 {
        let call = server.open(id(at));
        server.hear(&[frame(kind::DATA, flag::END_STREAM, id(at), &[0; 5]), frame(kind::PING, 0, 0, &[7; 8])].concat());
        call.respond(&http::Response::new(()).into_parts().0, true).unwrap();
        output(&server.session);
        assert_eq!(server.session.borrow().over(), None);
    }
}

#[test]
fn an_honest_backend_that_pings_and_acknowledges_while_it_is_sent_to_is_left_alone() {
    let client = client();
    let call = Handle::call(&client, request()).unwrap();
    for _ in 0..20_000 {
        call.send(bytes::Bytes::from_static(&[0; 200])).unwrap();
        output(&client);
        for (kind, stream, payload) in [
            (kind::WINDOW_UPDATE, 0, &200u32.to_be_bytes()[..]),
            (kind::WINDOW_UPDATE, 1, &200u32.to_be_bytes()),
            (kind::PING, 0, &[7; 8]),
        ] {
            client.borrow_mut().receive(&frame(kind, 0, stream, payload));
        }
        assert_eq!(client.borrow().over(), None);
    }
}

#[test]
fn a_peer_that_opens_its_windows_and_does_not_read_fills_no_memory() {
    let client = client();
    let wide = 1_000_000_000u32.to_be_bytes();
    let settings = [&[0, 4][..], &wide].concat();
    client.borrow_mut().receive(&frame(kind::SETTINGS, 0, 0, &settings));
    client.borrow_mut().receive(&frame(kind::WINDOW_UPDATE, 0, 0, &wide));
    let calls: Vec<_> = (0..50).map(|_| Handle::call(&client, request()).unwrap()).collect();
    for call in calls.iter().cycle().take(1_000) {
        call.want(PAYLOAD_BYTES_MAX);
        let room = call.room();
        call.send(vec![0; room].into()).unwrap();
    }
    let waiting = client.borrow_mut().output().len();
    assert!((200 << 10..300 << 10).contains(&waiting), "{waiting} bytes wait");
    // Once it reads, everybody has their turn again.
    output(&client);
    assert!(calls.iter().any(|call| call.room() > 0));
}

#[test]
fn interim_responses_are_passed_over_but_not_without_end() {
    let client = client();
    let _call = Handle::call(&client, request()).unwrap();
    let interim = frame(kind::HEADERS, flag::END_HEADERS, 1, &[8, 3, b'1', b'0', b'3']);
    (0..10).for_each(|_| client.borrow_mut().receive(&interim));
    client.borrow_mut().receive(&frame(kind::HEADERS, flag::END_HEADERS, 1, &response_block()));
    assert!(now(|cx| _call.poll_response(cx)).unwrap().is_ok());
    let other = Handle::call(&client, request()).unwrap();
    let interim = frame(kind::HEADERS, flag::END_HEADERS, 3, &[8, 3, b'1', b'0', b'3']);
    (0..3_000).for_each(|_| client.borrow_mut().receive(&interim));
    assert_eq!(client.borrow().over().unwrap().reason, Some(Reason::ENHANCE_YOUR_CALM));
    drop(other);
}
