"""split: assign the given rows to train, calibration and test."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.config import DataConfig, Recipe, SplitConfig
from hybrid.data.annotations import no_votes_phrase
from hybrid.data.duplicates import NearIndex, near_duplicate_groups
from hybrid.data.escalated_rows import Joined, join_added, read_added
from hybrid.data.label_checks import check_labels
from hybrid.data.source_rows import SourceRow, labels_of
from hybrid.data.sources import load_data
from hybrid.errors import DataError
from hybrid.hub import is_hub
from hybrid.label_sets import rarest_labels, split_labels
from hybrid.stages.stage import GOLD, ROWS, Reads, Stage, StageIO
from hybrid.types import Example, Gold, Part, Report, Task

PARTS: tuple[Part, ...] = ("train", "calibration", "test")


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """The rows with their part, the gold labels in a table of their own, and the counts of the stage's report."""

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
    """Assign every row to a part: stratified by label, seeded, near-duplicates in the same part.

    A training row keeps the given label. A calibration or test row carries its gold label where
    the data has gold, else the given label, and `report["judged_by_gold"]` is then False. Where
    only some rows have gold, those are the ones that calibrate and test.

    Rows with several labels are stratified by the rarest of them, and rows without any are a class of their own.

    A split that comes with the data is kept as it is; calibration rows that it lacks are drawn from train.

    Raises:
        DataError: the parts that the recipe asks for are larger than the data.
    """
    parts, n_groups = _parts(rows, config, seed, task)
    used = [(row, part) for row, part in zip(rows, parts, strict=True) if part is not None]
    examples = [_example(row, part) for row, part in used]
    gold = [Gold(id=row.id, label=row.gold) for row, _ in used if row.gold is not None]
    judged_by_gold = all(row.gold is not None for row, part in used if part != "train")
    return Split(
        rows=examples,
        gold=gold,
        report={
            "rows": len(rows),
            "unused": len(rows) - len(used),
            "parts": {part: sum(example.part == part for example in examples) for part in PARTS},
            "classes": {part: _count(examples, part, labels, task) for part in PARTS},
            "near_duplicates": len(rows) - n_groups,
            "twins": _leaked_ids(examples, config.near_duplicate),
            "gold_rows": len(gold),
            "judged_by_gold": judged_by_gold,
            "trusted": judged_by_gold,  # its name in version 0.1.0
        },
    )


def _parts(rows: Sequence[SourceRow], config: SplitConfig, seed: int, task: Task) -> tuple[list[Part | None], int]:
    """Return the part of each row, None where it is not used, and the number of near-duplicate groups."""
    groups = near_duplicate_groups([row.text for row in rows], config.near_duplicate)
    n_groups = int(groups.max()) + 1
    parts: list[Part | None] = [row.part for row in rows]
    has_split = any(part is not None for part in parts)
    if has_split and "calibration" in parts:
        return parts, n_groups
    open_rows = [i for i, part in enumerate(parts) if part in (None, "train")]
    has_gold = [rows[i].gold is not None for i in open_rows]
    partial_gold = any(has_gold) and not all(has_gold)
    judges = [i for i, gold in zip(open_rows, has_gold, strict=True) if gold or not partial_gold]
    sizes = _sizes(len(open_rows), len(judges), config, has_split=has_split, partial_gold=partial_gold)
    assigned = _assign(_strata([rows[i] for i in judges], task), judges, groups, sizes, seed)
    for i in open_rows:
        parts[i] = assigned.get(i, "train" if has_split or partial_gold or not config.train else None)
    return parts, n_groups


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
    quotas = {}
    for part, size in sizes.items():
        n_part = n_rows - fixed if size is None else size
        exact = {name: n_part * n / n_rows for name, n in sorted(classes.items())}
        quota = Counter({name: int(share) for name, share in exact.items()})
        by_remainder = sorted(exact, key=lambda name: exact[name] - int(exact[name]), reverse=True)
        for name in by_remainder[: n_part - quota.total()]:
            quota[name] += 1
        quotas[part] = quota
    return quotas


