"""Who said what about each row: annotators (or the one given label) and every vote of a teacher."""

from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.label_sets import index_by_label
from hybrid.types import Example, Vote

ABSTAIN = -1


class LabelSource(msgspec.Struct, frozen=True, kw_only=True):
    """One voice: class index [n], `ABSTAIN` where it did not speak, and its own confidence [n], NaN where unstated."""

    name: str
    said: np.ndarray
    confidence: np.ndarray
    is_vote: bool = False
    """Whether it was asked about the text, as a teacher is, and is none of those whose labels came with the rows."""

    @property
    def spoke(self) -> np.ndarray:
        """Where it named a label, truth values [n]."""
        return np.asarray(self.said != ABSTAIN)


def label_sources(rows: Sequence[Example], votes: Sequence[Vote], labels: Sequence[str]) -> list[LabelSource]:
    """Return annotators by name (`given` where there are none), then each teacher's samples as `TEACHER#SAMPLE`."""
    position = {row.id: i for i, row in enumerate(rows)}
    place = index_by_label(labels)
    sources = {}
    for name in sorted({name for row in rows for name in row.annotations}) or ["given"]:
        said = [row.annotations.get(name) if row.annotations else row.label for row in rows]
        sources[name] = _silent(name, len(rows))
        sources[name].said[:] = [ABSTAIN if label is None else place[label] for label in said]
    for vote in votes:
        if vote.status != "ok" or vote.label is None:
            continue
        source = sources.setdefault(vote.source, _silent(vote.source, len(rows), is_vote=True))
        source.said[position[vote.id]] = place[vote.label]
        if vote.confidence is not None:
            source.confidence[position[vote.id]] = vote.confidence
    return list(sources.values())


def _silent(name: str, n_rows: int, *, is_vote: bool = False) -> LabelSource:
    silent, unstated = np.full(n_rows, ABSTAIN), np.full(n_rows, np.nan)
    return LabelSource(name=name, said=silent, confidence=unstated, is_vote=is_vote)
