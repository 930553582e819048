"""The gate of synthesis, and how diverse drafts are."""

import msgspec
import numpy as np
import pytest

from hybrid.drafts.diversity import diversity
from hybrid.drafts.gate import Batch, Gate, _reason, _sign_test, gate

LABELS = ("common", "rare")


def blobs(seed: int, n_common: int, n_rare: int, gap: float = 1.6) -> Batch:
    """Return two clouds of vectors that overlap, the rare one `gap` away from the other."""
    rng = np.random.default_rng(seed)
    targets = np.repeat([0, 1], [n_common, n_rare])
    vectors = rng.normal(size=(len(targets), 4)) + np.outer(targets, [gap, 0, 0, 0])
    return Batch(vectors=vectors, targets=targets, weights=np.ones(len(targets)))


def only_rare(batch: Batch) -> Batch:
    rare = batch.targets == 1
    return Batch(vectors=batch.vectors[rare], targets=batch.targets[rare], weights=batch.weights[rare])


def judge(drafts: Batch, *, balanced: bool = False) -> Gate:
    return gate(blobs(0, 300, 30), drafts, LABELS, ["rare"], balanced=balanced, seed=0)


def test_drafts_that_are_like_the_rare_class_pass() -> None:
    found = judge(only_rare(blobs(1, 1, 60)))
    assert found.passed, found.reason
    assert found.recall["rare"][1] > found.recall["rare"][0]
    assert found.macro_f1[1] >= found.macro_f1[0]
    assert found.recall_gain_p <= 0.05


def test_drafts_that_are_like_the_common_class_are_refused_and_the_reason_has_figures() -> None:
    drafts = only_rare(blobs(1, 1, 300, gap=-0.5))
    found = judge(drafts)
    assert not found.passed
    assert found.reason.startswith(("macro-F1 on held-out real rows falls", "recall on minority rows changes by"))
    assert found.drafts == 300


def test_no_rise_is_no_clear_rise() -> None:
    assert "not clearly a rise" in _reason([0.7, 0.7], gain=0.0, p=1.0)
    assert _reason([0.7, 0.7], gain=0.02, p=0.01) == ""


def test_three_rows_found_and_none_lost_may_be_luck_and_five_are_not() -> None:
    assert _sign_test(3, 0) == pytest.approx(1 / 8)
    assert _sign_test(5, 0) == pytest.approx(1 / 32)
    assert _sign_test(0, 0) == 1


def test_the_same_seed_judges_the_same() -> None:
    drafts = only_rare(blobs(1, 1, 40))
    assert msgspec.to_builtins(judge(drafts)) == msgspec.to_builtins(judge(drafts))


def test_copies_have_fewer_different_words_and_more_similarity() -> None:
    vectors = np.eye(3)
    varied = diversity(["red fox runs", "blue whale sings", "green tree grows"], vectors)
    copied = diversity(["red fox runs"] * 3, np.repeat(vectors[:1], 3, axis=0))
    assert (varied["distinct_1"], varied["distinct_2"], varied["mean_similarity"]) == (1, 1, 0)
    assert (copied["distinct_1"], copied["distinct_2"]) == pytest.approx((3 / 9, 2 / 6), abs=1e-4)
    assert copied["mean_similarity"] == pytest.approx(1)
