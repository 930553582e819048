"""The parts of an unfinished output, and the stamps that say what they, or the finished output, were made from."""

import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from hybrid.errors import DataError
from hybrid.files.hashing import sha256_of_file
from hybrid.files.locks import file_lock
from hybrid.files.table import write_bytes, write_json

VERSION = 1
"""Of what a part looks like: a change of it makes older parts worthless."""
STAMP = "stamp.json"
LOCK = "lock"


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What became of some rows; the labels and the bad rows add up to them."""

    rows: int = 0
    escalate: int = 0
    truncated: int = 0
    bad: int = 0
    """Rows without an answer."""
    labels: dict[str, int] = {}
    """Answers by label."""

    def __add__(self, other: "Tally") -> "Tally":
        """Return the tally of both."""
        return Tally(
            rows=self.rows + other.rows,
            escalate=self.escalate + other.escalate,
            truncated=self.truncated + other.truncated,
            bad=self.bad + other.bad,
            labels=dict(Counter(self.labels) + Counter(other.labels)),
        )


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What an output is made from. Equal: the same bytes come out."""

    version: int = VERSION
    input: str
    """SHA-256 of the file."""
    bundle: str
    """SHA-256 of `bundle.json`, which holds those of the other files."""
    settings: dict[str, Any]


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The stamp beside a finished output."""

    made: Fingerprint
    output: str
    """SHA-256 of the file."""
    tally: Tally


def stamp_path(target: Path) -> Path:
    """Return where the stamp of a finished output lies."""
    return target.with_name(f"{target.name}.{STAMP}")


def parts_folder(target: Path) -> Path:
    """Return where the parts of an unfinished output lie."""
    return target.with_name(f"{target.name}.parts")


def read_finished(target: Path) -> Finished | None:
    """Return the stamp of a finished output that nobody changed since; None where there is none."""
    try:
        stamp = msgspec.json.decode(stamp_path(target).read_bytes(), type=Finished)
        return stamp if stamp.output == sha256_of_file(target) else None
    except (OSError, msgspec.DecodeError):
        return None


def what_changed(old: Fingerprint, new: Fingerprint) -> str:
    """Return which of the things that an output is made from differ, in words."""
    names = {"version": "the format of parts", "input": "the input", "bundle": "the bundle", "settings": "the settings"}
    return " and ".join(words for name, words in names.items() if getattr(old, name) != getattr(new, name))


class Parts:
    """The folder of an unfinished output: a file a chunk, and beside it the tally that says it is whole."""

    def __init__(self, folder: Path, made: Fingerprint) -> None:
        self._folder = folder
        self._made = made
        self.dropped = ""
        """Why parts that were there are of no use; empty where they are, or where there were none."""
        self.tallies: list[Tally] = self._found()
        """Of the finished parts, from the first on."""

    def joined(self, name: str) -> Path:
        """Return where the joined parts lie until the stamp is written."""
        return self._folder / name

    @property
    def paths(self) -> Sequence[Path]:
        """The finished parts, in order."""
        return [self._part(number) for number in range(len(self.tallies))]

    def add(self, content: bytes, tally: Tally) -> None:
        """Keep the next part."""
        number = len(self.tallies)
        write_bytes(self._part(number), content)
        write_json(self._tally(number), tally)
        self.tallies.append(tally)

    def _found(self) -> list[Tally]:
        try:
            old = msgspec.json.decode((self._folder / STAMP).read_bytes(), type=Fingerprint)
        except (OSError, msgspec.DecodeError):
            old = None
        if old != self._made:
            self.dropped = what_changed(old, self._made) if old else ""
            for path in self._folder.glob("[0-9]*"):
                path.unlink()
            write_json(self._folder / STAMP, self._made)
        tallies: list[Tally] = []
        while (tally := self._read_tally(len(tallies))) is not None:
            tallies.append(tally)
        return tallies

    def _read_tally(self, number: int) -> Tally | None:
        try:
            return msgspec.json.decode(self._tally(number).read_bytes(), type=Tally)
        except (OSError, msgspec.DecodeError):
            return None

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:08d}.part"

    def _tally(self, number: int) -> Path:
        return self._folder / f"{number:08d}.json"


@contextmanager
def open_parts(target: Path, made: Fingerprint) -> Iterator[Parts]:
    """Yield the parts of an output, its own alone; they stay where the block ends with an error.

    Raises:
        DataError: there is a file at `target` that no scoring made.
        StorageError: another process works on the same output.
    """
    folder = parts_folder(target)
    if target.exists() and not stamp_path(target).exists():
        raise DataError(f"{target}: exists, and `hybrid score` did not make it; delete it or name another output")
    folder.mkdir(parents=True, exist_ok=True)
    refusal = f"{target}: another process scores into it; wait for it or name another output"
    with file_lock(folder / LOCK, refusal=refusal):
        parts = Parts(folder, made)
        try:
            yield parts
        except BaseException:
            if not parts.tallies:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
    if sys.platform == "win32":  # which removes no file that is open, and so has left the lock
        with suppress(OSError):
            (folder / LOCK).unlink()
            folder.rmdir()
