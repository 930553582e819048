"""Score a file: look at every row, answer chunk by chunk, join the parts."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from hybrid.errors import ConfigError, DataError, StorageError
from hybrid.files.hashing import sha256_of_file
from hybrid.files.table import write_json
from hybrid.runtime.bundle import MANIFEST
from hybrid.scoring.delimited import Delimited
from hybrid.scoring.jsonl import Jsonl
from hybrid.scoring.parquet import Parquet
from hybrid.scoring.parts import Fingerprint, Finished, Parts, Tally, open_parts, read_finished, stamp_path
from hybrid.scoring.rows import Chunk, Columns, Format, Problem, cells_of, columns_of
from hybrid.types import Prediction

if TYPE_CHECKING:
    from hybrid.runtime import Classifier

FORMATS: dict[str, Callable[[], Format]] = {
    ".jsonl": Jsonl,
    ".ndjson": Jsonl,
    ".csv": lambda: Delimited(","),
    ".tsv": lambda: Delimited("\t"),
    ".parquet": Parquet,
}
CHUNK_ROWS = 1024


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to score, and how."""

    source: Path
    target: Path
    text: str = "text"
    """The column of the texts."""
    threshold: float | None = None
    """None: the bundle's."""
    prefix: str = "hybrid_"
    """Of the names of the added columns."""
    probs: bool = False
    """Whether the probability of every label is added."""
    skip_bad: bool = False
    """Whether rows that cannot be read are marked, instead of ending the work."""
    chunk_rows: int = CHUNK_ROWS


class Progress(Protocol):
    """Who hears how far the work is."""

    def say(self, line: str) -> None:
        """Hear a sentence."""

    def advance(self, done: int, total: int) -> None:
        """Hear how many rows are scored."""


def score(classifier: "Classifier", bundle_dir: Path, job: Job, tells: Progress) -> Tally:
    """Write the rows of `job.source` with their answers to `job.target`; return what became of them.

    A job that was cut off goes on where it was, if input, bundle and settings are still the same.

    Raises:
        DataError: the input is not what its name says, a row cannot be read, or the output is not ours to write.
        ConfigError: the job cannot be.
        StorageError: the output cannot be written.
    """
    form = _format(job)
    made, n_rows = _made(form, bundle_dir, job, tells)
    finished = read_finished(job.target)
    if finished and finished.made == made:
        tells.say(f"{job.target}: unchanged, nothing to score")
        return finished.tally
    with _writes(job.target), open_parts(job.target, made) as parts:
        _say_start(finished, parts, tells)
        done = sum(tally.rows for tally in parts.tallies)
        columns = columns_of(classifier.bundle.labels, prefix=job.prefix, probs=job.probs, errors=job.skip_bad)
        n_parts = len(parts.tallies)
        for chunk in form.chunks(job.source, job.text, job.chunk_rows):
            if chunk.number >= n_parts:
                _add(chunk, parts, form, classifier, columns, job)
                done += len(chunk.texts)
                tells.advance(done, n_rows)
        return _finish(form, parts, made, job)


def _format(job: Job) -> Format:
    suffix = job.source.suffix.lower()
    if suffix not in FORMATS:
        raise DataError(f"{job.source}: a {suffix or 'nameless'} file; want one of {', '.join(FORMATS)}")
    if job.target.suffix.lower() != suffix:
        raise ConfigError(f"{job.target}: the input is a {suffix} file and so is the output; name it {suffix}")
    if job.target.exists() and job.source.exists() and job.target.samefile(job.source):
        raise ConfigError(f"{job.target}: it is the input as well; name another output")
    if job.threshold is not None and not 0 <= job.threshold <= 1:
        raise ConfigError(f"--threshold {job.threshold}: want a probability, from 0 to 1")
    return FORMATS[suffix]()


def _made(form: Format, bundle_dir: Path, job: Job, tells: Progress) -> tuple[Fingerprint, int]:
    """Return what the output is made from and the number of rows; every row has been looked at.

    A row that cannot be read ends hours of work at once and not after them.
    """
    tells.say(f"{job.source}: looking at every row")
    n_rows = 0
    for chunk in form.chunks(job.source, job.text, job.chunk_rows):
        n_rows += len(chunk.texts)
        for text in chunk.texts if not job.skip_bad else ():
            if isinstance(text, Problem):
                raise DataError(f"{text.reason}; or mark such rows with --skip-bad")
    settings = {name: value for name, value in msgspec.structs.asdict(job).items() if name not in ("source", "target")}
    bundle = sha256_of_file(bundle_dir / MANIFEST)
    return Fingerprint(input=sha256_of_file(job.source), bundle=bundle, settings=settings), n_rows


def _say_start(finished: Finished | None, parts: Parts, tells: Progress) -> None:
    done = sum(tally.rows for tally in parts.tallies)
    if done:
        tells.say(f"going on after {done:,} rows that are scored")
    elif parts.dropped:
        tells.say(f"starting over: {parts.dropped} changed since the last time")
    elif finished:
        tells.say("starting over: the output was made from something else")


def _add(chunk: Chunk, parts: Parts, form: Format, classifier: "Classifier", columns: Columns, job: Job) -> None:
    answers = _answers(chunk.texts, classifier, job.threshold)
    cells = [cells_of(answer, probs=job.probs, errors=job.skip_bad) for answer in answers]
    try:
        content = form.render(chunk, cells, columns)
    except DataError as error:
        raise DataError(f"{job.source}: {error}") from error
    parts.add(content, _tally(answers))


def _answers(
    texts: Sequence[str | Problem], classifier: "Classifier", threshold: float | None
) -> list[Prediction | Problem]:
    found = iter(classifier.classify([text for text in texts if isinstance(text, str)], threshold=threshold))
    return [text if isinstance(text, Problem) else next(found) for text in texts]


def _tally(answers: Sequence[Prediction | Problem]) -> Tally:
    answered = [answer for answer in answers if isinstance(answer, Prediction)]
    return Tally(
        rows=len(answers),
        escalate=sum(answer.escalate for answer in answered),
        truncated=sum(answer.truncated for answer in answered),
        bad=len(answers) - len(answered),
        labels=dict(Counter(answer.label for answer in answered)),
    )


def _finish(form: Format, parts: Parts, made: Fingerprint, job: Job) -> Tally:
    if sha256_of_file(job.source) != made.input:
        raise DataError(f"{job.source}: changed while it was scored; run again, on a file that nobody writes to")
    tally = sum(parts.tallies, Tally())
    joined = parts.joined(job.target.name)
    form.join(parts.paths, joined)
    # The stamp first: an output without one is never ours, so nobody's file is written over.
    write_json(stamp_path(job.target), Finished(made=made, output=sha256_of_file(joined), tally=tally))
    joined.replace(job.target)
    return tally


@contextmanager
def _writes(target: Path) -> Iterator[None]:
    """Say of a file that cannot be written what helps here."""
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
