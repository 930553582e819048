"""The list of hostile requests (`benchmarks/hostile_cases.py`): after each the service answers, and it fails on none."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.hostile_cases import Case, cases, play
from tests.serving.serving_process import Process, started

FOR_S = 0.2
"""How long a case is sent: the list is there for what it does, not for how long it takes."""


@pytest.fixture(scope="module")
def service(bundle_dir: Path) -> Iterator[Process]:
    with started(bundle_dir, "--set", "limits.wait_ms=60000") as service:
        lines: list[str] = []
        assert service.popen.stderr
        reading = threading.Thread(target=lines.extend, args=(service.popen.stderr,), daemon=True)
        reading.start()
        yield service
        service.popen.terminate()
        assert service.popen.wait(60) == 0
        reading.join(60)
    events = [json.loads(line) for line in lines]
    assert [event for event in events if event["level"] == "error"] == []
    assert [event for event in events if event["event"] == "engine" and event["state"] in ("dead", "hung")] == []


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_service_answers_after_it(service: Process, case: Case) -> None:
    asyncio.run(play(urlsplit(service.url).port or 0, case, FOR_S))
    assert service.get("/livez") == 200
    assert len(service.classify(["soup"], timeout_s=60.0)["answers"]) == 1  # type: ignore[arg-type]
    assert service.popen.poll() is None


def test_the_list_has_sixty_cases() -> None:
    names = [case.name for case in cases()]
    assert len(set(names)) == len(names) >= 60
