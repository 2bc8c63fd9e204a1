//! What Envoy calls (PROTOCOLS table C), and AnyCable's RPC.

use crate::message::flow::Flow::{AccessLogs, Control, Metrics};
use crate::message::parcel::StandIn;
use crate::route::Method;
use crate::route::contract::CarryMode::{FirstMessage, Latest};
use crate::route::contract::Contract;

use super::{carry, relay, row};

const ACCESS_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

#[rustfmt::skip]
pub(super) fn methods() -> Vec<Method> {
    vec![
        row(ACCESS_LOGS, AccessLogs, access_logs(), "identifier=1 node=1.1.1 cluster=1.1.2 log_name=1.2"),
        row("/envoy.service.accesslog.v2.AccessLogService/StreamAccessLogs", AccessLogs, access_logs(), "identifier=1 node=1.1.1 cluster=1.1.2 log_name=1.2"),
        row("/satellite.envoy.accesslog.v3.SatelliteAccessLogService/StreamAccessLogs", AccessLogs, satellite(), "identifier=1 node=1.1.1 cluster=1.1.2 log_name=1.2"),
        row("/envoy.service.metrics.v3.MetricsService/StreamMetrics", Metrics, metrics(), "identifier=1 node=1.1.1 cluster=1.1.2"),
        row("/envoy.service.metrics.v2.MetricsService/StreamMetrics", Metrics, metrics(), "identifier=1 node=1.1.1 cluster=1.1.2"),
        row("/anycable.RPC/Connect", Control, relay(), ""),
        row("/anycable.RPC/Command", Control, relay(), ""),
        row("/anycable.RPC/Disconnect", Control, relay(), ""),
    ]
}

/// One Envoy per stream: the receiver reads the identifier of the first message only (PROTOCOLS 1.2.3).
fn access_logs() -> Contract {
    carry(FirstMessage, &[1]).hashed_by(&[&[1, 1, 1]])
}

/// The identifier may change within a stream, so that many Envoys share a lane; a backend that lacks the service gets
/// the standard one's streams, a lane for each.
fn satellite() -> Contract {
    let stand_in = Some(StandIn::LanePerContext { path: ACCESS_LOGS });
    Contract { stand_in, ..carry(Latest, &[1]).hashed_by(&[&[1, 1, 1]]) }
}

/// One backend per Envoy: rates are computed in the receiver's memory.
fn metrics() -> Contract {
    carry(FirstMessage, &[1]).sticky_by(&[&[1, 1, 1]])
}
