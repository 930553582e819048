"""The examples that train, and those on the bundle that ships, run as they say; the notebook's cells too."""

import csv
import runpy
import sys
from pathlib import Path

import nbformat
import pandas
import pytest
from nbclient import NotebookClient

from tests.conftest import made_once
from tests.corpus import noisy, texts_and_gold
from tests.tiny import tiny_bert

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
N_ROWS = 240
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny encoder that reads as many tokens as a recipe asks for by default."""
    texts, _ = texts_and_gold(N_ROWS)
    return str(made_once(tmp_path_factory, "bert-128", lambda folder: tiny_bert(folder, texts, positions=128)))


class Here:
    """Runs examples in a folder, in this process: torch is imported once."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._monkeypatch.chdir(folder)
        self._monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))

    def run(self, name: str, *words: str) -> str:
        self._monkeypatch.setattr(sys, "argv", [name, *words])
        self._capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return self._capsys.readouterr().out


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(tmp_path, monkeypatch, capsys)


def reviews(folder: Path) -> Path:
    texts, gold = texts_and_gold(N_ROWS)
    rows = {"text": texts, "label": noisy(gold, 0.1), "checked": [*gold[:160], *[None] * (N_ROWS - 160)]}
    pandas.DataFrame(rows).to_csv(folder / "reviews.csv", index=False)
    return folder / "reviews.csv"


def test_rows_of_a_csv_are_trained_on_and_reviewed(here: Here, tmp_path: Path, encoder: str) -> None:
    reviews(tmp_path)
    trained = here.run("train_from_python.py", "reviews.csv", encoder)
    assert "labels as given" in trained
    folder = "runs/reviews/python"
    assert f"bundle: {tmp_path / folder / 'bundle'}" in trained
    assert "fill in the column 'label' of sheet.csv" in here.run("review_round_trip.py", folder, "sheet.csv")
    sheet = pandas.read_csv(tmp_path / "sheet.csv", dtype=str)
    sheet["label"] = "good"
    sheet.to_csv(tmp_path / "sheet.csv", index=False)
    here.run("review_round_trip.py", folder, "sheet.csv", "read")
    again = here.run("train_from_python.py", "reviews.csv", encoder)
    assert "20 trusted rows" in again


def test_checked_rows_judge_and_some_of_them_teach(here: Here, tmp_path: Path, encoder: str) -> None:
    reviews(tmp_path)
    said = here.run("trusted_rows.py", "reviews.csv", encoder)
    assert "160 of 240 rows are checked" in said
    assert "32 trusted rows" in said
    assert "(gold)" in said


def test_a_function_decides_what_the_demo_is_not_sure_of(here: Here) -> None:
    lines = [line.split("\t") for line in here.run("add_decoder.py", "demo").splitlines()]
    assert len(lines) == 4
    assert {source for _, source, _, _ in lines} <= {"encoder", "decoder"}
    assert {escalation for _, _, escalation, _ in lines} & {"answered", "undecided"}


def test_a_job_labels_a_csv_in_pieces_and_sets_the_unsure_rows_aside(here: Here, tmp_path: Path) -> None:
    texts = ["I love it!", "The meeting is at noon.", "Late again, thanks for nothing."] * 700
    pandas.DataFrame({"number": range(len(texts)), "text": texts}).to_csv(tmp_path / "rows.csv", index=False)
    said = here.run("batch_job.py", "demo", "rows.csv", "labelled.csv", "unsure.csv")
    counts = {}
    for name in ("labelled.csv", "unsure.csv"):
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {row["hybrid_status"] for row in rows} == {"accepted" if name == "labelled.csv" else "escalated"}
        counts[name] = len(rows)
    assert said == f"2100 rows: {counts['labelled.csv']} labelled, {counts['unsure.csv']} for a person\n"
    assert sum(counts.values()) == 2100


def test_the_cells_of_the_notebook_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    notebook = nbformat.read(EXAMPLES / "first_steps.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in shown if output.output_type == "error"]
    first = next(output for output in shown if output.output_type == "execute_result")
    assert "sure &middot; accepted" in first.data["text/html"] or "sure &middot; escalated" in first.data["text/html"]
