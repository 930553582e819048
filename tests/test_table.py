"""Tables: whole or not at all."""

import errno
from pathlib import Path

import pytest

from hybrid.errors import DataError, StorageError
from hybrid.files.table import read_rows, whole_file, write_rows
from hybrid.types import Gold


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [Gold(id="1", label="a\nb"), Gold(id="ü", label="")]
    write_rows(tmp_path / "gold.jsonl", rows)
    assert read_rows(tmp_path / "gold.jsonl", Gold) == rows


def test_a_write_that_fails_leaves_the_old_table_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    write_rows(path, [Gold(id="1", label="a")])
    with pytest.raises(ValueError, match="stop"), whole_file(path) as file:
        file.write(b"half")
        raise ValueError("stop")
    assert read_rows(path, Gold) == [Gold(id="1", label="a")]
    assert [found.name for found in tmp_path.iterdir()] == ["gold.jsonl"]


def test_a_full_disk_is_one_sentence_and_keeps_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    write_rows(path, [Gold(id="1", label="a")])
    (tmp_path / "gold.jsonl.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"gold\.jsonl: could not be written .*free some space"):
        write_rows(path, [Gold(id="2", label="b")])
    assert read_rows(path, Gold) == [Gold(id="1", label="a")]


def test_a_bad_line_is_named_with_file_and_number(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    path.write_text('{"id": "1", "label": "a"}\n{"id": 2}\n')
    with pytest.raises(DataError, match=r"gold\.jsonl:2: not a Gold"):
        read_rows(path, Gold)


def test_no_permission_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose another folder") as caught:
        write_rows(tmp_path / "file" / "gold.jsonl", [])
    assert caught.value.__cause__.errno in (errno.ENOTDIR, errno.EEXIST)
