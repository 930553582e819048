"""Trusted rows: labels of training rows that the user vouches for, by gold, by an audit, or by review."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.errors import DataError
from hybrid.story import Story
from hybrid.table import read_rows
from hybrid.types import Example, Trusted

TRUSTED = "trusted.jsonl"
"""Beside the trace store: what reviewers answered, for all runs of a recipe."""


def trusted_rows(story: Story) -> list[Trusted]:
    """Return every trusted label of a training row, one a row: an answer of review over an audit over gold."""
    rows = story.rows("train")
    found = drawn_gold(story)
    for path in story.files(story.recipe.data.audit):
        found |= {row.id: row for row in read_trusted(path, rows, story.labels)}
    reviewed = story.traces.parent / TRUSTED
    known = {row.id for row in rows}
    if reviewed.is_file():
        found |= {row.id: row for row in read_rows(reviewed, Trusted) if row.id in known}
    return [found[row.id] for row in rows if row.id in found]


def drawn_gold(story: Story) -> dict[str, Trusted]:
    """Return the gold labels that the recipe declares trusted, drawn with its seed, by row."""
    wanted = story.recipe.data.trusted
    if not wanted:
        return {}
    train = {row.id for row in story.rows("train")}
    gold = [row for row in story.gold() if row.id in train]
    if len(gold) < wanted:
        raise DataError(
            f"data.trusted = {wanted}: {len(gold)} training rows have gold; want at most so many: lower it, or name a "
            "file of trusted labels in data.audit"
        )
    drawn = np.random.default_rng(story.recipe.seed).choice(len(gold), size=wanted, replace=False)
    return {gold[i].id: Trusted(id=gold[i].id, label=gold[i].label, source="gold") for i in drawn}


def read_trusted(path: Path, rows: Sequence[Example], labels: Sequence[str], source: str = "audit") -> list[Trusted]:
    """Return the trusted labels of a csv or jsonl file with the columns id and label; others are ignored.

    A line whose label is empty is passed over: nobody has looked yet.

    Raises:
        DataError: the file cannot be read, an id is no training row's or stands there twice, a label is unknown.
    """
    known, found = {row.id for row in rows}, dict[str, Trusted]()
    for number, line in _lines(path):
        row_id, label = str(line.get("id") or "").strip(), str(line.get("label") or "").strip()
        where = f"{path}:{number}"
        if not label:
            continue
        if row_id not in known:
            raise DataError(f"{where}: id {row_id!r} is no training row; want an id of the run's rows")
        if label not in labels:
            raise DataError(f"{where}: label {label!r} is not one of {', '.join(labels)}; correct it")
        if row_id in found and found[row_id].label != label:
            raise DataError(f"{where}: {row_id} is {label!r} here and {found[row_id].label!r} above; want one label")
        found[row_id] = Trusted(id=row_id, label=label, source=source)
    return list(found.values())


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); want a csv or jsonl file in UTF-8") from error
    if path.suffix == ".csv":
        reader = csv.DictReader(text.splitlines(keepends=True))
        missing = {"id", "label"} - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path}: no column {missing.pop()!r}; want the columns id and label")
        for record in reader:
            yield reader.line_num, record
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, msgspec.json.decode(line, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise DataError(f"{path}:{number}: not a JSON object ({error}); want id and label") from error
