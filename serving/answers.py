"""What a protocol asks of the service and what it gets back, whatever the protocol is."""

from typing import Literal

import msgspec

from hybrid.types import AnswerSource, AnswerStatus, EscalationOutcome

Truncate = Literal["error", "right", "left"]
Escalate = Literal["auto", "never", "always"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How the texts of one request are to be answered."""

    truncate: Truncate | None = None
    """What becomes of a text that the encoder cannot read whole; None: as the bundle says."""
    escalate: Escalate = "auto"
    """auto: below the threshold, where there is a decoder."""
    threshold: float | None = None
    """The confidence below which a text escalates; None: the bundle's."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one text."""

    label: str | None
    """None where the service abstains. multi_label: the canonical join of `labels`."""
    labels: tuple[str, ...]
    probs: dict[str, float]
    """Calibrated probability by label: the encoder's, or, where the decoder voted, of the two together."""
    confidence: float
    """The probability of `label`: what the threshold was compared with is `encoder_confidence`."""
    encoder_label: str
    encoder_confidence: float
    threshold: float
    """The one that held for this text."""
    status: AnswerStatus
    """accepted: the encoder was sure enough. escalated: it was not; `source` tells who answered after all."""
    source: AnswerSource
    """decoder: its label as it came. both: the two combined."""
    escalation: EscalationOutcome = "none"
    """none: no decoder was asked. undecided: it gave no label. failed: it could not be asked; `reason` tells why."""
    rationale: str = ""
    """The decoder's explanation of the label that it gave."""
    reason: str = ""
    """Why the decoder gave no label; empty where it did or was not asked."""
    truncated: bool
    tokens: int
    """Read by the encoder, special tokens included."""
    bundle_id: str
    """The first 12 hex digits of the SHA-256 of `bundle.json`."""


class Timings(msgspec.Struct, kw_only=True):
    """Seconds that one request spent in each stage; a stage that it never reached stays 0."""

    tokenise_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0
    escalation_s: float = 0.0
