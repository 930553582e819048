"""The report of `evaluate` for rows with several labels: the keys of the single-label report, over whole sets.

`accuracy` counts a row as right where its whole set of labels is right. There is no confusion matrix: it is None.
"""

from collections.abc import Sequence

import numpy as np

from hybrid.config import EvaluateConfig
from hybrid.evaluation import metrics, set_metrics
from hybrid.runtime.calibration import Calibration, Decided, apply, decide

Report = dict[str, object]
DIGITS = 6


def set_report(
    gold: np.ndarray,
    logits: np.ndarray,
    calibration: Calibration,
    labels: Sequence[str],
    config: EvaluateConfig,
    *,
    threshold: float,
    not_leaked: np.ndarray,
    refitted: metrics.NullEce,
    seed: int,
) -> Report:
    """Score the encoder on the test rows; no decoder is asked.

    `gold` [n, k] is True where a row has a label, `not_leaked` [n] where a row has no near-duplicate in train.
    """
    probs = apply(calibration, logits)
    decided = decide(calibration, probs)
    chosen, correct = decided.chosen, (decided.chosen == gold).all(axis=1)
    precision, recall = set_metrics.precision_by_label(gold, chosen), set_metrics.recall_by_label(gold, chosen)
    return {
        "encoder": score_sets(gold, chosen, config, seed=seed),
        "without_twins": None
        if not_leaked.all()
        else score_sets(gold[not_leaked], chosen[not_leaked], config, seed=seed),
        "recall": dict(zip(labels, map(_rounded, recall), strict=True)),
        "precision": dict(zip(labels, map(_rounded, precision), strict=True)),
        "gold_rows": dict(zip(labels, gold.sum(axis=0).tolist(), strict=True)),
        "confusion": None,
        "calibration": _calibration(gold, logits, probs, decided, refitted, seed),
        "aurc": _rounded(metrics.risk_coverage(decided.confidence, correct).aurc),
        "threshold": _threshold_figures(threshold, gold, decided),
        "cascade": [],
        "decoder_statuses": {},
    }


def score_sets(gold: np.ndarray, chosen: np.ndarray, config: EvaluateConfig, *, seed: int) -> Report:
    """Compute accuracy of whole sets, micro- and macro-F1 with bootstrap intervals, and the number of rows."""
    scores = set_metrics.set_scores(gold, chosen, n=config.bootstrap, level=config.interval, seed=seed)
    report: Report = {"rows": len(gold)}
    for name, estimate in (
        ("accuracy", scores.subset_accuracy),
        ("micro_f1", scores.micro_f1),
        ("macro_f1", scores.macro_f1),
    ):
        report |= {
            name: _rounded(estimate.value),
            f"{name}_interval": [_rounded(estimate.low), _rounded(estimate.high)],
        }
    return report


def _calibration(
    gold: np.ndarray,
    logits: np.ndarray,
    probs: np.ndarray,
    decided: Decided,
    refitted: metrics.NullEce,
    seed: int,
) -> dict[str, float]:
    """Return ECE of the confidence in whole sets, Brier and NLL summed over labels, before and after calibration.

    Before calibration, the probability is the sigmoid of the logit, and every cutoff is one half.
    """
    plain = Calibration(activation="sigmoid")
    before = apply(plain, logits)
    null = metrics.ece_null(decided.confidence[:, None], seed=seed)
    figures = {"ece_null_mean": null.mean, "ece_null95": null.p95}
    figures |= {"ece_refit_mean": refitted.mean, "ece_refit95": refitted.p95}
    for name, label_probs, decisions in (("before", before, decide(plain, before)), ("after", probs, decided)):
        correct = (decisions.chosen == gold).all(axis=1)
        figures[f"ece_{name}"] = metrics.ece_of_confidence(decisions.confidence, correct)
        figures[f"brier_{name}"] = set_metrics.brier_of_sets(label_probs, gold)
        figures[f"nll_{name}"] = float(set_metrics.nll_of_sets_by_row(label_probs, gold).mean())
    return {name: _rounded(value) for name, value in figures.items()}


def _threshold_figures(threshold: float, gold: np.ndarray, decided: Decided) -> Report:
    """Return the figures at the threshold; rows below it keep the encoder's answer."""
    kept, correct = decided.confidence >= threshold, (decided.chosen == gold).all(axis=1)
    return {
        "value": _rounded(threshold),
        "kept": _rounded(kept.mean()),
        "accuracy_kept": _rounded(correct[kept].mean()) if kept.any() else None,
        "escalated": int((~kept).sum()),
        "answered": 0,
        "accuracy": _rounded(correct.mean()),
        "macro_f1": _rounded(set_metrics.macro_f1_of_sets(gold, decided.chosen)),
    }


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)
