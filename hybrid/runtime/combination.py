"""Combine the encoder's probabilities with the decoder's vote on a text of which the encoder was not sure.

With p the encoder's calibrated probabilities, j the label that the decoder voted for and c how sure it was:

    P(i | p, j, c)  ~  p_i ^ a  *  P(vote = j | gold = i) ^ (b * exp(r * (c - c0)))

The second factor is an entry of the decoder's confusion matrix, the model of an annotator in naive Bayes (Dawid and
Skene 1979). The two are not independent, because both fail on hard texts, so the exponents a and b weigh them: a logarithmic opinion
pool (Genest and Zidek 1986). r lets a vote count for more where the decoder was sure, c0 being its
usual confidence. `hybrid.calibration.reliability` measures all of it on calibration rows.
"""

import math
from collections.abc import Sequence

import msgspec

from hybrid.types import Vote

MIN_PROB = 1e-9
"""The lowest probability of the encoder that a logarithm is taken of."""


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """How much the encoder and the decoder each count."""

    encoder: float
    """The exponent a."""
    decoder: float
    """The exponent b."""
    rise: float = 0.0
    """r: how fast a vote gains weight with its confidence."""


class Reliability(msgspec.Struct, frozen=True, kw_only=True):
    """The reliability of one decoder on one label set, measured on calibration rows."""

    model: str
    """The decoder that was measured: the votes of another are not combined."""
    likelihood: tuple[tuple[float, ...], ...]
    """[gold][vote]: the probability of each vote where a label is right, smoothed; in the order of the labels."""
    plain: Weights
    """The weights of a vote whose confidence is not known."""
    stated: Weights | None = None
    """The weights of a vote that states its confidence; None where the confidence added nothing."""
    typical: float = 0.0
    """c0: the mean confidence of the votes."""
    accuracy: float
    """The share of the votes that were right."""
    n_rows: int
    """Calibration rows on which the decoder gave a label."""


def combine(reliability: Reliability, probs: Sequence[float], vote: int, confidence: float | None) -> list[float]:
    """Compute the probability of each label [k] from the encoder's [k] and the decoder's vote, an index.

    `confidence` is the decoder's stated confidence, 0 to 1; None if it stated none.
    """
    stated = reliability.stated if confidence is not None else None
    weights = stated or reliability.plain
    gain = weights.rise * ((confidence or 0.0) - reliability.typical) if stated else 0.0
    strength = weights.decoder * math.exp(gain)
    scores = [
        weights.encoder * math.log(max(p, MIN_PROB)) + strength * math.log(row[vote])
        for p, row in zip(probs, reliability.likelihood, strict=True)
    ]
    highest = max(scores)
    exponentials = [math.exp(score - highest) for score in scores]
    total = sum(exponentials)
    return [value / total for value in exponentials]


def combine_vote(reliability: Reliability | None, probs: dict[str, float], vote: Vote) -> dict[str, float] | None:
    """Compute the probability by label of encoder and decoder together; None where the vote cannot be weighed.

    `probs` are the encoder's, in the order of the bundle's labels. A vote without a label cannot be weighed, nor one of
    a model whose reliability was not measured.
    """
    if reliability is None or vote.teacher != reliability.model or vote.label not in probs:
        return None
    labels = list(probs)
    combined = combine(reliability, list(probs.values()), labels.index(vote.label), vote.confidence)
    return dict(zip(labels, combined, strict=True))
