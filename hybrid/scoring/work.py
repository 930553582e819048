"""The work of scoring as workers get it: names and numbers, never rows."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hybrid.cluster.engine import Engine
from hybrid.cluster.local import LocalEngine
from hybrid.errors import BundleError, ConfigError, DataError
from hybrid.files.hashing import sha256_of_file
from hybrid.files.places import store_errors
from hybrid.machine.memory import memory
from hybrid.machine.threads import usable_threads
from hybrid.runtime.bundle import manifest_of
from hybrid.runtime.made_with import COMPUTES, versions
from hybrid.scoring.job import Job, file_pairs
from hybrid.scoring.output import Answer, Output
from hybrid.scoring.parts import Parts, parts_folder, read_plan
from hybrid.scoring.scorer import Scorer
from hybrid.scoring.tally import Tally

if TYPE_CHECKING:
    from hybrid.runtime import Classifier

PARTS_A_WORKER = 16
"""A process more is worth its start where it has so many parts to write."""
MEMORY_A_BYTE = 4
"""Bytes of memory that a worker needs for a byte of its graph, at least."""


class ScoreParts(msgspec.Struct, frozen=True, kw_only=True):
    """Writes parts of an output, in a worker that has the bundle and the files under the same paths."""

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

        here = versions()
        others = [
            f"{name} {here.get(name, 'none')} where {wanted} is expected"
            for name, wanted in self.versions.items()
            if here.get(name) != wanted
        ]
        if others:
            raise ConfigError(f"has {', '.join(others)}; install the same versions on every machine")
        plan = read_plan(self.job.target)
        if plan is None or plan.made.digest != self.digest:
            raise DataError(
                f"{parts_folder(self.job.target)}: not here, or of another output; every machine needs IN, OUT and the bundle "
                "under the same paths: put them on shared storage"
            )
        classifier = load(self.bundle_dir, engine=self.backend, threads=threads)
        if sha256_of_file(manifest_of(self.bundle_dir, classifier.bundle)) != plan.made.bundle:
            raise BundleError(f"{self.bundle_dir}: another bundle than the one that the work began with; copy it again")
        parts = Parts(self.job.target, self.digest)
        with store_errors(self.job.source, self.job.target):
            return Scorer(classifier, self.job, file_pairs(self.job), plan, parts)


def on(engine: Engine, bundle_dir: Path, backend: str) -> Answer:
    """Have parts written by the workers of an engine."""

    def answer(output: Output, numbers: list[int]) -> Iterator[Tally]:
        job = output.job
        work = ScoreParts(
            job=msgspec.structs.replace(job, source=job.source.absolute(), target=job.target.absolute()),
            bundle_dir=bundle_dir.absolute(),
            backend=backend,
            digest=output.plan.made.digest,
            versions={name: version for name, version in versions().items() if name in (*COMPUTES, "python")},
        )
        yield from engine.map(work, numbers)

    return answer


def here(classifier: "Classifier") -> Answer:
    """Answer in this process."""

    def answer(output: Output, numbers: list[int]) -> Iterator[Tally]:
        scorer = Scorer(classifier, output.job, output.pairs, output.plan, output.parts)
        try:
            yield from map(scorer, numbers)
        finally:
            scorer.close()

    return answer


def on_this_machine(
    classifier: "Classifier", bundle_dir: Path, backend: str, *, workers: int | None, threads: int | None
) -> Answer:
    """Answer in this process where there is little to do, and in several otherwise, which keeps all processors busy."""

    def answer(output: Output, numbers: list[int]) -> Iterator[Tally]:
        n_workers = workers or _workers(classifier, bundle_dir, len(numbers))
        if n_workers == 1 and threads is None:
            yield from here(classifier)(output, numbers)
            return
        engine = LocalEngine(n_workers, threads or max(1, usable_threads() // n_workers))
        try:
            yield from on(engine, bundle_dir, backend)(output, numbers)
        finally:
            engine.close()

    return answer


def _workers(classifier: "Classifier", bundle_dir: Path, n_parts: int) -> int:
    """Choose the number of processes: one a thread, unless there is little to do or little memory."""
    n_bytes = sum(
        (bundle_dir / name).stat().st_size for name in classifier.bundle.files if (bundle_dir / name).exists()
    )
    available = memory().available
    fitting = usable_threads() if available is None else available // 2 // (MEMORY_A_BYTE * max(n_bytes, 1 << 26))
    return max(1, min(usable_threads(), n_parts // PARTS_A_WORKER, fitting))
