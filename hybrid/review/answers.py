"""What people are asked and what they answered, whichever tool they used, and on which rows they agree."""

from collections.abc import Sequence

import msgspec

from hybrid.types import Row


class ReviewItem(Row, frozen=True, kw_only=True):
    """A row that waits for a person's label."""

    id: str
    text: str
    given: str
    label: str
    """The decided label."""
    belief: float
    """The probability of the decided label, by all sources together."""
    gain: float
    """How many wrong labels an answer is expected to correct (`hybrid.review.gain`)."""
    teacher: str = ""
    """The source of the first vote; empty where there is none."""
    teacher_label: str = ""
    teacher_confidence: float | None = None
    reason: str = ""
    """The teacher's."""


class Answer(Row, frozen=True, kw_only=True):
    """One person's label of one row."""

    id: str
    label: str
    who: str
    """The annotator, as the tool names them."""
    when: str = ""
    """When it was given, in a form that sorts; empty where the tool does not say."""


class AnswerFile(msgspec.Struct, frozen=True, kw_only=True):
    """The answers in a file, and how many rows have none yet."""

    answers: list[Answer]
    unanswered: int


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """One label a row; rows on which people differ stand apart and are not taken."""

    labels: dict[str, str]
    conflicts: dict[str, tuple[str, ...]]


def agree(answers: Sequence[Answer]) -> Agreed:
    """Take the label of each row on which all people agree; of one person's answers the last counts."""
    by_row: dict[str, dict[str, str]] = {}
    for answer in sorted(answers, key=lambda answer: answer.when):
        by_row.setdefault(answer.id, {})[answer.who] = answer.label
    labels_of = {row_id: tuple(sorted(set(by_person.values()))) for row_id, by_person in by_row.items()}
    return Agreed(
        labels={row_id: labels[0] for row_id, labels in labels_of.items() if len(labels) == 1},
        conflicts={row_id: labels for row_id, labels in labels_of.items() if len(labels) > 1},
    )
