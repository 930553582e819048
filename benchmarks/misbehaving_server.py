"""Twenty servers that misbehave at random, each asked by three processes that are killed and go on: what the books show.

`python benchmarks/misbehaving_server.py [--seeds N] [--first SEED]`: about a minute a seed. One call of three ends as it should not: every
HTTP status with an error of the protocol or with a gateway's page, billed or not, connections that break, answers that
are cut, late, of another type or not what was asked for, usage that is none, batches whose ids, states and results get
lost. The processes share a trace store and rows; one asks in batches. In every other case the budget is too small.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from targets import bar, finish

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.misbehaving_server import Outcome, misbehave

SEEDS = 20
ROWS = 2_200
KILLS = 2
"""Of each of the three processes."""
BUDGETS = (1_000.0, 310.0)
"""USD; all calls of a case are booked at about 370."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first", type=int, default=1)
    options = parser.parse_args()
    outcomes = []
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(misbehave(seed, Path(folder), n_rows=ROWS, budget=BUDGETS[seed % 2], kills=KILLS))
        print(line(seed, outcomes[-1]), flush=True)
    report(outcomes)
    finish()


def line(seed: int, outcome: Outcome) -> str:
    return (
        f"seed {seed}: {outcome.calls} calls, {sum(outcome.acts.values()) - outcome.acts['good']} of them bad, "
        f"{outcome.kills} kills; the server billed {outcome.server_usd:.2f} USD, booked are {outcome.booked_usd:.2f} "
        f"of {outcome.budget:g}"
    )


def report(outcomes: list[Outcome]) -> None:
    fewest = min(outcome.calls for outcome in outcomes)
    bar("misbehaving_fewest_calls", fewest, ">= 2000 in every case", fewest >= 2000)
    least = min(outcome.booked_usd - outcome.server_usd for outcome in outcomes)
    bar("misbehaving_booked_minus_billed_usd", round(least, 2), ">= 0 in every case", least >= 0)
    crossed = sum(max(outcome.booked_usd, outcome.server_usd) > outcome.budget for outcome in outcomes)
    bar("misbehaving_budgets_crossed", crossed, "0", not crossed)
    for name, count in (
        ("answers_paid_twice", sum(outcome.paid_twice for outcome in outcomes)),
        ("rows_unaccounted", sum(outcome.unaccounted for outcome in outcomes)),
        ("crashes", sum(len(outcome.crashes) for outcome in outcomes)),
    ):
        bar(f"misbehaving_{name}", count, "0", not count)


if __name__ == "__main__":
    main()
