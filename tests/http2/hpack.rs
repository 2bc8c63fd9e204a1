//! RFC 7541: header blocks that cannot be read end the connection, for nothing behind them can be.

use switchyard::wire::http2::frame::{Reason, kind};
use switchyard::wire::http2::handle::Handle;
use switchyard::wire::http2::hpack::encode::Encoder;

use crate::ground::{Ours, WHOLE, block, call_fields, client_ends, ends, frame, passes};

/// HEADERS of a call with more behind its usual fields.
fn with(more: &[u8]) -> Vec<u8> {
    on(1, more)
}

fn on(stream: u32, more: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, WHOLE, stream, &[&block(&call_fields(&[])), more].concat())
}

/// And in front of them, where a block begins.
fn behind(more: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, WHOLE, 1, &[more, &block(&call_fields(&[]))].concat())
}

#[track_caller]
fn unreadable(what: &str, said: &[Vec<u8>]) {
    ends(what, said, Reason::COMPRESSION_ERROR);
}

/// The value of `a` in the last call that was heard.
fn value_of_a(said: &[Vec<u8>]) -> String {
    let server = Ours::server();
    server.hear(&said.concat());
    let mut last = None;
    while let Some((head, _call)) = Handle::accept(&server.0) {
        last = head.headers.get("a").map(|value| value.to_str().unwrap().to_owned());
    }
    last.expect("a call with `a`")
}

#[test]
fn section_2_3_3_an_index_beyond_both_tables_is_unreadable() {
    unreadable("the first dynamic one of an empty table", &[with(&[0xbe])]);
    unreadable("far beyond", &[with(&[0xff, 0x80, 0x7e])]);
    unreadable("as a name", &[with(&[0x7e, 1, b'x'])]);
    unreadable("as a name that is not indexed", &[with(&[0x0f, 0x2f, 1, b'x'])]);
    let one_entry = &[0x40, 1, b'a', 1, b'1'];
    unreadable("one beyond an entry", &[on(1, one_entry), on(3, &[0xbf])]);
    passes("the entry", &[on(1, one_entry), on(3, &[0xbe])]);
    client_ends("at a client", &[frame(kind::HEADERS, WHOLE, 1, &[0x88, 0xbe])], Reason::COMPRESSION_ERROR);
}

#[test]
fn section_3_2_blocks_of_all_streams_share_one_table() {
    let entry = |stream, value: u8| on(stream, &[0x40, 1, b'a', 1, value]);
    assert_eq!(value_of_a(&[entry(1, b'1'), on(3, &[0xbe])]), "1");
    // The newest stands in front.
    let other = &[0x40, 1, b'b', 1, b'x'];
    assert_eq!(value_of_a(&[entry(1, b'1'), on(3, other), on(5, &[0xbf])]), "1");
}

#[test]
fn section_4_1_a_table_of_its_size_holds_what_fits_and_not_a_byte_more() {
    // `a` and 4,063 bytes and the 32 of an entry are 4,096; with one more the table is empty.
    let large = |bytes: usize| [&[0x40, 1, b'a', 0x7f][..], &number(bytes - 127), &vec![b'v'; bytes]].concat();
    passes("it fits", &[on(1, &large(4_063)), on(3, &[0xbe])]);
    unreadable("it does not", &[on(1, &large(4_064)), on(3, &[0xbe])]);
}

/// The rest of a number that does not fit its prefix.
fn number(mut left: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while left >= 128 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

#[test]
fn section_4_2_a_size_comes_at_the_head_of_a_block_only() {
    passes("at the head", &[behind(&[0x20])]);
    passes("twice, for the smallest and the last", &[behind(&[0x20, 0x3f, 0xe1, 0x1f])]);
    unreadable("behind a field", &[with(&[0x20])]);
    unreadable("between fields", &[frame(kind::HEADERS, WHOLE, 1, &[0x83, 0x20, 0x86])]);
    client_ends("at a client", &[frame(kind::HEADERS, WHOLE, 1, &[0x88, 0x20])], Reason::COMPRESSION_ERROR);
}

#[test]
fn section_4_3_a_smaller_table_forgets() {
    let entry = &[0x40, 1, b'a', 1, b'1'];
    let sized = |stream, size: &[u8], more: &[u8]| {
        frame(kind::HEADERS, WHOLE, stream, &[size, &block(&call_fields(&[])), more].concat())
    };
    assert_eq!(value_of_a(&[on(1, entry), sized(3, &[0x3f, 3], &[0xbe])]), "1", "34 bytes are what it needs");
    unreadable("33", &[on(1, entry), sized(3, &[0x3f, 2], &[0xbe])]);
    unreadable("none and then many", &[on(1, entry), sized(3, &[0x20, 0x3f, 0xe1, 0x1f], &[0xbe])]);
}

#[test]
fn section_5_1_a_number_without_end_or_larger_than_can_be_meant_is_unreadable() {
    unreadable("an index", &[with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])]);
    unreadable("zeros without end", &[with(&[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01])]);
    unreadable("more than 64 bits", &[with(&[&[0xff][..], &[0xff; 10], &[0x7f]].concat())]);
    unreadable("a length", &[with(&[0x40, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f])]);
    unreadable("a size", &[behind(&[0x3f, 0xff, 0xff, 0xff, 0xff, 0x7f])]);
    unreadable("one that the block ends in", &[with(&[0xff, 0x80])]);
}

