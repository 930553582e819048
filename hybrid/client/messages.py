"""What the client sends to `/v1/classify` and what comes back. Fields that a newer service adds are passed over."""

from typing import Literal, TypedDict

import msgspec

Truncate = Literal["error", "right", "left"]
Escalate = Literal["auto", "never", "always"]


class Options(TypedDict, total=False):
    """How the texts of one call are to be answered."""

    top_k: int
    """The most probable labels whose probabilities are told; absent: all."""
    truncate: Truncate
    """What becomes of a text that the encoder cannot read whole; absent: as the bundle says."""
    escalate: Escalate
    """auto: below the threshold, where the service has a decoder."""
    threshold: float
    """The confidence below which a text escalates; absent: the bundle's."""
    timeout_s: float
    """Of the whole call, retries and waits included; absent: the client's."""


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a request."""

    inputs: tuple[str, ...]
    top_k: int | None = None
    truncate: Truncate | None = None
    escalate: Escalate = "auto"
    threshold: float | None = None
    timeout_ms: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one text."""

    label: str | None
    """None where the service abstains. multi_label: the join of `labels`."""
    labels: tuple[str, ...]
    probs: dict[str, float]
    """Calibrated probability by label, the most probable first."""
    confidence: float
    """The probability of `label`."""
    encoder_label: str
    encoder_confidence: float
    """What the threshold was compared with."""
    threshold: float
    status: Literal["accepted", "escalated", "abstained"]
    source: Literal["encoder", "decoder", "both"]
    escalation: Literal["none", "answered", "undecided", "failed"]
    rationale: str
    reason: str
    """Why the decoder gave no label; empty where it did or was not asked."""
    truncated: bool
    tokens: int
    bundle_id: str


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A text that the service fails on while it answers the others."""

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
