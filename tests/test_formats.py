"""File formats: one table that every reader of rows uses, and records as the file has them or refused in one sentence."""

import csv
import io
import json
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid.config import DataConfig
from hybrid.data.sources import load_data
from hybrid.data.trusted import read_audit
from hybrid.errors import DataError
from hybrid.files.formats import FORMATS
from hybrid.files.formats.lines import join_bytes, read_lines
from hybrid.files.formats.records import (
    BATCH_ROWS,
    AddedColumns,
    Batch,
    Cell,
    Format,
    NotText,
    Record,
    Table,
    in_batches,
)
from hybrid.files.sheet import read_sheet
from hybrid.scoring.score import Job, score
from hybrid.teacher.imported_votes import read_votes
from hybrid.types import Example, Prediction
from tests.corpus import texts_and_gold


class Quiet:
    """Shows no progress."""

    def say(self, line: str) -> None:
        pass

    def advance(self, done: int, total: int) -> None:
        pass


class AlwaysPlain:
    """A classifier with one answer."""

    bundle = SimpleNamespace(labels=("good", "plain"))

    def classify(self, texts: Sequence[str], *, threshold: float | None) -> list[Prediction]:
        return [
            Prediction(label="plain", confidence=0.75, probs={"good": 0.25, "plain": 0.75}, escalate=False)
            for _ in texts
        ]


class Recfile:
    """A format of its own: a line `column: value` for each value, and a blank line after each record."""

    suffixes = (".rec",)

    @contextmanager
    def open(
        self,
        path: Path,
        *,
        name: str,
        columns: Collection[str],
        batch_rows: int = BATCH_ROWS,
        with_originals: bool = False,
    ) -> Iterator[Table]:
        rows = self._rows(path, name, columns)
        yield Table(name=name, header=None, batches=in_batches(rows, batch_rows))

    def _rows(self, path: Path, name: str, columns: Collection[str]) -> Iterator[tuple[Record, dict[str, str]]]:
        fields: dict[str, str] = {}
        for number, _, line in read_lines(path, name):
            if line.strip():
                column, _, value = line.decode().strip().partition(": ")
                fields[column] = value
            else:
                yield (
                    Record(number - len(fields), fields.keys(), {c: fields[c] for c in columns if c in fields}),
                    fields,
                )
                fields = {}

    def render(
        self, table: Table, batch: Batch, cells: Sequence[Sequence[Cell]], added: AddedColumns, *, first: bool
    ) -> bytes:
        rows = [
            fields | dict(zip(added.kinds, row, strict=True))
            for fields, row in zip(batch.originals, cells, strict=True)
        ]
        return "".join("".join(f"{k}: {v}\n" for k, v in row.items()) + "\n" for row in rows).encode()

    def join(self, parts: Sequence[Path], target: Path) -> None:
        join_bytes(parts, target)


