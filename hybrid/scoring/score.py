"""Score a file: check every row, answer batch by batch, join the parts."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hybrid.errors import ConfigError, DataError, StorageError
from hybrid.files.formats import format_of
from hybrid.files.formats.records import BATCH_ROWS, AddedColumns, Format, Table
from hybrid.files.hashing import sha256_of_file
from hybrid.files.table import write_json
from hybrid.progress import Progress
from hybrid.runtime.bundle import manifest_of
from hybrid.runtime.engines import DEFAULT_ENGINE
from hybrid.scoring.parts import Fingerprint, Finished, Parts, Tally, open_parts, read_finished, stamp_path
from hybrid.scoring.rows import Problem, added_cells, added_columns, texts_of
from hybrid.types import Prediction

if TYPE_CHECKING:
    from hybrid.runtime import Classifier


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to score, and how."""

    source: Path
    """The file to score."""
    target: Path
    """The file to write, of the same format."""
    text: str = "text"
    """The column that holds the texts."""
    threshold: float | None = None
    """The confidence below which a row escalates; None means the bundle's own threshold."""
    prefix: str = "hybrid_"
    """The beginning of the names of the added columns."""
    probs: bool = False
    """Whether the probability of every label is added."""
    skip_bad: bool = False
    """Whether a row that cannot be read is marked; otherwise it ends the job."""
    chunk_rows: int = BATCH_ROWS
    """The most rows of one part of the output."""


def score(classifier: "Classifier", bundle_dir: Path, job: Job, progress: Progress) -> Tally:
    """Write the rows of `job.source` with their answers to `job.target`; return the counts of rows by outcome.

    A job that was interrupted continues where it stopped if the input, the bundle and the settings are unchanged.

    Raises:
        DataError: the input is not what its name says, a row cannot be read, or the output is a file of somebody else.
        ConfigError: the job contradicts itself.
        StorageError: the output cannot be written.
    """
    file_format = _format(job)
    added = added_columns(classifier.bundle.labels, prefix=job.prefix, probs=job.probs, errors=job.skip_bad)
    fingerprint, n_rows = _checked(file_format, classifier, bundle_dir, job, added, progress)
    finished = read_finished(job.target)
    if finished and finished.made == fingerprint:
        progress.say(f"{job.target}: unchanged, nothing to score")
        return finished.tally
    with _storage_errors(job.target), open_parts(job.target, fingerprint) as parts:
        _say_start(finished, parts, progress)
        n_done = sum(tally.rows for tally in parts.tallies)
        n_parts = len(parts.tallies)
        with _open(file_format, job) as table:
            for number, batch in enumerate(table.batches):
                if number < n_parts:
                    continue
                answers = _answers(texts_of(batch, table, job.text), classifier, job.threshold)
                cells = added_cells(answers, probs=job.probs, errors=job.skip_bad)
                parts.add(file_format.render(table, batch, cells, added, first=number == 0), _tally(answers))
                n_done += len(answers)
                progress.advance(n_done, n_rows)
        return _finish(file_format, parts, fingerprint, job)


def _format(job: Job) -> Format:
    suffix = job.source.suffix.lower()
    file_format = format_of(job.source)
    if not file_format.can_write:
        raise ConfigError(f"{job.source}: a {suffix} file is read and not written; save it as CSV UTF-8 and score that")
    if job.target.suffix.lower() != suffix:
        raise ConfigError(f"{job.target}: the input is a {suffix} file and so is the output; name it {suffix}")
    if job.target.exists() and job.source.exists() and job.target.samefile(job.source):
        raise ConfigError(f"{job.target}: it is the input as well; name another output")
    if job.threshold is not None and not 0 <= job.threshold <= 1:
        raise ConfigError(f"--threshold {job.threshold}: expected a probability, from 0 to 1")
    return file_format


def _open(file_format: Format, job: Job) -> AbstractContextManager[Table]:
    return file_format.open(
        job.source, name=str(job.source), columns=(job.text,), batch_rows=job.chunk_rows, with_originals=True
    )


