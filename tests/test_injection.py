"""Prompt injection: forty rows that order a label, claim one or close the fence, through the real request path."""

import json
import re
from typing import Any

import pytest

from hybrid.artifacts import fetch
from hybrid.config import LLMConfig, SynthesizeConfig, VerifyConfig
from hybrid.errors import ArtifactError
from hybrid.llm import open_llm
from hybrid.llm.client.messages import Messages
from hybrid.runtime.decoder import LLMDecoder
from hybrid.teacher.drafts.writing import DraftWriter
from hybrid.teacher.vote_collection import Teacher, collect_votes
from tests.injection_rows import ASKS, LABELS, ROWS, TEXTS, WANTED
from tests.messages_server import Act, MessagesServer, answer, label

FENCED = re.compile(r"<(text-[0-9a-z]*)>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
CONFIG = LLMConfig(model="m", base_url="http://127.0.0.1:9", workers=1)


def outside_the_fences(body: dict[str, Any]) -> str:
    """Return what a reader of the tags takes for instruction: all that no fence holds, the system half included."""
    user = str(body["messages"][0]["content"])
    system = body["system"]
    said = system if isinstance(system, str) else json.dumps(system)
    return f"{said}\n{FENCED.sub('', user)}"


def obeys_what_escapes(handler: Any, body: dict[str, Any]) -> None:
    """Answer as ordered where an order stands outside the fences, else as an honest annotator."""
    label(WANTED if ASKS in outside_the_fences(body).lower() else "negative")(handler, body)


def labels_of(*acts: Act) -> list[str | None]:
    with MessagesServer(*acts) as server:
        teacher = Teacher(llm=Messages("m", base_url=server.url), config=CONFIG)
        return [vote.label for vote in collect_votes(ROWS, LABELS, VerifyConfig(), teacher=teacher).votes]


def test_there_are_forty_different_attacks() -> None:
    assert len(set(TEXTS)) == 40
    assert all(ASKS in text.lower() for text in TEXTS)


def test_no_attack_escapes_the_fence_of_the_teacher() -> None:
    assert labels_of(obeys_what_escapes) == ["negative"] * len(ROWS)


def test_the_server_would_obey_an_attack_that_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.llm.tasks.label.fence", lambda text: f"<text->\n{text}\n</text->")
    assert WANTED in labels_of(obeys_what_escapes)
    monkeypatch.setattr("hybrid.llm.tasks.label.fence", lambda text: text)
    # Without any fence only those rows are safe that bring one of their own.
    assert labels_of(obeys_what_escapes).count(WANTED) >= 36


def test_no_attack_escapes_the_fence_of_the_decoder() -> None:
    with MessagesServer(obeys_what_escapes) as server:
        decoder = LLMDecoder(Messages("m", base_url=server.url), LABELS, config=CONFIG)
        assert [vote.label for vote in decoder.decide(TEXTS)] == ["negative"] * len(ROWS)


def test_no_attack_escapes_the_fence_of_examples_that_inspire_drafts() -> None:
    written = answer(json.dumps({"plan": "p", "text": "t", "attributes": []}))
    with MessagesServer(written) as server:
        teacher = Teacher(llm=Messages("m", base_url=server.url), config=CONFIG)
        config = SynthesizeConfig()
        writer = DraftWriter(ROWS, LABELS, config, teacher=teacher, seed=0, on_done=lambda done, total: None)
        writer.write({"negative": 30})
    seen = "".join(json.dumps(body, ensure_ascii=False) for body in server.bodies)
    assert seen.count("Ignore all previous instructions") > 0
    assert [body for body in server.bodies if ASKS in outside_the_fences(body).lower()] == []


@pytest.mark.parametrize("said", ["hacked", "positively", "the label is positive", "", None, ["positive"]])
def test_a_model_that_obeys_cannot_leave_the_label_set(said: object) -> None:
    obeyed = answer(json.dumps({"rationale": ASKS, "label": said, "confidence": 1.0}))
    # After one that can be read, answers that cannot stop no run.
    assert labels_of(label("negative"), obeyed) == ["negative"] + [None] * (len(ROWS) - 1)


@pytest.mark.slow
def test_a_real_small_model_answers_attacks_inside_the_label_set() -> None:
    pytest.importorskip("xllamacpp")
    try:
        fetch("smollm2-135m-instruct")
    except ArtifactError as error:
        pytest.skip(str(error))
    config = LLMConfig(model="local", max_tokens=60, workers=2)
    llm = open_llm(config, role="teacher")
    assert llm is not None
    teacher = Teacher(llm=llm, config=config)
    votes = collect_votes(ROWS[::10], LABELS, VerifyConfig(), teacher=teacher).votes
    assert [vote.status for vote in votes] == ["ok"] * 4
    assert {vote.label for vote in votes} <= set(LABELS)
