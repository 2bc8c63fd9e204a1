//! Deciding: which route a method has, what its contract allows, which key its messages carry, what rules want with them.

pub mod catalogue;
pub mod contract;
pub mod describe;
pub mod explain;
pub mod key;
pub mod reading;
pub mod records;
pub mod rule;
pub mod schema;
pub mod sorter;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::message::flow::Flow;
use crate::message::path::FieldPath;
use crate::wire::grpc::{Code, Status};

use contract::Contract;
use rule::Rule;

/// A method and how its calls may be taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// The path of the outbound call; the metric label of the method.
    pub path: &'static str,
    /// What agents before SkyWalking 8 call it.
    pub package_less: Option<&'static str>,
    /// Whose ports, budget and channels it uses.
    pub flow: Flow,
    /// How its calls may be taken apart.
    pub contract: Contract,
    /// Names that rules and keys may use for places in its messages, besides those of the message's own fields.
    pub fields: Vec<(String, FieldPath)>,
    /// Who described it.
    pub origin: Origin,
}

/// Who described a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is one that Switchyard knows.
    Catalogue,
    /// The operator, under `methods:`.
    Config,
}

/// What to do with one method's messages.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// What the operator wants done, first match first; the last one is for all that is left.
    pub rules: Vec<Arc<Rule>>,
}

/// Every method the gateway serves, by exact path.
pub struct Routes {
    table: HashMap<&'static str, Arc<Route>>,
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

// === impl Routes ===

impl Routes {
    /// The routes of these methods; `rules` says what the operator wants done with each one's messages.
    pub fn new(methods: impl IntoIterator<Item = Method>, rules: impl Fn(&Method) -> Vec<Arc<Rule>>) -> Self {
        let mut table = HashMap::new();
        for method in methods {
            let mut rules = rules(&method);
            rules.push(Rule::for_the_rest());
            let route = Arc::new(Route { rules, method });
            for path in [Some(route.method.path), route.method.package_less].into_iter().flatten() {
                table.insert(path, Arc::clone(&route));
            }
        }
        Self { table }
    }

    /// The routes of the catalogue alone.
    pub fn of_catalogue() -> Self {
        Self::new(catalogue::methods(), |_| Vec::new())
    }

    /// The route of an exact path on a listener that serves `only` one flow, or all.
    ///
    /// # Errors
    /// When there is none; see [`NoRoute::to_status`].
    pub fn find(&self, path: &str, only: Option<Flow>) -> Result<&Arc<Route>, NoRoute> {
        let route = self.table.get(path).ok_or(NoRoute::Unknown)?;
        match only {
            Some(listener) if listener != route.method.flow => {
                Err(NoRoute::WrongFlow { method: route.method.flow, listener })
            }
            _ => Ok(route),
        }
    }

    /// Every route once, by its path.
    pub fn all(&self) -> Vec<&Arc<Route>> {
        let mut all: Vec<_> = self.table.iter().filter(|(path, route)| **path == route.method.path).collect();
        all.sort_by_key(|(path, _)| **path);
        all.into_iter().map(|(_, route)| route).collect()
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
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
            NoRoute::Unknown => {
                format!("no route for {path}: add it to `methods:` in switchyard.yaml, or check the spelling")
            }
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
        let routes = Routes::of_catalogue();
        assert!(routes.find(SEGMENTS, None).is_ok());
        for near in [
            "/skywalking.v3.TraceSegmentReportService/collect/",
            "/skywalking.v3.TraceSegmentReportService/x/../collect",
            "",
        ] {
            assert_eq!(routes.find(near, None).err(), Some(NoRoute::Unknown), "{near}");
        }
    }

    #[test]
    fn a_dedicated_port_names_the_port_that_serves_the_method() {
        let routes = Routes::of_catalogue();
        assert!(routes.find(ACCESS_LOGS, Some(Flow::AccessLogs)).is_ok());
        let refusal = routes.find(SEGMENTS, Some(Flow::AccessLogs)).unwrap_err();
        let status = refusal.to_status(SEGMENTS, |flow| (flow == Flow::Traces).then_some(11800));
        assert_eq!(status.code, Code::Unimplemented);
        assert!(status.message.contains("send it to port 11800"), "{}", status.message);
    }

    #[test]
    fn a_package_less_path_leaves_under_its_packaged_name() {
        let routes = Routes::of_catalogue();
        let route = routes.find("/TraceSegmentReportService/collect", None).unwrap();
        assert_eq!(route.method.path, SEGMENTS);
    }
}
