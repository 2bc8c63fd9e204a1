//! One connection to one member of etcd: who we are, a range of keys, a watch on it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use http::Uri;
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

use super::messages::{
    AuthenticateRequest, AuthenticateResponse, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest,
    WatchResponse,
};
use super::{Settings, User};
use crate::discovery::dial::{DialError, dial};
use crate::pool::Endpoint;

/// A connection to a member.
pub struct Session {
    grpc: Grpc<Requests>,
    token: Option<MetadataValue<Ascii>>,
    /// Where keys begin, and the first key behind them.
    range: (Vec<u8>, Vec<u8>),
    to: Endpoint,
    /// Moves the connection's bytes; ends with the session.
    _driver: JoinSet<()>,
}

/// What happens to the keys from one revision on.
pub struct Watch {
    answers: Streaming<WatchResponse>,
    to: Endpoint,
}

/// Why a member is of no use just now.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It is not what speaks there, or the connection broke.
    #[error("{to} does not speak to us as etcd does, or broke off: {why}")]
    Broken {
        /// Who.
        to: Endpoint,
        /// As the library says it.
        why: String,
    },
    /// It does not answer in time.
    #[error("{to} does not answer within {ANSWER_DEADLINE:?}")]
    Silent {
        /// Who.
        to: Endpoint,
    },
    /// The user may not read the keys.
    #[error("{to} does not let us read the keys: {said}; grant the user's role `read` on the prefix")]
    Forbidden {
        /// Who.
        to: Endpoint,
        /// Its own words.
        said: String,
    },
    /// Any other refusal.
    #[error("{to} says {code:?}: {said}")]
    Refused {
        /// Who.
        to: Endpoint,
        /// The status.
        code: Code,
        /// Its own words.
        said: String,
    },
    /// The revision a watch was to start from is gone: everything has to be read again.
    #[error("the revision asked for is compacted away")]
    Compacted,
}

/// Time for one answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// A watch may be silent for hours. etcd takes a ping every 5 s (`--grpc-keepalive-min-time`).
const PING_EVERY: Duration = Duration::from_secs(10);
/// Keys asked for at once.
const PAGE_KEYS_MAX: i64 = 500;
/// The largest answer taken: 500 keys of 32 KiB. etcd itself sends no larger request than 1.5 MiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;

// === impl Session ===

