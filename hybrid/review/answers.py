"""What people answered, whichever tool they used, and which of it can be taken."""

from collections.abc import Sequence

import msgspec

from hybrid.types import Row


class Answer(Row, frozen=True, kw_only=True):
    """One person's label of one row."""

    id: str
    label: str
    who: str
    """The annotator, as the tool names them."""
    when: str = ""
    """When it was given, in a form that sorts; empty where the tool does not say."""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """The answers in a file, and how many rows have none yet."""

    answers: list[Answer]
    unanswered: int


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """One label a row; rows on which people differ stand apart and are not taken."""

    labels: dict[str, str]
    conflicts: dict[str, tuple[str, ...]]


def settle(answers: Sequence[Answer]) -> Agreed:
    """Return the label of each row on which all people agree; of one person's answers the last counts."""
    said: dict[str, dict[str, str]] = {}
    for answer in sorted(answers, key=lambda answer: answer.when):
        said.setdefault(answer.id, {})[answer.who] = answer.label
    together = {row_id: tuple(sorted(set(by.values()))) for row_id, by in said.items()}
    return Agreed(
        labels={row_id: labels[0] for row_id, labels in together.items() if len(labels) == 1},
        conflicts={row_id: labels for row_id, labels in together.items() if len(labels) > 1},
    )
