"""The recipe: a typed struct per stage, read from TOML. An unknown key is an error."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hybrid.files.hashing import sha256_of
from hybrid.precisions import PRECISIONS
from hybrid.types import AlikeLabels, Precision, Task

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Whole = Annotated[int, Meta(ge=0)]
Thinking = Annotated[int, Meta(ge=1024)] | Literal["low", "medium", "high", "xhigh", "max"]
LEAST_TOKENS_TO_THINK = 1024
NO_VOTE = (
    "-1",
    "nan",
    "none",
    "null",
    "n/a",
    "-",
    "?",
    "abstain",
    "no vote",
    "cannot be labeled",
    "cannot be labelled",
)
"""Values that mean that an annotator gave no vote, in any case; as an empty cell does."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a recipe: a key that it does not know is an error."""


class DataConfig(Section, frozen=True, kw_only=True):
    """Where the rows come from and which columns mean what."""

    prepare: str = ""
    """A Python file beside the recipe with `prepare(fetch, seed) -> list[dict]`; instead of files."""
    train: str = ""
    """csv, tsv, jsonl, parquet or xlsx beside the recipe, or `hf:owner/name[@revision][:split]`. Without a revision a run
    pins the commit that it first sees."""
    calibration: str = ""
    test: str = ""
    text: str = "text"
    label: str = "label"
    gold: str = ""
    """The column of trusted labels; may be empty on some rows."""
    id: str = ""
    """A column of ids. Without one a row's id follows from its text, so that answers of people stay with the text."""
    separator: Annotated[str, Meta(min_length=1)] = "|"
    """task = "multi_label": what stands between the labels of a cell. An empty label cell is a row without labels; an
    empty gold cell is a row whose labels nobody vouches for, and a separator alone vouches that it has none."""
    alike_labels: AlikeLabels = "refuse"
    """Labels that differ in nothing that a reader sees, or in case alone: refuse stops the run, join makes them one label
    and the report says so, keep takes them for different ones."""
    annotators: tuple[str, ...] = ()
    """Columns of single annotators' labels; the given label is then their majority."""
    no_vote: tuple[str, ...] = NO_VOTE
    """What an annotator's cell holds, in any case, where they gave no vote; an empty cell is none either. A value that
    stands in the recipe's `labels` is a vote."""
    trusted: Whole = 0
    """Training rows with gold that may be used as trusted: they teach cleaning, and train with their gold label."""
    audit: str = ""
    """A csv or jsonl file beside the recipe with columns `label` and `text` or `id`: training rows that a person has
    checked."""
    split: str = ""
    """A column that says train, calibration or test; instead of a drawn split."""


class SplitConfig(Section, frozen=True, kw_only=True):
    """How rows are dealt to train, calibration and test."""

    calibration: Annotated[float, Meta(gt=0)] = 0.15
    """Rows, or a share of them where under 1."""
    test: Annotated[float, Meta(ge=0)] = 0.25
    train: Annotated[float, Meta(ge=0)] = 0
    """0: all that is left."""
    near_duplicate: Annotated[float, Meta(gt=0, le=1)] = 0.8
    """Jaccard similarity of character 5-grams from which two texts are near-duplicates."""