impl Session {
    /// Connects, and says who we are if there is a user.
    ///
    /// # Errors
    /// When the member cannot be reached, is not to be trusted, or does not know the user.
    pub async fn open(settings: &Settings, to: &Endpoint) -> Result<Self, EtcdError> {
        let stream = dial(to, settings.tls.as_ref(), "h2").await?;
        let broken = |why: &dyn std::fmt::Display| EtcdError::Broken { to: to.clone(), why: why.to_string() };
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Whoever waits for an answer hears of it.
            let _ = connection.await;
        });
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let origin = Uri::builder().scheme(scheme).authority(to.to_string()).path_and_query("/");
        let origin = origin.build().map_err(|error| broken(&error))?;
        let grpc = Grpc::with_origin(Requests(requests), origin).max_decoding_message_size(ANSWER_BYTES_MAX);
        let range = (settings.prefix.clone().into_bytes(), behind(settings.prefix.as_bytes()));
        let mut session = Self { grpc, token: None, range, to: to.clone(), _driver: driver };
        if let Some(user) = &settings.user {
            session.token = session.authenticate(user).await?;
        }
        Ok(session)
    }

    async fn authenticate(&mut self, user: &User) -> Result<Option<MetadataValue<Ascii>>, EtcdError> {
        let request = AuthenticateRequest { name: user.name.clone(), password: user.password.0.clone() };
        let path = "/etcdserverpb.Auth/Authenticate";
        match self.ask::<_, AuthenticateResponse>(path, request).await {
            Ok(AuthenticateResponse { token }) => {
                let unreadable = |_| EtcdError::Broken { to: self.to.clone(), why: "its token is none".to_owned() };
                let mut token = MetadataValue::try_from(token).map_err(unreadable)?;
                token.set_sensitive(true);
                Ok(Some(token))
            }
            // It says so while it lets everybody in.
            Err(EtcdError::Refused { code: Code::FailedPrecondition, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every key there is, and the revision at which this was so.
    pub async fn all(&mut self) -> Result<(Vec<super::messages::KeyValue>, i64), EtcdError> {
        let (mut key, range_end) = self.range.clone();
        let (mut all, mut revision) = (Vec::new(), 0);
        loop {
            // The pages after the first are of the same revision.
            let request = RangeRequest { key, range_end: range_end.clone(), limit: PAGE_KEYS_MAX, revision };
            let page: RangeResponse = self.ask("/etcdserverpb.KV/Range", request).await?;
            if revision == 0 {
                revision = page.header.map_or(0, |header| header.revision);
            }
            all.extend(page.kvs);
            match all.last() {
                Some(last) if page.more => key = [last.key.as_slice(), &[0]].concat(),
                _ => return Ok((all, revision)),
            }
        }
    }

    /// Begins a watch on everything that happens from a revision on.
    pub async fn watch(&mut self, start_revision: i64) -> Result<Watch, EtcdError> {
        let (key, range_end) = self.range.clone();
        let create = WatchCreateRequest { key, range_end, start_revision, progress_notify: true };
        let request = WatchRequest { create_request: Some(create) };
        // The watch lasts until its requests end.
        let requests = stream::once(std::future::ready(request)).chain(stream::pending());
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let request = self.with_metadata(requests);
        let calling = self.grpc.streaming(request, path, ProstCodec::default());
        let answers = timeout(ANSWER_DEADLINE, calling).await.map_err(|_| EtcdError::Silent { to: self.to.clone() })?;
        let answers = answers.map_err(|status| refusal(&self.to, &status))?.into_inner();
        Ok(Watch { answers, to: self.to.clone() })
    }

    async fn ask<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, EtcdError>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let request = self.with_metadata(request);
        let calling = self.grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::default());
        let answer = timeout(ANSWER_DEADLINE, calling).await.map_err(|_| EtcdError::Silent { to: self.to.clone() })?;
        Ok(answer.map_err(|status| refusal(&self.to, &status))?.into_inner())
    }

    fn with_metadata<Q>(&self, request: Q) -> Request<Q> {
        let mut request = Request::new(request);
        // A member that is cut off from the others says so, rather than be silent for ever.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}

// === impl Watch ===

impl Watch {
    /// Waits for what happens next. Cancel-safe.
    ///
    /// # Errors
    /// When the watch is over, whatever the reason.
    pub async fn next(&mut self) -> Result<WatchResponse, EtcdError> {
        let answer = self.answers.message().await.map_err(|status| refusal(&self.to, &status))?;
        let Some(answer) = answer else {
            return Err(EtcdError::Broken { to: self.to.clone(), why: "it ended the watch".to_owned() });
        };
        match answer {
            WatchResponse { compact_revision, .. } if compact_revision != 0 => Err(EtcdError::Compacted),
            WatchResponse { canceled: true, cancel_reason, .. } if cancel_reason.contains("permission denied") => {
                Err(EtcdError::Forbidden { to: self.to.clone(), said: cancel_reason })
            }
            WatchResponse { canceled: true, cancel_reason, .. } => {
                Err(EtcdError::Refused { to: self.to.clone(), code: Code::Cancelled, said: cancel_reason })
            }
            answer => Ok(answer),
        }
    }
}

fn refusal(to: &Endpoint, status: &Status) -> EtcdError {
    let (to, said) = (to.clone(), status.message().to_owned());
    match status.code() {
        // Not etcd's words, but what the client library makes of a broken connection.
        _ if std::error::Error::source(status).is_some() => EtcdError::Broken { to, why: said },
        Code::PermissionDenied => EtcdError::Forbidden { to, said },
        code => EtcdError::Refused { to, code, said },
    }
}

/// The first key that does not begin with a prefix; a single zero stands for "none, take all to the end".
fn behind(prefix: &[u8]) -> Vec<u8> {
    match prefix.iter().rposition(|byte| *byte != u8::MAX) {
        Some(last) => [&prefix[..last], &[prefix[last] + 1]].concat(),
        None => vec![0],
    }
}

/// The calls of one connection, as tonic wants to make them.
struct Requests(SendRequest<Body>);

// === impl Requests ===

impl Service<http::Request<Body>> for Requests {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_first_key_that_does_not_have_it() {
        assert_eq!(behind(b"oap/"), b"oap0");
        assert_eq!(behind(&[b'a', 0xff, 0xff]), b"b");
        assert_eq!(behind(&[0xff]), [0]);
    }
}
