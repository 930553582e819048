"""Trace stores and exports of an earlier version open with every answer, and go on being written to."""

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from hybrid.config import LLMConfig
from hybrid.errors import StorageError
from hybrid.llm import CachedLLM, Reply, Request, key
from hybrid.llm.tasks.label import label_request, read_vote
from hybrid.llm.traces.database import VERSION, TraceDatabase
from hybrid.llm.traces.export import export_traces, import_traces, stored_answers

GOLDEN = Path(__file__).parent / "golden"
LABELS = ("bad", "good")


class Judge:
    """A model that must not be asked for what the store holds."""

    name = "judge"

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def ask(self, request: Request) -> Reply:
        self.asked.append(request)
        return Reply(status="ok", text='{"label": "good"}', model="judge", cost_usd=0.5)


def unversioned(folder: Path) -> Path:
    return Path(shutil.copy(GOLDEN / "traces.sqlite", folder))


def version_of(path: Path) -> int:
    return int(sqlite3.connect(path).execute("PRAGMA user_version").fetchone()[0])


def test_a_store_without_a_version_answers_what_it_holds_and_takes_new_answers(tmp_path: Path) -> None:
    path = unversioned(tmp_path)
    assert version_of(path) == 0
    held = requests_in(path)
    assert len(held) == 2
    judge = Judge()
    cached = CachedLLM(judge, path)
    assert [cached.ask(request).status for request in held] == ["ok", "ok"]
    assert judge.asked == []
    new = label_request("verify", "A new dish.", LABELS, LLMConfig())
    cached.ask(new)
    cached.close()
    assert version_of(path) == VERSION
    again = CachedLLM(Judge(), path)
    assert (again.ask(new).cost_usd, again.usage().hits) == (0.5, 1)


def requests_in(path: Path) -> list[Request]:
    rows = sqlite3.connect(path).execute("SELECT request FROM answers").fetchall()
    return [msgspec.json.decode(row[0], type=Request) for row in rows]


def test_the_look_up_reads_a_store_without_a_version_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    path = unversioned(tmp_path)
    before = path.read_bytes()
    requests = {key("judge", request): request for request in requests_in(path)}
    answers = stored_answers(path, [*requests, "a key that it lacks"])
    assert {digest: answer.request for digest, answer in answers.items()} == requests
    assert path.read_bytes() == before


def test_a_store_is_brought_to_this_version_once_by_many_at_the_same_time(tmp_path: Path) -> None:
    path = unversioned(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: TraceDatabase(path), range(16)))
    assert {store.read("SELECT count(*) FROM answers")[0][0] for store in stores} == {2}
    assert version_of(path) == VERSION


def test_a_store_of_a_later_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = unversioned(tmp_path)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(StorageError, match=rf"version {VERSION + 1}, and this hybrid reads versions up to {VERSION}"):
        TraceDatabase(path)
    assert version_of(path) == VERSION + 1


def test_an_export_of_an_earlier_version_imports_and_goes_out_again_as_it_came(tmp_path: Path) -> None:
    store = tmp_path / "traces.sqlite"
    assert import_traces(store, GOLDEN / "traces.jsonl") == 3
    judge = Judge()
    cached = CachedLLM(judge, store)
    request = label_request("verify", "The soup was cold.", LABELS, LLMConfig(max_tokens=60))
    reply = cached.ask(request)
    assert judge.asked == []
    assert read_vote("1", reply, LABELS, teacher="judge").label == "bad"
    assert (reply.model, reply.cost_usd, reply.cache_read_tokens, reply.thinking) == ("judge-2026", 0.0123, 7, "Hm.")
    assert export_traces(store, tmp_path / "out.jsonl") == 3
    assert (tmp_path / "out.jsonl").read_bytes() == (GOLDEN / "traces.jsonl").read_bytes()
