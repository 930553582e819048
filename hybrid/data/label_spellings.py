"""Spellings of one label: numbers and truth values that are equal, and labels that a reader cannot tell apart."""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from hybrid.errors import DataError
from hybrid.types import AlikeLabels

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
"""As JSON and typed columns spell them: 01 is a name and no number."""
_VARIATION_SELECTORS = "\ufe0e\ufe0f"
_SHOWN = 5
"""Pairs that a message shows."""


class Spelling(msgspec.Struct, frozen=True, kw_only=True):
    """A spelling that is read as another label."""

    spelling: str
    label: str
    n_cells: int
    """In how many cells of given, gold and annotators' labels it stands."""


class LabelCounts(msgspec.Struct, frozen=True):
    """How often each label stands in the data."""

    given: Mapping[str, int]
    """In training rows, as the given label."""
    all: Mapping[str, int]
    """In any row, as given, gold or an annotator's label."""


def label_key(label: str) -> str:
    """Return what a reader sees of a label, in one case.

    Two labels look alike where their keys are equal: they may differ in case, in Unicode form, in characters that are
    not seen (zero-width ones, byte order marks, controls) and in runs of white space.
    """
    lower = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).lower())
    seen = (char for char in lower if char.isspace() or not _is_invisible(char))
    return " ".join("".join(seen).split())


def other_spellings(
    counts: LabelCounts, recipe_labels: Sequence[str], *, value_kinds: Collection[str], alike: AlikeLabels
) -> list[Spelling]:
    """List the spellings to be read as another label.

    Numbers that are equal are one label where a column of labels holds numbers by its type, and so are truth values in
    any case; labels that look alike are one where the recipe joins them. The label takes the spelling that the recipe
    lists, else the most frequent one of the training rows, and the plainest of those that are equally frequent.

    Args:
        counts: the labels of the data.
        recipe_labels: those that the recipe lists; may be empty.
        value_kinds: what the columns of labels hold besides text, "number" and "boolean".
        alike: what the recipe says about labels that look alike.
    """
    spellings: list[Spelling] = []
    for group in _groups([*recipe_labels, *counts.all], lambda label: _key(label, value_kinds, alike)):
        name = min(
            group,
            key=lambda label: (
                label not in recipe_labels,
                -counts.given.get(label, 0),
                -_n(counts, label),
                label != label_key(label),
                label,
            ),
        )
        others = [label for label in group if label != name and label in counts.all]
        spellings += [Spelling(spelling=label, label=name, n_cells=_n(counts, label)) for label in others]
    return spellings


def refuse_alike(counts: LabelCounts, recipe_labels: Sequence[str], where: str) -> None:
    """Raise `DataError` where two labels of the data or the recipe look alike; the message has their counts."""
    groups = alike_groups([*recipe_labels, *counts.all])
    if not groups:
        return
    shown = "; ".join(
        " and ".join(f"{spelled(label)} ({_n(counts, label)})" for label in group) for group in groups[:_SHOWN]
    )
    more = f"; and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
    raise DataError(
        f"{where}: labels that a reader cannot tell apart, with the number of their cells: {shown}{more}; spell them "
        'alike in the data, or set data.alike_labels = "join" (--set data.alike_labels=join) to make them one label, or "keep" if they '
        "are different ones"
    )


def alike_groups(labels: Iterable[str]) -> list[list[str]]:
    """Return those labels that look like another, in groups."""
    return [group for group in _groups(labels, label_key) if len(group) > 1]


def is_blank(cell: str) -> bool:
    """Whether a reader sees nothing in a cell."""
    return all(char.isspace() or _is_invisible(char) for char in cell)


def spelled(label: str) -> str:
    """Return a label in quotes; characters that are not seen, and forms of Unicode that look like others, as escapes."""
    return repr(label) if unicodedata.is_normalized("NFC", label) else ascii(label)


def as_number(label: str) -> Decimal | None:
    """Return the number that a label spells; None if it spells none."""
    return Decimal(label) if _NUMBER.fullmatch(label) else None


def _key(label: str, value_kinds: Collection[str], alike: AlikeLabels) -> object:
    if "number" in value_kinds and (number := as_number(label)) is not None:
        return number
    if "boolean" in value_kinds and label.lower() in ("true", "false"):
        return label.lower() == "true", "boolean"
    return label_key(label) if alike == "join" else label


def _groups(labels: Iterable[str], key: Callable[[str], object]) -> list[list[str]]:
    groups: dict[object, list[str]] = {}
    for label in dict.fromkeys(labels):
        groups.setdefault(key(label), []).append(label)
    return list(groups.values())


def _n(counts: LabelCounts, label: str) -> int:
    return counts.all.get(label, 0)


def _is_invisible(char: str) -> bool:
    return unicodedata.category(char) in ("Cf", "Cc") or char in _VARIATION_SELECTORS
