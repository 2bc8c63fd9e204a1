"""A program under the real SkyWalking Python agent: spans with logs, meters, heartbeats; says at the end what it sent.

Only the segments' ids are ours (SERVICE-N), so that the test can tell them apart.
"""

import json
import logging
import sys
import time
from collections import Counter

from skywalking import config, profile

backend, service, instance, segments = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
config.init(
    agent_collector_backend_services=backend,
    agent_protocol="grpc",
    agent_name=service,
    agent_instance_name=instance,
    agent_logging_level="ERROR",
    agent_log_reporter_active=True,
    agent_log_reporter_level="INFO",
    agent_meter_reporter_active=True,
    agent_meter_reporter_period=1,
    agent_profile_active=True,
)

# The agent reads its config when it is imported, and its client binds the profiler then.
profile.init()
from skywalking.agent import agent  # noqa: E402
from skywalking.client import grpc as client  # noqa: E402
from skywalking.trace.context import get_context  # noqa: E402

handed = Counter()
failed = Counter()


def count_stream(owner, name):
    """Counts what the agent hands to gRPC, without changing it."""
    report = owner.report

    def counted(self, messages):
        def each():
            for message in messages:
                handed[name] += 1
                yield message

        handed[f"{name} streams"] += 1
        try:
            report(self, each())
        except Exception:
            failed[name] += 1
            raise

    owner.report = counted


def count_call(owner, method, name):
    call = getattr(owner, method)

    def counted(self):
        handed[name] += 1
        try:
            call(self)
        except Exception:
            failed[name] += 1
            raise

    setattr(owner, method, counted)


count_stream(client.GrpcTraceSegmentReportService, "segments")
count_stream(client.GrpcLogDataReportService, "logs")
count_stream(client.GrpcMeterReportService, "meters")
count_call(client.GrpcServiceManagementClient, "send_instance_props", "properties")
count_call(client.GrpcServiceManagementClient, "send_heart_beat", "heartbeats")
count_call(client.GrpcProfileTaskChannelService, "do_query", "profile queries")

agent.start()
log = logging.getLogger("shop")
log.setLevel(logging.INFO)
for n in range(segments):
    context = get_context()
    with context.new_entry_span(op=f"{service}-{n}"):
        context.segment.segment_id.value = f"{service}-{n}"
        log.info("order %d", n)
    time.sleep(0.02)
# Streams stay open for up to a second after the last message; the agent does not wait for them.
time.sleep(2.5)
agent.stop()
time.sleep(1.5)
print(json.dumps({"handed": handed, "failed": failed}), flush=True)
