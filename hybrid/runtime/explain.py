"""Why that answer: what each word does to its probability, by hiding one word at a time.

Occlusion, as Zeiler and Fergus 2014 ("Visualizing and understanding convolutional networks") do it to images and
Li, Monroe and Jurafsky 2016 ("Understanding neural networks through representation erasure") to words.
"""

import re
from collections.abc import Iterator

import msgspec

# A run of letters and digits with inner apostrophes; a single character where a script is written without spaces
# (Thai to Khmer, kana, Chinese); a run of marks, which keeps emoticons whole.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:['’][^\W{_UNSPACED}]+)*|[^\w\s]+")


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """A word or a run of marks, and what it does to the answer."""

    text: str
    start: int
    """Of its first character in the text."""
    end: int
    """One past its last character."""
    fall: float
    """How much the probability of the answer falls when the word is hidden; below 0 it rises."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of the encoder, and its words in the order of the text."""

    label: str
    probability: float
    """Calibrated, of `label`, for the whole text."""
    words: tuple[Word, ...]


def words_of(text: str) -> list[tuple[int, int]]:
    """Return start and end of each word."""
    return [found.span() for found in _WORD.finditer(text)]


def without_each(text: str, spans: list[tuple[int, int]], mask_token: str) -> Iterator[str]:
    """Yield the text once for each span, with the mask token in its place; with nothing there if that is empty."""
    for start, end in spans:
        yield text[:start] + mask_token + text[end:]