def _checked(
    file_format: Format, classifier: "Classifier", bundle_dir: Path, job: Job, added: AddedColumns, progress: Progress
) -> tuple[Fingerprint, int]:
    """Check every row; return what the output is made from, and the number of rows.

    A row that cannot be read ends hours of work before they begin.
    """
    progress.say(f"{job.source}: checking every row")
    n_rows = 0
    with _open(file_format, job) as table:
        if table.note:
            progress.say(f"{job.source}: {table.note}")
        if table.header is not None:
            _check_header(table, table.header, added, job)
        for batch in table.batches:
            n_rows += len(batch.records)
            for record in batch.records if table.header is None else ():
                _check_added(record.names, added, job)
            for text in texts_of(batch, table, job.text) if not job.skip_bad else ():
                if isinstance(text, Problem):
                    raise DataError(f"{text.reason}; or mark such rows with --skip-bad")
    settings = {name: value for name, value in msgspec.structs.asdict(job).items() if name not in ("source", "target")}
    if table.note:
        # An earlier version read such a file in another way, and parts of its output may be there.
        settings["read_as"] = table.note
    if classifier.engine != DEFAULT_ENGINE:
        settings["engine"] = f"{classifier.engine}, {classifier.precision}"
    bundle = sha256_of_file(manifest_of(bundle_dir, classifier.bundle))
    return Fingerprint(input=sha256_of_file(job.source), bundle=bundle, settings=settings), n_rows


def _check_header(table: Table, header: tuple[str, ...], added: AddedColumns, job: Job) -> None:
    if not header:
        raise DataError(f"{job.source}:1: the file is empty; expected a header that names each column")
    if not job.text or job.text not in header:
        raise DataError(
            f"{job.source}: no column {job.text!r}; there are {', '.join(filter(None, header))}: name one with --text"
        )
    if job.text in table.other_types:
        raise DataError(
            f"{job.source}: column {job.text!r} holds {table.other_types[job.text]}; expected strings: name another "
            "with --text"
        )
    _check_added(header, added, job)


def _check_added(names: Collection[str], added: AddedColumns, job: Job) -> None:
    """Check that no added column stands in the file already."""
    if not added.kinds.keys().isdisjoint(names):
        taken = min(added.kinds.keys() & set(names))
        raise DataError(f"{job.source}: there is a column {taken!r} already; choose another prefix with --prefix")


def _say_start(finished: Finished | None, parts: Parts, progress: Progress) -> None:
    n_done = sum(tally.rows for tally in parts.tallies)
    if n_done:
        progress.say(f"continuing after {n_done:,} rows that are scored")
    elif parts.dropped:
        progress.say(f"starting over: {parts.dropped} changed since the last time")
    elif finished:
        progress.say("starting over: the output was made from something else")


def _answers(
    texts: Sequence[str | Problem], classifier: "Classifier", threshold: float | None
) -> list[Prediction | Problem]:
    """Return an answer for each text; a problem stays where it is."""
    predictions = iter(classifier.classify([text for text in texts if isinstance(text, str)], threshold=threshold))
    return [text if isinstance(text, Problem) else next(predictions) for text in texts]


def _tally(answers: Sequence[Prediction | Problem]) -> Tally:
    predictions = [answer for answer in answers if isinstance(answer, Prediction)]
    n_rows = len(answers)
    return Tally(
        rows=n_rows,
        escalate=sum(prediction.escalate for prediction in predictions),
        truncated=sum(prediction.truncated for prediction in predictions),
        bad=n_rows - len(predictions),
        labels=dict(Counter(prediction.label for prediction in predictions)),
    )


def _finish(file_format: Format, parts: Parts, fingerprint: Fingerprint, job: Job) -> Tally:
    """Join the parts and move the result to its place."""
    if sha256_of_file(job.source) != fingerprint.input:
        raise DataError(f"{job.source}: changed while it was scored; run again, on a file that nobody writes to")
    tally = sum(parts.tallies, Tally())
    joined = parts.joined(job.target.name)
    file_format.join(parts.paths, joined)
    # The stamp first: an output without one is never ours, so nobody's file is written over.
    write_json(stamp_path(job.target), Finished(made=fingerprint, output=sha256_of_file(joined), tally=tally))
    joined.replace(job.target)
    return tally


@contextmanager
def _storage_errors(target: Path) -> Iterator[None]:
    """Replace the message of an error of the disk by one that says what helps here."""
    try:
        yield
    except OSError as error:
        reason = error.strerror
    except StorageError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        reason = error.__cause__.strerror
    else:
        return
    raise StorageError(
        f"{target}: could not be written ({reason}); free some space or name another output, then run again: what was "
        "scored is kept"
    )
