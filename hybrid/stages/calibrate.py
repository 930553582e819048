"""calibrate: fit probabilities to the logits of the exported model, and choose the threshold of escalation."""

import tempfile
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from hybrid.calibration.estimated_labels import (
    Basis,
    EstimatedLabels,
    confusion_of,
    describe_estimate,
    estimate_labels,
    gold_labels,
)
from hybrid.calibration.fit import Fit, fit_sets, fit_single
from hybrid.calibration.reference import counts_by_label, curve, histogram, promises
from hybrid.calibration.threshold import choose_threshold, describe_threshold, naive_threshold
from hybrid.config import CalibrateConfig, Recipe, recipe_hash
from hybrid.errors import DataError
from hybrid.label_sets import join_labels, label_matrix
from hybrid.runtime.bundle import FALLBACK, MANIFEST, MODEL, TOKENIZER
from hybrid.runtime.calibration import Calibration, Threshold, apply, decide
from hybrid.runtime.calibration_reference import Reference
from hybrid.stages.asking import decoder_votes, may_weigh_decoder
from hybrid.stages.stage import DECISIONS, GOLD, LABELS, ROWS, SCORED, VOTES, Reads, Stage, StageIO
from hybrid.types import FP32, Example, Report, Scored, Task

if TYPE_CHECKING:
    from hybrid.calibration.reliability import Measured
    from hybrid.teacher.ask import AskedVotes

Floats = npt.NDArray[np.float64]

MIN_VOTED_SHARE = 0.5
"""Cleaning has measured the noise of the training labels where at least this share of the rows has a vote."""


class Calibrated(msgspec.Struct, frozen=True, kw_only=True):
    """The calibration, threshold and reference of the bundle, the rows they were fitted on, and the stage's report."""

    calibration: Calibration
    threshold: Threshold
    reference: Reference
    scored: list[Scored]
    held_out: Floats
    """Probabilities [n, k], those of each row from a fit that did not see it."""
    report: dict[str, object]


def calibrate(
    rows: Sequence[Example],
    labels: Sequence[str],
    logits: npt.NDArray[np.float32] | Floats,
    config: CalibrateConfig,
    *,
    seed: int,
    estimated: EstimatedLabels | None = None,
    task: Task = "single_label",
    tokens: Sequence[int] = (),
) -> Calibrated:
    """Fit calibration and threshold on `rows` and the exported model's `logits` [n, n_labels].

    `estimated` has what is known about the true labels; without it the `label` of each row is the truth. Where nothing is
    known but labels as given, the probabilities stay as they are. The figures called `after`, and the test of the
    threshold, use cross-fitted probabilities: those of a row come from a fit that did not see it. A row with several
    labels is right where its whole set of labels is, and its confidence is the probability of that. `tokens` is the
    number of tokens that the encoder reads of each row; without it the reference has no lengths.

    Raises:
        DataError: logits and rows do not match, a label is not one of `labels`, or there are fewer rows than folds.
        BundleError: a logit is not finite.
    """
    _check(rows, labels, logits, config, task)
    if estimated is None:
        estimated = known_labels(rows, labels, task)
    fit = (
        fit_single(estimated, logits, config, seed=seed)
        if task == "single_label"
        else fit_sets(rows, estimated, logits, config, seed=seed)
    )
    judged_by_gold = estimated.basis == "gold"
    threshold = choose_threshold(fit.confidence, fit.correct, target=config.target, delta=config.delta)
    naive = naive_threshold(fit.confidence, fit.correct, target=config.target, delta=config.delta)
    report: dict[str, object] = {
        "n_rows": len(rows),
        "judged_by_gold": judged_by_gold,
        "trusted": judged_by_gold,  # its name in version 0.1.0
        "threshold": msgspec.to_builtins(threshold),
        "naive_threshold": msgspec.to_builtins(naive),
        "labels": {
            "basis": estimated.basis,
            "without_gold": estimated.n_without_gold,
            "labels_per_row": estimated.labels_per_row,
            "right": estimated.right,
        },
        "sentences": [s for s in (describe_threshold(threshold), describe_estimate(estimated, len(rows))) if s],
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
    fit: Fit,
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
        promises=promises(fit.confidence, fit.correct, target=threshold.target, delta=threshold.delta),
    )


def _figures_of_fit(fit: Fit) -> dict[str, object]:
    method = fit.calibration.method
    return {
        "method": method,
        "temperature": fit.calibration.temperature if method == "temperature" else None,
        "cv_nll": fit.cv_nll,
        "weights": fit.weights,
        "before": fit.before,
        "after": fit.after,
        "ece_null_mean": fit.null.mean,
        "ece_null95": fit.null.p95,
    }


