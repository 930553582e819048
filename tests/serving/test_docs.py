"""The OpenAPI page says what the service does, the page for people says the same, and neither needs the internet."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.routing import Route

from serving.http.app import build_app
from serving.http.openapi import build_openapi
from serving.settings import Settings
from tests.serving.http_requests import client
from tests.serving.scripted import Scripted, at_once
from tests.serving.serving_process import started
from tests.serving.threaded import served

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


@pytest.fixture(scope="module")
def scripted(bundle_dir: Path) -> Iterator[str]:
    with served(Scripted(bundle_dir, at_once)) as url:
        yield url


def test_every_route_of_the_protocols_is_on_the_page_with_its_methods(bundle_dir: Path) -> None:
    routes = [
        route for route in build_app(Scripted(bundle_dir, at_once), Settings()).routes if isinstance(route, Route)
    ]
    served_paths = {
        route.path: {method.lower() for method in route.methods or ()} - {"head"}
        for route in routes
        if route.path not in ("/docs", "/openapi.json")
    }
    assert {path: set(methods) for path, methods in build_openapi()["paths"].items()} == served_paths


def test_every_shape_that_is_named_is_there() -> None:
    page = build_openapi()
    named = set(re.findall(r"#/components/schemas/([^'\"]+)", str(page)))
    assert named <= set(page["components"]["schemas"])
    assert {"ClassifyRequest", "Answer", "native.ErrorReply", "decisions.Choice", "systemone.Choice"} <= named


def test_the_page_for_people_names_every_route_and_loads_nothing(scripted: str) -> None:
    html = client().get(f"{scripted}/docs").text
    assert all(path in html for path in build_openapi()["paths"])
    assert not re.search(r"<(script|link|img|iframe)|@import|url\(|https?://(?!www\.w3)", html)
    links = re.findall(r'href="#([^"]+)"', html)
    assert len(links) > 50
    assert all(f'id="{link}"' in html for link in links)


def fuzz(url: str, cases: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(FUZZ), "--url", url, "--cases", str(cases)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.slow
def test_what_schemathesis_makes_of_the_page_is_answered_as_the_page_says(bundle_dir: Path) -> None:
    with started(bundle_dir, "--set", "limits.wait_ms=60000") as process:
        done = fuzz(process.url, 400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bar fuzz_400_cases_5xx: 0 (wanted 0) ok" in done.stdout


@pytest.mark.slow
def test_schemathesis_finds_a_service_that_answers_with_a_500(bundle_dir: Path) -> None:
    service = Scripted(bundle_dir, at_once)
    service.act = lambda text: text.no_such_attribute  # type: ignore[attr-defined]
    with served(service) as url:
        done = fuzz(url, 100)
    assert done.returncode == 1
    assert re.search(r"bar fuzz_100_cases_5xx: [1-9]\d* \(wanted 0\) short", done.stdout), done.stdout
