"""The encoder of a bundle: texts in, logits out, through one of the engines."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid.errors import BundleError
from hybrid.runtime.bundle import MODEL, TOKENIZER
from hybrid.runtime.engines import DEFAULT_ENGINE
from hybrid.runtime.session import Session
from hybrid.runtime.session_pool import SessionPool
from hybrid.runtime.text_encoder import (
    Encoded,
    TextEncoder,
    TextLimits,
    load_tokenizer,
    pad_id_of,
    pool,
    text_limits_of,
)


class Encoder:
    """A session and its tokenizer. Loaded once, never changed, safe to share between threads and after a fork."""

    def __init__(
        self,
        folder: Path,
        *,
        n_labels: int,
        reading: TextLimits | None = None,
        threads: int | None = None,
        spin_wait: bool = False,
        model: str = MODEL,
        engine: str = DEFAULT_ENGINE,
    ) -> None:
        """Load the graph `model` and `tokenizer.json`.

        `reading` may be left out where the tokenizer cuts long texts at one end. `threads`, `spin_wait` and
        `engine` are passed on to `Session`.

        Raises:
            BundleError: a file cannot be read, does not tell how long texts are read, or the graph does not give
                `n_labels` logits.
            ConfigError: the engine does not exist, or cannot run here.
        """
        self.engine = engine
        self._n_labels = n_labels
        tokenizer = load_tokenizer(folder / TOKENIZER)
        pad_id = pad_id_of(tokenizer)
        self._text_encoder = TextEncoder(tokenizer, reading or text_limits_of(tokenizer))
        self._session = Session(folder / model, threads=threads, spin_wait=spin_wait, engine=engine)
        self._session.check(n_labels)
        self._pool = SessionPool(self._session, pad_id=pad_id)

    @property
    def in_bf16(self) -> bool:
        """Whether the engine computes an fp32 graph in bf16."""
        return self._session.in_bf16

    @property
    def has_evidence(self) -> bool:
        """Whether the graph has an evidence head."""
        return self._session.has_evidence

    @property
    def vocabulary(self) -> int:
        """The number of tokens that the tokenizer knows."""
        return self._text_encoder.vocabulary

    @property
    def mask_token(self) -> str:
        """The token that stands for a hidden word; empty where the tokenizer has none."""
        return self._text_encoder.mask_token

    def logits(self, texts: Sequence[str], *, on_done: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Compute the logits of each text, float32 of shape [n, k], in the order of the texts."""
        return self.run(self.encode(texts), on_done=on_done)

    def encode(self, texts: Sequence[str], *, offsets: bool = False) -> list[Encoded]:
        """Turn each text into token ids, with their places in the text if `offsets`."""
        return self._text_encoder.read_with_offsets(texts) if offsets else self._text_encoder.read(texts)

    def feeds(self, texts: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """Build what the session gets for each text, or each of its windows, on its own."""
        return [self._pool.feed([ids]) for text in self.encode(texts) for ids in text.windows]

    def run(
        self,
        encoded: Sequence[Encoded],
        *,
        on_done: Callable[[int, int], None] | None = None,
        threads_alike: bool = False,
    ) -> np.ndarray:
        """Compute logits [n, k]. Windows of similar length share a batch; `on_done` counts windows.

        `threads_alike` is passed on to `SessionPool.outputs`.

        Raises:
            BundleError: the graph gave a value that is not a finite number.
        """
        return self.run_with_evidence(encoded, on_done=on_done, threads_alike=threads_alike).logits

    def run_with_evidence(
        self,
        encoded: Sequence[Encoded],
        *,
        on_done: Callable[[int, int], None] | None = None,
        threads_alike: bool = False,
    ) -> "TextOutputs":
        """Compute as `run` does the logits of the texts, and those of their tokens where the graph has an evidence head.

        Raises:
            BundleError: the graph gave a value that is not a finite number.
        """
        windows = [ids for text in encoded for ids in text.windows]
        if not windows:
            return TextOutputs(np.empty((0, self._n_labels), np.float32), [])
        logits, tokens = self._pool.outputs(windows, on_done=on_done, threads_alike=threads_alike)
        # One sum instead of a look at each, and for one text no array: it is answered in milliseconds.
        if not math.isfinite(sum(logits[0].tolist()) if len(logits) == 1 else logits.sum(dtype=np.float64)):
            raise BundleError(
                "model.onnx: a logit is not a number; rerun the recipe, or ship the bundle of another run"
            )
        pooled = pool(logits, [len(text.windows) for text in encoded], self._text_encoder.reading)
        of_windows = iter(tokens)
        return TextOutputs(pooled, [[next(of_windows) for _ in text.windows] for text in encoded] if tokens else [])


class TextOutputs(NamedTuple):
    """What an encoder gives for texts. (A plain tuple: it is made for every text.)"""

    logits: np.ndarray
    """Of the labels, float32 [n, k]."""
    token_logits: list[list[np.ndarray]]
    """Of the evidence head, for each text and window float32 [length]; empty where the graph has no such head."""
