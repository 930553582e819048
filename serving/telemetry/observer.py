"""The observer of the service: passes each event on to metrics, rolling window, drift detection, logs and traces."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hybrid.llm import backend_of
from hybrid.runtime.bundle import Bundle
from hybrid.runtime.calibration_reference import Reference
from hybrid.runtime.engines import DEFAULT_ENGINE
from hybrid.types import Precision
from serving.errors import OverloadedError, ServingError
from serving.http.middleware import RequestContext, current
from serving.settings import Settings
from serving.telemetry.drift import BLOCK, Drift, DriftMonitor
from serving.telemetry.logs import LogRateLimit, event
from serving.telemetry.metrics import Metrics
from serving.telemetry.rolling_window import RollingWindow, WindowFigures
from serving.types import Answer, Timings

if TYPE_CHECKING:
    from serving.telemetry.tracing import Tracing

LOGGED_CHARACTERS = 500
"""The most characters of each text in the log, if texts are logged."""
LOGGED_TEXTS = 20
"""The most texts of one request in the log: thousands of lines may wait for a slow reader."""
OVERLOAD_LINES_A_SECOND = 20
"""The most log lines a second about requests refused for overload; the metrics count all of them."""


class DriftState(msgspec.Struct, frozen=True, kw_only=True):
    """The result of the last drift check."""

    why_not: str
    """Why there is no result, as a sentence without its period; empty if there is a result."""
    n_recent: int
    found: tuple[Drift, ...]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the service, as the page polls it."""

    bundle: str
    engine: str
    breaker: str
    live: WindowFigures
    drift: DriftState


class BundleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows about the bundle in addition to its manifest."""

    bundle: str
    reference: Reference | None
    decoder: str | None
    """The model that decides escalated texts; None if there is no decoder."""


class Telemetry:
    """Implements `serving.interfaces.Observer` by passing each event on."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Set up as the settings say; `clock` gives the seconds of the rolling window."""
        self.metrics = Metrics()
        self.live = RollingWindow(clock)
        self.drift: DriftMonitor | None = None
        self.tracing = _tracing(settings.otlp)
        self._log_texts = settings.log_texts
        self._overload_lines = LogRateLimit(OVERLOAD_LINES_A_SECOND, clock)
        self._decoder = None if backend_of(settings.decoder).is_absent else settings.decoder.model
        self._bundle_id = ""
        self._reference: Reference | None = None
        self._engine = "starting"
        self._breaker = "closed"
        self._alarms: frozenset[str] = frozenset()

    def set_bundle(
        self, bundle: Bundle, bundle_id: str, engine: str = DEFAULT_ENGINE, precision: Precision = ""
    ) -> None:
        """Compare texts with this bundle's calibration rows from now on; called before its first answer.

        `precision` is what the engine computes in; empty: that of the graph.
        """
        self._bundle_id = bundle_id
        self._alarms = frozenset()
        self._reference = bundle.reference
        self.drift = DriftMonitor(bundle, bundle.reference) if bundle.reference else None
        self.metrics.bundle_is(bundle, bundle_id, engine, precision or bundle.precision)

    def answered(
        self, route: str, answers: Sequence[Answer], timings: Timings, seconds: float, texts: Sequence[str] = ()
    ) -> None:
        """Record a request that was answered."""
        self.metrics.answered(route, answers, timings, seconds)
        self.live.answered(answers, seconds)
        # Drift ignores answers of the previous bundle, and those of the decoder alone, which have no tokens.
        encoder_answers = [answer for answer in answers if answer.tokens and answer.bundle_id == self._bundle_id]
        if self.drift and self.drift.note(encoder_answers):
            self._report_drift(self.drift.drifts)
        request = current()
        if request and request.span and self.tracing:
            self.tracing.answered(request.span, route, timings)
        event(
            logging.INFO,
            "answered",
            request_id=request.request_id if request else "",
            route=route,
            status=200,
            seconds=round(seconds, 6),
            n_texts=len(answers),
            n_escalated=sum(answer.status == "escalated" for answer in answers),
            n_truncated=sum(answer.truncated for answer in answers),
            bundle=self._bundle_id,
            **{f"{stage}_s": round(stage_s, 6) for stage, stage_s in timings.by_stage().items()},
            **({"texts": [text[:LOGGED_CHARACTERS] for text in texts[:LOGGED_TEXTS]]} if self._log_texts else {}),
        )

    def refused(self, route: str, error: ServingError, seconds: float) -> None:
        """Record a request that was not answered."""
        self.metrics.refused(route, error.kind, error.status)
        self.live.refused()
        request = current()
        if request and request.span and self.tracing:
            self.tracing.refused(request.span, route, error.kind, error.status)
        is_overload = error.status == OverloadedError.status
        if is_overload and not self._overload_lines.passes():
            return
        # The message may quote the text, so only its kind is logged.
        event(
            logging.ERROR if error.status >= 500 else logging.INFO,
            "refused",
            request_id=request.request_id if request else "",
            route=route,
            status=error.status,
            kind=error.kind,
            seconds=round(seconds, 6),
            **({"n_unlogged_before": self._overload_lines.take_dropped()} if is_overload else {}),
        )

    def batch_ran(self, n_texts: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Record one call of the engine."""
        self.metrics.batch_ran(n_texts, tokens, padded_tokens, seconds)

    def escalation_ended(self, outcome: str, seconds: float, cost_usd: float | None) -> None:
        """Record one question to the decoder."""
        self.metrics.escalation_ended(outcome, seconds, cost_usd)

    def breaker_changed(self, state: str) -> None:
        """Record the state of the circuit breaker."""
        self._breaker = state
        self.metrics.breaker_changed(state)
        event(logging.WARNING if state == "open" else logging.INFO, "breaker", state=state)

    def engine_changed(self, state: str, reason: str = "") -> None:
        """Record the state of the engine."""
        self._engine = state
        self.metrics.engine_changed(state)
        event(logging.ERROR if state in ("dead", "hung") else logging.INFO, "engine", state=state, reason=reason)

    def bundle_changed(self, bundle_id: str, *, refused: str = "") -> None:
        """Record a hot swap."""
        self.metrics.swapped(refused=bool(refused))
        event(logging.ERROR if refused else logging.INFO, "bundle", bundle=bundle_id, refused=refused)

    def state(self) -> State:
        """Collect the state that the page shows."""
        return State(
            bundle=self._bundle_id,
            engine=self._engine,
            breaker=self._breaker,
            live=self.live.numbers(),
            drift=DriftState(
                why_not=self._why_no_drift(),
                n_recent=self.drift.n_recent if self.drift else 0,
                found=self.drift.drifts if self.drift else (),
            ),
        )

    def routes(self) -> list[Route]:
        """Build /metrics for Prometheus, and /v1/watch and /v1/watch/reference for the page."""

        async def metrics(_: Request) -> Response:
            return Response(self.metrics.render(), media_type="text/plain; version=0.0.4")

        async def state(_: Request) -> Response:
            return _json(self.state())

        async def reference(_: Request) -> Response:
            return _json(BundleFacts(bundle=self._bundle_id, reference=self._reference, decoder=self._decoder))

        return [Route("/metrics", metrics), Route("/v1/watch", state), Route("/v1/watch/reference", reference)]

    def attach(self, app: Starlette) -> None:
        """Wrap an application, outside of all its middleware, so that each request has its context."""
        app.add_middleware(
            RequestContext, on_reply=self.metrics.replied, start_span=self.tracing.start if self.tracing else None
        )

    def close(self) -> None:
        """Send the remaining traces."""
        if self.tracing:
            self.tracing.close()

    def _why_no_drift(self) -> str:
        if not self.drift:
            return "This bundle has no record of its calibration rows; calibrate it again"
        return "" if self.drift.drifts else f"Not enough data yet ({BLOCK} texts needed)"

    def _report_drift(self, drifts: Sequence[Drift]) -> None:
        """Update the metrics, and log which alarms began and ended since the last check."""
        self.metrics.drift_is(drifts)
        alarms = frozenset(drift.quantity for drift in drifts if drift.alarm)
        for drift in drifts:
            if drift.quantity in alarms - self._alarms:
                event(logging.WARNING, "drift", quantity=drift.quantity, psi=round(drift.psi, 4), says=drift.says)
        for quantity in self._alarms - alarms:
            event(logging.INFO, "drift ended", quantity=quantity)
        self._alarms = alarms


def _json(content: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json", headers={"cache-control": "no-store"})


def _tracing(otlp: str) -> "Tracing | None":
    if not otlp:
        return None
    from serving.telemetry.tracing import Tracing

    return Tracing(otlp)
