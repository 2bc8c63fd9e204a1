//! The Huffman code of RFC 7541, appendix B, read from its lengths alone.
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and each length begins
//! where the one before it ended. So the lengths say everything and the tables below are made of them.

/// Bits of the code of each byte. The end-of-string symbol has the 30 ones that are left, and may not occur.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26,
];

const LENGTH_MAX: usize = 30;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Row {
    /// The first code of this length.
    first: u32,
    /// How many there are.
    count: u32,
    /// Where their symbols begin in [`SYMBOLS`].
    symbols: usize,
}

const ROWS: [Row; LENGTH_MAX + 1] = rows();
/// All bytes in the order of their codes.
const SYMBOLS: [u8; 256] = symbols();
/// For each possible eight bits: a symbol whose code they begin with and its length, or length 0 if it is longer.
const SHORT: [(u8, u8); 256] = short();

/// The bytes are no Huffman string: a code that does not exist, or wrong padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Huffman string")]
pub struct NotHuffman;

/// Decodes `coded` behind what is in `plain`. The output is at most 8/5 as long as the input.
///
/// # Errors
/// See [`NotHuffman`].
pub fn decode(coded: &[u8], plain: &mut Vec<u8>) -> Result<(), NotHuffman> {
    plain.reserve(coded.len() + coded.len() / 2);
    let mut rest = coded.iter();
    // The next bits, from the highest down; below `bits` of them there are zeros.
    let (mut window, mut bits) = (0u64, 0u32);
    loop {
        while bits <= 56 {
            let Some(byte) = rest.next() else { break };
            window |= u64::from(*byte) << (56 - bits);
            bits += 8;
        }
        let (symbol, length) = match SHORT[(window >> 56) as usize] {
            (_, 0) => long(window),
            (symbol, length) => (symbol, u32::from(length)),
        };
        if length > bits {
            break;
        }
        plain.push(symbol);
        window <<= length;
        bits -= length;
    }
    // What is left must be the beginning of end-of-string, and shorter than a byte.
    let is_padding = bits < 8 && window.leading_ones() >= bits;
    if is_padding { Ok(()) } else { Err(NotHuffman) }
}

/// The symbol whose code of more than eight bits the window begins with; a length nobody has if there is none.
fn long(window: u64) -> (u8, u32) {
    for (length, row) in ROWS.iter().enumerate().skip(9) {
        let code = (window >> (64 - length)) as u32;
        let nth = code.wrapping_sub(row.first);
        if nth < row.count {
            return (SYMBOLS[row.symbols + nth as usize], length as u32);
        }
    }
    (0, u32::MAX)
}

const fn rows() -> [Row; LENGTH_MAX + 1] {
    let mut rows = [Row { first: 0, count: 0, symbols: 0 }; LENGTH_MAX + 1];
    let mut symbol = 0;
    while symbol < 256 {
        rows[LENGTHS[symbol] as usize].count += 1;
        symbol += 1;
    }
    let mut length = 1;
    while length <= LENGTH_MAX {
        let before = rows[length - 1];
        rows[length].first = (before.first + before.count) << 1;
        rows[length].symbols = before.symbols + before.count as usize;
        length += 1;
    }
    rows
}

const fn symbols() -> [u8; 256] {
    let (mut symbols, mut filled, mut length) = ([0; 256], 0, 1);
    while length <= LENGTH_MAX {
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                symbols[filled] = symbol as u8;
                filled += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
}

const fn short() -> [(u8, u8); 256] {
    let (mut short, mut length) = ([(0, 0); 256], 1);
    while length <= 8 {
        let row = ROWS[length];
        let mut nth = 0;
        while nth < row.count {
            let spread = 8 - length;
            let mut at = ((row.first + nth) as usize) << spread;
            let end = at + (1 << spread);
            while at < end {
                short[at] = (SYMBOLS[row.symbols + nth as usize], length as u8);
                at += 1;
            }
            nth += 1;
        }
        length += 1;
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(plain: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in plain {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let row = &ROWS[length];
            let nth = SYMBOLS[row.symbols..].iter().position(|symbol| symbol == byte).unwrap() as u32;
            bits.extend((0..length).rev().map(|bit| (row.first + nth) >> bit & 1 == 1));
        }
        while bits.len() % 8 > 0 {
            bits.push(true);
        }
        bits.chunks(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, NotHuffman> {
        let mut plain = Vec::new();
        decode(coded, &mut plain).map(|()| plain)
    }

    proptest! {
        #[test]
        fn any_bytes_read_back(plain in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decoded(&encode(&plain)), Ok(plain));
        }

        #[test]
        fn what_reads_at_all_is_the_code_of_what_it_reads_as(coded in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(plain) = decoded(&coded) {
                prop_assert_eq!(encode(&plain), coded);
            }
        }
    }

    #[test]
    fn the_strings_of_appendix_c_read_as_it_says() {
        let examples: [(&[u8], &str); 4] = [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
        ];
        for (coded, plain) in examples {
            assert_eq!(decoded(coded).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn padding_is_ones_and_shorter_than_a_byte() {
        // "0" is five zeros.
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        for wrong in [&[0b0000_0110][..], &[0b0000_0111, 0xff], &[0xff], &[0xff; 4]] {
            assert_eq!(decoded(wrong), Err(NotHuffman), "{wrong:?}");
        }
    }
}
