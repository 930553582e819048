"""What Prometheus scrapes."""

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
CONFIDENCES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
MAX_NAMES = 100
"""Values that one label of a metric takes; more share "other", so that no caller can fill the memory."""
BREAKER_STATES = ("closed", "half-open", "open")
ENGINE_STATES = ("starting", "ready", "dead", "hung")


class Metrics:
    """All metrics, in a registry of their own: two services in one process share none."""

    def __init__(self) -> None:
        """Register every metric."""
        # A second series for each, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        own.register(ChildrenCollector())
        self._requests = Counter("hybrid_requests", "Requests by route and status.", ["route", "status"], registry=own)
        self._replies = Counter("hybrid_http_replies", "Every reply, whatever the route.", ["status"], registry=own)
        self._refusals = Counter("hybrid_refusals", "Requests without an answer by reason.", ["kind"], registry=own)
        self._seconds = Histogram(
            "hybrid_request_seconds", "From request to reply.", ["route"], buckets=SECONDS, registry=own
        )
        self._stage = {
            name: Histogram(f"hybrid_{name}_seconds", says, buckets=SECONDS, registry=own)
            for name, says in {
                "tokenise": "Tokenising the texts of a request.",
                "queue": "Waiting for the engine.",
                "inference": "In the engine.",
                "escalation": "Waiting for the decoder, by request; only those that escalate.",
                "decoder": "One question to the decoder.",
                "batch": "One call of the engine.",
            }.items()
        }
        self._batch_texts = Histogram(
            "hybrid_batch_texts", "Texts of a batch.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=own
        )
        self._batch_tokens = Histogram("hybrid_batch_tokens", "Padded tokens of a batch.", buckets=TOKENS, registry=own)
        self._padding = Histogram(
            "hybrid_padding_ratio",
            "Padded tokens of a batch by its own tokens; 1 is no padding.",
            buckets=(1.0, 1.05, 1.1, 1.2, 1.5, 2, 4),
            registry=own,
        )
        self._answers = Counter(
            "hybrid_answers", "Texts answered, by status and source.", ["status", "source"], registry=own
        )
        self._confidence = Histogram(
            "hybrid_confidence", "Of the encoder, by its label.", ["label"], buckets=CONFIDENCES, registry=own
        )
        self._truncated = Counter("hybrid_truncated_texts", "Texts that were not read whole.", registry=own)
        self._escalations = Counter("hybrid_escalations", "Questions to the decoder.", ["outcome"], registry=own)
        self._usd = Counter("hybrid_escalation_usd", "What the decoder has cost.", registry=own)
        self._breaker = Gauge("hybrid_breaker", "1 for the state it is in.", ["state"], registry=own)
        self._engine = Gauge("hybrid_engine", "1 for the state it is in.", ["state"], registry=own)
        self._engine_failures = Counter("hybrid_engine_failures", "Engines replaced.", ["state"], registry=own)
        self._bundle = Info("hybrid_bundle", "The bundle that serves.", registry=own)
        self._swaps = Counter(
            "hybrid_bundle_swaps",
            "Bundles that began to serve, the first one included, and those refused.",
            ["outcome"],
            registry=own,
        )
        self._drift = {
            name: Gauge(f"hybrid_drift_{name}", (statistic.__doc__ or name).splitlines()[0], ["quantity"], registry=own)
            for name, statistic in STATISTICS.items()
        }
        self._alarm = Gauge("hybrid_drift_alarm", "1 where it moved.", ["quantity"], registry=own)
        self._confidence_of: dict[str, Histogram] = {}  # a look-up by label costs more than the count
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
            seen = self._confidence_of.get(answer.encoder_label)
            if seen is None:
                seen = self._confidence.labels(self._known("label", answer.encoder_label))
                if len(self._confidence_of) < MAX_NAMES:
                    self._confidence_of[answer.encoder_label] = seen
            seen.observe(answer.encoder_confidence)

    def refused(self, route: str, kind: str, status: int) -> None:
        """Count a request that got no answer."""
        self._requests.labels(self._known("route", route), str(status)).inc()
        self._refusals.labels(kind).inc()

    def replied(self, status: int) -> None:
        """Count a reply, those to requests that never reached the service included."""
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

    def bundle_is(self, bundle: Bundle, bundle_id: str) -> None:
        """Show the bundle; the metrics of the previous one start anew."""
        self._bundle.info(
            {"id": bundle_id, "name": bundle.name, "encoder": bundle.encoder, "precision": bundle.precision}
        )
        self._names["label"] = set(bundle.labels[:MAX_NAMES])
        self._confidence_of.clear()
        for metric in (self._confidence, *self._drift.values(), self._alarm):
            metric.clear()

    def drift_is(self, found: Sequence[Drift]) -> None:
        """Show the result of the last drift check."""
        for drift in found:
            for name, value in drift.statistics.items():
                self._drift[name].labels(drift.quantity).set(value)
            self._alarm.labels(drift.quantity).set(drift.alarm)

    def render(self) -> bytes:
        """Return the text format of Prometheus."""
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
    """Looks when it is asked; shows nothing where there is no `/proc`."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the resident memory of all children together."""
        resident = resident_of_children(os.getpid())
        if resident is not None:
            yield GaugeMetricFamily(
                "hybrid_children_resident_memory_bytes", "Of the engine and other children.", value=resident
            )


def resident_of_children(pid: int, proc: Path = PROC) -> int | None:
    """Return the bytes of memory that the children of a process hold; None where the system does not say."""
    try:
        threads = list((proc / str(pid) / "task").iterdir())
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
        pages = [int((proc / child / "statm").read_text().split()[1]) for child in children]
    except (OSError, IndexError):  # a child that ended in between: the next look is right
        return None
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")
