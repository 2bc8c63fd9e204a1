//! What pools want to know of calls: which keys they need, and who calls where that is to keep its backend.

use std::net::IpAddr;
use std::rc::Rc;

use http::HeaderMap;

use crate::message::tie::Tie;
use crate::pool::{AffinityBy, Policy, Pool, Settings};
use crate::route::contract::Wish;
use crate::route::key;

/// What a pool with these settings wants keys for that no contract asks for.
pub fn wish(settings: &Settings) -> Wish {
    match (settings.balance, &settings.affinity) {
        // Whatever the key: the first backend gets everything.
        (Policy::PickFirst, _) => Wish::Nothing,
        (Policy::Hash, _) => Wish::Hash,
        (_, Some(affinity)) if affinity.by == AffinityBy::Key => Wish::Affinity,
        _ => Wish::Nothing,
    }
}

/// What ties the messages of a call that have no key, by pool: who calls. Empty where no pool asks for that. Read once a
/// call.
pub(super) fn of_caller(pools: &[Rc<Pool>], peer: IpAddr, metadata: &HeaderMap) -> Vec<Option<Tie>> {
    if pools.iter().all(|pool| pool.settings().affinity.is_none()) {
        return Vec::new();
    }
    let tie = |pool: &Rc<Pool>| match &pool.settings().affinity.as_ref()?.by {
        AffinityBy::Peer => Some(Tie::Affine(of_peer(peer))),
        AffinityBy::Metadata(name) => {
            let mut values = metadata.get_all(name).iter().map(|value| value.as_bytes()).peekable();
            values.peek().is_some().then(|| Tie::Affine(key::of_parts(values)))
        }
        AffinityBy::Key => None,
    };
    pools.iter().map(tie).collect()
}

/// The same for an IPv4 peer whichever kind of socket it came to.
fn of_peer(peer: IpAddr) -> u64 {
    match peer.to_canonical() {
        IpAddr::V4(address) => key::of_parts([&address.octets()[..]]),
        IpAddr::V6(address) => key::of_parts([&address.octets()[..]]),
    }
}
