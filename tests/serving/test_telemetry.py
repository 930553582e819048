"""What the service tells of itself: every count is right, nothing grows with traffic, and no text leaks into a log."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.errors import DeadlineError, EngineDownError, OverloadedError
from serving.http.middleware import current
from serving.settings import Settings
from serving.telemetry.logs import MAX_WAITING, JsonLogs, event
from serving.telemetry.metrics import resident_of_children
from serving.telemetry.observer import Telemetry
from serving.telemetry.rolling_window import RATIO, SECONDS, RollingWindow, bucket, percentile
from serving.types import Timings
from tests.serving.answer_fixtures import BUNDLE_ID, answer, bundle_with, reference_of, traffic
from tests.waiting import wait_until

TIMINGS = Timings(tokenise_s=0.001, queue_s=0.002, inference_s=0.003)
SECRET = "my name is Ada Lovelace"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> Telemetry:
    watch = Telemetry(Settings(), clock=clock)
    watch.set_bundle(bundle_with(reference_of(traffic(600, 1000))), BUNDLE_ID)
    return watch


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, object]]]]:
    stream = io.StringIO()
    end = ExitStack()
    end.callback(JsonLogs(stream).close)

    def read() -> list[dict[str, object]]:
        end.close()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    yield read
    end.close()


def metric(watch: Telemetry, name: str, /, **labels: str) -> float | None:
    for family in text_string_to_metric_families(watch.metrics.render().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


def test_what_happened_is_what_prometheus_reads(watch: Telemetry) -> None:
    watch.answered("/v1/classify", [answer("good", 0.9), answer("bad", 0.6)], TIMINGS, 0.008)
    watch.refused("/v1/classify", OverloadedError("full", retry_after_s=1.0), 0.001)
    watch.refused("/v1/decisions", DeadlineError("queue", 0.1), 0.1)
    watch.batch_ran(2, 50, 60, 0.003)
    watch.escalation_ended("answered", 0.8, 0.002)
    watch.escalation_ended("cached", 0.0, None)
    watch.breaker_changed("open")
    watch.engine_changed("ready")
    watch.engine_changed("hung", "a batch took 3 s")
    watch.bundle_changed(BUNDLE_ID)
    watch.bundle_changed(BUNDLE_ID, refused="changed")
    wanted = [
        (1, "hybrid_requests_total", {"route": "/v1/classify", "status": "200"}),
        (1, "hybrid_requests_total", {"route": "/v1/classify", "status": "429"}),
        (1, "hybrid_refusals_total", {"kind": "overloaded"}),
        (1, "hybrid_refusals_total", {"kind": "deadline_passed"}),
        (0.002, "hybrid_queue_seconds_sum", {}),
        (0, "hybrid_escalation_seconds_count", {}),
        (1, "hybrid_answers_total", {"status": "escalated", "source": "encoder"}),
        (1, "hybrid_confidence_count", {"label": "good"}),
        (0.9, "hybrid_confidence_sum", {"label": "good"}),
        (60, "hybrid_batch_tokens_sum", {}),
        (1.2, "hybrid_padding_ratio_sum", {}),
        (1, "hybrid_decoder_seconds_count", {}),
        (1, "hybrid_escalations_total", {"outcome": "cached"}),
        (0.002, "hybrid_escalation_usd_total", {}),
        (1, "hybrid_breaker", {"state": "open"}),
        (0, "hybrid_breaker", {"state": "closed"}),
        (1, "hybrid_engine", {"state": "hung"}),
        (1, "hybrid_engine_failures_total", {"state": "hung"}),
        (1, "hybrid_bundle_swaps_total", {"outcome": "refused"}),
        (
            1,
            "hybrid_bundle_info",
            {"id": BUNDLE_ID, "name": "dishes", "encoder": "tiny", "precision": "fp32", "engine": "onnxruntime"},
        ),
    ]
    results = [(metric(watch, name, **labels), name, labels) for _, name, labels in wanted]
    assert results == [(pytest.approx(value), name, labels) for value, name, labels in wanted]
    assert metric(watch, "process_resident_memory_bytes") > 1e6  # type: ignore[operator]


def test_no_caller_can_fill_the_memory_with_names(watch: Telemetry) -> None:
    for number in range(300):
        watch.answered(f"/v1/{number}", [answer(f"label {number}")], TIMINGS, 0.001)
    rendered = watch.metrics.render().decode()
    assert rendered.count("hybrid_requests_total{") == 101
    assert rendered.count("hybrid_confidence_count{") <= 101
    assert 'route="other"' in rendered


def test_a_hot_swap_starts_the_figures_of_a_bundle_anew(watch: Telemetry) -> None:
    watch.answered("/v1/classify", traffic(500, 1, tokens=60.0), TIMINGS, 0.01)
    assert metric(watch, "hybrid_drift_alarm", quantity="tokens") == 1
    watch.set_bundle(bundle_with(reference_of(traffic(600, 2))), "ffff")
    assert metric(watch, "hybrid_drift_alarm", quantity="tokens") is None
    watch.answered("/v1/classify", traffic(500, 1, tokens=60.0), TIMINGS, 0.01)
    assert watch.state().drift.n_recent == 0, "those are answers of the bundle before"


def test_a_bundle_without_a_reference_says_why_nothing_is_known_of_drift() -> None:
    watch = Telemetry(Settings())
    watch.set_bundle(bundle_with(None), BUNDLE_ID)
    watch.answered("/v1/classify", traffic(500, 1), TIMINGS, 0.01)
    assert "calibrate it again" in watch.state().drift.why_not


def test_live_numbers_cover_two_minutes_and_then_forget(watch: Telemetry, clock: Clock) -> None:
    for _ in range(10):
        watch.answered("/v1/classify", [answer(confidence=0.9), answer(confidence=0.6)], TIMINGS, 0.02)
        watch.refused("/v1/classify", OverloadedError("full"), 0.001)
        clock.now += 1
    live = watch.state().live
    assert [second.texts for second in live.seconds] == [2] * 10
    assert (live.texts_a_second, live.refused_share, live.below_share) == (2, 0.5, 0.5)
    assert live.p99_s == pytest.approx(0.02, rel=RATIO - 1)
    clock.now += SECONDS - 5
    live = watch.state().live
    assert len(live.seconds) == SECONDS
    assert sum(second.texts for second in live.seconds) == 2 * 5
    clock.now += 10 * SECONDS
    assert watch.state().live.p50_s is None


def test_the_second_under_way_is_left_out(clock: Clock) -> None:
    live = RollingWindow(clock)
    clock.now += 1
    live.answered([answer()], 0.01)
    assert live.numbers().texts_a_second == 0
    clock.now += 1
    assert [second.texts for second in live.numbers().seconds] == [0, 1]


def test_percentiles_are_at_most_ten_per_cent_too_high() -> None:
    counts = [0] * 150
    latencies = sorted(0.0003 * 1.013**i for i in range(1000))
    for latency in latencies:
        counts[bucket(latency)] += 1
    for share in (0.5, 0.95, 0.99):
        true = latencies[round(share * 1000) - 1]
        value = percentile(counts, share)
        assert value is not None
        assert true * 0.999 <= value <= true * RATIO * 1.001
    assert percentile([0] * 150, 0.5) is None
    assert bucket(1e9) == 149


def costs(*calls: Callable[[], object], n: int = 500) -> list[float]:
    """Return the processor seconds of each call: the least of many runs in turn, which other processes disturb least."""

    def once(call: Callable[[], object]) -> float:
        began = time.thread_time()
        for _ in range(n):
            call()
        return (time.thread_time() - began) / n

    return [min(runs) for runs in zip(*([once(call) for call in calls] for _ in range(12)), strict=True)]


@pytest.mark.slow
def test_listening_costs_microseconds_however_much_was_heard(watch: Telemetry) -> None:
    old = Telemetry(Settings())
    old.set_bundle(bundle_with(reference_of(traffic(600, 1000))), BUNDLE_ID)
    for seed in range(4):
        old.answered("/v1/classify", traffic(5000, seed), TIMINGS, 0.01)
    answers, numbers = [answer()], list(range(20))
    fresh, late, yardstick = costs(
        lambda: watch.answered("/v1/classify", answers, TIMINGS, 0.01),
        lambda: old.answered("/v1/classify", answers, TIMINGS, 0.01),
        lambda: json.dumps(numbers),
    )
    assert late < 2 * fresh
    assert late < 40 * yardstick, f"{late * 1e6:.0f} µs an answer, {yardstick * 1e6:.1f} µs for a small dump"


def test_a_log_line_is_json_with_the_request_id_and_without_text(
    watch: Telemetry, lines: Callable[[], list[dict]]
) -> None:  # type: ignore[type-arg]
    async def classify(request: Request) -> PlainTextResponse:
        watch.answered("/v1/classify", [answer()], TIMINGS, 0.01, [SECRET])
        watch.refused("/v1/classify", EngineDownError(f"the engine died of {SECRET}"), 0.01)
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", classify)])
    watch.attach(app)
    TestClient(app).get("/", headers={"x-request-id": "abc-123"})
    lines_read = lines()
    assert [(item["event"], item["status"], item["request_id"]) for item in lines_read[:2]] == [
        ("answered", 200, "abc-123"),
        ("refused", 503, "abc-123"),
    ]
    assert (lines_read[0]["queue_s"], lines_read[0]["n_texts"], lines_read[1]["level"]) == (0.002, 1, "error")
    assert SECRET not in json.dumps(lines_read)


def test_texts_are_logged_where_the_settings_say_so_cut_and_in_sound_utf8(lines: Callable[[], list[dict]]) -> None:  # type: ignore[type-arg]
    watch = Telemetry(Settings(log_texts=True))
    watch.answered("/v1/classify", [answer(), answer()], TIMINGS, 0.01, ["half \ud800 of a pair", "x" * 10_000])
    assert lines()[0]["texts"] == ["half \\ud800 of a pair", "x" * 500]


def test_a_flood_of_refusals_fills_no_log_and_is_counted(
    watch: Telemetry,
    clock: Clock,
    lines: Callable[[], list[dict]],  # type: ignore[type-arg]
) -> None:
    for _ in range(100):
        watch.refused("/v1/classify", OverloadedError("come again", retry_after_s=1), 0.001)
    watch.refused("/v1/classify", EngineDownError("no flood"), 0.001)
    clock.now += 1
    watch.refused("/v1/classify", OverloadedError("come again", retry_after_s=1), 0.001)
    results = [line for line in lines() if line["event"] == "refused"]
    assert [result["kind"] for result in results] == ["overloaded"] * 20 + ["engine_down", "overloaded"]
    assert [item.get("n_unlogged_before") for item in results] == [0] * 20 + [None, 80]
    assert metric(watch, "hybrid_refusals_total", kind="overloaded") == 101


def test_an_alarm_is_logged_once_and_so_is_its_end(watch: Telemetry, lines: Callable[[], list[dict]]) -> None:  # type: ignore[type-arg]
    for seed in range(3):
        watch.answered("/v1/classify", traffic(500, seed, tokens=60.0), TIMINGS, 0.01)
    for seed in range(3):
        watch.answered("/v1/classify", traffic(500, seed), TIMINGS, 0.01)
    told = [(line["event"], line["quantity"]) for line in lines() if line["event"].startswith("drift")]
    assert told == [("drift", "tokens"), ("drift ended", "tokens")]


@pytest.mark.slow
def test_a_reader_of_the_logs_that_stands_still_slows_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.telemetry.logs.CLOSE_S", 60.0)  # a slow machine writes ten thousand lines slowly
    n_lines, read_end, write_end = 2 * MAX_WAITING, *os.pipe()
    results: list[str] = []
    with os.fdopen(write_end, "w") as stream, os.fdopen(read_end) as reader:
        logs = JsonLogs(stream)
        for number in range(n_lines):  # over a megabyte, where a pipe holds some 64 KiB, and nobody reads
            event(logging.INFO, "answered", number=number)
        assert 0 < logs._handler.dropped < n_lines
        reading = threading.Thread(target=lambda: results.extend(reader))
        reading.start()
        logs.close()
        stream.close()
        reading.join()
    *written, last = [json.loads(line) for line in results]
    numbers = [item["number"] for item in written if item["event"] == "answered"]  # others may have logged meanwhile
    assert n_lines - logs._handler.dropped <= len(set(numbers)) == len(numbers) < n_lines
    assert (last["event"], last["n_lines"]) == ("log lines dropped", logs._handler.dropped)


def test_a_reader_that_never_comes_back_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.telemetry.logs.CLOSE_S", 0.1)
    read_end, write_end = os.pipe()
    stream = os.fdopen(write_end, "w")
    logs = JsonLogs(stream)
    for _ in range(2 * MAX_WAITING):
        event(logging.INFO, "answered")
    logs.close()
    assert logs._thread.is_alive()
    os.close(read_end)
    logs._thread.join(30)
    assert not logs._thread.is_alive()
    with suppress(BrokenPipeError):
        stream.close()


@pytest.mark.parametrize("sent", ["", "two words", "x" * 129, "new\u00e9"])
def test_an_id_that_a_log_cannot_hold_is_replaced(watch: Telemetry, sent: str) -> None:
    seen: list[str] = []

    async def look(request: Request) -> PlainTextResponse:
        here = current()
        assert here is not None
        seen.extend([here.request_id, request.state.request_id])
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", look)])
    watch.attach(app)
    TestClient(app).get("/", headers={"x-request-id": sent.encode()})
    assert seen[0] == seen[1] != sent
    assert len(seen[0]) == 32
    assert current() is None


def test_every_reply_is_counted_even_one_that_no_route_gave(watch: Telemetry) -> None:
    app = Starlette(routes=watch.routes())
    watch.attach(app)
    client = TestClient(app)
    assert client.get("/nowhere").status_code == 404
    assert client.get("/v1/watch").json()["bundle"] == BUNDLE_ID
    assert client.get("/v1/watch/reference").json()["reference"]["n_rows"] == 600
    assert "hybrid_requests" in client.get("/metrics").text
    assert metric(watch, "hybrid_http_replies_total", status="404") == 1
    assert metric(watch, "hybrid_http_replies_total", status="200") == 3


def test_the_memory_of_the_engine_counts() -> None:
    before = resident_of_children(os.getpid())
    assert before is not None
    with subprocess.Popen([sys.executable, "-c", "x = b'1' * 50_000_000; input()"], stdin=subprocess.PIPE) as child:
        wait_until(lambda: (resident_of_children(os.getpid()) or 0) > before + 50_000_000)
        child.communicate(b"\n")
