"""Compares files with the hashes that they must have, and reads only those again that changed since the last time."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from hybrid.errors import StorageError
from hybrid.files.hashing import sha256_of_file
from hybrid.files.table import write_json


class CheckedFile(msgspec.Struct, frozen=True):
    """A file as it was when it had its hash."""

    sha256: str
    inode: int
    size: int
    mtime_ns: int


def first_changed(folder: Path, hashes: Mapping[str, str], notes: Path) -> str | None:
    """Return the name of a file that is missing or does not have its hash; None where all are as they must be.

    `notes` is the file that remembers what was checked; where it cannot be written, every check reads every file.
    """
    known = _read_notes(notes)
    checked: dict[str, CheckedFile] = {}
    for name, sha256 in hashes.items():
        file = _checked(folder / name, sha256, known.get(name))
        if file is None:
            return name
        checked[name] = file
    if checked != known:
        with suppress(StorageError):
            write_json(notes, checked)
    return None


def _checked(path: Path, sha256: str, known: CheckedFile | None) -> CheckedFile | None:
    try:
        status = path.stat()
        file = CheckedFile(sha256, status.st_ino, status.st_size, status.st_mtime_ns)
        return file if file == known or sha256_of_file(path) == sha256 else None
    except OSError:
        return None


def _read_notes(notes: Path) -> dict[str, CheckedFile]:
    try:
        return msgspec.json.decode(notes.read_bytes(), type=dict[str, CheckedFile])
    except (OSError, ValueError):
        return {}
