"""The identity of a row: its text, whatever line of whatever file it stands on; and the rows that an answer is about."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from hybrid.files.spreadsheet_cells import unguard
from hybrid.types import Example

_PREFIX = "text-"
_LINE_ID = re.compile(r".+/\d+")


def text_key(text: str) -> str:
    """Identify a text: 16 hex digits, the same whatever line ends, runs of white space and Unicode form it is kept in."""
    folded = " ".join(unicodedata.normalize("NFC", text).split())
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class ContentIds:
    """Gives each row an id made of its text; the second row with a text is `text-KEY-2`, and so on."""

    def __init__(self) -> None:
        """Start with no text seen."""
        self._n_seen: Counter[str] = Counter()

    def next_id(self, text: str) -> str:
        """Return the id of the next row with this text."""
        key = text_key(text)
        self._n_seen[key] += 1
        return f"{_PREFIX}{key}" + (f"-{self._n_seen[key]}" if self._n_seen[key] > 1 else "")


def is_content_id(row_id: str) -> bool:
    """Whether an id has the form that `ContentIds` gives."""
    return re.fullmatch(rf"{_PREFIX}[0-9a-f]{{16}}(-\d+)?", row_id) is not None


def is_line_id(row_id: str) -> bool:
    """Whether an id has the form FILE/LINE, by which earlier versions called a row without a column of ids."""
    return _LINE_ID.fullmatch(row_id) is not None


class RowIndex:
    """Finds the rows that an answer of a person or of another system is about."""

    def __init__(self, rows: Iterable[Example]) -> None:
        """Index rows by id and by text."""
        self._by_id: dict[str, Example] = {}
        self._by_key: dict[str, list[Example]] = {}
        for row in rows:
            self._by_id[row.id] = row
            self._by_key.setdefault(text_key(row.text), []).append(row)

    def find(self, row_id: str, key: str = "") -> Sequence[Example]:
        """Return the row with the id if its text has the key, else every row whose text has it; without a key, the id's.

        An id whose text is another one is never the row that was meant.
        """
        row = self._by_id.get(row_id)
        if not key:
            return [] if row is None else [row]
        if row is not None and text_key(row.text) == key:
            return [row]
        return self._by_key.get(key, [])

    def find_text(self, row_id: str, text: str) -> Sequence[Example]:
        """Return the rows that a line of a file is about; without a text, the row with the id.

        A line of a review sheet may carry the apostrophe that keeps a spreadsheet from running the cell.
        """
        if not text:
            return self.find(row_id) or self.find(unguard(row_id))
        rows = self.find(row_id, text_key(text))
        return rows or self.find(unguard(row_id), text_key(unguard(text)))

    def __contains__(self, row_id: str) -> bool:
        """Whether a row has this id, whatever its text."""
        return row_id in self._by_id

    @property
    def by_content(self) -> bool:
        """Whether the rows are called by their content, for lack of a column of ids."""
        return all(is_content_id(row_id) or row_id.startswith("escalated-") for row_id in self._by_id)
