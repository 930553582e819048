"""A run on disk: a folder a stage, and the stamps that say which of them still hold."""

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hybrid.command_exit import sentence, write_traceback
from hybrid.errors import CrashError, DataError, HybridError, StorageError
from hybrid.files.hashing import sha256_of_file
from hybrid.files.table import write_json
from hybrid.progress import Screen
from hybrid.types import Report

REPORT = "report.json"
STAMP = "stamp.json"
TRACEBACK = "traceback.txt"
"""Of the last time that the stage ended in an error of a library."""
JUDGING = ("split", "calibrate", "evaluate")
"""Stages whose report says whether every calibration and test row has a gold label (`judged_by_gold`)."""


class Stamp(msgspec.Struct, frozen=True):
    """What a stage was made from, and what it made."""

    key: str
    """SHA-256 of all that the stage declares to read, and of its version."""
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
        """A path in the run."""
        return self.folder.joinpath(*parts)

    def report(self, stage: str) -> Report:
        """What a finished stage reported.

        Raises:
            DataError: the report cannot be read.
        """
        path = self.path(stage, REPORT)
        try:
            report: Report = msgspec.json.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); delete {path.parent} and run again") from error
        if stage in JUDGING and "trusted" in report:  # its name in version 0.1.0
            report.setdefault("judged_by_gold", report["trusted"])
        return report

    def do(
        self,
        name: str,
        *,
        key: str,
        outputs: Sequence[str],
        may_write: Sequence[str] = (),
        work: Callable[[], Report],
        summary_line: Callable[[Report], str],
    ) -> None:
        """Do `work` unless the stamp of stage `name` has `key` and its outputs are as it left them.

        `work` writes the `outputs` (paths in the run), perhaps those in `may_write` too, and returns the report. The stamp is written last, so a killed
        stage is done again. A report with `"complete": False` gets no stamp: the next run does that stage again.
        """
        if self._holds(name, key):
            self.screen.skipped(name)
            return
        self.path(name, STAMP).unlink(missing_ok=True)
        self.path(name, TRACEBACK).unlink(missing_ok=True)
        start = time.perf_counter()
        with self.screen.working(name), self._one_sentence(name):
            report = work()
        seconds = time.perf_counter() - start
        write_json(self.path(name, REPORT), report | {"seconds": round(seconds, 2)})
        if report.get("complete", True):
            further = [path for path in may_write if self.path(path).is_file()]
            written = [*outputs, *further, f"{name}/{REPORT}"]
            write_json(self.path(name, STAMP), Stamp(key, {path: sha256_of_file(self.path(path)) for path in written}))
        self.worked.append(name)
        self.screen.finished(name, seconds, summary_line(report))

    @contextmanager
    def _one_sentence(self, name: str) -> Iterator[None]:
        """Turn what any library raises into one sentence, and keep its traceback in the run."""
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
            file = write_traceback(error, self.path(name, TRACEBACK))
            raise CrashError(
                f"{name}: {sentence(error, file)}; what was finished is kept, and the same command goes on from there"
            ) from error

    def _holds(self, name: str, key: str) -> bool:
        try:
            stamp = msgspec.json.decode(self.path(name, STAMP).read_bytes(), type=Stamp)
        except (OSError, msgspec.DecodeError):
            return False
        return stamp.key == key and all(self._is_unchanged(path, digest) for path, digest in stamp.outputs.items())

    def _is_unchanged(self, path: str, digest: str) -> bool:
        try:
            return sha256_of_file(self.path(path)) == digest
        except OSError:
            return False
