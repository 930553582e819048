"""The plan of an output: its numbered parts, each a range of rows of one input file, found by one look at every row.

The content of a part follows from the plan alone, so any process may write any part, in any order, even twice.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from hybrid.errors import DataError
from hybrid.files.formats.records import AddedColumns, Table
from hybrid.files.hashing import sha256_of, sha256_of_file
from hybrid.files.places import mark_of
from hybrid.scoring.job import FilePair, Job
from hybrid.scoring.rows import Problem, texts_of

VERSION = 2
"""The version of the format of parts; parts of another version are dropped."""
MOST_CHUNKS = 32
"""Chunks of one part at most: what a worker that dies has done for nothing."""
MOST_BYTES = 32 << 20
"""Of the input, from the first chunk of a part to its last, so that parts of long texts fit into memory."""
ENOUGH_PARTS = 1024
"""Parts grow beyond one chunk where there are more than these: fewer files to list and to join."""


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What an output is made from; equal fingerprints give the same bytes."""

    version: int = VERSION
    input: str
    """The SHA-256 of the file; for a folder, of the names and hashes of its files."""
    bundle: str
    """The SHA-256 of `bundle.json`, which holds those of the other files."""
    settings: dict[str, Any]
    """The fields of the job, without the names of the files."""

    @property
    def digest(self) -> str:
        """A short name for it."""
        return sha256_of(self)[:16]


class InputFile(msgspec.Struct, frozen=True, kw_only=True):
    """An input as it was when the plan was made."""

    name: str
    sha256: str
    mark: str
    """What changes whenever the file is written."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A range of rows of one file."""

    file: int
    """The number of the file in the plan."""
    number: int
    """The line or row of its first record, as `Record.number`."""
    byte: int
    """The position of its first record."""
    chunks: int
    rows: int
    is_first: bool
    """Whether it is the first part of its file."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an output is made from and in which parts; the number of a part is its place in the list."""

    made: Fingerprint
    files: tuple[InputFile, ...]
    parts: tuple[Part, ...]

    def numbers_by_file(self) -> list[list[int]]:
        """List the numbers of each file's parts, in order."""
        numbers: list[list[int]] = [[] for _ in self.files]
        for number, part in enumerate(self.parts):
            numbers[part.file].append(number)
        return numbers

    @property
    def n_rows(self) -> int:
        """The rows of all files."""
        return sum(part.rows for part in self.parts)


def is_of(plan: Plan, pairs: list[FilePair], job: Job, bundle: str, engine: str) -> bool:
    """Whether a plan that somebody made is that of these files, this bundle and these settings."""
    settings = {name: value for name, value in plan.made.settings.items() if name != "read_as"}
    return (
        plan.made.version == VERSION
        and plan.made.bundle == bundle
        and settings == msgspec.to_builtins(_settings(job, engine))
        and [(file.name, file.mark) for file in plan.files] == [(pair.name, mark_of(pair.source)) for pair in pairs]
    )


class CheckedFile(msgspec.Struct, frozen=True, kw_only=True):
    """An input after a look at each of its rows."""

    file: InputFile
    note: str
    """What the reader found that the file's name does not tell."""
    chunks: tuple[Part, ...]
    """Parts of one chunk each."""


def check_file(number: int, pair: FilePair, job: Job, added: AddedColumns) -> CheckedFile:
    """Look at every row of a file, because one that cannot be read would end hours of work in their middle.

    Args:
        number: the number of the file in the plan.
        pair: the file.
        job: how it is scored.
        added: the columns that scoring adds.

    Raises:
        DataError: the file is not what its name says, or a row cannot be read.
    """
    mark = mark_of(pair.source)
    with open_table(pair, job) as table:
        note = table.note
        chunks = tuple(_checked_chunks(table, number, pair.source, job, added))
    file = InputFile(name=pair.name, sha256=sha256_of_file(pair.source), mark=mark)
    return CheckedFile(file=file, note=note, chunks=chunks)


def plan_of(checked: Sequence[CheckedFile], job: Job, *, bundle: str, engine: str) -> Plan:
    """Divide the work into parts.

    Args:
        checked: the files.
        job: how they are scored.
        bundle: the SHA-256 of the bundle's manifest.
        engine: what computes the bundle, where that is not the usual engine.
    """
    settings = _settings(job, engine)
    is_folder = job.source.is_dir()
    notes = {each.file.name: each.note for each in checked if each.note}
    if notes:
        # An earlier version read such a file in another way, and its output may be there.
        settings["read_as"] = notes if is_folder else checked[0].note
    hashes = {each.file.name: each.file.sha256 for each in checked}
    made = Fingerprint(
        input=sha256_of(hashes) if is_folder else checked[0].file.sha256, bundle=bundle, settings=settings
    )
    n_chunks = min(MOST_CHUNKS, max(1, sum(len(each.chunks) for each in checked) // ENOUGH_PARTS))
    parts = tuple(part for each in checked for part in _grouped(each.chunks, n_chunks))
    return Plan(made=made, files=tuple(each.file for each in checked), parts=parts)


def open_table(pair: FilePair, job: Job) -> AbstractContextManager[Table]:
    """Open an input for scoring."""
    return pair.file_format.open(
        pair.source, name=str(pair.source), columns=(job.text,), batch_rows=job.chunk_rows, with_originals=True
    )


def _settings(job: Job, engine: str) -> dict[str, Any]:
    return job.settings | ({"engine": engine} if engine else {})


def _grouped(chunks: Sequence[Part], n_chunks: int) -> Iterator[Part]:
    """Join consecutive chunks of one file into parts of `n_chunks`."""
    group: list[Part] = []
    for chunk in [*chunks, None]:
        if group and (chunk is None or len(group) == n_chunks or chunk.byte - group[0].byte > MOST_BYTES):
            yield msgspec.structs.replace(group[0], chunks=len(group), rows=sum(member.rows for member in group))
            group = []
        if chunk is not None:
            group.append(chunk)


def _checked_chunks(table: Table, file: int, source: Path, job: Job, added: AddedColumns) -> Iterator[Part]:
    """Check every row of a table, and yield each of its chunks as a part."""
    if table.header is not None:
        _check_header(table, table.header, source, added, job)
    for at, batch in enumerate(table.batches):
        for record in batch.records if table.header is None else ():
            _check_added(record.names, source, added)
        for text in texts_of(batch, table, job.text) if not job.skip_bad else ():
            if isinstance(text, Problem):
                raise DataError(f"{text.reason}; or mark such rows with --skip-bad")
        first = batch.records[0] if batch.records else None
        yield Part(
            file=file,
            number=first.number if first else 0,
            byte=first.byte if first else 0,
            chunks=1,
            rows=len(batch.records),
            is_first=at == 0,
        )


def _check_header(table: Table, header: tuple[str, ...], source: Path, added: AddedColumns, job: Job) -> None:
    if not header:
        raise DataError(f"{source}:1: the file is empty; expected a header that names each column")
    if not job.text or job.text not in header:
        raise DataError(
            f"{source}: no column {job.text!r}; there are {', '.join(filter(None, header))}: name one with --text"
        )
    if job.text in table.other_types:
        raise DataError(
            f"{source}: column {job.text!r} holds {table.other_types[job.text]}; expected strings: name another with --text"
        )
    _check_added(header, source, added)


def _check_added(names: Collection[str], source: Path, added: AddedColumns) -> None:
    """Check that no added column stands in the file already."""
    if not added.kinds.keys().isdisjoint(names):
        taken = min(added.kinds.keys() & set(names))
        raise DataError(f"{source}: there is a column {taken!r} already; choose another prefix with --prefix")
