"""Scores a bundle's answers on the test rows: the encoder alone, and with the decoder for the rows that escalate."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np

from hybrid.config import EvaluateConfig
from hybrid.evaluation.metrics import (
    NullEce,
    accuracy,
    bootstrap_interval,
    brier,
    confusion_matrix,
    ece,
    ece_null,
    macro_f1,
    macro_f1_from_counts,
    nll,
    recall_by_class,
    risk_coverage,
)
from hybrid.evaluation.set_report import set_report
from hybrid.label_sets import index_by_label, join_labels, label_matrix
from hybrid.runtime.calibration import Calibration, apply, decide, softmax
from hybrid.runtime.combination import Reliability
from hybrid.runtime.decision import predict_probs, with_vote
from hybrid.types import Example, Gold, Judged, Prediction, Vote

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Shares of the rows, least confident first, at which the cascade is measured."""
Ask = Callable[[Sequence[Example]], Sequence[Vote]]


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle's answers on the test rows: logits and calibrated probabilities, each [n, k]."""

    logits: np.ndarray
    probs: np.ndarray
    refitted: NullEce | None = None
    """The calibration error of the calibrator refitted on drawn labels (`hybrid.calibration.refitted_limit`), if known."""


class Evaluated(msgspec.Struct, frozen=True, kw_only=True):
    """Every test row with the answers to it, in row order, and the scores of the stage's report."""

    judged: list[Judged]
    report: dict[str, object]


def evaluate(
    rows: Sequence[Example],
    answers: Answers,
    labels: Sequence[str],
    config: EvaluateConfig,
    *,
    threshold: float,
    leaked_ids: frozenset[str],
    ask: Ask,
    ask_everything: bool,
    seed: int,
    reliability: Reliability | None = None,
) -> Evaluated:
    """Score the bundle on the test rows, alone and with the decoder's answers.

    `ask` gets the decoder's votes on rows: on all of them where `ask_everything` (recorded answers
    cost nothing, so the whole curve is known), else only on those below the threshold. With a `reliability` the
    decoder's vote on an escalated row is combined with the encoder's probabilities, as the runtime does.
    `leaked_ids` are the ids of test rows with a near-duplicate in train; the rows without them are scored too.
    """
    position = index_by_label(labels)
    gold = np.array([position[row.label] for row in rows])
    predicted, confidence = answers.probs.argmax(axis=1), answers.probs.max(axis=1)
    asked = [row for row, p in zip(rows, confidence, strict=True) if ask_everything or p < threshold]
    votes = {vote.id: vote for vote in (ask(asked) if asked else [])}
    predictions = [predict_probs(labels, probs, threshold=threshold) for probs in answers.probs.tolist()]
    judged = [
        _judged_row(row, predictions[i], answers.logits[i], votes.get(row.id), reliability, row.id in leaked_ids)
        for i, row in enumerate(rows)
    ]
    escalated_answer = np.array([-1 if row.together is None else position[row.together] for row in judged])
    not_leaked = np.array([row.id not in leaked_ids for row in rows])
    curve = risk_coverage(confidence, predicted == gold)
    return Evaluated(
        judged=judged,
        report={
            "encoder": score(gold, predicted, labels, config, seed=seed),
            "without_twins": score(gold[not_leaked], predicted[not_leaked], labels, config, seed=seed)
            if leaked_ids
            else None,
            "recall": dict(zip(labels, map(rounded, recall_by_class(gold, predicted, len(labels))), strict=True)),
            "confusion": confusion_matrix(gold, predicted, len(labels)).tolist(),
            "calibration": _calibration(answers, gold, seed),
            "aurc": rounded(curve.aurc),
            "threshold": _threshold_figures(threshold, gold, predicted, confidence, escalated_answer, len(labels)),
            "cascade": [
                _cascade_point(share, gold, predicted, confidence, escalated_answer, len(labels)) for share in SHARES
            ]
            if ask_everything and votes
            else [],
            "decoder_statuses": dict(Counter(vote.status for vote in votes.values())),
        },
    )


def evaluate_sets(
    rows: Sequence[Example],
    logits: np.ndarray,
    calibration: Calibration,
    labels: Sequence[str],
    config: EvaluateConfig,
    *,
    threshold: float,
    leaked_ids: frozenset[str],
    refitted: NullEce,
    seed: int,
) -> Evaluated:
    """Score a bundle that gives several labels a text; decoders do not support that yet."""
    probs = apply(calibration, logits)
    decided = decide(calibration, probs)
    judged = [
        Judged(
            id=row.id,
            text=row.text,
            gold=row.label,
            label=join_labels(labels[j] for j in decided.chosen[i].nonzero()[0]),
            confidence=rounded(decided.confidence[i]),
            probs=tuple(map(rounded, probs[i])),
            logits=tuple(map(rounded, logits[i])),
            twin=row.id in leaked_ids,
        )
        for i, row in enumerate(rows)
    ]
    gold = label_matrix([row.label for row in rows], labels)
    not_leaked = np.array([row.id not in leaked_ids for row in rows])
    report = set_report(
        gold,
        logits,
        calibration,
        labels,
        config,
        threshold=threshold,
        not_leaked=not_leaked,
        refitted=refitted,
        seed=seed,
    )
    return Evaluated(judged=judged, report=report)


