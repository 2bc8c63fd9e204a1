//! The catalogue: every method Switchyard knows, a row each: whose traffic it is, how far it comes apart, what of a
//! message has a name. PROTOCOLS.md section 1 names the receiver's source behind each contract.

mod envoy;
mod otlp;
mod skywalking;

use crate::message::flow::Flow;
use crate::message::path::FieldPath;

use super::contract::{Carry, CarryMode, Contract, Key, Replay, Split};
use super::{Method, Origin};

/// Every method, in the order people read it.
pub fn methods() -> Vec<Method> {
    [skywalking::methods(), envoy::methods(), otlp::methods()].concat()
}

/// A row: `fields` names places in the message that rules and keys may use, `service=4 instance=5`.
fn row(path: &'static str, flow: Flow, contract: Contract, fields: &'static str) -> Method {
    let field = |named: &str| {
        let (name, path) = named.split_once('=').expect("a row names fields as name=path");
        (name.to_owned(), path.parse::<FieldPath>().expect("a row's paths are paths"))
    };
    let fields = fields.split_whitespace().map(field).collect();
    Method { path, package_less: None, flow, contract, fields, origin: Origin::Catalogue }
}

// What rows are written with.

fn each() -> Contract {
    Contract::of(Split::Each)
}

fn carry(mode: CarryMode, fields: &[u32]) -> Contract {
    Contract::of(Split::Carry(Carry { fields: fields.to_vec(), mode }))
}

/// One inbound call, one outbound call, and nobody waits for what the backend says.
fn whole() -> Contract {
    Contract::of(Split::Whole)
}

fn relay() -> Contract {
    Contract::relay()
}

impl Method {
    /// Old agents call it by a path without a package, too.
    fn package_less(self) -> Self {
        let at = self.path.rfind('.').map_or(0, |dot| dot + 1);
        // "/skywalking.v3.Service/method" is called "/Service/method".
        let short: &'static str = crate::message::intern(&format!("/{}", &self.path[at..]));
        Self { package_less: Some(short), ..self }
    }
}

impl Contract {
    /// Where the pool hashes, messages that agree in these places stay together.
    fn hashed_by(self, paths: &[&[u32]]) -> Self {
        let paths = paths.iter().map(|path| FieldPath::of(path)).collect();
        Self { key: Some(Key::Fields(paths)), ..self }
    }

    /// Messages that agree in these places keep meeting one backend.
    fn sticky_by(self, paths: &[&[u32]]) -> Self {
        Self { sticky: true, ..self.hashed_by(paths) }
    }

    /// Saying it twice would do it twice.
    fn said_once(self) -> Self {
        Self { replay: Replay::NotProcessed, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_less_paths_are_those_that_old_agents_call() {
        let short: Vec<&str> = methods().iter().filter_map(|method| method.package_less).collect();
        assert!(short.contains(&"/TraceSegmentReportService/collect"), "{short:?}");
        assert!(short.iter().all(|path| !path.contains('.')), "{short:?}");
        assert_eq!(short.len(), 12);
    }
}
