"""The trace store: nothing is asked twice, and nothing but an answer is kept."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from threading import Barrier, Thread

import msgspec
import pytest

from hybrid.config import LLMConfig
from hybrid.errors import StorageError
from hybrid.llm import LLM, CachedLLM, Reply, Request, Usage, ask_all, open_llm, usage_of
from hybrid.llm.client.messages import Messages, Retry
from hybrid.llm.tasks.label import label_request
from tests.messages_server import MessagesServer, answer, label, status
from tests.waiting import wait_until

LABELS = ("negative", "positive")


def question(text: str = "Lovely day") -> Request:
    return label_request("verify", text, LABELS, LLMConfig())


def open_store(server: MessagesServer, path: Path, model: str = "m") -> CachedLLM:
    return CachedLLM(Messages(model, base_url=server.url, retry=Retry(first_wait_s=0.01)), path)


def test_nothing_is_asked_twice_across_two_instances_on_one_file(tmp_path: Path) -> None:
    requests = [question(str(i)) for i in range(20)]
    with MessagesServer(label("positive")) as server:
        first, second = (open_store(server, tmp_path / "store.sqlite") for _ in range(2))
        replies = ask_all(requests, first, 8)
        assert ask_all(requests, second, 8) == replies
        assert len(server.bodies) == 20
    assert (first.usage().calls, first.usage().hits) == (20, 0)
    assert (second.usage().calls, second.usage().hits, second.usage().input_tokens) == (0, 20, 0)


def test_two_threads_with_one_question_ask_once(tmp_path: Path) -> None:
    def slow(handler: object, body: dict[str, object]) -> None:
        time.sleep(0.1)
        label("positive")(handler, body)  # type: ignore[arg-type]

    with MessagesServer(slow) as server:
        llm = open_store(server, tmp_path / "store.sqlite")
        ask_all([question()] * 6, llm, 6)
        assert len(server.bodies) == 1


def test_another_model_or_sample_is_asked_anew(tmp_path: Path) -> None:
    with MessagesServer(label("positive")) as server:
        path = tmp_path / "store.sqlite"
        open_store(server, path).ask(question())
        open_store(server, path).ask(msgspec.structs.replace(question(), sample=1))
        open_store(server, path, model="n").ask(question())
        assert len(server.bodies) == 3


@pytest.mark.parametrize(
    "act",
    [
        status(500),
        answer("", stop_reason="refusal"),
        answer('{"rat', stop_reason="max_tokens"),
        answer(""),
    ],
    ids=["failed", "refused", "cut off", "empty"],
)
def test_what_is_no_answer_is_not_kept_and_is_asked_again(tmp_path: Path, act: object) -> None:
    path = tmp_path / "store.sqlite"
    with MessagesServer(act) as server:  # type: ignore[arg-type]
        assert open_store(server, path).ask(question()).status != "ok"
    with MessagesServer(label("positive")) as server:
        assert open_store(server, path).ask(question()).status == "ok"
        assert len(server.bodies) == 1


class Priced:
    """Costs what the text says; nothing where it says nothing."""

    name = "priced"

    def ask(self, request: Request) -> Reply:
        cost = float(request.text) if request.text else None
        return Reply(
            status="ok", text='{"label": "positive"}', model="priced", input_tokens=7, output_tokens=3, cost_usd=cost
        )


def test_usage_adds_up_and_an_unknown_price_makes_the_cost_unknown(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    first = CachedLLM(Priced(), path)
    for text in ("0.5", "0.25", "0.5"):
        first.ask(question(text))
    wanted = Usage(calls=2, hits=1, input_tokens=14, output_tokens=6, cost_usd=0.75, answers_cost_usd=1.25)
    assert first.usage() == wanted
    second = CachedLLM(Priced(), path)
    second.ask(question("0.5"))
    assert (second.usage().cost_usd, second.usage().answers_cost_usd) == (0.0, 0.5)
    second.ask(question(""))
    assert second.usage().cost_usd is None


def test_usage_is_none_where_nobody_counts(tmp_path: Path) -> None:
    assert usage_of(None) is None
    assert usage_of(Priced()) is None
    assert usage_of(CachedLLM(Priced(), tmp_path / "s")) == Usage()


def test_a_file_that_is_no_store_is_one_clear_sentence(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"this is not a database, however long one looks at it" * 50)
    with pytest.raises(StorageError, match=r"store\.sqlite: the trace store cannot be used"):
        CachedLLM(Priced(), path)


def test_a_full_disk_stops_the_run_and_keeps_what_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    llm = CachedLLM(Priced(), path)
    llm.ask(question("1"))
    pages = llm.file.read("PRAGMA page_count")[0][0]
    llm.file.read(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageError, match="full"):
        ask_all([question("1" + "0" * n) for n in range(1, 60)], llm, 2)
    llm.close()
    again = CachedLLM(Priced(), path)
    again.ask(question("1"))
    assert again.usage().hits == 1


def test_two_stores_may_be_opened_at_the_same_moment(tmp_path: Path) -> None:
    path, ready, errors = tmp_path / "store.sqlite", Barrier(8), []

    def go(number: int) -> None:
        ready.wait()
        try:
            CachedLLM(Priced(), path).ask(question(str(number)))
        except Exception as error:
            errors.append(error)

    threads = [Thread(target=go, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sqlite3.connect(path).execute("SELECT count(*) FROM answers").fetchone() == (8,)


def test_a_live_model_is_wrapped_where_a_store_is_given(tmp_path: Path) -> None:
    config = LLMConfig(model="m", base_url="http://127.0.0.1:9")
    wrapped = open_llm(config, folder=tmp_path, store=tmp_path / "a" / "s", role="teacher")
    assert isinstance(wrapped, CachedLLM)
    bare: LLM | None = open_llm(config, folder=tmp_path, store=None, role="teacher")
    assert isinstance(bare, Messages)


KILLED = """
import sys
from pathlib import Path
from hybrid.llm import CachedLLM, ask_all
from hybrid.llm.client.messages import Messages
from tests.test_store import question
llm = CachedLLM(Messages("m", base_url=sys.argv[1]), Path(sys.argv[2]))
ask_all([question(str(i)) for i in range(40)], llm, 2)
"""


@pytest.mark.slow
def test_a_killed_run_resumes_without_asking_again_what_was_answered(tmp_path: Path) -> None:
    def slow(handler: object, body: dict[str, object]) -> None:
        time.sleep(0.05)
        label("positive")(handler, body)  # type: ignore[arg-type]

    path = tmp_path / "store.sqlite"
    with MessagesServer(slow) as server:
        run = subprocess.Popen([sys.executable, "-c", KILLED, server.url, str(path)], cwd=Path(__file__).parents[1])
        wait_until(lambda: len(server.bodies) >= 12)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        time.sleep(0.2)
        before = len(server.bodies)
        assert 12 <= before < 40
        resumed = open_store(server, path)
        replies = ask_all([question(str(i)) for i in range(40)], resumed, 2)
        assert all(reply.status == "ok" for reply in replies)
        in_flight = 2
        assert resumed.usage().hits >= before - in_flight
        assert len(server.bodies) <= 40 + in_flight
