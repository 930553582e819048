"""calibrate: fit probabilities to the logits of the exported model, and choose the threshold of escalation."""

from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from hybrid.calibration.calibrators import cross_fit
from hybrid.calibration.label_calibrators import cross_fit_sets
from hybrid.calibration.reference import counts_by_label, curve, histogram
from hybrid.calibration.threshold import choose_threshold, describe_threshold, naive_threshold
from hybrid.config import CalibrateConfig, Recipe, recipe_hash
from hybrid.errors import DataError
from hybrid.evaluation import metrics, set_metrics
from hybrid.label_sets import index_by_label, join_labels, label_matrix, rarest_labels
from hybrid.runtime.calibration import Calibration, Decided, Threshold, apply, decide
from hybrid.runtime.calibration_reference import Reference
from hybrid.stages.asking import decoder_votes, may_weigh_decoder
from hybrid.stages.stage import LABELS, ROWS, SCORED, Reads, Stage, StageIO
from hybrid.types import Example, Report, Scored, Task

if TYPE_CHECKING:
    from hybrid.calibration.reliability import Measured
    from hybrid.runtime.combination import Reliability

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

BINS = 15
NOT_JUDGED_BY_GOLD = (
    "Some calibration rows have no gold label: probabilities, accuracies and the guarantee of the threshold are about "
    "agreement with the labels as given. How often those are right is unknown without gold labels."
)


class Calibrated(msgspec.Struct, frozen=True, kw_only=True):
    """The calibration, threshold and reference of the bundle, the rows they were fitted on, and the stage's report."""

    calibration: Calibration
    threshold: Threshold
    reference: Reference
    scored: list[Scored]
    held_out: Floats
    """Probabilities [n, k], those of each row from a fit that did not see it."""
    report: dict[str, object]


