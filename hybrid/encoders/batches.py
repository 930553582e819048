"""Length-grouped batches: little padding, and yet another order each epoch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

WINDOW = 16
"""Batches that are sorted together: more saves padding, fewer mixes better."""


class LengthGroupedSampler(Sampler[int]):
    """Row indices so that every `batch_size` in a row are of nearly one length.

    Rows are shuffled, sorted by length within windows of a few batches, and the batches shuffled
    again. (The Trainer's own grouping leaves the batches of a window in falling order of length.)
    The order depends on seed and epoch alone, so that a resumed run sees the rows that it missed.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of that epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self._seed, self._epoch))
        shuffled = rng.permutation(len(self._lengths))
        window = self._batch_size * WINDOW
        batches: list[np.ndarray] = []
        for start in range(0, len(shuffled), window):
            rows = shuffled[start : start + window]
            rows = rows[np.argsort(self._lengths[rows], kind="stable")]
            batches += [rows[i : i + self._batch_size] for i in range(0, len(rows), self._batch_size)]
        # A short batch must come last: the loader cuts every `batch_size` indices.
        full = [batch for batch in batches if len(batch) == self._batch_size]
        short = [batch for batch in batches if len(batch) < self._batch_size]
        order = [full[i] for i in rng.permutation(len(full))] + short
        return iter(np.concatenate(order).tolist())


class Collator:
    """Pad encoded rows to the longest of the batch and stack their targets and weights."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        names = [name for name in self._tokenizer.model_input_names if name in rows[0]]
        padded = self._tokenizer.pad([{name: row[name] for name in names} for row in rows], return_tensors="pt")
        return {
            **padded,
            "targets": torch.tensor([row["targets"] for row in rows]),
            "weights": torch.tensor([row["weights"] for row in rows]),
        }
