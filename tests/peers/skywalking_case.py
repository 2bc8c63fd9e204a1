"""Real SkyWalking Python agents send traces, logs, meters and management to port 11800."""

import json
from collections import Counter

from stack import VENV, Stack, check, need, say, until

SEGMENTS = "/skywalking.v3.TraceSegmentReportService/collect"
LOGS = "/skywalking.v3.LogReportService/collect"
METERS = "/skywalking.v3.MeterReportService/collect"
PROPERTIES = "/skywalking.v3.ManagementService/reportInstanceProperties"
KEEP_ALIVE = "/skywalking.v3.ManagementService/keepAlive"
PROFILE_TASKS = "/skywalking.v3.ProfileTask/getProfileTaskCommands"
SERVICES = ("shop", "cart", "stock", "till")
SEGMENTS_EACH = 250


def run():
    need("skywalking")
    with Stack() as stack:
        converse(stack)


def converse(stack):
    python, app = str(VENV / "bin" / "python"), str(__file__).replace("_case.py", "_app.py")
    apps = {
        service: stack.start(
            service, [python, app, f"127.0.0.1:{stack.agents}", service, f"{service}-0", str(SEGMENTS_EACH)]
        )
        for service in SERVICES
    }
    told = {}
    for service, process in apps.items():
        check(process.wait(timeout=90) == 0, f"the app {service} ended with {process.returncode}")
        told[service] = json.loads(stack.said(service).strip().splitlines()[-1])
        say(f"agent {service} handed to gRPC", **told[service]["handed"])
        check(not told[service]["failed"], f"{service}: calls failed: {told[service]['failed']}")
        for kind in ("segments", "logs"):
            check(told[service]["handed"][kind] == SEGMENTS_EACH, f"{service} sent fewer {kind} than it made")

    expected = {f"{service}-{n}": f"{service}/{service}-0" for service in SERVICES for n in range(SEGMENTS_EACH)}
    for what, path in (("segments", SEGMENTS), ("logs", LOGS)):
        by_collector = stack.assert_each_once(what, path, expected)
        stack.assert_shared(what, by_collector, least=0.15)
        stack.assert_nothing_discarded(path)

    for what, path in (("meters", METERS), ("properties", PROPERTIES), ("heartbeats", KEEP_ALIVE)):
        handed = {f"{service}/{service}-0": told[service]["handed"][what] for service in SERVICES}
        arrived = lambda: {source: sum(spread.values()) for source, spread in stack.sources(path).items()}
        until(15, f"all {what} arrive", lambda: arrived() == handed, probe=lambda: f"{arrived()} of {handed}")
        stack.assert_nothing_discarded(path)
        say(what, **handed)
        check(min(handed.values()) > 0, f"an agent sent no {what}")
    for source, spread in stack.sources(METERS).items():
        check(len(spread) == 1, f"meters of one instance met several collectors: {source} {dict(spread)}")
    queries = sum(counted["calls"] for counted in stack.method(PROFILE_TASKS).values())
    check(queries == sum(told[service]["handed"]["profile queries"] for service in SERVICES), "profile queries relayed")

    stack.assert_conserved()
    share = Counter({name: stack.counts(name)["messages"] for name in "abc"})
    say("all methods", **{f"collector-{name}": count for name, count in share.items()})
    stack.assert_shared("all methods", share, least=0.15)
    check(stack.snapshot()["received"] == sum(share.values()), "all of it arrived")
    stack.assert_ends_well()