class LLMConfig(Section, frozen=True, kw_only=True):
    """A language model: [teacher], [second] or [decoder] of a recipe, and the first keys of a service's [decoder].

    Paths count from the folder of the file that has the section.
    """

    model: str = "none"
    """`recorded`, `local` (the packaged SmolLM2), `student` ([decoder] alone: the one that the run trains), a .gguf path,
    `hf:owner/repo/file.gguf`, `claude-...`, any name with `base_url`, or `none`."""
    traces: str = ""
    """The JSONL file of recorded answers, for `recorded`."""
    base_url: str = ""
    """A server that speaks the Messages protocol."""
    use_environment: bool = False
    """Claude alone: whether ANTHROPIC_BASE_URL and ANTHROPIC_CUSTOM_HEADERS of the environment say where, and with which
    further headers, its API is asked. Either way a line on the screen says what becomes of them."""
    policy: str = ""
    """The labelling policy, a text file: what the labels mean."""
    max_tokens: Count = 400
    """The longest answer."""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    """Unset: the model's own."""
    thinking: Thinking | UnsetType = UNSET
    """Claude alone. A number: tokens to think in, on top of `max_tokens` (models up to 4.5). A word: how hard a newer
    model thinks (its effort); those tokens count within `max_tokens`."""
    workers: Count = 8
    """The most calls in flight at once; fewer while the server is overloaded."""
    timeout_s: Positive = 60.0
    """The longest that one call may take."""
    max_failed: Share = 0.25
    """[teacher], [second]: a run stops once more than this share of the questions so far has failed, from ten failures on.
    A decoder's failures stop nothing."""
    batch: bool = False
    """Whether questions may wait for the Message Batches API: half the price, within 24 hours."""
    cache: bool | None = None
    """Whether the prompt's fixed part is marked for the provider's cache; unset: for Claude's own API alone."""
    prices: str = ""
    """A TOML file with USD per million tokens by model, over the packaged prices."""
    budget_usd: Positive | None = None
    """The most that this section's calls may cost, over all runs that share the recipe's trace store, or over all time of
    the services on one review store."""


class VerifyConfig(Section, frozen=True, kw_only=True):
    """Blind votes of the teacher on training rows."""

    votes: Count = 1
    """Votes a row; odd."""
    answer: Literal["reasoned", "direct"] = "reasoned"
    """Whether the teacher reasons before it says a label; `hybrid pilot` measures which pays."""
    imports: tuple[str, ...] = ()
    """Files beside the recipe with columns label, text or id and, where known, rationale, confidence and source: votes of
    annotators or of another system, beside the teacher's. Votes on calibration rows without gold, two a row or more, are
    what calibration estimates their noise from."""
    max_calls: Whole = 0
    """Calls that the first votes may take, first on trusted rows (up to half of the calls), then where the given label is
    believed least, by repair or, without trusted rows, by a cross-fitted classifier; 0: every row is asked."""
    more_calls: Whole = 0
    """Calls after them, spent where teacher, given label and classifier differ most; never where all agree."""
    more: Literal["votes", "reasoned", "second"] = "votes"
    """What those ask for: two more votes a row, the reasoning that a direct answer lacks, or the vote of [second]."""


class CleanConfig(Section, frozen=True, kw_only=True):
    """What becomes of each training row."""

    method: str = "auto"
    """A key of `hybrid.labels.methods.METHODS` (given, prune, consensus, repair), or auto: of those the simplest that
    trusted rows speak for; consensus where no row is trusted."""
    folds: Annotated[int, Meta(ge=2)] = 5
    relabel: Share = 0.5
    """Lowest consensus quality that changes a label without asking for a person's look."""
    drop: Share = 0.0
    """A suspect row whose best label is below this quality is dropped."""
    review_weight: Share = 1.0
    """The weight in training of a row that waits for review."""


