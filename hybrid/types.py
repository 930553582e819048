"""The rows that flow from stage to stage, one struct a table."""

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

LABEL_SEPARATOR = "|"
"""Stands between the labels of a canonical join, and in no label (`hybrid.label_sets`)."""
Task = Literal["single_label", "multi_label"]
"""One label a text, or any number of them, none included."""
Precision = str
"""What a graph computes in: a key of the table `hybrid.precisions.PRECISIONS`."""
FP32: Precision = "fp32"
BF16: Precision = "bf16"
"""What some engines compute an fp32 graph in. No graph is written in it."""
Gate = Literal["neighbours", "agreement", "accuracy", "macro_f1"]
"""What a graph below fp32 must show beside the fp32 graph."""
Part = Literal["train", "calibration", "test"]
AlikeLabels = Literal["refuse", "join", "keep"]
"""What becomes of labels that a reader cannot tell apart: an error, one label, or different labels."""
VoteStatus = Literal["ok", "failed", "unreadable", "abstained"]
Action = Literal["keep", "relabel", "drop", "review"]
DraftStatus = Literal[
    "accepted",
    "batch_refused",
    "no_answer",
    "not_rare",
    "foreign_parent",
    "near_row",
    "duplicate",
    "near_test",
    "off_label",
    "not_agreed",
    "refused",
]
"""Whether a draft trains, or which check it failed (`REFUSALS`)."""
REFUSALS: dict[DraftStatus, str] = {
    "batch_refused": "the batch did not pass the gate",
    "no_answer": "the teacher's answer",
    "not_rare": "no minority class",
    "foreign_parent": "parent outside train",
    "near_row": "near-copy of a real row",
    "duplicate": "near-copy of draft",
    "near_test": "meaning of a calibration or test row",
    "off_label": "another label for certain",
    "not_agreed": "label not agreed",
    "refused": "another reason",
}
"""What the reports call each reason to refuse a draft. "refused" is read from old tables alone, see `Draft`."""
TrustedSource = Literal["gold", "audit", "review"]
AnswerStatus = Literal["accepted", "escalated", "abstained"]
"""What became of a text. accepted: the encoder was sure enough. escalated: it was not, or the decoder answered at the
caller's wish; the source tells whose label it is. abstained: nobody was sure enough, and no label is given."""
AnswerSource = Literal["encoder", "decoder", "both"]
"""Whose label the answer is. decoder: its label as it came. both: its vote weighed with the encoder's probabilities."""
EscalationOutcome = Literal["none", "answered", "undecided", "failed"]
"""How asking the decoder ended. none: it was not asked. undecided: it answered without one of the labels.
failed: it could not be asked, or its answer did not arrive."""
Fetch = Callable[[str], Path]
"""Returns the folder of a pinned artefact by its name."""
Span = tuple[int, int]
"""The position of a span's first character in a text, and one past that of its last."""
Report = dict[str, Any]
"""The figures of a stage, as JSON holds them."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen row whose fields are given by name."""


class Example(Row, frozen=True, kw_only=True):
    """One text with the label that training may see."""

    id: str
    text: str
    label: str
    """multi_label: the canonical join of its labels, here and in every other row (`hybrid.label_sets`)."""
    part: Part = "train"
    origin: Literal["given", "synthetic"] = "given"
    parents: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    """Label by annotator, where several people labelled the row; empty where one did."""
    where: str = ""
    """Where a person finds the row: file and line as they were when the rows were split. It identifies nothing."""


class Gold(Row, frozen=True, kw_only=True):
    """The gold label of a row. It judges, and trains nothing but the rows that the recipe declares trusted."""

    id: str
    label: str


class Trusted(Row, frozen=True, kw_only=True):
    """A training row whose label the user vouches for: cleaning learns from it, and it trains as it stands here."""

    id: str
    label: str
    source: TrustedSource
    """gold: declared trusted by the recipe. audit: from a file beside it. review: from a review's answers."""
    text_key: str = ""
    """Identifies the text that the label is about (`hybrid.data.row_ids.text_key`); empty in old tables."""
    drawn: bool = False
    """Whether the row was drawn at random from the training rows, and not chosen because its label is in doubt. Tables of
    earlier versions do not tell: their reviewed rows count as chosen."""

    @property
    def is_representative(self) -> bool:
        """Whether the row may judge a cleaning method: a review picks rows in doubt, which are unlike the others."""
        return self.drawn or self.source != "review"


