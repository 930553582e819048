"""quantize: the fastest precision whose decisions are shown to be as good as fp32's."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.config import QuantizeConfig
from hybrid.encoders.served_precisions import (
    PRECISIONS,
    WITH_SENSITIVITY,
    Source,
    read_source,
    sensitivities,
    write_graph_at,
)
from hybrid.errors import ExportError
from hybrid.evaluation.paired import accuracy_drop, macro_f1_drop
from hybrid.files.links import link_or_copy
from hybrid.label_sets import label_matrix
from hybrid.runtime.bundle import MODEL, TOKENIZER
from hybrid.runtime.calibration import softmax
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import Example, Precision, PrecisionTrial, Task

TRIAL = "trial.onnx"
ALONE = 64
"""Rows that are answered alone too, to see what their neighbours do to them."""
PROBED = 48
"""Rows on which the sensitivity of each linear map is measured."""
DRAWS = 1000
OnDone = Callable[[int, int], None]


class Quantized(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen, every precision that was tried, and the times."""

    precision: Precision
    rungs: list[PrecisionTrial]
    report: dict[str, object]


class _Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What every rung is held against: the rows, what is right, and the fp32 graph's answers."""

    texts: list[str]
    gold: np.ndarray
    """Truth values [n, k]."""
    logits: np.ndarray
    """fp32, [n, k]."""
    ms_a_text: float
    task: Task
    config: QuantizeConfig
    reading: TextLimits
    seed: int


class _Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A precision as it was judged, and its milliseconds a text."""

    rung: PrecisionTrial
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
    on_done: OnDone | None = None,
) -> Quantized:
    """Write `model.onnx` and `tokenizer.json` of the chosen precision into `folder`.

    `rows` are real rows whose `label` counts as the truth; both graphs answer all of them, so the
    comparison is paired. `range_texts` are training texts whose activations set the fixed scales. With
    `config.precision` "auto" the ladder is climbed until every gate holds; fp32 is its top.

    Raises:
        ExportError: the precision that the recipe demands fails a gate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    link_or_copy(exported / TOKENIZER, folder / TOKENIZER)
    fp32 = Encoder(exported, n_labels=len(labels), reading=reading)
    trial = _trial(rows, labels, config, fp32, reading=reading, seed=seed, task=task, on_done=on_done)
    climbed: list[_Tried] = []
    if config.precision != "fp32":
        climbed = _climb(read_source(exported / MODEL, fp32.feeds(range_texts)), folder, trial)
    served = climbed[-1].rung if climbed and climbed[-1].rung.passed else None
    if served:
        (folder / TRIAL).replace(folder / MODEL)
    else:
        (folder / TRIAL).unlink(missing_ok=True)
        link_or_copy(exported / MODEL, folder / MODEL)
    times = {"fp32": trial.ms_a_text} | {one.rung.precision: one.ms_a_text for one in climbed}
    return Quantized(
        precision=served.precision if served else "fp32",
        rungs=[one.rung for one in climbed],
        report={
            "precision": served.precision if served else "fp32",
            "rows": len(rows),
            "bytes": (folder / MODEL).stat().st_size,
            "bytes_fp32": (exported / MODEL).stat().st_size,
            "ms_a_text": {name: round(value, 3) for name, value in times.items()},
            "margin": config.margin,
            "level": config.level,
        },
    )


def _climb(source: Source, folder: Path, trial: _Trial) -> list[_Tried]:
    """Return what was tried, up to the first precision that holds every gate; it is left as the trial graph.

    Raises:
        ExportError: the precision that the recipe demands fails a gate.
    """
    demanded = trial.config.precision
    climbed = []
    for precision in PRECISIONS[:-1] if demanded == "auto" else (demanded,):
        kept = _write(source, precision, folder, trial)
        climbed.append(_judge(precision, folder, kept, trial))
        rung = climbed[-1].rung
        if rung.passed:
            break
        if demanded != "auto":
            raise ExportError(f'quantize.precision = {precision!r}: {rung.reason}; set it to "auto" or "fp32"')
    return climbed


def _trial(
    rows: Sequence[Example],
    labels: Sequence[str],
    config: QuantizeConfig,
    fp32: Encoder,
    *,
    reading: TextLimits,
    seed: int,
    task: Task,
    on_done: OnDone | None,
) -> _Trial:
    texts = [row.text for row in rows]
    start = time.perf_counter()
    logits = fp32.logits(texts, on_done=on_done)
    seconds = time.perf_counter() - start
    return _Trial(
        texts=texts,
        gold=_truth([row.label for row in rows], labels, task),
        logits=logits,
        ms_a_text=1000 * seconds / len(rows),
        task=task,
        config=config,
        reading=reading,
        seed=seed,
    )


