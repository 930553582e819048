"""A student by the command line: `hybrid student`, a comparison of layouts, and a run whose decoder it is."""

import json
import shutil
from pathlib import Path

import pytest

import hybrid
from hybrid.__main__ import main
from hybrid.files.table import read_rows, write_rows
from hybrid.llm.traces.recorded import Trace, text_digest
from hybrid.student.training_data import TrainedRow
from tests.conftest import ROWS, hybrid_recipe, write_project
from tests.corpus import WORDS, texts_and_gold
from tests.tiny_llama import tiny_llama

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.slow
TEACHER = """
[teacher]
model = "recorded"
traces = "traces.jsonl"
[student]
base = "tiny.gguf"
epochs = 4
batch_size = 8
learning_rate = 4e-3
precision = "fp32"
max_tokens = 64
[calibrate]
decoder_rows = 40
"""


@pytest.fixture(scope="module")
def project(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a recorded teacher that gives a reason for each text."""
    folder = tmp_path_factory.mktemp("student") / "dishes"
    recipe = write_project(folder, bert, extra=TEACHER)
    recipe.write_text(recipe.read_text().replace("epochs = 8", "epochs = 1"))
    texts, gold = texts_and_gold(ROWS)
    reasons = [
        f'"{next(word for word in WORDS[label] if word in text)}" says it'
        for text, label in zip(texts, gold, strict=True)
    ]
    write_rows(
        folder / "traces.jsonl",
        [
            Trace(id=str(i), text_sha256=text_digest(text), rationale=reason, label=label)
            for i, (text, label, reason) in enumerate(zip(texts, gold, reasons, strict=True))
        ],
    )
    tiny_llama(folder / "tiny.gguf", [*texts, *reasons])
    return folder


def student(project: Path, *words: str) -> int:
    return main(["student", str(project / "recipe.toml"), "--runs", str(project / "runs"), *words])


def test_the_command_trains_a_student_and_a_run_asks_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert student(project) == 0, capsys.readouterr().err
    run = project / "runs" / "dishes" / "default"
    report = json.loads((run / "student" / "report.json").read_text())
    rows = read_rows(run / "student" / "rows.jsonl", TrainedRow)
    assert report["data"]["rows"]["all"] == len(rows)
    assert report["test"]["accuracy"] > 0.6
    card = (run / "student" / "README.md").read_text()
    assert report["sha256"] in card
    done = hybrid_recipe("recipe.toml", "--runs", "runs", "--decoder", "student", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "student      unchanged, skipped" in done.stdout
    bundle = json.loads((run / "bundle" / "bundle.json").read_text())
    assert bundle["decoder"]["model"].startswith("student#")
    assert json.loads((run / "summary.json").read_text())["seconds"]["student"] > 0
    assert "The decoder is a student: <code>tiny.gguf</code>" in (run / "report.html").read_text()
    classifier = hybrid.load(run / "bundle", decoder=run / "student" / "student.gguf")
    (answer,) = classifier.classify(["The soup at the harbour was awful and burnt, table 7."], threshold=1.0)
    assert (answer.source, answer.escalation) == ("both", "answered")
    assert answer.rationale
    again = hybrid_recipe("recipe.toml", "--runs", "runs", "--decoder", "student", cwd=project)
    assert again.stdout.count("unchanged, skipped") == 10


def test_layouts_are_compared_on_the_same_rows(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--compare", "direct,post", "--set", "student.epochs=1", "--set", "student.encoding=f16")
    assert student(project, *words) == 0, capsys.readouterr().err
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("direct ") for line in lines)
    report = json.loads((project / "runs/dishes/default/student-layouts/report.json").read_text())
    assert [row["name"] for row in report["students"]] == ["direct", "post"]
    assert report["rows"] == 90
    assert report["students"][1]["gain"]["low"] <= report["students"][1]["gain"]["value"]


def test_altered_reasons_are_compared_with_those_as_they_are(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--ablate", "label_removed+shuffled", "--set", "student.epochs=1", "--set", "student.encoding=f16")
    assert student(project, *words) == 0, capsys.readouterr().err
    folder = project / "runs/dishes/default/student-reasons"
    report = json.loads((folder / "report.json").read_text())
    assert [row["name"] for row in report["students"]] == ["as they are", "label_removed+shuffled"]
    plain, shuffled = (
        read_rows(folder / name / "student" / "rows.jsonl", TrainedRow)
        for name in ("as-they-are-0", "label_removed-shuffled-0")
    )
    pairs = [(a.reasons[0], b.reasons[0]) for a, b in zip(plain, shuffled, strict=True) if a.reasons]
    assert all(sorted(a.split()) == sorted(b.split()) for a, b in pairs)
    assert any(a != b for a, b in pairs)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--compare", "direct,sideways"), "--compare sideways: no such layout; expected some of direct, pre"),
        (("--seeds", "2"), "--seeds without --compare"),
        (("--compare", "direct,post", "--ablate", "padded"), "name one of them"),
        (("--ablate", "sideways"), "'sideways': no such alteration; expected some of shuffled, masked"),
        (("--ablate", "masked"), "'masked': expected masked:NUMBER with the share of words"),
        (("--ablate", "masked:2"), "'masked:2': expected masked:NUMBER"),
        (("--ablate", "padded:2"), "'padded:2': expected padded without a number"),
        (("--ablate", "padded", "--set", "student.layout=direct"), "layout 'direct' trains no reasons"),
        (
            ("--set", "student.altered=sideways"),
            "recipe.toml: student.altered: student: reasons 'sideways': no such alteration",
        ),
        (("--set", "student.base=nothing.gguf"), "nothing.gguf: no such file"),
        (("--set", "student.layout=sideways"), "student.layout"),
        (("--set", "student.most_words=1"), "rows of 0 labels are left to learn from"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    words: tuple[str, ...], sentence: str, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(project, tmp_path / "dishes", ignore=shutil.ignore_patterns("runs"))
    assert student(tmp_path / "dishes", *words) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_a_run_without_reasons_is_refused_before_it_starts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--decoder", "student", "--teacher", "none", "--runs", str(project / "none"))
    assert main(["run", str(project / "recipe.toml"), *words]) == 2
    assert "without reasons to learn from: set teacher.model" in capsys.readouterr().err
    assert not (project / "none").exists()


def test_only_a_runs_own_decoder_can_be_its_student(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert student(project, "--set", 'teacher.model="student"', "--name", "other") == 2
    assert "only a run's decoder can be the student" in capsys.readouterr().err
