"""The encoder of a bundle: texts in, logits out, through onnxruntime."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
from tokenizers import Encoding, Tokenizer

from hybrid.errors import BundleError
from hybrid.runtime.bundle import MODEL, TOKENIZER

TOKENS_A_BATCH = 4096
"""Padded tokens in one call of the session: enough to fill the cores, little enough for memory."""


class Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """One text as token ids, and whether it was cut."""

    encoding: Encoding
    truncated: bool

    def __len__(self) -> int:
        return len(self.encoding.ids)


class Encoder:
    """A session and its tokenizer. Loaded once, never changed, safe to share between threads."""

    def __init__(self, folder: Path, *, n_labels: int, threads: int | None = None) -> None:
        """Load `model.onnx` and `tokenizer.json`.

        `threads` defaults to the processors that this process may use.

        Raises:
            BundleError: a file cannot be read, or the graph does not give `n_labels` logits.
        """
        self._n_labels = n_labels
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            self._session = onnxruntime.InferenceSession(
                str(folder / MODEL), _options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # both libraries raise bare or private types for a bad file
            raise BundleError(
                f"{folder}: {MODEL} or {TOKENIZER} cannot be loaded: {error}; rerun the recipe"
            ) from error
        # We pad by batch ourselves: the tokenizer stays as it is, whatever thread uses it.
        self._pad_id = int((self._tokenizer.padding or {}).get("pad_id", 0))
        self._tokenizer.no_padding()
        self._inputs = [wanted.name for wanted in self._session.get_inputs()]
        width = self._session.get_outputs()[0].shape[-1]
        if width != n_labels:
            raise BundleError(f"{folder / MODEL}: {width} logits for {n_labels} labels; rerun the recipe")

    def logits(self, texts: Sequence[str], *, on_done: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Return the logits of each text, float32 of shape [n, k], in the order of the texts."""
        return self.run(self.encode(texts), on_done=on_done)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Return the token ids of each text."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [Encoded(encoding=encoding, truncated=bool(encoding.overflowing)) for encoding in encodings]

    def run(self, encoded: Sequence[Encoded], *, on_done: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Return logits [n, k]. Texts of similar length share a batch.

        Raises:
            BundleError: the graph gave a value that is no number.
        """
        logits = np.empty((len(encoded), self._n_labels), dtype=np.float32)
        done = 0
        for rows in _batches([len(one) for one in encoded]):
            logits[rows] = self._session.run(None, self._feed([encoded[i].encoding for i in rows]))[0]
            done += len(rows)
            if on_done:
                on_done(done, len(encoded))
        if not np.isfinite(logits).all():
            raise BundleError(
                "model.onnx: a logit is not a number; rerun the recipe, or ship the bundle of another run"
            )
        return logits

    def _feed(self, encodings: Sequence[Encoding]) -> dict[str, np.ndarray]:
        """Return what the session asks for, padded on the right to the longest text of the batch."""
        shape = (len(encodings), max(len(encoding.ids) for encoding in encodings))
        feed = {name: np.zeros(shape, dtype=np.int64) for name in self._inputs}
        feed["input_ids"].fill(self._pad_id)
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            columns = {
                "input_ids": encoding.ids,
                "attention_mask": encoding.attention_mask,
                "token_type_ids": encoding.type_ids,
            }
            for name in self._inputs:
                feed[name][row, :length] = columns[name]
        return feed


def _batches(lengths: Sequence[int]) -> list[np.ndarray]:
    """Return row indices a batch: by length, under the cap on padded tokens."""
    order = np.argsort(lengths, kind="stable")
    batches: list[np.ndarray] = []
    start = 0
    for end in range(1, len(order) + 1):
        # Sorted by length, so the next row is the longest that the batch would have.
        full = end < len(order) and (end + 1 - start) * lengths[order[end]] > TOKENS_A_BATCH
        if full or end == len(order):
            batches.append(order[start:end])
            start = end
    return batches


def _options(threads: int | None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning starves the service beside it
    options.log_severity_level = 3
    return options
