"""The annotation tools: `TARGETS` has a writer and the forms of answers for each.

To add a tool, write a module with a writer and readers and add an entry here.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from hybrid.errors import DataError
from hybrid.review.answer_files import Entries, read_entries
from hybrid.review.answers import AnswerFile, ReviewItem
from hybrid.review.argilla import RECORD_FIELDS, read_flat_records, read_records, write_records
from hybrid.review.csv_form import COLUMNS, read_sheet, write_sheet
from hybrid.review.label_studio import FLAT_FORM, TASK_FIELDS, read_flat, read_tasks, write_tasks


class AnswerForm(msgspec.Struct, frozen=True, kw_only=True):
    """A form in which a tool exports answers."""

    name: str
    fields: tuple[str, ...]
    """The fields that every entry of this form has; the first form whose fields are there is the file's."""
    read: Callable[[Entries], AnswerFile]
    written: frozenset[str] = frozenset()
    """All fields that `write` gives to an entry of this form; a file with others was worked on. Empty if the tool alone
    writes this form."""


class ReviewTarget(msgspec.Struct, frozen=True, kw_only=True):
    """An annotation tool: an entry of `TARGETS`."""

    write: Callable[[Sequence[ReviewItem], Sequence[str], Path], list[str]]
    """Writes items and the label set to a file, and returns instructions to print."""
    forms: tuple[AnswerForm, ...]


TARGETS: dict[str, ReviewTarget] = {
    "label-studio": ReviewTarget(
        write=write_tasks,
        forms=(
            AnswerForm(name="Label Studio's JSON", fields=("data",), read=read_tasks, written=TASK_FIELDS),
            AnswerForm(name="its JSON-MIN, csv or tsv", fields=FLAT_FORM, read=read_flat),
        ),
    ),
    "argilla": ReviewTarget(
        write=write_records,
        forms=(
            AnswerForm(name="Argilla's records", fields=("id", "fields"), read=read_records, written=RECORD_FIELDS),
            AnswerForm(name="its flattened records", fields=("id", "_server_id"), read=read_flat_records),
        ),
    ),
    "csv": ReviewTarget(
        write=write_sheet,
        forms=(
            AnswerForm(
                name="a sheet with the columns id and label",
                fields=("id", "label"),
                read=read_sheet,
                written=frozenset(COLUMNS),
            ),
        ),
    ),
}
"""The tools by their names on the command line."""


def write_items(items: Sequence[ReviewItem], labels: Sequence[str], path: Path, *, to: str) -> list[str]:
    """Write items for the tool `to`, a key of `TARGETS`, and return instructions; nobody's work is written over.

    Raises:
        DataError: the file is there already, and holds answers or is no file that this wrote.
    """
    replaced = [f"  {path} was there before, without an answer in it"] if _is_free(path) else []
    return [*replaced, *TARGETS[to].write(items, labels, path)]


def _is_free(path: Path) -> bool:
    """Whether there is a file that may be written over: an export in which nothing was done yet. False if there is none."""
    if not path.exists():
        return False
    try:
        file = read_entries(path)
        form = _form_of(file)
        answers = form.read(file)
    except DataError as error:
        raise DataError(
            f"{path}: this file is there already, and is no review export without answers; choose another name"
        ) from error
    n_rows = len({answer.id for answer in answers.answers}) + answers.skipped
    if n_rows:
        raise DataError(
            f"{path}: {n_rows} rows in it are answered; read them with hybrid review read, and export to another name"
        )
    if not set().union(*file.entries) <= form.written:
        raise DataError(f"{path}: this file was changed since it was exported; choose another name, or move it away")
    return True


def read_answers(path: Path) -> AnswerFile:
    """Read the answers in a file that one of the tools wrote; the tool is recognised by the content.

    Raises:
        DataError: the file has no entries, or no tool matches.
    """
    file = read_entries(path)
    return _form_of(file).read(file)


def _form_of(file: Entries) -> AnswerForm:
    if not file.entries:
        raise DataError(f"{file.path}: no rows in it; expected the rows that review export wrote, with answers")
    forms = [form for target in TARGETS.values() for form in target.forms]
    for form in forms:
        if {*form.fields} <= {*file.columns}:
            return form
    raise DataError(
        f"{file.path}: the fields {', '.join(file.columns[:12]) or '(none in every entry)'}; expected "
        f"{', '.join(form.name for form in forms[:-1])} or {forms[-1].name}"
    )