class Vote(Row, frozen=True, kw_only=True):
    """One answer of one teacher about one row. `label` is set only where `status` is ok."""

    id: str
    status: VoteStatus
    label: str | None = None
    rationale: str = ""
    confidence: float | None = None
    """The teacher's own, 0 to 1; absent where it gave none."""
    teacher: str
    """The model that answered, or the name of an imported source."""
    reasoned: bool = False
    """Whether it is a reasoned answer that was asked for on top of a direct one: such answers are a source of their own,
    for they are right more or less often than direct ones."""
    sample: int = 0
    reason: str = ""
    """Why there is no label; empty where there is one."""
    trace_key: str = ""
    """The key under which the trace store has the answer; empty where the store has none, and in old tables."""

    def __post_init__(self) -> None:
        """Read an old table's vote, in which the name of the teacher held whether it is a reasoned one."""
        if self.teacher.endswith(_REASONED):
            msgspec.structs.force_setattr(self, "teacher", self.teacher.removesuffix(_REASONED))
            msgspec.structs.force_setattr(self, "reasoned", True)

    @property
    def voter(self) -> str:
        """The source that the vote counts for, as reports and `hybrid why` call it."""
        return self.teacher + _REASONED if self.reasoned else self.teacher

    @property
    def source(self) -> str:
        """The voter with the number of the sample: each sample is a label source of its own."""
        return f"{self.voter}#{self.sample}"


_REASONED = ", reasoned"


class Decision(Row, frozen=True, kw_only=True):
    """What became of one training row: its label, the weight it trains with, and why."""

    id: str
    action: Action
    given: str
    label: str
    weight: float
    """0 for a dropped row, else up to 1."""
    probs: tuple[float, ...]
    """What given label, votes and classifier say together, in the order of the labels; empty for multi_label."""
    reason: str
    scores: dict[str, float] = {}


class Draft(Row, frozen=True, kw_only=True):
    """A text that a teacher wrote for a rare class, accepted or refused with the reason.

    Tables written before there was a status a check say "refused" and keep the check in the sentence alone; reading
    such a row gives it the status of its sentence, or leaves "refused" where the sentence is unknown.
    """

    id: str
    text: str
    label: str
    plan: str = ""
    parents: tuple[str, ...] = ()
    status: DraftStatus = "accepted"
    reason: str = ""
    """A sentence for people; nothing decides by it."""
    scores: dict[str, float] = {}

    def __post_init__(self) -> None:
        """Give a refusal of an old table the status of its sentence."""
        if self.status == "refused":
            msgspec.structs.force_setattr(self, "status", _status_of(self.reason))


def _status_of(reason: str) -> DraftStatus:
    """Return the status that an old table's sentence stands for; "refused" where it is unknown."""
    if reason.endswith("is no minority class here"):
        return "not_rare"
    return next((status for start, status in _OLD_REASONS if reason.startswith(start)), "refused")


_OLD_REASONS: tuple[tuple[str, DraftStatus], ...] = (
    ("the batch is refused: ", "batch_refused"),
    ("near-copy of draft", "duplicate"),
    ("near-copy of", "near_row"),
    ("means what", "near_test"),
    ("its parent", "foreign_parent"),
    ("the classifier is certain", "off_label"),
    ("label not agreed", "not_agreed"),
    ("the teacher's answer", "no_answer"),
)
"""How the sentences of old tables begin, the more exact ones first."""


class Epoch(Row, frozen=True, kw_only=True):
    """One point of the learning curve."""

    epoch: float
    train_loss: float
    validation_loss: float
    validation_macro_f1: float
    best: bool
    """Whether this is the epoch that was kept."""


class Parity(Row, frozen=True, kw_only=True):
    """How far the exported graph is from the checkpoint on one row."""

    id: str
    tokens: int
    max_abs_diff: float


class PrecisionTrial(Row, frozen=True, kw_only=True):
    """One precision that was tried, beside the fp32 graph on the same rows."""

    precision: Precision
    bytes: int
    fp32_linears: tuple[str, ...] = ()
    """The names of the linear maps that stay in fp32."""
    agreement: float
    """The share of rows with the same decision."""
    accuracy_drop: float
    accuracy_drop_upper: float
    """The upper bound of the drop, at the level of the recipe."""
    macro_f1_drop: float
    macro_f1_drop_upper: float
    probability_shift: float
    """The mean absolute difference of a probability."""
    neighbour_shift: float
    """The largest difference of a probability between a text alone and the same text in a batch; that of a token's
    evidence counts too, where the graph has an evidence head."""
    evidence_shift: float | UnsetType = UNSET
    """The mean absolute difference of a token's probability of being evidence from the fp32 graph's; unset without a head."""
    passed: bool
    failed_gate: Gate | None = None
    """The first gate that it failed; None where it passed, and in runs of earlier versions."""
    reason: str
    """The gate that it failed in words, or why it is served."""


