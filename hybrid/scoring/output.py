"""An output that is to be made, and what has its parts made."""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from hybrid.files.formats.records import AddedColumns
from hybrid.files.hashing import sha256_of_file
from hybrid.files.places import move
from hybrid.scoring.job import FilePair, Job
from hybrid.scoring.parts import Parts, read_finished
from hybrid.scoring.plan import CheckedFile, Plan
from hybrid.scoring.tally import Tally


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """An output that is to be made."""

    job: Job
    pairs: list[FilePair]
    plan: Plan
    parts: Parts

    def finished(self) -> Tally | None:
        """Return the tally if the output is there already."""
        finished = read_finished(self.job.target, self.pairs)
        return finished.tally if finished and finished.is_of(self.plan.made) else None

    def join(self, file: int, numbers: list[int]) -> tuple[str, str]:
        """Write a file of the output from its parts; return its name and its SHA-256.

        Raises:
            StorageError: it cannot be written.
        """
        pair = self.pairs[file]
        with self.parts.scratch() as folder:
            joined = folder / "joined"
            pair.file_format.join([self.parts.part(number) for number in numbers], joined)
            sha256 = sha256_of_file(joined)
            move(joined, pair.target)
        return pair.name, sha256


class Workplace(Protocol):
    """Has the work of an output done: in this process, in several, or on several machines."""

    def check(self, job: Job, pairs: list[FilePair], added: AddedColumns) -> Iterable[CheckedFile]:
        """Look at every row of the files; in any order."""

    def answer(self, output: Output, numbers: list[int]) -> Iterable[Tally]:
        """Write the parts of these numbers, and yield their tallies in any order."""

    def join(self, output: Output) -> Iterable[tuple[str, str]]:
        """Write the files from their parts, and yield their names and hashes in any order."""
