//! Who a call is from: the token it must bring, and the metadata that keeps tenants apart.
//!
//! SkyWalking's token is the metadata `authentication`, compared as it is (OAP `AuthenticationInterceptor`). Go agents
//! send it empty where none is configured, and leave it out of their queries though one is (PROTOCOLS trap 44): empty
//! is the same as absent, and whether absent is good enough is the operator's to say.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::metrics::BadInput;
use crate::wire::grpc::{AUTHENTICATION, Code};

use super::reply::Complaint;

/// What the operator decided about callers' identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Tokens of which a call must bring one; `None`: any token, and none, will do, and the backends judge.
    pub tokens: Option<Tokens>,
    /// Metadata that separates tenants, besides the token: it is passed on, and messages that differ in it never share
    /// an outbound stream.
    pub separate_by: Vec<HeaderName>,
}

/// Tokens that callers may bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The tokens.
    pub accepted: Vec<HeaderValue>,
    /// Whether a call without a token is let in.
    pub may_be_missing: bool,
}

// === impl Identity ===

impl Identity {
    /// Whether a call may come in.
    ///
    /// # Errors
    /// When its token is wrong or missing. The code is OAP's own.
    pub fn check(&self, metadata: &HeaderMap) -> Result<(), Complaint> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        let what = match token(metadata) {
            None if tokens.may_be_missing => return Ok(()),
            None => "brings no token",
            // Every token is compared, whichever fits.
            Some(token) if tokens.accepted.iter().filter(|accepted| is_same(accepted, token)).count() > 0 => {
                return Ok(());
            }
            Some(_) => "brings a token that is not accepted here",
        };
        let message = format!("the call {what}: set the agent's authentication token to one this gateway accepts");
        Err(Complaint::new(BadInput::Authentication, Code::PermissionDenied, message))
    }

    /// The metadata that outbound streams of this caller's messages open with.
    pub fn metadata(&self, metadata: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        // Marked, so that nobody prints it and no header table keeps it.
        let hidden = |token: &HeaderValue| {
            let mut token = token.clone();
            token.set_sensitive(true);
            token
        };
        let token = token(metadata).map(|token| (HeaderName::from_static(AUTHENTICATION), hidden(token)));
        let tenant = self.separate_by.iter().flat_map(|name| {
            metadata.get_all(name).iter().map(|value| (name.clone(), value.clone())).collect::<Vec<_>>()
        });
        token.into_iter().chain(tenant).collect()
    }
}

fn token(metadata: &HeaderMap) -> Option<&HeaderValue> {
    metadata.get(AUTHENTICATION).filter(|token| !token.is_empty())
}

/// Compares in a time that does not tell how much of a token was right.
fn is_same(one: &HeaderValue, other: &HeaderValue) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let differs = one.iter().zip(other).fold(0, |differs, (one, other)| differs | (one ^ other));
    std::hint::black_box(differs) == 0 && one.len() == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn identity(may_be_missing: bool) -> Identity {
        let accepted = vec![HeaderValue::from_static("one"), HeaderValue::from_static("two")];
        Identity { tokens: Some(Tokens { accepted, may_be_missing }), separate_by: Vec::new() }
    }

    #[test]
    fn only_accepted_tokens_come_in_and_an_empty_one_is_none() {
        for (strict, pairs, is_in) in [
            (true, &[("authentication", "two")][..], true),
            (true, &[("authentication", "tw")], false),
            (true, &[("authentication", "")], false),
            (true, &[], false),
            (false, &[], true),
            (false, &[("authentication", "")], true),
            (false, &[("authentication", "wrong")], false),
        ] {
            assert_eq!(identity(!strict).check(&metadata(pairs)).is_ok(), is_in, "{strict} {pairs:?}");
        }
        assert!(Identity::default().check(&metadata(&[("authentication", "any")])).is_ok());
    }

    #[test]
    fn a_tenant_is_its_token_and_the_metadata_the_operator_names() {
        let identity = Identity { tokens: None, separate_by: vec![HeaderName::from_static("x-tenant")] };
        let of = |pairs: &[(&'static str, &'static str)]| identity.metadata(&metadata(pairs));
        assert_eq!(of(&[("authentication", ""), ("agent-version", "1")]), of(&[]));
        assert_eq!(of(&[("x-tenant", "acme"), ("authentication", "t")]).len(), 2);
        assert_ne!(of(&[("x-tenant", "acme")]), of(&[("x-tenant", "other")]));
        assert!(!format!("{:?}", of(&[("authentication", "s3cret")])).contains("s3cret"));
    }
}
