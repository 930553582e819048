"""The encoder of a bundle: texts in, logits out, through onnxruntime."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hybrid.errors import BundleError
from hybrid.runtime.bundle import MODEL, TOKENIZER
from hybrid.runtime.padding import padded, tokens_a_batch
from hybrid.runtime.reading import Encoded, Reader, Reading, load_tokenizer, pad_id_of, pool, reading_of
from hybrid.runtime.session import Session


class Encoder:
    """A session and its tokenizer. Loaded once, never changed, safe to share between threads and after a fork."""

    def __init__(
        self,
        folder: Path,
        *,
        n_labels: int,
        reading: Reading | None = None,
        threads: int | None = None,
        dedicated: bool = False,
        model: str = MODEL,
    ) -> None:
        """Load the graph `model` and `tokenizer.json`.

        `reading` may be left out where the tokenizer cuts long texts at one end. `threads` and `dedicated` are
        those of `Session`.

        Raises:
            BundleError: a file cannot be read, does not say how long texts are read, or the graph does not give
                `n_labels` logits.
        """
        self._n_labels = n_labels
        tokenizer = load_tokenizer(folder / TOKENIZER)
        self._pad_id = pad_id_of(tokenizer)
        self._reader = Reader(tokenizer, reading or reading_of(tokenizer))
        self._session = Session(folder / model, threads=threads, dedicated=dedicated)
        self._session.check(n_labels)

    @property
    def vocabulary(self) -> int:
        """The number of tokens that the tokenizer knows."""
        return self._reader.vocabulary

    @property
    def mask_token(self) -> str:
        """The token that stands for a hidden word; empty where the tokenizer has none."""
        return self._reader.mask_token

    def logits(self, texts: Sequence[str], *, on_done: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Return the logits of each text, float32 of shape [n, k], in the order of the texts."""
        return self.run(self.encode(texts), on_done=on_done)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Return the token ids of each text."""
        return self._reader.read(texts)

    def feeds(self, texts: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """Return what the session gets for each text, or each of its windows, on its own."""
        return [self._feed([ids]) for one in self.encode(texts) for ids in one.windows]

    def run(self, encoded: Sequence[Encoded], *, on_done: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Return logits [n, k]. Windows of similar length share a batch; `on_done` counts windows.

        Raises:
            BundleError: the graph gave a value that is no number.
        """
        if len(encoded) == 1 and len(encoded[0].windows) == 1:  # nothing to sort, to join or to pool
            logits = _finite(self._session.run(self._feed(encoded[0].windows)))
            if on_done:
                on_done(1, 1)
            return logits
        windows = [ids for one in encoded for ids in one.windows]
        parts: list[np.ndarray] = []
        order: list[int] = []
        for rows in _batches([len(ids) for ids in windows], tokens_a_batch(self._session.threads)):
            parts.append(self._session.run(self._feed([windows[i] for i in rows])))
            order += rows
            if on_done:
                on_done(len(order), len(windows))
        logits = _finite(_in_order(parts, order, self._n_labels))
        return pool(logits, [len(one.windows) for one in encoded], self._reader.reading)

    def _feed(self, rows: Sequence[list[int]]) -> dict[str, np.ndarray]:
        return padded(rows, pad_id=self._pad_id, inputs=self._session.inputs)


def _batches(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Return row indices a batch: by length, at most so many padded tokens, or one row that alone has more."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches: list[list[int]] = []
    start = 0
    for end in range(1, len(order) + 1):
        # Sorted by length, so the next row is the longest that the batch would have.
        full = end < len(order) and (end + 1 - start) * lengths[order[end]] > most_tokens
        if full or end == len(order):
            batches.append(order[start:end])
            start = end
    return batches


def _finite(logits: np.ndarray) -> np.ndarray:
    # One sum instead of a look at each, and for one text no array: it is answered in milliseconds.
    if math.isfinite(sum(logits[0].tolist()) if len(logits) == 1 else logits.sum(dtype=np.float64)):
        return logits
    raise BundleError("model.onnx: a logit is not a number; rerun the recipe, or ship the bundle of another run")


def _in_order(parts: Sequence[np.ndarray], order: Sequence[int], n_labels: int) -> np.ndarray:
    """Return the rows of `parts` as one array [n, n_labels], row i of it at the place `order[i]`."""
    logits = np.empty((len(order), n_labels), dtype=np.float32)
    if parts:
        logits[order] = np.concatenate(parts)
    return logits
