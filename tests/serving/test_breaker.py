"""A decoder that fails is paused, and one call finds out whether it works again."""

import asyncio
from pathlib import Path

import pytest

from serving.decoder.breaker import Breaker
from tests.messages_server import Act, MessagesServer, label, status
from tests.serving.escalation_fixtures import RecordingObserver, after, escalated, opened


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A breaker that opens after two failures for ten seconds, its clock, and the states it reported."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.states: list[str] = []
        self.breaker = Breaker(failures=2, rest_s=10.0, on_change=self.states.append, clock=self.clock)

    def call(self, healthy: bool | None) -> None:
        permit = self.breaker.admit()
        assert permit is not None
        self.breaker.report(permit, healthy)

    def opened(self) -> "Watched":
        self.call(False)
        self.call(False)
        assert self.states == ["open"]
        return self


def test_a_closed_breaker_admits_any_number_of_calls_at_once() -> None:
    watched = Watched()
    assert None not in [watched.breaker.admit() for _ in range(9)]
    assert watched.states == []


def test_failures_in_a_row_open_it_and_a_success_between_them_starts_the_count_anew() -> None:
    watched = Watched()
    for healthy in (False, True, False, True, False):
        watched.call(healthy)
    assert watched.states == []
    watched.call(False)
    assert watched.states == ["open"]
    assert watched.breaker.admit() is None


def test_calls_that_do_not_tell_neither_count_as_failures_nor_end_a_row_of_them() -> None:
    watched = Watched()
    for healthy in (None, False, None, None):
        watched.call(healthy)
    assert watched.states == []
    watched.call(False)
    assert watched.states == ["open"]


def test_an_open_breaker_admits_nothing_before_its_rest_is_over_and_then_one_call() -> None:
    watched = Watched().opened()
    watched.clock.now = 9.9
    assert watched.breaker.admit() is None
    watched.clock.now = 10.0
    assert watched.breaker.admit() is not None
    assert [watched.breaker.admit() for _ in range(3)] == [None, None, None]
    assert watched.states == ["open", "half-open"]


def test_the_probe_closes_it_where_the_decoder_works_again_and_the_count_starts_at_zero() -> None:
    watched = Watched().opened()
    watched.clock.now = 10.0
    watched.call(True)
    assert watched.states == ["open", "half-open", "closed"]
    watched.call(False)
    assert None not in [watched.breaker.admit() for _ in range(3)]


def test_a_probe_that_fails_opens_it_for_another_full_rest() -> None:
    watched = Watched().opened()
    watched.clock.now = 12.0
    watched.call(False)
    assert watched.states == ["open", "half-open", "open"]
    watched.clock.now = 21.9
    assert watched.breaker.admit() is None
    watched.clock.now = 22.0
    assert watched.breaker.admit() is not None


def test_a_probe_that_does_not_tell_leaves_it_half_open_for_the_next_probe() -> None:
    watched = Watched().opened()
    watched.clock.now = 10.0
    watched.call(None)
    assert watched.states == ["open", "half-open"]
    assert watched.breaker.admit() is not None
    assert watched.breaker.admit() is None


@pytest.mark.parametrize("healthy", [True, False, None])
def test_a_call_from_before_it_opened_decides_nothing_and_lets_no_second_probe_in(healthy: bool | None) -> None:
    watched = Watched()
    late = watched.breaker.admit()
    assert late is not None
    watched.opened().clock.now = 10.0
    assert watched.breaker.admit() is not None
    watched.breaker.report(late, healthy)
    assert watched.breaker.admit() is None
    assert watched.states == ["open", "half-open"]


@pytest.mark.parametrize(
    ("act", "n_calls", "outcome"),
    [
        (status(500), 5, "refused_by_breaker"),
        (status(500, "the upstream timed out"), 5, "refused_by_breaker"),
        (status(401), 5, "refused_by_breaker"),
        (status(404), 5, "refused_by_breaker"),
        (label("excellent"), 9, "undecided"),
    ],
    ids=["failing", "failing in words that speak of time", "wrong key", "no such model", "useless"],
)
def test_after_failures_in_a_row_the_decoder_is_not_asked_any_more(
    act: Act, n_calls: int, outcome: str, tmp_path: Path
) -> None:
    async def run(url: str) -> None:
        observer = RecordingObserver()
        handler = opened(tmp_path, url, observer, retries=0, breaker_failures=5)
        for i in range(9):
            answer = await escalated(handler, f"Dish {i}.")
            assert answer.label == "good"
        assert observer.outcomes[-1] == outcome
        assert observer.states == (["open"] if n_calls == 5 else [])
        await handler.close()

    with MessagesServer(act) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == n_calls


