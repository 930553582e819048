"""How well scores of words find the words that reasons quote."""

from collections.abc import Sequence

import msgspec
import numpy as np
from sklearn.metrics import average_precision_score

from hybrid.types import EvidenceWord, Span


class WordScores(msgspec.Struct, frozen=True, kw_only=True):
    """The words of all texts with quotes, and how well their scores put the quoted ones first."""

    texts: int
    """Texts with quotes; the others say nothing about their words."""
    words: int
    quoted_share: float
    """The share of quoted words: the average precision of scores that tell nothing."""
    average_precision: float


def word_scores(words: Sequence[Sequence[EvidenceWord]], quotes: Sequence[Sequence[Span]]) -> WordScores | None:
    """Compare the scored words of each text with the spans that are quoted of it; None where nothing is quoted.

    A word is quoted where it overlaps a span. The average precision is over the words of all texts together.
    """
    quoted, scores = [], []
    n_texts = 0
    for of_text, spans in zip(words, quotes, strict=True):
        if spans and of_text:
            n_texts += 1
            quoted.append(overlapping([(word.start, word.end) for word in of_text], spans))
            scores += [word.score for word in of_text]
    if not n_texts:
        return None
    is_quoted = np.concatenate(quoted)
    return WordScores(
        texts=n_texts,
        words=len(is_quoted),
        quoted_share=float(is_quoted.mean()),
        average_precision=float(average_precision_score(is_quoted, scores)),
    )


def overlapping(words: Sequence[Span], spans: Sequence[Span]) -> np.ndarray:
    """Which words overlap a span, truth values [n]."""
    return np.array([any(start < end and begin < stop for begin, end in spans) for start, stop in words], dtype=bool)
