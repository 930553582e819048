"""clean: every row gets a decision, votes outweigh a lone label, and nobody's label changes without a second voice."""

import numpy as np
import pytest

from hybrid.config import CleanConfig
from hybrid.labels.cleaning import clean
from hybrid.types import Example, Vote
from tests.corpus import LABELS, noisy, texts_and_gold

N = 240
TEXTS, GOLD = texts_and_gold(N)
GIVEN = noisy(GOLD, 0.25)
ROWS = [Example(id=f"r{i}", text=text, label=label) for i, (text, label) in enumerate(zip(TEXTS, GIVEN, strict=True))]
VOTES = [
    Vote(id=row.id, status="ok", label=label, teacher="t", confidence=0.9)
    for row, label in zip(ROWS, noisy(GOLD, 0.05, seed=1), strict=True)
]
CONFIG = CleanConfig()


def embed(texts: list[str]) -> np.ndarray:
    """Return bag-of-words vectors: enough for the classifier to know something."""
    words = sorted({word for text in TEXTS for word in text.lower().split()})
    return np.array([[word in text.lower().split() for word in words] for text in texts], dtype=np.float32)


def wrong(decisions: list) -> float:
    return float(np.mean([decision.label != gold for decision, gold in zip(decisions, GOLD, strict=True)]))


def test_votes_and_classifier_together_repair_most_wrong_labels() -> None:
    found = clean(ROWS, VOTES, LABELS, CONFIG, embed=embed, seed=0)
    assert np.mean([given != gold for given, gold in zip(GIVEN, GOLD, strict=True)]) > 0.2
    assert wrong(found.decisions) < 0.08
    assert found.report["method"] == "crowdlab"


def test_every_row_has_a_decision_in_row_order_and_the_counts_add_up() -> None:
    found = clean(ROWS, VOTES, LABELS, CONFIG, embed=embed, seed=0)
    assert [decision.id for decision in found.decisions] == [row.id for row in ROWS]
    assert sum(found.report["actions"].values()) == N
    assert all(sum(decision.probs) == pytest.approx(1, abs=1e-4) for decision in found.decisions)
    assert all(d.label == d.given for d in found.decisions if d.action == "keep")
    assert all(d.label != d.given for d in found.decisions if d.action == "relabel")


def test_the_same_rows_give_the_same_decisions() -> None:
    first, again = (clean(ROWS, VOTES, LABELS, CONFIG, embed=embed, seed=0).decisions for _ in range(2))
    assert first == again


def test_without_a_teacher_no_label_changes_and_suspects_wait_for_review() -> None:
    found = clean(ROWS, [], LABELS, CleanConfig(), embed=embed, seed=0)
    assert all(decision.label == decision.given for decision in found.decisions)
    reviewed = {d.id for d in found.decisions if d.action == "review"}
    truly_wrong = {row.id for row, gold in zip(ROWS, GOLD, strict=True) if row.label != gold}
    assert len(reviewed & truly_wrong) > 0.6 * len(reviewed) > 0


def test_a_vote_that_is_no_label_does_not_count() -> None:
    unreadable = [Vote(id=row.id, status="unreadable", teacher="t", reason="?") for row in ROWS]
    assert clean(ROWS, unreadable, LABELS, CONFIG, embed=embed, seed=0).report["method"] == "confident learning"


def test_rows_below_the_drop_line_stay_in_the_table_with_no_weight() -> None:
    found = clean(ROWS, [], LABELS, CleanConfig(drop=0.3), embed=embed, seed=0)
    dropped = [decision for decision in found.decisions if decision.action == "drop"]
    assert dropped
    assert all(decision.weight == 0 for decision in dropped)
    assert len(found.decisions) == N


def votes_right(share: float, seed: int = 1) -> list[Vote]:
    """Votes of a teacher that is right on a share of the rows, and wrong at random on the others."""
    said = noisy(GOLD, 1 - share, seed=seed)
    return [Vote(id=row.id, status="ok", label=one, teacher="weak") for row, one in zip(ROWS, said, strict=True)]


def test_a_teacher_that_knows_little_does_no_harm_and_the_report_names_it() -> None:
    as_given = wrong(clean(ROWS, [], LABELS, CONFIG, embed=embed, seed=0).decisions)
    for share in (0.2, 0.33, 0.45):
        found = clean(ROWS, votes_right(share), LABELS, CONFIG, embed=embed, seed=0)
        assert found.report["not_heard"] == ["weak#0"]
        assert found.report["source_weights"]["weak#0"] == 0  # type: ignore[index]
        assert wrong(found.decisions) <= as_given


def test_a_teacher_that_knows_as_much_as_the_given_labels_is_heard() -> None:
    as_given = wrong(clean(ROWS, [], LABELS, CONFIG, embed=embed, seed=0).decisions)
    for seed in (1, 2, 3):
        found = clean(ROWS, votes_right(0.75, seed), LABELS, CONFIG, embed=embed, seed=0)
        assert found.report["not_heard"] == []
        assert wrong(found.decisions) < as_given


def test_beside_a_teacher_that_knows_the_weak_one_is_left_out_alone() -> None:
    found = clean(ROWS, [*VOTES, *votes_right(0.33)], LABELS, CONFIG, embed=embed, seed=0)
    assert found.report["not_heard"] == ["weak#0"]
    assert wrong(found.decisions) < 0.08


def test_several_annotators_are_weighed_like_a_teacher() -> None:
    names = ("ann", "bob", "cid")
    said = {name: noisy(GOLD, 0.2, seed=i) for i, name in enumerate(names)}
    rows = [
        Example(id=row.id, text=row.text, label=said["ann"][i], annotations={n: said[n][i] for n in names})
        for i, row in enumerate(ROWS)
    ]
    found = clean(rows, [], LABELS, CONFIG, embed=embed, seed=0)
    assert found.report["method"] == "crowdlab"
    assert set(found.report["source_weights"]) == {*names, "classifier"}
    assert wrong(found.decisions) < 0.1
