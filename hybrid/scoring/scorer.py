"""Writes single parts of an output: reads a range of rows, answers it, writes it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hybrid.errors import DataError
from hybrid.files.formats.records import Batch, Format, Start, Table
from hybrid.files.places import store_errors
from hybrid.scoring.job import FilePair, Job
from hybrid.scoring.parts import Parts
from hybrid.scoring.plan import Part, Plan, open_table
from hybrid.scoring.rows import Problem, added_cells, added_columns, texts_of
from hybrid.scoring.tally import Tally, tally_of
from hybrid.types import Prediction

if TYPE_CHECKING:
    from hybrid.runtime import Classifier


class Scorer:
    """A bundle and the inputs of an output, ready to write any of its parts. The file that it read last stays open."""

    def __init__(self, classifier: "Classifier", job: Job, pairs: Sequence[FilePair], plan: Plan, parts: Parts) -> None:
        self._classifier = classifier
        self._job = job
        self._pairs = pairs
        self._plan = plan
        self._parts = parts
        self._added = added_columns(classifier.bundle.labels, prefix=job.prefix, probs=job.probs, errors=job.skip_bad)
        self._open = ExitStack()
        self._table: tuple[int, Table] | None = None
        """The open file, and its number in the plan."""
        self._batches: Iterator[Batch] = iter(())
        self._next = -1
        """The number of the part that `_batches` stands at."""

    def __call__(self, number: int) -> Tally:
        """Write one part, unless it is there already, and return its tally.

        Raises:
            DataError: the input is no longer what it was when the plan was made.
            StorageError: the part cannot be written.
        """
        with store_errors(self._job.source, self._job.target):
            return self._score(number)

    def _score(self, number: int) -> Tally:
        part = self._plan.parts[number]
        table = self._opened(part.file)
        if self._next != number:
            self._batches = self._from(part, table)
        file_format = self._pairs[part.file].file_format
        contents, tally = [], Tally()
        for chunk in range(part.chunks):
            batch = next(self._batches, None)
            if batch is None or (not chunk and batch.records and batch.records[0].number != part.number):
                raise self._changed(part)
            answers = self._answers(texts_of(batch, table, self._job.text))
            cells = added_cells(answers, probs=self._job.probs, errors=self._job.skip_bad)
            contents.append(file_format.render(table, batch, cells, self._added, first=part.is_first and not chunk))
            tally += tally_of(answers)
        if tally.rows != part.rows:
            raise self._changed(part)
        self._parts.add(number, _as_one(file_format, contents), tally)
        self._next = number + 1
        return tally

    def close(self) -> None:
        """Close the input."""
        self._open.close()

    def _opened(self, file: int) -> Table:
        if self._table is None or self._table[0] != file:
            self._open.close()
            self._table, self._next = None, -1
            self._table = file, self._open.enter_context(open_table(self._pairs[file], self._job))
        return self._table[1]

    def _from(self, part: Part, table: Table) -> Iterator[Batch]:
        """Read the file from the first record of a part on."""
        if part.is_first or table.read_from is None:
            self._table = None
            return _skipped(self._opened(part.file).batches, part.number)
        return table.read_from(Start(part.number, part.byte))

    def _answers(self, texts: Sequence[str | Problem]) -> list[Prediction | Problem]:
        """Return an answer for each text; a problem stays where it is."""
        strings = [text for text in texts if isinstance(text, str)]
        predictions = iter(self._classifier.classify_alike(strings, threshold=self._job.threshold))
        return [text if isinstance(text, Problem) else next(predictions) for text in texts]

    def _changed(self, part: Part) -> DataError:
        source = self._pairs[part.file].source
        return DataError(f"{source}: changed while it was scored; run again, on a file that nobody writes to")


def _as_one(file_format: Format, contents: Sequence[bytes]) -> bytes:
    """Join the rendered chunks of a part."""
    if len(contents) == 1:
        return contents[0]
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / str(number) for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        file_format.join(paths, Path(folder) / "joined")
        return (Path(folder) / "joined").read_bytes()


def _skipped(batches: Iterator[Batch], number: int) -> Iterator[Batch]:
    """Yield the batches from the one whose first record has this number on."""
    for batch in batches:
        if not batch.records or batch.records[0].number >= number:
            yield batch
            break
    yield from batches
