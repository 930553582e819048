"""clean: decide for every training row whether its label stays, changes, or waits for a person."""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.multiannotator import get_label_quality_multiannotator
from cleanlab.rank import get_label_quality_scores
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from hybrid.config import CleanConfig
from hybrid.label_sets import label_matrix
from hybrid.types import Action, Decision, Example, Vote

Embed = Callable[[Sequence[str]], np.ndarray]
DIGITS = 6


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """A decision for each row, in row order, the rows' embeddings [n, d], and the counts."""

    decisions: list[Decision]
    embeddings: np.ndarray
    classifier: np.ndarray
    """The cross-fitted classifier's probabilities [n, k]; [n, 0] where none was trained."""
    report: dict[str, object]


class _Consensus(msgspec.Struct, frozen=True, kw_only=True):
    """What all sources say together: class index and quality [n], probabilities [n, k], source weights."""

    label: np.ndarray
    quality: np.ndarray
    probs: np.ndarray
    weights: dict[str, float]


def clean(
    rows: Sequence[Example],
    votes: Sequence[Vote],
    labels: Sequence[str],
    config: CleanConfig,
    *,
    embed: Embed,
    seed: int,
) -> Cleaned:
    """Return what becomes of each row.

    Out-of-sample probabilities come from logistic regression on frozen embeddings, cross-fitted
    on the given labels with balanced classes (without balance the majority class swallows rows of
    the rare ones). Confident learning (Northcutt et al. 2021) finds the suspects among the given
    labels. CROWDLAB (Goh et al. 2022) weighs annotators, teacher votes and the classifier into a
    consensus with a quality. A row takes the consensus label; where the quality is too low to trust
    it, the row is put up for review and trains with `review_weight` until a person has looked. Where
    nobody but one annotator spoke there is no consensus to form, and no label changes.
    """
    place = {label: index for index, label in enumerate(labels)}
    given = np.array([place[row.label] for row in rows])
    embeddings = embed([row.text for row in rows])
    probs = cross_fitted(embeddings, given, len(labels), folds=config.folds, seed=seed)
    suspects = find_label_issues(given, probs, min_examples_per_class=0, n_jobs=1)
    quality_given = get_label_quality_scores(given, probs)
    sources = _sources(rows, votes, labels)
    alone = sources.notna().sum(axis=1).max() < 2
    consensus = _without_votes(given, quality_given, probs) if alone else _crowdlab(sources, probs)
    decisions = [
        _decide(row, i, given[i], bool(suspects[i]), float(quality_given[i]), consensus, sources, labels, config)
        for i, row in enumerate(rows)
    ]
    return Cleaned(
        decisions=decisions,
        embeddings=embeddings,
        classifier=probs,
        report=_report(decisions, suspects, consensus.weights, "confident learning" if alone else "crowdlab", labels),
    )


def keep_as_given(rows: Sequence[Example], labels: Sequence[str]) -> Cleaned:
    """Return the decision to keep every row of several labels: cleaning them is not offered yet.

    Nothing is weighed, so `probs` are empty, and the embeddings too, [n, 0].
    """
    decisions = [
        Decision(
            id=row.id,
            action="keep",
            given=row.label,
            label=row.label,
            weight=1.0,
            probs=(),
            reason="several labels a row are kept as given",
        )
        for row in rows
    ]
    report = _report(decisions, np.zeros(len(rows), dtype=bool), {"given": 1.0}, "as given", labels)
    given = label_matrix([row.label for row in rows], labels)
    counts = dict(zip(labels, given.sum(axis=0).tolist(), strict=True))
    return Cleaned(
        decisions=decisions,
        embeddings=np.zeros((len(rows), 0), dtype=np.float32),
        classifier=np.zeros((len(rows), 0)),
        report=report | {"classes_before": counts, "classes_after": counts},
    )


