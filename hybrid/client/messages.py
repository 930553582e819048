"""The bodies of requests to `/v1/classify` and of replies. Fields that a newer service adds are ignored."""

from typing import Literal, TypedDict

import msgspec

from hybrid.types import AnswerSource, AnswerStatus, EscalationOutcome, EvidenceWord, ThresholdBasis

Truncate = Literal["error", "right", "left"]
Escalate = Literal["auto", "never", "always"]


class Options(TypedDict, total=False):
    """The options of one call."""

    top_k: int
    """How many of the most probable labels to return probabilities for; all if absent."""
    truncate: Truncate
    """What to do with a text that is too long for the encoder; as the bundle has it if absent."""
    escalate: Escalate
    """Whether the decoder is asked; "auto" asks it below the threshold, if the service has one."""
    threshold: float
    """The confidence below which a text escalates; the bundle's threshold if absent."""
    evidence: bool
    """Whether each answer has its evidence words; the bundle must have been trained for them."""
    timeout_s: float
    """The seconds that the whole call may take, its retries and pauses included; the client's setting if absent."""


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a request."""

    inputs: tuple[str, ...]
    top_k: int | None = None
    truncate: Truncate | None = None
    escalate: Escalate = "auto"
    threshold: float | None = None
    evidence: bool = False
    timeout_ms: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one text."""

    label: str | None
    """The label, or None if the service abstains. With several labels a text it is the join of `labels`."""
    labels: tuple[str, ...]
    probs: dict[str, float]
    """The calibrated probability by label, the most probable first."""
    confidence: float
    """The probability of `label`."""
    encoder_label: str
    encoder_confidence: float
    """The confidence of the encoder, which was compared with the threshold."""
    threshold: float
    status: AnswerStatus
    source: AnswerSource
    escalation: EscalationOutcome
    rationale: str
    reason: str
    """Why the decoder gave no label; empty if it gave one or was not asked."""
    truncated: bool
    tokens: int
    bundle_id: str
    threshold_basis: ThresholdBasis = "bundle"
    """Where `threshold` is from. nothing_kept: the bundle's calibration rows support no threshold, so every text escalates
    and `threshold` is 2, which no confidence reaches. A service of an earlier version does not say."""
    precision: str = ""
    """The precision of the encoder that answered; empty for an answer of the decoder alone."""
    evidence: tuple[EvidenceWord, ...] | None = None
    """The words that the encoder takes for evidence, in the order of the text; None where they were not asked for."""


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A text that the service failed on while it answered the others."""

    kind: str
    message: str
    item: int | None = None
    """The position of the text in the list that was given."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a reply."""

    answers: list[Answer | None]
    failed: list[Failed]


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an error."""

    error: Failed