REFUSALS_OF_A_TEXT: dict[str, Act] = {
    "blocked": status(400, "Output blocked by content filtering policy"),
    "too long": status(400, "prompt is too long: 250000 tokens > 200000 maximum"),
    "too large": status(413, "request_too_large"),
    "unprocessable": status(422, "messages.0.content: string too long"),
    "a firewall": lambda handler, body: handler.send(403, "<h1>Request blocked</h1>", content_type="text/html"),
}


@pytest.mark.parametrize("name", REFUSALS_OF_A_TEXT)
@pytest.mark.parametrize("first", [[], [label("bad")]], ids=["a new server", "one that has answered"])
def test_texts_that_the_server_refuses_leave_the_decoder_to_everybody_else(
    name: str, first: list[Act], tmp_path: Path
) -> None:
    refusals = [REFUSALS_OF_A_TEXT[name]] * 12

    async def run(url: str) -> None:
        observer = RecordingObserver()
        handler = opened(tmp_path, url, observer, retries=0, breaker_failures=5)
        for i in range(len(first)):
            assert (await escalated(handler, f"Fine {i}.")).reason == ""
        for i in range(len(refusals)):
            refused = await escalated(handler, f"Odd {i}.")
            assert (refused.label, refused.escalation, refused.reason) == ("good", "failed", "text_refused")
        assert (await escalated(handler, "Anybody's soup.")).escalation == "answered"
        assert observer.states == []
        await handler.close()

    with MessagesServer(*first, *refusals, label("bad")) as server:
        asyncio.run(run(server.url))


def test_a_refused_text_does_not_end_a_row_of_failures(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        observer = RecordingObserver()
        handler = opened(tmp_path, url, observer, retries=0, breaker_failures=2)
        reasons = [(await escalated(handler, f"Dish {i}.")).reason for i in range(4)]
        assert reasons == ["server_error", "text_refused", "server_error", "paused"]
        assert observer.states == ["open"]
        await handler.close()

    with MessagesServer(status(500), status(400), status(503), label("bad")) as server:
        asyncio.run(run(server.url))


@pytest.mark.slow
def test_after_its_rest_one_call_tells_whether_the_decoder_is_back(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        observer = RecordingObserver()
        handler = opened(tmp_path, url, observer, retries=0, breaker_failures=2, breaker_rest_s=0.3)
        for i in range(3):
            await escalated(handler, f"Dish {i}.")
        assert observer.states == ["open"]
        await asyncio.sleep(0.35)
        assert (await escalated(handler, "Dish 3.")).escalation == "failed"
        assert observer.states == ["open", "half-open", "open"]
        await asyncio.sleep(0.35)
        assert (await escalated(handler, "Dish 4.")).escalation == "answered"
        assert observer.states == ["open", "half-open", "open", "half-open", "closed"]
        assert (await escalated(handler, "Dish 5.")).escalation == "answered"
        await handler.close()

    with MessagesServer(status(500), status(500), status(503), label("bad")) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == 5


@pytest.mark.slow
@pytest.mark.parametrize(("timeout_s", "states"), [(0.1, []), (2.5, ["open"])], ids=["hurried", "patient"])
def test_only_a_decoder_that_had_its_time_is_at_fault(timeout_s: float, states: list[str], tmp_path: Path) -> None:
    async def run(url: str) -> None:
        observer = RecordingObserver()
        handler = opened(tmp_path, url, observer, retries=0, breaker_failures=2, deadline_ms=1300)
        answers = await asyncio.gather(*(escalated(handler, f"Dish {i}.", timeout_s=timeout_s) for i in range(4)))
        assert {answer.escalation for answer in answers} == {"failed"}
        await handler.close()
        assert observer.states == states

    with MessagesServer(after(3)) as server:
        asyncio.run(run(server.url))
