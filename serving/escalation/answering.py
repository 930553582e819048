"""From a decoder's ruling to the answer that the caller gets."""

from typing import Literal

import msgspec

from hybrid.runtime.bundle import Bundle
from hybrid.runtime.combination import combine_vote
from serving.answers import Answer
from serving.decoder.client import DecoderQuestion as Question
from serving.decoder.client import DecoderResult as Ruling
from serving.errors import UnanswerableError

Policy = Literal["local_label_flagged", "abstain", "error"]


def answered(bundle: Bundle, answer: Answer, ruling: Ruling, *, combine: bool) -> Answer:
    """Return the encoder's answer after the decoder gave a label: the two weighed, or its label as it came.

    Several votes are one vote here, and their share is no confidence that was ever measured: it is left out.
    """
    vote = ruling.vote
    assert vote is not None
    assert vote.label is not None
    after = msgspec.structs.replace(answer, status="escalated", escalation="answered", rationale=vote.rationale)
    weighed = vote if ruling.votes == 1 else msgspec.structs.replace(vote, confidence=None)
    together = combine_vote(bundle.decoder, answer.probs, weighed) if combine else None
    if together is None:
        return msgspec.structs.replace(
            after, label=vote.label, labels=(vote.label,), confidence=answer.probs[vote.label], source="decoder"
        )
    label = max(together, key=together.__getitem__)
    return msgspec.structs.replace(
        after, label=label, labels=(label,), probs=together, confidence=together[label], source="both"
    )


def unanswered(answer: Answer, ruling: Ruling, policy: Policy) -> Answer:
    """Return what the policy gives a text that should have escalated and got no label.

    A text of which the encoder is sure enough, and that escalated because the caller wished it, keeps its answer.

    Raises:
        UnanswerableError: the policy is `error`.
    """
    sure = answer.status == "accepted"
    if policy == "error" and not sure:
        raise UnanswerableError(
            f"the encoder is not sure of this text, and there is no answer of the decoder: {ruling.reason}"
        )
    escalation: Literal["undecided", "failed"] = "undecided" if ruling.outcome == "undecided" else "failed"
    rationale = ruling.vote.rationale if ruling.vote else ""
    flagged = msgspec.structs.replace(answer, escalation=escalation, reason=ruling.reason, rationale=rationale)
    if sure:
        return flagged
    if policy == "abstain":
        return msgspec.structs.replace(flagged, label=None, labels=(), status="abstained")
    return msgspec.structs.replace(flagged, status="escalated", source="encoder")


def decided(question: Question, ruling: Ruling) -> Answer:
    """Return the decoder's answer to a question that is not the bundle's.

    Its probabilities are the shares of several votes; of one vote the confidence that it states, the rest spread evenly,
    and all of it where it states none.

    Raises:
        UnanswerableError: the decoder gave no label.
    """
    vote = ruling.vote
    if vote is None or vote.label is None:
        raise UnanswerableError(
            f"these are not the bundle's labels, and there is no answer of the decoder: {ruling.reason}"
        )
    shares = ruling.shares
    if ruling.votes == 1 and vote.confidence is not None:
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
        status="escalated",
        source="decoder",
        escalation="answered",
        rationale=vote.rationale,
        truncated=False,
        tokens=0,
        bundle_id="",
    )
