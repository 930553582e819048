"""What was measured of a data set, of an encoder and of a teacher. A figure that was not measured is absent."""

import msgspec

from hybrid.evaluation.intervals import Estimate


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows are."""

    rows: int
    parts: dict[str, int]
    """Rows by part: train, calibration, test."""
    labels: dict[str, int]
    """Training rows by given label."""
    near_duplicates: int
    """Rows that nearly repeat another, over all parts."""
    leaks: int
    """Test rows with a near-duplicate among the training rows; only a split that came with the data can have any."""
    trusted: int
    """Rows with a trusted label outside the test part."""


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """How many given labels are wrong."""

    estimated: float
    """By confident learning (Northcutt et al. 2021) on cross-fitted probabilities of the frozen encoder."""
    counted: Estimate | None
    """The share of rows with a trusted label whose given label differs; None where there are none."""
    n_counted: int
    signal: float
    """The mean over the labels of the share of its rows that a cross-fitted classifier finds; guessing finds 1 divided by the
    number of labels."""
    signal_p: float
    """How likely so much more than guessing is, were the labels drawn without a look at the texts."""


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point of the learning curve."""

    rows: int
    accuracy: float


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What small models learn from the rows, by cross-validation over training rows."""

    judged_by: str
    """trusted or given: the labels that the predictions are compared with."""
    judged: int
    majority: float
    """The share of the most frequent label."""
    tfidf: Estimate
    encoder: Estimate
    """Logistic regression on frozen embeddings; a fine-tuned encoder is usually some points above it."""
    encoder_name: str
    curve: list[CurvePoint]
    further: Estimate | None
    """What further labels (`thresholds.THRESHOLDS["further_rows"]`) would add to the encoder's accuracy, from the curve."""


class EncoderSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the encoder's graph answers one text on this machine."""

    ms: float
    p95_ms: float
    usd_per_million: float
    precision: str = "fp32"


class DecoderPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a decoder costs and how long it takes, by way of asking."""

    model: str
    answer: str
    """direct or reasoned."""
    usd_per_million: tuple[float, float] | None
    """A range; None where the price is not known."""
    ms: float | None
    """The median of a few answers on this machine; None where it was not asked."""


class NotTimed(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder that was not timed, and why."""

    what: str
    why: str
    remedy: str


class TeacherWay(msgspec.Struct, frozen=True, kw_only=True):
    """One way of asking the teacher, on trusted rows."""

    answer: str
    accuracy: Estimate
    beats_encoder_p: float
    """The exact one-sided paired test that it is right more often than the frozen encoder on the same rows."""
    ms: float | None
    """The mean time of an answer; None where answers were recorded without it."""
    usd_per_million: float | None


class Teacher(msgspec.Struct, frozen=True, kw_only=True):
    """The pilot: what the teacher's answers are worth on trusted rows."""

    model: str
    rows: int
    encoder_right: float
    """The share of these rows that the frozen encoder has right."""
    ways: list[TeacherWay]
    reasoning_p: float | None
    """The exact one-sided paired test that chain of thought is right more often than a direct answer; None where one of
    the two was not asked."""

    @property
    def best(self) -> TeacherWay:
        """The most accurate way."""
        return max(self.ways, key=lambda way: way.accuracy.value)


class NotMeasured(msgspec.Struct, frozen=True, kw_only=True):
    """Why the teacher was not measured, and what that would take."""

    why: str
    remedy: str
    usd: tuple[float, float] | None = None
    """What measuring would cost, where it is known."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the tree reads."""

    facts: Facts
    noise: Noise
    learned: Learned
    speed: EncoderSpeed
    decoders: list[DecoderPrice]
    teacher: Teacher | NotMeasured
    untimed: list[NotTimed] = []
    """Decoders whose time was not measured."""


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asks of the answers."""

    explain: bool = False
    """Whether every answer must come with its reasons in words."""
    p95_ms: float | None = None
    per_day: float | None = None
