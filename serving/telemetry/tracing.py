"""Sends requests as OpenTelemetry spans to a collector. Imported only if the settings name a collector."""

import time
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import hybrid
from serving.types import Timings

PATH = "/v1/traces"
"""The path at which a collector accepts spans (OTLP over HTTP)."""
NANO = 1_000_000_000
SEND_WITHIN_MS = 2_000
WAIT_FOR_COLLECTOR_S = 5.0


class Tracing:
    """Spans of requests and their stages. A separate thread sends them; they are lost if no collector accepts them."""

    def __init__(self, url: str) -> None:
        """Send to the collector at `url`. The SDK's environment variables apply, such as OTEL_TRACES_SAMPLER."""
        endpoint = url if url.rstrip("/").endswith(PATH) else url.rstrip("/") + PATH
        resource = Resource.create({"service.name": "hybrid", "service.version": hybrid.__version__})
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=WAIT_FOR_COLLECTOR_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=SEND_WITHIN_MS))
        self._tracer = self._provider.get_tracer("serving")
        self._propagator = TraceContextTextMapPropagator()

    def start(self, method: str, path: str, headers: Mapping[str, str], request_id: str) -> Span:
        """Start the span of a request that has just arrived, under the parent that its `traceparent` names."""
        return self._tracer.start_span(
            method,
            context=self._propagator.extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.path": path, "request.id": request_id},
        )

    def answered(self, span: Span, route: str, timings: Timings) -> None:
        """Add a child span for each stage of a request that was just answered, one after the other."""
        _name(span, route)
        stages = timings.by_stage()
        start = time.time_ns() - round(sum(stages.values()) * NANO)
        for name, seconds in stages.items():
            end = start + round(seconds * NANO)
            if seconds:
                self._tracer.start_span(name, context=set_span_in_context(span), start_time=start).end(end)
            start = end

    def refused(self, span: Span, route: str, kind: str, status: int) -> None:
        """Record why a request got no answer; the span is an error only if the service failed."""
        _name(span, route)
        span.set_attribute("error.type", kind)
        if status >= 500:
            span.set_status(StatusCode.ERROR, kind)

    def close(self) -> None:
        """Send the remaining spans."""
        self._provider.shutdown()


def _name(span: Span, route: str) -> None:
    """Name the span after its route, since paths contain the names of models and are too many."""
    span.update_name(route)
    span.set_attribute("http.route", route)
