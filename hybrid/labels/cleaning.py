"""Decide for every training row whether its label stays, changes, or waits for a person."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

from hybrid.config import CleanConfig
from hybrid.errors import ConfigError
from hybrid.label_sets import index_by_label, label_matrix
from hybrid.labels.consensus import cross_fitted
from hybrid.labels.decisions import decisions_of
from hybrid.labels.estimate import LabelEstimate, as_given
from hybrid.labels.method_selection import HeldOutLabels, MethodChoice, choose
from hybrid.labels.methods import AUTO, METHODS, WITHOUT_TRUSTED, CleaningInputs
from hybrid.labels.source_report import source_report
from hybrid.labels.sources import label_sources
from hybrid.types import Decision, Example, Trusted, Vote

Embed = Callable[[Sequence[str]], np.ndarray]


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """A decision for each row, in row order, the rows' embeddings [n, d], and the counts.

    The report's keys: `method` (its name), `method_id` (its key in `hybrid.labels.methods.METHODS`), `rows`, `suspects`,
    `actions`, `changes`, `source_weights`, `ignored_sources` (`not_heard` is the same under its older name),
    `classes_before`, `classes_after`, `trusted` (rows by source), and, empty without trusted rows, `methods` (the
    scores of each: `hybrid.labels.method_selection`) on `method_rows` of them, `repair` (its model and losses) and
    `sources` (how each errs: `hybrid.labels.source_report`). `picked_rows` of the trusted rows could not judge the methods.
    """

    decisions: list[Decision]
    embeddings: np.ndarray
    classifier: np.ndarray
    """The cross-fitted classifier's probabilities [n, k]; [n, 0] if none was trained."""
    report: dict[str, object]


def clean(
    rows: Sequence[Example],
    votes: Sequence[Vote],
    labels: Sequence[str],
    config: CleanConfig,
    *,
    embed: Embed,
    seed: int,
    trusted: Sequence[Trusted] = (),
) -> Cleaned:
    """Decide about each row.

    Out-of-sample probabilities come from logistic regression on frozen embeddings, cross-fitted on the given labels
    with balanced class weights (without them rows of rare classes are predicted as the majority class). Confident
    learning (Northcutt et al. 2021) finds the suspects among the given labels. The recipe's method
    (`hybrid.labels.methods`) estimates what each label should be. With "auto" the method is chosen on the trusted rows that
    are like the others (`Trusted.is_representative`), and each method is scored on trusted labels it has not seen; without
    such rows it is the consensus. A trusted row takes its trusted label under every method. A row whose label is too improbable is queued for review, and trains with
    `review_weight` until a person answers.

    Raises:
        ConfigError: the recipe's method needs trusted rows, but there are none.
    """
    index = index_by_label(labels)
    position = {row.id: i for i, row in enumerate(rows)}
    given = np.array([index[row.label] for row in rows])
    embeddings = embed([row.text for row in rows])
    probs = cross_fitted(embeddings, given, len(labels), folds=config.folds, seed=seed)
    inputs = CleaningInputs(
        given=given,
        quality=get_label_quality_scores(given, probs),
        suspects=find_label_issues(given, probs, min_examples_per_class=0, n_jobs=1),
        probs=probs,
        embeddings=embeddings,
        sources=label_sources(rows, votes, labels),
        trusted=np.array([position[row.id] for row in trusted], dtype=int),
        trusted_labels=np.array([index[row.label] for row in trusted], dtype=int),
        folds=config.folds,
        seed=seed,
    )
    may_judge = np.array([row.is_representative for row in trusted], dtype=bool)
    estimates, scores = _estimates(inputs, config.method, may_judge)
    estimate = estimates[scores.method] if scores else next(iter(estimates.values()))
    decisions = decisions_of(
        rows,
        estimate,
        labels,
        config,
        sources=inputs.sources,
        suspects=inputs.suspects,
        quality_given=inputs.quality,
        trusted=trusted,
    )
    report = _report(decisions, inputs.suspects, estimate, labels)
    report |= {"methods": scores.scores, "method_rows": int(may_judge.sum())} if scores else {}
    report |= {"picked_rows": int((~may_judge).sum())} if config.method == AUTO else {}
    report |= {name: own.report for name, own in estimates.items() if own.report}
    report |= {"trusted": dict(Counter(row.source for row in trusted))}
    if trusted:
        report["sources"] = source_report(inputs.sources, trusted, inputs.trusted, inputs.trusted_labels, labels)
    return Cleaned(decisions=decisions, embeddings=embeddings, classifier=probs, report=report)