class _Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The calibration that was chosen, and its out-of-sample results on the rows."""

    calibration: Calibration
    probs: Floats
    confidence: Floats
    correct: npt.NDArray[np.bool_]
    cv_nll: dict[str, float]
    before: dict[str, float]
    after: dict[str, float]
    null: metrics.NullEce


def calibrate(
    rows: Sequence[Example],
    labels: Sequence[str],
    logits: npt.NDArray[np.float32] | Floats,
    config: CalibrateConfig,
    *,
    seed: int,
    judged_by_gold: bool,
    task: Task = "single_label",
    tokens: Sequence[int] = (),
) -> Calibrated:
    """Fit calibration and threshold on `rows` and the exported model's `logits` [n, n_labels].

    The `label` of a row is taken as the truth; `judged_by_gold` is True where all of them are gold. The figures called
    `after`, and the test of the threshold, use cross-fitted probabilities: those of a row come from a fit that did not
    see it. A row with several labels is right where its whole set of labels is, and its confidence is the probability
    of that. `tokens` is the number of tokens that the encoder reads of each row; without it the reference has no lengths.

    Raises:
        DataError: logits and rows do not match, a label is not one of `labels`, or there are fewer rows than folds.
        BundleError: a logit is not finite.
    """
    _check(rows, labels, logits, config)
    fit = (_fit_single if task == "single_label" else _fit_sets)(rows, labels, logits, config, seed)
    threshold = choose_threshold(fit.confidence, fit.correct, target=config.target, delta=config.delta)
    naive = naive_threshold(fit.confidence, fit.correct, target=config.target, delta=config.delta)
    report: dict[str, object] = {
        "n_rows": len(rows),
        "judged_by_gold": judged_by_gold,
        "trusted": judged_by_gold,  # its name in version 0.1.0
        "threshold": msgspec.to_builtins(threshold),
        "naive_threshold": msgspec.to_builtins(naive),
        "sentences": [describe_threshold(threshold), *([] if judged_by_gold else [NOT_JUDGED_BY_GOLD])],
    }
    return Calibrated(
        calibration=fit.calibration,
        threshold=threshold,
        reference=_reference(fit, threshold, logits, labels, judged_by_gold=judged_by_gold, tokens=tokens),
        scored=_scored(rows, logits, fit.calibration),
        held_out=fit.probs,
        report=_figures_of_fit(fit) | report,
    )


def _reference(
    fit: _Fit,
    threshold: Threshold,
    logits: npt.NDArray[np.float32] | Floats,
    labels: Sequence[str],
    *,
    judged_by_gold: bool,
    tokens: Sequence[int],
) -> Reference:
    """Describe the rows as the bundle will answer them; only the curve is out of sample, because it judges."""
    served = decide(fit.calibration, apply(fit.calibration, logits))
    predicted = [join_labels(sorted(compress(labels, chosen))) for chosen in served.chosen.tolist()]
    return Reference(
        n_rows=len(predicted),
        trusted=judged_by_gold,
        confidence=histogram(served.confidence),
        labels=counts_by_label(predicted),
        tokens=histogram(tokens) if len(tokens) else None,
        escalated=int((served.confidence < threshold.value).sum()),
        delta=threshold.delta,
        curve=curve(fit.confidence, fit.correct, threshold),
    )


def _figures_of_fit(fit: _Fit) -> dict[str, object]:
    method = fit.calibration.method
    return {
        "method": method,
        "temperature": fit.calibration.temperature if method == "temperature" else None,
        "cv_nll": fit.cv_nll,
        "before": fit.before,
        "after": fit.after,
        "ece_null_mean": fit.null.mean,
        "ece_null95": fit.null.p95,
    }


def _fit_single(
    rows: Sequence[Example],
    labels: Sequence[str],
    logits: npt.NDArray[np.float32] | Floats,
    config: CalibrateConfig,
    seed: int,
) -> _Fit:
    gold = _gold_indices(rows, labels)
    before = apply(Calibration(), logits)
    fitted = cross_fit(logits, gold, config.methods, folds=config.folds, seed=seed)
    return _Fit(
        calibration=fitted.calibration,
        probs=fitted.probs,
        confidence=fitted.probs.max(axis=1),
        correct=fitted.probs.argmax(axis=1) == gold,
        cv_nll=fitted.cv_nll,
        before=_figures(before, gold),
        after=_figures(fitted.probs, gold),
        null=metrics.ece_null(fitted.probs, seed=seed, bins=BINS),
    )


def _fit_sets(
    rows: Sequence[Example],
    labels: Sequence[str],
    logits: npt.NDArray[np.float32] | Floats,
    config: CalibrateConfig,
    seed: int,
) -> _Fit:
    joined = [row.label for row in rows]
    gold = label_matrix(joined, labels)
    classes = np.unique(rarest_labels(joined), return_inverse=True)[1]
    plain = Calibration(activation="sigmoid")
    before = apply(plain, logits)
    fitted = cross_fit_sets(logits, gold, classes, config.methods, folds=config.folds, seed=seed)
    return _Fit(
        calibration=fitted.calibration,
        probs=fitted.probs,
        confidence=fitted.decided.confidence,
        correct=(fitted.decided.chosen == gold).all(axis=1),
        cv_nll=fitted.cv_nll,
        before=_figures_of_sets(before, decide(plain, before), gold),
        after=_figures_of_sets(fitted.probs, fitted.decided, gold),
        null=metrics.ece_null(fitted.decided.confidence[:, None], seed=seed, bins=BINS),
    )


def _scored(
    rows: Sequence[Example], logits: npt.NDArray[np.float32] | Floats, calibration: Calibration
) -> list[Scored]:
    probs = apply(calibration, logits)
    return [
        Scored(id=row.id, label=row.label, logits=tuple(row_logits), probs=tuple(row_probs))
        for row, row_logits, row_probs in zip(rows, np.asarray(logits).tolist(), probs.tolist(), strict=True)
    ]


def _figures(probs: Floats, gold: Indices) -> dict[str, float]:
    return {
        "ece": metrics.ece(probs, gold, BINS),
        "brier": metrics.brier(probs, gold),
        "nll": metrics.nll(probs, gold),
        "accuracy": metrics.accuracy(gold, probs.argmax(axis=1)),
    }


def _figures_of_sets(probs: Floats, decided: Decided, gold: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the same figures for whole sets: ECE and accuracy of the set, Brier and NLL summed over the labels."""
    correct = (decided.chosen == gold).all(axis=1)
    return {
        "ece": set_metrics.ece_of_confidence(decided.confidence, correct, BINS),
        "brier": set_metrics.brier_of_sets(probs, gold),
        "nll": float(set_metrics.nll_of_sets_by_row(probs, gold).mean()),
        "accuracy": float(correct.mean()),
    }


def _check(
    rows: Sequence[Example], labels: Sequence[str], logits: npt.NDArray[np.float32] | Floats, config: CalibrateConfig
) -> None:
    if np.shape(logits) != (len(rows), len(labels)):
        raise DataError(
            f"calibrate: logits of shape {np.shape(logits)} for {len(rows)} rows and {len(labels)} labels: "
            "expected one logit for each row and label; run again from export"
        )
    if len(rows) < config.folds:
        raise DataError(
            f"calibrate: {len(rows)} calibration rows for calibrate.folds = {config.folds}: expected at least one row a "
            "fold; raise split.calibration or lower calibrate.folds"
        )


