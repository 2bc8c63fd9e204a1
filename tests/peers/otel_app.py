"""A program under the real OpenTelemetry SDK: traces through several services, with logs and metrics, sent with gzip.

At the end it says what it handed to the exporters, id by id, and what they answered.
"""

import json
import logging
import sys
import time
from collections import Counter

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

endpoint, traces, services = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
SCHEMA = "https://opentelemetry.io/schemas/1.30.0"
BATCHES = {"max_export_batch_size": 64, "schedule_delay_millis": 100}

handed = {"spans": [], "logs": [], "points": []}
answers = {"spans": Counter(), "logs": Counter(), "points": Counter()}


def counted(exporter, signal, ids=lambda batch: []):
    """The exporter itself; its results are counted, and what `ids` finds in a batch."""

    class Counted(exporter):
        def export(self, batch, *arguments, **options):
            handed[signal].extend(ids(batch))
            result = super().export(batch, *arguments, **options)
            answers[signal][result.name] += 1
            return result

    return Counted(endpoint=endpoint, insecure=True, compression=grpc.Compression.Gzip)


def points(batch):
    for resource in batch.resource_metrics:
        service = resource.resource.attributes["service.name"]
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    yield f"{metric.name} {point.attributes['step']} {point.time_unix_nano}", service


class Service:
    def __init__(self, name):
        self.name = name
        resource = Resource({"service.name": name, "deployment.environment": "peers"}, SCHEMA)
        self.spans = TracerProvider(resource=resource)
        exporter = counted(OTLPSpanExporter, "spans")
        self.spans.add_span_processor(BatchSpanProcessor(exporter, **BATCHES))
        self.logs = LoggerProvider(resource=resource)
        exporter = counted(OTLPLogExporter, "logs")
        self.logs.add_log_record_processor(BatchLogRecordProcessor(exporter, **BATCHES))
        exporter = counted(OTLPMetricExporter, "points", points)
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=100)
        self.metrics = MeterProvider(resource=resource, metric_readers=[reader])
        self.tracer = self.spans.get_tracer("shop", "1.2", schema_url=SCHEMA)
        self.logger = self.logs.get_logger("shop", "1.2", schema_url=SCHEMA)
        meter = self.metrics.get_meter("shop", "1.2", schema_url=SCHEMA)
        self.orders = meter.create_counter("orders")
        self.seconds = meter.create_histogram("seconds")

    def step(self, n, further):
        """One span, its log and its samples; the services after it come inside."""
        with self.tracer.start_as_current_span(f"order {n}") as span:
            context = span.get_span_context()
            span_id, trace_id = trace.format_span_id(context.span_id), trace.format_trace_id(context.trace_id)
            handed["spans"].append([span_id, self.name, trace_id])
            log = f"{self.name} has order {n}"
            handed["logs"].append([log, self.name])
            self.logger.emit(body=log, attributes={"n": n})
            self.orders.add(1, {"step": n % 8})
            self.seconds.record(n / 1000, {"step": n % 8})
            if further:
                further[0].step(n, further[1:])

    def end(self):
        for provider in (self.spans, self.logs, self.metrics):
            provider.shutdown()


# The SDK logs why an export failed, and whatever else goes wrong in it.
logging.basicConfig(level=logging.WARNING)
shop = [Service(name) for name in services]
for n in range(traces):
    at = n % len(shop)
    shop[at].step(n, shop[at + 1 :] + shop[:at])
    # Long enough for metrics to be collected a dozen times.
    time.sleep(0.004)
for service in shop:
    service.end()
print(json.dumps({"handed": handed, "answers": answers}), flush=True)
