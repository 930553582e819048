"""The receipt of a row and its parts."""

from msgspec import UNSET, UnsetType

from hybrid.types import Action, DraftStatus, EvidenceWord, Part, Row, Trusted, VoteStatus


class VoteReceipt(Row, frozen=True, kw_only=True):
    """One vote with its entry in the trace store; a recorded answer cost nothing and has no entry."""

    teacher: str
    sample: int
    status: VoteStatus
    label: str | None
    confidence: float | None
    rationale: str
    reason: str
    recorded: bool
    key: str = ""
    """The SHA-256 of the whole request, the answer's key in the store; empty if no answer was stored, or if the vote comes
    from a version that recorded no key."""
    prompt: str = ""
    """The first 12 hex digits of the SHA-256 of the request's system prompt: instructions, labels, policy."""
    model: str = ""
    """The model that answered, as the provider names it; empty if the store has no such answer."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_read_tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None


class Served(Row, frozen=True, kw_only=True):
    """The bundle's prediction for a calibration or test row."""

    label: str
    confidence: float
    probs: dict[str, float]
    escalate: bool
    right: bool
    """Whether the label is the one that the row is scored against."""
    decoder: str | None = None


class Receipt(Row, frozen=True, kw_only=True):
    """The history of a row. Fields that do not apply are empty or None: only training rows have votes and decisions."""

    id: str
    where: str = ""
    """Where a person finds the row: file and line when the rows were split; empty for a draft, and in runs of earlier
    versions."""
    text: str
    part: Part
    origin: str
    """Either "given", or "synthetic" for a draft."""
    given: str
    """The label in the data; for a calibration or test row, the label that it is scored against."""
    annotations: dict[str, str] = {}
    trusted: Trusted | None = None
    policy: str = ""
    """The hash of the labelling policy in the teacher's prompt."""
    votes: list[VoteReceipt] = []
    classifier: dict[str, float] = {}
    """The cross-fitted classifier's probabilities."""
    probs: dict[str, float] = {}
    """The class probabilities that cleaning estimated from all sources."""
    action: Action | None = None
    label: str | None = None
    """The decided label."""
    weight: float | None = None
    """The weight in training."""
    reason: str = ""
    scores: dict[str, float] = {}
    changed_by: list[str] = []
    """The method and sources that support the decided label, if it is not the given one."""
    served: Served | None = None
    evidence: tuple[EvidenceWord, ...] | UnsetType = UNSET
    """The words that the encoder of the run's bundle takes for evidence; unset where it has no head for that, or where
    nobody asked."""
    drafts: list[str] = []
    """Drafts that were written with this row as an example."""
    parents: tuple[str, ...] = ()
    draft_status: DraftStatus | None = None
    plan: str = ""
