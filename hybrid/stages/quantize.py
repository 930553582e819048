"""quantize: find the fastest precision that is shown to decide as well as fp32."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.config import QuantizeConfig, Recipe
from hybrid.encoders.served_precisions import Source, read_source, sensitivities, write_graph_at
from hybrid.errors import ExportError
from hybrid.evaluation.paired import accuracy_drop, macro_f1_drop
from hybrid.files.links import link_or_copy
from hybrid.label_sets import index_by_label, label_matrix
from hybrid.precisions import PRECISIONS, ladder
from hybrid.runtime.bundle import MODEL, TOKENIZER
from hybrid.runtime.calibration import sigmoid, softmax
from hybrid.runtime.encoder import Encoder, TextOutputs
from hybrid.runtime.text_encoder import TextLimits
from hybrid.stages.stage import DECISIONS, LABELS, ROWS, TRIALS, Reads, Stage, StageIO
from hybrid.types import FP32, Example, Gate, Precision, PrecisionTrial, Report, Task

TRIAL_GRAPH = "trial.onnx"
N_SINGLE_ROWS = 64
"""Rows that are also run alone, to see how far their neighbours in a batch move their probabilities."""
N_PROBE_ROWS = 48
"""Rows on which the sensitivity of each linear map is measured."""
N_DRAWS = 1000
"""Bootstrap draws of the bound on the drop of macro-F1."""
OnDone = Callable[[int, int], None]


class Quantized(msgspec.Struct, frozen=True, kw_only=True):
    """The precision that is served, every precision that was tried, and the figures of the stage's report."""

    precision: Precision
    trials: list[PrecisionTrial]
    report: dict[str, object]


class _Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What every precision is compared with: the rows, their labels, and the logits of the fp32 graph."""

    texts: list[str]
    gold: np.ndarray
    """Which row has which label, truth values [n, k]."""
    logits: np.ndarray
    """Of the fp32 graph, float32 [n, k]."""
    evidence: list[np.ndarray]
    """The fp32 graph's probability of each token of each row that it is evidence; empty without an evidence head."""
    ms_a_text: float
    task: Task
    config: QuantizeConfig
    reading: TextLimits
    seed: int


class _Timed(msgspec.Struct, frozen=True, kw_only=True):
    """A precision beside fp32, and its milliseconds a text."""

    trial: PrecisionTrial
    ms_a_text: float