def _example(row: SourceRow, part: Part) -> Example:
    label = row.gold if part != "train" and row.gold is not None else row.label
    assert label is not None, f"{row.id}: no label survived the checks of the data"
    return Example(id=row.id, text=row.text, label=label, part=part, annotations=row.annotations, where=row.where)


def _count(examples: Sequence[Example], part: Part, labels: Sequence[str], task: Task) -> dict[str, int]:
    """Return how many rows of a part have each label."""
    joined = [example.label for example in examples if example.part == part]
    every = joined if task == "single_label" else [label for row_labels in joined for label in split_labels(row_labels)]
    counts = Counter(every)
    return {label: counts[label] for label in labels}


def _leaked_ids(examples: Sequence[Example], threshold: float) -> list[str]:
    """Return the ids of test rows with a near-duplicate in train; only a split that came with the data can have any."""
    index = NearIndex([example.text for example in examples if example.part == "train"], threshold)
    return [example.id for example in examples if example.part == "test" and index.nearest(example.text)]


DATA_FILES = ("data.prepare", "data.train", "data.calibration", "data.test")


def _reads(_: Recipe) -> Reads:
    return Reads(
        settings=("data", "split", "labels", "task", "seed"),
        recipe_files=DATA_FILES,
        shared_files=("escalated",),
        artefacts=True,  # `prepare` may fetch any of them
    )


def _work(io: StageIO) -> Report:
    recipe = io.recipe
    dataset = load_data(
        _pinned(recipe.data, io),
        folder=io.recipe_dir,
        seed=recipe.seed,
        fetch=io.fetch,
        task=recipe.task,
        labels=recipe.labels,
    )
    # Sorted: whatever order the recipe names them in, every later stage computes the same.
    labels = sorted(recipe.labels) or labels_of(dataset)
    check_labels(dataset, labels)
    dealt = split(dataset.rows, labels, recipe.split, seed=recipe.seed, task=recipe.task)
    joined = Joined(rows=dealt.rows, gold=dealt.gold, report=dealt.report)
    escalated = [] if recipe.task == "multi_label" else read_added(io.shared_file("escalated"), labels)
    if escalated:
        joined = join_added(joined, escalated, near_duplicate=recipe.split.near_duplicate)
    io.write(ROWS, joined.rows)
    io.write(GOLD, joined.gold)
    return joined.report | {
        "labels": list(labels),
        "files": dataset.notes,
        "no_votes": dict(dataset.no_votes),
        "rows_without_vote": dataset.rows_without_vote,
        "spellings": [msgspec.to_builtins(spelling) for spelling in dataset.spellings],
    }


def _pinned(config: DataConfig, io: StageIO) -> DataConfig:
    """The section with its data sets on the hub at the commits that the run is pinned to."""
    names = {name: getattr(config, name) for name in ("train", "calibration", "test")}
    on_hub = {name: io.pinned(reference) for name, reference in names.items() if is_hub(reference)}
    return msgspec.structs.replace(config, **on_hub)


def _summary_line(report: Report) -> str:
    near, escalated, spellings = report["near_duplicates"], report.get("escalated_rows"), report.get("spellings")
    return (
        ", ".join(f"{n} {part}" for part, n in report["parts"].items())
        + (f"; {near} near-duplicates" if near else "")
        + (f"; {escalated} texts that escalated" if escalated else "")
        + (f"; {len(spellings)} spellings of labels joined with another" if spellings else "")
        + no_votes_phrase(report.get("no_votes", {}), report.get("rows_without_vote", 0))
    )


SPLIT = Stage(
    name="split",
    purpose="given rows -> train | calibration | test",
    version=5,
    reads=_reads,
    writes=(ROWS.path, GOLD.path),
    code=("hybrid.data", "hybrid.label_sets"),
    work=_work,
    summary_line=_summary_line,
)
