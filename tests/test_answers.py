"""What a server without structured output sends is read where it is plain, and otherwise kept apart and asked again."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hybrid.config import LLMConfig, VerifyConfig
from hybrid.errors import LLMError
from hybrid.llm import CachedLLM, Reply, Request, ask_all, key
from hybrid.llm.answers import UnreadableAnswerError, read_answer
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import Retry
from hybrid.llm.client.watch import UNREADABLE_FROM_START
from hybrid.llm.tasks.drafts import DRAFT_SCHEMA
from hybrid.llm.tasks.label import label_request, label_schema, read_vote
from hybrid.llm.traces.database import TraceDatabase
from hybrid.llm.traces.export import export_traces
from hybrid.stages.verify import VERIFY
from hybrid.teacher.vote_collection import Teacher as RowTeacher
from hybrid.teacher.vote_collection import collect_votes
from hybrid.types import Example
from tests.messages_server import Act, Handler, MessagesServer, answer, label

LABELS = ("negative", "positive")
GOOD = '{"rationale": "It is warm.", "label": "positive", "confidence": 0.9}'


def questions(n: int) -> list[Request]:
    return [label_request("verify", f"Dish number {i}.", LABELS, LLMConfig(max_tokens=60)) for i in range(n)]


def vote_of(text: str, labels: tuple[str, ...] = LABELS) -> tuple[str, str | None]:
    vote = read_vote("1", Reply(status="ok", text=text, model="m"), labels, teacher="m")
    return vote.status, vote.label


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{GOOD}\n```",
        f"Sure! Here is the label:\n{GOOD}\nI hope that this helps.",
        f"The {{label}} is: {GOOD}",
        GOOD.replace("positive", "Positive"),
        GOOD.replace("positive", " POSITIVE\\n"),
        GOOD.replace("It is warm.", 'It says {"label": "x"} and } too.').replace(
            '{"label": "x"}', '{\\"label\\": \\"x\\"}'
        ),
        GOOD.replace("It is warm.", "It is\nwarm."),
        GOOD.replace("0.9", "NaN"),
        f"[{GOOD}]",
        f"{GOOD}\n{GOOD}",
        "\ufeff" + GOOD,
        '{"label": "positive"}',
        GOOD.replace("It is warm.", "\\ud83d"),
    ],
)
def test_an_answer_is_read_where_it_is_plain(text: str) -> None:
    assert vote_of(text) == ("ok", "positive")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "positive",
        "{}",
        "{'label': 'positive'}",
        '{"rationale": "It is warm.", "label": "posi',
        '{"example": {"label": "positive"}, "label": "neg',
        '{"rationale": "No {\\"label\\": \\"positive\\"} here", "label": 1}',
        '{"answer": {"label": "positive"}}',
        f"{GOOD}\n{GOOD.replace('positive', 'negative')}",
        GOOD.replace("positive", "pos itive"),
        GOOD.replace("positive", "positive, I think"),
        '{"label": ["positive"]}',
        '{"label": ' + "[" * 100_000,
        '{"label":' * 5_000,
    ],
    ids=lambda text: text[:40],
)
def test_nothing_is_guessed_where_it_is_not(text: str) -> None:
    assert vote_of(text) == ("unreadable", None)


def test_labels_that_differ_in_case_alone_have_to_be_named_exactly() -> None:
    assert vote_of('{"label": "C"}', ("c", "C")) == ("ok", "C")
    assert vote_of('{"label": "go"}', ("Go", "GO")) == ("unreadable", None)


def test_a_lone_surrogate_of_a_rationale_is_replaced_so_that_it_can_be_written() -> None:
    vote = read_vote("1", Reply(status="ok", text=GOOD.replace("warm", "\\ud800"), model="m"), LABELS, teacher="m")
    assert vote.rationale == "It is \ufffd."
    assert msgspec.json.encode(vote)


def test_an_object_without_labels_needs_every_field_with_its_type() -> None:
    assert read_answer('Here: {"plan": "p", "text": "t"}', DRAFT_SCHEMA) == {"plan": "p", "text": "t"}
    for text in ('{"plan": "p"}', '{"plan": "p", "text": 1}', '{"plan": "p", "text": null}'):
        with pytest.raises(UnreadableAnswerError, match="expected string as 'text'"):
            read_answer(text, DRAFT_SCHEMA)


class Teacher:
    """A client with a store, for a server without structured output."""

    def __init__(self, server: MessagesServer, path: Path) -> None:
        self.llm = CachedLLM(Messages("m", base_url=server.url, retry=Retry(first_wait_s=0.01)), path)


def test_an_unreadable_answer_is_kept_apart_and_its_question_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with MessagesServer(answer("I like it."), answer("Positively!"), label("positive")) as server:
        first = Teacher(server, path).llm.ask(questions(1)[0])
        assert (first.status, first.reason) == ("unreadable", "not the JSON object asked for: 'I like it.'")
        assert apart(path) == ["I like it."]
        assert Teacher(server, path).llm.ask(questions(1)[0]).status == "unreadable"
        assert apart(path) == ["Positively!"]
        assert export_traces(path, tmp_path / "answers.jsonl") == 0
        assert export_traces(path, tmp_path / "apart.jsonl", unreadable=True) == 1
        assert "Positively!" in (tmp_path / "apart.jsonl").read_text()
        assert Teacher(server, path).llm.ask(questions(1)[0]).status == "ok"
        assert Teacher(server, path).llm.ask(questions(1)[0]).status == "ok"
        assert len(server.bodies) == 3


def apart(path: Path) -> list[str]:
    rows = TraceDatabase(path).read("SELECT reply FROM unreadable")
    return [msgspec.json.decode(reply, type=Reply).text for (reply,) in rows]


def test_unreadable_answers_of_an_earlier_version_are_asked_again_and_readable_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with MessagesServer(label("positive")) as server:
        teacher = Teacher(server, path)
        ask_all(questions(3), teacher.llm, 1)
        teacher.llm.close()
        db = sqlite3.connect(path)
        db.execute("DROP TABLE unreadable")
        db.execute("DROP TABLE asking")
        reply = msgspec.json.encode(Reply(status="ok", text="Positive, surely.", model="m")).decode()
        db.execute("UPDATE answers SET reply = ? WHERE key = ?", (reply, key("m", questions(1)[0])))
        db.execute("UPDATE answers SET reply = 'no reply' WHERE key = ?", (key("m", questions(3)[2]),))
        db.execute("PRAGMA user_version = 1")
        db.commit()
        db.close()
        assert [r.status for r in ask_all(questions(2), Teacher(server, path).llm, 1)] == ["ok", "ok"]
        assert len(server.bodies) == 4
    assert apart(path) == ["Positive, surely."]


def test_a_stage_with_unreadable_answers_of_a_live_teacher_is_done_again_by_the_next_run(tmp_path: Path) -> None:
    rows = [Example(id=f"r{i}", text=f"Dish {i}.", label="negative") for i in range(2)]
    with MessagesServer(label("positive"), answer("Well."), label("negative")) as server:
        for unreadable in (1, 0):
            config = LLMConfig(model="m", base_url=server.url, workers=1)
            teacher = RowTeacher(llm=Teacher(server, tmp_path / "store").llm, config=config)
            report = collect_votes(
                rows, LABELS, VerifyConfig(), teacher=teacher, on_done=lambda done, total: None
            ).report
            assert (report["unreadable"], report["complete"]) == (unreadable, not unreadable)
            line = VERIFY.summary_line(report | {"imported": {}})
            assert ("1 could not be read, and the next run asks them again" in line) == bool(unreadable)
        assert len(server.bodies) == 3


@pytest.mark.parametrize(
    "act",
    [
        answer("The text is positive."),
        answer('{"rationale": "It', stop_reason="max_tokens"),
        answer(""),
        answer(json.dumps({"label": "glad"})),
    ],
    ids=["words", "cut off", "empty", "another label"],
)
def test_a_server_whose_answers_cannot_be_used_stops_the_run_after_ten_and_names_what_came(
    act: Act, tmp_path: Path
) -> None:
    with MessagesServer(act) as server:
        with pytest.raises(LLMError) as error:
            ask_all(questions(200), Teacher(server, tmp_path / "store").llm, 4)
        assert UNREADABLE_FROM_START <= len(server.bodies) <= UNREADABLE_FROM_START + 4
    said = str(error.value)
    assert f"the first {UNREADABLE_FROM_START} answers cannot be used ('Dish number " in said
    assert "structured output" in said


def test_unreadable_answers_after_a_readable_one_stop_nothing(tmp_path: Path) -> None:
    def act(handler: Handler, body: dict[str, Any]) -> None:
        is_first = "number 0." in str(body["messages"])
        (label("positive") if is_first else answer("Well."))(handler, body)

    with MessagesServer(act) as server:
        replies = ask_all(questions(30), Teacher(server, tmp_path / "store").llm, 1)
    assert [reply.status for reply in replies] == ["ok"] + ["unreadable"] * 29


def test_the_schema_of_a_request_is_what_its_answer_is_judged_by() -> None:
    assert questions(1)[0].schema == label_schema(LABELS)
