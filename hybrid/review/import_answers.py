"""`hybrid review read`: import people's answers as trusted rows, which the next run uses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hybrid.data.trusted import REVIEWED
from hybrid.errors import DataError
from hybrid.files.table import read_rows, write_rows
from hybrid.pipeline.context import RunContext
from hybrid.review.answers import Agreed, AnswerFile, agree
from hybrid.review.escalated import add_escalated, is_escalated, stored_escalations, texts_by_id
from hybrid.review.targets import read_answers
from hybrid.types import Trusted

SHOWN = 10
"""The number of conflicts and changes listed individually."""


def read(context: RunContext, path: Path, *, store: str = "") -> list[str]:
    """Add the answers in a file to the recipe's trusted rows, all or none; return lines to print.

    Answers about escalated texts become new training rows; `store` names the service's review store.

    Raises:
        DataError: the file's format is unknown, or an answer's row is not a training row or its label not in the set.
    """
    file = read_answers(path)
    agreed, escalated = _split_escalated(agree(file.answers))
    _check(agreed, context, path)
    table = context.traces.parent / REVIEWED
    before = {row.id: row for row in read_rows(table, Trusted)} if table.is_file() else {}
    answered = {row_id: Trusted(id=row_id, label=label, source="review") for row_id, label in agreed.labels.items()}
    merged = before | answered
    if answered:
        write_rows(table, merged.values())
    added = _add(context, escalated, store)
    if not agreed.labels and not agreed.conflicts:
        return added
    return [
        *added,
        *_answer_lines(context, agreed, file),
        *_replaced_lines(before, agreed.labels),
        f"  {len(merged)} trusted rows in {table}; the next run of the recipe uses them",
    ]


def _split_escalated(agreed: Agreed) -> tuple[Agreed, Agreed]:
    """Separate the answers about training rows from those about escalated texts."""
    labels, conflicts = agreed.labels.items(), agreed.conflicts.items()
    rows, escalated = (
        Agreed(
            labels={row_id: label for row_id, label in labels if is_escalated(row_id) == of_escalated},
            conflicts={row_id: differing for row_id, differing in conflicts if is_escalated(row_id) == of_escalated},
        )
        for of_escalated in (False, True)
    )
    return rows, escalated


def _add(context: RunContext, escalated: Agreed, store: str) -> list[str]:
    if not escalated.labels and not escalated.conflicts:
        return []
    table = add_escalated(context, escalated.labels, texts_by_id(stored_escalations(context, store)))
    n_conflicts = len(escalated.conflicts)
    return [
        f"{len(escalated.labels)} texts that escalated were added to {table}; the next run of the recipe trains on them",
        *([f"  {n_conflicts} not taken, because people disagree"] if n_conflicts else []),
    ]


def _check(agreed: Agreed, context: RunContext, path: Path) -> None:
    known, labels = {row.id for row in context.rows("train")}, context.labels
    answers: Sequence[tuple[str, str]] = [
        *agreed.labels.items(),
        *((row_id, label) for row_id, differing in agreed.conflicts.items() for label in differing),
    ]
    for row_id, label in answers:
        if row_id not in known:
            raise DataError(
                f"{path}: {row_id!r} is not a training row of {context.run.folder}; expected answers about its rows"
            )
        if label not in labels:
            raise DataError(f"{path}: {row_id}: {label!r} is not one of {', '.join(labels)}; correct it there")


def _answer_lines(context: RunContext, agreed: Agreed, file: AnswerFile) -> list[str]:
    decided = {decision.id: decision.label for decision in context.decisions()}
    wrong = sum(decided[row_id] != label for row_id, label in agreed.labels.items())
    lines = [
        f"{len(agreed.labels)} rows answered, {file.unanswered} not yet",
        f"  {wrong} of them differ from the decided label",
    ]
    if agreed.conflicts:
        lines.append(f"  {len(agreed.conflicts)} not taken, because people disagree:")
        shown = list(agreed.conflicts.items())[:SHOWN]
        lines += [f"    {row_id}: {' or '.join(labels)}" for row_id, labels in shown]
    return lines


def _replaced_lines(before: Mapping[str, Trusted], labels: Mapping[str, str]) -> list[str]:
    changed = [row_id for row_id, label in labels.items() if row_id in before and before[row_id].label != label]
    shown = [f"    {row_id}: {before[row_id].label} is now {labels[row_id]}" for row_id in changed[:SHOWN]]
    return [f"  {len(changed)} replace an earlier answer:", *shown] if changed else []
