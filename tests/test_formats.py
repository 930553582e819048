"""File formats: one table that every reader of rows uses, and records as the file has them or refused in one sentence."""

import csv
import io
import json
import math
import sys
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import msgspec
import openpyxl
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from hybrid.config import DataConfig
from hybrid.data.sources import load_data
from hybrid.data.trusted import read_audit
from hybrid.errors import ConfigError, DataError
from hybrid.files.formats import FORMATS
from hybrid.files.formats.delimited import Layout
from hybrid.files.formats.dialect import DELIMITERS, Dialect
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
from hybrid.review.targets import read_answers
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
    engine = "onnxruntime"

    def classify_alike(self, texts: Sequence[str], *, threshold: float | None) -> list[Prediction]:
        return [
            Prediction(label="plain", confidence=0.75, probs={"good": 0.25, "plain": 0.75}, escalate=False)
            for _ in texts
        ]


class Recfile:
    """A format of its own: a line `column: value` for each value, and a blank line after each record."""

    suffixes = (".rec",)
    can_write = True

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


def as_csv_reads_it(content: bytes, delimiter: str, *, space_after: bool = False) -> list[list[str]] | None:
    """Return the rows that are not blank as Python's csv module reads them; None if it refuses the file."""
    try:
        page = io.StringIO(content.decode("utf-8-sig"), newline="")
        rows = csv.reader(page, delimiter=delimiter, skipinitialspace=space_after, strict=True)
        return [row for row in rows if row]
    except (csv.Error, UnicodeDecodeError):
        return None


PIECES = st.sampled_from(
    ["a", "b", "é", "\u2028", '"', '""', ",", "\t", ";", "|", ', "', "\n", "\r\n", "\r", " ", "text", "x,y\n"]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=25), bom=st.booleans(), kind=st.sampled_from(["csv", "tsv"]))
def test_anything_is_read_as_pythons_module_reads_it_or_refused_in_one_sentence(
    pieces: list[str], bom: bool, kind: str, tmp_path: Path
) -> None:
    content = b"\xef\xbb\xbf" * bom + "".join(pieces).encode()
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(content)
    tables = [as_csv_reads_it(content, d, space_after=space) for d in DELIMITERS for space in (False, True)]
    try:
        header = read_sheet(path, ()).columns
        sheet = read_sheet(path, header)
    except DataError as error:
        assert "\n" not in str(error)
        return
    rows = [list(cells.values()) for _, cells in sheet.records]
    named = [at for at, name in enumerate(header) if name]
    assert (list(header), rows) in [
        ([cell.strip() for cell in table[0]], [[row[at] if at < len(row) else "" for at in named] for row in table[1:]])
        for table in tables
        if table
    ] or not any(tables)


CELLS = st.text(st.sampled_from(list("ab é\u2028\n\r\"',;\t|=0-")), max_size=12)


class Written(msgspec.Struct, frozen=True):
    """A file as some program writes it, and the rows that it stands for."""

    content: bytes
    rows: list[tuple[str, ...]]


@st.composite
def written_files(draw: st.DrawFn) -> Written:
    """Draw a file: its delimiter, quotes, line ends, marks, encoding, empty columns and rows."""
    delimiter = draw(st.sampled_from(list(DELIMITERS)))
    names = draw(st.permutations(["text", "label", *draw(st.sampled_from([[], ["a;b"], ["a, b"], ["x\ty|z"]]))]))
    rows = draw(st.lists(st.tuples(*[CELLS] * len(names)), max_size=12))
    n_empty, at_front = draw(st.integers(0, 3)), draw(st.booleans())
    space, end = draw(st.sampled_from(["", " "])), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    always_quoted = draw(st.booleans())

    def spelled(cell: str) -> str:
        has_special = any(c in cell for c in (delimiter, '"', "\n", "\r")) or cell[:1] == " " or not cell
        return '"' + cell.replace('"', '""') + '"' if always_quoted or has_special else cell

    def line(cells: Sequence[str], mark: str = "") -> str:
        padded = [*[""] * n_empty, *cells] if at_front else [*cells, *[""] * n_empty]
        return mark + (delimiter + space).join(map(spelled, padded)) + end

    # A mark may be in front of any row: files that were put together have one there.
    lines = [line(names), *(line(row, draw(st.sampled_from(["", "", "\ufeff"]))) for row in rows)]
    if draw(st.booleans()):
        lines.insert(0, f"sep={delimiter}{end}")
    text = draw(st.sampled_from(["", "\ufeff", "\ufeff\ufeff"])) + "".join(lines)
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]))
    columns = [names.index(name) for name in ("text", "label")]
    stored = [tuple(row[at].encode(encoding, "ignore").decode(encoding) for at in columns) for row in rows]
    return Written(text.encode(encoding, "ignore"), stored)