def test_a_format_is_one_class_and_one_entry_for_training_audits_votes_and_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "rec", Recfile())
    texts, labels = texts_and_gold(40)
    rows = [
        f"id: r{i}\ntext: {text}\nlabel: {label}\n\n" for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    (tmp_path / "rows.rec").write_text("".join(rows))
    found = load_data(DataConfig(train="rows.rec", id="id"), folder=tmp_path, seed=0, fetch=Path).rows
    assert [(row.id, row.text, row.label) for row in found[:2]] == [
        ("r0", texts[0], labels[0]),
        ("r1", texts[1], labels[1]),
    ]
    examples = [Example(id=row.id, text=row.text, label=row.label or "", part="train") for row in found]
    (tmp_path / "audit.rec").write_text("id: r3\nlabel: plain\n\n")
    assert [(row.id, row.label) for row in read_audit(tmp_path / "audit.rec", examples, ["plain"])] == [("r3", "plain")]
    assert [vote.id for vote in read_votes(["audit.rec"], tmp_path, examples, ["plain"])] == ["r3"]
    job = Job(source=tmp_path / "rows.rec", target=tmp_path / "out.rec")
    (tmp_path / "bundle.json").write_text("{}")
    assert score(AlwaysPlain(), tmp_path, job, Quiet()).labels == {"plain": 40}  # type: ignore[arg-type]
    assert "label: " + labels[0] + "\nhybrid_label: plain\n" in job.target.read_text()


def test_a_line_separator_of_unicode_ends_no_line_of_jsonl(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three"
    line = json.dumps({"id": "a", "text": text, "label": "bad"}, ensure_ascii=False)
    (tmp_path / "audit.jsonl").write_text(line + "\n", encoding="utf-8")
    rows = [Example(id="a", text=text, label="good", part="train")]
    assert [(row.id, row.label) for row in read_audit(tmp_path / "audit.jsonl", rows, ["bad", "good"])] == [
        ("a", "bad")
    ]


def test_columns_without_a_name_may_be_many(tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text("id,label,,\na,good,,\n")
    sheet = read_sheet(tmp_path / "sheet.csv", ("id", "label"))
    assert sheet.records == [(2, {"id": "a", "label": "good"})]


def test_values_of_parquet_are_text_by_their_type_or_refused(tmp_path: Path) -> None:
    columns = {
        "n": [1, None],
        "x": [0.5, math.nan],
        "flag": [True, False],
        "day": [date(2020, 1, 1), None],
        "list": [[1], []],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    sheet = read_sheet(tmp_path / "rows.parquet", ("n", "x", "flag", "absent"))
    assert [cells for _, cells in sheet.records] == [
        {"n": "1", "x": "0.5", "flag": "true"},
        {"n": None, "x": None, "flag": "false"},
    ]
    assert (sheet.columns, sheet.where(2)) == (tuple(columns), f"{tmp_path / 'rows.parquet'}, row 2")
    with pytest.raises(DataError, match=r"rows\.parquet, row 1: day holds a date32\[day\]; expected text"):
        read_sheet(tmp_path / "rows.parquet", ("day",))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_file_that_cannot_be_opened_is_refused_in_one_sentence(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_sheet(tmp_path / f"absent.{kind}", ("text",))


def opened(file_format: Format, path: Path, *columns: str, batch_rows: int = BATCH_ROWS) -> list[list[Record]]:
    with file_format.open(path, name=path.name, columns=columns, batch_rows=batch_rows) as table:
        return [batch.records for batch in table.batches]


def as_csv_reads_it(content: bytes, delimiter: str) -> list[list[str]] | None:
    """Return the rows that are not blank as Python's csv module reads them; None if it refuses the file."""
    try:
        text = content.decode("utf-8-sig")
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    except (csv.Error, UnicodeDecodeError):
        return None


PIECES = st.sampled_from(
    ["a", "b", "é", "\u2028", '"', '""', ",", "\t", "\n", "\r\n", "\r", " ", "text", "x,y\n", "\ufeff"]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=25), bom=st.booleans(), kind=st.sampled_from(["csv", "tsv"]))
def test_any_csv_is_read_as_pythons_module_reads_it_or_refused_in_one_sentence(
    pieces: list[str], bom: bool, kind: str, tmp_path: Path
) -> None:
    content = b"\xef\xbb\xbf" * bom + "".join(pieces).encode()
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(content)
    expected = as_csv_reads_it(content, "\t" if kind == "tsv" else ",")
    try:
        header = read_sheet(path, ()).columns
        sheet = read_sheet(path, header)
    except DataError as error:
        assert "\n" not in str(error)
        names = [cell.strip() for cell in expected[0]] if expected else []
        twice = len({name for name in names if name}) < len([name for name in names if name])
        assert expected is None or twice or {len(row) for row in expected} != {len(names)}
        return
    assert expected is not None
    assert list(header) == [cell.strip() for cell in (expected[0] if expected else [])]
    assert [[*cells.values()] for _, cells in sheet.records] == [
        [cell for at, cell in enumerate(row) if header.index(header[at]) == at] for row in expected[1:]
    ]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), max_size=20),
    batch_rows=st.integers(1, 7),
    kind=st.sampled_from(["csv", "tsv"]),
    ours=st.booleans(),
)
def test_rows_that_are_written_come_back_row_by_row(
    rows: list[tuple[str, str]], batch_rows: int, kind: str, ours: bool, tmp_path: Path
) -> None:
    if ours:
        table = Table(name="", header=("text",), batches=iter(()), layout=["text"])
        batch, added = Batch([], [[text] for text, _ in rows]), AddedColumns({"label": "text"}, ())
        content = FORMATS[kind].render(table, batch, [[label] for _, label in rows], added, first=True)
    else:
        page = io.StringIO(newline="")
        csv.writer(page, delimiter="\t" if kind == "tsv" else ",").writerows([("text", "label"), *rows])
        content = page.getvalue().encode()
    (tmp_path / "rows").write_bytes(content)
    batches = opened(FORMATS[kind], tmp_path / "rows", "text", "label", batch_rows=batch_rows)
    assert [record.problem for batch in batches for record in batch] == [""] * len(rows)
    assert [(r.values["text"], r.values["label"]) for batch in batches for r in batch] == rows
    assert [len(batch) for batch in batches[:-1]] == [batch_rows] * (len(batches) - 1)


JSON_VALUES = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | TEXTS | st.lists(st.integers(), max_size=2)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["text", "label", "x"]), JSON_VALUES), max_size=10),
    blanks=st.lists(st.sampled_from(["", " ", "\t"]), max_size=3),
    escaped=st.booleans(),
)
def test_any_jsonl_comes_back_object_by_object_with_its_line_number(
    rows: list[dict[str, object]], blanks: list[str], escaped: bool, tmp_path: Path
) -> None:
    lines = [*blanks, *(json.dumps(row, ensure_ascii=escaped) for row in rows)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    records = [
        record for batch in opened(FORMATS["jsonl"], tmp_path / "rows.jsonl", "text", "label") for record in batch
    ]
    assert [record.number for record in records] == [len(blanks) + 1 + at for at in range(len(rows))]
    for record, row in zip(records, rows, strict=True):
        assert list(record.names) == list(row)
        for column in ("text", "label"):
            assert (column in record.values) == (column in row)
            value, given_value = record.values.get(column), row.get(column)
            if isinstance(value, NotText):
                assert value.kind == "list" or json.loads(value.spelling) == given_value
            else:
                assert value == given_value


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80))
def test_any_bytes_are_records_or_problems_and_never_an_error_of_ours(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b'{"text": "a"}\n' + content)
    records = [record for batch in opened(FORMATS["jsonl"], tmp_path / "rows", "text") for record in batch]
    blank = [line for line in content.split(b"\n") if not line.strip()]
    assert len(records) == 1 + content.count(b"\n") + 1 - len(blank)
    for record in records:
        assert record.problem or "text" not in record.values or record.values["text"] is not None or b"null" in content
    (tmp_path / "rows").write_bytes(b"text\n" + content)
    try:
        opened(FORMATS["csv"], tmp_path / "rows", "text")
    except DataError as error:
        assert "\n" not in str(error)


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), max_size=40), batch_rows=st.integers(1, 9))
def test_batches_hold_every_row_once_and_in_order(lengths: list[int], batch_rows: int) -> None:
    rows = [(Record(at, ("text",), {"text": "x" * length}), at) for at, length in enumerate(lengths)]
    batches = list(in_batches(rows, batch_rows))
    assert [number for batch in batches for number in batch.originals] == list(range(len(lengths)))
    assert [record.number for batch in batches for record in batch.records] == list(range(len(lengths)))
    assert all(len(batch.records) <= batch_rows for batch in batches)
    assert len(batches) >= 1