#[test]
fn section_5_2_a_string_longer_than_its_block_is_unreadable() {
    unreadable("a name", &[with(&[0x40, 9, b'a'])]);
    unreadable("a value", &[with(&[0x40, 1, b'a', 9, b'b'])]);
    unreadable("a Huffman string", &[with(&[0x40, 1, b'a', 0x89, 0xff])]);
    unreadable("no value at all", &[with(&[0x40, 1, b'a'])]);
    unreadable("nothing behind a kind", &[with(&[0x40])]);
}

#[test]
fn section_5_2_huffman_padding_is_ones_and_shorter_than_a_byte() {
    let coded = |bytes: &[u8]| with(&[&[0, 1, b'a', 0x80 | bytes.len() as u8][..], bytes].concat());
    // "0" is five zeros; three ones fill the byte.
    assert_eq!(value_of_a(&[coded(&[0b0000_0111])]), "0");
    unreadable("padding of zeros", &[coded(&[0b0000_0000])]);
    unreadable("padding with a zero in it", &[coded(&[0b0000_0101])]);
    unreadable("eight bits of padding behind a whole code", &[coded(&[0b0000_0111, 0xff])]);
    unreadable("nothing but padding", &[coded(&[0xff])]);
    assert_eq!(value_of_a(&[coded(&[])]), "");
}

#[test]
fn section_5_2_the_end_of_string_symbol_is_never_said() {
    let coded = |bytes: &[u8]| with(&[&[0, 1, b'a', 0x80 | bytes.len() as u8][..], bytes].concat());
    unreadable("on its own", &[coded(&[0xff; 4])]);
    // "0", then thirty ones, then "0" again and padding.
    unreadable("inside", &[coded(&[0b0000_0111, 0xff, 0xff, 0xff, 0b1110_0000, 0b0111_1111])]);
}

#[test]
fn section_6_1_index_0_is_unreadable() {
    unreadable("indexed", &[with(&[0x80])]);
    client_ends("at a client", &[frame(kind::HEADERS, WHOLE, 1, &[0x80])], Reason::COMPRESSION_ERROR);
}

#[test]
fn section_6_2_literals_are_remembered_or_not_as_they_say() {
    assert_eq!(value_of_a(&[with(&[0x00, 1, b'a', 1, b'n'])]), "n");
    assert_eq!(value_of_a(&[with(&[0x10, 1, b'a', 1, b'n'])]), "n");
    unreadable("not indexed", &[on(1, &[0x00, 1, b'a', 1, b'n']), on(3, &[0xbe])]);
    unreadable("never indexed", &[on(1, &[0x10, 1, b'a', 1, b'n']), on(3, &[0xbe])]);
    assert_eq!(value_of_a(&[on(1, &[0x40, 1, b'a', 1, b'1']), on(3, &[0x7e, 1, b'2'])]), "2", "a name by its index");
}

#[test]
fn section_6_3_a_size_beyond_what_we_allow_is_unreadable() {
    passes("4,096", &[behind(&[0x3f, 0xe1, 0x1f])]);
    unreadable("4,097", &[behind(&[0x3f, 0xe2, 0x1f])]);
}

/// A client that asks us to keep something out of every table (section 6.2.3) is not failed by what we say ourselves.
#[test]
fn section_7_1_3_tokens_are_never_to_be_indexed_by_those_behind_us() {
    let mut fields = http::HeaderMap::new();
    fields.insert("authorization", http::HeaderValue::from_static("Bearer t"));
    let mut block = Vec::new();
    Encoder::default().trailers(&fields, &mut block);
    assert_eq!(block[0] & 0xf0, 0x10, "{block:02x?}");
}
