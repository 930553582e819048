"""The observer of the service: it passes on what it hears to metrics, live numbers, drift, logs and traces."""

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
"""Of each text, where texts are logged at all."""
OVERLOADED_LINES = 20
"""Lines a second about requests that overload turns away; the metrics count all of them."""


class DriftState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of drift."""

    why_not: str
    """Why there is no result, as a sentence without its period; empty where there is one."""
    n_recent: int
    found: tuple[Drift, ...]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the page polls."""

    bundle: str
    engine: str
    breaker: str
    live: WindowFigures
    drift: DriftState


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows of the bundle beside its manifest."""

    bundle: str
    reference: Reference | None
    decoder: str | None
    """The model that is asked about what escalates; None: there is none."""


class Telemetry:
    """Hears what the service does; implements `serving.interfaces.Observer`."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Listen as the settings say; `clock` gives the seconds of the live numbers."""
        self.metrics = Metrics()
        self.live = RollingWindow(clock)
        self.drift: DriftMonitor | None = None
        self.tracing = _tracing(settings.otlp)
        self._log_texts = settings.log_texts
        self._overloaded = LogRateLimit(OVERLOADED_LINES, clock)
        self._decoder = None if backend_of(settings.decoder).is_absent else settings.decoder.model
        self._bundle_id = ""
        self._reference: Reference | None = None
        self._engine = "starting"
        self._breaker = "closed"
        self._alarms: frozenset[str] = frozenset()

    def set_bundle(self, bundle: Bundle, bundle_id: str) -> None:
        """Hold what comes from now on against this bundle; called before its first answer."""
        self._bundle_id = bundle_id
        self._alarms = frozenset()
        self._reference = bundle.reference
        self.drift = DriftMonitor(bundle, bundle.reference) if bundle.reference else None
        self.metrics.bundle_is(bundle, bundle_id)

    def answered(
        self, route: str, answers: Sequence[Answer], timings: Timings, seconds: float, texts: Sequence[str] = ()
    ) -> None:
        """Note a request that was answered."""
        self.metrics.answered(route, answers, timings, seconds)
        self.live.answered(answers, seconds)
        # An answer without tokens is the decoder's to a question of its own; one of the bundle before tells nothing.
        own = [one for one in answers if one.tokens and one.bundle_id == self._bundle_id]
        if self.drift and self.drift.note(own):
            self._tell_drift(self.drift.found)
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
            n_escalated=sum(one.status == "escalated" for one in answers),
            n_truncated=sum(one.truncated for one in answers),
            bundle=self._bundle_id,
            **{f"{stage}_s": round(spent, 6) for stage, spent in timings.by_stage().items()},
            **({"texts": [text[:LOGGED_CHARACTERS] for text in texts]} if self._log_texts else {}),
        )

    def refused(self, route: str, error: ServingError, seconds: float) -> None:
        """Note a request that got no answer."""
        self.metrics.refused(route, error.kind, error.status)
        self.live.refused()
        request = current()
        if request and request.span and self.tracing:
            self.tracing.refused(request.span, route, error.kind, error.status)
        flood = error.status == OverloadedError.status
        if flood and not self._overloaded.passes():
            return
        # The sentence may quote the text, so only its kind is logged.
        event(
            logging.ERROR if error.status >= 500 else logging.INFO,
            "refused",
            request_id=request.request_id if request else "",
            route=route,
            status=error.status,
            kind=error.kind,
            seconds=round(seconds, 6),
            **({"n_unlogged_before": self._overloaded.left_out()} if flood else {}),
        )

    def batch_ran(self, n_texts: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Note one call of the engine."""
        self.metrics.batch_ran(n_texts, tokens, padded_tokens, seconds)

    def escalation_ended(self, outcome: str, seconds: float, cost_usd: float | None) -> None:
        """Note one question to the decoder."""
        self.metrics.escalation_ended(outcome, seconds, cost_usd)

    def breaker_changed(self, state: str) -> None:
        """Note the state of the circuit breaker."""
        self._breaker = state
        self.metrics.breaker_changed(state)
        event(logging.WARNING if state == "open" else logging.INFO, "breaker", state=state)

    def engine_changed(self, state: str, reason: str = "") -> None:
        """Note what became of the engine."""
        self._engine = state
        self.metrics.engine_changed(state)
        event(logging.ERROR if state in ("dead", "hung") else logging.INFO, "engine", state=state, reason=reason)

    def bundle_changed(self, bundle_id: str, *, refused: str = "") -> None:
        """Note a hot swap."""
        self.metrics.swapped(refused=bool(refused))
        event(logging.ERROR if refused else logging.INFO, "bundle", bundle=bundle_id, refused=refused)

    def state(self) -> State:
        """Return what the page shows."""
        return State(
            bundle=self._bundle_id,
            engine=self._engine,
            breaker=self._breaker,
            live=self.live.numbers(),
            drift=DriftState(
                why_not=self._why_no_drift(),
                n_recent=self.drift.n_recent if self.drift else 0,
                found=self.drift.found if self.drift else (),
            ),
        )

    def routes(self) -> list[Route]:
        """Return /metrics for Prometheus, and /v1/watch and /v1/watch/reference for the page."""

        async def metrics(_: Request) -> Response:
            return Response(self.metrics.render(), media_type="text/plain; version=0.0.4")

        async def state(_: Request) -> Response:
            return _json(self.state())

        async def reference(_: Request) -> Response:
            return _json(Known(bundle=self._bundle_id, reference=self._reference, decoder=self._decoder))

        return [Route("/metrics", metrics), Route("/v1/watch", state), Route("/v1/watch/reference", reference)]

    def attach(self, app: Starlette) -> None:
        """Give each request of an application its context, outside of all that is around it already."""
        app.add_middleware(
            RequestContext, on_reply=self.metrics.replied, start_span=self.tracing.start if self.tracing else None
        )

    def close(self) -> None:
        """Send the traces that are not sent yet."""
        if self.tracing:
            self.tracing.close()

    def _why_no_drift(self) -> str:
        if not self.drift:
            return "This bundle has no record of its calibration rows; calibrate it again"
        return "" if self.drift.found else f"Not enough data yet ({BLOCK} texts needed)"

    def _tell_drift(self, found: Sequence[Drift]) -> None:
        """Show what was found, and log what changed since the last look."""
        self.metrics.drift_is(found)
        alarms = frozenset(one.quantity for one in found if one.alarm)
        for one in found:
            if one.quantity in alarms - self._alarms:
                event(logging.WARNING, "drift", quantity=one.quantity, psi=round(one.psi, 4), says=one.says)
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