def _gold_indices(rows: Sequence[Example], labels: Sequence[str]) -> Indices:
    position = index_by_label(labels)
    unknown = next((row for row in rows if row.label not in position), None)
    if unknown is not None:
        raise DataError(
            f"calibrate: row {unknown.id!r} has the label {unknown.label!r}, expected one of {', '.join(labels)}; "
            "correct the row or add the label to the recipe"
        )
    return np.array([position[row.label] for row in rows], dtype=np.int64)


def _reads(recipe: Recipe) -> Reads:
    reads = Reads(
        settings=(
            "calibrate",
            "encoder",
            "decoder.model",
            "decoder.base_url",
            "decoder.policy",
            "name",
            "task",
            "seed",
        ),
        tables=(ROWS,),
        files=("quantize/model.onnx", "quantize/tokenizer.json", "train/checkpoint/config.json"),
        reports=(LABELS, "split.judged_by_gold", "quantize.precision"),
        recipe_files=("decoder.policy",),
    )
    return reads.with_(Reads(llms=("decoder",), prompts=("decide",))) if may_weigh_decoder(recipe) else reads


def _work(io: StageIO) -> Report:
    from hybrid.runtime.encoder import Encoder

    rows, judged_by_gold = io.rows("calibration"), bool(io.report_field("split.judged_by_gold"))
    encoder = Encoder(io.input_folder("quantize"), n_labels=len(io.labels), reading=io.limits)
    encoded = encoder.encode([row.text for row in rows])
    logits = encoder.run(encoded, on_done=io.advance)
    calibrated = calibrate(
        rows,
        io.labels,
        logits,
        io.recipe.calibrate,
        seed=io.recipe.seed,
        judged_by_gold=judged_by_gold,
        task=io.recipe.task,
        tokens=[len(tokens) for tokens in encoded],
    )
    weighs = judged_by_gold and may_weigh_decoder(io.recipe)
    decoder = _weigh_decoder(io, rows, calibrated.held_out) if weighs else None
    io.write(SCORED, calibrated.scored)
    _write_bundle(io, calibrated, decoder.reliability if decoder else None)
    report = decoder.report if decoder else {}
    return calibrated.report | {"decoder": report or None, "complete": report.get("complete", True)}


def _write_bundle(io: StageIO, calibrated: Calibrated, decoder: "Reliability | None") -> None:
    from hybrid.encoders.checkpoint import vocabulary_of
    from hybrid.runtime.bundle_writer import write_bundle
    from hybrid.runtime.integrity import golden_texts

    write_bundle(
        io.output("bundle"),
        exported=io.input_folder("quantize"),
        name=io.recipe.name,
        recipe_hash=recipe_hash(io.recipe_record),
        encoder=io.pinned(io.recipe.encoder.model),
        labels=io.labels,
        task=io.recipe.task,
        reading=io.limits,
        calibration=calibrated.calibration,
        threshold=calibrated.threshold,
        policy=io.policy("decoder"),
        vocabulary=vocabulary_of(io.input_folder("train/checkpoint")),
        golden_texts=golden_texts([row.text for row in io.rows("train")]),
        precision=io.report_field("quantize.precision"),
        reference=calibrated.reference,
        decoder=decoder,
    )


def _weigh_decoder(io: StageIO, rows: Sequence[Example], probs: Floats) -> "Measured":
    """How far the decoder can be believed on the calibration rows of which the encoder is least sure."""
    from hybrid.calibration.reliability import Measured, measure_reliability

    config = io.recipe.calibrate
    order = probs.max(axis=1).argsort(kind="stable")[: config.decoder_rows]
    answers = decoder_votes(io, [rows[i] for i in order])
    gold = np.array([io.labels.index(rows[i].label) for i in order])
    measured = measure_reliability(
        probs[order], gold, answers.votes, io.labels, folds=config.folds, seed=io.recipe.seed
    )
    return Measured(reliability=measured.reliability, report=answers.report | measured.report)


def _summary_line(report: Report) -> str:
    threshold = report["threshold"]
    escalation = (
        f"threshold {threshold['value']:.3f} keeps {threshold['kept']:.0%}"
        if threshold["met"]
        else f"{threshold['n_rows']} rows do not support {threshold['target']:.0%}: everything escalates"
    )
    return f"{report['method']}, {escalation}"


CALIBRATE = Stage(
    name="calibrate",
    purpose="calibration rows -> probabilities and threshold of what ships, and the bundle",
    version=5,
    reads=_reads,
    writes=(SCORED.path, "bundle/bundle.json", "bundle/model.onnx", "bundle/tokenizer.json"),
    code=(
        "hybrid.data.folds",
        "hybrid.calibration",
        "hybrid.encoders",
        "hybrid.evaluation",
        "hybrid.label_sets",
        "hybrid.llm",
        "hybrid.runtime",
        "hybrid.stages.asking",
        "hybrid.teacher",
    ),
    work=_work,
    summary_line=_summary_line,
)
