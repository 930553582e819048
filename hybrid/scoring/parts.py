"""The parts of an unfinished output, and the stamps that record what the parts or the finished output were made from.

Any number of processes may write parts of one output at once: the name of a part has its number and what it is made
from, its content follows from these, and it appears whole or not at all. Locks save work; nothing is wrong without them.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import msgspec

from hybrid.errors import DataError
from hybrid.files.hashing import sha256_of, sha256_of_file
from hybrid.files.locks import file_lock
from hybrid.files.places import fresh, is_local, names_in, read_all, remove_folder, write_whole
from hybrid.files.table import write_bytes
from hybrid.scoring.job import FilePair
from hybrid.scoring.plan import Fingerprint, Plan
from hybrid.scoring.tally import Tally

STAMP = "stamp.json"
PLAN = "plan.json"
LOCK = "lock"
"""Is held by a run of the whole output."""
SHARDS_LOCK = "shards.lock"
"""Is held by a shard that plans or joins."""


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """The stamp of unfinished parts."""

    made: Fingerprint
    sharded: bool = False
    """Whether shards write the parts, so that nobody else may drop them."""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The stamp beside a finished output."""

    made: Fingerprint
    output: str
    """The SHA-256 of the finished file; for a folder, of the names and hashes of its files."""
    tally: Tally

    def is_of(self, made: Fingerprint) -> bool:
        """Whether the output is the one that this would give; the format of the parts on the way to it does not matter."""
        return msgspec.structs.replace(self.made, version=made.version) == made


def stamp_path(target: Path) -> Path:
    """Return the path of the stamp of a finished output."""
    return target.with_name(f"{target.name}.{STAMP}")


def parts_folder(target: Path) -> Path:
    """Return the folder of the parts of an unfinished output."""
    return target.with_name(f"{target.name}.parts")


def write_stamp(target: Path, finished: Finished) -> None:
    """Write the stamp of a finished output; one without a hash while its files are written."""
    write_whole(stamp_path(target), msgspec.json.format(msgspec.json.encode(finished), indent=2) + b"\n")


def hash_of_files(hashes: dict[str, str]) -> str:
    """Return the hash of an output, from those of its files by name, in their order."""
    return next(iter(hashes.values())) if len(hashes) == 1 else sha256_of(hashes)


def read_finished(target: Path, pairs: list[FilePair]) -> Finished | None:
    """Read the stamp of a finished output; None if there is none, or if the output was changed since."""
    try:
        stamp = msgspec.json.decode(stamp_path(target).read_bytes(), type=Finished)
        if not stamp.output:  # its files are being written, or that was stopped
            return None
        hashes = {pair.name: sha256_of_file(pair.target) for pair in pairs}
        return stamp if stamp.output == hash_of_files(hashes) else None
    except (OSError, msgspec.DecodeError):
        return None


def what_changed(old: Fingerprint, new: Fingerprint) -> str:
    """Name the inputs that differ between two fingerprints, in words."""
    names = {"version": "the format of parts", "input": "the input", "bundle": "the bundle", "settings": "the settings"}
    return " and ".join(words for name, words in names.items() if getattr(old, name) != getattr(new, name))


def read_stamp(target: Path) -> Stamp | None:
    """Read the stamp of the parts of an output; None if there are none."""
    content = _content(parts_folder(target) / STAMP)
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(content, type=Stamp)
    with suppress(msgspec.DecodeError):  # of an earlier version
        return Stamp(made=msgspec.json.decode(content, type=Fingerprint))
    return None


def read_plan(target: Path) -> Plan | None:
    """Read the plan that the parts of an output follow; None if there is none."""
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(_content(parts_folder(target) / PLAN), type=Plan)
    return None


def _content(path: Path) -> bytes:
    try:
        return fresh(path).read_bytes()
    except OSError:
        return b""


