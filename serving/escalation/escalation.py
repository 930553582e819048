"""Answers what the encoder is not sure of, and keeps every such text for a person's look."""

import asyncio
import time

import msgspec

from hybrid.review.escalations import Escalated
from hybrid.runtime.bundle import Bundle
from serving.answers import Answer
from serving.deadline import Deadline
from serving.errors import UnanswerableError
from serving.escalation.answering import answered, decided, unanswered
from serving.escalation.desk import Desk
from serving.escalation.questions import Question, Ruling
from serving.escalation.review_log import ReviewLog
from serving.settings import Decoder

CLOSING_S = 5.0
"""The most that the review log gets to write what waits."""


class Escalation:
    """The decoder behind a service: `serving.escalate.Escalates`."""

    def __init__(self, desk: Desk, reviews: ReviewLog, settings: Decoder, *, policy: str = "") -> None:
        """Ask at `desk`. `policy` is the labelling policy in place of the bundle's; empty: the bundle's."""
        self.model = desk.model
        self.reviews = reviews
        self._desk = desk
        self._settings = settings
        self._policy = policy

    async def escalate(self, bundle: Bundle, text: str, answer: Answer, deadline: Deadline) -> Answer:
        """Return the answer for a text of which the encoder says `answer` and is not sure enough.

        Raises:
            UnanswerableError: the decoder cannot answer and the policy is `error`.
            DeadlineError: the caller's deadline had passed.
        """
        deadline.check("escalation")
        if bundle.task == "multi_label":
            ruling = Ruling(outcome="failed", reason="the decoder gives one label a text, and this bundle several")
        else:
            question = Question(
                text=text, labels=bundle.labels, policy=self._policy or bundle.policy, scope=answer.bundle_id
            )
            ruling = await self._desk.rule(question, deadline.left_s())
        final: Answer | None = None
        try:
            final = self._final(bundle, answer, ruling)
        finally:
            self.reviews.note(_row(text, answer, ruling, final, self.model))
        return final

    async def decide(self, text: str, labels: tuple[str, ...], instructions: str, deadline: Deadline) -> Answer:
        """Return the decoder's answer to a question whose options are not the bundle's labels.

        Raises:
            UnanswerableError: it cannot answer, or there are fewer than two options.
            DeadlineError: the caller's deadline had passed.
        """
        deadline.check("escalation")
        if len(set(labels)) < 2 or len(set(labels)) < len(labels):
            raise UnanswerableError(
                f"{len(labels)} options, {len(set(labels))} of them different; want two or more, each once"
            )
        question = Question(text=text, labels=labels, policy=instructions, scope="")
        return decided(question, await self._desk.rule(question, deadline.left_s()))

    async def close(self) -> None:
        """Let what is under way end, and close the store."""
        await self._desk.close()
        await asyncio.to_thread(self.reviews.close, CLOSING_S)

    def _final(self, bundle: Bundle, answer: Answer, ruling: Ruling) -> Answer:
        if ruling.outcome == "answered":
            return answered(bundle, answer, ruling, combine=self._settings.combine)
        return unanswered(answer, ruling, self._settings.policy)


def _row(text: str, answer: Answer, ruling: Ruling, final: Answer | None, model: str) -> Escalated:
    row = Escalated(
        at=time.time(),
        bundle_id=answer.bundle_id,
        text=text,
        encoder_label=answer.encoder_label,
        encoder_confidence=answer.encoder_confidence,
        probs=answer.probs,
        outcome=ruling.outcome,
        decoder=model,
        reason=ruling.reason,
        answer_label=final.label if final else None,
        cost_usd=ruling.cost_usd,
        seconds=ruling.seconds,
    )
    vote = ruling.vote
    if vote is None:
        return row
    return msgspec.structs.replace(
        row, decoder_label=vote.label, decoder_confidence=vote.confidence, rationale=vote.rationale
    )
