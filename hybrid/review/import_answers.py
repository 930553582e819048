"""`hybrid review read`: import people's answers as trusted rows, which the next run uses."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from hybrid.config import NO_VOTE
from hybrid.data.annotations import is_no_vote
from hybrid.data.row_ids import RowIndex, is_line_id, text_key
from hybrid.data.trusted import REVIEWED, read_reviewed
from hybrid.errors import DataError
from hybrid.files.table import read_rows, write_rows
from hybrid.label_sets import label_named
from hybrid.pipeline.context import RunContext
from hybrid.review.answers import Agreed, Answer, AnswerFile, ReadBack, agree
from hybrid.review.escalated import add_escalated, is_escalated, stored_escalations, texts_by_id, under_ids_of_texts
from hybrid.review.targets import read_answers
from hybrid.types import Example, Trusted

SHOWN = 10
"""The number of conflicts, changes and unknown rows listed individually."""


class Matched(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of a file by what they are about."""

    answers: list[Answer]
    """About training rows, under the ids of the rows."""
    judging: list[Answer]
    """About calibration and test rows, which may not train."""
    unknown: list[Answer]
    """About no row of the run."""


def read(context: RunContext, path: Path, *, store: str = "") -> ReadBack:
    """Add the answers in a file to the recipe's trusted rows.

    An answer is about the row whose text the person saw, whatever has become of the row's id since. Answers about
    escalated texts become new training rows; `store` names the service's review store.

    Raises:
        DataError: the file's format is unknown, none of its answers is about a row of the run, or a label is not in the
            set; nothing is added then.
    """
    file = _voted(read_answers(path), context.labels)
    matched = match([answer for answer in file.answers if not is_escalated(answer.id)], context, path)
    agreed = agree(matched.answers)
    of_escalated = [answer for answer in file.answers if is_escalated(answer.id)]
    texts = texts_by_id(stored_escalations(context, store)) if of_escalated else {}
    escalated = agree(under_ids_of_texts(of_escalated, texts))
    _check_labels(agreed, context, path)
    table, rows = context.traces.parent / REVIEWED, context.rows()
    before = {row.id: row for row in read_reviewed(table, rows, context.labels).trusted}
    lines = [
        *_file_lines(file),
        *_add_escalated(context, escalated, texts),
        *(_answer_lines(context, agreed) if matched.answers else []),
        *_left_out_lines(matched),
        *(_add_trusted(table, rows, matched, before) if matched.answers else []),
    ]
    return ReadBack(
        file=str(path),
        answered=len({answer.id for answer in file.answers}),
        unanswered=file.unanswered,
        skipped=file.skipped,
        taken=len(agreed.labels),
        escalated=len(escalated.labels),
        disagreeing=len(agreed.conflicts) + len(escalated.conflicts),
        of_other_parts=len(matched.judging),
        unknown=len(matched.unknown),
        trusted=len({*before, *agreed.labels}),
        table=str(table),
        lines=lines,
    )


def match(answers: Sequence[Answer], context: RunContext, path: Path) -> Matched:
    """Find the rows that answers are about.

    Raises:
        DataError: there are answers and none is about a row of the run, or an answer without a text names a row by its
            line.
    """
    index = RowIndex(context.rows())
    matched = Matched(answers=[], judging=[], unknown=[])
    for answer in answers:
        if not answer.text_key and is_line_id(answer.id) and not context.recipe.data.id:
            raise DataError(
                f"{path}: {answer.id!r} names a row by its line, and lines move; add a column text with the text of each "
                "row"
            )
        rows = index.find(answer.id, answer.text_key)
        for row in rows:
            of_part = matched.answers if row.part == "train" else matched.judging
            of_part.append(msgspec.structs.replace(answer, id=row.id))
        if not rows:
            matched.unknown.append(answer)
    if answers and len(matched.unknown) == len(answers):
        raise DataError(
            f"{path}: none of {len(answers)} answers is about a row of {context.run.folder} ({answers[0].id!r} is the "
            "first); expected answers about its rows"
        )
    return matched


