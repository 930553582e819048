"""Rows as the files have them, before they are assigned to a part."""

from collections.abc import Mapping

import msgspec

from hybrid.data.label_spellings import Spelling
from hybrid.label_sets import split_labels
from hybrid.types import Part, Row, Task


class SourceRow(Row, frozen=True, kw_only=True):
    """One row as the file has it, before it is assigned to a part."""

    id: str
    """That of the column of ids; without one it follows from the text (`hybrid.data.row_ids`)."""
    text: str
    label: str | None = None
    """The given label. With several labels a row it is their canonical join, and the empty string if there are none."""
    gold: str | None = None
    """The true label, where the data has it."""
    annotations: dict[str, str] = {}
    """The label by annotator, in the order of the columns; an annotator who gave none is left out."""
    part: Part | None = None
    """The part that the data assigns, by its files or by a column; None if it assigns none."""
    where: str = ""
    """The file and the line, for messages."""


class Dataset(msgspec.Struct, frozen=True):
    """The rows in the order of the files."""

    rows: list[SourceRow]
    task: Task = "single_label"
    spellings: list[Spelling] = []
    """The spellings in the files that are read as another label."""
    notes: list[str] = []
    """What the readers of the files found that the names of the files do not tell."""
    no_votes: Mapping[str, int] = {}
    """How often each value of an annotator's cell meant that there was no vote."""
    rows_without_vote: int = 0
    """Rows that were left out because no annotator voted and there is no gold."""


def labels_of(dataset: Dataset) -> list[str]:
    """Return the classes among the given, the gold and the annotators' labels, sorted."""
    cells = (
        cell for row in dataset.rows for cell in (row.label, row.gold, *row.annotations.values()) if cell is not None
    )
    return sorted({label for cell in cells for label in labels_in(cell, dataset.task)})


def labels_in(cell: str, task: Task) -> tuple[str, ...]:
    """Return the labels of a cell of a dataset."""
    return (cell,) if task == "single_label" else split_labels(cell)
