"""A small labelled corpus that a small model can learn: reviews of dishes, with a noisy given label."""

from collections.abc import Sequence

import numpy as np

LABELS = ("bad", "good", "plain")
WORDS = {
    "bad": ("awful", "stale", "burnt", "cold", "rotten", "greasy", "bland", "soggy"),
    "good": ("lovely", "fresh", "crisp", "superb", "rich", "tender", "fragrant", "delightful"),
    "plain": ("round", "boiled", "sliced", "daily", "large", "white", "served", "ordinary"),
}
DISHES = ("soup", "bread", "salad", "stew", "pie", "rice", "fish", "omelette", "pasta", "curry", "tart", "roast")
PLACES = ("station", "harbour", "market", "garden", "castle", "corner", "bridge", "museum", "library", "island")


def texts_and_gold(n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return `n` different texts and their true labels; `plain` is the rare class."""
    rng = np.random.default_rng(seed)
    texts, gold = [], []
    while len(texts) < n:
        label = str(rng.choice(LABELS, p=(0.4, 0.45, 0.15)))
        first, second = rng.choice(WORDS[label], 2, replace=False)
        dish, place = rng.choice(DISHES), rng.choice(PLACES)
        text = f"The {dish} at the {place} was {first} and {second}, table {rng.integers(1000)}."
        if text not in texts:
            texts.append(text)
            gold.append(label)
    return texts, gold


def noisy(gold: Sequence[str], share: float, seed: int = 0) -> list[str]:
    """Return the labels with about `share` of them replaced by another label."""
    rng = np.random.default_rng(seed)
    return [
        str(rng.choice([other for other in LABELS if other != label])) if rng.random() < share else label
        for label in gold
    ]
