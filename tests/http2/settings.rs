//! Section 6.5: SETTINGS, their bounds and their acknowledgement.

use switchyard::wire::http2::frame::{INT31_MAX, Reason, flag, kind};

use crate::ground::{Ours, call, client_ends, client_passes, ends, frame, of_kind, passes, settings};

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// What our first SETTINGS say.
fn announced(ours: &Ours) -> Vec<(u16, u32)> {
    let raw = ours.raw();
    let said = crate::ground::frames(raw.strip_prefix(switchyard::wire::http2::frame::PREFACE).unwrap_or(&raw));
    let (settings, rest) = said[0].1.as_chunks::<6>();
    assert!(rest.is_empty());
    let read = |[a, b, c, d, e, f]: &[u8; 6]| (u16::from_be_bytes([*a, *b]), u32::from_be_bytes([*c, *d, *e, *f]));
    settings.iter().map(read).collect()
}

#[test]
fn section_6_5_settings_concern_the_connection() {
    ends("on a stream", &[frame(kind::SETTINGS, 0, 1, &[])], Reason::PROTOCOL_ERROR);
    ends("acknowledged on a stream", &[frame(kind::SETTINGS, flag::ACK, 1, &[])], Reason::PROTOCOL_ERROR);
    client_ends("on a stream", &[frame(kind::SETTINGS, 0, 1, &[])], Reason::PROTOCOL_ERROR);
}

#[test]
fn section_6_5_settings_are_of_six_bytes_each_and_acknowledgements_of_none() {
    for length in [1, 5, 7, 11] {
        ends("settings", &[frame(kind::SETTINGS, 0, 0, &vec![0; length])], Reason::FRAME_SIZE_ERROR);
    }
    for length in [1, 6] {
        ends("ACK", &[frame(kind::SETTINGS, flag::ACK, 0, &vec![0; length])], Reason::FRAME_SIZE_ERROR);
    }
    client_ends("settings", &[frame(kind::SETTINGS, 0, 0, &[0; 5])], Reason::FRAME_SIZE_ERROR);
}

#[test]
fn section_6_5_2_push_is_enabled_or_not_and_never_by_a_server() {
    for value in [2, u32::MAX] {
        ends("by a client", &[settings(&[(ENABLE_PUSH, value)])], Reason::PROTOCOL_ERROR);
    }
    for value in [0, 1] {
        passes("by a client", &[settings(&[(ENABLE_PUSH, value)])]);
    }
    for value in [1, 2] {
        client_ends("by a server", &[settings(&[(ENABLE_PUSH, value)])], Reason::PROTOCOL_ERROR);
    }
    client_passes("by a server", &[settings(&[(ENABLE_PUSH, 0)])]);
}

#[test]
fn section_6_5_2_a_window_is_at_most_two_to_the_31_less_one() {
    for value in [INT31_MAX + 1, u32::MAX] {
        ends("too large", &[settings(&[(INITIAL_WINDOW_SIZE, value)])], Reason::FLOW_CONTROL_ERROR);
        client_ends("too large", &[settings(&[(INITIAL_WINDOW_SIZE, value)])], Reason::FLOW_CONTROL_ERROR);
    }
    for value in [0, 1, INT31_MAX] {
        passes("a window", &[settings(&[(INITIAL_WINDOW_SIZE, value)])]);
    }
}

#[test]
fn section_6_5_2_a_frame_is_at_least_16_kib_and_at_most_16_mib_less_one() {
    for value in [0, 16_383, 1 << 24, u32::MAX] {
        ends("frames", &[settings(&[(MAX_FRAME_SIZE, value)])], Reason::PROTOCOL_ERROR);
        client_ends("frames", &[settings(&[(MAX_FRAME_SIZE, value)])], Reason::PROTOCOL_ERROR);
    }
    for value in [16_384, (1 << 24) - 1] {
        passes("frames", &[settings(&[(MAX_FRAME_SIZE, value)])]);
    }
}

#[test]
fn section_6_5_2_the_others_may_be_anything() {
    for id in [HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE] {
        for value in [0, 1, u32::MAX] {
            passes("a server", &[settings(&[(id, value)])]);
            client_passes("a client", &[settings(&[(id, value)])]);
        }
    }
}

#[test]
fn section_6_5_2_a_client_forbids_pushes_and_a_server_says_nothing_of_them() {
    assert!(announced(&Ours::fresh_client()).contains(&(ENABLE_PUSH, 0)));
    let server = announced(&Ours::fresh_server());
    assert!(server.iter().all(|(id, _)| *id != ENABLE_PUSH) && server.contains(&(MAX_CONCURRENT_STREAMS, 1_024)));
}

#[test]
fn section_6_5_3_settings_are_acknowledged_in_their_order_and_acknowledgements_are_not() {
    for ours in [Ours::server(), Ours::client()] {
        ours.hear(&[settings(&[]), settings(&[(INITIAL_WINDOW_SIZE, 9)])].concat());
        let said = ours.said();
        let acknowledgements = of_kind(&said, kind::SETTINGS);
        assert_eq!(acknowledgements.len(), 2);
        assert!(acknowledgements.iter().all(|(head, payload)| head.flags == flag::ACK && payload.is_empty()));
        ours.hear(&frame(kind::SETTINGS, flag::ACK, 0, &[]));
        assert_eq!(ours.said(), []);
    }
}

#[test]
fn section_6_5_3_of_a_setting_that_comes_twice_the_last_counts() {
    let client = Ours::client();
    client.hear(&settings(&[(MAX_CONCURRENT_STREAMS, 9), (MAX_CONCURRENT_STREAMS, 3)]));
    assert_eq!(client.0.borrow().streams_max(), 3);
    client.hear(&settings(&[(INITIAL_WINDOW_SIZE, 9), (INITIAL_WINDOW_SIZE, 3)]));
    let call = client.call();
    call.want(100);
    assert_eq!(call.room(), 3);
}

#[test]
fn section_6_5_3_what_is_acknowledged_is_in_force() {
    let client = Ours::client();
    client.hear(&settings(&[(INITIAL_WINDOW_SIZE, 3)]));
    let call = client.call();
    call.send(vec![0; 100].into()).unwrap();
    let said = client.said();
    assert_eq!((said[0].0.kind, said[0].0.flags), (kind::SETTINGS, flag::ACK));
    assert_eq!(of_kind(&said, kind::DATA).iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), 3);
}

#[test]
fn section_6_5_a_peer_may_change_its_settings_at_any_time() {
    passes("between calls", &[call(1), settings(&[(INITIAL_WINDOW_SIZE, 1)]), call(3), settings(&[])]);
}
