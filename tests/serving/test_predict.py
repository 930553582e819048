"""`hybrid predict` reads texts from any file as the other commands do, and refuses arguments that make no sense."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from hybrid.__main__ import main

TEXTS = ["warm, soup", "a plate"]


def predicted(capsys: pytest.CaptureFixture[str], bundle: Path, *words: str) -> list[str]:
    """Return the texts of the answers."""
    assert main(["predict", str(bundle), *words]) == 0
    return [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("texts.txt", "warm, soup\na plate\n"),
        ("texts.txt", "\ufeffwarm, soup\r\n\r\na plate"),
        ("texts", "\ufeff\ufeffwarm, soup\n \n\ufeffa plate\n"),
        ("rows.csv", 'id,text\n1,"warm, soup"\n2,a plate\n'),
        ("rows.CSV", '\ufeffid, text\r\n1, "warm, soup"\r\n2, "a plate"\r\n'),
        ("rows.csv", "sep=;\nid;text;\n1;warm, soup;\n2;a plate;\n"),
        ("rows.csv", "id\ttext\n1\twarm, soup\n2\ta plate\n"),
        ("rows.tsv", "id\ttext\n1\twarm, soup\n2\ta plate\n"),
        ("rows.jsonl", '\ufeff{"text": "warm, soup"}\n\ufeff{"text": "a plate"}\n'),
    ],
)
def test_texts_of_a_file_are_read_by_its_format(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    assert predicted(capsys, bundle_dir, "--file", str(tmp_path / name)) == TEXTS


def test_texts_of_parquet_and_of_a_workbook_are_read(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"body": TEXTS}), tmp_path / "rows.parquet")
    book = openpyxl.Workbook()
    for cell in ("body", *TEXTS):
        book.active.append([cell])
    book.save(tmp_path / "rows.xlsx")
    for name in ("rows.parquet", "rows.xlsx"):
        assert predicted(capsys, bundle_dir, "--file", str(tmp_path / name), "--text", "body") == TEXTS


def test_texts_of_standard_input_may_begin_with_a_mark(
    bundle_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = io.BytesIO("\ufeffwarm, soup\na plate\n".encode())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=content))
    assert predicted(capsys, bundle_dir) == TEXTS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("texts.txt", "soup\n".encode("utf-16"), "by its first bytes this is UTF-16"),
        ("texts.txt", b"soup\ncaf\xe9\n", "texts.txt:2: byte 8 of the file (0xe9) is not UTF-8"),
        ("rows.csv", b"id,words\n1,soup\n", "no column 'text'; there are id, words: name one with --text"),
        ("rows.csv", b"id,text\n1,\n", "rows.csv:2: 'text' is empty"),
        ("rows.csv", b"id,text\n1,a,b\n", "rows.csv:2: expected 2 cells"),
        ("rows.xls", b"\xd0\xcf\x11\xe0", "an old workbook of Excel"),
        ("absent.txt", None, "cannot be read"),
        ("absent.csv", None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["predict", str(bundle_dir), "--file", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["policy", "sentiment", "--rows", "-5"],
        ["pilot", "sentiment", "--rows", "0"],
        ["pilot", "sentiment", "--votes", "-1"],
        ["review", "export", "run", "file.csv", "--rows", "-5"],
        ["review", "escalations", "run", "file.csv", "--rows", "0"],
        ["predict", "bundle", "text", "--threshold", "1.5"],
        ["predict", "bundle", "text", "--threshold", "nan"],
    ],
)
def test_a_number_out_of_range_is_refused_where_it_stands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert f"argument {words[-2]}: expected" in capsys.readouterr().err
