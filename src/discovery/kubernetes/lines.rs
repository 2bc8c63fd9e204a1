//! Lines out of a body that comes in pieces of any size.

use bytes::{Bytes, BytesMut};

/// Cuts a body into lines; what is not yet a whole line waits here.
#[derive(Debug, Default)]
pub struct Lines {
    rest: BytesMut,
    /// How much of `rest` is known to have no line end.
    searched: usize,
}

/// The longest line taken. The API stores no object above 1.5 MiB; as JSON it may be some times larger.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// A line is longer than [`LINE_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {LINE_BYTES_MAX} bytes")]
pub struct TooLong;

// === impl Lines ===

impl Lines {
    /// Takes the next piece.
    ///
    /// # Errors
    /// When the line it belongs to grows too long.
    pub fn add(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        if self.rest.len() + piece.len() > LINE_BYTES_MAX {
            return Err(TooLong);
        }
        self.rest.extend_from_slice(piece);
        Ok(())
    }

    /// The next whole line, without its end; empty lines are passed over.
    pub fn next_line(&mut self) -> Option<Bytes> {
        loop {
            let Some(at) = memchr::memchr(b'\n', &self.rest[self.searched..]) else {
                self.searched = self.rest.len();
                return None;
            };
            let mut line = self.rest.split_to(self.searched + at + 1);
            self.searched = 0;
            line.truncate(line.trim_ascii_end().len());
            if !line.is_empty() {
                return Some(line.freeze());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_are_cut(
            lines in prop::collection::vec("[a-z]{1,9}", 0..9),
            cuts in prop::collection::vec(1_usize..7, 1..9),
        ) {
            let text: String = lines.iter().map(|line| format!("{line}\r\n\n")).collect();
            let mut whole = Lines::default();
            let mut found = Vec::new();
            let mut left = text.as_bytes();
            for cut in cuts.iter().cycle() {
                let (piece, rest) = left.split_at((*cut).min(left.len()));
                whole.add(piece).unwrap();
                found.extend(std::iter::from_fn(|| whole.next_line()));
                left = rest;
                if left.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, lines.iter().map(|line| Bytes::from(line.clone())).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let mut lines = Lines::default();
        lines.add(&vec![b'x'; LINE_BYTES_MAX]).unwrap();
        assert_eq!(lines.next_line(), None);
        assert_eq!(lines.add(b"x"), Err(TooLong));
    }
}
