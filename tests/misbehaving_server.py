"""A Messages server that misbehaves at random, runs that ask it, are killed and go on, and what their books must show.

`tests/test_misbehaving_server.py` has a small case, `benchmarks/misbehaving_server.py` twenty large ones.
"""

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hybrid.errors import BudgetError, LLMError
from hybrid.llm import Request, ask_all, key
from hybrid.llm.batches.api import PollingPolicy
from hybrid.llm.batches.batched import Batched
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import Retry
from hybrid.llm.cost.trace_ledger import run_ledger
from hybrid.llm.traces.cache import CachedLLM
from hybrid.llm.traces.database import TraceDatabase
from tests.billing_server import (
    BillingServer,
    as_lines,
    cut_in_mid_body,
    gateway_page,
    not_json,
    take,
    take_and_reset,
    take_behind_a_gateway,
)
from tests.messages_server import Act, reset, status
from tests.test_faults import questions, terms

WORKERS = 8
TIMEOUT_S = 8.0
DONE, STOPPED, BUDGET = 0, 3, 4
"""The exit statuses of a run: all rows asked, a sentence about the server, a sentence about the budget."""
STATUSES = (
    400,
    401,
    402,
    403,
    404,
    405,
    408,
    409,
    413,
    418,
    422,
    425,
    429,
    451,
    499,
    500,
    501,
    502,
    503,
    504,
    520,
    524,
    529,
)
PAGES = ("<html>no answer</html>", '{"detail": "timed out"}', '{"error": "x"}', "", "null", "[" * 5000)
RETRY_AFTER = ("0.01", "3600", "nan", "soon", "-5", "Wed, 21 Oct 2015 07:28:00 GMT")
USAGES: tuple[Any, ...] = (
    None, [], "many", {}, {"input_tokens": "12", "output_tokens": "3"}, {"input_tokens": float("nan"), "output_tokens": 1},
    {"input_tokens": -10**6, "output_tokens": 3}, {"input_tokens": 10**18, "output_tokens": 10**18}, {"input_tokens": True},
    {"input_tokens": [1], "output_tokens": {}}, {"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": "x"},
)  # fmt: skip
CONTENTS: tuple[Any, ...] = (
    [], [None], [{"type": "text", "text": None}], [{"type": "text", "text": "positive"}], [{"type": "text"}], "text", None,
    [{"type": "text", "text": '{"rationale": "It'}], [{"type": "text", "text": '{"label": "glad"}'}], [{"type": "image"}],
    [{"type": "text", "text": '{"label": "\ud800"}'}], [{"type": "text", "text": '{"label": ' + "[" * 5000}],
)  # fmt: skip


