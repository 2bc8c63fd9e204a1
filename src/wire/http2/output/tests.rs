//! Tests of what is written.

use proptest::prelude::*;

use super::*;

fn written(output: &mut Output) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !output.is_empty() {
        let (slices, filled) = output.slices::<4>();
        let piece = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
        output.advance(piece.len());
        bytes.extend(piece);
    }
    bytes
}

/// Kind, flags, stream and payload of each frame.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let head = Head::parse(head);
        let (payload, behind) = rest.split_at(head.length as usize);
        frames.push((head.kind, head.flags, head.stream, payload.to_vec()));
        bytes = behind;
    }
    assert!(bytes.is_empty());
    frames
}

#[test]
fn neighbours_of_one_stream_and_their_end_are_one_frame() {
    let mut output = Output::default();
    output.data(1, Bytes::from_static(b"ab"), 16_384);
    output.data(1, Bytes::from_static(b"cd"), 16_384);
    output.end(1);
    output.data(3, Bytes::from_static(b"e"), 16_384);
    output.data(5, Bytes::from_static(b"f"), 16_384);
    output.end(3);
    let frames = frames(&written(&mut output));
    let expected = [
        (kind::DATA, flag::END_STREAM, 1, b"abcd".to_vec()),
        (kind::DATA, 0, 3, b"e".to_vec()),
        (kind::DATA, 0, 5, b"f".to_vec()),
        (kind::DATA, flag::END_STREAM, 3, vec![]),
    ];
    assert_eq!(frames, expected);
}

#[test]
fn what_was_offered_to_the_socket_does_not_change_any_more() {
    let mut output = Output::default();
    output.data(1, Bytes::from_static(b"ab"), 16_384);
    let _ = output.slices::<1>();
    output.data(1, Bytes::from_static(b"cd"), 16_384);
    output.end(1);
    let flags: Vec<_> = frames(&written(&mut output)).into_iter().map(|frame| (frame.1, frame.3)).collect();
    assert_eq!(flags, [(0, b"ab".to_vec()), (flag::END_STREAM, b"cd".to_vec())]);
}

#[test]
fn long_bytes_become_frames_of_at_most_what_the_peer_takes_and_leave_no_buffer_behind() {
    let mut output = Output::default();
    let sent: Vec<u8> = (0..300_000u32).map(|at| at as u8).collect();
    sent.chunks(7_001).for_each(|chunk| output.data(1, Bytes::copy_from_slice(chunk), 16_384));
    let frames = frames(&written(&mut output));
    assert!(frames.iter().all(|frame| (1..=16_384).contains(&frame.3.len())));
    assert_eq!(frames.into_iter().flat_map(|frame| frame.3).collect::<Vec<_>>(), sent);
    assert!(output.buffers.is_empty() && output.pieces.is_empty());
}

proptest! {
    /// Whatever is copied and whatever is shared, and however the socket takes it.
    #[test]
    fn bytes_of_any_sizes_come_out_in_order(
        puts in prop::collection::vec((0u32..3, 0usize..20_000, any::<bool>()), 1..40),
        takes in prop::collection::vec(1usize..50_000, 1..40),
    ) {
        let mut output = Output::default();
        let (mut said, mut out, mut takes) = ([vec![], vec![], vec![]], Vec::new(), takes.iter().cycle());
        let mut next = 0u8;
        for (stream, length, writes) in puts {
            let bytes: Vec<u8> = (0..length).map(|_| { next = next.wrapping_add(1); next }).collect();
            said[stream as usize].extend_from_slice(&bytes);
            output.data(stream, bytes.into(), 16_384);
            if writes {
                out.extend(take(&mut output, *takes.next().unwrap()));
            }
        }
        while !output.is_empty() {
            out.extend(take(&mut output, *takes.next().unwrap()));
        }
        let frames = frames(&out);
        for stream in 0..3u32 {
            let bytes = frames.iter().filter(|frame| frame.2 == stream).flat_map(|frame| frame.3.clone());
            prop_assert_eq!(bytes.collect::<Vec<_>>(), said[stream as usize].clone());
        }
        prop_assert!(frames.iter().all(|frame| (1..=16_384).contains(&frame.3.len())));
        prop_assert!(output.buffers.is_empty() && output.pieces.is_empty());
    }
}

/// What a socket takes that takes at most so much.
fn take(output: &mut Output, bytes: usize) -> Vec<u8> {
    let (slices, filled) = output.slices::<3>();
    let mut taken: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
    taken.truncate(bytes);
    output.advance(taken.len());
    taken
}

#[test]
fn a_long_header_block_continues() {
    let mut output = Output::default();
    output.headers(1, &[7; 40], true, 16);
    let flags: Vec<_> = frames(&written(&mut output)).into_iter().map(|frame| (frame.0, frame.1)).collect();
    let expected =
        [(kind::HEADERS, flag::END_STREAM), (kind::CONTINUATION, 0), (kind::CONTINUATION, flag::END_HEADERS)];
    assert_eq!(flags, expected);
}

#[test]
fn answers_are_counted_until_all_is_written() {
    let mut output = Output::default();
    output.control(kind::PING, flag::ACK, 0, &[0; 8]);
    output.control(kind::PING, flag::ACK, 0, &[0; 8]);
    output.advance(20);
    assert_eq!(output.controls(), 2);
    output.advance(output.len());
    assert_eq!(output.controls(), 0);
}
