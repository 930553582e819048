"""The labels of single annotators: one column each, in which some values mean that a person gave no vote."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from hybrid.data.label_spellings import as_number, is_blank
from hybrid.files.sheet import Cells


def is_no_vote(cell: str, no_vote: Collection[str], labels: Collection[str]) -> bool:
    """Whether a cell means that no vote was given, case and outer white space aside; a label of the set is a vote."""
    if is_blank(cell):
        return True
    return cell.strip() not in labels and _folded(cell) in set(map(_folded, no_vote))


def _folded(value: str) -> object:
    """What two spellings of one value have in common: the number, or the words in any case."""
    number = as_number(value.strip())
    return number if number is not None else " ".join(value.split()).casefold()


class AnnotatorColumns:
    """Reads the votes of annotators, and counts the cells that were none."""

    def __init__(self, columns: Sequence[str], no_vote: Sequence[str], labels: Sequence[str]) -> None:
        """Start with no cell read; values of `no_vote` that are among `labels`, those of the recipe, are votes."""
        self._columns = columns
        self._no_vote = tuple(no_vote)
        self._labels = frozenset(labels)
        self.no_votes: Counter[str] = Counter()
        """How often each value meant that there was no vote."""
        self.rows_without_vote = 0

    def votes_of(self, cells: Cells) -> dict[str, str]:
        """Return the label by annotator, in the order of the columns; an annotator without a vote is left out."""
        votes = {}
        for name in self._columns:
            cell = (cells.get(name) or "").strip()
            if is_blank(cell):
                continue
            if not is_no_vote(cell, self._no_vote, self._labels):
                votes[name] = cell
            else:
                self.no_votes[cell] += 1
        return votes


def majority(votes: Mapping[str, str]) -> str | None:
    """Return the most frequent label, None if there is no vote; a tie goes to the label of the first column."""
    counts = Counter(votes.values())
    return max(counts, key=counts.__getitem__) if counts else None


def no_votes_phrase(no_votes: Mapping[str, int], rows_without_vote: int) -> str:
    """Say, at the end of a sentence, which cells counted as no vote and how many rows had none; empty if there are none."""
    values = ", ".join(f"{value!r} {n}" for value, n in sorted(no_votes.items(), key=lambda pair: -pair[1]))
    left_out = f"; {rows_without_vote} rows without a vote left out" if rows_without_vote else ""
    return (f"; {sum(no_votes.values())} cells of annotators are no votes ({values})" if values else "") + left_out