def _scored(
    rows: Sequence[Example], logits: npt.NDArray[np.float32] | Floats, calibration: Calibration
) -> list[Scored]:
    probs = apply(calibration, logits)
    return [
        Scored(id=row.id, label=row.label, logits=tuple(row_logits), probs=tuple(row_probs))
        for row, row_logits, row_probs in zip(rows, np.asarray(logits).tolist(), probs.tolist(), strict=True)
    ]


def _check(
    rows: Sequence[Example],
    labels: Sequence[str],
    logits: npt.NDArray[np.float32] | Floats,
    config: CalibrateConfig,
    task: Task,
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
    if task == "single_label":
        _check_labels(rows, labels)


def known_labels(
    rows: Sequence[Example], labels: Sequence[str], task: Task, *, n_without_gold: int = 0
) -> EstimatedLabels:
    """Take the rows' labels as they stand: for the truth, or where some have no gold for labels of unknown quality."""
    if task == "single_label":
        return gold_labels(rows, labels)
    matrix = label_matrix([row.label for row in rows], labels).astype(np.float64)
    basis: Basis = "given" if n_without_gold else "gold"
    return EstimatedLabels(targets=matrix, basis=basis, n_without_gold=n_without_gold)


def _check_labels(rows: Sequence[Example], labels: Sequence[str]) -> None:
    unknown = next((row for row in rows if row.label not in labels), None)
    if unknown is not None:
        raise DataError(
            f"calibrate: row {unknown.id!r} has the label {unknown.label!r}, expected one of {', '.join(labels)}; "
            "correct the row or add the label to the recipe"
        )


def _reads(recipe: Recipe) -> Reads:
    reads = Reads(
        settings=(
            "calibrate",
            "encoder",
            "decoder.model",
            "decoder.base_url",
            "decoder.policy",
            "verify.imports",
            "name",
            "task",
            "seed",
            "bundle",
        ),
        tables=(ROWS, GOLD, VOTES, DECISIONS),
        files=("quantize/model.onnx", "quantize/tokenizer.json", "train/checkpoint/config.json"),
        reports=(LABELS, "split.judged_by_gold", "clean.method_id", "clean.ignored_sources", "quantize.precision"),
        recipe_files=("decoder.policy", "verify.imports"),
    )
    if recipe.bundle.portable:
        reads = reads.with_(Reads(files=("export/model.onnx", "export/tokenizer.json")))
    return reads.with_(Reads(llms=("decoder",), prompts=("decide",))) if may_weigh_decoder(recipe) else reads


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The decoder's votes on calibration rows."""

    indices: npt.NDArray[np.int64]
    """The rows that it was asked about, by their place among the calibration rows."""
    answers: "AskedVotes"


def _work(io: StageIO) -> Report:
    rows, judged_by_gold = io.rows("calibration"), bool(io.report_field("split.judged_by_gold"))
    served = _calibrated(io, rows, "quantize")
    weighs = judged_by_gold and may_weigh_decoder(io.recipe)
    asked = _ask_decoder(io, rows, served.held_out) if weighs else None
    decoder = _weigh_decoder(io, rows, served.held_out, asked)
    io.write(SCORED, served.scored)
    report = served.report
    if io.recipe.bundle.portable and io.report_field("quantize.precision") != FP32:
        fp32 = _calibrated(io, rows, "export")
        # The same votes: the decoder is not asked again for the sake of another graph.
        _write_portable(io, served, decoder, fp32, _weigh_decoder(io, rows, fp32.held_out, asked))
        report |= {"fallback": _figures_of_fallback(io, fp32)}
    else:
        _write_bundle(io, io.output("bundle"), "quantize", served, decoder)
    figures = decoder.report if decoder else {}
    return report | {"decoder": figures or None, "complete": figures.get("complete", True)}


def _calibrated(io: StageIO, rows: Sequence[Example], graph: str) -> Calibrated:
    """Calibrate the graph in a folder of the run: `quantize`, which is served, or `export`, which is in fp32."""
    from hybrid.runtime.encoder import Encoder

    encoder = Encoder(io.input_folder(graph), n_labels=len(io.labels), reading=io.limits)
    encoded = encoder.encode([row.text for row in rows])
    logits = encoder.run(encoded, on_done=io.advance)
    return calibrate(
        rows,
        io.labels,
        logits,
        io.recipe.calibrate,
        seed=io.recipe.seed,
        estimated=_estimated_labels(io, rows, logits),
        task=io.recipe.task,
        tokens=[len(tokens) for tokens in encoded],
    )


def _estimated_labels(io: StageIO, rows: Sequence[Example], logits: npt.NDArray[np.float32]) -> EstimatedLabels:
    """What is known about the true labels of the calibration rows: gold, votes on them, or the noise of the training rows."""
    from hybrid.teacher.imported_votes import read_votes

    with_gold = {row.id for row in io.read(GOLD)}
    n_without_gold = sum(row.id not in with_gold for row in rows)
    if io.recipe.task == "multi_label" or not n_without_gold:
        return known_labels(rows, io.labels, io.recipe.task, n_without_gold=n_without_gold)
    votes = read_votes(io.recipe.verify.imports, io.recipe_dir, io.rows(), io.labels, part="calibration")
    return estimate_labels(
        rows,
        io.labels,
        np.asarray(logits, dtype=np.float64),
        with_gold=with_gold,
        votes=votes,
        confusion=confusion_of(io.read(DECISIONS), io.labels) if _cleaning_measured_noise(io) else None,
    )


def _cleaning_measured_noise(io: StageIO) -> bool:
    """Whether cleaning could see how often the labels are wrong: it had trusted rows or a second opinion on most rows."""
    method = io.report_field("clean.method_id")
    if method != "consensus":
        return bool(method == "repair")
    rows, ignored = io.rows("train"), set(io.report_field("clean.ignored_sources"))
    voted = {vote.id for vote in io.read(VOTES) if vote.status == "ok" and vote.source not in ignored}
    several = sum(row.id in voted or len(row.annotations) > 1 for row in rows)
    return several >= MIN_VOTED_SHARE * len(rows)


def _write_bundle(io: StageIO, folder: Path, graph: str, calibrated: Calibrated, decoder: "Measured | None") -> None:
    """Write the bundle of the graph `quantize` or `export`."""
    from hybrid.encoders.checkpoint import vocabulary_of
    from hybrid.runtime.bundle_writer import write_bundle
    from hybrid.runtime.integrity import golden_texts

    write_bundle(
        folder,
        exported=io.input_folder(graph),
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
        precision=FP32 if graph == "export" else io.report_field("quantize.precision"),
        reference=calibrated.reference,
        decoder=decoder.reliability if decoder else None,
    )


def _write_portable(
    io: StageIO, served: Calibrated, decoder: "Measured | None", fp32: Calibrated, decoder_fp32: "Measured | None"
) -> None:
    """Write a bundle with the served graph and the fp32 graph, each with a calibration of its own."""
    from hybrid.runtime.bundle_writer import write_portable

    # On the disk of the run, so that its large files can be linked.
    with tempfile.TemporaryDirectory(dir=io.scratch(), prefix=".portable-") as scratch:
        _write_bundle(io, Path(scratch) / "served", "quantize", served, decoder)
        _write_bundle(io, Path(scratch) / "fp32", "export", fp32, decoder_fp32)
        write_portable(io.output("bundle"), served=Path(scratch) / "served", fp32=Path(scratch) / "fp32")


def _figures_of_fallback(io: StageIO, fp32: Calibrated) -> Report:
    return {
        "precision": FP32,
        "bytes": (io.input_folder("export") / MODEL).stat().st_size,
        **{name: fp32.report[name] for name in ("method", "threshold")},
    }


def _ask_decoder(io: StageIO, rows: Sequence[Example], probs: Floats) -> _Asked:
    """Ask the decoder about the calibration rows of which the encoder is least sure."""
    order = probs.max(axis=1).argsort(kind="stable")[: io.recipe.calibrate.decoder_rows]
    return _Asked(indices=order, answers=decoder_votes(io, [rows[i] for i in order]))


def _weigh_decoder(io: StageIO, rows: Sequence[Example], probs: Floats, asked: _Asked | None) -> "Measured | None":
    """How far the decoder can be believed beside the encoder's probabilities; None where it was not asked."""
    from hybrid.calibration.reliability import Measured, measure_reliability

    if asked is None:
        return None
    order, answers, config = asked.indices, asked.answers, io.recipe.calibrate
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
        + (f"; about {threshold['rows_needed']:,} rows would" if threshold["rows_needed"] else "")
    )
    return f"{report['method']}, {escalation}"


CALIBRATE = Stage(
    name="calibrate",
    purpose="calibration rows -> probabilities and threshold of what ships, and the bundle",
    version=5,
    reads=_reads,
    writes=(SCORED.path, "bundle/bundle.json", "bundle/model.onnx", "bundle/tokenizer.json"),
    may_write=tuple(f"bundle/{FALLBACK}/{name}" for name in (MANIFEST, MODEL, TOKENIZER)),
    code=(
        "hybrid.calibration",
        "hybrid.data",
        "hybrid.encoders",
        "hybrid.evaluation",
        "hybrid.label_sets",
        "hybrid.labels",
        "hybrid.llm",
        "hybrid.runtime",
        "hybrid.stages.asking",
        "hybrid.teacher",
    ),
    work=_work,
    summary_line=_summary_line,
)
