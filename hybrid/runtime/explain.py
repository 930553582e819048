"""Explains an answer by the effect of each word on its probability, found by hiding one word at a time.

Occlusion, as Zeiler and Fergus 2014 ("Visualizing and understanding convolutional networks") do it to images and
Li, Monroe and Jurafsky 2016 ("Understanding neural networks through representation erasure") to words.
"""

import re
import warnings
from collections.abc import Iterator

import msgspec

# A run of letters and digits with inner apostrophes; a single character where a script is written without spaces
# (Thai to Khmer, kana, Chinese); a run of marks, which keeps emoticons whole.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:['’][^\W{_UNSPACED}]+)*|[^\w\s]+")


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """A word or a run of punctuation marks, and its effect on the answer."""

    text: str
    start: int
    """The position of its first character in the text."""
    end: int
    """One past the position of its last character."""
    drop: float
    """How much the probability of the answer drops when the word is hidden; negative where it rises."""

    @property
    def fall(self) -> float:
        """The former name of `drop`."""
        warnings.warn("Word.fall is now Word.drop; the old name goes with 0.2", DeprecationWarning, stacklevel=2)
        return self.drop


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of the encoder, and its words in the order of the text."""

    label: str
    probability: float
    """The calibrated probability of `label` for the whole text."""
    words: tuple[Word, ...]


def words_of(text: str) -> list[tuple[int, int]]:
    """Find start and end of each word."""
    return [match.span() for match in _WORD.finditer(text)]


def without_each(text: str, spans: list[tuple[int, int]], mask_token: str) -> Iterator[str]:
    """Yield the text once for each span, with the mask token in its place; with nothing there if that is empty."""
    for start, end in spans:
        yield text[:start] + mask_token + text[end:]
