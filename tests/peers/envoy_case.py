"""Two real Envoys write access logs to port 11802 and metrics to port 11803."""

import http.client
import http.server
import json
import subprocess
import threading
import time
from collections import Counter

from stack import VENV, Stack, check, free_ports, http as http_get, need, say, until

ACCESS_LOGS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
METRICS = "/envoy.service.metrics.v3.MetricsService/StreamMetrics"
NODES = ("edge-a", "edge-b")
CLIENTS = 8
REQUESTS_PER_CLIENT = 100
FLUSHES_MIN = 6
TYPES = "type.googleapis.com/envoy."


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


def cluster(name, port, http2):
    version = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": TYPES + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": version,
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


def bootstrap(node, listen, admin, upstream, stack):
    """Envoy's config as a user would write it; only the flush times are short."""
    service = lambda name: {"envoy_grpc": {"cluster_name": name}}
    access_log = {
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": {
            "@type": TYPES + "extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": {
                "log_name": "edge",
                "transport_api_version": "V3",
                "grpc_service": service("access-logs"),
                "buffer_flush_interval": "0.050s",
                # One entry a message, so that collectors, who note one id a message, see them all.
                "buffer_size_bytes": 0,
            },
        },
    }
    connections = {
        "@type": TYPES + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        # The ids by which the test knows the entries again.
        "preserve_external_request_id": True,
        "access_log": [access_log],
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": TYPES + "extensions.filters.http.router.v3.Router"},
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
                }
            ]
        },
    }
    address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "node": {
            "id": node,
            "cluster": "peers",
            "metadata": {"NAME": f"{node}-0", "NAMESPACE": "peers", "LABELS": {"app": node}},
        },
        "admin": {"address": address(admin)},
        "stats_flush_interval": "0.5s",
        "stats_sinks": [
            {
                "name": "envoy.stat_sinks.metrics_service",
                "typed_config": {
                    "@type": TYPES + "config.metrics.v3.MetricsServiceConfig",
                    "transport_api_version": "V3",
                    "grpc_service": service("metrics"),
                },
            }
        ],
        "static_resources": {
            "listeners": [
                {
                    "name": "edge",
                    "address": address(listen),
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": connections,
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                cluster("upstream", upstream, http2=False),
                cluster("access-logs", stack.access_logs, http2=True),
                cluster("metrics", stack.metrics, http2=True),
            ],
        },
    }


def send(node, port, client, failures):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        for n in range(REQUESTS_PER_CLIENT):
            headers = {"x-request-id": f"{node}-{client * REQUESTS_PER_CLIENT + n}"}
            connection.request("GET", f"/{node}/{n}", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                failures.append((answer.status, body))
            time.sleep(0.01)
    except (OSError, http.client.HTTPException) as error:
        failures.append(error)
    finally:
        connection.close()


def stat(admin, name):
    lines = http_get(admin, f"/stats?filter={name}").splitlines()
    return sum(int(line.rsplit(" ", 1)[1]) for line in lines if name in line)


def run():
    need("envoy")
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    try:
        with Stack() as stack:
            converse(stack, upstream.server_address[1])
    finally:
        upstream.shutdown()


def converse(stack, upstream):
    ports = free_ports(2 * len(NODES))
    listen, admin = dict(zip(NODES, ports[::2])), dict(zip(NODES, ports[1::2]))
    binary = str(VENV / "bin" / "envoy")
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30).stdout.strip()
    say("Envoy", version=version.split("version:", 1)[1].strip())
    envoys = {}
    for index, node in enumerate(NODES):
        config = stack.directory / f"{node}.json"
        config.write_text(json.dumps(bootstrap(node, listen[node], admin[node], upstream, stack)))
        envoys[node] = stack.start(
            node,
            [binary, "-c", str(config), "--base-id", str(ports[0] + index), "--concurrency", "2", "-l", "warning"],
        )
    for node in NODES:
        until(30, f"{node} is ready", lambda: "LIVE" in http_get(admin[node], "/ready"))

    failures = []
    clients = [
        threading.Thread(target=send, args=(node, listen[node], client, failures))
        for node in NODES
        for client in range(CLIENTS)
    ]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(timeout=60)
    check(not failures, f"HTTP through Envoy failed: {failures[:3]}")

    expected = {f"{node}-{n}": node for node in NODES for n in range(CLIENTS * REQUESTS_PER_CLIENT)}
    by_collector = stack.assert_each_once("access logs", ACCESS_LOGS, expected)
    stack.assert_shared("access logs", by_collector, least=0.2)
    for node, spread in stack.sources(ACCESS_LOGS).items():
        say(f"access logs of {node}", **{f"collector-{name}": count for name, count in sorted(spread.items())})
        stack.assert_shared(f"access logs of {node}", spread, least=0.1)
    check(set(stack.sources(ACCESS_LOGS)) == set(NODES), f"sources: {stack.sources(ACCESS_LOGS)}")
    for node in NODES:
        written, dropped = stat(admin[node], "logs_written"), stat(admin[node], "logs_dropped")
        say(f"{node} by its own stats", logs_written=written, logs_dropped=dropped)
        check(dropped == 0, f"{node} dropped {dropped} entries: the gateway held it back or cut it off")

    names = {f"{node}.peers/{node}-0" for node in NODES}
    enough = lambda: len(stack.sources(METRICS)) >= len(NODES) and all(
        sum(spread.values()) >= FLUSHES_MIN for spread in stack.sources(METRICS).values()
    )
    until(30, "metrics of every node", enough, probe=lambda: stack.method(METRICS))
    for source, spread in stack.sources(METRICS).items():
        say(f"metrics of {source}", messages=dict(spread))
        check(len(spread) == 1, f"metrics of one node met several collectors: {source} {dict(spread)}")
    check(set(stack.sources(METRICS)) == names, f"{set(stack.sources(METRICS))} instead of {names}")
    stack.assert_nothing_discarded(METRICS)

    for node, envoy in envoys.items():
        envoy.terminate()
        envoy.wait(timeout=15)
    stack.assert_conserved()
    check(stack.snapshot()["received"] == sum(stack.counts(name)["messages"] for name in "abc"), "all of it arrived")
    stack.assert_ends_well()
