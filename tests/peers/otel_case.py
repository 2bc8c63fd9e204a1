"""The OpenTelemetry SDK's exporters send traces, logs and metrics with gzip to port 11800."""

import json
from collections import Counter
from contextlib import ExitStack

from stack import VENV, Stack, check, check_each_once, http, need, say

SERVICES = ("shop", "cart", "stock", "till", "post")
TRACES = 300
BACKENDS = ("a", "b", "c")
PREFIX = "/opentelemetry.proto.collector."
TRACES_PATH = PREFIX + "trace.v1.TraceService/Export"
LOGS_PATH = PREFIX + "logs.v1.LogsService/Export"
METRICS_PATH = PREFIX + "metrics.v1.MetricsService/Export"
APP = str(__file__).replace("_case.py", "_app.py")
SCHEMA = "https://opentelemetry.io/schemas/1.30.0"
RESOURCE = {"deployment.environment": "peers"}


def run():
    need("otel", "grpcio")
    with ExitStack() as ends:
        receivers = [ends.enter_context(receiver(name)) for name in BACKENDS]
        with Stack(backends=lambda _: [each.port for each in receivers]) as stack:
            converse(stack, receivers)


def receiver(name):
    """An OTLP receiver made of OpenTelemetry's own generated modules, which knows every span, record and point."""
    import grpc
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
    from receiver import Receiver

    def export(request, response, ids):
        def answer(message, _context):
            found.saw(ids(message))
            found.saw({"bytes": message.ByteSize()})
            return response()

        return grpc.unary_unary_rpc_method_handler(answer, request.FromString, response.SerializeToString)

    found = Receiver(
        name,
        {
            TRACES_PATH: export(traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse, spans_of),
            LOGS_PATH: export(logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse, records_of),
            METRICS_PATH: export(metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse, points_of),
        },
    )
    return found


def wrapped(resource, scope):
    """What stands around an item, as far as anybody set it; a gateway that cuts requests has to say it again."""
    attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
    service = attributes.pop("service.name", "")
    whole = (attributes, scope.scope.name, scope.scope.version) == (RESOURCE, "shop", "1.2")
    return service if whole and {resource.schema_url, scope.schema_url} == {SCHEMA} else f"{service}, torn off"


def spans_of(request):
    return [
        ("spans", span.span_id.hex(), wrapped(resource, scope), span.trace_id.hex())
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def records_of(request):
    return [
        ("logs", record.body.string_value, wrapped(resource, scope))
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def points_of(request):
    return [
        ("points", f"{metric.name} {step(point)} {point.time_unix_nano}", wrapped(resource, scope))
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in getattr(metric, metric.WhichOneof("data")).data_points
    ]


def step(point):
    return point.attributes[0].value.int_value


def converse(stack, receivers):
    command = [str(VENV / "bin" / "python"), APP, f"http://127.0.0.1:{stack.agents}", str(TRACES), ",".join(SERVICES)]
    app = stack.start("otel", command)
    check(app.wait(timeout=90) == 0, f"the app ended with {app.returncode}")
    told = json.loads(stack.said("otel").strip().splitlines()[-1])
    for kind, answers in told["answers"].items():
        say(f"exporters of {kind}", handed=len(told["handed"][kind]), **answers)
        check(set(answers) == {"SUCCESS"}, f"{kind}: exports failed: {answers}; {stack.said('otel', 'err')[-500:]}")
    check(len(told["handed"]["spans"]) == TRACES * len(SERVICES), "every service has a span in every trace")

    assert_each_once(told["handed"], receivers)
    requests = sum(sum(answers.values()) for answers in told["answers"].values())
    stack.assert_conserved()
    check(stack.snapshot()["received"] == requests, f"{requests} requests, {stack.snapshot()['received']} received")
    assert_gzipped(stack, receivers)
    stack.assert_ends_well()


def assert_each_once(handed, receivers):
    """The exporters have their answers, so everything has arrived: each once, wrapped in what it was wrapped in."""
    from receiver import together

    times, where = together(receivers)
    found = {item: count for item, count in times.items() if isinstance(item, tuple)}
    expected = {(kind, *item) for kind, items in handed.items() for item in items}
    check(len(expected) == sum(len(items) for items in handed.values()), "ids are given once")
    check_each_once("items", expected, found)
    for kind in handed:
        spread = Counter(name for item, names in where.items() if item[0] == kind for name in names)
        say(f"{kind} arrived once", **{f"receiver-{name}": spread[name] for name in BACKENDS})
        for name in BACKENDS:
            enough = kind == "points" or spread[name] >= 0.1 * spread.total()
            check(enough, f"receiver-{name} got hardly any {kind}: {spread}")


def assert_gzipped(stack, receivers):
    """By the gateway's own count, less came over the wire than was decoded. Much of it is ids, which do not shrink."""
    lines = http(stack.prometheus, "/metrics").splitlines()
    wire = sum(int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("switchyard_received_bytes_total{"))
    decoded = sum(receiver.count()["bytes"] for receiver in receivers)
    say("bytes", received=wire, decoded=decoded)
    check(0 < wire < 0.75 * decoded, "the exporters were told to use gzip")
