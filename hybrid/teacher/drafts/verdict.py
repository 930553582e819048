"""The verdict on the drafts of each rare class: are they better than every remedy that costs nothing?"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from scipy.stats import binomtest

from hybrid.evaluation.metrics import macro_f1

FEWEST_ROWS = 5
"""Real rows of a class that can judge its drafts; with fewer, one answer more or less decides."""
MOST_HARM = 0.005
"""The most macro-F1 that drafts may cost where they are only screened for harm."""
NOTHING, OVERSAMPLING, CLASS_WEIGHTS, DRAFTS = "nothing", "oversampling", "class weights", "drafts"
"""The remedies for a rare class that are compared."""
HOW = {CLASS_WEIGHTS: ', which cost nothing: train.class_weights = "balanced"'}
"""How a recipe takes a remedy that was better."""
NOT_JUDGED = -1
"""The judging label of a row that judges nothing."""


class ClassVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the drafts of one class train; recall and precision of the class on held-out rows, by remedy."""

    label: str
    passed: bool
    reason: str
    """Why they do not train, or why nothing real judged them; empty otherwise."""
    rows: int
    """The rows of the class that judged."""
    recall: dict[str, float]
    precision: dict[str, float]
    recall_gain_p: float
    """One-sided p-value of the sign test, drafts against nothing, on the rows of the class whose hit rate changed."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What drafts do to predictions on held-out real rows, averaged over the seeds, beside the other remedies."""

    drafts: int
    macro_f1: dict[str, float]
    """By remedy."""
    classes: list[ClassVerdict]
    seeds: int
    folds: int
    judging_rows: int

    @property
    def passed(self) -> list[str]:
        """The classes whose drafts pass."""
        return [verdict.label for verdict in self.classes if verdict.passed]

    @property
    def refused(self) -> dict[str, str]:
        """The reasons of the classes whose drafts do not pass."""
        return {verdict.label: verdict.reason for verdict in self.classes if not verdict.passed}


def judge(
    judging: np.ndarray,
    predicted: Mapping[str, np.ndarray],
    labels: Sequence[str],
    minority: Sequence[str],
    *,
    n_drafts: int,
    folds: int,
    screen: bool = False,
) -> Gate:
    """Judge each rare class by the predictions of each remedy, class indices [seeds, n], on rows labelled [n].

    The drafts of a class pass if, on the mean over the seeds,

    - macro-F1 and the F1 of the class are no lower than with any remedy that costs nothing, and
    - its recall is higher than with nothing.

    The better mean decides, without a test of significance: thirty rows seldom reach one, even where the drafts are
    worth ten points of macro-F1, and drafts that are as good as nothing cost little. The report has the p-value of the
    rise. A `screen` refuses harm alone: a loss of more than `MOST_HARM`, or of recall.

    Fewer than `FEWEST_ROWS` rows cannot judge. The drafts of such a class train unless the others lose by them.
    """
    judges = judging != NOT_JUDGED
    targets = judging[judges]
    answers = {name: table[:, judges] for name, table in predicted.items()}
    means = {name: _mean_macro_f1(targets, table, len(labels)) for name, table in answers.items()}
    verdicts = [_verdict(targets, answers, means, labels, name, screen=screen) for name in minority]
    return Gate(
        drafts=n_drafts,
        macro_f1={name: round(score, 6) for name, score in means.items()},
        classes=verdicts,
        seeds=len(answers[NOTHING]),
        folds=folds,
        judging_rows=len(targets),
    )


def _verdict(
    targets: np.ndarray,
    answers: Mapping[str, np.ndarray],
    means: Mapping[str, float],
    labels: Sequence[str],
    name: str,
    *,
    screen: bool,
) -> ClassVerdict:
    label = labels.index(name)
    own = targets == label
    n_rows = int(own.sum())
    recall = {remedy: _rate(table[:, own] == label) for remedy, table in answers.items()}
    precision = {remedy: _precision(targets, table, label) for remedy, table in answers.items()}
    gain = (answers[DRAFTS][:, own] == label).mean(axis=0) - (answers[NOTHING][:, own] == label).mean(axis=0)
    p = _sign_test(int((gain > 0).sum()), int((gain < 0).sum()))
    if n_rows < FEWEST_ROWS:
        others = {remedy: _mean_macro_f1(targets, table, len(labels), but=label) for remedy, table in answers.items()}
        passed = others[DRAFTS] >= others[NOTHING] - MOST_HARM
        reason = f"{n_rows} real rows of {name} are too few to judge its drafts (expected {FEWEST_ROWS} or more)"
        if not passed:
            reason += f", and macro-F1 of the other classes falls from {others[NOTHING]:.4f} to {others[DRAFTS]:.4f}"
    else:
        f1 = {remedy: _f1(recall[remedy], precision[remedy]) for remedy in answers}
        reason = _reason(means, f1, recall[DRAFTS] - recall[NOTHING], name, screen=screen)
        passed = not reason
    return ClassVerdict(
        label=name,
        passed=passed,
        reason=reason,
        rows=n_rows,
        recall={remedy: round(value, 6) for remedy, value in recall.items()},
        precision={remedy: round(value, 6) for remedy, value in precision.items()},
        recall_gain_p=round(p, 6),
    )


def _reason(means: Mapping[str, float], f1: Mapping[str, float], gain: float, name: str, *, screen: bool) -> str:
    """Explain why the drafts of a class do not pass; empty if they pass."""
    allowed = MOST_HARM if screen else 0.0
    for measure, scores in (("macro-F1", means), (f"F1 of {name}", f1)):
        best = max((remedy for remedy in scores if remedy != DRAFTS), key=lambda remedy: scores[remedy])
        if scores[DRAFTS] < scores[best] - allowed:
            return (
                f"{measure} on held-out real rows is {scores[DRAFTS]:.4f} with the drafts and {scores[best]:.4f} "
                f"with {best}" + HOW.get(best, "")
            )
    if gain < 0 or (gain == 0 and not screen):
        return f"recall of {name} changes by {gain:+.4f} with the drafts, so they add nothing"
    return ""


def _mean_macro_f1(targets: np.ndarray, answers: np.ndarray, n_labels: int, *, but: int | None = None) -> float:
    """Return the mean over the seeds; with `but`, on the rows of the other classes alone."""
    rows = np.ones(len(targets), dtype=bool) if but is None else targets != but
    if not rows.any():
        return 0.0
    return float(np.mean([macro_f1(targets[rows], of_seed[rows], n_labels) for of_seed in answers]))


def _precision(targets: np.ndarray, answers: np.ndarray, label: int) -> float:
    """Return the share of a class's predictions that are right, over all seeds; 0 where it is never predicted."""
    chosen = answers == label
    return _rate(np.broadcast_to(targets == label, answers.shape)[chosen])


def _rate(hits: np.ndarray) -> float:
    return float(hits.mean()) if hits.size else 0.0


def _f1(recall: float, precision: float) -> float:
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def _sign_test(n_gain: int, n_lose: int) -> float:
    n_changed = n_gain + n_lose
    return float(binomtest(n_gain, n_changed, alternative="greater").pvalue) if n_changed else 1.0
