"""Offline scoring: every row answered as the runtime answers it, in every format, and bad rows said or marked."""

import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

import hybrid
from hybrid.__main__ import main
from hybrid.commands.score import summary_line
from hybrid.errors import ConfigError, DataError
from hybrid.progress import progress_line
from hybrid.scoring.score import Job, score
from hybrid.scoring.tally import Tally
from tests.corpus import texts_and_gold

TEXTS = texts_and_gold(60)[0]
ROWS = [{"id": i, "text": text, "note": f'"{i}", or\nso'} for i, text in enumerate(TEXTS)]


class RecordedProgress:
    """Remembers the progress that it was shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done: list[tuple[int, int]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def advance(self, done: int, total: int) -> None:
        self.done.append((done, total))


def run(bundle: Path, job: Job, progress: RecordedProgress | None = None) -> Tally:
    return score(hybrid.load(bundle), bundle, job, progress or RecordedProgress())


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    typed = {"id": int, "hybrid_confidence": float, "hybrid_escalate": json.loads, "hybrid_truncated": json.loads}
    return [{name: typed.get(name, str)(cell) for name, cell in row.items()} for row in rows]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_every_row_keeps_its_columns_and_gets_the_answer_of_the_runtime(
    bundle_dir: Path, tmp_path: Path, suffix: str
) -> None:
    source = write(tmp_path / f"in.{suffix}", ROWS)
    median = statistics.median(prediction.confidence for prediction in hybrid.load(bundle_dir).classify(TEXTS))
    tally = run(bundle_dir, Job(source=source, target=tmp_path / f"out.{suffix}", threshold=median, chunk_rows=7))
    rows = read(tmp_path / f"out.{suffix}")
    expected = hybrid.load(bundle_dir).classify(TEXTS, threshold=median)
    assert [{name: row[name] for name in ROWS[0]} for row in rows] == ROWS
    assert [row["hybrid_label"] for row in rows] == [prediction.label for prediction in expected]
    assert [row["hybrid_confidence"] for row in rows] == pytest.approx(
        [prediction.confidence for prediction in expected], abs=1e-5
    )
    assert [row["hybrid_escalate"] for row in rows] == [prediction.escalate for prediction in expected]
    assert len({row["hybrid_confidence"] for row in rows}) > 20  # so an answer in another row would be seen
    assert tally.rows == 60 == sum(tally.labels.values())
    assert 0 < tally.escalate == sum(prediction.escalate for prediction in expected) < 60


def test_the_threshold_and_the_probabilities_are_those_asked_for(bundle_dir: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.parquet", ROWS)
    job = Job(source=source, target=tmp_path / "out.parquet", threshold=1.0, probs=True, prefix="p_")
    assert run(bundle_dir, job).escalate == 60
    rows = read(job.target)
    assert all(sum(row["p_probs"].values()) == pytest.approx(1) for row in rows)  # type: ignore[attr-defined]
    assert all(max(row["p_probs"].values()) == row["p_confidence"] for row in rows)  # type: ignore[attr-defined]
    schema = pyarrow.parquet.read_schema(job.target)
    assert schema.field("id").type == pyarrow.int64()
    assert schema.field("p_escalate").type == pyarrow.bool_()


def test_a_number_is_spelt_in_the_output_as_it_was(bundle_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "warm soup", "price": 1.10, "id": 12345678901234567890123}\n\n')
    run(bundle_dir, Job(source=source, target=tmp_path / "out.jsonl"))
    assert '"price":1.10,"id":12345678901234567890123,' in (tmp_path / "out.jsonl").read_text()


BAD = {
    "jsonl": (
        (b'{"text": ""}', "'text' is empty"),
        (b'{"text": 7}', "expected a string"),
        (b'{"texts": "soup"}', "no field 'text'; there are 'texts'"),
        (b'{"text": "caf\xe9"}', "byte 35 of the file"),
        (b'{"text": "soup"', "not a JSON object"),
        (b'["soup"]', "not a JSON object"),
        (b'{"text": "\\ud800"}', "not a JSON object"),
    ),
    "csv": (
        (b"7, ", "'text' is empty"),
        (b"7", "expected 2 cells as in the header, got 1"),
        (b"7,soup,more", "expected 2 cells as in the header, got 3"),
        (b"7,caf\xe9", "not UTF-8"),
        (b'7,"soup"x', "not a well-formed line"),
    ),
}


@pytest.mark.parametrize(("suffix", "line", "reason"), [(s, *case) for s, cases in BAD.items() for case in cases])
def test_a_bad_row_ends_the_work_with_its_place_or_is_marked(
    bundle_dir: Path, tmp_path: Path, suffix: str, line: bytes, reason: str
) -> None:
    good = b'{"text": "warm soup"}' if suffix == "jsonl" else b"7,warm soup"
    head = b"" if suffix == "jsonl" else b"id,text\n"
    source = tmp_path / f"in.{suffix}"
    source.write_bytes(head + good + b"\n" + line + b"\n" + good + b"\n")
    job = Job(source=source, target=tmp_path / f"out.{suffix}")
    place = 2 if suffix == "jsonl" else 3
    with pytest.raises(DataError, match=rf"in\.{suffix}:{place}: .*{reason}.*--skip-bad"):
        run(bundle_dir, job)
    assert not job.target.exists()
    skipping = Job(source=source, target=job.target, skip_bad=True)
    tally = run(bundle_dir, skipping)
    assert (tally.rows, tally.bad, sum(tally.labels.values())) == (3, 1, 2)
    text = job.target.read_text(encoding="utf-8")  # well formed, whatever came in
    assert text.count(reason) == 1


@pytest.mark.parametrize(
    ("suffix", "line"),
    [
        ("csv", b'7,"soup"x,b'),
        ("csv", b'7,"soup'),
        ("csv", b"7"),
        ("csv", b"7,soup,a,b"),
        ("csv", b"7,caf\xe9,b"),
        ("csv", b'7,"caf\xe9"x,b'),
        ("jsonl", b'{"id": 7, "text": "soup"'),
        ("jsonl", b'{"id": 7, "text": so}'),
        ("jsonl", b'{"id": 7, "text": "\\ud800", "note": "b"}'),
        ("jsonl", b'{"id": 7, "text": "caf\xe9'),
        ("jsonl", b'{"id": 7, "note": "b", "text": ' + b"[" * 100_000 + b"}"),
    ],
)
def test_a_malformed_row_that_is_skipped_keeps_its_id(
    bundle_dir: Path, tmp_path: Path, suffix: str, line: bytes
) -> None:
    source = tmp_path / f"in.{suffix}"
    good = b'{"id": 6, "text": "warm soup", "note": "b"}' if suffix == "jsonl" else b"6,warm soup,b"
    source.write_bytes(b"id,text,note\n" * (suffix == "csv") + good + b"\n" + line + b"\n")
    job = Job(source=source, target=tmp_path / f"out.{suffix}", skip_bad=True)
    assert run(bundle_dir, job).bad == 1
    with job.target.open(encoding="utf-8", newline="") as file:
        ids = [row["id"] for row in (csv.DictReader(file) if suffix == "csv" else map(json.loads, file))]
    assert list(map(int, ids)) == [6, 7]


@pytest.mark.parametrize(
    ("quotes", "bad"),
    [
        ({2: 'cold "soup'}, 0),
        ({2: '"soup'}, 1),
        ({2: '"soup', 4: '"plate'}, 2),
        ({2: '"soup', 3: '"soup', 4: '"plate', 5: '"plate'}, 4),
        ({5: '"plate'}, 1),
        ({2: '"so""up', 3: 'a ""plate""'}, 1),
    ],
)
def test_a_quote_that_is_not_closed_spoils_its_own_line_alone(
    bundle_dir: Path, tmp_path: Path, quotes: dict[int, str], bad: int
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,text\n" + "".join(f"{n},{quotes.get(n, 'warm soup')}\n" for n in range(6)))
    job = Job(source=source, target=tmp_path / "out.csv", skip_bad=True)
    tally = run(bundle_dir, job)
    assert (tally.rows, tally.bad) == (6, bad)
    with job.target.open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [str(n) for n in range(6)]


def test_a_cut_number_is_no_id(bundle_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": 6, "text": "warm soup"}\n{"text": "soup", "id": 12')
    job = Job(source=source, target=tmp_path / "out.jsonl", skip_bad=True)
    assert run(bundle_dir, job).bad == 1
    assert [row.get("id") for row in read(job.target)] == [6, None]


@pytest.mark.parametrize(
    ("content", "head"),
    [
        ("id;text\n7;warm, soup\n", ["id;text;hybrid_label"]),
        ("sep=|\nid|text\n7|warm; soup, hot\n", ["sep=|", "id|text|hybrid_label"]),
        ('id, text\n7, "warm, soup"\n', ["id,text,hybrid_label"]),
        ("\ufeffid\ttext\n7\twarm, soup\n", ["id\ttext\thybrid_label"]),
        ("id,text,,\n7,warm soup,,\n", ["id,text,,,hybrid_label"]),
        ("id,text,,\n7,warm soup\n", ["id,text,,,hybrid_label"]),
    ],
)
def test_a_csv_of_any_delimiter_is_scored_and_written_with_it(
    bundle_dir: Path, tmp_path: Path, content: str, head: list[str]
) -> None:
    (tmp_path / "IN.CSV").write_text(content, encoding="utf-8")
    job, progress = Job(source=tmp_path / "IN.CSV", target=tmp_path / "out.csv"), RecordedProgress()
    assert run(bundle_dir, job, progress).rows == 1
    lines = job.target.read_text().splitlines()
    assert [line[: len(start)] for line, start in zip(lines, head, strict=False)] == head
    assert len(lines) == len(head) + 1
    assert any("cells are separated by" in line or "spaces after" in line for line in progress.lines) == (
        not content.startswith("id,text")
    )
    again = Job(source=job.target, target=tmp_path / "again.csv", prefix="second_")
    assert run(bundle_dir, again).rows == 1


def test_a_column_without_a_name_holds_no_texts(bundle_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,\n1,warm soup\n")
    with pytest.raises(DataError, match=r"no column ''; there are id: name one with --text"):
        run(bundle_dir, Job(source=tmp_path / "in.csv", target=tmp_path / "out.csv", text=""))


def test_a_workbook_is_refused_with_what_to_do(bundle_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "in.xlsx").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"a \.xlsx file is read and not written; save it as CSV UTF-8"):
        run(bundle_dir, Job(source=tmp_path / "in.xlsx", target=tmp_path / "out.xlsx"))


def test_bad_rows_of_parquet_are_marked_with_their_number(bundle_dir: Path, tmp_path: Path) -> None:
    column = pyarrow.array([b"warm soup", None, b" ", b"caf\xe9", b"warm soup"]).cast(pyarrow.string(), safe=False)
    source = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), source)
    with pytest.raises(DataError, match=r"in\.parquet, row 2: 'text' is null"):
        run(bundle_dir, Job(source=source, target=tmp_path / "out.parquet"))
    tally = run(bundle_dir, Job(source=source, target=tmp_path / "out.parquet", skip_bad=True))
    assert (tally.rows, tally.bad) == (5, 3)
    errors = pyarrow.parquet.read_table(tmp_path / "out.parquet", columns=["hybrid_error"]).column(0).to_pylist()
    assert [error and error.partition("row ")[2] for error in errors] == [
        None,
        "2: 'text' is null; expected a text",
        "3: 'text' is empty; expected a text",
        "4: 'text' is not UTF-8 at byte 3; save it as UTF-8",
        None,
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_file_without_rows_gives_a_file_without_rows(bundle_dir: Path, tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / f"in.{suffix}", ROWS[:1])
    if suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(source).slice(1), source)
    else:
        source.write_text("id,text,note\n" if suffix == "csv" else "")
    assert run(bundle_dir, Job(source=source, target=tmp_path / f"out.{suffix}")).rows == 0
    assert read(tmp_path / f"out.{suffix}") == []


def test_what_cannot_be_scored_is_said_before_a_row_is(bundle_dir: Path, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv"
    with pytest.raises(DataError, match=r"in\.csv: no column 'body'; there are id, text, note: name one with --text"):
        run(bundle_dir, Job(source=source, target=target, text="body"))
    with pytest.raises(DataError, match="there is a column 'label' already; choose another"):
        run(bundle_dir, Job(source=write(tmp_path / "l.csv", [{"text": "a", "label": "b"}]), target=target, prefix=""))
    with pytest.raises(ConfigError, match="it is the input as well"):
        run(bundle_dir, Job(source=source, target=source))
    with pytest.raises(ConfigError, match=r"out\.jsonl: the input is a \.csv file"):
        run(bundle_dir, Job(source=source, target=tmp_path / "out.jsonl"))
    with pytest.raises(ConfigError, match="expected a probability"):
        run(bundle_dir, Job(source=source, target=target, threshold=50))
    with pytest.raises(DataError, match=r"missing\.jsonl: cannot be read"):
        run(bundle_dir, Job(source=tmp_path / "missing.jsonl", target=tmp_path / "out.jsonl"))
    target.write_text("mine")
    with pytest.raises(DataError, match="exists, and `hybrid score` did not make it"):
        run(bundle_dir, Job(source=source, target=target))
    assert target.read_text() == "mine"


@pytest.mark.slow
def test_the_command_wants_no_more_than_the_runtime(bundle_dir: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    words = ["score", str(source), str(tmp_path / "out.jsonl"), "--bundle", str(bundle_dir)]
    blocked = ("torch", "transformers", "sklearn", "datasets", "scipy", "pandas", "typer", "rich", "pyarrow", "httpx")
    code = f"import sys\nfor name in {blocked}: sys.modules[name] = None\nfrom hybrid.__main__ import main\n"
    run_it = [sys.executable, "-c", code + f"sys.exit(main({words!r}))"]
    done = subprocess.run(run_it, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "out.jsonl: 60 rows (" in done.stdout
    assert "\r" not in done.stderr  # no terminal, plain lines
    parquet = [word.replace("jsonl", "parquet") for word in words]
    write(tmp_path / "in.parquet", ROWS)
    refused = [sys.executable, "-c", code + f"sys.exit(main({parquet!r}))"]
    done = subprocess.run(refused, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 2
    assert "run `pip install pyarrow`" in done.stderr


def test_the_command_says_what_to_mend_and_ends_with_two(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.csv", ROWS)
    assert main(["score", str(source), str(tmp_path / "o.csv"), "--bundle", str(bundle_dir), "--text", "x"]) == 2
    assert "name one with --text" in capsys.readouterr().err


def test_progress_counts_the_rows_of_this_process_and_what_is_left() -> None:
    assert progress_line(50, 200, 10.0, 40) == "50 of 200 (25%), 4 a second, 38 s left"
    assert progress_line(1_000, 100_000, 10.0, 1_000) == "1,000 of 100,000 (1%), 100 a second, 16 min left"
    assert progress_line(50, 200, 0.0, 0) == "50 of 200 (25%)"
    tally = Tally(rows=10, escalate=2, truncated=1, bad=2, labels={"good": 7, "": 1})
    assert (
        summary_line(tally, Path("o.csv"))
        == "o.csv: 10 rows (no label 1, good 7); 2 to escalate (25.0%), 1 truncated, 2 unreadable"
    )
