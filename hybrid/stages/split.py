"""split: deal the given rows to train, calibration and test."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.config import SplitConfig
from hybrid.data.duplicates import NearIndex, near_duplicate_groups
from hybrid.data.sources import SourceRow
from hybrid.errors import DataError
from hybrid.label_sets import rarest_labels, split_labels
from hybrid.types import Example, Gold, Part, Task

PARTS: tuple[Part, ...] = ("train", "calibration", "test")


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """The rows with their part, the gold labels apart, and the counts."""

    rows: list[Example]
    gold: list[Gold]
    report: dict[str, object]


def split(
    rows: Sequence[SourceRow],
    labels: Sequence[str],
    config: SplitConfig,
    *,
    seed: int,
    task: Task = "single_label",
) -> Split:
    """Return every row with its part: stratified, seeded, near-duplicates on one side.

    A training row keeps the given label. A calibration or test row carries its gold label where
    the data has gold; where it has none, the given label, and `report["trusted"]` is False. Where
    only some rows have gold, those are the ones that calibrate and test.

    Several labels a row are stratified by the rarest of them, and rows without any as a class of their own.

    A ready-made split is kept as it is; what it lacks of calibration rows is drawn from train.

    Raises:
        DataError: the parts that the recipe wants are larger than the data.
    """
    parts, n_groups = _parts(rows, config, seed, task)
    kept = [(row, part) for row, part in zip(rows, parts, strict=True) if part is not None]
    examples = [_example(row, part) for row, part in kept]
    gold = [Gold(id=row.id, label=row.gold) for row, _ in kept if row.gold is not None]
    judging = [row for row, part in kept if part != "train"]
    return Split(
        rows=examples,
        gold=gold,
        report={
            "rows": len(rows),
            "unused": len(rows) - len(kept),
            "parts": {part: sum(example.part == part for example in examples) for part in PARTS},
            "classes": {part: _count(examples, part, labels, task) for part in PARTS},
            "near_duplicates": len(rows) - n_groups,
            "twins": _twins(examples, config.near_duplicate),
            "gold_rows": len(gold),
            "trusted": all(row.gold is not None for row in judging),
        },
    )


def _parts(rows: Sequence[SourceRow], config: SplitConfig, seed: int, task: Task) -> tuple[list[Part | None], int]:
    """Return a part for each row, None where it is not used, and the number of near-duplicate groups."""
    groups = near_duplicate_groups([row.text for row in rows], config.near_duplicate)
    n_groups = int(groups.max()) + 1
    parts: list[Part | None] = [row.part for row in rows]
    ready = any(part is not None for part in parts)
    if ready and "calibration" in parts:
        return parts, n_groups
    free = [i for i, part in enumerate(parts) if part in (None, "train")]
    has_gold = [rows[i].gold is not None for i in free]
    partial_gold = any(has_gold) and not all(has_gold)
    judges = [i for i, gold in zip(free, has_gold, strict=True) if gold or not partial_gold]
    sizes = _sizes(len(free), len(judges), config, ready=ready, partial_gold=partial_gold)
    dealt = _deal(_strata([rows[i] for i in judges], task), judges, groups, sizes, seed)
    for i in free:
        parts[i] = dealt.get(i, "train" if ready or partial_gold or not config.train else None)
    return parts, n_groups


def _sizes(
    n_rows: int, n_judges: int, config: SplitConfig, *, ready: bool, partial_gold: bool
) -> dict[Part, int | None]:
    """Return how many rows each part wants; None for train: the rest."""

    def count(size: float) -> int:
        return round(size * n_rows) if size < 1 else round(size)

    test = 0 if ready else count(config.test)
    calibration = count(config.calibration)
    if partial_gold and config.calibration < 1 and config.test < 1:
        calibration = round(n_judges * calibration / max(1, calibration + test))
        test = 0 if ready else n_judges - calibration
    train = None if ready or partial_gold or not config.train else count(config.train)
    wanted = calibration + test + (train or 0)
    if wanted > n_judges or (train is None and calibration + test >= n_rows):
        with_gold = " with a gold label" if partial_gold else ""
        raise DataError(
            f"split: {wanted} rows are wanted (calibration {calibration}, test {test}, train {train or 'the rest'}), "
            f"but the data has {n_judges} rows{with_gold}; lower the sizes under [split] in the recipe"
        )
    return {"calibration": calibration, "test": test, "train": train}


def _strata(rows: Sequence[SourceRow], task: Task) -> list[str]:
    """Return the class of each row: its label, or the rarest of several."""
    known = [(row.label if row.gold is None else row.gold) or "" for row in rows]
    return known if task == "single_label" else rarest_labels(known)


def _deal(
    strata: Sequence[str], indices: list[int], groups: np.ndarray, sizes: dict[Part, int | None], seed: int
) -> dict[int, Part]:
    """Return the part of each dealt row. Whole groups go first, single rows then fill each class's quota."""
    rng = np.random.default_rng(seed)
    stratum = dict(zip(indices, strata, strict=True))
    members: dict[int, list[int]] = {}
    for i in rng.permutation(indices):
        members.setdefault(int(groups[i]), []).append(int(i))
    together = sorted((group for group in members.values() if len(group) > 1), key=len, reverse=True)
    singles = [group[0] for group in members.values() if len(group) == 1]
    left = _quotas(Counter(stratum.values()), sizes, len(indices))
    dealt: dict[int, Part] = {}
    for group in together:
        part = max(left, key=lambda part: (sum(left[part][stratum[i]] for i in group), PARTS.index(part) == 0))
        for i in group:
            dealt[i] = part
            left[part][stratum[i]] -= 1
    waiting = []
    for i in singles:
        open_parts = [part for part in left if left[part][stratum[i]] > 0]
        if not open_parts:
            waiting.append(i)
            continue
        dealt[i] = open_parts[0]
        left[open_parts[0]][stratum[i]] -= 1
    for i in waiting:
        part = max(left, key=lambda part: left[part].total())
        if left[part].total() > 0:
            dealt[i] = part
            left[part][max(left[part], key=left[part].__getitem__)] -= 1
    return dealt