class SynthesizeConfig(Section, frozen=True, kw_only=True):
    """Drafts of rare classes."""

    use: bool | Literal["auto"] = "auto"
    """Whether accepted drafts train the encoder that ships; auto: those of each class that beat what costs nothing
    (nothing at all, oversampling, class weights) on held-out rows, first on frozen embeddings, then with the encoder
    itself, which takes about as long as four trainings. Where no class is rare it takes no time. `--ablate` measures
    drafts either way."""
    drafts: str = ""
    """Recorded drafts, a JSONL file beside the recipe; without it a live teacher writes them."""
    per_class: Whole = 120
    """The most drafts that a live teacher is asked for, a minority class; 0 for none. A class gets 1.5 for each row
    that it lacks to `enough`."""
    wave: Count = 40
    """Drafts that are asked for at once, a class; the next wave follows where this one moved the held-out recall."""
    minority: Share = 0.75
    """A class is a minority where it has less than this share of an even part of the rows."""
    enough: Whole = 100
    """Training rows with which a class needs no drafts, however small its share; 0: the share alone decides."""
    near_duplicate: Share = 0.7
    """Jaccard similarity from which a draft is a near-copy of a row or of another draft."""
    near_meaning: Share = 0.9
    """Cosine of frozen embeddings from which a draft says what a calibration or test row says."""
    classifier_floor: Share = 0.5
    """Lowest classifier probability of the draft's label where no teacher vote agrees with it."""
    classifier_veto: Share = 0.95
    """Classifier probability of another label from which a draft is refused, whatever the teacher votes."""
    temperatures: tuple[Annotated[float, Meta(ge=0, le=2)], ...] = ()
    """Taken in turn by the drafts of a class; empty: the teacher's own (Claude's newest models take no other)."""


class EncoderConfig(Section, frozen=True, kw_only=True):
    """The model that serves."""

    model: str = "packaged:all-MiniLM-L6-v2"
    """`packaged:NAME`, `hf:owner/name[@revision]`, a folder with config.json, weights and tokenizer.json, or a Python file
    beside the recipe whose `build(fetch, folder)` writes such a folder. Without a revision a run pins the commit that it
    first sees."""
    max_length: Annotated[int, Meta(ge=8)] = 128
    """Tokens at once; a longer text is cut, and its prediction says so, or it is read in windows."""
    truncate: Literal["right", "left", "both"] = "right"
    """Where a longer text loses tokens: its end, its beginning, or (both ends stay) its middle."""
    windows: Literal["none", "mean", "max"] = "none"
    """mean, max: nothing is cut; a longer text is read in windows, and their logits are pooled by label."""
    overlap: Count = 32
    """Tokens that a window shares with the one before it."""


class TrainConfig(Section, frozen=True, kw_only=True):
    """Fine-tuning."""

    labels: Literal["cleaned", "given"] = "cleaned"
    epochs: Count = 8
    batch_size: Count = 32
    learning_rate: Positive = 3e-4
    """For small encoders such as MiniLM; use 2e-5 for one of DeBERTa's size."""
    warmup: Share = 0.1
    weight_decay: Annotated[float, Meta(ge=0)] = 0.01
    validation: Annotated[float, Meta(gt=0, lt=0.5)] = 0.1
    """The share of train on which the epoch is chosen; at most 250 rows."""
    patience: Count = 8
    """Epochs clearly worse than the best on validation, after which training stops. Fewer than the epochs give away the
    end of a learning rate that falls to zero, where an encoder is usually best."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: Annotated[float, Meta(ge=0)] = 2.0
    """Exponent of the focal loss (Lin et al. 2017)."""
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced", "sqrt"] = "none"
    """Weights by inverse class frequency, or its square root, with mean 1 over the rows."""
    soft_labels: Share = 0.0
    """How much of the target is the consensus probabilities, the rest being the decided label."""
    row_weights: bool = True
    """Whether a row counts by its weight from `clean`."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast where the machine has it and a timed trial is faster."""
    checkpoint_steps: Whole = 0
    """Steps between checkpoints; 0: one an epoch."""
    accumulation_steps: Count = 1
    """Parts in which a batch is computed, one after the other: as many times less memory for activations."""
    gradient_checkpointing: bool = False
    """Whether the backward pass computes activations again instead of keeping them: less memory, about a third slower."""
    evidence: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    """The weight of a second head, which learns which words the teacher's reasons quote, beside the loss of the label;
    0.5 suits. Answers then have their evidence words. 0, which becomes unset: no such head."""

    @property
    def evidence_weight(self) -> float:
        """The weight of the second head's loss; 0 where there is none."""
        return self.evidence or 0.0

    def __post_init__(self) -> None:
        """Refuse a batch that does not come apart into equal parts."""
        if self.evidence == 0:  # one spelling, and the stamps of runs from before there was this key hold
            msgspec.structs.force_setattr(self, "evidence", UNSET)
        if self.batch_size % self.accumulation_steps:
            raise ValueError(
                f"accumulation_steps = {self.accumulation_steps}: expected a divisor of batch_size = {self.batch_size}"
            )