def keep_as_given(rows: Sequence[Example], labels: Sequence[str]) -> Cleaned:
    """Keep every multi-label row as given, because cleaning does not support several labels yet.

    There are no estimates, so `probs` are empty and the embeddings have the shape [n, 0].
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
    empty = np.zeros((len(rows), 0), dtype=np.float32)
    estimate = as_given(np.zeros(len(rows), dtype=int), np.zeros(len(rows)), 1)
    given = label_matrix([row.label for row in rows], labels)
    counts = dict(zip(labels, given.sum(axis=0).tolist(), strict=True))
    report = _report(decisions, np.zeros(len(rows), dtype=bool), estimate, labels)
    return Cleaned(
        decisions=decisions,
        embeddings=empty,
        classifier=empty,
        report=report | {"classes_before": counts, "classes_after": counts},
    )


def _estimates(
    inputs: CleaningInputs, method: str, may_judge: np.ndarray
) -> tuple[Mapping[str, LabelEstimate], MethodChoice | None]:
    """Estimate labels with the recipe's method; for "auto" with all methods, of which one is chosen.

    `may_judge` [m] masks the trusted rows that choose it. On rows that were picked because their labels are in doubt, the
    method that changes most labels looks best, and would change right ones among all the others.
    """
    if method == AUTO and may_judge.any():
        estimates = {name: each.estimate(inputs) for name, each in METHODS.items()}
        held_out = {name: _held_out(estimate, inputs.trusted, may_judge) for name, estimate in estimates.items()}
        return estimates, choose(held_out, inputs.trusted_labels[may_judge])
    name = WITHOUT_TRUSTED if method == AUTO else method
    if METHODS[name].needs_trusted and not len(inputs.trusted):
        raise ConfigError(
            f"clean.method = {name!r}: no training row is trusted; set data.trusted or data.audit in the recipe, or "
            "choose another method"
        )
    return {name: METHODS[name].estimate(inputs)}, None


def _held_out(estimate: LabelEstimate, trusted: np.ndarray, may_judge: np.ndarray) -> HeldOutLabels:
    probs = estimate.probs[trusted] if estimate.held_out_probs is None else estimate.held_out_probs
    return HeldOutLabels(probs=probs[may_judge], kept=estimate.kept[trusted][may_judge])


def _report(
    decisions: Sequence[Decision], suspects: np.ndarray, estimate: LabelEstimate, labels: Sequence[str]
) -> dict[str, object]:
    actions = Counter(decision.action for decision in decisions)
    assert actions.total() == len(decisions)
    changes = Counter(f"{d.given} -> {d.label}" for d in decisions if d.given != d.label)
    before = Counter(d.given for d in decisions)
    after = Counter(d.label for d in decisions if d.weight > 0)
    return {
        "method": estimate.name,
        "method_id": estimate.method,
        "rows": len(decisions),
        "suspects": int(suspects.sum()),
        "actions": {action: actions[action] for action in ("keep", "relabel", "drop", "review")},
        "changes": dict(changes.most_common()),
        "ignored_sources": list(estimate.ignored_sources),
        "not_heard": list(estimate.ignored_sources),
        "source_weights": {name: round(weight, 4) for name, weight in estimate.weights.items()},
        "classes_before": {label: before[label] for label in labels},
        "classes_after": {label: after[label] for label in labels},
        "trusted": {},
        "methods": {},
        "method_rows": 0,
        "picked_rows": 0,
        "repair": {},
        "sources": {},
    }
