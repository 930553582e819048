"""Draw calibration and test rows: exact sizes, stratified by label, near-duplicates in one part."""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from hybrid.config import SplitConfig
from hybrid.data.source_rows import SourceRow
from hybrid.errors import DataError
from hybrid.label_sets import rarest_labels
from hybrid.types import Part, Task

PARTS: tuple[Part, ...] = ("train", "calibration", "test")


class DrawnParts(msgspec.Struct, frozen=True, kw_only=True):
    """How the parts were drawn; where the data assigns all of them, nothing was."""

    judges: Mapping[str, int] = {}
    """Rows by label from which calibration and test rows were drawn."""
    only_gold: bool = False
    """Whether those are the rows with gold, because other rows have none."""
    calibration_share: float | None = None
    """The share of those rows that calibrates; None where the recipe gives a number of rows."""
    drawn: Sequence[Part] = ()
    """The parts that were drawn."""


def draw_parts(
    rows: Sequence[SourceRow], config: SplitConfig, seed: int, task: Task, groups: np.ndarray
) -> tuple[list[Part | None], DrawnParts]:
    """Return the part of each row, None where it is not used, and how the parts were drawn.

    Args:
        rows: the rows; the part that one has already stays.
        config: the sizes of the parts.
        seed: decides which rows are drawn.
        task: whether a row has one label or several.
        groups: the near-duplicate group of each row, integers of shape [n]; a group stays in one part.

    Raises:
        DataError: the sizes are larger than the data.
    """
    parts: list[Part | None] = [row.part for row in rows]
    has_split = any(part is not None for part in parts)
    if has_split and "calibration" in parts:
        return parts, DrawnParts()
    open_rows = [i for i, part in enumerate(parts) if part in (None, "train")]
    has_gold = [rows[i].gold is not None for i in open_rows]
    partial_gold = any(has_gold) and not all(has_gold)
    judges = [i for i, gold in zip(open_rows, has_gold, strict=True) if gold or not partial_gold]
    sizes = _sizes(len(open_rows), len(judges), config, has_split=has_split, partial_gold=partial_gold)
    strata = _strata([rows[i] for i in judges], task)
    assigned = _assign(strata, judges, groups, sizes, seed)
    for i in open_rows:
        parts[i] = assigned.get(i, "train" if has_split or partial_gold or not config.train else None)
    drawn = DrawnParts(
        judges={label: n for label, n in sorted(Counter(strata).items()) if label},
        only_gold=partial_gold,
        calibration_share=_calibration_share(config, has_split=has_split, partial_gold=partial_gold),
        drawn=[part for part, size in sizes.items() if size != 0 and not (part == "train" and partial_gold)],
    )
    return parts, drawn


def _calibration_share(config: SplitConfig, *, has_split: bool, partial_gold: bool) -> float | None:
    """Return the share of the rows that may judge which calibrates; None where the recipe gives a number of rows."""
    if config.calibration >= 1:
        return None
    if not partial_gold or config.test >= 1:
        return config.calibration
    return config.calibration / (config.calibration + (0 if has_split else config.test))


def _sizes(
    n_rows: int, n_judges: int, config: SplitConfig, *, has_split: bool, partial_gold: bool
) -> dict[Part, int | None]:
    """Return how many rows each part gets; None for train: the rest."""

    def count(size: float) -> int:
        return round(size * n_rows) if size < 1 else round(size)

    test = 0 if has_split else count(config.test)
    calibration = count(config.calibration)
    if partial_gold and config.calibration < 1 and config.test < 1:
        calibration = round(n_judges * calibration / max(1, calibration + test))
        test = 0 if has_split else n_judges - calibration
    train = None if has_split or partial_gold or not config.train else count(config.train)
    total = calibration + test + (train or 0)
    if total > n_judges or (train is None and calibration + test >= n_rows):
        with_gold = " with a gold label" if partial_gold else ""
        raise DataError(
            f"split: the recipe asks for {total} rows (calibration {calibration}, test {test}, train {train or 'the rest'}), "
            f"but the data has {n_judges} rows{with_gold}; lower the sizes under [split] in the recipe"
        )
    return {"calibration": calibration, "test": test, "train": train}


def _strata(rows: Sequence[SourceRow], task: Task) -> list[str]:
    """Return the class of each row: its label, or the rarest of several."""
    labels = [(row.label if row.gold is None else row.gold) or "" for row in rows]
    return labels if task == "single_label" else rarest_labels(labels)


def _assign(
    strata: Sequence[str], indices: list[int], groups: np.ndarray, sizes: dict[Part, int | None], seed: int
) -> dict[int, Part]:
    """Return the part of each row by its index. Whole groups go first; single rows then fill each class's quota."""
    rng = np.random.default_rng(seed)
    stratum = dict(zip(indices, strata, strict=True))
    members: dict[int, list[int]] = {}
    for i in rng.permutation(indices):
        members.setdefault(int(groups[i]), []).append(int(i))
    duplicates = sorted((group for group in members.values() if len(group) > 1), key=len, reverse=True)
    singles = [group[0] for group in members.values() if len(group) == 1]
    quota_left = _quotas(Counter(stratum.values()), sizes, len(indices))
    assigned: dict[int, Part] = {}
    for group in duplicates:
        part = max(
            quota_left, key=lambda part: (sum(quota_left[part][stratum[i]] for i in group), PARTS.index(part) == 0)
        )
        for i in group:
            assigned[i] = part
            quota_left[part][stratum[i]] -= 1
    unplaced = []
    for i in singles:
        open_parts = [part for part in quota_left if quota_left[part][stratum[i]] > 0]
        if not open_parts:
            unplaced.append(i)
            continue
        assigned[i] = open_parts[0]
        quota_left[open_parts[0]][stratum[i]] -= 1
    for i in unplaced:
        part = max(quota_left, key=lambda part: quota_left[part].total())
        if quota_left[part].total() > 0:
            assigned[i] = part
            quota_left[part][max(quota_left[part], key=quota_left[part].__getitem__)] -= 1
    return assigned


def _quotas(classes: Counter[str], sizes: dict[Part, int | None], n_rows: int) -> dict[Part, Counter[str]]:
    """Return how many rows of each class each part gets: largest remainders, so that the totals are exact."""
    fixed = sum(size for size in sizes.values() if size is not None)
    n_of = {part: n_rows - fixed if size is None else size for part, size in sizes.items()}
    quotas = {}
    for part, n_part in n_of.items():
        exact = {name: n_part * n / n_rows for name, n in sorted(classes.items())}
        quota = Counter({name: int(share) for name, share in exact.items()})
        by_remainder = sorted(exact, key=lambda name: exact[name] - int(exact[name]), reverse=True)
        for name in by_remainder[: n_part - quota.total()]:
            quota[name] += 1
        quotas[part] = _with_rare_classes(quota, classes, n_parts=sum(n > 0 for n in n_of.values()))
    return quotas


def _with_rare_classes(quota: Counter[str], classes: Counter[str], *, n_parts: int) -> Counter[str]:
    """Give a class without a place one of the places of the largest, where it has rows for every part."""
    quota = quota.copy()
    for name in sorted(classes):
        largest = max(quota, key=lambda other: (quota[other], other), default=name)
        if quota[name] == 0 and classes[name] >= n_parts and quota[largest] > 1:
            quota[largest] -= 1
            quota[name] = 1
    return quota
