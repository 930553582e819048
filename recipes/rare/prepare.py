"""The tweets of the sentiment recipe, with a class of which 30 rows are left to train on."""

import hashlib
import json
import runpy
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
RARE = "neutral"
JUDGES = {"test": 1200, "calibration": 600}


def prepare(fetch: Callable[[str], Path], seed: int) -> list[dict[str, str]]:
    """Return the rows with the part that each belongs to.

    The rare rows that train are those that the recorded drafts were written from, so that no draft knows a row that the
    training set does not have. No other row that the crowd or its one rater calls by that class trains. Calibration and
    test are drawn by id from the rest, with the class as frequent as it is in the data.
    """
    every = runpy.run_path(str(HERE.parent / "sentiment" / "prepare.py"))["prepare"](fetch, seed)
    drafts = [json.loads(line) for line in (HERE / "synthetic.jsonl").read_text(encoding="utf-8").splitlines()]
    parents = {parent for draft in drafts for parent in draft["parents"]}
    rest = sorted((row for row in every if row["id"] not in parents), key=lambda row: _place(row["id"]))
    part_of = dict.fromkeys(parents, "train")
    for part, count in JUDGES.items():
        part_of |= {row["id"]: part for row in rest[:count]}
        rest = rest[count:]
    part_of |= {row["id"]: "train" for row in rest if RARE not in (row["gold"], row["label"])}
    return [row | {"part": part_of[row["id"]]} for row in every if row["id"] in part_of]


def _place(row_id: str) -> str:
    """Return where a row stands in the draw, by its id alone."""
    return hashlib.sha256(f"part:{row_id}".encode()).hexdigest()
