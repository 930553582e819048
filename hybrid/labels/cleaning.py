"""clean: decide for every training row whether its label stays, changes, or waits for a person."""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

from hybrid.config import CleanConfig
from hybrid.errors import ConfigError
from hybrid.label_sets import index_by_label, label_matrix
from hybrid.labels.consensus import consensus, cross_fitted
from hybrid.labels.decisions import decisions_of
from hybrid.labels.estimate import METHODS, LabelEstimate, Method, as_given, prune
from hybrid.labels.method_selection import HeldOutLabels, choose
from hybrid.labels.repair import Repaired, repair
from hybrid.labels.source_report import source_report
from hybrid.labels.sources import LabelSource, label_sources
from hybrid.types import Decision, Example, Trusted, Vote

Embed = Callable[[Sequence[str]], np.ndarray]


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """A decision for each row, in row order, the rows' embeddings [n, d], and the counts.

    The report's keys: `method`, `rows`, `suspects`, `actions`, `changes`, `source_weights`, `not_heard`,
    `classes_before`, `classes_after`, `trusted` (rows by source), and, empty without trusted rows, `methods` (what each
    was worth on them: `hybrid.labels.method_selection`), `repair` (its model and losses) and `sources` (how each is wrong:
    `hybrid.labels.source_report`).
    """

    decisions: list[Decision]
    embeddings: np.ndarray
    classifier: np.ndarray
    """The cross-fitted classifier's probabilities [n, k]; [n, 0] where none was trained."""
    report: dict[str, object]


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """The row numbers [m] of the trusted rows and their class indices [m]."""

    rows: np.ndarray
    gold: np.ndarray


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
    """Return what becomes of each row.

    Out-of-sample probabilities come from logistic regression on frozen embeddings, cross-fitted
    on the given labels with balanced classes (without balance the majority class swallows rows of
    the rare ones). Confident learning (Northcutt et al. 2021) finds the suspects among the given
    labels. What a row's label should be says the method of the recipe: the labels as given, pruned of suspects,
    the consensus of all sources, or, with trusted rows, repair. `auto` lets the trusted rows choose, none of which a
    method has seen when it is judged by it; without any it is the consensus. A trusted row takes its trusted label
    under every method. Where the label's probability is too low to believe it, the row is put up for review and
    trains with `review_weight` until a person has looked.

    Raises:
        ConfigError: the recipe wants repair and there is no trusted row.
    """
    place = index_by_label(labels)
    given = np.array([place[row.label] for row in rows])
    embeddings = embed([row.text for row in rows])
    probs = cross_fitted(embeddings, given, len(labels), folds=config.folds, seed=seed)
    suspects = find_label_issues(given, probs, min_examples_per_class=0, n_jobs=1)
    quality = get_label_quality_scores(given, probs)
    sources = label_sources(rows, votes, labels)
    known = _known(rows, trusted, place)
    plain: dict[Method, Callable[[], LabelEstimate]] = {
        "given": lambda: as_given(given, quality, len(labels)),
        "prune": lambda: prune(given, quality, len(labels), suspects),
        "consensus": lambda: consensus(sources, given, quality, probs),
    }
    opinion, learned = _best_opinion(plain, embeddings, sources, known, len(labels), config, seed)
    decisions = decisions_of(
        rows, opinion, labels, config, sources=sources, suspects=suspects, quality_given=quality, trusted=trusted
    )
    known_by: dict[str, object] = {"trusted": dict(Counter(one.source for one in trusted))}
    if trusted:
        known_by["sources"] = source_report(sources, known.rows, known.gold, labels)
    report = _report(decisions, suspects, opinion, labels) | learned | known_by
    return Cleaned(decisions=decisions, embeddings=embeddings, classifier=probs, report=report)


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
    nothing = np.zeros((len(rows), 0), dtype=np.float32)
    opinion = as_given(np.zeros(len(rows), dtype=int), np.zeros(len(rows)), 1)
    given = label_matrix([row.label for row in rows], labels)
    counts = dict(zip(labels, given.sum(axis=0).tolist(), strict=True))
    report = _report(decisions, np.zeros(len(rows), dtype=bool), opinion, labels)
    return Cleaned(
        decisions=decisions,
        embeddings=nothing,
        classifier=nothing,
        report=report | {"classes_before": counts, "classes_after": counts},
    )


def _known(rows: Sequence[Example], trusted: Sequence[Trusted], place: dict[str, int]) -> _Known:
    position = {row.id: i for i, row in enumerate(rows)}
    return _Known(
        rows=np.array([position[one.id] for one in trusted], dtype=int),
        gold=np.array([place[one.label] for one in trusted], dtype=int),
    )


def _best_opinion(
    plain: dict[Method, Callable[[], LabelEstimate]],
    embeddings: np.ndarray,
    sources: Sequence[LabelSource],
    known: _Known,
    n_labels: int,
    config: CleanConfig,
    seed: int,
) -> tuple[LabelEstimate, dict[str, object]]:
    """Return the opinion of the recipe's method, or of the one that the trusted rows speak for, and what it showed."""
    if not len(known.rows):
        if config.method == "repair":
            raise ConfigError(
                "clean.method = 'repair': no training row is trusted; set data.trusted or data.audit in the recipe, or "
                "choose another method"
            )
        return plain["consensus" if config.method == "auto" else config.method](), {}
    if config.method != "auto" and config.method != "repair":
        return plain[config.method](), {}
    repaired = repair(embeddings, sources, n_labels, known.rows, known.gold, folds=config.folds, seed=seed)
    if config.method == "repair":
        return repaired.opinion, {"repair": repaired.report}
    return _chosen({name: form() for name, form in plain.items()}, repaired, known)


def _chosen(
    opinions: dict[Method, LabelEstimate], repaired: Repaired, known: _Known
) -> tuple[LabelEstimate, dict[str, object]]:
    ballots = {
        name: HeldOutLabels(probs=one.probs[known.rows], kept=one.kept[known.rows]) for name, one in opinions.items()
    }
    ballots["repair"] = HeldOutLabels(probs=repaired.fair, kept=np.ones(len(known.rows), dtype=bool))
    choice = choose({name: ballots[name] for name in METHODS}, known.gold)
    opinion = repaired.opinion if choice.method == "repair" else opinions[choice.method]
    return opinion, {"methods": choice.scores, "repair": repaired.report}


def _report(
    decisions: Sequence[Decision], suspects: np.ndarray, opinion: LabelEstimate, labels: Sequence[str]
) -> dict[str, object]:
    actions = Counter(decision.action for decision in decisions)
    assert actions.total() == len(decisions)
    changes = Counter(f"{d.given} -> {d.label}" for d in decisions if d.given != d.label)
    before = Counter(d.given for d in decisions)
    after = Counter(d.label for d in decisions if d.weight > 0)
    return {
        "method": opinion.name,
        "rows": len(decisions),
        "suspects": int(suspects.sum()),
        "actions": {action: actions[action] for action in ("keep", "relabel", "drop", "review")},
        "changes": dict(changes.most_common()),
        "not_heard": list(opinion.not_heard),
        "source_weights": {name: round(weight, 4) for name, weight in opinion.weights.items()},
        "classes_before": {label: before[label] for label in labels},
        "classes_after": {label: after[label] for label in labels},
        "trusted": {},
        "methods": {},
        "repair": {},
        "sources": {},
    }
