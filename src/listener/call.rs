//! What becomes of a call: its path finds a route, its route's contract sorts it or relays it.

use std::net::IpAddr;
use std::rc::Rc;

use http::{Method, header};

use crate::metrics::BadInput;
use crate::pool::Policy;
use crate::route::contract::Contract;
use crate::route::sorter::{Sorter, Source};
use crate::route::{NoRoute, Route, Routes};
use crate::wire::compression::{ACCEPTED, Encoding};
use crate::wire::grpc::{AUTHENTICATION, Code};
use crate::wire::server::Call;

use super::relay::RelayCall;
use super::reply::{Complaint, Tone};
use super::sort::SortCall;
use super::worker::Worker;

/// Serves one call to its end.
pub async fn serve(call: Call, worker: Rc<Worker>, port: usize, peer: IpAddr) {
    if worker.shared.services.serves(call.head.uri.path()) {
        return worker.shared.services.answer(call).await;
    }
    let listener = worker.ports[port].settings.name;
    let routes = worker.shared.routes.clone();
    let route = match check_grpc(&call).and_then(|()| find(&routes, &call, &worker, port)) {
        Ok(route) => route,
        Err(complaint) => return worker.refuse(call.answer, listener, &complaint),
    };
    let received = worker.received(listener, route.label());
    received.calls.increment(1);
    let entry = worker.shared.register.enter(port, listener, route.label(), peer);
    match (&route.contract, route.method) {
        (Contract::Sort(sort), Some(method)) => {
            let encoding = match encoding(&call) {
                Ok(encoding) => encoding,
                Err(complaint) => return worker.refuse(call.answer, listener, &complaint),
            };
            let source = Source {
                method,
                flow: route.flow,
                authentication: call.head.headers.get(AUTHENTICATION).filter(|token| !token.is_empty()).cloned(),
            };
            let hashes = worker.pool.settings().balance == Policy::Hash;
            let sorter = Sorter::new(sort, source, &worker.subjects, hashes);
            let (flow, inflow, answering) = (route.flow, call.inflow, call.answer);
            SortCall { worker, flow, inflow, answering, encoding, sorter, received, entry }.run().await;
        }
        (Contract::Relay(relay), _) => {
            let path = route.method.map_or_else(|| call.head.uri.path().to_owned(), str::to_owned);
            let tone = Tone::of(&path);
            let relay = relay.clone();
            RelayCall { worker, path, flow: route.flow, relay, tone, call, received, entry }.run().await;
        }
        (Contract::Sort(_), None) => unreachable!("operators' own methods are relayed: Routes::new makes no others"),
    }
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
fn find<'a>(routes: &'a Routes, call: &Call, worker: &Worker, port: usize) -> Result<&'a Route, Complaint> {
    let path = call.head.uri.path_and_query().map_or("", |exact| exact.as_str());
    routes.find(path, worker.ports[port].settings.only).map_err(|missing| {
        let reason = match missing {
            NoRoute::Unknown => BadInput::UnknownMethod,
            NoRoute::WrongFlow { .. } => BadInput::WrongFlow,
        };
        Complaint { reason, status: missing.to_status(path, |flow| worker.port_of(flow)) }
    })
}

/// How the call's messages are compressed.
fn encoding(call: &Call) -> Result<Encoding, Complaint> {
    Encoding::of(&call.head.headers).map_err(|name| {
        let message = format!("grpc-encoding {name:?} is not known here; use one of {ACCEPTED}");
        Complaint::new(BadInput::Encoding, Code::Unimplemented, message)
    })
}
