//! Reads header blocks (RFC 7541, section 6), keeping the dynamic table in step with the peer's.

use bytes::Bytes;

use super::TABLE_BYTES;
use super::huffman::{self, NotHuffman};
use super::table::{Name, Table};

/// Reads the blocks of one connection, all of them and in their order.
#[derive(Debug, Default)]
pub struct Decoder {
    table: Table,
    /// Where Huffman strings are spelled out; empty between blocks.
    spelled: Vec<u8>,
}

/// A block that cannot be read; nothing after it on the connection can be, either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It ends inside a field.
    #[error("a header block ends inside a field")]
    Short,
    /// A number is larger than any that can be meant.
    #[error("a number in a header block is too large")]
    Number,
    /// There is no entry of that index.
    #[error("a header block names an entry that does not exist")]
    Index,
    /// Not Huffman.
    #[error("a header block has a string that is not Huffman")]
    Huffman,
    /// A table size that was not allowed, or not at the head of the block.
    #[error("a header block changes the table's size where or as it may not")]
    Resize,
}

// === impl Decoder ===

impl Decoder {
    /// With an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a block and hands each field over, in order. What is handed over copies nothing out of the table.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn decode(&mut self, block: &[u8], mut found: impl FnMut(Name, Bytes)) -> Result<(), Unreadable> {
        let mut rest = block;
        let mut is_head = true;
        while let Some(first) = rest.first().copied() {
            match first {
                0x80.. => {
                    let (name, value) = self.table.get(number(&mut rest, 7)?).ok_or(Unreadable::Index)?;
                    found(name, value);
                }
                0x40.. => {
                    let (name, value) = self.literal(&mut rest, 6)?;
                    self.table.add(name.clone(), value.clone());
                    found(name, value);
                }
                0x20.. => {
                    let bytes_max = number(&mut rest, 5)?;
                    if !is_head || bytes_max > TABLE_BYTES {
                        return Err(Unreadable::Resize);
                    }
                    self.table.resize(bytes_max);
                    continue;
                }
                _ => {
                    let (name, value) = self.literal(&mut rest, 4)?;
                    found(name, value);
                }
            }
            is_head = false;
        }
        self.spelled = Vec::new();
        Ok(())
    }

    /// The table as it stands.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn literal(&mut self, rest: &mut &[u8], prefix_bits: u32) -> Result<(Name, Bytes), Unreadable> {
        let name = match number(rest, prefix_bits)? {
            0 => Name::of(self.string(rest)?),
            index => self.table.get(index).ok_or(Unreadable::Index)?.0,
        };
        Ok((name, Bytes::copy_from_slice(self.string(rest)?)))
    }

    fn string<'s, 'a: 's>(&'s mut self, rest: &mut &'a [u8]) -> Result<&'s [u8], Unreadable> {
        let is_huffman = rest.first().ok_or(Unreadable::Short)? & 0x80 != 0;
        let length = number(rest, 7)?;
        let (string, behind) = rest.split_at_checked(length).ok_or(Unreadable::Short)?;
        *rest = behind;
        if !is_huffman {
            return Ok(string);
        }
        self.spelled.clear();
        huffman::decode(string, &mut self.spelled)?;
        Ok(&self.spelled)
    }
}

/// A number whose first byte has `prefix_bits` of it (section 5.1). Larger than 2^28 is never meant.
fn number(rest: &mut &[u8], prefix_bits: u32) -> Result<usize, Unreadable> {
    let mut next = || -> Result<usize, Unreadable> {
        let (first, behind) = rest.split_first().ok_or(Unreadable::Short)?;
        *rest = behind;
        Ok(usize::from(*first))
    };
    let most = (1 << prefix_bits) - 1;
    let mut number = next()? & most;
    if number < most {
        return Ok(number);
    }
    for shift in [0, 7, 14, 21] {
        let byte = next()?;
        number += (byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Unreadable::Number)
}

impl From<NotHuffman> for Unreadable {
    fn from(_: NotHuffman) -> Self {
        Unreadable::Huffman
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Unreadable> {
        let mut found = Vec::new();
        decoder
            .decode(block, |name, value| {
                let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
                found.push(format!("{name}: {}", String::from_utf8_lossy(&value)));
            })
            .map(|()| found)
    }

    #[test]
    fn the_requests_of_appendix_c_read_as_it_says() {
        let plain = [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ];
        let huffman = [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ];
        for blocks in [plain, huffman] {
            let mut decoder = Decoder::new();
            let mut read = |at: usize| fields(&mut decoder, &hex(blocks[at])).unwrap();
            let authority = ":authority: www.example.com";
            assert_eq!(read(0), [":method: GET", ":scheme: http", ":path: /", authority]);
            let second = [":method: GET", ":scheme: http", ":path: /", authority, "cache-control: no-cache"];
            assert_eq!(read(1), second);
            let third = [":method: GET", ":scheme: https", ":path: /index.html", authority, "custom-key: custom-value"];
            assert_eq!(read(2), third);
            assert_eq!(decoder.table().bytes(), 164);
        }
    }

    /// With a table of 256 bytes, so that entries go.
    #[test]
    fn the_responses_of_appendix_c_read_as_it_says() {
        let mut decoder = Decoder::new();
        assert_eq!(fields(&mut decoder, &[0x3f, 0xe1, 0x01]), Ok(vec![]));
        let blocks = [
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f\
             2f7777772e6578616d706c652e636f6d",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af270\
             87f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ];
        let mut read = |at: usize| fields(&mut decoder, &hex(blocks[at])).unwrap();
        let rest =
            ["cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com"];
        assert_eq!(read(0), [&[":status: 302"][..], &rest].concat());
        assert_eq!(read(1), [&[":status: 307"][..], &rest].concat());
        let third = [
            ":status: 200",
            "cache-control: private",
            "date: Mon, 21 Oct 2013 20:13:22 GMT",
            "location: https://www.example.com",
            "content-encoding: gzip",
            "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ];
        assert_eq!(read(2), third);
        assert_eq!(decoder.table().bytes(), 215);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let cases: [(&[u8], Unreadable); 9] = [
            (&[0x80], Unreadable::Index),
            (&[0xbe], Unreadable::Index),
            (&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x01], Unreadable::Number),
            (&[0x40, 0x01], Unreadable::Short),
            (&[0x40, 0x01, b'a'], Unreadable::Short),
            (&[0x00, 0x81, 0x00, 0x00], Unreadable::Huffman),
            (&[0x82, 0x20], Unreadable::Resize),
            (&[0x3f, 0xe2, 0x1f], Unreadable::Resize),
            (&[0x41, 0x7f], Unreadable::Short),
        ];
        for (block, error) in cases {
            assert_eq!(fields(&mut Decoder::new(), block), Err(error), "{block:02x?}");
        }
    }

    #[test]
    fn the_table_may_shrink_and_grow_again_at_the_head_of_a_block() {
        let mut decoder = Decoder::new();
        fields(&mut decoder, &[0x40, 1, b'a', 1, b'b']).unwrap();
        assert_eq!(fields(&mut decoder, &[0x20, 0x3f, 0xe1, 0x1f, 0x82]), Ok(vec![":method: GET".to_owned()]));
        assert_eq!(decoder.table().bytes(), 0);
    }

    proptest! {
        #[test]
        fn arbitrary_blocks_never_panic_and_never_fill_more_than_the_table(
            blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..6),
        ) {
            let mut decoder = Decoder::new();
            for block in blocks {
                let _ = fields(&mut decoder, &block);
                prop_assert!(decoder.table().bytes() <= TABLE_BYTES);
            }
        }
    }
}
