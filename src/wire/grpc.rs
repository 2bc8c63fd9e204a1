//! The words gRPC adds to HTTP/2: status, its trailers, request heads, timeouts.
//!
//! Source: the gRPC project's `doc/PROTOCOL-HTTP2.md`.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};

/// A gRPC status code; the numbers are the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the protocol's own")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// A status with its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Status {
    /// The code.
    pub code: Code,
    /// For people; empty is fine.
    pub message: String,
}

/// The metadata key of SkyWalking's token (OAP `AuthenticationInterceptor`); not `authorization`.
pub const AUTHENTICATION: &str = "authentication";

const GRPC_STATUS: &str = "grpc-status";
const GRPC_MESSAGE: &str = "grpc-message";

// === impl Code ===

impl Code {
    /// Every code, in order of its number.
    pub const ALL: [Code; 17] = [
        Code::Ok,
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    /// The code of a number; numbers outside the protocol are `Unknown`, as gRPC asks.
    pub fn from_number(number: u64) -> Self {
        usize::try_from(number).ok().and_then(|at| Self::ALL.get(at).copied()).unwrap_or(Code::Unknown)
    }

    /// The protocol's spelling, `OK` to `UNAUTHENTICATED`; used as a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// What an HTTP status without a gRPC status means (`doc/http-grpc-status-mapping.md`).
    fn from_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl Status ===

impl Status {
    /// A status with a message for people.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// `OK` without a message.
    pub fn ok() -> Self {
        Self::new(Code::Ok, "")
    }

    /// Reads the status from trailers, or from a head that is the whole answer ("trailers-only"). `None` when
    /// there is no `grpc-status`.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let number = headers.get(GRPC_STATUS)?.to_str().ok().and_then(|text| text.parse().ok());
        let message = headers.get(GRPC_MESSAGE).map(|value| percent_decode(value.as_bytes())).unwrap_or_default();
        Some(Self::new(number.map_or(Code::Unknown, Code::from_number), message))
    }

    /// What an answer means that ended without `grpc-status`.
    pub fn from_http(status: StatusCode) -> Self {
        if status.is_success() {
            return Self::new(Code::Unknown, "the answer ended without grpc-status");
        }
        Self::new(Code::from_http(status), format!("HTTP status {status} instead of a gRPC answer"))
    }

    /// The trailers that carry this status.
    pub fn to_trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(2);
        self.put(&mut trailers);
        trailers
    }

    /// A whole answer in one HEADERS frame, to be sent with END_STREAM.
    pub fn to_trailers_only(&self) -> Response<()> {
        let mut response = response_head();
        self.put(response.headers_mut());
        response
    }

    fn put(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, HeaderValue::from(self.code as u16));
        if !self.message.is_empty() {
            headers.insert(GRPC_MESSAGE, percent_encode(&self.message));
        }
    }
}

/// The head of an answer: 200 and the gRPC content type.
pub fn response_head() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The head of a call to `path` (exact, with the leading slash) on `authority`.
///
/// # Errors
/// When authority or path cannot stand in a URI.
pub fn request_head(authority: &str, path: &str) -> Result<Request<()>, http::Error> {
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build()?;
    Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(())
}

/// Reads `grpc-timeout` (`250m`, `10S`); `None` when absent or not readable.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Writes a `grpc-timeout` of at most eight digits, rounding down to milliseconds where they fit.
pub fn timeout_value(left: Duration) -> HeaderValue {
    let millis = left.as_millis();
    let text = if millis < 100_000_000 { format!("{millis}m") } else { format!("{}S", left.as_secs().min(99_999_999)) };
    HeaderValue::from_str(&text).expect("digits and a letter are a header value")
}

/// `grpc-message` is percent-encoded outside printable ASCII.
fn percent_encode(text: &str) -> HeaderValue {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::from_str(&out).expect("printable ASCII is a header value")
}

/// The reverse; what is not a valid escape stays as it is, as gRPC asks.
fn percent_decode(encoded: &[u8]) -> String {
    let mut out = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| tail.first_chunk::<2>())
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(value) => {
                out.push(value);
                rest = &tail[2..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_status_survives_its_trailers(number in 0u64..17, message in ".*") {
            let status = Status::new(Code::from_number(number), message);
            prop_assert_eq!(Status::from_headers(&status.to_trailers()), Some(status));
        }

        #[test]
        fn a_timeout_value_reads_back_to_the_millisecond(millis in 0u64..99_999_999) {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", timeout_value(Duration::from_millis(millis)));
            prop_assert_eq!(timeout(&headers), Some(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn unreadable_timeouts_are_no_timeouts() {
        for text in ["", "S", "12", "123456789S", "1x", "-1S"] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_str(text).unwrap());
            assert_eq!(timeout(&headers), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_outside_the_protocol_are_unknown() {
        assert_eq!(Code::from_number(99), Code::Unknown);
    }
}
