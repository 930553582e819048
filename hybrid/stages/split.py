"""split: assign the given rows to train, calibration and test."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from hybrid.config import DataConfig, Recipe, SplitConfig
from hybrid.data.annotations import no_votes_phrase
from hybrid.data.drawing import PARTS, DrawnParts, draw_parts
from hybrid.data.duplicates import NearIndex, near_duplicate_groups
from hybrid.data.escalated_rows import Joined, join_added, read_added
from hybrid.data.label_checks import check_labels
from hybrid.data.part_checks import check_labels_of_parts, check_sizes
from hybrid.data.source_rows import SourceRow, labels_in, labels_of
from hybrid.data.sources import load_data
from hybrid.errors import DataError
from hybrid.hub import is_hub
from hybrid.label_sets import split_labels
from hybrid.stages.stage import GOLD, ROWS, Reads, Stage, StageIO
from hybrid.types import Example, Gold, Part, Report, Task


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """The rows with their part, the gold labels in a table of their own, and the counts of the stage's report."""

    rows: list[Example]
    gold: list[Gold]
    report: dict[str, Any]
    drawn: DrawnParts


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
        DataError: the parts that the recipe asks for are larger than the data, or a training row has no given label.
    """
    groups = near_duplicate_groups([row.text for row in rows], config.near_duplicate)
    parts, drawn = draw_parts(rows, config, seed, task, groups)
    used = [(row, part) for row, part in zip(rows, parts, strict=True) if part is not None]
    used_groups = groups[[part is not None for part in parts]]
    _check_given(used)
    examples = [_example(row, part) for row, part in used]
    gold = [Gold(id=row.id, label=row.gold) for row, _ in used if row.gold is not None]
    n_rows = Counter(example.part for example in examples)
    judged_by_gold = all(row.gold is not None for row, part in used if part != "train")
    return Split(
        rows=examples,
        gold=gold,
        report={
            "rows": len(rows),
            "unused": len(rows) - len(used),
            "parts": {part: n_rows[part] for part in PARTS},
            "classes": {part: _count(examples, part, labels, task) for part in PARTS},
            "near_duplicates": len(rows) - int(groups.max()) - 1,
            "twins": _leaked_ids(examples, used_groups, config.near_duplicate),
            "gold_rows": len(gold),
            "judged_by_gold": judged_by_gold,
            "trusted": judged_by_gold,  # its name in version 0.1.0
        },
        drawn=drawn,
    )


def check_split(dealt: Split, *, folds: int, task: Task = "single_label") -> None:
    """Check that the later stages can use the parts: `folds` rows calibrate at least, and every label that is drawn.

    Raises:
        DataError: a part or a label has too few rows; the message has the number needed.
    """
    sizes = dealt.report["parts"]
    check_sizes(sizes, dealt.drawn, folds=folds)
    gold = {row.id: row.label for row in dealt.gold}
    train = [row for row in dealt.rows if row.part == "train"]
    cells = [{row.label, *row.annotations.values(), gold.get(row.id, row.label)} for row in train]
    taught = Counter(label for labels in cells for cell in labels for label in labels_in(cell, task))
    check_labels_of_parts(dealt.report["classes"], dealt.drawn, n_calibration=sizes["calibration"], taught=taught)


def _check_given(used: Sequence[tuple[SourceRow, Part]]) -> None:
    without = [row for row, part in used if part == "train" and row.label is None]
    if without:
        raise DataError(
            f"{without[0].where or without[0].id}: no given label in a training row, as in {len(without)} rows that have gold "
            "alone; write a given label there, or leave the rows to a file or a column that says they are for test"
        )


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


def _leaked_ids(examples: Sequence[Example], groups: np.ndarray, threshold: float) -> list[str]:
    """Return the ids of test rows with a near-duplicate in train; only a split that came with the data can have any.

    Only rows of a near-duplicate group [n] that has both are compared: near-duplicates share a group, but two rows of a group
    need not be near-duplicates.
    """
    parts = np.array([example.part for example in examples])
    shared = np.intersect1d(groups[parts == "train"], groups[parts == "test"])
    in_shared = np.isin(groups, shared)
    train, test = (
        [examples[i] for i in np.flatnonzero(in_shared & (parts == part)).tolist()] for part in ("train", "test")
    )
    if not test:
        return []
    nearest = NearIndex([example.text for example in train], threshold).nearest_each([example.text for example in test])
    return [example.id for example, near in zip(test, nearest, strict=True) if near is not None]


DATA_FILES = ("data.prepare", "data.train", "data.calibration", "data.test")


def _reads(_: Recipe) -> Reads:
    return Reads(
        settings=("data", "split", "labels", "task", "seed", "calibrate.folds"),
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
    check_split(dealt, folds=recipe.calibrate.folds, task=recipe.task)
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
    version=6,
    reads=_reads,
    writes=(ROWS.path, GOLD.path),
    code=("hybrid.data", "hybrid.label_sets"),
    work=_work,
    summary_line=_summary_line,
)
