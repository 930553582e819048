"""The metrics of the service, in the format that Prometheus scrapes."""

import os
from collections import Counter as Counted
from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from hybrid.runtime.bundle import Bundle
from serving.telemetry.drift import STATISTICS, Drift
from serving.types import Answer, Timings

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 120)
TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
BATCH_TEXTS = (1, 2, 4, 8, 16, 32, 64)
PADDING_RATIOS = (1.0, 1.05, 1.1, 1.2, 1.5, 2, 4)
CONFIDENCES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
STAGES = {
    "tokenise": "Seconds that a request spent in tokenisation.",
    "queue": "Seconds that a request waited for the engine.",
    "inference": "Seconds that a request spent in the engine.",
    "escalation": "Seconds that a request waited for the decoder; only requests that escalate.",
    "decoder": "Seconds of one question to the decoder.",
    "batch": "Seconds of one call of the engine.",
}
"""What takes time, each with a histogram `hybrid_NAME_seconds`."""
MAX_NAMES = 100
"""The most values of one label of a metric; further values share "other", so that no caller can exhaust memory."""
BREAKER_STATES = ("closed", "half-open", "open")
ENGINE_STATES = ("starting", "ready", "dead", "hung")


class _Registry(CollectorRegistry):
    """Registers metrics as they are made, each with the names of its labels."""

    def counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self)

    def gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(name, about, labels, registry=self)

    def histogram(self, name: str, about: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, about, labels, buckets=buckets, registry=self)


