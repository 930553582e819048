"""The escalations of a service as a review queue, and a person's answers as rows that train the next run."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from hybrid.data.escalated_rows import Added
from hybrid.errors import ConfigError, DataError
from hybrid.files.table import read_rows, write_rows
from hybrid.pipeline.context import RunContext
from hybrid.review.answers import ReviewItem
from hybrid.review.escalations import FILE, Escalated, open_store, read_escalations, shown
from hybrid.review.queue import DIGITS
from hybrid.review.targets import TARGETS

_PREFIX = "escalated-"
"""How the id of a text that escalated begins. A tool gives back the id of an item and nothing else that is sure to
survive, so the id itself says which kind of row it is."""


def is_escalated(row_id: str) -> bool:
    """Whether a row id is that of a text that escalated, and not of a training row."""
    return row_id.startswith(_PREFIX)


def export_escalations(context: RunContext, store: str, path: Path, *, to: str, n_rows: int) -> list[str]:
    """Write the first `n_rows` of the queue of escalations for the tool `to`, a key of `TARGETS`; return what is printed.

    Raises:
        ConfigError: the rows have several labels each.
        DataError: there is no such store, or it cannot be read.
    """
    if context.recipe.task == "multi_label":
        raise ConfigError(
            f"{context.run.folder}: rows of several labels are kept as given, so there is nothing to review"
        )
    rows = stored_escalations(context, store)
    known = {row.id for row in _added(context)}
    looks = [look for look in queue_of_escalations(rows, context.labels) if look.id not in known]
    steps = TARGETS[to].write(looks[:n_rows], context.labels, path)
    return [f"{len(looks[:n_rows])} of {len(looks)} texts that escalated written to {path}", *steps]


def queue_of_escalations(rows: Sequence[Escalated], labels: Sequence[str]) -> list[ReviewItem]:
    """Return each text once, first what is asked for most often and answered least surely.

    The gain of a look is how often the text came, times the encoder's probability that its answer was wrong; a text
    without an answer counts as wrong. Texts of bundles with other labels are left out.
    """
    by_text: dict[str, list[Escalated]] = {}
    for row in rows:
        if set(row.probs) == set(labels):
            by_text.setdefault(row.text, []).append(row)
    looks = [_look(found[-1], len(found)) for found in by_text.values()]
    return sorted(looks, key=lambda look: (-look.gain, look.id))


def texts_by_id(rows: Sequence[Escalated]) -> dict[str, str]:
    """Return the text of each row id that the queue of escalations gives."""
    return {_id_of(row.text): row.text for row in rows}


def add_escalated(context: RunContext, labels: Mapping[str, str], texts: Mapping[str, str]) -> Path:
    """Write a person's labels of texts that escalated beside the recipe's runs; return the file.

    Raises:
        DataError: an answer is about no text of the store, or is not a label of the recipe.
    """
    for row_id, label in labels.items():
        if row_id not in texts:
            raise DataError(
                f"{row_id}: no such text in the store of escalations; name the store that it was exported from"
            )
        if label not in context.labels:
            raise DataError(f"{row_id}: {label!r} is not one of {', '.join(context.labels)}; correct it there")
    together = {row.id: row for row in _added(context)}
    together |= {row_id: Added(id=row_id, text=texts[row_id], label=label) for row_id, label in labels.items()}
    table = context.shared_file("escalated")
    write_rows(table, together.values())
    return table


def stored_escalations(context: RunContext, store: str) -> list[Escalated]:
    """Return what a store keeps; `store` empty: the one beside the bundle of the run.

    Raises:
        DataError: there is no such file, or it cannot be read.
        StorageError: the store cannot be opened.
    """
    name = store or str(context.run.path(FILE))
    if "://" not in name and not Path(name).is_file():
        raise DataError(f"{shown(name)}: no such store; name the one that the service writes, a file or a database URL")
    engine = open_store(name)
    try:
        return read_escalations(engine)
    finally:
        engine.dispose()


def _added(context: RunContext) -> list[Added]:
    return read_rows(context.shared_file("escalated"), Added) if context.shared_file("escalated").is_file() else []


def _look(row: Escalated, times: int) -> ReviewItem:
    right = row.probs.get(row.answer_label or "", 0.0)
    return ReviewItem(
        id=_id_of(row.text),
        text=row.text,
        given=row.encoder_label,
        label=row.answer_label or row.encoder_label,
        belief=right,
        gain=round(times * (1 - right), DIGITS),
        teacher=row.decoder,
        teacher_label=row.decoder_label or "",
        teacher_confidence=row.decoder_confidence,
        reason=row.rationale or row.reason,
    )


def _id_of(text: str) -> str:
    return _PREFIX + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
