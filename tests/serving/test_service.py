"""The service answers what the runtime answers, whoever else asks, and inside the caller's deadline."""

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest

import hybrid
from hybrid.runtime.bundle import Bundle
from serving.errors import (
    DeadlineError,
    ItemError,
    OverloadedError,
    StoppingError,
    TooLargeError,
    UnanswerableError,
)
from serving.service import ClassifierService
from serving.settings import EngineSettings, Limits, Settings
from serving.types import Answer, Deadline
from tests.corpus import texts_and_gold
from tests.serving.bundles import changed, copied, sealed
from tests.serving.live_service import Heard, ask, live
from tests.waiting import until

TEXTS = [*texts_and_gold(40, seed=7)[0], "soup", "x " * 90]
LONG = "The soup at the station was served daily and " * 12
pytestmark = [pytest.mark.slow, pytest.mark.alone]


def check_same(folder: Path, texts: list[str], results: list[Answer | ItemError]) -> None:
    for wanted, answer in zip(hybrid.load(folder).classify(texts), results, strict=True):
        assert isinstance(answer, Answer)
        assert answer.probs == pytest.approx(wanted.probs, abs=1e-5)
        assert (answer.label, answer.labels) == (wanted.label, wanted.labels)
        assert answer.truncated == wanted.truncated
        assert (answer.status == "escalated") == wanted.escalate
        assert answer.source == "encoder"


def test_a_text_has_the_runtime_s_answer_whatever_its_neighbours(bundle_dir: Path) -> None:
    heard = Heard()

    async def scenario() -> None:
        async with live(bundle_dir, heard=heard) as service:
            check_same(bundle_dir, TEXTS, await ask(service, TEXTS))
            check_same(bundle_dir, TEXTS[::-1], await ask(service, TEXTS[::-1]))
            alone = [(await ask(service, [text]))[0] for text in TEXTS[-6:]]
            check_same(bundle_dir, TEXTS[-6:], alone)
            assert await ask(service, []) == []

    asyncio.run(scenario())
    assert max(heard.batches) > 1
    assert heard.timings[0].inference_s > 0


def test_each_of_100_clients_gets_its_own_answers(bundle_dir: Path) -> None:
    texts = texts_and_gold(1000, seed=9)[0]
    wanted = {text: p.probs for text, p in zip(texts, hybrid.load(bundle_dir).classify(texts), strict=True)}
    heard = Heard()

    async def client(service: ClassifierService, own: list[str]) -> None:
        for first in range(0, len(own), 2):
            pair = own[first : first + 2]
            for text, answer in zip(pair, await ask(service, pair), strict=True):
                assert isinstance(answer, Answer)
                assert answer.probs == pytest.approx(wanted[text], abs=1e-5)

    async def scenario() -> None:
        async with live(bundle_dir, heard=heard) as service:
            await asyncio.gather(*(client(service, texts[n * 10 : n * 10 + 10]) for n in range(100)))

    asyncio.run(scenario())
    assert len({tuple(probs.values()) for probs in wanted.values()}) > 500  # a mixed-up answer would show
    assert max(heard.batches) > 2
    assert heard.padded / heard.tokens < 1.25


def test_truncate_says_what_becomes_of_a_long_text(bundle_dir: Path) -> None:
    ends = [LONG + "superb and fresh", LONG + "stale and burnt"]

    async def scenario() -> None:
        async with live(bundle_dir) as service:
            with pytest.raises(UnanswerableError, match="item 1: longer than the 32 tokens") as refused:
                await ask(service, ["soup", LONG], truncate="error")
            assert refused.value.item == 1
            right = await ask(service, ends, truncate="right")
            left = await ask(service, ends, truncate="left")
            own = await ask(service, ends)
        probs = [[item.probs for item in result if isinstance(item, Answer)] for result in (right, left, own)]
        assert probs[0] == probs[2]
        assert probs[0][0] == probs[0][1]  # they differ at the end alone, which is cut
        assert probs[1][0] != probs[1][1]
        assert all(isinstance(entry, Answer) and entry.truncated and entry.tokens == 32 for entry in right + left)

    asyncio.run(scenario())