def score(
    gold: np.ndarray, predicted: np.ndarray, labels: Sequence[str], config: EvaluateConfig, *, seed: int
) -> dict[str, object]:
    """Compute accuracy and macro-F1 with bootstrap intervals, and the number of rows."""
    n, level = config.bootstrap, config.interval
    of_accuracy = bootstrap_interval(np.mean, gold == predicted, n=n, level=level, seed=seed)
    fast_macro_f1 = partial(macro_f1_from_counts, n_labels=len(labels))
    of_f1 = bootstrap_interval(fast_macro_f1, gold, predicted, n=n, level=level, seed=seed)
    return {
        "rows": len(gold),
        "accuracy": rounded(of_accuracy.value),
        "accuracy_interval": [rounded(of_accuracy.low), rounded(of_accuracy.high)],
        "macro_f1": rounded(of_f1.value),
        "macro_f1_interval": [rounded(of_f1.low), rounded(of_f1.high)],
    }


def wrong_share(label_of: dict[str, str], gold: Sequence[Gold]) -> float | None:
    """Return the share of labels (by row id) that differ from gold, over the rows that have gold; None without any."""
    is_wrong = [label_of[row.id] != row.label for row in gold if row.id in label_of]
    return rounded(sum(is_wrong) / len(is_wrong)) if is_wrong else None


def _judged_row(
    row: Example,
    prediction: Prediction,
    logits: np.ndarray,
    vote: Vote | None,
    reliability: Reliability | None,
    is_leaked: bool,
) -> Judged:
    return Judged(
        id=row.id,
        text=row.text,
        gold=row.label,
        label=prediction.label,
        confidence=rounded(prediction.confidence),
        probs=tuple(map(rounded, prediction.probs.values())),
        logits=tuple(map(rounded, logits)),
        decoder=vote.label if vote else None,
        decoder_status=vote.status if vote else None,
        decoder_confidence=vote.confidence if vote else None,
        together=_together(prediction, vote, reliability),
        twin=is_leaked,
    )


def _together(prediction: Prediction, vote: Vote | None, reliability: Reliability | None) -> str | None:
    """The label that the row gets where it escalates; None where the decoder gave none."""
    if vote is None:
        return None
    answer = with_vote(prediction, vote, reliability)
    return answer.label if answer.escalation == "answered" else None


def _calibration(answers: Answers, gold: np.ndarray, seed: int) -> dict[str, float | None]:
    """Return ECE, Brier and NLL on the test rows, before (softmax of the logits) and after calibration."""
    before = softmax(answers.logits.astype(np.float64))
    null = ece_null(answers.probs, seed=seed)
    return {
        "ece_before": rounded(ece(before, gold)),
        "ece_after": rounded(ece(answers.probs, gold)),
        "ece_null_mean": rounded(null.mean),
        "ece_null95": rounded(null.p95),
        "ece_refit_mean": rounded(answers.refitted.mean) if answers.refitted else None,
        "ece_refit95": rounded(answers.refitted.p95) if answers.refitted else None,
        "brier_before": rounded(brier(before, gold)),
        "brier_after": rounded(brier(answers.probs, gold)),
        "nll_before": rounded(nll(before, gold)),
        "nll_after": rounded(nll(answers.probs, gold)),
    }


def _threshold_figures(
    threshold: float,
    gold: np.ndarray,
    predicted: np.ndarray,
    confidence: np.ndarray,
    escalated_answer: np.ndarray,
    n_labels: int,
) -> dict[str, object]:
    """Return the figures at the threshold: the share of kept rows, their accuracy, and the scores of the cascade.

    `escalated_answer` [n] is the label of each row where it escalates, -1 where the decoder gave none.
    """
    kept = confidence >= threshold
    answered = ~kept & (escalated_answer >= 0)
    final = np.where(answered, escalated_answer, predicted)
    return {
        "value": rounded(threshold),
        "kept": rounded(kept.mean()),
        "accuracy_kept": rounded(accuracy(gold[kept], predicted[kept])) if kept.any() else None,
        "escalated": int((~kept).sum()),
        "answered": int(answered.sum()),
        "accuracy": rounded(accuracy(gold, final)),
        "macro_f1": rounded(macro_f1(gold, final, n_labels)),
    }


def _cascade_point(
    share: float,
    gold: np.ndarray,
    predicted: np.ndarray,
    confidence: np.ndarray,
    escalated_answer: np.ndarray,
    n_labels: int,
) -> dict[str, object]:
    """Return the scores of the cascade with the least confident `share` of the rows escalated."""
    n_escalated = round(share * len(gold))
    escalated = np.zeros(len(gold), dtype=bool)
    escalated[np.argsort(confidence, kind="stable")[:n_escalated]] = True
    final = np.where(escalated & (escalated_answer >= 0), escalated_answer, predicted)
    return {
        "share": share,
        "escalated": n_escalated,
        "threshold": rounded(np.sort(confidence)[n_escalated]) if n_escalated < len(gold) else None,
        "accuracy": rounded(accuracy(gold, final)),
        "macro_f1": rounded(macro_f1(gold, final, n_labels)),
    }


def rounded(value: float) -> float:
    """Round a figure of a report."""
    return round(float(value), 6)
