"""Turns a text into tokens: cut where it is longer than the encoder reads, or split into windows that are pooled.

Training, export and serving read through the same `TextEncoder`, so that a text has the same tokens everywhere.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
from tokenizers import Encoding, Tokenizer

from hybrid.errors import BundleError

T = TypeVar("T")


class TextLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a text the encoder reads; special tokens count and stay in place."""

    max_length: int
    """The most tokens that the encoder reads at once."""
    truncate: Literal["right", "left", "both"] = "right"
    """Where a longer text loses tokens: its end, its beginning, or (both ends stay) its middle."""
    windows: Literal["none", "mean", "max"] = "none"
    """mean, max: nothing is cut; a longer text is read in windows, and their logits are pooled by label."""
    overlap: int = 32
    """Tokens that a window shares with the one before it."""


class Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """One text as token ids, special tokens included."""

    windows: tuple[list[int], ...]
    """One window, or several where the limits have windows."""
    truncated: bool
    """Whether tokens were cut off."""
    offsets: tuple[list[tuple[int, int]], ...] = ()
    """For each window the start and end of each token in the text, (0, 0) for a special token; empty where nobody asked."""

    def __len__(self) -> int:
        """Count the tokens read; those that windows share count in each."""
        return sum(map(len, self.windows))


class TextEncoder:
    """A tokenizer with its `TextLimits`. Set up once and never changed, so threads may share it."""

    def __init__(self, tokenizer: Tokenizer, reading: TextLimits) -> None:
        """Take a tokenizer over: it is set up here, and nobody else may change it.

        Raises:
            BundleError: it gives one text a token type other than 0, which no encoder of ours expects.
        """
        self.reading = reading
        self._tokenizer = set_up(tokenizer, reading)
        self._tokenizer.no_padding()  # who runs a batch pads it
        if any(self._tokenizer.encode("a").type_ids):
            raise BundleError("tokenizer.json: one text gets a token type other than 0; expected the type 0 throughout")

    @property
    def vocabulary(self) -> int:
        """The number of tokens it knows, the added ones included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def mask_token(self) -> str:
        """The token that stands for a hidden word; empty where the tokenizer has none."""
        added = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
        return next((name for name in ("[MASK]", "<mask>") if name in added), "")

    def cutting(self, end: Literal["right", "left"]) -> "TextEncoder":
        """Make an encoder with the same tokenizer that cuts a longer text at that end."""
        reading = msgspec.structs.replace(self.reading, truncate=end, windows="none")
        return TextEncoder(Tokenizer.from_str(self._tokenizer.to_str()), reading)

    def read(self, texts: Sequence[str]) -> list[Encoded]:
        """Encode the texts, in their order."""
        return [self._encoded(encoding) for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def read_with_offsets(self, texts: Sequence[str]) -> list[Encoded]:
        """Encode the texts as `read` does, with the place of each token; that takes a third longer."""
        encodings = self._tokenizer.encode_batch(list(texts))
        return [
            msgspec.structs.replace(self._encoded(encoding), offsets=self._offsets(encoding)) for encoding in encodings
        ]

    def _encoded(self, encoding: Encoding) -> Encoded:
        ids, more = encoding.ids, encoding.overflowing
        if self.reading.windows != "none":
            return Encoded(windows=(ids, *(window.ids for window in more)), truncated=False)
        if self._loses_middle(encoding):
            return Encoded(windows=(_ends(ids, self.reading.max_length),), truncated=True)
        return Encoded(windows=(ids,), truncated=bool(more))

    def _offsets(self, encoding: Encoding) -> tuple[list[tuple[int, int]], ...]:
        if self.reading.windows != "none":
            return (encoding.offsets, *(window.offsets for window in encoding.overflowing))
        if self._loses_middle(encoding):
            return (_ends(encoding.offsets, self.reading.max_length),)
        return (encoding.offsets,)

    def _loses_middle(self, encoding: Encoding) -> bool:
        return self.reading.truncate == "both" and len(encoding.ids) > self.reading.max_length


def load_tokenizer(path: Path) -> Tokenizer:
    """Load the tokenizer of a file.

    Raises:
        BundleError: the file is missing or is no tokenizer.
    """
    try:
        return Tokenizer.from_buffer(path.read_bytes())  # its own reader takes paths in UTF-8 alone
    except Exception as error:  # the library raises bare exceptions for a bad file
        raise BundleError(f"{path}: cannot be loaded: {error}; rerun the recipe") from error


def pad_id_of(tokenizer: Tokenizer) -> int:
    """Read the token id that fills up shorter rows; call it before a `TextEncoder` takes the tokenizer over."""
    return int((tokenizer.padding or {}).get("pad_id", 0))


def set_up(tokenizer: Tokenizer, reading: TextLimits) -> Tokenizer:
    """Set the tokenizer to cut at these limits, and return it; the setting is saved with it."""
    if reading.windows != "none":
        tokenizer.enable_truncation(reading.max_length, stride=reading.overlap)
    elif reading.truncate == "both":
        tokenizer.no_truncation()  # the library cuts at one end only
    else:
        tokenizer.enable_truncation(reading.max_length, direction=reading.truncate)
    return tokenizer


def text_limits_of(tokenizer: Tokenizer) -> TextLimits:
    """Read the limits that a saved tokenizer has by itself: they can only cut at one end.

    Raises:
        BundleError: it does not cut, or makes windows; only the manifest of a bundle holds such limits.
    """
    truncation: dict[str, Any] = tokenizer.truncation or {"max_length": 0, "stride": 0}
    if not truncation["max_length"] or truncation["stride"]:
        raise BundleError(
            "tokenizer.json: it does not tell how a long text is read; pass the `reading` that it was written with"
        )
    return TextLimits(max_length=truncation["max_length"], truncate=truncation["direction"])


def pool(logits: np.ndarray, counts: Sequence[int], reading: TextLimits) -> np.ndarray:
    """Pool the logits of windows [w, k], `counts[i]` of them for text i, into the logits of texts [n, k]."""
    if len(logits) == len(counts):
        return logits
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    if reading.windows == "max":
        return np.asarray(np.maximum.reduceat(logits, starts, axis=0))
    sums = np.add.reduceat(logits, starts, axis=0)
    return np.asarray(sums / np.asarray(counts, dtype=logits.dtype)[:, None])


def _ends(tokens: list[T], n: int) -> list[T]:
    """Keep `n` of the tokens from both ends; of an odd number the beginning gets one more."""
    head = (n + 1) // 2
    return tokens[:head] + tokens[len(tokens) - (n - head) :]
