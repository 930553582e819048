"""The receipt of a row, and what it is made of."""

from hybrid.types import Action, DraftStatus, Part, Row, Trusted, VoteStatus


class VoteReceipt(Row, frozen=True, kw_only=True):
    """One vote, and what the trace store says of it; a recorded answer cost nothing and has no entry there."""

    teacher: str
    sample: int
    status: VoteStatus
    label: str | None
    confidence: float | None
    rationale: str
    reason: str
    recorded: bool
    key: str = ""
    """The SHA-256 of the whole request, under which the store has the answer; empty where no answer was stored, and for
    votes of a version that kept no key."""
    prompt: str = ""
    """12 hex digits of the SHA-256 of the request's system half: instructions, labels, policy."""
    model: str = ""
    """The model that answered, in the provider's words; empty where the store has no such answer."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_read_tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None


class Served(Row, frozen=True, kw_only=True):
    """What the bundle says of a calibration or test row."""

    label: str
    confidence: float
    probs: dict[str, float]
    escalate: bool
    right: bool
    """Whether it is the label that judges."""
    decoder: str | None = None


class Receipt(Row, frozen=True, kw_only=True):
    """A row's whole story. What a row does not have is empty or None: only training rows have votes and decisions."""

    id: str
    text: str
    part: Part
    origin: str
    """given, or synthetic for a draft."""
    given: str
    """The label it came with; of a calibration or test row the one that judges."""
    annotations: dict[str, str] = {}
    trusted: Trusted | None = None
    policy: str = ""
    """The hash of the labelling policy that the teacher had."""
    votes: list[VoteReceipt] = []
    classifier: dict[str, float] = {}
    """The cross-fitted classifier's probabilities."""
    probs: dict[str, float] = {}
    """What everything says together."""
    action: Action | None = None
    label: str | None = None
    """The decided label."""
    weight: float | None = None
    """The weight in training."""
    reason: str = ""
    scores: dict[str, float] = {}
    changed_by: list[str] = []
    """Who spoke for the decided label where it is not the given one."""
    served: Served | None = None
    drafts: list[str] = []
    """Drafts that were written with this row as an example."""
    parents: tuple[str, ...] = ()
    draft_status: DraftStatus | None = None
    plan: str = ""