class Metrics:
    """All metrics, in a registry of their own, so that two services in one process share none."""

    def __init__(self) -> None:
        """Register every metric."""
        # They would be a second series for each counter, which nothing here uses.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = _Registry()
        ProcessCollector(registry=registry)
        registry.register(ChildrenCollector())
        counter, gauge, histogram = registry.counter, registry.gauge, registry.histogram
        self._requests = counter("hybrid_requests", "Requests, by route and status.", "route", "status")
        self._replies = counter(
            "hybrid_http_replies", "HTTP replies, by status, including those to requests without a route.", "status"
        )
        self._refusals = counter("hybrid_refusals", "Requests without an answer, by reason.", "kind")
        self._seconds = histogram("hybrid_request_seconds", "Seconds from request to reply.", SECONDS, "route")
        self._stage = {name: histogram(f"hybrid_{name}_seconds", about, SECONDS) for name, about in STAGES.items()}
        self._batch_texts = histogram("hybrid_batch_texts", "Texts per batch.", BATCH_TEXTS)
        self._batch_tokens = histogram("hybrid_batch_tokens", "Padded tokens per batch.", TOKENS)
        self._padding = histogram(
            "hybrid_padding_ratio",
            "Padded tokens of a batch divided by its unpadded tokens; 1 means no padding.",
            PADDING_RATIOS,
        )
        self._answers = counter("hybrid_answers", "Texts answered, by status and source.", "status", "source")
        self._confidence = histogram(
            "hybrid_confidence", "The encoder's confidence, by the label it predicts.", CONFIDENCES, "label"
        )
        self._truncated = counter("hybrid_truncated_texts", "Texts that were truncated.")
        self._escalations = counter("hybrid_escalations", "Questions to the decoder, by outcome.", "outcome")
        self._usd = counter("hybrid_escalation_usd", "The cost of the decoder in USD.")
        self._breaker = gauge(
            "hybrid_breaker", "1 for the current state of the circuit breaker, 0 for the others.", "state"
        )
        self._engine = gauge("hybrid_engine", "1 for the current state of the engine, 0 for the others.", "state")
        self._engine_failures = counter(
            "hybrid_engine_failures", "Engines that were replaced, by the state they were in.", "state"
        )
        self._bundle = Info("hybrid_bundle", "The bundle that is being served.", registry=registry)
        self._swaps = counter(
            "hybrid_bundle_swaps", "Hot swaps, by outcome; the first bundle counts as one.", "outcome"
        )
        self._drift = {
            name: gauge(f"hybrid_drift_{name}", (statistic.__doc__ or name).splitlines()[0], "quantity")
            for name, statistic in STATISTICS.items()
        }
        self._alarm = gauge("hybrid_drift_alarm", "1 if the quantity has drifted.", "quantity")
        # Caches the children, because finding one by its label costs more than counting.
        self._confidence_of: dict[str, Histogram] = {}
        self._names: dict[str, set[str]] = {"route": set(), "label": set()}
        _set_state(self._breaker, "closed", BREAKER_STATES)
        _set_state(self._engine, "starting", ENGINE_STATES)

    def answered(self, route: str, answers: Sequence[Answer], timings: Timings, seconds: float) -> None:
        """Count a request that was answered."""
        route = self._known("route", route)
        self._requests.labels(route, "200").inc()
        self._seconds.labels(route).observe(seconds)
        self._stage["tokenise"].observe(timings.tokenise_s)
        self._stage["queue"].observe(timings.queue_s)
        self._stage["inference"].observe(timings.inference_s)
        if timings.escalation_s:
            self._stage["escalation"].observe(timings.escalation_s)
        for (status, source), n_texts in Counted((answer.status, answer.source) for answer in answers).items():
            self._answers.labels(status, source).inc(n_texts)
        self._truncated.inc(sum(answer.truncated for answer in answers))
        for answer in answers:
            histogram = self._confidence_of.get(answer.encoder_label)
            if histogram is None:
                histogram = self._confidence.labels(self._known("label", answer.encoder_label))
                if len(self._confidence_of) < MAX_NAMES:
                    self._confidence_of[answer.encoder_label] = histogram
            histogram.observe(answer.encoder_confidence)

    def refused(self, route: str, kind: str, status: int) -> None:
        """Count a request that got no answer."""
        self._requests.labels(self._known("route", route), str(status)).inc()
        self._refusals.labels(kind).inc()

    def replied(self, status: int) -> None:
        """Count a reply, even if its request never reached the service."""
        self._replies.labels(str(status)).inc()

    def batch_ran(self, n_texts: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Count a call of the engine."""
        self._batch_texts.observe(n_texts)
        self._batch_tokens.observe(padded_tokens)
        self._padding.observe(padded_tokens / max(1, tokens))
        self._stage["batch"].observe(seconds)

    def escalation_ended(self, outcome: str, seconds: float, cost_usd: float | None) -> None:
        """Count a question to the decoder."""
        self._escalations.labels(outcome).inc()
        if outcome in ("answered", "undecided", "failed"):
            self._stage["decoder"].observe(seconds)
        self._usd.inc(cost_usd or 0.0)

    def breaker_changed(self, state: str) -> None:
        """Show the state of the breaker."""
        _set_state(self._breaker, state, BREAKER_STATES)

    def engine_changed(self, state: str) -> None:
        """Show the state of the engine, and count its failures."""
        _set_state(self._engine, state, ENGINE_STATES)
        if state in ("dead", "hung"):
            self._engine_failures.labels(state).inc()

    def swapped(self, *, refused: bool) -> None:
        """Count a hot swap."""
        self._swaps.labels("refused" if refused else "done").inc()

    def bundle_is(self, bundle: Bundle, bundle_id: str, engine: str, precision: str) -> None:
        """Show the bundle that is being served, and reset the metrics that belonged to the previous one."""
        self._bundle.info(
            {
                "id": bundle_id,
                "name": bundle.name,
                "encoder": bundle.encoder,
                "precision": precision,
                "engine": engine,
            }
        )
        self._names["label"] = set(bundle.labels[:MAX_NAMES])
        self._confidence_of.clear()
        for metric in (self._confidence, *self._drift.values(), self._alarm):
            metric.clear()

    def drift_is(self, drifts: Sequence[Drift]) -> None:
        """Show the result of the last drift check."""
        for drift in drifts:
            for name, value in drift.statistics.items():
                self._drift[name].labels(drift.quantity).set(value)
            self._alarm.labels(drift.quantity).set(drift.alarm)

    def render(self) -> bytes:
        """Render all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _known(self, kind: str, name: str) -> str:
        names = self._names[kind]
        if name not in names:
            if len(names) >= MAX_NAMES:
                return "other"
            names.add(name)
        return name


def _set_state(gauge: Gauge, state: str, states: Sequence[str]) -> None:
    for name in states:
        gauge.labels(name).set(name == state)


PROC = Path("/proc")


class ChildrenCollector(Collector):
    """Measures the memory of the child processes at each scrape; yields nothing on systems without `/proc`."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the total resident memory of all children."""
        resident = resident_of_children(os.getpid())
        if resident is not None:
            yield GaugeMetricFamily(
                "hybrid_children_resident_memory_bytes",
                "Resident memory of the engine and all other child processes.",
                value=resident,
            )


def resident_of_children(pid: int, proc: Path = PROC) -> int | None:
    """Measure the resident memory of a process's children in bytes; None if the system does not report it."""
    try:
        threads = list((proc / str(pid) / "task").iterdir())
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
        pages = [int((proc / child / "statm").read_text().split()[1]) for child in children]
    except (OSError, IndexError):  # a child ended in between: the next scrape is right
        return None
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")