class ExportConfig(Section, frozen=True, kw_only=True):
    """The ONNX graph."""

    backend: Literal["auto", "lean", "torch", "optimum"] = "auto"
    """lean: our own graph of DeBERTa-v2 and v3. torch: torch's exporter. optimum: where that extra is installed.
    auto: lean where it knows the encoder, else torch."""
    opset: Annotated[int, Meta(ge=18)] = 20
    parity_rows: Count = 256
    tolerance: Positive = 1e-4
    """The largest absolute difference of a logit from the checkpoint's."""


class QuantizeConfig(Section, frozen=True, kw_only=True):
    """The precision that is served, and what it must show."""

    precision: Precision = "auto"
    """auto: the fastest that passes every gate; a named one must pass them, or the run stops. fp32 needs no gate."""
    margin: Positive = 0.005
    """How far accuracy and macro-F1 may fall below fp32's, on the same rows, in the worst case that `level` allows."""
    level: Annotated[float, Meta(gt=0.5, lt=1)] = 0.95
    agreement: Share = 0.98
    """The smallest share of rows decided as fp32 decides them."""
    neighbours: Positive = 1e-3
    """The most that a probability may move with the neighbours in a batch."""
    rows: Count = 3000
    """Calibration and then training rows on which the gates look."""
    range_rows: Count = 256
    """Training texts whose activations set the fixed scales."""

    def __post_init__(self) -> None:
        """Refuse a precision that is not in the table."""
        if self.precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision = {self.precision!r}: expected auto, {', '.join(PRECISIONS)}")


class CalibrateConfig(Section, frozen=True, kw_only=True):
    """Probabilities that mean what they say, and the point of escalation."""

    methods: tuple[str, ...] = ("temperature", "vector", "top_label")
    """Fitted and averaged, together with the encoder's own probabilities, with the weights of the lowest cross-validated
    NLL. There is also isotonic, which needs thousands of rows.
    multi_label: of none, temperature and vector (there Platt scaling a label) the simplest within one standard error."""
    folds: Annotated[int, Meta(ge=2)] = 5
    target: Annotated[float, Meta(gt=0, lt=1)] = 0.9
    """The accuracy promised for what the encoder keeps."""
    delta: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    """The probability that the promise is missed."""
    decoder_rows: Whole = 400
    """Calibration rows, the least confident first, that the decoder is asked about, so that its answers can be weighed
    with the encoder's; 0: none. Where their labels are not gold none is asked."""


