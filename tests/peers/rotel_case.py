"""Two rotel collectors behind the gateway and one before it: a foreign OTLP receiver and a foreign OTLP sender.

OpenTelemetry's SDK writes to the rotel in front, which gathers several services' spans into one gzipped request. The
rotels behind the gateway print every span they receive; that is what counts.
"""

import json
import re
import socket
from collections import Counter

from stack import VENV, Stack, check, check_each_once, free_ports, need, say, until

SERVICES = ("shop", "cart", "stock", "till", "post")
TRACES = 300
BEHIND = ("a", "b")
APP = str(__file__).replace("rotel_case.py", "otel_app.py")
# What the gateway's file says. Where nothing asks for keys, traces and logs go whole to one of the rotels.
CONFIGS = {"whole": "", "by trace": "pool: { balance: hash }\n"}
# What stands before a value in the blocks that rotel prints with --debug-log-verbosity detailed.
PRINTED = re.compile(
    r"-> service\.name: Str\((?P<service>.*)\)$|Trace ID +: (?P<trace>\w+)$|^ +ID +: (?P<span>\w+)$"
    r"|^Body: Str\((?P<log>.*)\)$|-> Name: (?P<metric>\w+)$|-> step: Int\((?P<step>\d+)\)$|^Timestamp: (?P<time>\d+)$"
)


def run():
    need("rotel", "otel")
    for name, config in CONFIGS.items():
        with Stack(backends=start_behind, config=config) as stack:
            converse(stack, name)


def start_behind(stack):
    debug = ["--debug-log", "traces", "--debug-log", "logs", "--debug-log", "metrics"]
    debug += ["--debug-log-verbosity", "detailed"]
    return [start(stack, f"rotel-{name}", "--exporter", "blackhole", *debug) for name in BEHIND]


def start(stack, name, *options):
    """Starts a rotel and returns its port for OTLP over gRPC."""
    grpc, http = free_ports(2)
    stack.start(
        name,
        [str(next(VENV.glob("lib/python3*/site-packages/rotel/rotel-agent"))), "start"]
        + ["--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--otlp-http-endpoint", f"127.0.0.1:{http}"]
        + ["--pid-file", str(stack.directory / f"{name}.pid"), "--log-file", str(stack.directory / f"{name}.log")]
        + list(options),
    )
    until(10, f"{name} listens", lambda: socket.create_connection(("127.0.0.1", grpc), timeout=1).close() is None)
    return grpc


def converse(stack, config):
    gateway = f"http://127.0.0.1:{stack.agents}"
    options = ["--exporter", "otlp", "--otlp-exporter-endpoint", gateway, "--batch-timeout", "50ms"]
    front = start(stack, "rotel-front", *options)
    command = [str(VENV / "bin" / "python"), APP, f"http://127.0.0.1:{front}", str(TRACES), ",".join(SERVICES)]
    app = stack.start("otel", command)
    check(app.wait(timeout=90) == 0, f"the app ended with {app.returncode}")
    told = json.loads(stack.said("otel").strip().splitlines()[-1])
    expected = {(kind, *item) for kind, items in told["handed"].items() for item in items}

    printed = lambda: {name: received(stack.said(f"rotel-{name}")) for name in BEHIND}
    total = lambda: sum(items.total() for items in printed().values())
    told_all = lambda: total() >= len(expected)
    until(20, "the rotels print everything", told_all, probe=lambda: f"{total()} of {len(expected)}")
    found = printed()
    check_each_once(f"{config}: items", expected, sum(found.values(), Counter()))
    for name in BEHIND:
        check(found[name], f"rotel-{name} got nothing")
        several = "ResourceSpans #1" in stack.said(f"rotel-{name}")
        check(several, f"rotel-{name} got no request with the spans of several services: rotel-front gathered nothing")
    for kind, items in told["handed"].items():
        spread = {f"rotel-{name}": sum(item[0] == kind for item in found[name]) for name in BEHIND}
        say(f"{config}: {kind} arrived once", sent=len(items), **spread)
    if config == "by trace":
        met = {}
        for name in BEHIND:
            for kind, *item in found[name]:
                if kind == "spans":
                    met.setdefault(item[2], set()).add(name)
        check(all(len(names) == 1 for names in met.values()), "a trace met both rotels")
        check({name for names in met.values() for name in names} >= {f"{each}" for each in BEHIND}, "one rotel got all traces")
        say("by trace: each trace met one rotel", traces=len(met))
    stack.assert_conserved()
    stack.assert_ends_well()


def received(text):
    """Every span, record and point of a rotel's output."""
    items, at = Counter(), {}
    for line in text.splitlines():
        match = PRINTED.search(line)
        if not match:
            continue
        at[match.lastgroup] = match[match.lastgroup]
        if match.lastgroup == "span":
            items["spans", at["span"], at["service"], at["trace"]] += 1
        elif match.lastgroup == "log":
            items["logs", at["log"], at["service"]] += 1
        elif match.lastgroup == "time" and "step" in at:
            # A log record has a Timestamp, too, but no step.
            items["points", f"{at['metric']} {at.pop('step')} {match['time']}", at["service"]] += 1
    return items
