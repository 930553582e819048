"""The data types that the parts of the service share: options of a request, answers, timings, deadlines."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from hybrid.types import AnswerSource, AnswerStatus, EscalationOutcome, EvidenceWord, ThresholdBasis
from serving.errors import DeadlineError

Truncate = Literal["error", "right", "left"]
Escalate = Literal["auto", "never", "always"]
Stage = Literal["tokenise", "queue", "inference", "escalation"]


NoLabelReason = Literal[
    "",
    "timed_out",
    "unreachable",
    "overloaded",
    "server_error",
    "text_refused",
    "unusable",
    "unreadable_answer",
    "declined",
    "cut_off",
    "unpriced",
    "not_recorded",
    "local_error",
    "paused",
    "queue_full",
    "spend_cap_reached",
    "spending_unbooked",
    "several_labels",
    "internal_error",
]
"""Why the decoder gave no label, as callers are told: the words of a server or a library are for the operator alone."""
REASONS: Mapping[NoLabelReason, str] = {
    "": "",
    "timed_out": "the decoder gave no answer in time",
    "unreachable": "the decoder's server cannot be reached",
    "overloaded": "the decoder's server has too much to do",
    "server_error": "the decoder's server failed",
    "text_refused": "the decoder's server refused this text",
    "unusable": "the decoder cannot be used as it is set up",
    "unreadable_answer": "the decoder's answer cannot be read as one of the labels",
    "declined": "the decoder declined to answer",
    "cut_off": "the decoder's answer was cut off",
    "unpriced": "the decoder was not asked: no price is known for so long a text",
    "not_recorded": "the decoder has no recorded answer for this text",
    "local_error": "the decoder failed on this text",
    "paused": "the decoder is failing and is paused for a while",
    "queue_full": "too many texts wait for the decoder",
    "spend_cap_reached": "the decoder was not asked: its spend cap is reached",
    "spending_unbooked": "the decoder was not asked: its spending cannot be booked",
    "several_labels": "the decoder gives one label a text, and this bundle several",
    "internal_error": "the decoder failed",
}
"""Each reason in words."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options for answering the texts of one request."""

    truncate: Truncate | None = None
    """How to handle a text that is longer than the encoder reads; None: as the bundle is configured."""
    escalate: Escalate = "auto"
    """When to ask the decoder, if there is one. auto: for texts below the threshold."""
    threshold: float | None = None
    """The confidence below which a text escalates; None: the bundle's threshold."""
    evidence: bool = False
    """Whether the answers have their evidence words."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one text."""

    label: str | None
    """The decision; None where the service abstains. multi_label: the canonical join of `labels`."""
    labels: tuple[str, ...]
    probs: dict[str, float]
    """Calibrated probability by label: the encoder's, or, where the decoder voted, of the two together."""
    confidence: float
    """The probability of `label`. The threshold was compared with `encoder_confidence`."""
    encoder_label: str
    encoder_confidence: float
    threshold: float
    """The confidence below which this text escalates."""
    status: AnswerStatus
    """accepted: the encoder was sure enough. escalated: it was not; `source` is who answered in the end."""
    source: AnswerSource
    """Whose answer it is. decoder: the decoder's label, unchanged. both: encoder and decoder combined."""
    escalation: EscalationOutcome = "none"
    """none: no decoder was asked. undecided: it gave no label. failed: it could not be asked; `reason` tells why."""
    rationale: str = ""
    """The decoder's explanation of the label that it gave."""
    reason: NoLabelReason = ""
    """Why the decoder gave no label; empty if it gave one or was not asked."""
    truncated: bool
    tokens: int
    """How many tokens the encoder read, special tokens included."""
    bundle_id: str
    """The first 12 hex digits of the SHA-256 of `bundle.json`."""
    precision: str = ""
    """The precision of the encoder that answered; empty for an answer of the decoder alone."""
    evidence: tuple[EvidenceWord, ...] | UnsetType = UNSET
    """The words that the encoder takes for evidence, in the order of the text; absent where the request did not ask."""
    threshold_basis: ThresholdBasis = "bundle"
    """Where `threshold` is from. nothing_kept: the calibration rows support the bundle's promise at no threshold, so every
    text escalates and `threshold` is 2, which no confidence reaches."""


class Timings(msgspec.Struct, kw_only=True):
    """Seconds that one request spent in each stage, 0 for a stage that it never reached, and the stage it is in."""

    tokenise_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0
    escalation_s: float = 0.0
    stage: Stage = "tokenise"

    def by_stage(self) -> Mapping[str, float]:
        """The seconds of each stage by its name, in the order in which a request passes through them."""
        return {
            "tokenise": self.tokenise_s,
            "queue": self.queue_s,
            "inference": self.inference_s,
            "escalation": self.escalation_s,
        }


class Deadline(msgspec.Struct, frozen=True, kw_only=True):
    """The time after which the caller no longer waits for the answer."""

    at: float
    """A time of `time.monotonic()`."""
    timeout_s: float
    """The timeout that the caller asked for."""

    @staticmethod
    def after(timeout_s: float) -> "Deadline":
        """The deadline of a request that arrives now."""
        return Deadline(at=time.monotonic() + timeout_s, timeout_s=timeout_s)

    def left_s(self) -> float:
        """The seconds left; negative once the deadline has passed."""
        return self.at - time.monotonic()

    def check(self, stage: Stage) -> None:
        """Raise where the deadline has passed.

        Raises:
            DeadlineError: it passed in `stage`.
        """
        if self.left_s() <= 0:
            raise DeadlineError(stage, self.timeout_s)

    @asynccontextmanager
    async def enforce(self, timings: Timings) -> AsyncIterator[None]:
        """Cancel the block when the deadline passes; `timings` knows the stage that the request is in by then.

        Raises:
            DeadlineError: the deadline passed.
        """
        self.check(timings.stage)
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + self.left_s()):
                yield
        except TimeoutError as error:
            raise DeadlineError(timings.stage, self.timeout_s) from error
