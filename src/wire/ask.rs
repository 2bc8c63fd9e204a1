//! The two questions of a health check: an HTTP/1.1 GET's status, and what `grpc.health.v1` answers.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::TcpStream;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::client::{Answer, Connection};
use super::grpc::{Code, Status, request_head};
use super::stream::Chunk;

/// Bytes of an answer that are kept: a health answer is one number.
const ANSWER_BYTES_MAX: usize = 1 << 10;

/// A message's flag and length.
const PREFIX_BYTES: usize = 5;

/// The status of `GET path` on a connection that was just opened; the body is not read. Has no deadline of its own.
/// Cancel-safe: nothing stays behind.
///
/// # Errors
/// When the peer does not speak HTTP/1.1, or closes before it has answered.
pub async fn get(stream: TcpStream, authority: &str, path: &str) -> io::Result<StatusCode> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let (mut answered, mut connection) = (pin!(sender.send_request(request)), pin!(connection));
    let mut ended = None;
    // The answer may be there though the connection has ended behind it, so that is asked last.
    poll_fn(|cx| {
        if ended.is_none()
            && let Poll::Ready(end) = connection.as_mut().poll(cx)
        {
            ended = Some(end.err().map_or_else(|| "closed without an answer".to_owned(), |error| error.to_string()));
        }
        match (answered.as_mut().poll(cx), &ended) {
            (Poll::Ready(answer), _) => Poll::Ready(answer.map(|answer| answer.status()).map_err(io::Error::other)),
            (Poll::Pending, Some(why)) => Poll::Ready(Err(io::Error::other(why.clone()))),
            (Poll::Pending, None) => Poll::Pending,
        }
    })
    .await
}

/// Asks `grpc.health.v1.Health/Check` for a service (`""`: the process as a whole). A peer that does not know the method,
/// or will not tell us, is alive. Has no deadline of its own. Cancel-safe.
///
/// # Errors
/// Why it is not serving, in words: its answer, an error status, or a stream that broke.
pub async fn check(
    connection: &mut Connection,
    authority: &str,
    service: &str,
    metadata: HeaderMap,
) -> Result<(), String> {
    let mut head = request_head(authority, "/grpc.health.v1.Health/Check").map_err(|error| error.to_string())?;
    head.headers_mut().extend(metadata);
    let (mut outflow, answer) = connection.call(head).map_err(|lost| lost.to_string())?;
    outflow.send(framed(service)).and_then(|()| outflow.half_close()).map_err(|lost| lost.to_string())?;
    let mut reading = Reading { answer, body: BytesMut::new(), has_head: false };
    let (status, body) = poll_fn(|cx| {
        // What has arrived counts even if the connection ends behind it.
        connection.poll_read(cx);
        let lost = connection.poll_write(cx);
        match (reading.poll(cx), lost) {
            (Poll::Ready(answered), _) => Poll::Ready(answered),
            (Poll::Pending, Poll::Ready(lost)) => Poll::Ready(Err(lost.to_string())),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    })
    .await?;
    match status.code {
        Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied => Ok(()),
        Code::Ok => serving(&body),
        _ => Err(status.to_string()),
    }
}

/// An answer as far as it has come.
struct Reading {
    answer: Answer,
    body: BytesMut,
    has_head: bool,
}

impl Reading {
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(Status, Bytes), String>> {
        if !self.has_head {
            match self.answer.poll_head(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(lost)) => return Poll::Ready(Err(lost.to_string())),
                Poll::Ready(Ok(_)) => self.has_head = true,
            }
        }
        loop {
            match self.answer.poll_chunk(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Chunk::Data(data)) => {
                    self.answer.release(data.len());
                    let room = ANSWER_BYTES_MAX - self.body.len();
                    self.body.extend_from_slice(&data[..data.len().min(room)]);
                }
                Poll::Ready(Chunk::End(trailers)) => {
                    let status = self.answer.status(trailers.as_ref());
                    return Poll::Ready(Ok((status, self.body.split().freeze())));
                }
                Poll::Ready(Chunk::Broken(lost)) => return Poll::Ready(Err(lost.to_string())),
            }
        }
    }
}

fn framed(service: &str) -> Bytes {
    let request = HealthCheckRequest { service: service.to_owned() };
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + request.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(request.encoded_len()).expect("a service's name is short"));
    bytes.extend_from_slice(&request.encode_to_vec());
    bytes.freeze()
}

fn serving(body: &Bytes) -> Result<(), String> {
    let message = body.get(PREFIX_BYTES..).ok_or("an OK without an answer")?;
    let answer = HealthCheckResponse::decode(message).map_err(|error| error.to_string())?;
    match answer.status() {
        ServingStatus::Serving => Ok(()),
        other => Err(other.as_str_name().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: ServingStatus) -> Bytes {
        let body = HealthCheckResponse { status: status.into() }.encode_to_vec();
        Bytes::from([&[0, 0, 0, 0, body.len() as u8], &body[..]].concat())
    }

    #[test]
    fn only_serving_is_serving() {
        assert_eq!(serving(&answer(ServingStatus::Serving)), Ok(()));
        assert_eq!(serving(&answer(ServingStatus::NotServing)), Err("NOT_SERVING".to_owned()));
        assert_eq!(serving(&answer(ServingStatus::Unknown)), Err("UNKNOWN".to_owned()), "no status is none");
        assert_eq!(serving(&Bytes::new()), Err("an OK without an answer".to_owned()));
        assert!(serving(&Bytes::from_static(&[0, 0, 0, 0, 1, 0xff])).is_err());
    }

    #[test]
    fn the_question_names_the_service() {
        assert_eq!(framed(""), Bytes::from_static(&[0, 0, 0, 0, 0]));
        assert_eq!(framed("a"), Bytes::from_static(&[0, 0, 0, 0, 3, 10, 1, b'a']));
    }
}
