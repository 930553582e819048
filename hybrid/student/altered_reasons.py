"""Reasons altered on purpose, to learn what of a reason a student learns from.

A reason whose words stand in any order still names what the text says, but argues for nothing; filler of the same length only
costs the same steps; another row's reason is fluent and wrong. What a student loses by each, it had from what the
alteration takes away. An alteration is a name, with a number where it needs one (`masked:0.3`), or several in turn
(`label_removed+shuffled`): a shuffled reason that still says "clearly negative" only repeats the answer.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from hybrid.errors import ConfigError
from hybrid.student.training_data import TrainedRow
from hybrid.teacher.reason_quality import without_label_words

FILLER = "..."
MASK = "_"
Importance = Mapping[tuple[str, str], float]
"""The importance of a word for a label."""


class Reasons(msgspec.Struct, frozen=True, kw_only=True):
    """What an alteration may look at beside the reason: the rows, the set of labels, and a source of chance."""

    rows: Sequence[TrainedRow]
    labels: Sequence[str]
    rng: np.random.Generator


class Alteration(NamedTuple):
    """How an alteration changes the reasons of all rows [rows][reasons], and the number that it takes, if any."""

    alter: Callable[[Reasons, float], list[list[str]]]
    number: str = ""
    most: float = 0.0


def altered(rows: Sequence[TrainedRow], how: str, labels: Sequence[str], *, seed: int) -> list[TrainedRow]:
    """Return the rows with their reasons altered; rows without reasons stay.

    Raises:
        ConfigError: there is no such alteration, or its number is missing or out of range.
    """
    changed = list(rows)
    for name, number in parse_alterations(how):
        reasons = Reasons(rows=changed, labels=labels, rng=np.random.default_rng(seed))
        of_rows = ALTERATIONS[name].alter(reasons, number)
        changed = [msgspec.structs.replace(row, reasons=tuple(own)) for row, own in zip(changed, of_rows, strict=True)]
    return changed


def parse_alterations(how: str) -> list[tuple[str, float]]:
    """Read alterations and their numbers from `NAME[:NUMBER][+NAME[:NUMBER]...]`.

    Raises:
        ConfigError: there is no such alteration, or its number is missing or out of range.
    """
    steps = []
    for step in how.split("+"):
        name, _, text = step.partition(":")
        if name not in ALTERATIONS:
            raise ConfigError(
                f"student: reasons {step!r}: no such alteration; expected some of {', '.join(ALTERATIONS)}"
            )
        alteration = ALTERATIONS[name]
        try:
            number = float(text or "nan")
        except ValueError:
            number = float("nan")
        if alteration.number and not 0 < number <= alteration.most:
            raise ConfigError(f"student: reasons {step!r}: expected {name}:NUMBER with {alteration.number}")
        if text and not alteration.number:
            raise ConfigError(f"student: reasons {step!r}: expected {name} without a number")
        steps.append((name, number))
    return steps


def _each(change: Callable[[Reasons, str, str, float], str]) -> Callable[[Reasons, float], list[list[str]]]:
    """Alter each reason by itself, given its label."""

    def alter(reasons: Reasons, number: float) -> list[list[str]]:
        return [
            [change(reasons, reason, label, number) for reason, label in zip(row.reasons, row.labels, strict=True)]
            for row in reasons.rows
        ]

    return alter


def _shuffled(reasons: Reasons, reason: str, _label: str, _number: float) -> str:
    words = reason.split()
    return " ".join(words[i] for i in reasons.rng.permutation(len(words)))


def _masked(reasons: Reasons, reason: str, _label: str, share: float) -> str:
    words = reason.split()
    hidden = set(reasons.rng.permutation(len(words))[: round(share * len(words))].tolist())
    return " ".join(MASK if i in hidden else word for i, word in enumerate(words))


def _padded(_reasons: Reasons, reason: str, _label: str, _number: float) -> str:
    return " ".join(FILLER for _ in reason.split())


def _label_removed(reasons: Reasons, reason: str, _label: str, _number: float) -> str:
    return without_label_words(reason, reasons.labels) or FILLER


def _wrong_row(reasons: Reasons, _number: float) -> list[list[str]]:
    """Deal the reasons out anew: each row gets as many as it had, of another row."""
    owners = [i for i, row in enumerate(reasons.rows) for _ in row.reasons]
    texts = [reason for row in reasons.rows for reason in row.reasons]
    order = reasons.rng.permutation(len(texts)).tolist()
    # Neighbours in a random order differ in their row unless a row follows itself; such a pair takes the next reason.
    dealt = order[1:] + order[:1]
    of_place = dict(zip(order, dealt, strict=True))
    of_rows: list[list[str]] = [[] for _ in reasons.rows]
    for place, owner in enumerate(owners):
        other = of_place[place]
        while owners[other] == owner and other != place:
            other = of_place[other]
        of_rows[owner].append(texts[other])
    return of_rows


def _keywords(reasons: Reasons, count: float) -> list[list[str]]:
    """Leave the words that say most about the label, in their order."""
    importance = word_importance(reasons.rows)

    def strongest(reason: str, label: str) -> str:
        words = reason.split()
        scores = [importance.get((_plain(word), label), 0.0) for word in words]
        left = sorted(sorted(range(len(words)), key=lambda i: -scores[i])[: int(count)])
        return " ".join(words[i] for i in left)

    return [[strongest(r, label) for r, label in zip(row.reasons, row.labels, strict=True)] for row in reasons.rows]


def _without_keywords(reasons: Reasons, share: float) -> list[list[str]]:
    """Mask the words that say most about the label."""
    importance = word_importance(reasons.rows)

    def weakest(reason: str, label: str) -> str:
        words = reason.split()
        scores = [importance.get((_plain(word), label), 0.0) for word in words]
        hidden = set(sorted(range(len(words)), key=lambda i: -scores[i])[: round(share * len(words))])
        return " ".join(MASK if i in hidden else word for i, word in enumerate(words))

    return [[weakest(r, label) for r, label in zip(row.reasons, row.labels, strict=True)] for row in reasons.rows]


def word_importance(rows: Sequence[TrainedRow]) -> Importance:
    """Return how much each word of the reasons says about each label: its weight in logistic regression on their words.

    For a linear model that is its integrated gradient along the path from a reason without the word (Sundararajan et al.
    2017): the weight times the change of the input, which is one.
    """
    pairs = [(reason, label) for row in rows for reason, label in zip(row.reasons, row.labels, strict=True)]
    names = sorted({label for _, label in pairs})
    if len(names) < 2:
        return {}
    words = CountVectorizer(
        tokenizer=lambda text: [_plain(word) for word in text.split()], token_pattern=None, binary=True
    )
    model = LogisticRegression(max_iter=1000, class_weight="balanced").fit(
        words.fit_transform([reason for reason, _ in pairs]), [label for _, label in pairs]
    )
    weights = model.coef_ if len(names) > 2 else np.concatenate([-model.coef_, model.coef_])
    return {
        (word, str(label)): float(weights[k, column])
        for word, column in words.vocabulary_.items()
        for k, label in enumerate(model.classes_)
    }


def _plain(word: str) -> str:
    return "".join(filter(str.isalnum, word)).lower() or word


ALTERATIONS = {
    "shuffled": Alteration(_each(_shuffled)),
    "masked": Alteration(_each(_masked), "the share of words to mask, such as masked:0.3", 1.0),
    "masked_keywords": Alteration(_without_keywords, "the share of words to mask, such as masked_keywords:0.3", 1.0),
    "keywords": Alteration(_keywords, "the words to leave, such as keywords:15", 1000.0),
    "padded": Alteration(_each(_padded)),
    "wrong_row": Alteration(_wrong_row),
    "label_removed": Alteration(_each(_label_removed)),
}
"""By name: words in random order; words masked at random, or the strongest ones; the strongest words alone; filler of equal
length; another row's reason; the words of the labels taken out."""
