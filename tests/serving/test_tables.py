"""A protocol is its module and its entry in the table; a drift statistic is its entry in the table."""

from typing import Any

import httpx
import msgspec
import pytest

from serving.errors import ServingError
from serving.http import app, openapi
from serving.protocols import all as table
from serving.protocols.operation import Call, Operation, WireProtocol, classify_all
from serving.telemetry import drift
from serving.telemetry.metrics import Metrics
from tests.serving.answer_fixtures import bundle_with, reference_of, traffic
from tests.serving.scripted import Scripted, at_once
from tests.serving.threaded import served


class ShoutRequest(msgspec.Struct, frozen=True, kw_only=True):
    text: str


class ShoutReply(msgspec.Struct, frozen=True, kw_only=True):
    label: str


class ShoutError(msgspec.Struct, frozen=True, kw_only=True):
    sorry: str


async def shout(call: Call) -> ShoutReply:
    [answer] = await classify_all(call, [call.body.text])
    return ShoutReply(label=str(answer.label).upper())


def render_error(error: ServingError, _request_id: str) -> ShoutError:
    return ShoutError(sorry=error.kind)


SHOUT = WireProtocol(
    name="shout",
    prefixes=("/shout",),
    operations=(
        Operation(method="POST", path="/shout", title="Shout", asks=ShoutRequest, reply=ShoutReply, answer=shout),
    ),
    error_type=ShoutError,
    render_error=render_error,
)


def test_a_protocol_in_the_table_is_served_documented_and_renders_its_errors(
    bundle_dir: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (table, app, openapi):
        monkeypatch.setattr(module, "PROTOCOLS", (*table.PROTOCOLS, SHOUT))
    with served(Scripted(bundle_dir, at_once)) as url:
        assert httpx.post(f"{url}/shout", json={"text": "soup"}).json() == {"label": "GOOD"}
        assert httpx.post(f"{url}/shout", json={}).json() == {"sorry": "bad_request"}
        assert httpx.get(f"{url}/shout/nothing").json() == {"sorry": "not_found"}
    assert "post" in openapi.build_openapi()["paths"]["/shout"]


def test_a_statistic_in_the_table_is_computed_for_every_quantity_and_has_a_gauge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(drift.STATISTICS, "n_cells", lambda pairs: float(len(pairs)))
    reference = reference_of(traffic(600, 1))
    monitor, metrics = drift.DriftMonitor(bundle_with(reference), reference), Metrics()
    assert monitor.note(traffic(drift.BLOCK, 2))
    assert all(quantity.statistics["n_cells"] >= 1 for quantity in monitor.drifts)
    metrics.drift_is(monitor.drifts)
    assert 'hybrid_drift_n_cells{quantity="labels"}' in metrics.render().decode()