class MisbehavingServer(BillingServer):
    """Answers about two calls of three as it should. What it does comes from its seed and the order of the calls."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = random.Random(seed)
        self.good: Counter[str] = Counter()
        """How often each question got an answer that can be read, whole."""
        self.n_calls = 0
        self.acts: Counter[str] = Counter()
        self._sent: set[tuple[int, str]] = set()
        self.outcome = lambda number, request: self._choice(["succeeded"] * 12 + ["expired", "api_error", "not_valid"])
        self.on_create = self._creation
        self.on_look = self._look
        self.result_lines = self._lines

    def act_for(self, body: dict[str, Any], headers: dict[str, str]) -> Act:
        with self._books:
            self.n_calls += 1
            name, act = self._any_act()
            self.acts[name] += 1
        return act

    def _any_act(self) -> tuple[str, Act]:
        rng = self._rng
        if rng.random() < 0.66:
            return "good", good(
                rng.choice((str, fenced, shouted)), UNCHANGED if rng.random() < 0.85 else rng.choice(USAGES)
            )
        code, page = rng.choice(STATUSES), rng.choice(PAGES)
        headers = {"Retry-After": rng.choice(RETRY_AFTER)} if rng.random() < 0.3 else {}
        acts: dict[str, Act] = {
            "error": status(code, "no", headers=headers),
            "page": gateway_page(code, page),
            "free page": lambda handler, body: handler.send(code, page, content_type="text/html"),
            "redirect": redirect(rng.choice((301, 302, 307, 308))),
            "cut": cut_in_mid_body,
            "not JSON": not_json,
            "reset": reset,
            "reset after it was billed": after_billing(reset),
            "200 with an error": after_billing(status(200)),
            "200 with a page": gateway_page(200, page),
            "gzip that is none": after_billing(no_gzip),
            "odd content": odd(content=rng.choice(CONTENTS)),
            "odd stop": odd(stop_reason=rng.choice(("refusal", "max_tokens", {"why": 1}, 7))),
            "odd type": odd(type=rng.choice((None, "completion", 3))),
        }
        name = rng.choice(sorted(acts)) if rng.random() < 0.99 else "late"
        return name, acts[name] if name in acts else after_billing(too_late)

    def _creation(self, handler: Any, body: dict[str, Any]) -> None:
        with self._books:
            self.n_calls += 1
            act = self._rng.choice(
                (take, take, take, take_and_reset, take_behind_a_gateway(502), take_behind_a_gateway(408), status(429))
            )
            self.unlisted_looks = self._rng.choice((0, 0, 1, 2))
        act(handler, body)

    def _look(self, handler: Any, look: dict[str, Any]) -> None:
        with self._books:
            act = self._rng.choice((None, None, None, status(404), status(500), free_page(404), free_page(502), reset))
        if act is not None:
            act(handler, look)
            raise ConnectionAbortedError

    def _lines(self, results: list[dict[str, Any]]) -> str:
        with self._books:
            rng = self._rng
            lines = [
                result if rng.random() < 0.97 else result | {"result": rng.choice(ODD_RESULTS)} for result in results
            ]
            return as_lines(lines)[: -9 if rng.random() < 0.2 else None]

    def _choice(self, options: Sequence[str]) -> str:
        with self._books:
            return self._rng.choice(options)


UNCHANGED = object()
ODD_RESULTS: tuple[Any, ...] = (
    None, {}, [], {"type": "errored", "error": None}, {"type": "paused"}, {"type": "succeeded", "message": None},
    {"type": "succeeded", "message": {"type": "message", "content": [{"type": "text", "text": None}]}},
)  # fmt: skip


def fenced(text: str) -> str:
    return f"Here it is:\n```json\n{text}\n```"


def shouted(text: str) -> str:
    return text.replace("positive", " POSITIVE ")


def good(form: Any, usage: object) -> Act:
    """Return the act of answering, in a form that can be read, with a usage that may be none."""

    def act(handler: Any, body: dict[str, Any]) -> None:
        message = handler.server.bill(body)
        message["content"][0]["text"] = form(message["content"][0]["text"])
        handler.server.good[body["messages"][0]["content"]] += 1
        handler.send(200, json.dumps(message if usage is UNCHANGED else message | {"usage": usage}))

    return act


def odd(**changed: Any) -> Act:
    """Return the act of answering with some fields of the message changed, so that it is no answer."""
    return lambda handler, body: handler.send(200, json.dumps(handler.server.bill(body) | changed))


def after_billing(act: Act) -> Act:
    def billed_first(handler: Any, body: dict[str, Any]) -> None:
        handler.server.bill(body)
        act(handler, body)

    return billed_first


def redirect(code: int) -> Act:
    return after_billing(status(code, "moved", headers={"Location": "http://127.0.0.1:9/v1/messages"}))


def free_page(code: int) -> Act:
    return lambda handler, body: handler.send(code, "<html>no</html>", content_type="text/html")


def no_gzip(handler: Any, body: dict[str, Any]) -> None:
    handler.send(200, '{"type": "message"}', headers={"Content-Encoding": "gzip"})


def too_late(handler: Any, body: dict[str, Any]) -> None:
    time.sleep(TIMEOUT_S + 1)
    handler.send(200, "{}")


class Run:
    """One of several processes that ask at the same time; it is started again until it has asked all of its rows."""

    def __init__(self, server: MisbehavingServer, store: Path, rows: range, *, budget: float, batch: bool) -> None:
        mode = "batch" if batch else "direct"
        self._command = [
            sys.executable,
            "-m",
            __name__,
            server.url,
            str(store),
            str(budget),
            mode,
            str(rows.start),
            str(rows.stop),
        ]
        self._process: subprocess.Popen[str] | None = None
        self.rows = rows
        self.kills = 0
        self.exits: Counter[int] = Counter()
        self.crash = ""
        self.statuses: dict[str, int] = {}

    def go(self, until_killed_s: float | None) -> None:
        """Run to the end, or kill the process after some seconds."""
        process = subprocess.Popen(
            self._command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            out, err = process.communicate(timeout=until_killed_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self.kills += 1
            return
        self.exits[process.returncode] += 1
        if process.returncode == DONE:
            self.statuses = json.loads(out)
        elif process.returncode not in (STOPPED, BUDGET):
            self.crash = err

    def go_on(self, rng: random.Random, kills: int) -> None:
        """Be killed some times, then run until all rows are asked or the budget is used up."""
        for _ in range(kills):
            self.go(rng.uniform(1.5, 8.0))
        while not self.crash and not self.exits[DONE] and not self.exits[BUDGET]:
            self.go(None)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one case showed."""

    calls: int
    server_usd: float
    booked_usd: float
    budget: float
    kills: int
    paid_twice: int
    """Answers that can be read and were given again, beyond the calls that may have been in flight at a kill."""
    unaccounted: int
    """Rows of finished runs without a status, and answers stored for rows that nobody asked about."""
    crashes: list[str]
    acts: dict[str, int]


