"""`hybrid review read`: what people answered becomes trusted rows, which the next run uses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from hybrid.data.trusted import REVIEWED
from hybrid.errors import DataError
from hybrid.files.table import read_rows, write_rows
from hybrid.pipeline.context import RunContext
from hybrid.review.answers import Agreed, Read, settle
from hybrid.review.argilla import read_records
from hybrid.review.csv_form import read_sheet
from hybrid.review.escalated import PREFIX, add_escalated, stored_escalations, texts_by_id
from hybrid.review.label_studio import read_tasks
from hybrid.types import Trusted

SHOWN = 10
"""Conflicts that are named one by one."""


def read(story: RunContext, path: Path, *, store: str = "") -> list[str]:
    """Add the answers in a file to the recipe's trusted rows, all or none; return what the command prints.

    Answers about texts that escalated become rows of their own; `store` is where the service kept them.

    Raises:
        DataError: the file is of no known form, or an answer is about no training row or not a label of the set.
    """
    found = read_answers(path)
    settled, escalated = _parted(settle(found.answers))
    _check(settled, story, path)
    table = story.traces.parent / REVIEWED
    before = {row.id: row for row in read_rows(table, Trusted)} if table.is_file() else {}
    answered = {row_id: Trusted(id=row_id, label=label, source="review") for row_id, label in settled.labels.items()}
    together = before | answered
    if answered:
        write_rows(table, together.values())
    added = _add(story, escalated, store)
    if not settled.labels and not settled.conflicts:
        return added
    return [
        *added,
        *_says_answers(story, settled, found),
        *_says_replaced(before, settled.labels),
        f"  {len(together)} trusted rows in {table}; the next run of the recipe uses them",
    ]


def _parted(settled: Agreed) -> tuple[Agreed, Agreed]:
    """Return what was said of training rows, and of texts that escalated."""
    labels, conflicts = settled.labels.items(), settled.conflicts.items()
    rows, escalated = (
        Agreed(
            labels={row_id: label for row_id, label in labels if row_id.startswith(PREFIX) == wanted},
            conflicts={row_id: several for row_id, several in conflicts if row_id.startswith(PREFIX) == wanted},
        )
        for wanted in (False, True)
    )
    return rows, escalated


def _add(story: RunContext, escalated: Agreed, store: str) -> list[str]:
    if not escalated.labels and not escalated.conflicts:
        return []
    table = add_escalated(story, escalated.labels, texts_by_id(stored_escalations(story, store)))
    differ = len(escalated.conflicts)
    return [
        f"{len(escalated.labels)} texts that escalated were added to {table}; the next run of the recipe trains on them",
        *([f"  {differ} not taken, because people differ"] if differ else []),
    ]


def read_answers(path: Path) -> Read:
    """Return the answers in a csv, in Label Studio's JSON export, or in Argilla's records, told apart by what they hold.

    Raises:
        DataError: it is none of them.
    """
    if path.suffix == ".csv":
        return read_sheet(path)
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[dict[str, object]])
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); want a csv, or a JSON list of tasks or records") from error
    if all("data" in entry for entry in entries):
        return read_tasks(entries, path)
    if all("fields" in entry for entry in entries):
        return read_records(entries, path)
    raise DataError(f"{path}: neither Label Studio's JSON export nor Argilla's records; export as JSON, not JSON-MIN")


def _check(settled: Agreed, story: RunContext, path: Path) -> None:
    known, labels = {row.id for row in story.rows("train")}, story.labels
    said: Sequence[tuple[str, str]] = [
        *settled.labels.items(),
        *((row_id, label) for row_id, several in settled.conflicts.items() for label in several),
    ]
    for row_id, label in said:
        if row_id not in known:
            raise DataError(f"{path}: {row_id!r} is no training row of {story.run.folder}; want answers about its rows")
        if label not in labels:
            raise DataError(f"{path}: {row_id}: {label!r} is not one of {', '.join(labels)}; correct it there")


def _says_answers(story: RunContext, settled: Agreed, found: Read) -> list[str]:
    decided = {decision.id: decision.label for decision in story.decisions()}
    wrong = sum(decided[row_id] != label for row_id, label in settled.labels.items())
    lines = [
        f"{len(settled.labels)} rows answered, {found.unanswered} not yet",
        f"  {wrong} of them had been decided otherwise",
    ]
    if settled.conflicts:
        lines.append(f"  {len(settled.conflicts)} not taken, because people differ:")
        shown = list(settled.conflicts.items())[:SHOWN]
        lines += [f"    {row_id}: {' or '.join(labels)}" for row_id, labels in shown]
    return lines


def _says_replaced(before: Mapping[str, Trusted], labels: Mapping[str, str]) -> list[str]:
    changed = [row_id for row_id, label in labels.items() if row_id in before and before[row_id].label != label]
    shown = [f"    {row_id}: {before[row_id].label} is now {labels[row_id]}" for row_id in changed[:SHOWN]]
    return [f"  {len(changed)} replace an earlier answer:", *shown] if changed else []
