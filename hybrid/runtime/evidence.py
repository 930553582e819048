"""Evidence words: those of a text that the encoder's second head takes for what a teacher's reason would quote."""

from collections.abc import Sequence

import numpy as np

from hybrid.runtime.calibration import sigmoid
from hybrid.runtime.explain import words_of
from hybrid.runtime.text_encoder import Encoded
from hybrid.types import EvidenceWord

LEAST_SCORE = 0.5
"""The score from which a word counts as evidence."""


def scored_words(text: str, encoded: Encoded, token_logits: Sequence[np.ndarray]) -> list[EvidenceWord]:
    """Score the words of a text that the encoder has read, in their order.

    Args:
        text: the text.
        encoded: the text as read, with offsets.
        token_logits: for each window of it the logits of its tokens, float32 [length].

    A word's score is that of its surest token: the head's probability that a reason would quote it. Words of which no
    token was read, beyond where a long text is cut, have none and are left out.
    """
    places = np.array([place for window in encoded.offsets for place in window], dtype=np.int64).reshape(-1, 2)
    logits = np.concatenate([np.asarray(of_window, dtype=np.float64) for of_window in token_logits])
    words = words_of(text)
    if not words or not len(places):
        return []
    starts, ends = np.array(words).T
    best = np.full(len(words), -np.inf)
    # Words are in order and apart: those that a token overlaps stand side by side.
    first = np.searchsorted(ends, places[:, 0], side="right")
    last = np.searchsorted(starts, places[:, 1], side="left")
    for token in range(len(places)):
        if places[token, 0] < places[token, 1]:
            reached = best[first[token] : last[token]]
            np.maximum(reached, logits[token], out=reached)
    scores = sigmoid(best)
    return [
        EvidenceWord(text=text[start:end], start=start, end=end, score=round(float(score), 6))
        for (start, end), score, logit in zip(words, scores, best, strict=True)
        if np.isfinite(logit)
    ]


def evidence_words(
    text: str, encoded: Encoded, token_logits: Sequence[np.ndarray], *, least_score: float = LEAST_SCORE
) -> tuple[EvidenceWord, ...]:
    """Select the words with a score of `least_score` or more, in the order of the text."""
    return tuple(word for word in scored_words(text, encoded, token_logits) if word.score >= least_score)


def no_evidence(bundle: str) -> str:
    """Say that the bundle of that name has no evidence words, and how to get some."""
    return (
        f"the bundle {bundle} has no evidence head, so that its answers have no evidence words; train it with "
        "`--set train.evidence=0.5` and a teacher that gives reasons, or do not ask for them"
    )
