"""How good a set of reasons is, a teacher's or a student's, by measures that a program can take.

The first four are those of studies of distilled reasoning, with the marks that they ask for (`MARKS`); the others matter more
where the task is a label: whether a reason quotes what stands in its text, whether its label can be read from it, and
whether the label stands when it is asked again with the reason in sight. None of them tells whether a reason is why the
model chose the label.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline

from hybrid.data.quotes import quoted_spans
from hybrid.types import Example, Vote

MARKS = {"agreement": ">= 0.90", "valid": ">= 0.85", "length_ratio": "<= 0.70", "similarity": ">= 0.80"}
"""What the literature asks of a student's reasons beside its teacher's."""
FOLDS = 5
MOST_SIMILAR = 2000
"""Pairs of reasons that are embedded, at most."""
Embed = Callable[[Sequence[str]], np.ndarray]
"""Returns unit vectors [n, d]."""
Again = Callable[[str], str]
"""Returns the label that the model which gave the answers gives a text."""


class ReasonQuality(msgspec.Struct, frozen=True, kw_only=True):
    """The measures of a set of reasons, shares from 0 to 1; None where there was nothing to measure by."""

    answers: int
    well_formed: float
    """Answers with a label of the set and a reason that is not empty."""
    accuracy: float | None
    """Well-formed answers with the gold label, among those whose row has one."""
    agreement: float | None
    """Well-formed answers with the teacher's label, among those whose row the teacher answered."""
    valid: float
    """Answers that are well-formed and whose quotes all stand in the text. Nobody reads whether the reason is sound."""
    length_ratio: float | None
    """Words of the reasons to words of the teacher's reasons for the same rows."""
    similarity: float | None
    """Mean cosine of the embeddings of a reason and the teacher's for the same row."""
    quoting: float
    """Well-formed answers whose reason quotes something."""
    quote_precision: float | None
    """Quotes that stand in the text."""
    recoverable: float | None
    """How often a classifier on the words of a reason alone, cross-fitted and without the words of the labels, finds its label."""
    most_frequent: float | None
    """The share of the most frequent label: what such a classifier reaches without reading."""
    consistent: float | None
    """Answers whose label is scored highest again when the text is followed by the reason."""


def reason_quality(
    answers: Sequence[Vote],
    rows: Mapping[str, Example],
    labels: Sequence[str],
    *,
    gold: Mapping[str, str],
    teacher: Mapping[str, Vote],
    embed: Embed,
    again: Again | None = None,
) -> ReasonQuality:
    """Measure the reasons of `answers`, each about one of `rows` by its id.

    Args:
        gold: the gold label of a row, by id.
        teacher: the answer to compare with, by id; none where the answers are the teacher's own.
        again: is asked about each row followed by its reason; None: not measured.
    """
    formed = [answer for answer in answers if answer.label in labels and answer.rationale.strip()]
    quotes = [quoted_spans(rows[answer.id].text, answer.rationale) for answer in formed]
    n_quotes = sum(quoted.n_quotes for quoted in quotes)
    with_gold = [answer for answer in formed if answer.id in gold]
    pairs = [(answer, teacher[answer.id]) for answer in formed if _is_reason(teacher.get(answer.id))]
    answered = [answer for answer in formed if answer.id in teacher and teacher[answer.id].label is not None]
    counts = np.unique([str(answer.label) for answer in formed], return_counts=True)[1]
    return ReasonQuality(
        answers=len(answers),
        well_formed=_share(len(formed), len(answers)) or 0.0,
        accuracy=_share(sum(answer.label == gold[answer.id] for answer in with_gold), len(with_gold)),
        agreement=_share(sum(answer.label == teacher[answer.id].label for answer in answered), len(answered)),
        valid=_share(sum(quoted.n_missing == 0 for quoted in quotes), len(answers)) or 0.0,
        length_ratio=_share(_words(own for own, _ in pairs), _words(theirs for _, theirs in pairs)),
        similarity=_similarity(pairs[:MOST_SIMILAR], embed),
        quoting=_share(sum(quoted.n_quotes > 0 for quoted in quotes), len(formed)) or 0.0,
        quote_precision=_share(n_quotes - sum(quoted.n_missing for quoted in quotes), n_quotes),
        recoverable=recoverability([answer.rationale for answer in formed], [str(a.label) for a in formed], labels),
        most_frequent=_share(int(counts.max(initial=0)), len(formed)),
        consistent=_consistency(formed, rows, again),
    )


def recoverability(reasons: Sequence[str], answers: Sequence[str], labels: Sequence[str]) -> float | None:
    """Return how often a classifier on the words of a reason finds its label; None with too few reasons of a label.

    The words of the labels are taken out, with their endings: else a reason that says "clearly negative" would give it away.
    """
    names, counts = np.unique(answers, return_counts=True)
    if len(names) < 2 or counts.min() < FOLDS:
        return None
    texts = np.array([without_label_words(reason, labels) for reason in reasons])
    targets = np.array(answers)
    hits = 0
    for fit, held_out in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(texts, targets):
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            LogisticRegression(max_iter=1000, class_weight="balanced"),
        )
        hits += int((model.fit(texts[fit], targets[fit]).predict(texts[held_out]) == targets[held_out]).sum())
    return hits / len(reasons)


def without_label_words(reason: str, labels: Sequence[str]) -> str:
    """Take the words of the labels out of a reason, whatever their ending: "negative", "negatively", "negativity"."""
    stems = {word.lower()[: max(4, len(word) - 2)] for label in labels for word in re.findall(r"\w+", label)}
    others = (word for word in reason.split() if not _begins(re.sub(r"\W", "", word).lower(), stems))
    return " ".join(others)


def _begins(word: str, stems: set[str]) -> bool:
    return any(word.startswith(stem) for stem in stems)


def _consistency(answers: Sequence[Vote], rows: Mapping[str, Example], again: Again | None) -> float | None:
    if again is None:
        return None
    return _share(sum(again(f"{rows[a.id].text}\n\n{a.rationale}") == a.label for a in answers), len(answers))


def _is_reason(vote: Vote | None) -> bool:
    return vote is not None and bool(vote.rationale.strip())


def _similarity(pairs: Sequence[tuple[Vote, Vote]], embed: Embed) -> float | None:
    if not pairs:
        return None
    vectors = embed([own.rationale for own, _ in pairs]), embed([theirs.rationale for _, theirs in pairs])
    return float((vectors[0] * vectors[1]).sum(axis=1).mean())


def _words(votes: Iterable[Vote]) -> int:
    return sum(len(vote.rationale.split()) for vote in votes)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
