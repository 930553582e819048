"""Review items and answers in a form that does not depend on the tool, and the labels on which people agree."""

from collections.abc import Sequence

import msgspec

from hybrid.data.row_ids import text_key
from hybrid.types import Row

DRAWN = "drawn at random, to estimate how many labels are right"
"""Why a row is asked about that was not chosen. It comes back with the answer, and tells the two kinds apart."""


class ReviewItem(Row, frozen=True, kw_only=True):
    """A row that waits for a person's label."""

    id: str
    text: str
    given: str
    label: str
    """The decided label."""
    belief: float
    """The probability of the decided label according to all sources."""
    gain: float
    """The expected number of wrong labels that an answer corrects (`hybrid.review.gain`)."""
    teacher: str = ""
    """The source of the first vote; empty if nobody voted."""
    teacher_label: str = ""
    teacher_confidence: float | None = None
    reason: str = ""
    """The teacher's rationale."""
    why: str = ""
    """Why the row was picked, for a person."""
    where: str = ""
    """Where a person finds the row: file and line when the rows were split; empty for texts of a service."""


class Answer(Row, frozen=True, kw_only=True):
    """One person's label of one row."""

    id: str
    label: str
    who: str
    """The annotator, as the tool names them; each answer whose annotator is unknown is another person's."""
    when: str = ""
    """A sortable time stamp; empty if the tool exports none."""
    text_key: str = ""
    """Identifies the text that the person saw (`hybrid.data.row_ids.text_key`); empty if the file has no texts."""
    drawn: bool = False
    """Whether the row was drawn at random (`DRAWN`)."""


class AnswerFile(msgspec.Struct, frozen=True, kw_only=True):
    """The answers in a file, and the number of rows without an answer."""

    answers: list[Answer]
    unanswered: int = 0
    skipped: int = 0
    """Rows that a person looked at and set aside."""
    question: str = "label"
    """The question, or the column, whose answers were looked for."""
    other_questions: tuple[str, ...] = ()
    """Further questions that people answered in this file."""


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """The agreed label by row id, and the conflicting labels of rows on which people disagree."""

    labels: dict[str, str]
    conflicts: dict[str, tuple[str, ...]]


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote."""

    file: str
    to: str
    """A key of `hybrid.review.targets.TARGETS`."""
    rows: int
    queue: int
    """How many rows wait in all."""
    lines: list[str]
    """The same and the next steps, for a person."""


class ReadBack(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the answers in a file; numbers of rows."""

    file: str
    answered: int
    unanswered: int
    skipped: int
    taken: int
    """Answers about training rows."""
    escalated: int
    """Answers about texts that escalated in service, which become training rows."""
    disagreeing: int
    """Rows that are left out because people disagree."""
    of_other_parts: int
    """Answers about calibration and test rows, which may not train."""
    unknown: int
    """Answers about no row of the run."""
    trusted: int
    """Trusted rows from now on."""
    table: str
    """The file that has them."""
    lines: list[str]
    """The same, for a person."""


def key_of(text: object) -> str:
    """Identify the text of an entry; empty if it is none."""
    return text_key(text) if isinstance(text, str) and text.strip() else ""


def is_drawn(why: object) -> bool:
    """Whether an entry's reason says that its row was drawn at random."""
    return isinstance(why, str) and why.startswith(DRAWN)


def agree(answers: Sequence[Answer]) -> Agreed:
    """Find the rows on which all people agree; only the last answer of each person counts."""
    by_row: dict[str, dict[str, str]] = {}
    for answer in sorted(answers, key=lambda answer: answer.when):
        by_row.setdefault(answer.id, {})[answer.who] = answer.label
    labels_of = {row_id: tuple(sorted(set(by_person.values()))) for row_id, by_person in by_row.items()}
    return Agreed(
        labels={row_id: labels[0] for row_id, labels in labels_of.items() if len(labels) == 1},
        conflicts={row_id: labels for row_id, labels in labels_of.items() if len(labels) > 1},
    )