def quantize(
    rows: Sequence[Example],
    labels: Sequence[str],
    config: QuantizeConfig,
    *,
    exported: Path,
    folder: Path,
    range_texts: Sequence[str],
    reading: TextLimits,
    seed: int,
    task: Task = "single_label",
    portable: bool = False,
    on_done: OnDone | None = None,
) -> Quantized:
    """Write `model.onnx` and `tokenizer.json` of the chosen precision into `folder`.

    `rows` are real rows whose `label` counts as the truth; both graphs answer all of them, so the
    comparison is paired. `range_texts` are training texts whose activations set the fixed scales. With
    `config.precision` "auto" the precisions of the table are tried from the fastest on until one passes every gate;
    where none does, fp32 is served. `portable` tries those alone that every processor computes alike.

    Raises:
        ExportError: the precision that the recipe names fails a gate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    link_or_copy(exported / TOKENIZER, folder / TOKENIZER)
    fp32 = Encoder(exported, n_labels=len(labels), reading=reading)
    baseline = _baseline(rows, labels, config, fp32, reading=reading, seed=seed, task=task, on_done=on_done)
    tried: list[_Timed] = []
    if config.precision != FP32:
        precisions = ladder(portable=portable) if config.precision == "auto" else [config.precision]
        source = read_source(exported / MODEL, fp32.feeds(range_texts))
        tried = _first_that_passes(source, precisions, folder, baseline)
    served = tried[-1].trial.precision if tried and tried[-1].trial.passed else FP32
    if served != FP32:
        (folder / TRIAL_GRAPH).replace(folder / MODEL)
    else:
        (folder / TRIAL_GRAPH).unlink(missing_ok=True)
        link_or_copy(exported / MODEL, folder / MODEL)
    times = {FP32: baseline.ms_a_text} | {timed.trial.precision: timed.ms_a_text for timed in tried}
    return Quantized(
        precision=served,
        trials=[timed.trial for timed in tried],
        report={
            "precision": served,
            "rows": len(rows),
            "bytes": (folder / MODEL).stat().st_size,
            "bytes_fp32": (exported / MODEL).stat().st_size,
            "ms_a_text": {name: round(value, 3) for name, value in times.items()},
            "margin": config.margin,
            "level": config.level,
        },
    )


def _first_that_passes(
    source: Source, precisions: Sequence[Precision], folder: Path, baseline: _Baseline
) -> list[_Timed]:
    """Try precisions up to the first that passes every gate, and leave its graph as the trial graph.

    Raises:
        ExportError: the precision that the recipe names fails a gate.
    """
    named = baseline.config.precision
    tried = []
    for precision in precisions:
        fp32_linears = _write_trial_graph(source, precision, folder, baseline)
        tried.append(_compare_with_fp32(precision, folder, fp32_linears, baseline))
        trial = tried[-1].trial
        if trial.passed:
            break
        if named != "auto":
            raise ExportError(f'quantize.precision = {precision!r}: {trial.reason}; set it to "auto" or "fp32"')
    return tried


def _baseline(
    rows: Sequence[Example],
    labels: Sequence[str],
    config: QuantizeConfig,
    fp32: Encoder,
    *,
    reading: TextLimits,
    seed: int,
    task: Task,
    on_done: OnDone | None,
) -> _Baseline:
    texts = [row.text for row in rows]
    start = time.perf_counter()
    outputs = fp32.run_with_evidence(fp32.encode(texts), on_done=on_done)
    seconds = time.perf_counter() - start
    return _Baseline(
        texts=texts,
        gold=_truth([row.label for row in rows], labels, task),
        logits=outputs.logits,
        evidence=_evidence(outputs),
        ms_a_text=1000 * seconds / len(rows),
        task=task,
        config=config,
        reading=reading,
        seed=seed,
    )


def _write_trial_graph(source: Source, precision: Precision, folder: Path, baseline: _Baseline) -> list[str]:
    """Write the trial graph at a precision; return the names of the linear maps that stay in fp32."""
    sensitive: Sequence[str] = ()
    if PRECISIONS[precision].spares_sensitive:
        texts, n_labels = baseline.texts[:N_PROBE_ROWS], baseline.gold.shape[1]

        def probe(path: Path) -> np.ndarray:
            return Encoder(path.parent, n_labels=n_labels, reading=baseline.reading, model=path.name).logits(texts)

        sensitive = list(sensitivities(source, probe, folder / TRIAL_GRAPH))
    return write_graph_at(source, precision, folder / TRIAL_GRAPH, sensitive=sensitive)


def _compare_with_fp32(precision: Precision, folder: Path, fp32_linears: Sequence[str], baseline: _Baseline) -> _Timed:
    """Compare the trial graph with fp32 on every row, apply the gates, and time it."""
    config, task = baseline.config, baseline.task
    encoder = Encoder(folder, n_labels=baseline.gold.shape[1], reading=baseline.reading, model=TRIAL_GRAPH)
    start = time.perf_counter()
    outputs = encoder.run_with_evidence(encoder.encode(baseline.texts))
    logits, evidence = outputs.logits, _evidence(outputs)
    ms_a_text = 1000 * (time.perf_counter() - start) / len(baseline.texts)
    before, after = _decided(baseline.logits, task), _decided(logits, task)
    accuracy = accuracy_drop(baseline.gold, before, after, level=config.level)
    macro_f1 = macro_f1_drop(baseline.gold, before, after, level=config.level, n=N_DRAWS, seed=baseline.seed)
    probs = _probs(logits, task)
    single_rows = range(0, len(logits), max(1, len(logits) // N_SINGLE_ROWS))
    alone = [encoder.run_with_evidence(encoder.encode([baseline.texts[i]])) for i in single_rows]
    neighbour_shift = np.abs(
        _probs(np.concatenate([single.logits for single in alone]), task) - probs[list(single_rows)]
    ).max()
    if evidence:
        of_tokens = [
            np.abs(_evidence(single)[0] - evidence[i]).max() for single, i in zip(alone, single_rows, strict=True)
        ]
        neighbour_shift = max(neighbour_shift, *of_tokens)
    trial = PrecisionTrial(
        precision=precision,
        bytes=(folder / TRIAL_GRAPH).stat().st_size,
        fp32_linears=tuple(fp32_linears),
        agreement=round(float((before == after).all(axis=1).mean()), 6),
        accuracy_drop=round(accuracy.value, 6),
        accuracy_drop_upper=round(accuracy.upper, 6),
        macro_f1_drop=round(macro_f1.value, 6),
        macro_f1_drop_upper=round(macro_f1.upper, 6),
        probability_shift=round(float(np.abs(probs - _probs(baseline.logits, task)).mean()), 6),
        neighbour_shift=round(float(neighbour_shift), 6),
        evidence_shift=_mean_shift(evidence, baseline.evidence) if evidence else msgspec.UNSET,
        passed=False,
        reason="",
    )
    failed = _failed_gate(trial, config)
    if failed is None:
        trial = msgspec.structs.replace(trial, passed=True, reason="every gate passed")
    else:
        trial = msgspec.structs.replace(trial, failed_gate=failed[0], reason=failed[1])
    return _Timed(trial=trial, ms_a_text=ms_a_text)


def _failed_gate(trial: PrecisionTrial, config: QuantizeConfig) -> tuple[Gate, str] | None:
    """Return the first gate that a precision fails, with the reason in words; None where it passes all."""
    if trial.neighbour_shift > config.neighbours:
        return (
            "neighbours",
            f"neighbours in a batch move a probability by {trial.neighbour_shift:.1e}, "
            f"expected at most {config.neighbours:.0e}",
        )
    if trial.agreement < config.agreement:
        return (
            "agreement",
            f"it decides {trial.agreement:.1%} of the rows as fp32 does, expected at least {config.agreement:.1%}",
        )
    drops: tuple[tuple[Gate, str, float], ...] = (
        ("accuracy", "accuracy", trial.accuracy_drop_upper),
        ("macro_f1", "macro-F1", trial.macro_f1_drop_upper),
    )
    for gate, name, upper in drops:
        if upper > config.margin:
            return gate, (
                f"{name} may fall by up to {100 * upper:.2f} points (at {config.level:.0%}), "
                f"expected at most {100 * config.margin:g}"
            )
    return None


def _truth(joined: Sequence[str], labels: Sequence[str], task: Task) -> np.ndarray:
    """Return which row has which label, truth values [n, k]."""
    if task == "multi_label":
        return label_matrix(joined, labels)
    position = index_by_label(labels)
    return np.asarray(np.eye(len(labels), dtype=bool)[[position[label] for label in joined]])


def _decided(logits: np.ndarray, task: Task) -> np.ndarray:
    """Return the labels that uncalibrated logits decide, truth values [n, k]."""
    if task == "multi_label":
        return np.asarray(logits > 0)
    return np.asarray(np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None])


def _probs(logits: np.ndarray, task: Task) -> np.ndarray:
    """Return uncalibrated probabilities [n, k]: calibration is fitted on the graph that is chosen."""
    if task == "multi_label":
        return np.asarray(1 / (1 + np.exp(-logits)))
    return softmax(logits.astype(np.float64))


def _evidence(outputs: TextOutputs) -> list[np.ndarray]:
    """Return for each text the probability of each token that it is evidence; empty where there is no evidence head."""
    return [sigmoid(np.concatenate(windows).astype(np.float64)) for windows in outputs.token_logits]


def _mean_shift(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    return round(float(np.abs(np.concatenate(ours) - np.concatenate(theirs)).mean()), 6)


def range_texts(io: StageIO) -> list[str]:
    """Training texts, evenly spread over the table, whose activations set fixed scales."""
    texts, n_texts = [row.text for row in io.rows("train")], io.recipe.quantize.range_rows
    return texts[:: max(1, len(texts) // n_texts)][:n_texts]


def _gate_rows(io: StageIO) -> list[Example]:
    """The rows on which a faster graph must decide as well: calibration rows, then training rows as decided."""
    decided = {decision.id: decision.label for decision in io.read(DECISIONS)}
    train = [msgspec.structs.replace(row, label=decided[row.id]) for row in io.rows("train")]
    return [*io.rows("calibration"), *train][: io.recipe.quantize.rows]


def _reads(_: Recipe) -> Reads:
    return Reads(
        settings=("quantize", "encoder", "task", "seed", "bundle"),
        tables=(ROWS, DECISIONS),
        files=("export/model.onnx", "export/tokenizer.json"),
        reports=(LABELS,),
    )


def _work(io: StageIO) -> Report:
    chosen = quantize(
        _gate_rows(io),
        io.labels,
        io.recipe.quantize,
        exported=io.input_folder("export"),
        folder=io.output("quantize"),
        range_texts=range_texts(io),
        reading=io.limits,
        seed=io.recipe.seed,
        task=io.recipe.task,
        portable=io.recipe.bundle.portable,
        on_done=io.advance,
    )
    io.write(TRIALS, chosen.trials)
    return chosen.report


QUANTIZE = Stage(
    name="quantize",
    purpose="fp32 graph -> the fastest graph that decides as well",
    version=1,
    reads=_reads,
    writes=("quantize/model.onnx", "quantize/tokenizer.json", TRIALS.path),
    code=("hybrid.encoders", "hybrid.evaluation", "hybrid.label_sets", "hybrid.precisions", "hybrid.runtime"),
    work=_work,
    summary_line=lambda r: f"{r['precision']}, {r['bytes'] / 1e6:.0f} MB ({r['bytes_fp32'] / 1e6:.0f} in fp32)",
)