def _quotas(classes: Counter[str], sizes: dict[Part, int | None], n_rows: int) -> dict[Part, Counter[str]]:
    """Return for each part how many rows of each class it gets: largest remainders, exact totals."""
    fixed = sum(size for size in sizes.values() if size is not None)
    quotas = {}
    for part, size in sizes.items():
        wanted = n_rows - fixed if size is None else size
        exact = {name: wanted * n / n_rows for name, n in sorted(classes.items())}
        quota = Counter({name: int(share) for name, share in exact.items()})
        by_remainder = sorted(exact, key=lambda name: exact[name] - int(exact[name]), reverse=True)
        for name in by_remainder[: wanted - quota.total()]:
            quota[name] += 1
        quotas[part] = quota
    return quotas


def _example(row: SourceRow, part: Part) -> Example:
    label = row.gold if part != "train" and row.gold is not None else row.label
    assert label is not None, f"{row.id}: no label survived the checks of the data"
    return Example(id=row.id, text=row.text, label=label, part=part, annotations=row.annotations)


def _count(examples: Sequence[Example], part: Part, labels: Sequence[str], task: Task) -> dict[str, int]:
    said = [example.label for example in examples if example.part == part]
    found = Counter(said) if task == "single_label" else Counter(label for one in said for label in split_labels(one))
    return {label: found[label] for label in labels}


def _twins(examples: Sequence[Example], threshold: float) -> list[str]:
    """Return the ids of test rows with a near-copy in train; only a ready-made split can have any."""
    index = NearIndex([example.text for example in examples if example.part == "train"], threshold)
    return [example.id for example in examples if example.part == "test" and index.nearest(example.text)]
