"""Score a file or a folder: plan the parts, have them written, join them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hybrid.errors import DataError, StorageError, StoreError
from hybrid.files.hashing import sha256_of_file
from hybrid.files.places import mark_of, store_errors
from hybrid.progress import Progress
from hybrid.runtime.bundle import manifest_of
from hybrid.runtime.engines import DEFAULT_ENGINE
from hybrid.scoring.job import Job, file_pairs
from hybrid.scoring.output import Output, Workplace
from hybrid.scoring.parts import (
    LOCK,
    SHARDS_LOCK,
    Finished,
    Parts,
    busy,
    hash_of_files,
    lock,
    open_parts,
    parts_folder,
    ranges,
    read_finished,
    read_plan,
    read_stamp,
    refuse_foreign,
    refuse_other,
    stamp_path,
    write_stamp,
)
from hybrid.scoring.plan import is_of, plan_of
from hybrid.scoring.rows import added_columns
from hybrid.scoring.shards import Shard, ShardReport
from hybrid.scoring.tally import Tally
from hybrid.scoring.work import Here

if TYPE_CHECKING:
    from hybrid.runtime import Classifier

__all__ = ["Job", "join_shards", "score", "score_shard", "score_with"]


def score(classifier: "Classifier", bundle_dir: Path, job: Job, progress: Progress) -> Tally:
    """Write the rows of `job.source` with their answers to `job.target`; return the counts of rows by outcome.

    A job that was interrupted continues where it stopped if the input, the bundle and the settings are unchanged.

    Raises:
        DataError: the input is not what its name says, a row cannot be read, or the output is a file of somebody else.
        ConfigError: the job contradicts itself.
        StorageError: the output cannot be written.
    """
    return score_with(Here(classifier), classifier, bundle_dir, job, progress)


def score_with(place: Workplace, classifier: "Classifier", bundle_dir: Path, job: Job, progress: Progress) -> Tally:
    """Score as `score` does; the work is done at `place`."""
    with store_errors(job.source, job.target):
        output = _output(place, classifier, bundle_dir, job, progress)
        if tally := output.finished():
            progress.say(f"{job.target}: unchanged, nothing to score")
            return tally
    with _storage_errors(job), open_parts(job.target, output.plan) as (parts, dropped):
        done = parts.finished()
        n_done = sum(output.plan.parts[number].rows for number in done)
        if n_done:
            progress.say(f"continuing after {n_done:,} rows that are scored")
        elif dropped:
            progress.say(f"starting over: {dropped} changed since the last time")
        elif stamp_path(job.target).exists():
            progress.say("starting over: the output was made from something else")
        missing = [number for number in range(len(output.plan.parts)) if number not in done]
        _answer(output, missing, place, progress)
        return _finish(output, place)


def score_shard(
    classifier: "Classifier",
    bundle_dir: Path,
    job: Job,
    shard: Shard,
    progress: Progress,
    *,
    place: Workplace | None = None,
) -> ShardReport:
    """Write the parts of one shard, and the output as well if all other parts are there.

    Shards run in any order and at once, each once or more often; an interrupted one is run again.

    Raises:
        DataError, ConfigError, StorageError: as `score`; or the output was begun with other inputs, or without shards
            and is being written.
    """
    place = place or Here(classifier)
    with _storage_errors(job):
        refuse_foreign(job.target)
        output = _begun(place, classifier, bundle_dir, job, progress)
        mine = shard.numbers(len(output.plan.parts))
        tally = output.finished()
        if tally is None:
            done = output.parts.finished()
            missing = [number for number in mine if number not in done]
            if len(missing) < len(mine):
                progress.say(f"continuing after {len(mine) - len(missing)} of {len(mine)} parts that are scored")
            try:
                _answer(output, missing, place, progress)
            except StorageError:
                if output.finished() is None:  # otherwise other processes have finished, and removed the folder
                    raise
            tally = _joined(output, place, must_be_whole=False)
        else:
            output.parts.remove()
        n_done = len(output.plan.parts) if tally else len(output.parts.finished())
        return ShardReport(
            shard=str(shard), parts=len(mine), parts_done=n_done, parts_all=len(output.plan.parts), tally=tally
        )


def join_shards(
    classifier: "Classifier", bundle_dir: Path, job: Job, progress: Progress, *, place: Workplace | None = None
) -> Tally:
    """Write the output from the parts of its shards.

    Raises:
        DataError: a part is missing, or the parts were made from something else.
    """
    place = place or Here(classifier)
    with _storage_errors(job):
        refuse_foreign(job.target)
        tally = _joined(_begun(place, classifier, bundle_dir, job, progress), place, must_be_whole=True)
        assert tally is not None
        return tally


def _answer(output: Output, numbers: list[int], place: Workplace, progress: Progress) -> None:
    """Have parts written, and show how far it is."""
    missing = sum(output.plan.parts[number].rows for number in numbers)
    n_rows = output.plan.n_rows
    n_done = n_rows - missing
    for tally in place.answer(output, numbers):
        n_done += tally.rows
        progress.advance(n_done, n_rows)


def _output(place: Workplace, classifier: "Classifier", bundle_dir: Path, job: Job, progress: Progress) -> Output:
    """Return the output with its plan: the one that is there, or a new one."""
    pairs = file_pairs(job)
    bundle = sha256_of_file(manifest_of(bundle_dir, classifier.bundle))
    engine = "" if classifier.engine == DEFAULT_ENGINE else f"{classifier.engine}, {classifier.precision}"
    plan = read_plan(job.target)
    if plan is None or not is_of(plan, pairs, job, bundle, engine):
        added = added_columns(classifier.bundle.labels, prefix=job.prefix, probs=job.probs, errors=job.skip_bad)
        progress.say(f"{job.source}: checking every row" + (f" of {len(pairs):,} files" if len(pairs) > 1 else ""))
        order = {pair.name: number for number, pair in enumerate(pairs)}
        checked = sorted(place.check(job, pairs, added), key=lambda each: order[each.file.name])
        for each in checked:
            if each.note:
                progress.say(f"{pairs[order[each.file.name]].source}: {each.note}")
        plan = plan_of(checked, job, bundle=bundle, engine=engine)
    return Output(job=job, pairs=pairs, plan=plan, parts=Parts(job.target, plan.made.digest))


def _begun(place: Workplace, classifier: "Classifier", bundle_dir: Path, job: Job, progress: Progress) -> Output:
    """Return the output of which this process writes some parts, after a look at what is there."""
    folder = parts_folder(job.target)
    was_there = folder.exists()
    with lock(folder, SHARDS_LOCK):  # whoever comes first plans for all
        try:
            output = _output(place, classifier, bundle_dir, job, progress)
        except BaseException:
            if not was_there:
                Parts(job.target, "").remove()
            raise
        finished = read_finished(job.target, output.pairs)
        if finished and not finished.is_of(output.plan.made):
            refuse_other(job.target, finished.made, output.plan.made)
        stamp = read_stamp(job.target)
        if stamp:
            refuse_other(job.target, stamp.made, output.plan.made)
        if finished is None and not (stamp and stamp.sharded):
            with lock(folder, LOCK, refusal=busy(job.target)):  # of a run without shards
                output.parts.begin(output.plan, sharded=True)
        return output


def _joined(output: Output, place: Workplace, *, must_be_whole: bool) -> Tally | None:
    """Join the parts if they are all there, unless somebody did; None if some are missing."""
    with lock(parts_folder(output.job.target), SHARDS_LOCK):
        tally = output.finished()
        if tally is None:
            missing = set(range(len(output.plan.parts))) - output.parts.finished()
            if missing and must_be_whole:
                raise DataError(
                    f"{output.job.target}: parts {ranges(missing)} of {len(output.plan.parts)} are missing; run their shards, or "
                    "the command without --shard and --join, which scores what is missing"
                )
            if missing:
                return None
            try:
                tally = _finish(output, place)
            except (OSError, StorageError):
                tally = output.finished()  # where a store has no locks, another may have been first
                if tally is None:
                    raise
        output.parts.remove()
        return tally


def _finish(output: Output, place: Workplace) -> Tally:
    """Join the parts in their place."""
    job, plan, parts = output.job, output.plan, output.parts
    for file, pair in zip(plan.files, output.pairs, strict=True):
        if mark_of(pair.source) != file.mark and sha256_of_file(pair.source) != file.sha256:
            raise DataError(f"{pair.source}: changed while it was scored; run again, on a file that nobody writes to")
    tally = sum(parts.tallies(range(len(plan.parts))), Tally())
    # A stamp first: an output without one is never ours, so nobody's file is written over.
    finished = Finished(made=plan.made, output="", tally=tally)
    write_stamp(job.target, finished)
    hashes = dict(place.join(output))
    hashes = {pair.name: hashes[pair.name] for pair in output.pairs}
    write_stamp(job.target, msgspec.structs.replace(finished, output=hash_of_files(hashes)))
    return tally


@contextmanager
def _storage_errors(job: Job) -> Iterator[None]:
    """Replace the message of an error of the disk, or of a store, by one that says what helps here."""
    try:
        with store_errors(job.source, job.target):
            yield
    except OSError as error:
        reason = error.strerror
    except StorageError as error:
        if isinstance(error, StoreError) or not isinstance(error.__cause__, OSError):
            raise
        reason = error.__cause__.strerror
    else:
        return
    raise StorageError(
        f"{job.target}: could not be written ({reason}); free some space or name another output, then run again: what was "
        "scored is kept"
    )
