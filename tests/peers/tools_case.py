"""What operators type: reflection and health by grpcurl and grpcio, and the words a wrong port gets."""

import subprocess

from stack import VENV, Skipped, Stack, check, need, say

SEGMENTS = "/skywalking.v3.TraceSegmentReportService/collect"
ACCESS_LOGS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
LISTED = ("grpc.health.v1.Health", "skywalking.v3.TraceSegmentReportService", "envoy.service.metrics.v3.MetricsService")


def run():
    with Stack() as stack:
        missing = []
        for case in (by_grpcurl, by_grpcio):
            try:
                case(stack)
            except Skipped as why:
                print(f"SKIPPED: tools: {why}", flush=True)
                missing.append(why)
        if len(missing) == 2:
            raise Skipped("neither grpcurl nor grpcio is to be had")
        stack.assert_ends_well()


def by_grpcurl(stack):
    need("grpcurl")

    def grpcurl(port, *arguments):
        command = [str(VENV / "bin" / "grpcurl"), "-plaintext", "-max-time", "10"]
        command += [argument for argument in arguments if argument.startswith("-")]
        command += [f"127.0.0.1:{port}"] + [argument for argument in arguments if not argument.startswith("-")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        check(done.returncode == 0, f"grpcurl {arguments} on {port}: {done.stdout}{done.stderr}")
        return done.stdout

    for name, port in (("agents", stack.agents), ("access_logs", stack.access_logs), ("metrics", stack.metrics)):
        services = grpcurl(port, "list").split()
        say(f"grpcurl list on {name}", services=len(services))
        for service in LISTED:
            check(service in services, f"{service} is not listed on {name}: {services}")
        health = grpcurl(port, "grpc.health.v1.Health/Check")
        check('"status": "SERVING"' in health, f"health on {name}: {health}")
    described = grpcurl(stack.agents, "describe", "skywalking.v3.TraceSegmentReportService.collect")
    check("stream .skywalking.v3.SegmentObject" in described, described)
    say("grpcurl health and describe", three_listeners="SERVING")


def by_grpcio(stack):
    need("grpcio")
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    def call(port, path, expected):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = channel.stream_unary(path, request_serializer=bytes, response_deserializer=bytes)
            try:
                stub(iter([b""]), timeout=10)
            except grpc.RpcError as error:
                check(error.code() == expected, f"{path} on {port}: {error.code()} {error.details()}")
                return error.details()
        raise AssertionError(f"{path} on {port} was answered OK")

    with grpc.insecure_channel(f"127.0.0.1:{stack.agents}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        status = health.Check(health_pb2.HealthCheckRequest(), timeout=10).status
        check(status == health_pb2.HealthCheckResponse.SERVING, f"health {status}")
        watch = next(health.Watch(health_pb2.HealthCheckRequest(), timeout=10)).status
        check(watch == health_pb2.HealthCheckResponse.SERVING, f"health watch {watch}")
        say("grpcio health", check="SERVING", watch="SERVING")

    unimplemented = grpc.StatusCode.UNIMPLEMENTED
    wrong = [
        ("segments on access_logs", stack.access_logs, SEGMENTS, stack.agents),
        ("access logs on metrics", stack.metrics, ACCESS_LOGS, stack.access_logs),
    ]
    for what, port, path, right in wrong:
        words = call(port, path, unimplemented)
        say(what, answer=repr(words))
        check(str(right) in words, f"{what}: the answer does not name port {right}: {words!r}")
    words = call(stack.agents, "/shop.Orders/Watch", unimplemented)
    say("an unknown method", answer=repr(words))
    check("/shop.Orders/Watch" in words and "methods:" in words, f"the answer does not say what to do: {words!r}")
