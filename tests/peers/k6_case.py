"""k6 and grpcurl push client streams to a service that only the config file knows."""

import json
import os
import subprocess
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from stack import VENV, Stack, check, check_each_once, need, say, until

PUSH = "/shop.v1.Telemetry/Push"
CONFIG = f"""
methods:
  - path: {PUSH}
    flow: metrics
    split: carry
    carry: {{ fields: ["1"], mode: latest }}
"""
BACKENDS = ("a", "b", "c")
USERS, STREAMS_EACH, SAMPLES = 8, 5, 200
HERE = Path(__file__).parent


def run():
    need("k6", "grpcurl", "grpcio", "protoc")
    with ExitStack() as ends:
        receivers = [ends.enter_context(receiver(name)) for name in BACKENDS]
        with Stack(backends=lambda _: [each.port for each in receivers], config=CONFIG) as stack:
            converse(stack, receivers)


def receiver(name):
    """Serves Push as its owner would: the source that a stream said last holds for what comes after it."""
    import grpc
    from receiver import Receiver

    shop = grpc.protos("shop.proto")

    def push(samples, _context):
        source, items = "nobody", []
        for sample in samples:
            source = sample.source or source
            items.append((source, sample.seq, len(sample.text)))
        found.saw(items)
        return shop.Receipt(samples=len(items))

    handler = grpc.stream_unary_rpc_method_handler(push, shop.Sample.FromString, shop.Receipt.SerializeToString)
    found = Receiver(name, {PUSH: handler})
    return found


def converse(stack, receivers):
    from receiver import together

    samples = USERS * STREAMS_EACH * SAMPLES
    by_k6(stack, samples)
    by_grpcurl(stack)

    sources = [f"k6-{user}-{n}" for user in range(1, USERS + 1) for n in range(STREAMS_EACH)] + ["grpcurl"]
    expected = {(source, seq, seq % 200) for source in sources for seq in range(SAMPLES)}
    # The gateway answers once it has everything; the receivers have it within a trip.
    until(10, "everything is delivered", lambda: stack.snapshot()["held"] == 0)
    times, where = together(receivers)
    check_each_once("samples", expected, times)
    spread = Counter(name for names in where.values() for name in names)
    say("samples arrived once", sent=len(expected), **{f"receiver-{name}": spread[name] for name in BACKENDS})
    for name in BACKENDS:
        check(spread[name] >= 0.1 * len(expected), f"receiver-{name} got hardly any samples: {spread}")
    met = {source: {name for item, names in where.items() if item[0] == source for name in names} for source in sources}
    check(sum(len(names) > 1 for names in met.values()) > len(sources) / 2, f"streams were pinned to receivers: {met}")
    stack.assert_conserved()
    check(stack.snapshot()["received"] == len(expected), "all of it went through the gateway")
    stack.assert_ends_well()


def by_k6(stack, samples):
    # Without an address it opens no port of its own.
    script = [str(VENV / "bin" / "k6"), "run", "--quiet", "--no-usage-report", "--address", ""]
    script.append(str(HERE / "k6_push.js"))
    say_to = {"GATEWAY": f"127.0.0.1:{stack.agents}", "PROTOS": str(HERE)}
    say_to |= {"USERS": str(USERS), "STREAMS_EACH": str(STREAMS_EACH), "SAMPLES": str(SAMPLES)}
    k6 = stack.start("k6", script, env={**os.environ, **say_to})
    check(k6.wait(timeout=90) == 0, f"k6 ended with {k6.returncode}")
    told = json.loads(stack.said("k6").strip().splitlines()[-1])
    say("k6", **told)
    streams = USERS * STREAMS_EACH
    # The gateway answers once it has everything: what a receipt would count is known to no single receiver.
    right = {"sent": samples, "receipts": streams, "acknowledged": 0, "failures": 0}
    check(told == right, f"k6 was told {told} instead of {right}; {stack.said('k6', 'err')[-500:]}")


def by_grpcurl(stack):
    command = [str(VENV / "bin" / "grpcurl"), "-plaintext", "-max-time", "10", "-import-path", str(HERE)]
    command += ["-proto", "shop.proto", "-d", "@", f"127.0.0.1:{stack.agents}", "shop.v1.Telemetry/Push"]
    samples = [{"seq": seq, "text": "x" * (seq % 200)} for seq in range(SAMPLES)]
    samples[0]["source"] = "grpcurl"
    lines = "\n".join(json.dumps(sample) for sample in samples)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=30)
    check(done.returncode == 0, f"grpcurl: {done.stdout}{done.stderr}")
    check(json.loads(done.stdout) == {}, f"grpcurl was told {done.stdout}")
    say("grpcurl", **json.loads(done.stdout))
