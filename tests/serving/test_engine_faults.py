"""The engine raises, dies or hangs: the text at fault fails alone, nobody waits for ever, and it comes back."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import hybrid
from hybrid.runtime.bundle import MODEL, read_bundle
from serving.engine import dispatch, process
from serving.engine.ipc import Open
from serving.engine.process import EngineProcess
from serving.engine.supervisor import MAX_PAUSE_S, pause_s
from serving.errors import EngineDownError, ItemError, ServingError
from serving.settings import EngineSettings, Settings
from serving.types import Answer
from tests.corpus import texts_and_gold
from tests.serving.bundles import POISON, copied, poison_token, poisoned
from tests.serving.deadly_engine import SIGNAL, TOKEN
from tests.serving.live_service import Heard, ask, live
from tests.waiting import until, wait_until

TEXTS = texts_and_gold(31, seed=5)[0]
pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture(scope="module")
def poisoned_dir(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return poisoned(bundle_dir, tmp_path_factory.mktemp("poisoned") / "bundle")


def with_poison(place: int) -> list[str]:
    return [*TEXTS[:place], f"The {POISON} was served.", *TEXTS[place:]]


def check_neighbours(folder: Path, texts: list[str], results: list[Answer | ItemError]) -> None:
    """All but the poisoned text have the answer of the runtime, and it has an error that names its place."""
    sound = [text for text in texts if POISON not in text]
    wanted = iter(hybrid.load(folder).classify(sound))
    for item, (text, answer) in enumerate(zip(texts, results, strict=True)):
        if POISON in text:
            assert isinstance(answer, ItemError)
            assert answer.item == item
        else:
            assert isinstance(answer, Answer)
            assert answer.probs == pytest.approx(next(wanted).probs, abs=1e-5)


@pytest.mark.parametrize("place", [0, 17, 31])
def test_a_text_on_which_the_graph_raises_fails_alone_among_32(poisoned_dir: Path, place: int) -> None:
    texts, heard = with_poison(place), Heard()

    async def scenario() -> None:
        async with live(poisoned_dir, heard=heard) as service:
            check_neighbours(poisoned_dir, texts, await ask(service, texts))

    asyncio.run(scenario())
    assert heard.states == ["ready"]  # the engine outlived it
    assert max(heard.batches) > 1  # the neighbours were not all asked one by one


def deadly(monkeypatch: pytest.MonkeyPatch, folder: Path, signal_name: str) -> None:
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-m", "tests.serving.deadly_engine"))
    monkeypatch.setattr(dispatch, "HOLD_S", 60.0)  # however slowly this machine starts the next engine
    monkeypatch.setenv(TOKEN, str(poison_token(folder)))
    monkeypatch.setenv(SIGNAL, signal_name)


@pytest.mark.parametrize("batch_tokens", [0, 60])
def test_a_text_that_kills_the_engine_fails_alone_and_is_not_tried_a_third_time(
    batch_tokens: int, poisoned_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly(monkeypatch, poisoned_dir, "SIGSEGV")
    texts, heard = with_poison(17), Heard()
    settings = Settings(engine=EngineSettings(batch_tokens=batch_tokens))  # with few, a batch without it dies with it

    async def scenario() -> None:
        async with live(poisoned_dir, settings, heard=heard) as service:
            check_neighbours(poisoned_dir, texts, await ask(service, texts))
            await until(lambda: service.ready)
            again = await ask(service, [texts[17], TEXTS[0]])
            assert isinstance(again[0], ItemError)
            assert isinstance(again[1], Answer)

    asyncio.run(scenario())
    assert heard.states.count("dead") == 2


def test_a_text_on_which_the_engine_hangs_is_given_up(poisoned_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deadly(monkeypatch, poisoned_dir, "SIGSTOP")
    heard = Heard()

    async def scenario() -> None:
        settings = Settings(engine=EngineSettings(hung_after_s=0.5))
        async with live(poisoned_dir, settings, heard=heard) as service:
            [result] = await ask(service, [f"a {POISON}"])
            assert isinstance(result, ItemError)
            await until(lambda: service.ready)
            [result] = await ask(service, [TEXTS[0]])
            assert isinstance(result, Answer)

    asyncio.run(scenario())
    assert heard.states.count("hung") == 2


def test_answers_go_to_the_batches_that_they_are_of_though_several_are_in_the_engine(bundle_dir: Path) -> None:
    bundle, rows = read_bundle(bundle_dir), [[2, 5 + number, 6, 3] for number in range(40)]
    graph = Open(
        model=str(bundle_dir / MODEL),
        sha256=bundle.files[MODEL],
        n_labels=len(bundle.labels),
        pad_id=0,
        threads=2,
        dedicated=False,
        engine="onnxruntime",
    )

    async def scenario() -> None:
        engine = await EngineProcess.start(graph)
        try:
            alone = [await engine.run([row], limit_s=60) for row in rows]
            together = await asyncio.gather(*(engine.run([row], limit_s=60) for row in rows))
        finally:
            await engine.kill()
        for logits, other in zip(alone, together, strict=True):
            assert other[0] == pytest.approx(logits[0], abs=1e-5)
        assert len({tuple(item[0]) for item in alone}) == len(rows)

    asyncio.run(scenario())


async def outcome(work: asyncio.Future[list[Answer | ItemError]]) -> str:
    try:
        result = await work
    except ServingError as error:
        return error.kind
    return "answered" if all(isinstance(item, Answer) for item in result) else "item_failed"


@pytest.mark.parametrize(("number", "noticed_as"), [(signal.SIGKILL, "dead"), (signal.SIGSTOP, "hung")])
def test_an_engine_that_is_killed_or_stopped_under_load_leaves_nobody_waiting(
    bundle_dir: Path, number: signal.Signals, noticed_as: str
) -> None:
    heard = Heard()

    async def scenario() -> None:
        async with live(bundle_dir, heard=heard) as service:
            await ask(service, TEXTS)
            first = service.engine_pid
            assert first
            os.kill(first, number)
            asked = [asyncio.ensure_future(ask(service, TEXTS[:4])) for _ in range(20)]
            assert {await outcome(work) for work in asked} <= {"answered", "engine_down"}
            await until(lambda: service.ready)
            assert service.engine_pid != first
            assert not Path(f"/proc/{first}").exists()  # gone, and no zombie
            assert await outcome(asyncio.ensure_future(ask(service, TEXTS))) == "answered"

    asyncio.run(scenario())
    assert heard.states == ["ready", noticed_as, "starting", "ready"]


def test_who_waits_for_a_lost_engine_is_refused_where_its_successor_does_not_come(
    bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()

    async def scenario() -> None:
        settings = Settings(engine=EngineSettings(hung_after_s=0.5))
        async with live(bundle_dir, settings, heard=heard) as service:
            assert service.engine_pid
            monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", "import time; time.sleep(1000)"))
            os.kill(service.engine_pid, signal.SIGSTOP)
            waiting = [asyncio.ensure_future(ask(service, TEXTS[:4], timeout_s=100)) for _ in range(20)]
            assert {await outcome(work) for work in waiting} == {"engine_down"}
            assert not service.ready

    asyncio.run(scenario())
    assert heard.states == ["ready", "hung", "starting"]


def test_an_idle_engine_that_dies_is_replaced_before_anybody_asks(bundle_dir: Path) -> None:
    heard = Heard()

    async def scenario() -> None:
        async with live(bundle_dir, heard=heard) as service:
            assert service.engine_pid
            os.kill(service.engine_pid, signal.SIGKILL)
            await until(lambda: not service.ready)
            with pytest.raises(EngineDownError) as refused:
                await ask(service, TEXTS[:1])
            assert refused.value.retry_after_s
            await until(lambda: service.ready)

    asyncio.run(scenario())
    assert heard.states == ["ready", "dead", "starting", "ready"]


def test_an_engine_whose_graph_was_changed_on_disk_is_not_started_again(bundle_dir: Path, tmp_path: Path) -> None:
    folder, heard = copied(bundle_dir, tmp_path / "bundle"), Heard()

    async def scenario() -> None:
        async with live(folder, heard=heard) as service:
            assert service.engine_pid
            with (folder / "model.onnx").open("ab") as file:
                file.write(b"x")
            os.kill(service.engine_pid, signal.SIGKILL)
            await until(lambda: any("changed since the bundle was made" in reason for reason in heard.reasons))
            assert not service.ready

    asyncio.run(scenario())


class Stumbles(Heard):
    """An observer with a fault of its own, once."""

    def batch_ran(self, n_texts: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        super().batch_ran(n_texts, tokens, padded_tokens, seconds)
        if len(self.batches) == 1:
            raise ValueError("an observer that stumbles")


def test_a_fault_of_the_service_itself_fails_one_batch_and_the_next_is_answered(bundle_dir: Path) -> None:
    async def scenario() -> None:
        async with live(bundle_dir, heard=Stumbles()) as service:
            with pytest.raises(ServingError, match="the service failed on this request"):
                await ask(service, TEXTS[:1])
            assert isinstance((await ask(service, TEXTS[:1]))[0], Answer)

    asyncio.run(scenario())


def test_starts_that_fail_again_and_again_come_ever_more_slowly() -> None:
    pauses = [pause_s([100.0] * n, 101.0) for n in range(12)]
    assert pauses[:3] == [0.0, 0.0, 0.0]  # two deaths are mended at once
    assert pauses == sorted(pauses)
    assert pauses[3] > 0
    assert pauses[-1] == MAX_PAUSE_S
    assert pause_s([100.0] * 12, 1000.0) == 0.0  # forgotten


def test_the_engine_ends_with_the_service_however_that_ends(bundle_dir: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from serving.service import ClassifierService\n"
        "from tests.serving.live_service import NullObserver\n"
        "from serving.settings import Settings\n"
        "async def main():\n"
        "    service = ClassifierService(Path(sys.argv[1]), Settings(), NullObserver())\n"
        "    await service.start()\n"
        "    print(service.engine_pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, str(bundle_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout
        engine = int(service.stdout.readline())
        os.kill(engine, signal.SIGSTOP)  # it cannot even see the socket close
        service.kill()
    wait_until(lambda: not Path(f"/proc/{engine}").exists())
