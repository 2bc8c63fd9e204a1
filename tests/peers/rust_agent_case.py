"""SkyWalking's agent for Rust keeps its streams open for life, while one of three collectors goes and comes back."""

import json
import os
import subprocess
import urllib.request
from collections import Counter

from stack import COLLECTORS, ROOT, VENV, Skipped, Stack, check, need, say, until

SEGMENTS = "/skywalking.v3.TraceSegmentReportService/collect"
LOGS = "/skywalking.v3.LogReportService/collect"
METERS = "/skywalking.v3.MeterReportService/collect"
CRATE = ROOT / "tests" / "rust-agent"
SERVICES = 6
# Nine seconds: a collector that comes back is found again within two, so that it still gets its share.
ITEMS = 600
EVERY_MS = 15
METERS_A_ROUND = 5
# The collector that is stopped and started again.
AWAY = "b"


def run():
    need("protoc")
    binary = build()
    with Stack() as stack:
        converse(stack, binary)


def build():
    """The agent's own crate; its build script wants a protoc, which grpcio-tools has."""
    protoc = VENV / "bin" / "protoc"
    protoc.write_text(f'#!/bin/sh\nexec "{VENV}/bin/python" -m grpc_tools.protoc "$@"\n')
    protoc.chmod(0o755)
    manifest, target = ["--locked", "--manifest-path", str(CRATE / "Cargo.toml")], ROOT / "target" / "rust-agent"
    fetched = subprocess.run(["cargo", "fetch", "--quiet", *manifest], capture_output=True, text=True)
    if fetched.returncode != 0:
        raise Skipped(f"cargo fetch failed: {fetched.stderr.strip().splitlines()[-1]}")
    subprocess.run(
        ["cargo", "build", "--quiet", *manifest, "--target-dir", str(target)],
        env={**os.environ, "PROTOC": str(protoc)},
        check=True,
    )
    return str(target / "debug" / "rust-agent")


def converse(stack, binary):
    services = [f"rust{n}" for n in range(SERVICES)]
    ids = {f"{service}-{n}": f"{service}/{service}-0" for service in services for n in range(ITEMS)}
    server = f"http://127.0.0.1:{stack.agents}"
    agents = stack.start("agents", [binary, server, str(SERVICES), str(ITEMS), str(EVERY_MS)])
    unfinished = go_and_come_back(stack, agents, len(ids))
    check(agents.wait(timeout=60) == 0, f"the agents ended with {agents.returncode}")

    told = read(stack.said("agents"))
    for service in services:
        say(f"agent {service}", **told[service])
        check(told[service]["failures"] == 0, f"{service} failed: {stack.said('agents', 'err')[-1000:]}")
        check(told[service]["streams"] == 3, f"{service} had to open a stream again: {told[service]}")
        check(told[service]["segments"] == told[service]["logs"] == ITEMS, f"{service} made {told[service]}")
    for what, path in (("segments", SEGMENTS), ("logs", LOGS)):
        by_collector = stack.assert_each_once(what, path, ids)
        stack.assert_shared(what, by_collector, least=0.2)
        stack.assert_nothing_discarded(path)
    assert_meters(stack, told)
    # What the first collector had of unfinished meter sets was said again to another; it may have been sent more than
    # it had read, but not more than a round of each service.
    read_of_meters = unfinished["methods"].get(METERS, {"messages": 0})["messages"]
    rounds = METERS_A_ROUND * SERVICES if read_of_meters else 0
    stack.assert_conserved(possible_duplicates=range(read_of_meters, read_of_meters + rounds + 1))
    handed = sum(counts[what] for counts in told.values() for what in ("segments", "logs", "meters"))
    check(stack.snapshot()["received"] == handed, f"{handed} handed, {stack.snapshot()['received']} received")
    stack.assert_ends_well()


def read(text):
    told = {}
    for line in text.splitlines():
        service, what, count = line.split(" ")
        told.setdefault(service, {})[what] = int(count)
    return told


def go_and_come_back(stack, agents, total):
    """A rolling restart in the middle of every stream: takes nothing new, answers its trips, goes, comes back.

    Returns what it had counted when it went: meter streams are endless, so that it cannot have answered those.
    """
    arrived = lambda: sum(1 for path in (SEGMENTS, LOGS) for _ in stack.ids(path))
    until(30, "the agents are at work", lambda: arrived() >= 2 * total * 0.15, probe=arrived)
    behave(stack, refuse=True)
    answered = lambda: sum(stack.counts(AWAY)["answers"].values())
    begun = lambda: sum(stack.counts(AWAY)["methods"][path]["calls"] for path in (SEGMENTS, LOGS))
    until(10, f"collector-{AWAY} has answered all trips", lambda: answered() == begun())
    process = stack.process(f"collector-{AWAY}")
    process.terminate()
    check(process.wait(timeout=10) == 0, f"collector-{AWAY} ended with {process.returncode}")
    before = arrived()
    until(10, "the others take all of it", lambda: arrived() >= before + 2 * total * 0.05, probe=arrived)
    check(agents.poll() is None, "the agents ended before the collector came back: the test is too short")
    stack.start_collector(AWAY)
    until(10, f"collector-{AWAY} is used again", lambda: stack.counts(AWAY)["messages"] > 0)
    check(agents.poll() is None, "the agents ended before the collector was used again: the test is too short")
    say(f"collector-{AWAY} was away", before=before, after=arrived(), of=2 * total)
    return json.loads(stack.said(f"collector-{AWAY}").splitlines()[0])


def behave(stack, **behaviour):
    body = json.dumps(behaviour).encode()
    url = f"http://127.0.0.1:{stack.counts_ports[AWAY]}/behaviour"
    request = urllib.request.Request(url, body, {"content-type": "application/json"}, method="PUT")
    urllib.request.urlopen(request, timeout=5).close()


def assert_meters(stack, told):
    """A meter stream is one data set, filed at its end: whole, on one collector, whatever became of the first one."""
    ids = {f"{service}-{n}": f"{service}/{service}-0" for service in told for n in range(told[service]["meters"])}
    stack.assert_each_once("meters", METERS, ids)
    homes = {}
    for collector, source, _ in stack.ids(METERS):
        homes.setdefault(source, Counter())[collector] += 1
    for source, spread in homes.items():
        check(len(spread) == 1, f"the meters of {source} are torn: {dict(spread)}")
    count = Counter(name for spread in homes.values() for name in spread)
    say("meter sets", **{f"collector-{name}": count[name] for name in COLLECTORS})
    stack.assert_nothing_discarded(METERS)