class Scored(Row, frozen=True, kw_only=True):
    """A calibration row with the logits of the exported model and its calibrated probabilities."""

    id: str
    label: str
    logits: tuple[float, ...]
    probs: tuple[float, ...]


ThresholdBasis = Literal["bundle", "request", "nothing_kept", "none"]
"""Where the threshold of an answer is from. bundle: the bundle's own. request: the caller's. nothing_kept: the bundle's
calibration rows support its promise at no threshold, so every text escalates, and `threshold` is 2, above any confidence.
none: no encoder answered, so nothing was compared."""


class EvidenceWord(Row, frozen=True, kw_only=True):
    """A word of a text, or a run of punctuation marks, that the encoder takes for evidence of a label."""

    text: str
    start: int
    """The position of its first character in the text."""
    end: int
    """One past the position of its last character."""
    score: float
    """The head's probability that a teacher's reason would quote it, 0 to 1."""


class Prediction(Row, frozen=True, kw_only=True):
    """The cascade's answer for one text; `hybrid.runtime.decision` is the only place that makes one."""

    label: str
    """multi_label: the canonical join of `labels`, the empty string where there are none."""
    labels: tuple[str, ...] = ()
    """All labels decided, sorted; with one label a text, that one."""
    confidence: float
    """Calibrated probability that `label` is right, which is `probs[label]`; where `source` is decoder, that is the
    encoder's probability of the decoder's label. multi_label: the probability that the whole set is right."""
    probs: dict[str, float]
    """Calibrated probability by label, from the encoder, or where `source` is both from encoder and decoder;
    multi_label: each on its own, so no sum of 1."""
    escalate: bool
    """Whether the text escalates: the encoder's confidence was below the threshold. It stays true once the decoder
    answered."""
    source: AnswerSource = "encoder"
    escalation: EscalationOutcome = "none"
    rationale: str = ""
    """The decoder's explanation of the label that it gave."""
    reason: str = ""
    """Why the decoder gave no label; empty where it gave one or was not asked."""
    truncated: bool = False
    """Whether the encoder read only a part of the text; never so where it reads in windows."""
    evidence: tuple[EvidenceWord, ...] | UnsetType = UNSET
    """The words that the encoder takes for evidence, in the order of the text; unset where nobody asked for them."""

    @property
    def status(self) -> AnswerStatus:
        """What became of the text, in the words of the service; the library itself never abstains."""
        return "escalated" if self.escalate else "accepted"

    def _repr_html_(self) -> str:
        """Show the answer in a notebook: the label, how sure it is, and the probability of every label as a bar."""
        words = [f"{self.confidence:.1%} sure", self.status, f"by {self.source}", self.reason or self.rationale]
        line = " &middot; ".join(escape(word) for word in words if word)
        bars = "".join(
            f"<tr><td>{escape(label)}</td><td>{prob:.3f}</td>"
            f'<td><div style="width:{120 * prob:.0f}px;height:.8em;background:#4878a8"></div></td></tr>'
            for label, prob in sorted(self.probs.items(), key=lambda item: -item[1])
        )
        return f"<div><b>{escape(self.label) or '(no label)'}</b> {line}</div><table>{bars}</table>"


class Judged(Row, frozen=True, kw_only=True):
    """A test row with its gold label, the encoder's answer and the decoder's."""

    id: str
    text: str
    gold: str
    label: str
    confidence: float
    probs: tuple[float, ...]
    logits: tuple[float, ...] = ()
    decoder: str | None = None
    """The decoder's label; absent where it was not asked or gave none."""
    decoder_status: VoteStatus | None = None
    decoder_confidence: float | None = None
    """The decoder's own, 0 to 1; absent where it gave none."""
    together: str | None = None
    """The bundle's answer where the row escalates: the encoder's probabilities combined with the decoder's label, or the
    decoder's label alone; absent where the decoder gave none."""
    twin: bool = False
    """Whether train has a near-duplicate of the row; only a split that came with the data can have any."""
