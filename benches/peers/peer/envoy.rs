//! Envoy, configured for long gRPC streams.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::{Task, pinned};
use crate::certificates::Certificates;

const TYPES: &str = "type.googleapis.com/envoy.extensions.";
/// Envoy's own defaults are 16 MiB and more; these keep a saturated run from filling memory and cost no throughput.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Where `benches/peers/run` puts it.
pub fn program() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/.peers/bin/envoy").into()
}

pub fn command(task: &Task<'_>) -> io::Result<Command> {
    let file = task.directory.join("envoy.json");
    fs::write(&file, serde_json::to_vec_pretty(&bootstrap(task))?)?;
    let mut command = pinned(&program(), task.workers);
    command.arg("--config-path").arg(&file);
    command.args(["--concurrency", &task.workers.to_string()]);
    // No shared memory: Envoys of other runs and users are none of ours.
    command.args(["--disable-hot-restart", "--log-level", "warning"]);
    Ok(command)
}

fn bootstrap(task: &Task<'_>) -> Value {
    let http2 = json!({
        "initial_stream_window_size": STREAM_WINDOW_BYTES,
        "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
        "max_concurrent_streams": task.streams.max(1_024),
    });
    json!({
        "static_resources": {
            "listeners": [listener(task, &http2)],
            "clusters": [cluster(task, &http2)],
        },
    })
}

fn listener(task: &Task<'_>, http2: &Value) -> Value {
    let mut route = json!({ "cluster": "collectors", "timeout": "0s", "idle_timeout": "0s" });
    if task.one_dies {
        route["retry_policy"] = json!({ "retry_on": "connect-failure,refused-stream", "num_retries": 3 });
    }
    let connections = json!({
        "@type": format!("{TYPES}filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "agents",
        "codec_type": "HTTP2",
        "http2_protocol_options": http2,
        // What costs something for each stream and is of no use here. Access logs are off unless asked for.
        "generate_request_id": false,
        // Endless streams: neither may end them.
        "stream_idle_timeout": "0s",
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{TYPES}filters.http.router.v3.Router"), "suppress_envoy_headers": true },
        }],
        "route_config": {
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "route": route }],
            }],
        },
    });
    let mut chain = json!({
        "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": connections }],
    });
    if let Some(certificates) = task.tls {
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{TYPES}transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "tls_certificates": [{
                        "certificate_chain": { "filename": certificates.chain },
                        "private_key": { "filename": certificates.key },
                    }],
                },
            },
        });
    }
    json!({
        "name": "agents",
        "address": address(task.listen),
        // What Envoy's manual says for few and long connections: workers take turns instead of what the kernel's hash
        // of ports makes of four of them.
        "enable_reuse_port": false,
        "connection_balance_config": { "exact_balance": {} },
        "filter_chains": [chain],
    })
}

fn cluster(task: &Task<'_>, http2: &Value) -> Value {
    let endpoint = |sink: &SocketAddr| json!({ "endpoint": { "address": address(*sink) } });
    let endpoints: Vec<Value> = task.sinks.iter().map(endpoint).collect();
    // The defaults refuse the 1,025th stream.
    let enough = task.streams.max(1_024) * 2;
    let mut cluster = json!({
        "name": "collectors",
        "type": "STATIC",
        "connect_timeout": "2s",
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": { "thresholds": [{
            "max_connections": enough, "max_pending_requests": enough, "max_requests": enough,
        }] },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPES}upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": { "http2_protocol_options": http2 },
            },
        },
        "load_assignment": { "cluster_name": "collectors", "endpoints": [{ "lb_endpoints": endpoints }] },
    });
    if task.one_dies {
        // By default one of ten may be put aside, so none of three.
        cluster["outlier_detection"] = json!({ "consecutive_5xx": 3, "max_ejection_percent": 50 });
    }
    if let Some(certificates) = task.tls {
        cluster["transport_socket"] = upstream_tls(certificates);
    }
    cluster
}

fn upstream_tls(certificates: &Certificates) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TYPES}transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": "localhost",
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                // A client of Envoy's stops at TLS 1.2 unless told; the sink speaks 1.3 only.
                "tls_params": { "tls_maximum_protocol_version": "TLSv1_3" },
                "validation_context": { "trusted_ca": { "filename": certificates.authority } },
            },
        },
    })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
