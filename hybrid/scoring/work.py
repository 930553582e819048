"""The work of scoring as workers get it: names and numbers, never rows."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hybrid.cluster.engine import Engine
from hybrid.cluster.local import LocalEngine
from hybrid.errors import BundleError, ConfigError, DataError
from hybrid.files.formats.records import AddedColumns
from hybrid.files.hashing import sha256_of_file
from hybrid.files.places import store_errors
from hybrid.machine.memory import memory
from hybrid.machine.threads import usable_threads
from hybrid.runtime.bundle import manifest_of
from hybrid.runtime.made_with import COMPUTES, versions
from hybrid.scoring.job import FilePair, Job, file_pairs
from hybrid.scoring.output import Output
from hybrid.scoring.parts import Parts, parts_folder, read_plan
from hybrid.scoring.plan import CheckedFile, Plan, check_file
from hybrid.scoring.scorer import Scorer
from hybrid.scoring.tally import Tally

if TYPE_CHECKING:
    from hybrid.runtime import Classifier

PARTS_A_WORKER = 16
"""A process more is worth its start where it has so many parts to write."""
FILES_A_WORKER = 4
"""The same for files to look at."""
MEMORY_A_BYTE = 4
"""Bytes of memory that a worker needs for a byte of its graph, at least."""


class CheckFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Looks at every row of files, by their numbers."""

    job: Job
    pairs: list[FilePair]
    added: AddedColumns
    versions: dict[str, str]

    def start(self, threads: int) -> Callable[[int], CheckedFile]:  # noqa: ARG002 (one is enough)
        """Make ready.

        Raises:
            ConfigError: other versions of packages are installed here.
        """
        _check_versions(self.versions)
        return self._check

    def _check(self, number: int) -> CheckedFile:
        with store_errors(self.job.source, self.job.target):
            return check_file(number, self.pairs[number], self.job, self.added)


class ScoreParts(msgspec.Struct, frozen=True, kw_only=True):
    """Writes parts of an output, by their numbers, in a worker that has the bundle and the files under the same paths."""

    job: Job
    bundle_dir: Path
    backend: str
    """The library that runs the encoder."""
    digest: str
    """Stands for what the output is made from."""
    versions: dict[str, str]
    """The packages of the process that hands out the work."""

    def start(self, threads: int) -> Callable[[int], Tally]:
        """Load the bundle, golden texts and all, and find the plan.

        Raises:
            ConfigError: other versions of packages are installed here.
            DataError: the plan is not here, or is of another output.
            BundleError: the bundle is not here, is another one, or computes something else here.
        """
        from hybrid.runtime.cascade import load

        _check_versions(self.versions)
        plan = _plan_of(self.job, self.digest)
        classifier = load(self.bundle_dir, engine=self.backend, threads=threads)
        if sha256_of_file(manifest_of(self.bundle_dir, classifier.bundle)) != plan.made.bundle:
            raise BundleError(f"{self.bundle_dir}: another bundle than the one that the work began with; copy it again")
        parts = Parts(self.job.target, self.digest)
        with store_errors(self.job.source, self.job.target):
            return Scorer(classifier, self.job, file_pairs(self.job), plan, parts)


class JoinFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Joins the parts of files, by their numbers."""

    job: Job
    digest: str

    def start(self, threads: int) -> Callable[[int], tuple[str, str]]:  # noqa: ARG002 (one is enough)
        """Find the plan.

        Raises:
            DataError: the plan is not here, or is of another output.
        """
        plan, parts = _plan_of(self.job, self.digest), Parts(self.job.target, self.digest)
        output = Output(job=self.job, pairs=file_pairs(self.job), plan=plan, parts=parts)
        by_file = plan.numbers_by_file()

        def join(file: int) -> tuple[str, str]:
            with store_errors(self.job.source, self.job.target):
                return output.join(file, by_file[file])

        return join


class Here:
    """This process."""

    def __init__(self, classifier: "Classifier") -> None:
        self._classifier = classifier

    def check(self, job: Job, pairs: list[FilePair], added: AddedColumns) -> Iterator[CheckedFile]:
        """Look at every row of the files."""
        for number, pair in enumerate(pairs):
            yield check_file(number, pair, job, added)

    def answer(self, output: Output, numbers: list[int]) -> Iterator[Tally]:
        """Write parts."""
        scorer = Scorer(self._classifier, output.job, output.pairs, output.plan, output.parts)
        try:
            yield from map(scorer, numbers)
        finally:
            scorer.close()

    def join(self, output: Output) -> Iterator[tuple[str, str]]:
        """Write the files from their parts."""
        for file, numbers in enumerate(output.plan.numbers_by_file()):
            yield output.join(file, numbers)


class OnEngine:
    """The workers of an engine; what is about one file alone is done in this process."""

    def __init__(self, engine: Engine, classifier: "Classifier", bundle_dir: Path, backend: str) -> None:
        self._engine = engine
        self._here = Here(classifier)
        self._bundle_dir = bundle_dir
        self._backend = backend

    def check(self, job: Job, pairs: list[FilePair], added: AddedColumns) -> Iterable[CheckedFile]:
        """Look at every row of the files."""
        if len(pairs) == 1:
            return self._here.check(job, pairs, added)
        there = _absolute(job)
        work = CheckFiles(job=there, pairs=file_pairs(there), added=added, versions=_expected())
        return self._engine.map(work, range(len(pairs)))

    def answer(self, output: Output, numbers: list[int]) -> Iterable[Tally]:
        """Write parts."""
        work = ScoreParts(
            job=_absolute(output.job),
            bundle_dir=self._bundle_dir.absolute(),
            backend=self._backend,
            digest=output.plan.made.digest,
            versions=_expected(),
        )
        return self._engine.map(work, numbers)

    def join(self, output: Output) -> Iterable[tuple[str, str]]:
        """Write the files from their parts."""
        if len(output.pairs) == 1:
            return self._here.join(output)
        work = JoinFiles(job=_absolute(output.job), digest=output.plan.made.digest)
        return self._engine.map(work, range(len(output.pairs)))


class OnThisMachine:
    """This process where there is little to do, and several otherwise, which keeps all processors busy."""

    def __init__(
        self, classifier: "Classifier", bundle_dir: Path, backend: str, *, workers: int | None, threads: int | None
    ) -> None:
        """Work in `workers` processes of `threads` threads each; None: as many as suit the work."""
        self._classifier = classifier
        self._bundle_dir = bundle_dir
        self._backend = backend
        self._workers = workers
        self._threads = threads

    def check(self, job: Job, pairs: list[FilePair], added: AddedColumns) -> Iterator[CheckedFile]:
        """Look at every row of the files."""
        n_workers = self._workers or min(usable_threads(), len(pairs) // FILES_A_WORKER)
        yield from self._place(n_workers).check(job, pairs, added)

    def answer(self, output: Output, numbers: list[int]) -> Iterator[Tally]:
        """Write parts."""
        n_workers = self._workers or min(_fitting(self._classifier, self._bundle_dir), len(numbers) // PARTS_A_WORKER)
        yield from self._place(n_workers).answer(output, numbers)

    def join(self, output: Output) -> Iterator[tuple[str, str]]:
        """Write the files from their parts; the disk is what that takes time for."""
        return Here(self._classifier).join(output)

    def _place(self, n_workers: int) -> Here | OnEngine:
        """Return so many processes, or this one."""
        if n_workers <= 1 and self._threads is None:
            return Here(self._classifier)
        n_workers = max(1, n_workers)
        engine = LocalEngine(n_workers, self._threads or max(1, usable_threads() // n_workers))
        return OnEngine(engine, self._classifier, self._bundle_dir, self._backend)


def _absolute(job: Job) -> Job:
    """Return the job as other processes see it, whose working folder may be another."""
    return msgspec.structs.replace(job, source=job.source.absolute(), target=job.target.absolute())


def _expected() -> dict[str, str]:
    """Return the versions that every worker must have."""
    return {name: version for name, version in versions().items() if name in (*COMPUTES, "python")}


def _check_versions(expected: dict[str, str]) -> None:
    """Compare the packages of a worker with those of the process that hands out the work.

    Raises:
        ConfigError: they differ.
    """
    here = versions()
    others = [
        f"{name} {here.get(name, 'none')} where {wanted} is expected"
        for name, wanted in expected.items()
        if here.get(name) != wanted
    ]
    if others:
        raise ConfigError(f"has {', '.join(others)}; install the same versions on every machine")


def _plan_of(job: Job, digest: str) -> Plan:
    """Read the plan in a worker.

    Raises:
        DataError: it is not here, or is of another output.
    """
    plan = read_plan(job.target)
    if plan is None or plan.made.digest != digest:
        raise DataError(
            f"{parts_folder(job.target)}: not here, or of another output; every machine needs IN, OUT and the bundle under the "
            "same paths: put them on shared storage"
        )
    return plan


def _fitting(classifier: "Classifier", bundle_dir: Path) -> int:
    """Count the processes that may hold the bundle at once: one a thread, unless there is little memory."""
    n_bytes = sum(
        (bundle_dir / name).stat().st_size for name in classifier.bundle.files if (bundle_dir / name).exists()
    )
    available = memory().available
    if available is None:
        return usable_threads()
    return max(1, min(usable_threads(), available // 2 // (MEMORY_A_BYTE * max(n_bytes, 1 << 26))))
