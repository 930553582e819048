"""Two runs at once on one trace store pay once for each question."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from hybrid.config import LLMConfig
from hybrid.errors import StorageError
from hybrid.llm import Reply, key, open_llm
from hybrid.llm.cost.trace_ledger import reserve_batch
from hybrid.llm.traces.cache import store_answer
from hybrid.llm.traces.claims import Claims
from hybrid.llm.traces.database import TraceDatabase
from tests.billing_server import BillingServer, billed, cut_in_mid_body, on_schedule
from tests.messages_server import status
from tests.test_batches import Teacher as Batches
from tests.test_faults import Teacher, asking, check_books, questions


def slowly(handler: Any, body: dict[str, Any]) -> None:
    time.sleep(0.03)
    billed()(handler, body)


@pytest.mark.slow
def test_two_processes_with_the_same_questions_pay_once_for_each(tmp_path: Path) -> None:
    with BillingServer(slowly) as server:
        runs = [asking(server, tmp_path / "store", budget=100.0, rows=(0, 120)) for _ in range(2)]
        for run in runs:
            _, said = run.communicate(timeout=120)
            assert run.returncode == 0, said
        assert set(server.answers.values()) == {1}
        assert len(server.answers) == 120
        check_books(server, Teacher(server, tmp_path / "store").ledger.spent())
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.slow
def test_the_questions_of_a_killed_process_are_asked_by_another_that_waits_for_them(tmp_path: Path) -> None:
    def hangs(handler: Any, body: dict[str, Any]) -> None:
        if hung:
            hung.pop()
            killed.wait()
        billed()(handler, body)

    hung, killed = [1] * 8, threading.Event()
    with BillingServer(hangs) as server:
        first = asking(server, tmp_path / "store", budget=100.0, rows=(0, 8))
        while len(server.bodies) < 8:
            time.sleep(0.01)
        second = asking(server, tmp_path / "store", budget=100.0, rows=(0, 8))
        time.sleep(1.0)
        assert len(server.bodies) == 8, "the second waits"
        first.kill()
        assert first.wait() == -signal.SIGKILL
        _, said = second.communicate(timeout=60)
        assert second.returncode == 0, said
        killed.set()
        assert len(server.bodies) == 16
        assert Teacher(server, tmp_path / "store").ledger.spent().unsettled == 8
    assert not list(tmp_path.glob("*.lock"))


def test_a_question_that_another_asks_in_vain_is_asked_again_by_the_one_that_waited(tmp_path: Path) -> None:
    file = TraceDatabase(tmp_path / "store")
    other, digest = Claims(file), key("m", questions(1)[0])
    with BillingServer() as server:
        assert other.take(digest) == "taken"
        teacher = Teacher(server, tmp_path / "store")
        assert teacher.llm.claims.others() == {digest}
        other.release(digest)
        assert teacher.llm.ask(questions(1)[0]).status == "ok"
        assert other.take(digest) == "answered"
        assert teacher.llm.claims.others() == set()


def test_a_wait_for_another_run_is_said_once_and_has_an_end(tmp_path: Path) -> None:
    file = TraceDatabase(tmp_path / "store")
    other, lines = Claims(file), list[str]()
    assert other.take("a") == other.take("b") == "taken"

    def say(line: str) -> None:
        lines.append(line)
        other.release("a")
        other.release("b")

    waits = Claims(file, say, say_after_s=0.0)
    assert waits.take("a") == waits.take("b") == "taken"
    assert lines == [f"waiting for another run that asks the same questions with {file.path}; its answers are shared"]
    with pytest.raises(
        StorageError, match="another run has been asking a question of this one for 0 minutes; end that run"
    ):
        Claims(file, max_wait_s=0.0).take("a")


@pytest.mark.parametrize("fault", [status(500), cut_in_mid_body], ids=["500", "cut"])
def test_a_claim_is_given_up_when_a_question_fails(fault: Any, tmp_path: Path) -> None:
    with BillingServer(on_schedule(fault)) as server:
        teacher = Teacher(server, tmp_path / "store")
        teacher.llm.ask(questions(1)[0])
        assert teacher.llm.file.read("SELECT count(*) FROM asking") == [(0,)]


def test_a_batch_leaves_out_what_another_run_asks_at_that_moment(tmp_path: Path) -> None:
    replies: list[Reply] = []
    with BillingServer() as server:
        other, asked = Teacher(server, tmp_path / "store"), questions(3)
        assert other.llm.claims.take(key("m", asked[0])) == "taken"
        batches = Batches(server, tmp_path / "store", budget=100.0)
        run = threading.Thread(target=lambda: replies.extend(batches.ask(asked)))
        run.start()
        while not server.batches:
            time.sleep(0.005)
        reply = Reply(status="ok", text='{"label": "positive"}', model="m")
        with other.llm.file.transaction() as db:
            store_answer(db, key("m", asked[0]), "m", asked[0], reply)
        other.llm.claims.release(key("m", asked[0]))
        run.join(timeout=60)
        assert [reply.status for reply in replies] == ["ok"] * 3
        assert [len(batch["results"]) for batch in server.batches.values()] == [2]
        assert len(server.answers) == 2


def test_a_run_without_batches_says_what_an_earlier_one_left_in_open_batches(tmp_path: Path) -> None:
    said: list[str] = []
    with BillingServer() as server:
        batches = Batches(server, tmp_path / "store", budget=100.0)
        reserve_batch(batches.ledger, questions(7))
        config = LLMConfig(model="m", base_url=server.url)
        open_llm(config, role="teacher", store=tmp_path / "store", say=said.append)
        assert said == [
            "teacher: an earlier run with batch = true left 7 questions in open batches; set it again to collect their answers, "
            "else they are asked and paid for anew"
        ]
        open_llm(config, role="decoder", store=tmp_path / "store", say=said.append)
        assert len(said) == 1


def test_the_lock_file_of_an_owner_goes_with_it(tmp_path: Path) -> None:
    with BillingServer() as server:
        teacher = Teacher(server, tmp_path / "store")
        teacher.ask(questions(3))
        assert len(list(tmp_path.glob("store.asking-*.lock"))) == 1
        teacher.llm.close()
    assert not list(tmp_path.glob("store.asking-*.lock"))


def test_a_folder_without_locks_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(lock: FileLock) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "_acquire", no_locks)
    with pytest.raises(StorageError, match=r"store\.asking-.*: cannot be locked \(FileSystem .*\); expected a folder"):
        Claims(TraceDatabase(tmp_path / "store")).take("k")