@pytest.mark.slow
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=written_files(), suffix=st.sampled_from(["csv", "CSV", "tsv", "Tsv"]))
def test_any_table_that_a_program_writes_is_read_as_it_was_meant_or_is_not_utf8(
    written: Written, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(written.content)
    note(repr(written))
    try:
        sheet = read_sheet(path, ("text", "label"))
    except DataError as error:
        assert "\n" not in str(error)
        assert "UTF-8" in str(error)
        assert not is_utf8(written.content)
        return
    assert is_utf8(written.content)
    assert [(cells["text"], cells["label"]) for _, cells in sheet.records] == written.rows


def is_utf8(content: bytes) -> bool:
    """Whether bytes are text in UTF-8; that of UTF-16 without a mark is only in form, and has NUL characters."""
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text;label\na, b;good\n", "its cells are separated by semicolons"),
        ("text\tlabel\na, b\tgood\n", "its cells are separated by tabs"),
        ("text|label\na, b|good\n", "its cells are separated by vertical bars"),
        ("sep=^\ntext^label\na, b^good\n", "its cells are separated by '^'"),
        ('"SEP=;"\r\ntext;label\r\na, b;good\r\n', "its cells are separated by semicolons"),
        ('text, label\n"a, b", "good"\n', "spaces after its commas are left out"),
        ('text,label\n"a, b", "good"\n', "spaces after its commas are left out"),
        ('text,label,,\n"a, b",good,,\n', ""),
        ('text,label,,\n"a, b",good\n', ""),
        ('text,label\n"a, b",good,,\n', ""),
        ('\ufefftext\ufeff,label\n\ufeff"a, b",good\n', ""),
    ],
)
def test_what_the_name_of_a_file_does_not_tell_is_found_and_said(
    content: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "rows.csv").write_text(content, encoding="utf-8")
    sheet = read_sheet(tmp_path / "rows.csv", ("text", "label"), name="rows.csv")
    assert [cells for _, cells in sheet.records] == [{"text": "a, b", "label": "good"}]
    assert sheet.note == said
    assert caplog.messages == ([f"rows.csv: {said}"] if said else [])


@pytest.mark.slow
@pytest.mark.timeout(120)  # about a second: a guard against anything quadratic
def test_quotes_that_are_not_closed_cost_no_more_than_the_lines(tmp_path: Path) -> None:
    lines = [f'{n},"open ""{n}' if n % 2 else f"{n},closed {n}" for n in range(20_000)]
    (tmp_path / "rows.csv").write_text("id,text\n" + "\n".join(lines) + '\n1,""""\n' * 3)
    batches = opened(FORMATS["csv"], tmp_path / "rows.csv", "id")
    assert sum(len(batch) for batch in batches) >= 20_000
    (tmp_path / "rows.csv").write_text("id,text\n" + '1,"never ""closed\n' + "2,fine\n" * 20_000)
    batches = opened(FORMATS["csv"], tmp_path / "rows.csv", "id")
    assert sum(bool(record.problem) for batch in batches for record in batch) == 1
    assert sum(len(batch) for batch in batches) == 20_001


@pytest.mark.slow
def test_a_quote_after_a_space_far_down_in_a_file_is_refused_and_not_split(tmp_path: Path) -> None:
    start = "id,text\n" + "".join(f"{n},plain words\n" for n in range(18_000))
    for row in ('x, "one, two"\n', 'x, "one\ntwo, three"\n', 'x, "one"\n'):
        (tmp_path / "rows.csv").write_text(start + row)
        with pytest.raises(DataError, match=r"rows\.csv:18002: a space before a quote"):
            read_sheet(tmp_path / "rows.csv", ("id", "text"))
    (tmp_path / "rows.csv").write_text(start + 'x," ""one"" two, ""three"""\nx, "one" two\n')
    found = read_sheet(tmp_path / "rows.csv", ("id", "text")).records[-2:]
    assert [cells["text"] for _, cells in found] == [' "one" two, "three"', ' "one" two']


