//! What a header block says, once it is read: a request, a response, trailers, or something malformed (RFC 9113,
//! sections 8.1 to 8.3).

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request, response};

use super::hpack::table::{self, Name, Pseudo};

/// The fields of one block, gathered as they are read.
#[derive(Debug, Default)]
pub struct Fields {
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    status: Option<Bytes>,
    headers: HeaderMap,
    content_length: Option<u64>,
    /// What is wrong with it, if something is.
    malformed: Option<Malformed>,
    has_headers: bool,
    bytes: usize,
    bytes_max: usize,
}

/// A message that must not be taken for a request or a response. Its stream ends, its connection does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

/// Fields that speak of a connection and have no place in HTTP/2.
const OF_A_CONNECTION: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

// === impl Fields ===

impl Fields {
    /// For a list of at most `bytes_max` bytes; more is counted and not kept.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Adds the next field.
    pub fn put(&mut self, name: Name, value: Bytes) {
        self.bytes = self.bytes.saturating_add(table::size(&name, &value));
        if self.is_too_large() {
            return;
        }
        let put = match name {
            Name::Pseudo(pseudo) => self.put_pseudo(pseudo, value),
            Name::Field(name) => self.put_field(name, value),
            Name::Wrong(_) => Err(Malformed("a field name in upper case, or none at all")),
        };
        if let Err(malformed) = put {
            self.malformed.get_or_insert(malformed);
        }
    }

