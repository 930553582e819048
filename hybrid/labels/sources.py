"""The label sources of the rows: annotators (or the one given label) and every vote of a teacher."""

from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.label_sets import index_by_label
from hybrid.types import Example, Vote

ABSTAIN = -1


class LabelSource(msgspec.Struct, frozen=True, kw_only=True):
    """One source: class indices [n], `ABSTAIN` where it gave no label, and stated confidence [n], NaN if unstated."""

    name: str
    label: np.ndarray
    confidence: np.ndarray
    is_vote: bool = False
    """Whether the source is a teacher that was asked about the text, and not a label that came with the row."""

    @property
    def has_label(self) -> np.ndarray:
        """A mask [n]: whether the source gave a label."""
        return np.asarray(self.label != ABSTAIN)


def label_sources(rows: Sequence[Example], votes: Sequence[Vote], labels: Sequence[str]) -> list[LabelSource]:
    """List annotators by name (`given` if there are none), then each teacher's samples as `TEACHER#SAMPLE`."""
    position = {row.id: i for i, row in enumerate(rows)}
    index = index_by_label(labels)
    sources = {}
    for name in sorted({name for row in rows for name in row.annotations}) or ["given"]:
        given = [row.annotations.get(name) if row.annotations else row.label for row in rows]
        sources[name] = _empty_source(name, len(rows))
        sources[name].label[:] = [ABSTAIN if label is None else index[label] for label in given]
    for vote in votes:
        if vote.status != "ok" or vote.label is None:
            continue
        source = sources.setdefault(vote.source, _empty_source(vote.source, len(rows), is_vote=True))
        source.label[position[vote.id]] = index[vote.label]
        if vote.confidence is not None:
            source.confidence[position[vote.id]] = vote.confidence
    return list(sources.values())


def _empty_source(name: str, n_rows: int, *, is_vote: bool = False) -> LabelSource:
    no_labels, unstated = np.full(n_rows, ABSTAIN), np.full(n_rows, np.nan)
    return LabelSource(name=name, label=no_labels, confidence=unstated, is_vote=is_vote)
