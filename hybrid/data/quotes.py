"""The spans of a text that a reason quotes: the words that a teacher says its label follows from."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

import msgspec

from hybrid.types import Span

_STRAIGHT = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201a": "'",
        "\u201b": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u201e": '"',
        "\u201f": '"',
        "\u2010": "-",
        "\u2011": "-",
        "\u2012": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u2212": "-",
    }
)
"""Typographic quotes and dashes as a keyboard types them."""
_INSIDE = r"(?P<{0}>\S(?:[^\n]{{0,400}}?\S)?)"
"""What stands between two quotes: no space at either end, and no line break."""
_AFTER = r"(?=[\s.,;:!?)\]\-\u2013\u2014/]|$)"
_PLURAL = f"(?={_AFTER}|s{_AFTER})"
"""Three "no"s are a quote, and three 'no's hold an apostrophe."""
_BEFORE = r"(?:(?<=[\s(\[\-\u2013\u2014/])|^)"
_QUOTED = re.compile(
    "|".join(
        (
            "\u201c" + _INSIDE.format("curly") + "\u201d",
            "\u201e" + _INSIDE.format("low") + "[\u201c\u201d]",
            "\u00ab\\s?" + _INSIDE.format("angled") + "\\s?\u00bb",
            "\u300c" + _INSIDE.format("corner") + "\u300d",
            "`" + _INSIDE.format("code") + "`",
            _BEFORE + '"' + _INSIDE.format("straight") + '"' + _PLURAL,
            _BEFORE + "['\u2018]" + _INSIDE.format("single") + "['\u2019]" + _AFTER,
        )
    ),
    re.MULTILINE,
)
"""A quote in one of the usual pairs. Where both sides look alike a quote opens after a space and closes before one, so
that neither an apostrophe nor an inch mark opens one."""
_ELLIPSIS = re.compile(r"\s*(?:\[\.{3,}\]|\.{3,})\s*")
_EDGES = " .,;:!?"
"""Punctuation that writers put inside the quotes though it is theirs."""


class Quoted(msgspec.Struct, frozen=True, kw_only=True):
    """What a reason quotes of a text."""

    spans: tuple[Span, ...]
    """Where the quotes stand in the text, every occurrence, in its order; those that touch are one."""
    n_quotes: int
    """The quotes in the reason."""
    n_missing: int
    """Those of them that are not in the text."""


class _Folded(msgspec.Struct, frozen=True, kw_only=True):
    """A text without what a quote may change: case, width, typography and runs of white space."""

    text: str
    places: list[int]
    """The position in the original of each character."""


def quoted_spans(text: str, reason: str) -> Quoted:
    """Find what a reason quotes of a text, whatever its case, its typography and its white space.

    A quote with an ellipsis stands for its parts, in their order, unless the text has the ellipsis itself. A quote counts
    only where whole words match, in scripts that have upper and lower case.
    """
    folded = _folded(text)
    spans: list[Span] = []
    n_quotes = n_missing = 0
    for quote in quotes_in(reason):
        n_quotes += 1
        places = _places(folded, quote)
        n_missing += not places
        spans += places
    return Quoted(spans=merged(spans), n_quotes=n_quotes, n_missing=n_missing)


def quotes_in(reason: str) -> Iterator[str]:
    """Yield what stands between quotes in a reason."""
    for match in _QUOTED.finditer(reason):
        yield match[match.lastgroup or 0]


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sort spans, and join those that overlap or touch."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def _places(folded: _Folded, quote: str) -> list[Span]:
    """Find every occurrence of a quote, or of its parts in their order where it has an ellipsis."""
    wanted = _folded(quote).text.strip()
    whole = _occurrences(folded, wanted) or _occurrences(folded, wanted.strip(_EDGES))
    if whole or not _ELLIPSIS.search(wanted):
        return whole
    spans: list[Span] = []
    for part in filter(None, (part.strip(_EDGES) for part in _ELLIPSIS.split(wanted))):
        after = [span for span in _occurrences(folded, part) if not spans or span[0] >= spans[-1][1]]
        if not after:
            return []
        spans.append(after[0])
    return spans


def _occurrences(folded: _Folded, wanted: str) -> list[Span]:
    spans = []
    start = folded.text.find(wanted) if wanted else -1
    while start >= 0:
        end = start + len(wanted)
        if not (_is_inside_word(folded.text, start) or _is_inside_word(folded.text, end)):
            spans.append((folded.places[start], folded.places[end - 1] + 1))
        start = folded.text.find(wanted, start + 1)
    return spans


def _is_inside_word(text: str, place: int) -> bool:
    """Whether the characters before and at a place belong to one word, in a script that separates words."""
    return 0 < place < len(text) and all(
        character.isdigit() or character.lower() != character.upper() for character in text[place - 1 : place + 1]
    )


def _folded(text: str) -> _Folded:
    characters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        plain = unicodedata.normalize("NFKC", character.translate(_STRAIGHT)).casefold()
        for part in plain:
            part = " " if part.isspace() else part
            if part == " " and characters and characters[-1] == " ":
                continue
            characters.append(part)
            places.append(place)
    return _Folded(text="".join(characters), places=places)