def misbehave(seed: int, folder: Path, *, n_rows: int, budget: float, kills: int) -> Outcome:
    """Let three processes ask a server about overlapping rows, one of them in batches, and read the books afterwards."""
    rng = random.Random(seed)
    store = folder / "traces.sqlite"
    ranges = (range(2 * n_rows // 3), range(n_rows // 3, n_rows), range(n_rows // 2, n_rows // 2 + n_rows // 10))
    with MisbehavingServer(seed) as server:
        runs = [Run(server, store, rows, budget=budget, batch=i == 2) for i, rows in enumerate(ranges)]
        threads = [threading.Thread(target=run.go_on, args=(random.Random(rng.random()), kills)) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(0.2)
        usd, calls = server.usd, server.n_calls
        again = sum(n - 1 for n in server.good.values())
    spent = run_ledger(TraceDatabase(store), terms(budget, batch=True)).spent()
    stored = {digest for (digest,) in TraceDatabase(store).read("SELECT key FROM answers")}
    asked = {key("m", request) for request in questions(n_rows)}
    n_kills = sum(run.kills for run in runs)
    missing = sum(len(run.rows) - sum(run.statuses.values()) for run in runs if run.exits[DONE])
    return Outcome(
        calls=calls,
        server_usd=usd,
        booked_usd=spent.settled_usd + spent.unsettled_usd,
        budget=budget,
        kills=n_kills,
        paid_twice=max(0, again - n_kills * WORKERS),
        unaccounted=missing + len(stored - asked),
        crashes=[run.crash for run in runs if run.crash],
        acts=dict(server.acts),
    )


def ask(url: str, store: Path, budget: float, requests: Sequence[Request], *, batch: bool) -> dict[str, int]:
    """Ask as a run does, and count the statuses of the replies."""
    file = TraceDatabase(store)
    ledger = run_ledger(file, terms(budget, batch=batch))
    retry = Retry(tries=5, first_wait_s=0.01, longest_wait_s=0.1)
    messages = Messages("m", base_url=url, timeout_s=TIMEOUT_S, workers=WORKERS, retry=retry, ledger=ledger)
    llm: CachedLLM | Batched = CachedLLM(messages, file)
    if batch:
        polling = PollingPolicy(
            most_requests=40,
            first_wait_s=0.02,
            longest_wait_s=0.2,
            gone_looks=8,
            gone_after_s=2.0,
            look_again_s=(0.05,) * 3,
        )
        llm = Batched(llm, messages, ledger, polling)
    return dict(Counter(reply.status for reply in ask_all(requests, llm, WORKERS)))


def main() -> None:
    """Run as one of the processes."""
    url, store, budget, mode, first, last = sys.argv[1:]
    try:
        asked = questions(int(last))[int(first) :]
        sys.stdout.write(json.dumps(ask(url, Path(store), float(budget), asked, batch=mode == "batch")))
    except BudgetError:
        sys.exit(BUDGET)
    except LLMError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