class StudentConfig(Section, frozen=True, kw_only=True):
    """A small decoder fine-tuned on the teacher's reasons: `hybrid student`, or a run with decoder.model = "student"."""

    base: str = "local"
    """What is fine-tuned: `local` (the packaged SmolLM2), a .gguf path beside the recipe, or `hf:owner/repo/file.gguf`;
    a Llama in its form."""
    layout: Literal["direct", "pre", "post", "mixed", "two_pass", "sequential"] = "post"
    """In which order label and reason follow the text (`hybrid.llm.student.layouts`)."""
    traces: tuple[str, ...] = ()
    """Further files of reasons beside the recipe, with the columns of verify.imports: label, rationale, id or text."""
    rejection: bool = True
    """Whether only reasons train whose answer is the label that cleaning decided; else each trains with its own label."""
    per_row: Count = 4
    """The most reasons a row."""
    near_duplicate: Share = 0.8
    """Jaccard similarity from which a reason is a near-copy of another of the same row."""
    most_words: Count = 60
    """A reason of more words is refused, not cut: half a reason argues for nothing."""
    source_shares: dict[str, Share] = {}
    """The share of a teacher's traces that may train, by its name; of a teacher that is not named, all."""
    altered: str = ""
    """Reasons altered on purpose, such as "shuffled" or "label_removed+masked:0.3" (`hybrid.student.altered_reasons`), to
    see what a student learns from; empty: as they are."""
    reason_weight: Annotated[float, Meta(ge=0)] = 0.3
    """The weight of a row's mean loss over reason tokens beside that over label tokens."""
    reason_share: Share = 0.3
    """layout = "mixed": the share of the rows that train their reason."""
    epochs: Positive = 2.0
    """Passes over the rows; of "sequential" the first phase's, and its second has half as many."""
    tokens: Whole = 0
    """Train on so many tokens instead of for `epochs`; 0: by epochs."""
    batch_size: Count = 16
    learning_rate: Positive = 2e-4
    warmup: Share = 0.05
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    validation: Annotated[float, Meta(gt=0, lt=0.5)] = 0.1
    """The share of the rows on which training is watched; at most 250."""
    evaluations: Count = 2
    """How often a pass the held-out label likelihood is measured, and training saved."""
    patience: Count = 3
    """Evaluations without a better one after which training stops; the best is kept."""
    lora_rank: Whole = 0
    """Train low-rank adapters of this rank on all linear layers and merge them (needs the extra `student`); 0: all weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast where the machine has it and a timed trial is faster."""
    max_tokens: Annotated[int, Meta(ge=8)] = 256
    """Tokens of a text that are read, in training and when it answers; the rest of a longer one is cut."""
    chains: Count = 3
    """layout = "pre": reasons that are sampled for an answer, over which the label probabilities are averaged."""
    encoding: Literal["q8_0", "f16"] = "q8_0"
    """How the weights of the file are stored that answers."""


class BundleConfig(Section, frozen=True, kw_only=True):
    """What a run leaves for services."""

    portable: bool = False
    """Whether the bundle carries the fp32 graph beside a served one below it, with a calibration, threshold and golden texts
    of its own: it answers on machines that compute the served graph otherwise, and for engines that take fp32 alone."""


class EvaluateConfig(Section, frozen=True, kw_only=True):
    """The judgement on test rows."""

    bootstrap: Count = 2000
    """Resamples of an interval."""
    interval: Annotated[float, Meta(gt=0, lt=1)] = 0.95


class Recipe(Section, frozen=True, kw_only=True):
    """Everything a run depends on but the code and the data."""

    name: str
    description: str = ""
    labels: tuple[str, ...] = ()
    """The classes, in the order in which the report shows them; empty: those of the data. Results do not depend on the
    order: logits and probabilities are in sorted order, and a bundle names it."""
    task: Task = "single_label"
    """multi_label: a text has any number of labels, each with a probability and a threshold of its own."""
    seed: Whole = 0
    profile: str = ""
    """The name of the profile that was merged in; empty where the recipe has none."""
    data: DataConfig
    split: SplitConfig = SplitConfig()
    encoder: EncoderConfig = EncoderConfig()
    teacher: LLMConfig = LLMConfig()
    second: LLMConfig = LLMConfig()
    """The teacher that verify.more = "second" asks."""
    verify: VerifyConfig = VerifyConfig()
    clean: CleanConfig = CleanConfig()
    synthesize: SynthesizeConfig = SynthesizeConfig()
    train: TrainConfig = TrainConfig()
    export: ExportConfig = ExportConfig()
    quantize: QuantizeConfig = QuantizeConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    student: StudentConfig = StudentConfig()
    decoder: LLMConfig = LLMConfig()
    bundle: BundleConfig = BundleConfig()
    evaluate: EvaluateConfig = EvaluateConfig()


def recipe_hash(recipe: Recipe) -> str:
    """The SHA-256 of a recipe's settings."""
    return sha256_of(msgspec.to_builtins(recipe))
