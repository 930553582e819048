"""The parts of an unfinished output, and the stamps that record what the parts or the finished output were made from."""

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
"""The version of the format of parts; parts of another version are dropped."""
STAMP = "stamp.json"
LOCK = "lock"


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of rows by outcome: the labels and the bad rows add up to all rows."""

    rows: int = 0
    escalate: int = 0
    truncated: int = 0
    bad: int = 0
    """Rows that could not be read and have no answer."""
    labels: dict[str, int] = {}
    """The number of answers by label."""

    def __add__(self, other: "Tally") -> "Tally":
        """Return the sum of both tallies."""
        return Tally(
            rows=self.rows + other.rows,
            escalate=self.escalate + other.escalate,
            truncated=self.truncated + other.truncated,
            bad=self.bad + other.bad,
            labels=dict(Counter(self.labels) + Counter(other.labels)),
        )


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What an output is made from; equal fingerprints give the same bytes."""

    version: int = VERSION
    input: str
    """The SHA-256 of the file."""
    bundle: str
    """The SHA-256 of `bundle.json`, which holds those of the other files."""
    settings: dict[str, Any]
    """The fields of the job, without the names of the files."""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The stamp beside a finished output."""

    made: Fingerprint
    output: str
    """The SHA-256 of the finished file."""
    tally: Tally


def stamp_path(target: Path) -> Path:
    """Return the path of the stamp of a finished output."""
    return target.with_name(f"{target.name}.{STAMP}")


def parts_folder(target: Path) -> Path:
    """Return the folder of the parts of an unfinished output."""
    return target.with_name(f"{target.name}.parts")


def read_finished(target: Path) -> Finished | None:
    """Read the stamp of a finished output; None if there is none, or if the output was changed since."""
    try:
        stamp = msgspec.json.decode(stamp_path(target).read_bytes(), type=Finished)
        return stamp if stamp.output == sha256_of_file(target) else None
    except (OSError, msgspec.DecodeError):
        return None


def what_changed(old: Fingerprint, new: Fingerprint) -> str:
    """Name the inputs that differ between two fingerprints, in words."""
    names = {"version": "the format of parts", "input": "the input", "bundle": "the bundle", "settings": "the settings"}
    return " and ".join(words for name, words in names.items() if getattr(old, name) != getattr(new, name))


class Parts:
    """The folder of an unfinished output: a file for each part, and beside it a tally once the part is complete."""

    def __init__(self, folder: Path, made: Fingerprint) -> None:
        self._folder = folder
        self._made = made
        self.dropped = ""
        """Which inputs changed, so that earlier parts were dropped; empty if none were."""
        self.tallies: list[Tally] = self._read_tallies()
        """The tallies of the finished parts, in order."""

    def joined(self, name: str) -> Path:
        """Return the path of the joined parts until the stamp is written."""
        return self._folder / name

    @property
    def paths(self) -> Sequence[Path]:
        """The finished parts, in order."""
        return [self._part(number) for number in range(len(self.tallies))]

    def add(self, content: bytes, tally: Tally) -> None:
        """Write the next part, and its tally after it."""
        number = len(self.tallies)
        write_bytes(self._part(number), content)
        write_json(self._tally(number), tally)
        self.tallies.append(tally)

    def _read_tallies(self) -> list[Tally]:
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
    """Yield the parts of an output, locked for this process. They are kept if the block ends with an error.

    Raises:
        DataError: there is a file at `target` that scoring did not write.
        StorageError: another process is writing the same output.
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
