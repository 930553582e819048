"""The cascade's one decision: calibrate, decide, apply the threshold, combine with the decoder's vote.

The library (`hybrid.runtime.cascade`), the service (`serving`) and the evaluation (`hybrid.evaluation.bundle_scores`) all
decide here, so that a text has one answer whoever asks. Everything in this file is pure: logits, probabilities and votes
in, a `Prediction` out.
"""

from collections.abc import Sequence
from itertools import compress

import msgspec
import numpy as np

from hybrid.label_sets import join_labels
from hybrid.runtime.bundle import Bundle
from hybrid.runtime.calibration import apply, apply_one, decide
from hybrid.runtime.combination import Reliability, combine_vote
from hybrid.types import EscalationOutcome, Prediction, Vote


def predict(
    bundle: Bundle, logits: np.ndarray, *, truncated: Sequence[bool], threshold: float | None = None
) -> list[Prediction]:
    """Turn the logits of texts, [n, k], into the encoder's predictions.

    A text escalates where its confidence is below `threshold`, the bundle's where None. `truncated` says of each text
    whether the encoder read only a part of it.

    Raises:
        BundleError: a logit is not finite, or the calibration was fitted for another number of labels.
    """
    if len(logits) == 1:
        return [predict_one(bundle, logits[0].tolist(), truncated=truncated[0], threshold=threshold)]
    if bundle.task == "multi_label":
        return _predict_sets(bundle, logits, truncated, threshold)
    limit = _limit(bundle, threshold)
    rows = zip(apply(bundle.calibration, logits).tolist(), truncated, strict=True)
    return [predict_probs(bundle.labels, probs, threshold=limit, truncated=cut) for probs, cut in rows]


def predict_one(
    bundle: Bundle, logits: Sequence[float], *, truncated: bool = False, threshold: float | None = None
) -> Prediction:
    """Predict as `predict` does from the finite logits [k] of one text; without arrays, where there are few labels."""
    if bundle.task == "multi_label":
        return _predict_sets(bundle, np.array([logits]), [truncated], threshold)[0]
    probs = apply_one(bundle.calibration, logits)
    return predict_probs(bundle.labels, probs, threshold=_limit(bundle, threshold), truncated=truncated)


def predict_probs(
    labels: Sequence[str], probs: Sequence[float], *, threshold: float, truncated: bool = False
) -> Prediction:
    """Decide the one label of a text from its calibrated probabilities [k]: the most probable, the first of equals."""
    confidence = max(probs)
    label = labels[probs.index(confidence)]
    return Prediction(
        label=label,
        labels=(label,),
        confidence=confidence,
        probs=dict(zip(labels, probs, strict=True)),
        escalate=confidence < threshold,
        truncated=truncated,
    )


def with_vote(prediction: Prediction, vote: Vote, reliability: Reliability | None = None) -> Prediction:
    """Combine the encoder's prediction with the decoder's vote on the same text.

    With a `reliability` measured for that decoder, the answer is the most probable label of encoder and decoder
    together. Without a reliability it is the decoder's label, unchanged, and the confidence is the encoder's calibrated
    probability of that label: the decoder is of unknown accuracy, and the encoder's confidence in its own label says
    nothing about another. A vote without a label, or with a label that the bundle does not have, leaves the encoder's
    answer as it is.
    """
    if vote.status != "ok" or vote.label is None:
        return without_label(prediction, "failed" if vote.status == "failed" else "undecided", vote.reason)
    if vote.label not in prediction.probs:
        return without_label(prediction, "undecided", f"{vote.label!r:.80} is not a label of this bundle")
    probs = combine_vote(reliability, prediction.probs, vote)
    label = vote.label if probs is None else max(probs, key=probs.__getitem__)
    probs_of_answer = prediction.probs if probs is None else probs
    return msgspec.structs.replace(
        prediction,
        label=label,
        labels=(label,),
        confidence=probs_of_answer[label],
        probs=probs_of_answer,
        escalate=True,
        source="decoder" if probs is None else "both",
        escalation="answered",
        rationale=vote.rationale,
        reason="",
    )


def without_label(prediction: Prediction, escalation: EscalationOutcome, reason: str) -> Prediction:
    """Flag the encoder's prediction where the decoder gave no label: `escalation` says how it ended, `reason` why."""
    return msgspec.structs.replace(prediction, escalation=escalation, rationale="", reason=reason)


def _predict_sets(
    bundle: Bundle, logits: np.ndarray, truncated: Sequence[bool], threshold: float | None
) -> list[Prediction]:
    """Decide the set of labels of each text, and how probable it is that the whole set is right."""
    probs = apply(bundle.calibration, logits)
    decided = decide(bundle.calibration, probs)
    rows = zip(probs.tolist(), decided.chosen.tolist(), decided.confidence.tolist(), truncated, strict=True)
    limit = _limit(bundle, threshold)
    return [_predict_set(bundle.labels, *row, limit) for row in rows]


def _predict_set(
    names: Sequence[str], probs: list[float], chosen: list[bool], confidence: float, truncated: bool, threshold: float
) -> Prediction:
    labels = tuple(sorted(compress(names, chosen)))
    return Prediction(
        label=join_labels(labels),
        labels=labels,
        confidence=confidence,
        probs=dict(zip(names, probs, strict=True)),
        escalate=confidence < threshold,
        truncated=truncated,
    )


def _limit(bundle: Bundle, threshold: float | None) -> float:
    return bundle.threshold.value if threshold is None else threshold