def _write(source: Source, precision: Precision, folder: Path, trial: _Trial) -> list[str]:
    """Write a rung as the trial graph; return the linear maps left in fp32."""
    sensitive: Sequence[str] = ()
    if precision == WITH_SENSITIVITY:
        some = trial.texts[:PROBED]
        n_labels = trial.gold.shape[1]

        def probe(path: Path) -> np.ndarray:
            return Encoder(path.parent, n_labels=n_labels, reading=trial.reading, model=path.name).logits(some)

        sensitive = list(sensitivities(source, probe, folder / TRIAL))
    return write_graph_at(source, precision, folder / TRIAL, sensitive=sensitive)


def _judge(precision: Precision, folder: Path, kept: Sequence[str], trial: _Trial) -> _Tried:
    """Return how the trial graph compares with fp32 on every row, and its time."""
    config = trial.config
    encoder = Encoder(folder, n_labels=trial.gold.shape[1], reading=trial.reading, model=TRIAL)
    start = time.perf_counter()
    logits = encoder.logits(trial.texts)
    ms_a_text = 1000 * (time.perf_counter() - start) / len(trial.texts)
    before, after = _decided(trial.logits, trial.task), _decided(logits, trial.task)
    accuracy = accuracy_drop(trial.gold, before, after, level=config.level)
    macro_f1 = macro_f1_drop(trial.gold, before, after, level=config.level, n=DRAWS, seed=trial.seed)
    probs = _probs(logits, trial.task)
    some = range(0, len(logits), max(1, len(logits) // ALONE))
    alone = np.concatenate([encoder.logits([trial.texts[i]]) for i in some])
    rung = PrecisionTrial(
        precision=precision,
        bytes=(folder / TRIAL).stat().st_size,
        fp32_linears=tuple(kept),
        agreement=round(float((before == after).all(axis=1).mean()), 6),
        accuracy_drop=round(accuracy.value, 6),
        accuracy_drop_upper=round(accuracy.upper, 6),
        macro_f1_drop=round(macro_f1.value, 6),
        macro_f1_drop_upper=round(macro_f1.upper, 6),
        probability_shift=round(float(np.abs(probs - _probs(trial.logits, trial.task)).mean()), 6),
        neighbour_shift=round(float(np.abs(_probs(alone, trial.task) - probs[list(some)]).max()), 6),
        passed=False,
        reason="",
    )
    reason = _failed_gate(rung, config)
    rung = msgspec.structs.replace(rung, passed=not reason, reason=reason or "every gate holds")
    return _Tried(rung=rung, ms_a_text=ms_a_text)


def _failed_gate(rung: PrecisionTrial, config: QuantizeConfig) -> str:
    """Return which gate a rung fails, in words; empty where it fails none."""
    if rung.neighbour_shift > config.neighbours:
        return f"neighbours in a batch move a probability by {rung.neighbour_shift:.1e}, want {config.neighbours:.0e}"
    if rung.agreement < config.agreement:
        return f"it decides {rung.agreement:.1%} of the rows as fp32 does, want {config.agreement:.1%}"
    for name, upper in (("accuracy", rung.accuracy_drop_upper), ("macro-F1", rung.macro_f1_drop_upper)):
        if upper > config.margin:
            return (
                f"{name} may fall by up to {100 * upper:.2f} points (at {config.level:.0%}), "
                f"want {100 * config.margin:g} at most"
            )
    return ""


def _truth(said: Sequence[str], labels: Sequence[str], task: Task) -> np.ndarray:
    if task == "multi_label":
        return label_matrix(said, labels)
    place = {label: i for i, label in enumerate(labels)}
    return np.asarray(np.eye(len(labels), dtype=bool)[[place[label] for label in said]])


def _decided(logits: np.ndarray, task: Task) -> np.ndarray:
    """Return the labels decided, truth values [n, k]."""
    if task == "multi_label":
        return np.asarray(logits > 0)
    return np.asarray(np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None])


def _probs(logits: np.ndarray, task: Task) -> np.ndarray:
    """Return uncalibrated probabilities [n, k]: calibration is fitted on the graph that is chosen."""
    if task == "multi_label":
        return np.asarray(1 / (1 + np.exp(-logits)))
    return softmax(logits.astype(np.float64))
