//! Deciding: which route a method has, what its contract allows and which key its messages carry.

pub mod catalogue;
pub mod contract;
pub mod key;
pub mod sorter;

use std::collections::HashMap;

use crate::message::flow::Flow;
use crate::wire::grpc::{Code, Status};

use contract::Contract;

/// What to do with one method's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The path of the outbound call; the metric label of the method. `None` relays the path as it came, for methods
    /// the operator described.
    pub method: Option<&'static str>,
    /// Whose ports, budget and channels it uses.
    pub flow: Flow,
    /// How its calls may be taken apart.
    pub contract: Contract,
}

/// A method the operator wants relayed though the catalogue does not know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayMethod {
    /// Exact path, `/package.Service/Method`.
    pub path: String,
    /// Whose ports and channels it uses.
    pub flow: Flow,
}

/// Every method the gateway serves, by exact path.
#[derive(Debug)]
pub struct Routes {
    table: HashMap<String, Route>,
}

/// Why a call has no route here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// Nobody serves this path.
    Unknown,
    /// The listener serves another flow only.
    WrongFlow {
        /// The flow of the method.
        method: Flow,
        /// The only flow of the listener.
        listener: Flow,
    },
}

/// Characters of a caller's path that are said back to it.
const PATH_CHARS_SHOWN: usize = 200;

/// The metric label of methods that are not in the catalogue: labels must stay few.
pub const OTHER_METHOD: &str = "other";

// === impl Routes ===

impl Routes {
    /// The catalogue and the operator's own relayed methods; the catalogue wins.
    pub fn new(relay: &[RelayMethod]) -> Self {
        let mut table = HashMap::new();
        for method in relay {
            let route = Route { method: None, flow: method.flow, contract: Contract::relay() };
            table.insert(method.path.clone(), route);
        }
        for (path, route) in catalogue::routes() {
            table.insert(path.to_owned(), route);
        }
        Self { table }
    }

    /// The route of an exact path on a listener that serves `only` one flow, or all.
    ///
    /// # Errors
    /// When there is none; see [`NoRoute::to_status`].
    pub fn find(&self, path: &str, only: Option<Flow>) -> Result<&Route, NoRoute> {
        let route = self.table.get(path).ok_or(NoRoute::Unknown)?;
        match only {
            Some(listener) if listener != route.flow => Err(NoRoute::WrongFlow { method: route.flow, listener }),
            _ => Ok(route),
        }
    }
}

// === impl Route ===

impl Route {
    /// The value of the `method` label.
    pub fn label(&self) -> &'static str {
        self.method.unwrap_or(OTHER_METHOD)
    }
}

// === impl NoRoute ===

impl NoRoute {
    /// What the caller is told, mend included. `port_of` names the port that serves a flow, if any does.
    pub fn to_status(self, path: &str, port_of: impl Fn(Flow) -> Option<u16>) -> Status {
        let path: String = path.chars().take(PATH_CHARS_SHOWN).collect();
        let message = match self {
            NoRoute::Unknown if path.starts_with("/RemoteService/") => {
                "RemoteService is the collectors' own internal bus and never passes a gateway".to_owned()
            }
            NoRoute::Unknown => format!(
                "no route for {path}: add it to `relay:` in switchyard.yaml to pass it through whole, or check the spelling"
            ),
            NoRoute::WrongFlow { method, listener } => {
                let mend = port_of(method).map_or_else(
                    || "no listener of this gateway serves it; set `listen.agents`".to_owned(),
                    |port| format!("send it to port {port}"),
                );
                format!("this port serves {listener} only and {path} is {method}: {mend}")
            }
        };
        Status::new(Code::Unimplemented, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESS_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
    const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

    #[test]
    fn only_the_exact_path_is_a_route() {
        let routes = Routes::new(&[]);
        assert!(routes.find(SEGMENTS, None).is_ok());
        for near in [
            "/skywalking.v3.TraceSegmentReportService/collect/",
            "/skywalking.v3.TraceSegmentReportService/x/../collect",
            "",
        ] {
            assert_eq!(routes.find(near, None), Err(NoRoute::Unknown), "{near}");
        }
    }

    #[test]
    fn a_dedicated_port_names_the_port_that_serves_the_method() {
        let routes = Routes::new(&[]);
        assert!(routes.find(ACCESS_LOGS, Some(Flow::AccessLogs)).is_ok());
        let refusal = routes.find(SEGMENTS, Some(Flow::AccessLogs)).unwrap_err();
        let status = refusal.to_status(SEGMENTS, |flow| (flow == Flow::Traces).then_some(11800));
        assert_eq!(status.code, Code::Unimplemented);
        assert!(status.message.contains("send it to port 11800"), "{}", status.message);
    }

    #[test]
    fn a_package_less_path_leaves_under_its_packaged_name() {
        let routes = Routes::new(&[]);
        let route = routes.find("/TraceSegmentReportService/collect", None).unwrap();
        assert_eq!(route.method, Some(SEGMENTS));
    }

    #[test]
    fn an_operator_s_method_is_relayed_and_cannot_replace_a_known_one() {
        let own = |path: &str| RelayMethod { path: path.to_owned(), flow: Flow::Control };
        let routes = Routes::new(&[own("/shop.Orders/Watch"), own(SEGMENTS)]);
        assert_eq!(routes.find("/shop.Orders/Watch", None).unwrap().label(), OTHER_METHOD);
        assert_eq!(routes.find(SEGMENTS, None).unwrap().flow, Flow::Traces);
    }
}
