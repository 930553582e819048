"""Export a service's escalations as a review queue, and add a person's answers as training rows of the next run."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from hybrid.data.escalated_rows import Added
from hybrid.data.row_ids import text_key
from hybrid.errors import ConfigError, DataError
from hybrid.files.table import read_rows, write_rows
from hybrid.pipeline.context import RunContext
from hybrid.review.answers import Answer, Exported, ReviewItem
from hybrid.review.escalations import FILE, Escalated, open_store, read_escalations, shown
from hybrid.review.queue import DIGITS
from hybrid.review.targets import write_items

_PREFIX = "escalated-"
"""The prefix of the id of an escalated text. The id is the only field that every tool returns unchanged, so the id
itself tells an escalated text from a training row."""


def is_escalated(row_id: str) -> bool:
    """Whether a row id belongs to an escalated text rather than to a training row."""
    return row_id.startswith(_PREFIX)


def export_escalations(context: RunContext, store: str, path: Path, *, to: str, n_rows: int) -> Exported:
    """Write the first `n_rows` of the queue of escalations for the tool `to`, a key of `hybrid.review.targets.TARGETS`.

    Raises:
        ConfigError: the task is multi-label.
        DataError: the store does not exist or cannot be read.
    """
    if context.recipe.task == "multi_label":
        raise ConfigError(f"{context.run.folder}: multi-label rows are kept as given, so there is nothing to review")
    rows = stored_escalations(context, store)
    known = {row.id for row in _added(context)}
    items = [item for item in queue_of_escalations(rows, context.labels) if item.id not in known]
    steps = write_items(items[:n_rows], context.labels, path, to=to)
    lines = [f"{len(items[:n_rows])} of {len(items)} texts that escalated written to {path}", *steps]
    return Exported(file=str(path), to=to, rows=len(items[:n_rows]), queue=len(items), lines=lines)


def queue_of_escalations(rows: Sequence[Escalated], labels: Sequence[str]) -> list[ReviewItem]:
    """List each text once, in descending order of expected gain.

    The gain is the number of requests with this text times the encoder's probability that the answer was wrong; a text
    without an answer counts as wrong. Texts served by a bundle with other labels are left out.
    """
    by_text: dict[str, list[Escalated]] = {}
    for row in rows:
        if set(row.probs) == set(labels):
            by_text.setdefault(row.text, []).append(row)
    items = [_item(of_text[-1], len(of_text)) for of_text in by_text.values()]
    return sorted(items, key=lambda item: (-item.gain, item.id))


def under_ids_of_texts(answers: Sequence[Answer], texts: Mapping[str, str]) -> list[Answer]:
    """Return answers about escalated texts under the id of the text that the person saw.

    Raises:
        DataError: the store has no such text.
    """
    ids = {text_key(text): row_id for row_id, text in texts.items()}
    placed = []
    for answer in answers:
        is_right = answer.id in texts and answer.text_key in ("", text_key(texts[answer.id]))
        row_id = answer.id if is_right else ids.get(answer.text_key)
        if row_id is None:
            raise DataError(
                f"{answer.id}: no such text in the store of escalations; name the store that it was exported from"
            )
        placed.append(msgspec.structs.replace(answer, id=row_id))
    return placed


def texts_by_id(rows: Sequence[Escalated]) -> dict[str, str]:
    """Map the row ids of the queue of escalations to their texts."""
    return {_id_of(row.text): row.text for row in rows}


def add_escalated(context: RunContext, labels: Mapping[str, str], texts: Mapping[str, str]) -> Path:
    """Add a person's labels of escalated texts to the table beside the recipe's runs; return its path.

    Raises:
        DataError: a label is not one of the recipe's.
    """
    for row_id, label in labels.items():
        if label not in context.labels:
            raise DataError(f"{row_id}: {label!r} is not one of {', '.join(context.labels)}; correct it there")
    merged = {row.id: row for row in _added(context)}
    merged |= {row_id: Added(id=row_id, text=texts[row_id], label=label) for row_id, label in labels.items()}
    table = context.shared_file("escalated")
    write_rows(table, merged.values())
    return table


def stored_escalations(context: RunContext, store: str) -> list[Escalated]:
    """Read a review store; if `store` is empty, the one in the run's folder.

    Raises:
        DataError: the file does not exist or cannot be read.
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


def _item(row: Escalated, n_requests: int) -> ReviewItem:
    p_right = row.probs.get(row.answer_label or "", 0.0)
    return ReviewItem(
        id=_id_of(row.text),
        text=row.text,
        given=row.encoder_label,
        label=row.answer_label or row.encoder_label,
        belief=p_right,
        gain=round(n_requests * (1 - p_right), DIGITS),
        teacher=row.decoder,
        teacher_label=row.decoder_label or "",
        teacher_confidence=row.decoder_confidence,
        reason=row.rationale or row.reason,
        why=_why(row, n_requests, p_right),
    )


def _why(row: Escalated, n_requests: int, p_right: float) -> str:
    times = "once" if n_requests == 1 else f"{n_requests} times"
    sure = f"the encoder says {row.encoder_label} ({row.encoder_confidence:.0%})"
    decoded = f", {row.decoder} says {row.decoder_label}" if row.decoder_label else f", {row.outcome} by the decoder"
    answer = (
        f"; {row.answer_label} was answered, right with probability {p_right:.0%}"
        if row.answer_label
        else "; no label was answered"
    )
    return f"escalated {times}; {sure}{decoded}{answer}"


def _id_of(text: str) -> str:
    return _PREFIX + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
