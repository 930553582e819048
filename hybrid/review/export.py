"""`hybrid review export`: write the rows most worth re-checking to a file for an annotation tool."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.data.trusted import sample_order
from hybrid.errors import ConfigError, DataError
from hybrid.files.table import read_rows
from hybrid.labels.methods import method_of
from hybrid.pipeline.context import RunContext
from hybrid.review.answers import DRAWN, Exported, ReviewItem, is_drawn
from hybrid.review.gain import blend_stated_confidence
from hybrid.review.queue import review_queue
from hybrid.review.targets import write_items
from hybrid.types import Decision, Example, Vote


def export(context: RunContext, path: Path, *, to: str, n_rows: int, n_random: int = 0) -> Exported:
    """Write the first `n_rows` of the queue for the tool `to`, a key of `hybrid.review.targets.TARGETS`, and `n_random`
    rows that are drawn at random.

    Raises:
        ConfigError: the task is multi-label.
    """
    queue = queue_of(context)
    items = _with_drawn(queue, n_rows, sample_order(context.rows()), n_random)
    steps = write_items(items, context.labels, path, to=to)
    expected_wrong = sum(1 - item.belief for item in items)
    decided = ", ".join(f"{n} {label}" for label, n in Counter(item.label for item in items).most_common())
    n_drawn = sum(is_drawn(item.why) for item in items)
    lines = [
        f"{len(items)} rows written to {path}: decided as {decided}",
        f"  about {expected_wrong:.0f} of their labels are expected to be wrong",
        *([f"  {n_drawn} of them were drawn at random: they tell how many labels are right"] if n_drawn else []),
        *steps,
    ]
    return Exported(file=str(path), to=to, rows=len(items), queue=len(queue), lines=lines)


def _with_drawn(queue: Sequence[ReviewItem], n_rows: int, order: Sequence[Example], n_random: int) -> list[ReviewItem]:
    """Return the first `n_rows` of the queue and the first `n_random` of its rows in a random order."""
    by_id = {item.id: item for item in queue}
    drawn = [by_id[row.id] for row in order if row.id in by_id][:n_random]
    ids = {item.id for item in drawn}
    chosen = [item for item in queue[:n_rows] if item.id not in ids]
    chosen_ids = {item.id for item in queue[:n_rows]}
    return [
        *chosen,
        *(
            msgspec.structs.replace(item, why=f"{DRAWN}; {item.why}" if item.id in chosen_ids else DRAWN)
            for item in drawn
        ),
    ]


def queue_of(context: RunContext) -> list[ReviewItem]:
    """Build the whole queue of a finished run, without rows that are already trusted.

    Raises:
        ConfigError: the task is multi-label.
        DataError: the run's decisions are not about its rows.
    """
    if context.recipe.task == "multi_label":
        raise ConfigError(f"{context.run.folder}: multi-label rows are kept as given, so there is nothing to review")
    decisions, votes = context.decisions(), read_rows(context.run.path("verify", "votes.jsonl"), Vote)
    rows = context.rows("train")
    if [row.id for row in rows] != [decision.id for decision in decisions]:
        raise DataError(
            f"{context.run.folder}: its rows were split again and not cleaned since; run the recipe to its end first"
        )
    return review_queue(
        rows,
        decisions,
        votes,
        np.load(context.run.path("clean", "embeddings.npy")),
        _belief(context, decisions, votes),
        context.labels,
        known={row.id for row in context.trusted()},
    )


def _belief(context: RunContext, decisions: Sequence[Decision], votes: Sequence[Vote]) -> np.ndarray:
    """Estimate class probabilities [n, k] of each row, as `hybrid.review.gain` describes."""
    probs = np.array([decision.probs for decision in decisions], dtype=float)
    method = method_of(context.run.report("clean"))
    if method.needs_trusted:
        return probs
    if not method.weighs_sources:
        probs = (probs + np.load(context.run.path("clean", "classifier.npy"))) / 2
    return blend_stated_confidence(probs, [decision.id for decision in decisions], votes, context.labels)
