//! Writes header blocks: static entries and literals, nothing that a table would have to remember.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request};

use super::table::STATIC;

/// A literal that is not indexed, by the four bits of its first byte.
const LITERAL: u8 = 0x00;
/// The same for what no hop may index either: tokens and the like.
const NEVER_INDEXED: u8 = 0x10;

/// Indices of static entries; the test below holds them against the table.
const AUTHORITY: usize = 1;
const METHOD: usize = 2;
const METHOD_POST: usize = 3;
const PATH: usize = 4;
const SCHEME_HTTP: usize = 6;
const SCHEME_HTTPS: usize = 7;
const STATUS: usize = 8;
/// Where fields that are no pseudo-headers begin.
const FIELDS: usize = 15;

/// The encoder of one connection.
#[derive(Debug, Default)]
pub struct Encoder {
    table_bytes_max: Option<u32>,
    must_say_empty: bool,
}

// === impl Encoder ===

impl Encoder {
    /// The peer's SETTINGS_HEADER_TABLE_SIZE. Each time it shrinks the next block has to begin by saying what is used of
    /// it (RFC 9113, section 4.3.1), though that is always nothing.
    pub fn set_table_bytes_max(&mut self, bytes_max: u32) {
        let before = self.table_bytes_max.replace(bytes_max).unwrap_or(super::TABLE_BYTES as u32);
        self.must_say_empty |= bytes_max < before;
    }

    /// Writes the head of a request.
    pub fn request(&mut self, head: &request::Parts, block: &mut Vec<u8>) {
        self.begin(block);
        match head.method {
            Method::POST => indexed(METHOD_POST, block),
            _ => literal(LITERAL, METHOD, head.method.as_str().as_bytes(), block),
        }
        indexed(if head.uri.scheme_str() == Some("https") { SCHEME_HTTPS } else { SCHEME_HTTP }, block);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        literal(LITERAL, PATH, path.as_bytes(), block);
        if let Some(authority) = head.uri.authority() {
            literal(LITERAL, AUTHORITY, authority.as_str().as_bytes(), block);
        }
        fields(&head.headers, block);
    }

    /// Writes the head of a response.
    pub fn response(&mut self, status: StatusCode, headers: &HeaderMap, block: &mut Vec<u8>) {
        self.begin(block);
        match status {
            StatusCode::OK => indexed(STATUS, block),
            _ => literal(LITERAL, STATUS, status.as_str().as_bytes(), block),
        }
        fields(headers, block);
    }

    /// Writes trailers.
    pub fn trailers(&mut self, trailers: &HeaderMap, block: &mut Vec<u8>) {
        self.begin(block);
        fields(trailers, block);
    }

    fn begin(&mut self, block: &mut Vec<u8>) {
        if std::mem::take(&mut self.must_say_empty) {
            block.push(0x20);
        }
    }
}

fn fields(headers: &HeaderMap, block: &mut Vec<u8>) {
    for (name, value) in headers {
        let kind = if is_secret(name, value) { NEVER_INDEXED } else { LITERAL };
        let name = name.as_str();
        match STATIC[FIELDS - 1..].iter().position(|(known, _)| *known == name) {
            Some(at) => literal(kind, FIELDS + at, value.as_bytes(), block),
            None => {
                block.push(kind);
                string(name.as_bytes(), block);
                string(value.as_bytes(), block);
            }
        }
    }
}

/// What a proxy that compresses again should not let guess (RFC 7541, section 7.1.3).
fn is_secret(name: &header::HeaderName, value: &HeaderValue) -> bool {
    value.is_sensitive() || matches!(name.as_str(), "authorization" | "authentication" | "cookie")
}

fn indexed(index: usize, block: &mut Vec<u8>) {
    number(0x80, 7, index, block);
}

fn literal(kind: u8, name: usize, value: &[u8], block: &mut Vec<u8>) {
    number(kind, 4, name, block);
    string(value, block);
}

fn string(bytes: &[u8], block: &mut Vec<u8>) {
    number(0, 7, bytes.len(), block);
    block.extend_from_slice(bytes);
}

/// A number behind the bits that are set in `first` (section 5.1).
fn number(first: u8, prefix_bits: u32, number: usize, block: &mut Vec<u8>) {
    let most = (1 << prefix_bits) - 1;
    if number < most {
        block.push(first | number as u8);
        return;
    }
    block.push(first | most as u8);
    let mut rest = number - most;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::http2::hpack::decode::Decoder;

    fn read(block: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        let mut put = |name: crate::wire::http2::hpack::table::Name, value: bytes::Bytes| {
            found.push((String::from_utf8_lossy(name.as_bytes()).into_owned(), value.to_vec()));
        };
        Decoder::new().decode(block, &mut put).unwrap();
        found
    }

    #[test]
    fn the_indices_are_those_of_the_table() {
        let named = [(AUTHORITY, ":authority"), (METHOD, ":method"), (PATH, ":path"), (FIELDS, "accept-charset")];
        for (index, name) in named {
            assert_eq!(STATIC[index - 1].0, name);
        }
        assert_eq!(STATIC[METHOD_POST - 1], (":method", "POST"));
        assert_eq!(STATIC[SCHEME_HTTP - 1], (":scheme", "http"));
        assert_eq!(STATIC[SCHEME_HTTPS - 1], (":scheme", "https"));
        assert_eq!(STATIC[STATUS - 1], (":status", "200"));
    }

    #[test]
    fn a_request_reads_back() {
        let request = Request::post("http://backend:11800/a.B/c").header("te", "trailers").body(()).unwrap();
        let mut block = Vec::new();
        Encoder::default().request(&request.into_parts().0, &mut block);
        let fields = read(&block);
        let expected = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/a.B/c"),
            (":authority", "backend:11800"),
            ("te", "trailers"),
        ];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())));
    }

    #[test]
    fn a_table_that_shrinks_is_said_to_be_empty_once() {
        let mut encoder = Encoder::default();
        encoder.set_table_bytes_max(8192);
        encoder.set_table_bytes_max(100);
        let mut blocks = [Vec::new(), Vec::new()];
        blocks.iter_mut().for_each(|block| encoder.response(StatusCode::OK, &HeaderMap::new(), block));
        assert_eq!(blocks, [vec![0x20, 0x88], vec![0x88]]);
    }

    #[test]
    fn tokens_are_never_to_be_indexed() {
        let mut block = Vec::new();
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("x"))]);
        Encoder::default().trailers(&headers, &mut block);
        assert_eq!(block, [0x1f, 23 - 15, 1, b'x']);
    }

    proptest! {
        #[test]
        fn any_fields_read_back(
            fields in prop::collection::vec(("[a-z][a-z0-9-]{0,40}", prop::collection::vec(0x20u8..0x7f, 0..300)), 0..20),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                headers.append(header::HeaderName::try_from(name).unwrap(), HeaderValue::from_bytes(value).unwrap());
            }
            let mut block = Vec::new();
            Encoder::default().trailers(&headers, &mut block);
            let mut expected: Vec<_> =
                headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
            let mut found = read(&block);
            expected.sort();
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
