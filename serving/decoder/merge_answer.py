"""Merges the decoder's result into the answer that the caller gets."""

from typing import Literal

import msgspec

from hybrid.runtime.bundle import Bundle
from hybrid.runtime.decision import with_vote, without_label
from hybrid.types import Prediction
from serving.decoder.question import DecoderQuestion, DecoderResult
from serving.errors import UnanswerableError
from serving.settings import OnFailure
from serving.types import REASONS, Answer, NoLabelReason


def merge_vote(bundle: Bundle, answer: Answer, result: DecoderResult, *, combine: bool) -> Answer:
    """Combine the encoder's answer with the decoder's vote, or take its label unchanged if `combine` is off.

    Several votes count as one here. Their share is not a measured confidence, so it is left out.
    """
    vote = result.vote
    assert vote is not None
    counted = vote if result.votes == 1 else msgspec.structs.replace(vote, confidence=None)
    prediction = with_vote(_prediction(answer), counted, bundle.decoder if combine else None)
    return _updated(answer, prediction, "unreadable_answer" if prediction.reason else "")


def without_vote(answer: Answer, result: DecoderResult, on_failure: OnFailure) -> Answer:
    """Answer a text for which the decoder gave no label, according to the setting `decoder.on_failure`.

    A text that escalated only at the caller's request keeps its answer, since the encoder is sure of it.

    Raises:
        UnanswerableError: `on_failure` is `error`.
    """
    sure = answer.status == "accepted"
    if on_failure == "error" and not sure:
        raise UnanswerableError(
            f"the encoder is not sure of this text, and the decoder gave no answer: {REASONS[result.reason]}"
        )
    escalation: Literal["undecided", "failed"] = "undecided" if result.outcome == "undecided" else "failed"
    flagged = _updated(answer, without_label(_prediction(answer), escalation, result.reason), result.reason)
    if on_failure == "abstain" and not sure:
        return msgspec.structs.replace(flagged, label=None, labels=(), status="abstained")
    return flagged


def _prediction(answer: Answer) -> Prediction:
    """Read the encoder's prediction back from its answer."""
    return Prediction(
        label=answer.encoder_label,
        labels=answer.labels,
        confidence=answer.encoder_confidence,
        probs=answer.probs,
        escalate=answer.status == "escalated",
        truncated=answer.truncated,
    )


def _updated(answer: Answer, prediction: Prediction, reason: NoLabelReason) -> Answer:
    """Copy the prediction, which now includes the decoder's vote, into the answer."""
    return msgspec.structs.replace(
        answer,
        label=prediction.label,
        labels=prediction.labels,
        probs=prediction.probs,
        confidence=prediction.confidence,
        status=prediction.status,
        source=prediction.source,
        escalation=prediction.escalation,
        rationale=prediction.rationale,
        reason=reason,
    )


def decoder_answer(question: DecoderQuestion, result: DecoderResult) -> Answer:
    """Turn the result of a question whose labels are not the bundle's into an answer of the decoder alone.

    With several votes, the probability of a label is its share of them. With a single vote it is the confidence that
    the vote states, and the rest is spread evenly over the other labels; without a stated confidence it is 1.

    Raises:
        UnanswerableError: the decoder gave no label.
    """
    vote = result.vote
    if vote is None or vote.label is None:
        raise UnanswerableError(
            f"these are not the bundle's labels, and the decoder gave no answer: {REASONS[result.reason]}"
        )
    shares = result.shares
    if result.votes == 1 and vote.confidence is not None:
        rest = (1 - vote.confidence) / (len(question.labels) - 1)
        shares = {label: vote.confidence if label == vote.label else rest for label in question.labels}
    return Answer(
        label=vote.label,
        labels=(vote.label,),
        probs={label: shares.get(label, 0.0) for label in question.labels},
        confidence=shares.get(vote.label, 0.0),
        encoder_label="",
        encoder_confidence=0.0,
        threshold=0.0,
        threshold_basis="none",
        status="escalated",
        source="decoder",
        escalation="answered",
        rationale=vote.rationale,
        truncated=False,
        tokens=0,
        bundle_id="",
    )
