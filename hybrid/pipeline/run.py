"""A run on disk: a folder a stage, and the stamps that say which of them still hold."""

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hybrid.errors import DataError, HybridError, StorageError
from hybrid.files.hashing import sha256_of, sha256_of_file
from hybrid.files.table import write_json
from hybrid.progress import Screen
from hybrid.types import Report

REPORT = "report.json"
STAMP = "stamp.json"


class Stamp(msgspec.Struct, frozen=True):
    """What a stage was made from, and what it made."""

    key: str
    """SHA-256 of settings, inputs, prompts and the version of the stage's code."""
    outputs: dict[str, str]
    """SHA-256 by path in the run."""


class Run:
    """The folder of one run. A stage works only where its stamp does not hold."""

    def __init__(self, folder: Path, screen: Screen) -> None:
        self.folder = folder
        self.screen = screen
        self.worked: list[str] = []
        """The stages that did something in this process."""

    def path(self, *parts: str) -> Path:
        """Return a path in the run."""
        return self.folder.joinpath(*parts)

    def report(self, stage: str) -> Report:
        """Return what a finished stage reported.

        Raises:
            DataError: the report cannot be read.
        """
        path = self.path(stage, REPORT)
        try:
            found: Report = msgspec.json.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); delete {path.parent} and run again") from error
        return found

    def stage(
        self,
        name: str,
        *,
        version: int,
        settings: object,
        inputs: Sequence[Path],
        outputs: Sequence[str],
        work: Callable[[str], Report],
        says: Callable[[Report], str],
    ) -> None:
        """Do `work` unless the stamp of stage `name` holds.

        `work` gets the key of the stamp, writes the `outputs` (paths in the run) and returns the
        report. The stamp is written last, so a killed stage is done again. A report with
        `"complete": False` gets no stamp: the next run does that stage again.
        """
        key = sha256_of([name, version, settings, {str(i): sha256_of_file(path) for i, path in enumerate(inputs)}])
        if self._holds(name, key):
            self.screen.skipped(name)
            return
        self.path(name, STAMP).unlink(missing_ok=True)
        start = time.perf_counter()
        with self.screen.working(name), self._full_disk_said(name):
            report = work(key)
        seconds = time.perf_counter() - start
        write_json(self.path(name, REPORT), report | {"seconds": round(seconds, 2)})
        if report.get("complete", True):
            made = [*outputs, f"{name}/{REPORT}"]
            write_json(self.path(name, STAMP), Stamp(key, {path: sha256_of_file(self.path(path)) for path in made}))
        self.worked.append(name)
        self.screen.finished(name, seconds, says(report))

    @contextmanager
    def _full_disk_said(self, name: str) -> Iterator[None]:
        """Turn what any library makes of a full disk into our one sentence."""
        try:
            yield
        except HybridError:
            raise
        except Exception as error:
            # torch and safetensors raise errors of their own kinds that carry the system's words.
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
                raise StorageError(
                    f"{name}: the disk of {self.folder} is full; free some space or choose another folder with --runs, "
                    "then run again: what was finished is kept"
                ) from error
            raise

    def _holds(self, name: str, key: str) -> bool:
        try:
            stamp = msgspec.json.decode(self.path(name, STAMP).read_bytes(), type=Stamp)
        except (OSError, msgspec.DecodeError):
            return False
        return stamp.key == key and all(self._is(path, wanted) for path, wanted in stamp.outputs.items())

    def _is(self, path: str, wanted: str) -> bool:
        try:
            return sha256_of_file(self.path(path)) == wanted
        except OSError:
            return False


def settings_of(*parts: object) -> Mapping[str, object]:
    """Return settings as a stamp hashes them."""
    return {str(i): msgspec.to_builtins(part) for i, part in enumerate(parts)}