def test_a_bundle_that_reads_windows_answers_as_the_runtime_does(bundle_dir: Path, tmp_path: Path) -> None:
    folder = copied(bundle_dir, tmp_path / "bundle")
    reading = {"max_length": 32, "truncate": "right", "windows": "mean", "overlap": 8}
    sealed(changed(folder, reading=reading))

    async def scenario() -> None:
        async with live(folder) as service:
            texts = [LONG, "soup", LONG + "superb and fresh"]
            answers = await ask(service, texts)
            check_same(folder, texts, answers)
            assert isinstance(answers[0], Answer)
            assert answers[0].tokens > 64
            [cut] = await ask(service, [LONG], truncate="right")
            assert isinstance(cut, Answer)
            assert cut.truncated

    asyncio.run(scenario())


def test_a_bundle_of_several_labels_a_text_answers_as_the_runtime_does(bundle_dir: Path, tmp_path: Path) -> None:
    folder = copied(bundle_dir, tmp_path / "bundle")
    sealed(changed(folder, task="multi_label", calibration={"activation": "sigmoid", "cutoffs": [0.4, 0.4, 0.3]}))

    async def scenario() -> None:
        async with live(folder) as service:
            check_same(folder, TEXTS, await ask(service, TEXTS))

    asyncio.run(scenario())


def test_a_text_that_is_not_unicode_is_named(bundle_dir: Path) -> None:
    async def scenario() -> None:
        async with live(bundle_dir) as service:
            with pytest.raises(UnanswerableError, match="item 1: "):
                await ask(service, ["soup", "a \ud800 b"])
            check_same(bundle_dir, ["soup"], await ask(service, ["soup"]))

    asyncio.run(scenario())


def test_a_deadline_names_the_stage_that_it_passed_in_and_work_of_who_left_is_dropped(bundle_dir: Path) -> None:
    heard = Heard()

    async def scenario() -> None:
        async with live(bundle_dir, Settings(engine=EngineSettings(hung_after_s=30)), heard=heard) as service:
            assert service.engine_pid
            os.kill(service.engine_pid, signal.SIGSTOP)  # the engine is slow, and not yet hung
            in_engine = []
            for text in ("first", "second"):
                in_engine.append(asyncio.ensure_future(ask(service, [text], timeout_s=0.6)))
                await asyncio.sleep(0.1)
            late = asyncio.ensure_future(ask(service, TEXTS, timeout_s=0.3))
            gone = asyncio.ensure_future(ask(service, TEXTS))
            await asyncio.sleep(0.1)
            gone.cancel()
            with pytest.raises(DeadlineError, match="300 ms passed in the stage queue"):
                await late
            for future in in_engine:
                with pytest.raises(DeadlineError, match="600 ms passed in the stage inference"):
                    await future
            os.kill(service.engine_pid, signal.SIGCONT)
            check_same(bundle_dir, ["last"], await ask(service, ["last"]))
            with pytest.raises(DeadlineError):
                await ask(service, ["too late"], timeout_s=-1)
            await until(lambda: len(heard.batches) == 3)  # it runs two at once: the last may overtake the second

    asyncio.run(scenario())
    assert heard.batches == [1, 1, 1]  # first, second and last; nothing of the two that left
    assert [type(error) for error in heard.refusals] == [DeadlineError] * 4


