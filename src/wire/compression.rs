//! Message compression: gzip is read within limits, and written only for parts of what came compressed.

use std::io::{Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::HeaderMap;

/// How a call's compressed messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// They are not; a compressed flag is an error.
    Identity,
    /// RFC 1952.
    Gzip,
}

/// The encodings a peer may use, for `grpc-accept-encoding`.
pub const ACCEPTED: &str = "identity,gzip";

/// Why a body does not decompress.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// It grows beyond the limit.
    #[error("the message is over the limit of {0} bytes (limits.message) once decompressed")]
    Oversize(usize),
    /// It is not gzip.
    #[error("the message does not decompress: {0}")]
    Broken(String),
    /// Its flag says compressed and its call says no encoding.
    #[error("the message is flagged compressed, but its call has no grpc-encoding")]
    Unannounced,
}

// === impl Encoding ===

impl Encoding {
    /// What a request's `grpc-encoding` says.
    ///
    /// # Errors
    /// The name, when it is none we know.
    pub fn of(headers: &HeaderMap) -> Result<Self, String> {
        match headers.get("grpc-encoding").map(|value| value.as_bytes()) {
            None | Some(b"identity") => Ok(Encoding::Identity),
            Some(b"gzip") => Ok(Encoding::Gzip),
            Some(other) => Err(String::from_utf8_lossy(other).into_owned()),
        }
    }

    /// The plain body of a compressed one, of at most `bytes_max` bytes. Memory grows with what is written, not with
    /// what the compressed body claims.
    ///
    /// # Errors
    /// See [`InflateError`].
    pub fn inflate(self, body: &[u8], bytes_max: usize) -> Result<Bytes, InflateError> {
        if self == Encoding::Identity {
            return Err(InflateError::Unannounced);
        }
        let mut plain = BytesMut::with_capacity(body.len().min(bytes_max)).writer();
        let mut limited = GzDecoder::new(body).take(bytes_max as u64 + 1);
        std::io::copy(&mut limited, &mut plain).map_err(|error| InflateError::Broken(error.to_string()))?;
        let plain = plain.into_inner().freeze();
        if plain.len() > bytes_max {
            return Err(InflateError::Oversize(bytes_max));
        }
        Ok(plain)
    }

    /// The compressed form of a plain body; the body itself where the call has no encoding. Fast rather than small: the
    /// bytes go no further than the next hop.
    pub fn deflate(self, plain: Bytes) -> Bytes {
        if self == Encoding::Identity {
            return plain;
        }
        let mut encoder = GzEncoder::new(BytesMut::with_capacity(plain.len() / 4).writer(), Compression::fast());
        encoder.write_all(&plain).expect("memory takes all");
        encoder.finish().expect("memory takes all").into_inner().freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gzip(plain: &[u8]) -> Bytes {
        Encoding::Gzip.deflate(Bytes::copy_from_slice(plain))
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(plain in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(Encoding::Gzip.inflate(&gzip(&plain), 2000).unwrap(), plain);
        }

        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Encoding::Gzip.inflate(&body, 1000);
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = gzip(&vec![0; 10 << 20]);
        assert!(bomb.len() < 100 << 10);
        assert_eq!(Encoding::Gzip.inflate(&bomb, 1 << 20), Err(InflateError::Oversize(1 << 20)));
    }
}
