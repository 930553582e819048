"""Reasons and what can be measured of them: on answers whose figures are counted by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from hybrid.__main__ import main
from hybrid.config import LLMConfig
from hybrid.llm import Reply
from hybrid.llm.request import key
from hybrid.llm.tasks.label import label_request
from hybrid.llm.traces.cache import store_answer
from hybrid.llm.traces.database import TraceDatabase
from hybrid.teacher.reason_quality import ReasonQuality, reason_quality, recoverability, without_label_words
from hybrid.types import Example, Vote
from tests.corpus import LABELS as DISHES
from tests.corpus import WORDS

LABELS = ("bad", "good")
ROWS = {f"r{i}": Example(id=f"r{i}", text=f"The soup was cold and salty, table {i}.", label="bad") for i in range(4)}


def vote(row_id: str, label: str | None, reason: str) -> Vote:
    return Vote(id=row_id, status="ok" if label else "unreadable", label=label, rationale=reason, teacher="t")


def embed(texts: list[str]) -> np.ndarray:
    return np.array([np.eye(2)[int("salty" in text)] for text in texts])


def judged(*answers: Vote, teacher: tuple[Vote, ...] = ()) -> ReasonQuality:
    gold = {"r0": "bad", "r1": "good"}
    return reason_quality(
        answers,
        ROWS,
        LABELS,
        gold=gold,
        teacher={answer.id: answer for answer in teacher},
        embed=embed,
        again=lambda text: "good" if "warm" in text else "bad",
    )


def test_each_measure_counts_what_it_says() -> None:
    quality = judged(
        vote("r0", "bad", '"cold" and "Salty" are complaints'),
        vote("r1", "bad", '"warm" is no praise'),
        vote("r2", "good", "It says so."),
        vote("r3", None, ""),
        teacher=(vote("r0", "bad", '"salty"'), vote("r1", "good", "one two three"), vote("r3", "bad", "cold")),
    )
    assert quality.answers == 4
    assert quality.well_formed == 3 / 4
    assert quality.accuracy == 1 / 2
    assert quality.agreement == 1 / 2
    assert quality.valid == 2 / 4, "a quote that is not in the text, and an answer without a label"
    assert quality.length_ratio == (5 + 4) / (1 + 3)
    assert quality.similarity == 1 / 2
    assert quality.quoting == 2 / 3
    assert quality.quote_precision == 2 / 3
    assert quality.most_frequent == 2 / 3
    assert quality.consistent == 1 / 3, "only the first: the second's reason says warm, the third's label was good"
    assert quality.recoverable is None


def test_without_a_teacher_or_answers_nothing_is_made_up() -> None:
    quality = judged(vote("r2", "bad", "cold"))
    assert (quality.accuracy, quality.agreement, quality.length_ratio, quality.similarity) == (None,) * 4
    assert quality.quote_precision is None
    nothing = judged()
    assert (nothing.answers, nothing.well_formed, nothing.consistent) == (0, 0, None)


def test_a_label_is_read_from_what_its_reasons_have_in_common() -> None:
    reasons = [f"complains of it, row {i}" for i in range(10)] + [f"praises it, row {i}" for i in range(10)]
    assert recoverability(reasons, ["bad"] * 10 + ["good"] * 10, LABELS) == 1
    mixed = recoverability(["it says so"] * 20, ["bad", "good"] * 10, LABELS)
    assert mixed is not None
    assert mixed <= 0.6
    assert recoverability(reasons[:12], ["bad"] * 10 + ["good"] * 2, LABELS) is None


@pytest.mark.parametrize(
    ("reason", "rest"),
    [
        ("Clearly negative.", "Clearly"),
        ("NEGATIVELY meant, a negativity", "meant, a"),
        ("negotiates", "negotiates"),
        ("(positive) words", "words"),
    ],
)
def test_the_words_of_the_labels_are_taken_out_with_their_endings(reason: str, rest: str) -> None:
    assert without_label_words(reason, ("negative", "positive")) == rest


def test_a_file_and_a_store_of_answers_about_the_rows_of_a_run_are_judged(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in (finished / "split/rows.jsonl").read_text().splitlines()]
    store = TraceDatabase(tmp_path / "traces.sqlite")
    with (tmp_path / "reasons.jsonl").open("w", encoding="utf-8") as file, store.transaction() as db:
        for row in rows[:60]:
            label, word = next((name, word) for name, words in WORDS.items() for word in words if word in row["text"])
            answer = {"label": label, "rationale": f'"{word}" says so'}
            file.write(json.dumps({"text": row["text"], **answer}) + "\n")
            request = label_request("verify", row["text"], DISHES, LLMConfig())
            reply = Reply(status="ok", text=json.dumps({**answer, "confidence": 0.9}), model="judge")
            store_answer(db, key("judge", request), "judge", request, reply)
    store.close()
    for source in ("reasons.jsonl", "traces.sqlite"):
        assert main(["traces", "judge", str(finished), str(tmp_path / source), "--json"]) == 0
        quality = json.loads(capsys.readouterr().out)["quality"]
        assert (quality["answers"], quality["well_formed"], quality["quote_precision"]) == (60, 1, 1)
        assert quality["valid"] == 1
        assert quality["recoverable"] > 0.8


def test_what_cannot_be_judged_is_said_in_one_sentence(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["traces", "judge", str(finished)]) == 2
    assert "no answer about a row" in capsys.readouterr().err
    (tmp_path / "reasons.csv").write_text("text,label,rationale\nnever seen,bad,so\n")
    assert main(["traces", "judge", str(finished), str(tmp_path / "reasons.csv")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["traces", "judge", str(finished), "x.csv", "--student", "y.gguf"]) == 2
    assert "name one of them" in capsys.readouterr().err
    assert main(["traces", "judge", str(finished), "--student", "y.gguf"]) == 2
    assert "no such file" in capsys.readouterr().err
