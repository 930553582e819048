"""How often a source is right: rows that were chosen as suspects are told from rows drawn at random."""

from typing import Any

import numpy as np
import pytest

from hybrid.labels.source_report import source_report
from hybrid.labels.sources import LabelSource
from hybrid.types import Trusted

LABELS = ("bad", "good")
N = 400
rng = np.random.default_rng(0)
GOLD = rng.integers(2, size=N)
GIVEN = np.where(rng.random(N) < 0.1, 1 - GOLD, GOLD)
WRONG, RIGHT = np.flatnonzero(GIVEN != GOLD), np.flatnonzero(GIVEN == GOLD)


def report(positions: np.ndarray, drawn: np.ndarray, given: np.ndarray = GIVEN) -> Any:
    source = LabelSource(name="given", label=given, confidence=np.full(N, np.nan))
    trusted = [
        Trusted(id=str(i), label=LABELS[GOLD[i]], source="review", drawn=bool(is_drawn))
        for i, is_drawn in zip(positions, drawn, strict=True)
    ]
    return source_report([source], trusted, positions, GOLD[positions], LABELS)["given"]


def test_of_chosen_rows_alone_only_bounds_are_certain() -> None:
    suspects = np.concatenate([WRONG[:19], RIGHT[:1]])
    given = report(suspects, np.zeros(20, dtype=bool))
    assert (given["right"], given["chosen"]) == (0.05, 20)
    assert given["overall"]["right"] is None
    assert given["overall"]["at_most"] == pytest.approx(1 - 19 / N)
    assert given["overall"]["at_least"] == pytest.approx(1 / N)
    assert given["overall"]["at_least"] <= (GIVEN == GOLD).mean() <= given["overall"]["at_most"]


def test_rows_drawn_at_random_estimate_the_share_whatever_else_was_chosen() -> None:
    """Over many draws the mean of the estimates is the truth, and the interval holds it in about 95 %."""
    truth = float((GIVEN == GOLD).mean())
    estimates, held = [], 0
    for seed in range(200):
        sample = np.random.default_rng(seed).permutation(N)[:60]
        chosen = np.setdiff1d(WRONG[:20], sample)
        given = report(np.concatenate([sample, chosen]), np.arange(60 + len(chosen)) < 60)
        assert given["right"] < given["overall"]["right"]
        estimates.append(given["overall"]["right"])
        held += given["overall"]["low"] <= truth <= given["overall"]["high"]
    assert np.mean(estimates) == pytest.approx(truth, abs=0.01)
    assert held >= 180


def test_a_source_without_labels_on_trusted_rows_has_no_share() -> None:
    given = report(WRONG[:5], np.zeros(5, dtype=bool), np.full(N, -1))
    assert (given["rows"], given["right"], given["overall"]["at_most"]) == (0, None, None)