def test_a_full_line_refuses_at_once_and_takes_requests_again_when_it_is_shorter(bundle_dir: Path) -> None:
    settings = Settings(engine=EngineSettings(hung_after_s=30), limits=Limits(queued_tokens=2000))

    async def scenario() -> None:
        async with live(bundle_dir, settings) as service:
            assert service.engine_pid
            os.kill(service.engine_pid, signal.SIGSTOP)
            waiting = []
            for _ in range(10):
                waiting.append(asyncio.ensure_future(ask(service, TEXTS)))
                await asyncio.sleep(0.05)  # the engine has the first ones before the line is full
            refused = [
                future for future in waiting if future.done() and isinstance(future.exception(), OverloadedError)
            ]
            assert 0 < len(refused) < 10
            with pytest.raises(OverloadedError) as error:  # though the engine, which is stopped, empties nothing
                await ask(service, TEXTS)
            assert error.value.retry_after_s
            os.kill(service.engine_pid, signal.SIGCONT)
            answered = [await item for item in waiting if item not in refused]
            for result in answered:
                check_same(bundle_dir, TEXTS, result)
            check_same(bundle_dir, TEXTS, await ask(service, TEXTS))
            with pytest.raises(TooLargeError, match="at most 2000 may wait"):
                await ask(service, TEXTS * 4)

    asyncio.run(scenario())


class Decides:
    """A decoder that answers once its gate is open, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = False
        self.gate = asyncio.Event()

    async def escalate(self, bundle: Bundle, text: str, answer: Answer, deadline: Deadline) -> Answer:
        self.asked.append(text)
        await self.gate.wait()
        return msgspec.structs.replace(answer, source="decoder", rationale=f"about {text}")

    async def decide(self, text: str, labels: tuple[str, ...], instructions: str, deadline: Deadline) -> Answer:
        raise UnanswerableError("not asked here")

    async def close(self, within_s: float = 0.0) -> None:
        self.closed = True


def test_what_is_below_the_threshold_goes_to_the_decoder_all_at_once_and_slows_nobody_else(bundle_dir: Path) -> None:
    decoder = Decides()

    async def scenario() -> None:
        async with live(bundle_dir, escalates=decoder) as service:
            never = await ask(service, TEXTS, escalate="never", threshold=2.0)
            assert all(isinstance(item, Answer) and item.status == "escalated" for item in never)
            sure = await ask(service, TEXTS, threshold=0.0)
            assert all(isinstance(entry, Answer) and entry.status == "accepted" for entry in sure)
            assert decoder.asked == []
            slow = asyncio.ensure_future(ask(service, TEXTS, threshold=2.0))
            await until(lambda: len(decoder.asked) == len(TEXTS))  # not one after the other: none is answered yet
            await ask(service, TEXTS, threshold=0.0)
            assert not slow.done()
            decoder.gate.set()
            for text, answer in zip(TEXTS, await slow, strict=True):
                assert isinstance(answer, Answer)
                assert (answer.source, answer.rationale) == ("decoder", f"about {text}")
            assert sorted(decoder.asked) == sorted(TEXTS)
            await ask(service, TEXTS[:1], threshold=0.0, escalate="always")
            assert len(decoder.asked) == len(TEXTS) + 1
            decoder.gate.clear()
            with pytest.raises(DeadlineError, match="in the stage escalation"):
                await ask(service, TEXTS[:1], escalate="always", timeout_s=0.2)

    asyncio.run(scenario())
    assert decoder.closed


def test_a_service_that_drains_answers_what_it_accepted_and_refuses_the_rest(bundle_dir: Path) -> None:
    async def scenario() -> None:
        decoder = Decides()
        async with live(bundle_dir, escalates=decoder) as service:
            accepted = asyncio.ensure_future(ask(service, TEXTS[:2], escalate="always"))
            await until(lambda: len(decoder.asked) == 2)
            draining = asyncio.ensure_future(service.drain())
            await asyncio.sleep(0)
            assert not service.ready
            with pytest.raises(StoppingError):
                await ask(service, TEXTS[:1])
            decoder.gate.set()
            assert await draining
            assert len(await accepted) == 2

    asyncio.run(scenario())