def cross_fitted(features: np.ndarray, targets: np.ndarray, n_labels: int, *, folds: int, seed: int) -> np.ndarray:
    """Return out-of-sample class probabilities, shape [n, n_labels], from balanced logistic regression."""
    fewest = int(np.bincount(targets)[np.unique(targets)].min())
    splitter = StratifiedKFold(max(2, min(folds, fewest)), shuffle=True, random_state=seed)
    model = LogisticRegression(max_iter=1000, class_weight="balanced")
    found = cross_val_predict(model, features, targets, cv=splitter, method="predict_proba")
    probs = np.full((len(targets), n_labels), 1e-9)
    probs[:, np.unique(targets)] = found
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def _sources(rows: Sequence[Example], votes: Sequence[Vote], labels: Sequence[str]) -> pd.DataFrame:
    """Return class indices, one column a source, missing where it did not speak about the row."""
    position = {row.id: i for i, row in enumerate(rows)}
    place = {label: index for index, label in enumerate(labels)}
    table = {}
    for name in sorted({name for row in rows for name in row.annotations}) or ["given"]:
        said = [row.annotations.get(name) if row.annotations else row.label for row in rows]
        table[name] = [np.nan if label is None else place[label] for label in said]
    for vote in votes:
        if vote.status == "ok" and vote.label is not None:
            column = table.setdefault(f"{vote.teacher}#{vote.sample}", [np.nan] * len(rows))
            column[position[vote.id]] = place[vote.label]
    return pd.DataFrame(table, dtype="float")


def _crowdlab(sources: pd.DataFrame, probs: np.ndarray) -> _Consensus:
    found = get_label_quality_multiannotator(sources, probs, verbose=False, return_weights=True)
    label_quality = found["label_quality"]
    weights = np.asarray(found["annotator_weight"], dtype=float)
    mixed = float(found["model_weight"]) * probs
    for weight, column in zip(weights, sources.columns, strict=True):
        said = sources[column].to_numpy()
        spoke = ~np.isnan(said)
        mixed[np.flatnonzero(spoke), said[spoke].astype(int)] += weight
    named = {name: float(weight) for name, weight in zip(sources.columns, weights, strict=True)}
    return _Consensus(
        label=label_quality["consensus_label"].to_numpy().astype(int),
        quality=label_quality["consensus_quality_score"].to_numpy(),
        probs=mixed / mixed.sum(axis=1, keepdims=True),
        weights=named | {"classifier": float(found["model_weight"])},
    )


def _without_votes(given: np.ndarray, quality: np.ndarray, probs: np.ndarray) -> _Consensus:
    """With one label a row nothing outvotes it: the label stays, its quality is the classifier's belief."""
    onehot = np.eye(probs.shape[1])[given]
    return _Consensus(
        label=given, quality=quality, probs=(onehot + probs) / 2, weights={"given": 0.5, "classifier": 0.5}
    )


def _decide(
    row: Example,
    i: int,
    given: int,
    suspect: bool,
    quality_given: float,
    consensus: _Consensus,
    sources: pd.DataFrame,
    labels: Sequence[str],
    config: CleanConfig,
) -> Decision:
    label, quality = int(consensus.label[i]), float(consensus.quality[i])
    action = _action(changed=label != given, suspect=suspect, quality=quality, config=config)
    weight = {"keep": 1.0, "relabel": 1.0, "review": config.review_weight, "drop": 0.0}[action]
    spoke = sources.iloc[i].dropna()
    said = ", ".join(f"{name} says {labels[int(index)]}" for name, index in spoke.items())
    return Decision(
        id=row.id,
        action=action,
        given=row.label,
        label=labels[label],
        weight=weight,
        probs=tuple(round(float(p), DIGITS) for p in consensus.probs[i]),
        reason=f"{said}; consensus {labels[label]} with quality {quality:.2f}" + ("; suspect" if suspect else ""),
        scores={"consensus_quality": round(quality, DIGITS), "given_quality": round(quality_given, DIGITS)},
    )


def _action(*, changed: bool, suspect: bool, quality: float, config: CleanConfig) -> Action:
    if suspect and quality < config.drop:
        return "drop"
    if changed:
        return "relabel" if quality >= config.relabel else "review"
    return "review" if suspect and quality < config.relabel else "keep"


def _report(
    decisions: Sequence[Decision], suspects: np.ndarray, weights: dict[str, float], method: str, labels: Sequence[str]
) -> dict[str, object]:
    actions = Counter(decision.action for decision in decisions)
    assert actions.total() == len(decisions)
    changes = Counter(f"{d.given} -> {d.label}" for d in decisions if d.given != d.label)
    before = Counter(d.given for d in decisions)
    after = Counter(d.label for d in decisions if d.weight > 0)
    return {
        "method": method,
        "rows": len(decisions),
        "suspects": int(suspects.sum()),
        "actions": {action: actions[action] for action in ("keep", "relabel", "drop", "review")},
        "changes": dict(changes.most_common()),
        "source_weights": {name: round(weight, 4) for name, weight in weights.items()},
        "classes_before": {label: before[label] for label in labels},
        "classes_after": {label: after[label] for label in labels},
    }
