"""Ten thousand requests that schemathesis makes from the OpenAPI page: none is answered with a 5xx, or otherwise than said.

`python benchmarks/fuzz.py [RUN] [--url URL] [--cases N]`: RUN is a finished run of the sentiment recipe; without it the
recipe runs first. URL: a service that runs already. Half of the cases fit the page and half do not; models and versions
are the right ones in half of them. A timeout that a case names is replaced by a long one: a deadline that the caller
sets and misses is a 504 by right.
"""

import argparse
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, product
from pathlib import Path
from typing import Any

import httpx
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from served import ours, running
from served_bundles import make_kit
from targets import bar, finish

CASES = 10_000
A_ROUND = 50
"""Cases of one operation from one seed; fewer where that would leave operations out."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EVERY_CASE = settings(phases=[Phase.generate], deadline=None, database=None, suppress_health_check=list(HealthCheck))
LONG_MS = 60_000
TIMEOUT = "X-Request-Timeout-Ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--cases", type=int, default=CASES)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with service(options.run, options.url) as url:
        report(fuzz(url, options.cases))
    finish()


@contextmanager
def service(run: Path | None, url: str | None) -> Iterator[str]:
    """Give the URL of a service: one that runs, or one that is started."""
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory() as scratch:
        bundle = run / "bundle" if run else make_kit(None, Path(scratch)).int8
        with running(ours(bundle), []) as started:
            yield f"http://127.0.0.1:{started.port}"


@dataclass
class Tally:
    """What came of the cases so far."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def fuzz(url: str, cases: int) -> Tally:
    """Return what came of so many cases."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [operation.ok() for operation in schema.get_all_operations()]
    serves = httpx.get(f"{url}/v1/bundle").json()
    real = {"name": serves["name"], "version": serves["bundle_id"]}
    tally = Tally()
    a_round = min(A_ROUND, max(5, cases // (2 * len(operations))))
    with requests.Session() as session:
        for number, (operation, mode) in enumerate(cycle(product(operations, GenerationMode))):
            wanted = min(a_round, cases - tally.statuses.total())
            if not wanted:
                return tally
            named = {name: value for name, value in real.items() if f"{{{name}}}" in operation.path}
            strategy = operation.as_strategy(mode, path_parameters=named if number % 4 < 2 else None)

            @seed(number)  # the same number makes the same cases
            @settings(EVERY_CASE, max_examples=wanted)
            @given(case=strategy)
            def send(case: Any) -> None:
                note(case, tally, url, session)

            send()
    raise AssertionError("there is no operation")


def note(case: Any, tally: Tally, url: str, session: requests.Session) -> None:
    """Send a case and note what came."""
    wait_long(case)
    try:
        reply = case.call(base_url=url, session=session, timeout=60)
    except requests.exceptions.InvalidHeader:
        return  # no client can send it
    tally.statuses[reply.status_code] += 1
    try:
        case.validate_response(reply, checks=CHECKS)
    except FailureGroup as found:
        asked, content = reply.request, reply.text[:200]
        where = f"{asked.method} {asked.url[:200]} {dict(asked.headers)}: {reply.status_code} {content!r}"
        tally.wrong.append("\n".join([where, *(str(error) for error in found.exceptions)]))


def wait_long(case: Any) -> None:
    """Replace a timeout that the case names, where it is one."""
    if TIMEOUT in (case.headers or {}):
        case.headers[TIMEOUT] = str(LONG_MS)
    if isinstance(case.body, dict) and isinstance(case.body.get("timeout_ms"), int | float):
        case.body["timeout_ms"] = LONG_MS


def report(tally: Tally) -> None:
    """Print what came and the bars."""
    statuses, wrong = tally.statuses, tally.wrong
    print("statuses:", ", ".join(f"{status}: {n}" for status, n in sorted(statuses.items())))
    for case in wrong[:5]:
        print(case[:2000])
    n = statuses.total()
    failed = sum(n_replies for status, n_replies in statuses.items() if status >= 500)
    bar(f"fuzz_{n}_cases_5xx", failed, "0", not failed)
    bar(f"fuzz_{n}_cases_otherwise_than_documented", len(wrong), "0", not wrong)
    bar(f"fuzz_{n}_cases_answered", statuses[200], "> 5 % of them", statuses[200] > n / 20)


if __name__ == "__main__":
    main()
