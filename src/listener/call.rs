//! What becomes of a call: its path finds a route, its route's contract sorts it or relays it.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::message::flow::Flow;
use crate::message::tie::Tie;
use crate::metrics::{self, BadInput};
use crate::route::contract::Split;
use crate::route::sorter::Sorter;
use crate::route::{NoRoute, Route};
use crate::wire::compression::Encoding;
use crate::wire::grpc::Code;
use crate::wire::server::Call;

use super::register::Entry;
use super::reply::{Complaint, Tone};
use super::sort::{Caller, SortCall};
use super::terms::Terms;
use super::worker::{Closing, Worker};
use super::{affinity, records, relay};

/// A call that is not sorted message by message: it is relayed, or brings a batch.
pub(super) struct Routed {
    /// Its worker.
    pub worker: Rc<Worker>,
    /// Ends it.
    pub closing: Rc<Closing>,
    /// What to do with it.
    pub route: Arc<Route>,
    /// The call.
    pub call: Call,
    /// What ties it to a backend in each pool, by who calls.
    pub callers: Vec<Option<Tie>>,
    /// Counts.
    pub received: Rc<metrics::Received>,
    /// Its place in the register.
    pub entry: Entry,
    /// What it is served under, to its end.
    pub terms: Rc<Terms>,
}

/// Serves one call to its end, or until `closing` ends it.
pub async fn serve(call: Call, worker: Rc<Worker>, closing: Rc<Closing>, port: usize, peer: IpAddr) {
    if worker.shared.services.serves(call.head.uri.path()) {
        return worker.shared.services.answer(call).await;
    }
    let (listener, terms) = (worker.ports[port].name, worker.terms());
    let route = match check_grpc(&call).and_then(|()| find(&call, &terms, worker.ports[port].only)) {
        Ok(route) => route,
        Err(complaint) => return worker.refuse(call.answer, listener, &complaint),
    };
    if let Err(complaint) = terms.decided.identity.check(&call.head.headers) {
        return worker.refuse(call.answer, listener, &complaint);
    }
    let path = route.method.path;
    let received = worker.received(port, path);
    received.calls.increment(1);
    let entry = worker.shared.register.enter(port, listener, path, peer);
    // Entered first and looked at then: workers that let calls in at the same time never let in one too many.
    if terms.calls_max(port).is_some_and(|most| entry.calls_open() > most) {
        return worker.refuse(call.answer, listener, &Tone::of(path).too_many_calls());
    }
    let callers = affinity::of_caller(&terms.pools, peer, &call.head.headers);
    match &route.method.contract.split {
        Split::Whole | Split::Relay => {
            let (route, terms) = (Arc::clone(route), Rc::clone(&terms));
            relay::run(Routed { worker, closing, route, call, callers, received, entry, terms }).await;
        }
        Split::Records(_) => {
            let (route, terms) = (Arc::clone(route), Rc::clone(&terms));
            records::run(Routed { worker, closing, route, call, callers, received, entry, terms }).await;
        }
        Split::Each | Split::Carry(_) | Split::Sets { .. } | Split::Elements { .. } => {
            let encoding = match encoding(&call) {
                Ok(encoding) => encoding,
                Err(complaint) => return worker.refuse(call.answer, listener, &complaint),
            };
            let caller = Caller { path, only: worker.ports[port].only, peer, metadata: said(&call.head.headers) };
            let metadata = terms.decided.identity.metadata(&call.head.headers);
            let sorter = Sorter::new(route, listener, &call.head.headers, metadata, callers, &terms.sorters);
            let (flow, inflow, answering) = (route.method.flow, call.inflow, call.answer);
            let call =
                SortCall { worker, closing, flow, inflow, answering, encoding, sorter, received, entry, terms, caller };
            call.run().await;
        }
    }
}

/// What a caller said of itself, without what every call says.
fn said(metadata: &HeaderMap) -> Box<[(HeaderName, HeaderValue)]> {
    let is_usual =
        |name: &HeaderName| matches!(name.as_str(), "te" | "content-type") || name.as_str().starts_with("grpc-");
    let said = metadata.iter().filter(|(name, _)| !is_usual(name));
    said.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether the request is gRPC at all.
fn check_grpc(call: &Call) -> Result<(), Complaint> {
    let content_type = call.head.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    if call.head.method != Method::POST || !content_type.starts_with(b"application/grpc") {
        let message = "not a gRPC request: it must be a POST with content-type application/grpc";
        return Err(Complaint::new(BadInput::NotGrpc, Code::Internal, message));
    }
    Ok(())
}

/// The route of exactly this path, before anything else looks at the call.
fn find<'a>(call: &Call, terms: &'a Terms, only: Option<Flow>) -> Result<&'a Arc<Route>, Complaint> {
    let path = call.head.uri.path_and_query().map_or("", |exact| exact.as_str());
    terms.decided.routes.find(path, only).map_err(|missing| {
        let reason = match missing {
            NoRoute::Unknown => BadInput::UnknownMethod,
            NoRoute::WrongFlow { .. } => BadInput::WrongFlow,
        };
        Complaint { reason, status: missing.to_status(path, |flow| terms.port_of(flow)) }
    })
}

/// How the call's messages are compressed.
fn encoding(call: &Call) -> Result<Encoding, Complaint> {
    Encoding::of(&call.head.headers).map_err(|name| Complaint::unknown_encoding(&name))
}