def workbook(path: Path, **sheets: Sequence[Sequence[object]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    book.save(path)
    return path


def test_the_first_visible_sheet_of_a_workbook_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        (),
        ("text ", "label", None, "n", "day"),
        ("one, two", "good", None, 1, date(2020, 1, 1)),
        (None, None, None, None, None),
        ("=1+1", True, None, 0.5, None),
        ("three\nlines", None, None, None, None),
    ]
    path = workbook(tmp_path / "Book.XLSX", first=rows, second=[("other",)])
    sheet = read_sheet(path, ("text", "label", "n"), name="Book.XLSX")
    assert sheet.columns == ("text", "label", "", "n", "day")
    # No program has computed the formula.
    assert sheet.records == [
        (3, {"text": "one, two", "label": "good", "n": "1"}),
        (5, {"text": None, "label": "true", "n": "0.5"}),
        (6, {"text": "three\nlines", "label": None, "n": None}),
    ]
    assert sheet.value_kinds == {"label": {"boolean"}, "n": {"number"}}
    assert sheet.where(5) == "Book.XLSX, row 5"
    assert caplog.messages == ["Book.XLSX: its first sheet, 'first', is read, and 1 more are not"]
    with pytest.raises(DataError, match=r"row 3: day holds a datetime; expected text"):
        read_sheet(path, ("day",))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("looks.csv", "id;text;label\r\na;x;good\r\nb;y;\r\n"),
        ("looks.CSV", "sep=;\r\nid;text;label;;\r\na;x;good;;\r\nb;y;;;\r\n"),
        ("looks.csv", "\ufeffid\ttext\tlabel\na\tx\tgood\nb\ty\t\n"),
        ("looks.csv", 'id, text, label\n"a", "x", "good"\n"b", "y", ""\n'),
        ("looks.xlsx", ""),
    ],
)
def test_answers_and_audits_are_read_as_a_spreadsheet_saves_them(name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content:
        path.write_text(content, encoding="utf-8", newline="")
    else:
        workbook(path, looks=[("id", "text", "label"), ("a", "x", "good"), ("b", "y", None)])
    found = read_answers(path)
    assert [(answer.id, answer.label) for answer in found.answers] == [("a", "good")]
    assert found.unanswered == 1
    rows = [Example(id=row_id, text=text, label="bad") for row_id, text in (("a", "x"), ("b", "y"))]
    assert [(row.id, row.label) for row in read_audit(path, rows, ["bad", "good"])] == [("a", "good")]
    votes = read_votes([name], tmp_path, rows, ["bad", "good"])
    assert [(vote.id, vote.label) for vote in votes] == [("a", "good"), ("b", None)]


def test_a_workbook_trains(tmp_path: Path) -> None:
    rows = [(f"text {n}", n % 2) for n in range(20)]
    workbook(tmp_path / "rows.xlsx", data=[("text", "label"), *rows])
    found = load_data(DataConfig(train="rows.xlsx"), folder=tmp_path, seed=0, fetch=Path).rows
    assert [(row.text, row.label) for row in found] == [(text, str(label)) for text, label in rows]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", b"", "cannot be read as a workbook"),
        ("a.xlsx", b"text,label\n", "cannot be read as a workbook"),
        ("a.xlsx", b"PK\x03\x04", "cannot be read as a workbook"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0", "cannot be read as a workbook .*without a password"),
        ("a.xls", b"\xd0\xcf\x11\xe0", r"a spreadsheet of another kind \(\.xls\); save it as \.xlsx"),
        ("a.ods", b"PK\x03\x04", r"a spreadsheet of another kind \(\.ods\); save it as \.xlsx"),
    ],
)
def test_what_is_no_workbook_is_refused_in_one_sentence(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_sheet(tmp_path / name, ("text",))
    assert "\n" not in str(caught.value)


def test_a_damaged_sheet_and_a_cell_beyond_the_header_are_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", data=[("text",), ("one",), ("two", None, "three")])
    with pytest.raises(DataError, match=r"a\.xlsx, row 3: a cell beyond the header \('three'\)"):
        read_sheet(path, ("text",))
    with zipfile.ZipFile(path) as book:
        files = {name: book.read(name) for name in book.namelist()}
    with zipfile.ZipFile(tmp_path / "cut.xlsx", "w") as cut:
        for name, content in files.items():
            cut.writestr(name, content[:200] if "sheet1" in name else content)
    with pytest.raises(DataError, match="cannot be read as a workbook"):
        read_sheet(tmp_path / "cut.xlsx", ("text",))


def test_without_openpyxl_a_workbook_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(
        ConfigError, match=r"openpyxl is not installed; run `pip install 'hybrid-cascade\[xlsx\]'`, or save the sheet"
    ):
        read_sheet(tmp_path / "a.xlsx", ("text",))


def test_a_file_without_the_columns_that_are_asked_for_keeps_the_delimiter_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("words,class\na;b,good\nc;d,bad,\n")
    assert read_sheet(tmp_path / "rows.csv", ("text",)).columns == ("words", "class")


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
    delimiter = "\t" if kind == "tsv" else ","
    if ours:
        table = Table(name="", header=("text",), batches=iter(()), layout=Layout(["text"], Dialect(delimiter)))
        batch, added = Batch([], [[text] for text, _ in rows]), AddedColumns({"label": "text"}, ())
        content = FORMATS[kind].render(table, batch, [[label] for _, label in rows], added, first=True)
    else:
        page = io.StringIO(newline="")
        csv.writer(page, delimiter=delimiter).writerows([("text", "label"), *rows])
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
    blank = [line for line in content.split(b"\n") if not line.removeprefix(b"\xef\xbb\xbf").strip()]
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
