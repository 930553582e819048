"""repair: a few trusted rows mend what a source gets wrong, and give a useless one no say."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hybrid.config import CleanConfig
from hybrid.data.trusted import draw_trusted
from hybrid.errors import ConfigError
from hybrid.labels import evidence
from hybrid.labels.cleaning import Cleaned, clean
from hybrid.labels.conditional_logit import fit_weights, log_probs_of
from hybrid.labels.estimate import LabelEstimate
from hybrid.labels.method_selection import HeldOutLabels, choose
from hybrid.labels.methods import METHODS, CleaningInputs, CleaningMethod, method_of
from hybrid.labels.soft_regression import fit_softmax, out_of_fold, softmax_log_probs
from hybrid.recipe_files.read import read_recipe
from hybrid.types import Decision, Example, Gold, Trusted, Vote
from tests.corpus import LABELS, noisy, texts_and_gold

N = 300
TEXTS, TRUE = texts_and_gold(N)
WORDS = sorted({word for text in TEXTS for word in text.lower().split()})
FEATURES = np.array([[word in text.lower().split() for word in WORDS] for text in TEXTS], dtype=np.float32)
FEATURES /= np.linalg.norm(FEATURES, axis=1, keepdims=True)


def rows_of(given: Sequence[str]) -> list[Example]:
    return [
        Example(id=f"r{i}", text=text, label=label) for i, (text, label) in enumerate(zip(TEXTS, given, strict=True))
    ]


def votes_of(said: Sequence[str], confidence: Sequence[float] | None = None) -> list[Vote]:
    sure = confidence if confidence is not None else [0.9] * len(said)
    return [
        Vote(id=f"r{i}", status="ok", label=label, teacher="t", confidence=float(c))
        for i, (label, c) in enumerate(zip(said, sure, strict=True))
    ]


def trust(rows: Sequence[Example], n: int) -> list[Trusted]:
    return draw_trusted(rows, [Gold(id=row.id, label=label) for row, label in zip(rows, TRUE, strict=True)], n, seed=0)


def cleaned(rows: Sequence[Example], votes: Sequence[Vote], trusted: Sequence[Trusted], method: str) -> Cleaned:
    config = CleanConfig(method=method, folds=3)
    return clean(rows, votes, LABELS, config, embed=lambda _: FEATURES, seed=0, trusted=trusted)


def wrong(decisions: Sequence[Decision], but: Sequence[Trusted] = ()) -> float:
    known = {one.id for one in but}
    judged = [(d.label, gold) for d, gold in zip(decisions, TRUE, strict=True) if d.id not in known]
    return float(np.mean([label != gold for label, gold in judged]))


def test_a_source_that_swaps_two_labels_is_read_the_other_way_round() -> None:
    swapped = {"bad": "plain", "plain": "bad", "good": "good"}
    rows = rows_of([swapped[label] for label in noisy(TRUE, 0.1)])
    trusted = trust(rows, 60)
    found = cleaned(rows, [], trusted, "repair")
    assert wrong(found.decisions, trusted) < 0.15
    assert np.mean([row.label != gold for row, gold in zip(rows, TRUE, strict=True)]) > 0.5
    assert {(one["label"], one["said"]) for one in found.report["sources"]["given"]["rewrite"][:2]} == {
        ("bad", "plain"),
        ("plain", "bad"),
    }


def test_repair_beats_the_consensus_where_the_teacher_is_the_better_source() -> None:
    rows, votes = rows_of(noisy(TRUE, 0.35)), votes_of(noisy(TRUE, 0.08, seed=1))
    trusted = trust(rows, 60)
    repaired = wrong(cleaned(rows, votes, trusted, "repair").decisions, trusted)
    assert repaired < wrong(cleaned(rows, votes, [], "consensus").decisions, trusted)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["repair", "auto"])
def test_a_teacher_that_guesses_makes_labels_at_most_a_third_of_a_point_worse(method: str) -> None:
    rng, worse = np.random.default_rng(3), []
    for seed in range(4):
        rows = rows_of(noisy(TRUE, 0.1, seed=seed))
        guesses = votes_of([str(label) for label in rng.choice(LABELS, N)], list(rng.uniform(0.5, 1, N)))
        trusted = trust(rows, 60)
        found = cleaned(rows, guesses, trusted, method)
        worse.append(wrong(found.decisions, trusted) - wrong(cleaned(rows, [], trusted, "given").decisions, trusted))
    assert np.mean(worse) <= 0.003


def test_a_trusted_row_takes_its_trusted_label_under_every_method() -> None:
    rows, votes = rows_of(noisy(TRUE, 0.3)), votes_of(noisy(TRUE, 0.3, seed=5))
    trusted = trust(rows, 40)
    label = {one.id: one.label for one in trusted}
    for method in ("given", "prune", "consensus", "repair", "auto"):
        decided = {d.id: d for d in cleaned(rows, votes, trusted, method).decisions}
        assert all(decided[row_id].label == wanted for row_id, wanted in label.items()), method
        assert all(decided[row_id].weight == 1 and max(decided[row_id].probs) == 1 for row_id in label), method
        assert "trusted: gold says" in decided[trusted[0].id].reason


def test_prune_drops_the_suspects_and_given_changes_nothing() -> None:
    rows = rows_of(noisy(TRUE, 0.25))
    pruned, kept = cleaned(rows, [], [], "prune"), cleaned(rows, [], [], "given")
    assert pruned.report["actions"]["drop"] == pruned.report["suspects"] > 0
    assert all(d.weight == 0 for d in pruned.decisions if d.action == "drop")
    assert kept.report["actions"]["keep"] == N
    assert [d.label for d in kept.decisions] == [row.label for row in rows]


def test_without_trusted_rows_auto_is_the_consensus_and_repair_is_refused() -> None:
    rows, votes = rows_of(noisy(TRUE, 0.25)), votes_of(noisy(TRUE, 0.1, seed=1))
    assert cleaned(rows, votes, [], "auto").report["method"] == "crowdlab"
    with pytest.raises(ConfigError, match=r"clean.method = 'repair': no training row is trusted"):
        cleaned(rows, votes, [], "repair")


def in_doubt(rows: Sequence[Example], n: int, *, drawn: bool) -> list[Trusted]:
    """The answers of a review to the first `n` rows that are labelled wrong."""
    wrong_rows = [(row, gold) for row, gold in zip(rows, TRUE, strict=True) if row.label != gold]
    return [Trusted(id=row.id, label=gold, source="review", drawn=drawn) for row, gold in wrong_rows[:n]]


def test_rows_that_a_review_picked_do_not_choose_the_method() -> None:
    rows, votes = rows_of(noisy(TRUE, 0.15)), votes_of(noisy(TRUE, 0.1, seed=1))
    picked = in_doubt(rows, 40, drawn=False)
    on_picked = cleaned(rows, votes, picked, "auto")
    assert on_picked.report["method_id"] == "consensus"
    assert (on_picked.report["methods"], on_picked.report["picked_rows"]) == ({}, 40)
    decided = {decision.id: decision.label for decision in on_picked.decisions}
    assert all(decided[row.id] == row.label for row in picked), "their labels are trusted all the same"
    # The control: the same rows would choose another method where they passed for a random sample.
    as_if_drawn = cleaned(rows, votes, in_doubt(rows, 40, drawn=True), "auto")
    assert as_if_drawn.report["method_id"] == "repair"
    scores = as_if_drawn.report["methods"]
    assert scores["repair"]["brier"] < scores["consensus"]["brier"]


def test_only_the_trusted_rows_that_were_drawn_judge_the_methods() -> None:
    rows, votes = rows_of(noisy(TRUE, 0.15)), votes_of(noisy(TRUE, 0.1, seed=1))
    drawn = trust(rows, 60)
    ids = {row.id for row in drawn}
    picked = [row for row in in_doubt(rows, 40, drawn=False) if row.id not in ids]
    together = cleaned(rows, votes, [*drawn, *picked], "auto").report
    assert (together["method_rows"], together["picked_rows"]) == (60, len(picked))
    # Pruning and the given labels depend on no trusted row: their scores are those on the drawn rows alone.
    alone = cleaned(rows, votes, drawn, "auto").report
    for method in ("given", "prune", "consensus"):
        assert together["methods"][method] == alone["methods"][method]


def test_auto_reports_what_each_method_was_worth_on_the_trusted_rows() -> None:
    rows, votes = rows_of(noisy(TRUE, 0.35)), votes_of(noisy(TRUE, 0.08, seed=1))
    found = cleaned(rows, votes, trust(rows, 60), "auto")
    assert list(found.report["methods"]) == ["given", "prune", "consensus", "repair"]
    assert found.report["methods"]["repair"]["brier"] < found.report["methods"]["given"]["brier"]
    assert all(
        score["right"] + score["wrong"] + score["dropped"] == pytest.approx(1, abs=1e-3)
        for score in found.report["methods"].values()
    )
    assert found.report["trusted"] == {"gold": 60}


def test_of_methods_that_the_trusted_rows_cannot_tell_apart_the_simplest_is_taken() -> None:
    gold = np.arange(60) % 3
    given = np.eye(3)[gold]
    given[:6] = np.eye(3)[(gold[:6] + 1) % 3]
    luckier = given.copy()
    luckier[:2] = np.eye(3)[gold[:2]]
    luckier[9] = np.eye(3)[(gold[9] + 1) % 3]
    everywhere = np.ones(60, dtype=bool)
    ballots = {
        "given": HeldOutLabels(probs=given, kept=everywhere),
        "repair": HeldOutLabels(probs=luckier, kept=everywhere),
    }
    assert choose(ballots, gold).method == "given"
    assert choose(ballots | {"repair": HeldOutLabels(probs=np.eye(3)[gold], kept=everywhere)}, gold).method == "repair"


def test_a_dropped_row_scores_as_one_of_which_nothing_is_known() -> None:
    gold = np.array([0, 1])
    sure = HeldOutLabels(probs=np.eye(2), kept=np.array([True, False]))
    assert choose({"prune": sure}, gold).scores["prune"] == {"right": 0.5, "wrong": 0.0, "dropped": 0.5, "brier": 0.25}


def test_softmax_regression_recovers_the_distribution_that_made_soft_targets() -> None:
    rng = np.random.default_rng(0)
    features, true = rng.normal(size=(400, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    targets = np.exp(softmax_log_probs(true, features))
    found = np.exp(softmax_log_probs(fit_softmax(features, targets, penalty=1e-3), features))
    assert np.abs(found - targets).max() < 0.01


def test_a_row_is_answered_by_rows_of_other_folds_alone() -> None:
    # Every row is the only one of its kind: in its own fold it would be known, out of fold it cannot be.
    features, targets = np.eye(12, dtype=np.float32), np.eye(2)[np.arange(12) % 2]
    probs = np.exp(out_of_fold(features, targets, np.arange(12) // 2, penalty=0.01))
    assert probs == pytest.approx(np.full((12, 2), 0.5), abs=1e-3)


def test_weights_follow_the_evidence_that_names_the_label() -> None:
    rng = np.random.default_rng(1)
    gold = rng.integers(5, size=300)
    telling, noise = np.eye(5)[np.where(rng.random(300) < 0.8, gold, rng.integers(5, size=300))], rng.random((300, 5))
    weights = fit_weights(np.stack([telling, noise], axis=-1), gold)
    assert weights[0] > 2 > 0.5 > abs(weights[1])
    probs = np.exp(log_probs_of(np.stack([telling, noise], axis=-1), weights))
    assert probs.max(axis=1).mean() == pytest.approx((probs.argmax(axis=1) == gold).mean(), abs=0.05)


def test_a_method_is_one_entry_and_recipes_cleaning_and_review_know_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def majority(inputs: CleaningInputs) -> LabelEstimate:
        n_labels = inputs.probs.shape[1]
        counts = sum(np.where(s.has_label[:, None], np.eye(n_labels)[s.label], 0) for s in inputs.sources)
        probs = np.asarray(counts) / np.sum(counts, axis=1, keepdims=True)
        return LabelEstimate(
            method="majority",
            name="majority of the sources",
            label=probs.argmax(axis=1),
            quality=probs.max(axis=1),
            probs=probs,
            kept=np.ones(len(probs), dtype=bool),
            weights={source.name: 1.0 for source in inputs.sources},
        )

    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "r"\n[data]\ntrain = "rows.csv"\n[clean]\nmethod = "majority"\n')
    with pytest.raises(ConfigError, match=r"clean\.method = 'majority': expected one of auto, given, prune, consensus"):
        read_recipe(recipe)
    monkeypatch.setitem(METHODS, "majority", CleaningMethod(estimate=majority, name="majority"))
    assert read_recipe(recipe).clean.method == "majority"
    rows = rows_of(noisy(TRUE, 0.3))
    votes = votes_of(noisy(TRUE, 0.1, seed=1)) + [
        msgspec.structs.replace(vote, sample=1) for vote in votes_of(noisy(TRUE, 0.1, seed=2))
    ]
    found = cleaned(rows, votes, [], "majority")
    assert wrong(found.decisions) < 0.1 < np.mean([row.label != gold for row, gold in zip(rows, TRUE, strict=True)])
    assert "; majority " in found.decisions[0].reason
    assert method_of(found.report) is METHODS["majority"]
    assert list(cleaned(rows, votes, trust(rows, 60), "auto").report["methods"])[-1] == "majority"


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("as given", "given"),
        ("prune", "prune"),
        ("crowdlab", "consensus"),
        ("confident learning", "consensus"),
        ("repair", "repair"),
    ],
)
def test_the_method_of_an_old_run_is_known_by_its_name(name: str, method: str) -> None:
    assert method_of({"method": name}) is METHODS[method]


def test_neighbours_are_those_among_all_rows_or_among_drawn_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(3).standard_normal((300, 8)).astype(np.float32)
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    nearest = np.argsort(-similar, axis=1)[:, : evidence.NEIGHBOURS]
    assert (np.sort(evidence.neighbours_of(vectors), axis=1) == np.sort(nearest, axis=1)).all()
    monkeypatch.setattr(evidence, "REFERENCE_ROWS", 100)
    among_drawn = evidence.neighbours_of(vectors)
    drawn = np.unique(among_drawn)
    assert len(drawn) == 100
    assert not (among_drawn == np.arange(300)[:, None]).any()
    expected = drawn[np.argsort(-similar[:, drawn], axis=1)[:, : evidence.NEIGHBOURS]]
    assert (np.sort(among_drawn, axis=1) == np.sort(expected, axis=1)).all()
