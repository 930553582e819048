"""Three processes, killed now and then, on one store and a server that misbehaves at random: the books hold."""

from pathlib import Path

import pytest

from tests.misbehaving_server import misbehave


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "budget"), [(1, 1000.0), (2, 6.0)], ids=["a wide budget", "one that ends the runs"])
def test_the_books_hold_whatever_the_server_does(seed: int, budget: float, tmp_path: Path) -> None:
    outcome = misbehave(seed, tmp_path, n_rows=90, budget=budget, kills=1)
    assert outcome.crashes == []
    assert outcome.acts["good"] > 10
    assert outcome.server_usd <= outcome.booked_usd <= budget
    assert (outcome.paid_twice, outcome.unaccounted) == (0, 0)
