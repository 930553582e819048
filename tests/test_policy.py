"""hybrid policy: written once by a live teacher, from training rows, and never over what a person edited."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hybrid.__main__ import main
from hybrid.config import LLMConfig
from hybrid.errors import DataError, LLMError
from hybrid.llm import Reply
from hybrid.llm.tasks.policy import Shown, policy_request, policy_text, read_policy
from hybrid.prompts import text_hash
from hybrid.teacher.policy import shown_rows
from hybrid.types import Example, Trusted
from tests.conftest import write_project
from tests.messages_server import MessagesServer, answer

LABELS = ("bad", "good", "plain")
ROWS = [Example(id=str(i), text=f"text {i}", label=LABELS[i % 3]) for i in range(90)]


def said(*labels: str) -> str:
    definitions = [{"label": label, "definition": f"It is {label}."} for label in labels]
    return json.dumps(
        {"observations": "o", "rule": "Judge the dish.", "definitions": definitions, "borderline": ["Cold soup: bad."]}
    )


def ok(text: str) -> Reply:
    return Reply(status="ok", text=text, model="m")


def test_a_policy_defines_every_label_in_the_order_of_the_logits() -> None:
    policy = read_policy(ok(said("plain", "good", "bad")), LABELS)
    assert [entry.label for entry in policy.definitions] == list(LABELS)
    page = policy_text(policy)
    assert page.startswith("# Labelling policy\n\nJudge the dish.\n\n## bad\n\nIt is bad.")
    assert page.endswith("- Cold soup: bad.\n")


@pytest.mark.parametrize("labels", [("bad", "good"), ("bad", "good", "plain", "plain"), ("bad", "good", "odd")])
def test_a_policy_that_does_not_define_each_label_once_is_none(labels: tuple[str, ...]) -> None:
    with pytest.raises(LLMError, match="did not define each label once"):
        read_policy(ok(said(*labels)), LABELS)


def test_a_cut_off_answer_is_no_policy() -> None:
    with pytest.raises(LLMError, match="cut_off"):
        read_policy(Reply(status="cut_off", reason="after 9 tokens", model="m"), LABELS)


def test_trusted_rows_are_shown_where_there_are_any_and_at_most_a_third_of_them() -> None:
    trusted = [Trusted(id=str(i), label=LABELS[(i + (i == 4)) % 3], source="audit") for i in range(30)]
    shown = shown_rows(ROWS, trusted, 40, seed=0)
    assert len(shown) == 10
    assert {example.row.id for example in shown} <= {row.id for row in trusted}
    assert {example.label for example in shown[:3]} == set(LABELS)
    assert len(shown_rows(ROWS, [], 40, seed=0)) == 40


def test_a_slip_of_an_annotator_stands_beside_the_trusted_label() -> None:
    request = policy_request([Shown(row=ROWS[0], label="good")], LABELS, LLMConfig(), source="trusted")
    assert 'label: "good" (an annotator had said "bad")' in request.user
    assert "Careful people checked" in request.system


@pytest.mark.parametrize("part", ["calibration", "test"])
def test_no_row_that_judges_teaches_the_teacher(part: str) -> None:
    row = msgspec.structs.replace(ROWS[0], part=part)
    with pytest.raises(DataError, match=f"{part} row"):
        policy_request([Shown(row=row, label="good")], LABELS, LLMConfig(), source="given")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "dishes", tmp_path / "no-encoder")


def policy(project: Path, url: str, *words: str) -> int:
    settings = [f"teacher.base_url={url}", "teacher.model=judge", *words]
    sets = [word for setting in settings if "=" in setting for word in ("--set", setting)]
    flags = [word for word in words if word.startswith("--")]
    return main(["policy", str(project.parent), "--runs", str(project.parent / "runs"), *flags, *sets])


@pytest.mark.slow
def test_the_command_writes_policy_and_receipt_and_never_over_an_edited_one(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = project.parent / "policy.md"
    with MessagesServer(answer(said(*LABELS))) as server:
        assert policy(project, server.url, "data.trusted=60") == 0
        assert 'policy = "policy.md"' in capsys.readouterr().out
        receipt: dict[str, Any] = json.loads((project.parent / "runs/dishes/policy.json").read_text())
        assert receipt["policy"] == text_hash(page.read_text())
        assert (receipt["source"], len(receipt["rows"])) == ("trusted", 20)
        page.write_text("Mine.")
        assert policy(project, server.url) == 2
        assert "may have been edited" in capsys.readouterr().err
        assert page.read_text() == "Mine."
        assert policy(project, server.url, "--force") == 0
        assert page.read_text() != "Mine."
        assert json.loads((project.parent / "runs/dishes/policy.json").read_text())["source"] == "given"
        assert len(server.bodies) == 2


@pytest.mark.slow
def test_a_recorded_teacher_cannot_write_a_policy(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", str(project.parent), "--runs", str(project.parent / "runs")]) == 2
    assert "this teacher cannot write a policy" in capsys.readouterr().err
    assert not (project.parent / "policy.md").exists()