def _voted(file: AnswerFile, labels: Sequence[str]) -> AnswerFile:
    """Return the answers as labels of the set where they are, and count those that mean no vote as skipped."""
    answers = [
        msgspec.structs.replace(answer, label=label_named(answer.label, labels) or answer.label)
        for answer in file.answers
        if not is_no_vote(answer.label, NO_VOTE, labels)
    ]
    skipped = {answer.id for answer in file.answers} - {answer.id for answer in answers}
    return msgspec.structs.replace(file, answers=answers, skipped=file.skipped + len(skipped))


def _check_labels(agreed: Agreed, context: RunContext, path: Path) -> None:
    answers: Iterable[tuple[str, str]] = [
        *agreed.labels.items(),
        *((row_id, label) for row_id, differing in agreed.conflicts.items() for label in differing),
    ]
    for row_id, label in answers:
        if label not in context.labels:
            raise DataError(f"{path}: {row_id}: {label!r} is not one of {', '.join(context.labels)}; correct it there")


def _add_escalated(context: RunContext, escalated: Agreed, texts: Mapping[str, str]) -> list[str]:
    if not escalated.labels and not escalated.conflicts:
        return []
    table = add_escalated(context, escalated.labels, texts)
    n_conflicts = len(escalated.conflicts)
    return [
        f"  {len(escalated.labels)} texts that escalated were added to {table}; the next run of the recipe trains on them",
        *([f"  {n_conflicts} not taken, because people disagree"] if n_conflicts else []),
    ]


def _add_trusted(table: Path, rows: Sequence[Example], matched: Matched, before: Mapping[str, Trusted]) -> list[str]:
    """Write the answers beside those of earlier reviews; an answer to the same text replaces the earlier one."""
    labels = agree(matched.answers).labels
    drawn = {answer.id for answer in matched.answers if answer.drawn} | {row.id for row in before.values() if row.drawn}
    if labels:
        stored = read_rows(table, Trusted) if table.is_file() else []
        answered = [_trusted(row, labels[row.id], drawn=row.id in drawn) for row in rows if row.id in labels]
        replaced = {(row.id, row.text_key) for row in answered}
        write_rows(table, [*(row for row in stored if (row.id, row.text_key) not in replaced), *answered])
    changed = [row_id for row_id, label in labels.items() if row_id in before and before[row_id].label != label]
    lines = [f"    {row_id}: {before[row_id].label} is now {labels[row_id]}" for row_id in changed[:SHOWN]]
    return [
        *([f"  {len(changed)} replace an earlier answer:", *lines] if changed else []),
        f"  {len({*before, *labels})} trusted rows in {table}; the next run of the recipe uses them",
    ]


def _trusted(row: Example, label: str, *, drawn: bool) -> Trusted:
    return Trusted(id=row.id, label=label, source="review", text_key=text_key(row.text), drawn=drawn)


def _file_lines(file: AnswerFile) -> list[str]:
    """Say what is in the file, and what was looked for if there is no answer."""
    n_answered = len({answer.id for answer in file.answers})
    lines = [f"{n_answered} rows answered, {file.unanswered} not yet, {file.skipped} skipped"]
    if not n_answered:
        others = ", ".join(map(repr, file.other_questions))
        has_others = f"; the file has answers to {others}" if others else ""
        lines.append(f"  looked for answers to {file.question!r}{has_others}; nothing was changed")
    return lines


def _answer_lines(context: RunContext, agreed: Agreed) -> list[str]:
    # A row that was split anew since has no decision yet.
    decided = {decision.id: decision.label for decision in context.decisions()}
    wrong = sum(decided.get(row_id, label) != label for row_id, label in agreed.labels.items())
    lines = [f"  {len(agreed.labels)} taken; {wrong} of them differ from the decided label"]
    if agreed.conflicts:
        lines.append(f"  {len(agreed.conflicts)} not taken, because people disagree:")
        shown = list(agreed.conflicts.items())[:SHOWN]
        lines += [f"    {row_id}: {' or '.join(labels)}" for row_id, labels in shown]
    return lines


def _left_out_lines(matched: Matched) -> list[str]:
    """Say which answers were read and not taken."""
    lines = []
    if matched.judging:
        lines.append(f"  {len(matched.judging)} not taken, because calibration and test rows may not train")
    if matched.unknown:
        lines.append(f"  {len(matched.unknown)} unknown: no row of the run has the text (or, without a text, the id):")
        lines += [f"    {answer.id}" for answer in matched.unknown[:SHOWN]]
    return lines
