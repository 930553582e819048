"""Puts the texts that the encoder is not sure of to the decoder, and keeps each of them for review."""

import asyncio
import time

import msgspec

from hybrid.review.escalations import Escalated
from hybrid.runtime.bundle import Bundle
from serving.decoder.client import DecoderClient
from serving.decoder.kept_text import cut_text
from serving.decoder.merge_answer import decoder_answer, merge_vote, without_vote
from serving.decoder.question import DecoderQuestion, DecoderResult
from serving.decoder.review_log import ReviewLog
from serving.errors import UnanswerableError
from serving.settings import DecoderSettings
from serving.types import REASONS, Answer, Deadline

CLOSING_S = 10.0
"""The longest time that `close` takes where its caller names none."""
REVIEWS_SHARE = 0.5
"""The share of that time that is left for the review log's last rows."""


class EscalationHandler:
    """The decoder behind a service: `serving.interfaces.Escalator`."""

    def __init__(
        self, client: DecoderClient, reviews: ReviewLog, settings: DecoderSettings, *, policy: str = ""
    ) -> None:
        """Ask through `client`. `policy` is the labelling policy in place of the bundle's; empty: the bundle's."""
        self.model = client.model
        self.reviews = reviews
        self._client = client
        self._settings = settings
        self._policy = policy

    async def escalate(self, bundle: Bundle, text: str, answer: Answer, deadline: Deadline) -> Answer:
        """Ask the decoder about a text on which the encoder gave `answer`, and merge the two.

        Raises:
            UnanswerableError: the decoder cannot answer and `decoder.on_failure` is `error`.
            DeadlineError: the caller's deadline had passed.
        """
        deadline.check("escalation")
        whole, text = text, cut_text(text, self._settings.text_bytes, bundle.reading.truncate)
        if len(text) < len(whole):
            answer = msgspec.structs.replace(answer, truncated=True)
        if bundle.task == "multi_label":
            result = DecoderResult(outcome="failed", reason="several_labels")
        else:
            question = DecoderQuestion(
                text=text, labels=bundle.labels, policy=self._policy or bundle.policy, scope=answer.bundle_id
            )
            result = await self._client.ask(question, deadline.left_s())
        final: Answer | None = None
        try:
            final = self._final(bundle, answer, result)
        finally:
            self.reviews.note(_row(text, answer, result, final, self.model))
        return final

    async def decide(self, text: str, labels: tuple[str, ...], instructions: str, deadline: Deadline) -> Answer:
        """Ask the decoder a question whose options are not the bundle's labels.

        Raises:
            UnanswerableError: it cannot answer, there are fewer than two options, or they are too long.
            DeadlineError: the caller's deadline had passed.
        """
        deadline.check("escalation")
        if len(set(labels)) < 2 or len(set(labels)) < len(labels):
            raise UnanswerableError(
                f"expected two or more different options, got {len(labels)}, of which {len(set(labels))} are different"
            )
        n_bytes = sum(len(words.encode("utf-8", "replace")) for words in (instructions, *labels))
        if n_bytes > self._settings.text_bytes:
            raise UnanswerableError(
                f"instructions and labels have {n_bytes} bytes; expected at most {self._settings.text_bytes}"
            )
        kept = cut_text(text, self._settings.text_bytes, "right")
        question = DecoderQuestion(text=kept, labels=labels, policy=instructions, scope="")
        final = decoder_answer(question, await self._client.ask(question, deadline.left_s()))
        return msgspec.structs.replace(final, truncated=len(kept) < len(text))

    async def close(self, within_s: float = CLOSING_S) -> None:
        """Wait for the questions in flight, then write the review log's last rows, all `within_s` at most."""
        ends_at = time.monotonic() + within_s
        await self._client.close((1 - REVIEWS_SHARE) * within_s)
        await asyncio.to_thread(self.reviews.close, max(0.0, ends_at - time.monotonic()))

    def _final(self, bundle: Bundle, answer: Answer, result: DecoderResult) -> Answer:
        if result.outcome == "answered":
            return merge_vote(bundle, answer, result, combine=self._settings.combine)
        return without_vote(answer, result, self._settings.on_failure)


def _row(text: str, answer: Answer, result: DecoderResult, final: Answer | None, model: str) -> Escalated:
    row = Escalated(
        at=time.time(),
        bundle_id=answer.bundle_id,
        text=text,
        encoder_label=answer.encoder_label,
        encoder_confidence=answer.encoder_confidence,
        probs=answer.probs,
        outcome=result.outcome,
        decoder=model,
        reason=result.detail or REASONS[result.reason],
        answer_label=final.label if final else None,
        cost_usd=result.cost_usd,
        seconds=result.seconds,
    )
    vote = result.vote
    if vote is None:
        return row
    return msgspec.structs.replace(
        row, decoder_label=vote.label, decoder_confidence=vote.confidence, rationale=vote.rationale
    )