    /// Its bytes, as SETTINGS_MAX_HEADER_LIST_SIZE counts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it is over the limit.
    pub fn is_too_large(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Its content-length.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Whether it is an interim response, which another follows.
    pub fn is_interim(&self) -> bool {
        self.status.as_deref().is_some_and(|status| status.len() == 3 && status[0] == b'1' && status != b"101")
    }

    /// The head of a request.
    ///
    /// # Errors
    /// When it is none.
    pub fn into_request(self) -> Result<request::Parts, Malformed> {
        self.check()?;
        if self.status.is_some() {
            return Err(Malformed("a request with :status"));
        }
        let method = self.method.ok_or(Malformed("a request without :method"))?;
        let method = Method::from_bytes(&method).map_err(|_| Malformed("no such :method can be"))?;
        let mut uri = http::uri::Parts::default();
        let authority = self.authority.map(read_authority).transpose()?;
        if method == Method::CONNECT {
            if self.scheme.is_some() || self.path.is_some() || authority.is_none() {
                return Err(Malformed("CONNECT has an :authority and nothing else"));
            }
            uri.authority = authority;
        } else {
            let scheme =
                self.scheme.filter(|scheme| !scheme.is_empty()).ok_or(Malformed("a request without :scheme"))?;
            let scheme = Scheme::try_from(&scheme[..]).map_err(|_| Malformed("no such :scheme can be"))?;
            let path = self.path.ok_or(Malformed("a request without :path"))?;
            let is_star = method == Method::OPTIONS && &path[..] == b"*";
            if path.first() != Some(&b'/') && !is_star {
                return Err(Malformed("a :path that does not begin with a slash"));
            }
            uri.path_and_query =
                Some(PathAndQuery::from_maybe_shared(path).map_err(|_| Malformed("no such :path can be"))?);
            // A star is all of a URI, or none.
            if authority.is_some() && !is_star {
                (uri.scheme, uri.authority) = (Some(scheme), authority);
            }
        }
        let mut head = Request::new(()).into_parts().0;
        head.uri = Uri::from_parts(uri).map_err(|_| Malformed("the parts make no URI"))?;
        (head.method, head.headers, head.version) = (method, self.headers, http::Version::HTTP_2);
        Ok(head)
    }

    /// The head of a response.
    ///
    /// # Errors
    /// When it is none.
    pub fn into_response(self) -> Result<response::Parts, Malformed> {
        self.check()?;
        if self.method.is_some() || self.scheme.is_some() || self.authority.is_some() || self.path.is_some() {
            return Err(Malformed("a response with pseudo-headers of a request"));
        }
        let status = self.status.ok_or(Malformed("a response without :status"))?;
        let mut head = Response::new(()).into_parts().0;
        head.status = StatusCode::from_bytes(&status).map_err(|_| Malformed("no such :status can be"))?;
        if head.status.is_informational() {
            return Err(Malformed("an interim response where none may be"));
        }
        (head.headers, head.version) = (self.headers, http::Version::HTTP_2);
        Ok(head)
    }

    /// Trailers.
    ///
    /// # Errors
    /// When they are none.
    pub fn into_trailers(self) -> Result<HeaderMap, Malformed> {
        self.check()?;
        let pseudo = [&self.method, &self.scheme, &self.authority, &self.path, &self.status];
        if pseudo.into_iter().any(Option::is_some) {
            return Err(Malformed("trailers with pseudo-headers"));
        }
        Ok(self.headers)
    }

    fn check(&self) -> Result<(), Malformed> {
        match self.malformed {
            Some(malformed) => Err(malformed),
            None if self.is_too_large() => Err(Malformed("the header list is over the limit")),
            None => Ok(()),
        }
    }

    fn put_pseudo(&mut self, pseudo: Pseudo, value: Bytes) -> Result<(), Malformed> {
        if self.has_headers {
            return Err(Malformed("a pseudo-header behind other fields"));
        }
        let place = match pseudo {
            Pseudo::Method => &mut self.method,
            Pseudo::Scheme => &mut self.scheme,
            Pseudo::Authority => &mut self.authority,
            Pseudo::Path => &mut self.path,
            Pseudo::Status => &mut self.status,
        };
        match place.replace(value) {
            Some(_) => Err(Malformed("a pseudo-header that comes twice")),
            None => Ok(()),
        }
    }

    fn put_field(&mut self, name: HeaderName, value: Bytes) -> Result<(), Malformed> {
        self.has_headers = true;
        if OF_A_CONNECTION.contains(&name.as_str()) {
            return Err(Malformed("a field that speaks of the connection"));
        }
        if name == header::TE && &value[..] != b"trailers" {
            return Err(Malformed("te may only be trailers"));
        }
        let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if is_blank(value.first()) || is_blank(value.last()) {
            return Err(Malformed("a field value with blanks around it"));
        }
        if name == header::CONTENT_LENGTH {
            let length = read_length(&value).ok_or(Malformed("a content-length that is no number"))?;
            if self.content_length.replace(length).is_some_and(|before| before != length) {
                return Err(Malformed("two content-lengths"));
            }
        }
        let value =
            HeaderValue::from_maybe_shared(value).map_err(|_| Malformed("a field value with control characters"))?;
        self.headers.try_append(name, value).map_err(|_| Malformed("more fields than can be kept"))?;
        Ok(())
    }
}

fn read_authority(value: Bytes) -> Result<Authority, Malformed> {
    if value.contains(&b'@') {
        return Err(Malformed("an :authority with user information"));
    }
    Authority::from_maybe_shared(value).map_err(|_| Malformed("no such :authority can be"))
}

fn read_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0, |length, byte| byte.is_ascii_digit().then(|| length * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [(&str, &str); 4] =
        [(":method", "POST"), (":scheme", "http"), (":authority", "gateway"), (":path", "/a.B/c")];

    fn of(fields: &[(&str, &'static str)]) -> Fields {
        let mut read = Fields::new(16 << 10);
        for (name, value) in fields {
            read.put(Name::of(name.as_bytes()), Bytes::from_static(value.as_bytes()));
        }
        read
    }

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        [&REQUEST, more].concat()
    }

    fn without(name: &str) -> Vec<(&'static str, &'static str)> {
        REQUEST.into_iter().filter(|(kept, _)| *kept != name).collect()
    }

    fn replaced(name: &str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        REQUEST.into_iter().map(|(at, was)| (at, if at == name { value } else { was })).collect()
    }

    #[test]
    fn a_request_is_read() {
        let head = of(&with(&[("te", "trailers"), ("a", "1"), ("a", "2")])).into_request().unwrap();
        assert_eq!((head.method, head.uri.to_string().as_str()), (Method::POST, "http://gateway/a.B/c"));
        assert_eq!(head.headers.get_all("a").iter().count(), 2);
        let head = of(&without(":authority")).into_request().unwrap();
        assert_eq!(head.uri.path_and_query().unwrap(), "/a.B/c");
    }

    #[test]
    fn malformed_requests_are_refused() {
        for wrong in [
            without(":method"),
            without(":scheme"),
            without(":path"),
            with(&[(":path", "/again")]),
            with(&[("a", "b"), (":late", "x")]),
            [&[("a", "b")][..], &REQUEST].concat(),
            with(&[(":status", "200")]),
            with(&[("Upper", "x")]),
            with(&[("connection", "close")]),
            with(&[("transfer-encoding", "chunked")]),
            with(&[("keep-alive", "1")]),
            with(&[("proxy-connection", "1")]),
            with(&[("upgrade", "h2c")]),
            with(&[("te", "gzip")]),
            with(&[("a", " b")]),
            with(&[("a", "b\t")]),
            with(&[("a", "b\nc")]),
            with(&[("a", "b\0c")]),
            with(&[("content-length", "1"), ("content-length", "2")]),
            with(&[("content-length", "-1")]),
            with(&[("content-length", "")]),
            with(&[("", "empty name")]),
            replaced(":path", ""),
            replaced(":path", "no/slash"),
            replaced(":path", "*"),
            replaced(":authority", "user@gateway"),
            replaced(":method", "CONNECT"),
            replaced(":method", ""),
            replaced(":scheme", ""),
        ] {
            assert!(of(&wrong).into_request().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_response_has_a_status_and_nothing_of_a_request() {
        assert_eq!(of(&[(":status", "200"), ("a", "b")]).into_response().unwrap().status, StatusCode::OK);
        for wrong in
            [&[("a", "b")][..], &[(":status", "20")], &[(":status", "200"), (":path", "/")], &[(":status", "101")]]
        {
            assert!(of(wrong).into_response().is_err(), "{wrong:?}");
        }
        assert!(of(&[(":status", "103")]).is_interim() && !of(&[(":status", "101")]).is_interim());
    }

    #[test]
    fn trailers_have_no_pseudo_headers() {
        assert_eq!(of(&[("grpc-status", "0")]).into_trailers().unwrap()["grpc-status"], "0");
        assert!(of(&[(":status", "200")]).into_trailers().is_err());
    }

    #[test]
    fn a_list_over_the_limit_is_counted_and_not_kept() {
        let mut fields = Fields::new(100);
        for _ in 0..1000 {
            fields.put(Name::of(b"a"), Bytes::from_static(b"0123456789"));
        }
        assert!(fields.is_too_large());
        assert_eq!((fields.bytes(), fields.headers.len()), (43_000, 2));
        assert!(fields.into_trailers().is_err());
    }

    #[test]
    fn equal_content_lengths_are_one() {
        assert_eq!(of(&[("content-length", "7"), ("content-length", "7")]).content_length(), Some(7));
    }
}
