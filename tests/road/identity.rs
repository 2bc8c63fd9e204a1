//! Who a call is from: tokens that are checked, tenants that never mix, tokens that the backends want.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use switchyard::listener::identity::{Identity, Tokens};
use switchyard::wire::grpc::Code;

use crate::backend::Backend;
use crate::caller::Caller;
use crate::contracts::say;
use crate::ground::Road;

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const QUERY: &str = "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations";

fn tokens(may_be_missing: bool) -> Identity {
    let accepted = vec![HeaderValue::from_static("secret")];
    Identity { tokens: Some(Tokens { accepted, may_be_missing }), separate_by: Vec::new() }
}

/// The codes of calls with the right token, a wrong one, an empty one and none.
fn codes(path: &str, may_be_missing: bool) -> Vec<Code> {
    let backend = Backend::good();
    let road = Road::through(Vec::new(), &[backend.address], |plan| plan.identity = tokens(may_be_missing));
    let codes = road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        let mut codes = Vec::new();
        for metadata in
            [&[("authentication", "secret")][..], &[("authentication", "wrong")], &[("authentication", "")], &[]]
        {
            codes.push(caller.call(path, metadata, &[say(&[(1, b"shop")])]).await.code());
        }
        codes
    });
    road.wait_until_delivered(Duration::from_secs(5));
    road.end();
    codes
}

#[test]
fn a_call_without_the_token_is_refused_as_oap_refuses_it() {
    for path in [SEGMENTS, QUERY] {
        let refused = Code::PermissionDenied;
        assert_eq!(codes(path, false), [Code::Ok, refused, refused, refused], "{path}");
    }
}

#[test]
fn where_a_token_may_be_missing_an_empty_one_is_missing_and_a_wrong_one_is_not() {
    for path in [SEGMENTS, QUERY] {
        assert_eq!(codes(path, true), [Code::Ok, Code::PermissionDenied, Code::Ok, Code::Ok], "{path}");
    }
}

#[test]
fn tenants_never_share_a_stream_and_the_backends_get_their_own_token() {
    let backend = Backend::good();
    let road = Road::through(Vec::new(), &[backend.address], |plan| {
        plan.identity.separate_by = vec![HeaderName::from_static("x-tenant")];
        plan.pools[0].authentication = Some(HeaderValue::from_static("of-the-pool"));
    });
    road.block_on(async {
        let caller = Caller::connect(road.agents()).await;
        for turn in 0..20 {
            for tenant in ["one", "two"] {
                let metadata = [("x-tenant", tenant), ("authentication", "of-the-caller"), ("x-other", "stays here")];
                let segment = say(&[(2, format!("{tenant}-{turn}").as_bytes()), (4, tenant.as_bytes())]);
                assert_eq!(caller.call(SEGMENTS, &metadata, &[segment]).await.code(), Code::Ok);
            }
        }
        let metadata = [("x-tenant", "one"), ("x-other", "stays here")];
        assert_eq!(caller.call(QUERY, &metadata, &[say(&[(1, b"one")])]).await.code(), Code::Ok);
    });
    road.wait_until_delivered(Duration::from_secs(5));
    for seen in backend.seen() {
        let said = seen.headers["x-tenant"].to_str().unwrap().to_owned();
        assert_eq!(
            (&seen.headers["authentication"], seen.headers.get("x-other")),
            (&HeaderValue::from_static("of-the-pool"), None)
        );
        if seen.path == SEGMENTS {
            let service = |message: &bytes::Bytes| {
                String::from_utf8(switchyard::message::field::last_bytes(message, 4).unwrap().unwrap().to_vec())
                    .unwrap()
            };
            assert_eq!(seen.messages.iter().map(service).collect::<BTreeSet<_>>(), BTreeSet::from([said]));
        }
    }
    road.end();
}