class Parts:
    """The folder of an unfinished output: a file for each part, and beside it a tally once the part is complete."""

    def __init__(self, target: Path, digest: str) -> None:
        """Look at the parts that are made from what `digest` stands for."""
        self._folder = parts_folder(target)
        self._ending = f"-{digest}.json"

    def finished(self) -> set[int]:
        """List the numbers of the finished parts."""
        names = names_in(self._folder)
        return {int(name.removesuffix(self._ending)) for name in names if name.endswith(self._ending)}

    def add(self, number: int, content: bytes, tally: Tally) -> None:
        """Write a part, and its tally after it."""
        self._write(self.part(number), content)
        self._write(self._tally(number), msgspec.json.encode(tally))

    def part(self, number: int) -> Path:
        """Return the path of a part."""
        return self._folder / f"{number:08d}{self._ending.removesuffix('.json')}.part"

    def tallies(self, numbers: Iterable[int]) -> list[Tally]:
        """Read the tallies of finished parts."""
        contents = read_all([self._tally(number) for number in numbers])
        return [msgspec.json.decode(content, type=Tally) for content in contents]

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a folder of this machine for files in the making; beside the output where that is here too."""
        if is_local(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._folder if is_local(self._folder) else None) as folder:
            yield Path(folder)

    def begin(self, plan: Plan, *, sharded: bool) -> None:
        """Write what the parts follow."""
        write_whole(self._folder / PLAN, msgspec.json.encode(plan))
        write_whole(self._folder / STAMP, msgspec.json.encode(Stamp(made=plan.made, sharded=sharded)))

    def drop(self) -> None:
        """Delete all files of the unfinished output, those of an earlier one too, but for the locks."""
        for path in self._folder.iterdir():
            if path.is_dir():  # of a process that was killed as it joined
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in (LOCK, SHARDS_LOCK):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder."""
        remove_folder(self._folder)

    def _write(self, path: Path, content: bytes) -> None:
        if not is_local(path):
            write_whole(path, content)
            return
        own = path.with_name(f"{os.getpid()}-{uuid4().hex[:8]}-{path.name}")  # another process may write the same part
        write_bytes(own, content)
        own.replace(path)

    def _tally(self, number: int) -> Path:
        return self._folder / f"{number:08d}{self._ending}"


def refuse_foreign(target: Path) -> None:
    """Refuse to write over a file, or into a folder, that scoring did not make.

    Raises:
        DataError: it did not.
    """
    fresh(target)
    is_taken = any(target.iterdir()) if target.is_dir() else target.exists()
    if is_taken and not stamp_path(target).exists():
        raise DataError(f"{target}: exists, and `hybrid score` did not make it; delete it or name another output")


def refuse_other(target: Path, old: Fingerprint, new: Fingerprint) -> None:
    """Refuse parts or an output that were made from something else.

    Raises:
        DataError: they were.
    """
    if changed := what_changed(old, new):
        raise DataError(
            f"{target}: was begun with other inputs ({changed} changed since); go on with the same ones, name another "
            f"output, or delete {parts_folder(target)} and {stamp_path(target)}"
        )


@contextmanager
def lock(folder: Path, name: str, *, refusal: str = "") -> Iterator[None]:
    """Hold a lock in the folder of the parts, which is made; in a store there are none.

    Raises:
        StorageError: another process holds it, and there is a `refusal`.
    """
    if not is_local(folder):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / name, refusal=refusal):
        yield


def busy(target: Path) -> str:
    """Return the refusal where another process scores into an output."""
    return f"{target}: another process scores into it; wait for it or name another output"


@contextmanager
def open_parts(target: Path, plan: Plan) -> Iterator[tuple[Parts, str]]:
    """Yield the parts of an output, locked for this process, and what changed where earlier parts were dropped.

    The parts are kept if the block ends with an error, and removed otherwise.

    Raises:
        DataError: there is a file at `target` that scoring did not write, or shards of something else are at work.
        StorageError: another process is writing the same output.
    """
    refuse_foreign(target)
    parts, folder, dropped = Parts(target, plan.made.digest), parts_folder(target), ""
    with lock(folder, LOCK, refusal=busy(target)):
        old = read_stamp(target)
        if old and old.sharded:
            refuse_other(target, old.made, plan.made)
        elif not is_local(target):  # without a lock, others may be at work
            parts.begin(plan, sharded=True)
        elif old is None or old.made != plan.made:
            dropped = what_changed(old.made, plan.made) if old else ""
            parts.drop()
            parts.begin(plan, sharded=False)
        try:
            yield parts, dropped
        except BaseException:
            if not parts.finished() and not (old and old.sharded):
                parts.remove()
            raise
        parts.remove()
    if sys.platform == "win32":  # which removes no file that is open, and so has left the lock
        with suppress(OSError):
            (folder / LOCK).unlink()
            folder.rmdir()


def ranges(numbers: Iterable[int]) -> str:
    """Name numbers for a message, counted from 1, as in "3, 7 to 9"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    words = [f"{first + 1}" if first == last else f"{first + 1} to {last + 1}" for first, last in runs[:6]]
    return ", ".join(words) + (" and more" if len(runs) > 6 else "")
