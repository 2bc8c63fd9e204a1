//! OpenTelemetry's three exports (PROTOCOLS table D).

use crate::message::flow::Flow::{Logs, Metrics, Traces};
use crate::route::Method;
use crate::route::contract::{Contract, Split};
use crate::route::records::{RecordKey, Records, Signal};

use super::row;

#[rustfmt::skip]
pub(super) fn methods() -> Vec<Method> {
    vec![
        row("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Traces, records(Signal::Traces, None), "trace_id=1.2.2.1 service=1.1.1[service.name].1"),
        row("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", Metrics, records(Signal::Metrics, Some(RecordKey::Resource)), "service=1.1.1[service.name].1"),
        row("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Logs, records(Signal::Logs, None), "trace_id=1.2.2.9 service=1.1.1[service.name].1"),
    ]
}

/// A resource's metrics stay with one backend, which computes rates (PROTOCOLS 1.2.9).
fn records(signal: Signal, key: Option<RecordKey>) -> Contract {
    Contract { sticky: key.is_some(), ..Contract::of(Split::Records(Records { signal, key })) }
}
