"""The VADER tweets: one rater's label for training, the mean of all raters as gold."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean


def prepare(fetch: Callable[[str], Path], seed: int) -> list[dict[str, str]]:
    """Return the 4,200 tweets as rows of id, text, label (one rater's) and gold (all raters')."""
    folder = fetch("vader-tweets")
    ratings = {cells[0]: json.loads(cells[3]) for cells in _lines(folder / "tweets_anonDataRatings.txt")}
    return [
        {
            "id": f"tweets/{number}",
            "text": text,
            "label": _one_rater(ratings[number], seed, f"tweets/{number}"),
            "gold": _all_raters(ratings[number]),
        }
        for number, _, text in _lines(folder / "tweets_GroundTruth.txt")
    ]


def _lines(path: Path) -> list[list[str]]:
    """Return the cells of each line; the files are tab-separated, never quoted, and may start with a BOM."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8-sig").split("\n") if line]


def _all_raters(ratings: Sequence[int]) -> str:
    """Return the class of the mean. The means printed in the files are not used: some differ from the ratings."""
    mean = fmean(ratings)
    return "positive" if mean >= 0.5 else "negative" if mean <= -0.5 else "neutral"


def _one_rater(ratings: Sequence[int], seed: int, row_id: str) -> str:
    """Return the sign of one rating, drawn by seed and id alone, so that no other row can change it."""
    digest = hashlib.sha256(f"{seed}:{row_id}".encode()).digest()
    rating = ratings[int.from_bytes(digest[:8], "big") % len(ratings)]
    return "positive" if rating > 0 else "negative" if rating < 0 else "neutral"
