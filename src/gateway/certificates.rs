//! The certificates of a plan, and what a plan keeps of those before it.

use std::sync::Arc;

use crate::config::Plan;
use crate::wire::tls::Watched;

/// Everything in a plan that was made of certificates.
pub fn of(plan: &Plan) -> Vec<Watched> {
    let ports = plan.listeners.iter().map(|listener| &listener.tls).chain([&plan.prometheus_tls, &plan.admin_tls]);
    let pools = plan.pools.iter().filter_map(|pool| pool.tls.clone());
    ports.flatten().cloned().map(Watched::Server).chain(pools.map(Watched::Client)).collect()
}

/// Keeps what was made under the plan before wherever the settings are the same: it is in use, in places that a reload
/// does not touch, and sessions begun with it can be resumed. That its files may have changed is for those who look
/// after it.
pub fn keep(plan: &mut Plan, before: &Plan) {
    for listener in &mut plan.listeners {
        if let Some(same) = before.listeners.iter().find(|other| other.name == listener.name) {
            keep_one(&mut listener.tls, &same.tls);
        }
    }
    for pool in &mut plan.pools {
        if let Some(same) = before.pools.iter().find(|other| other.name == pool.name) {
            keep_one(&mut pool.tls, &same.tls);
        }
    }
    keep_one(&mut plan.prometheus_tls, &before.prometheus_tls);
    keep_one(&mut plan.admin_tls, &before.admin_tls);
}

fn keep_one<T: PartialEq>(now: &mut Option<Arc<T>>, before: &Option<Arc<T>>) {
    if now == before {
        now.clone_from(before);
    }
}
