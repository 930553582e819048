"""Batches for a checkpoint: the same tokens as in the runtime, grouped by length and padded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import tokenizers
import torch
from torch.utils.data import Sampler

from hybrid.runtime.text_encoder import TextEncoder, TextLimits

BATCHES_SORTED_TOGETHER = 16
"""The number of batches per chunk of the sampler: more of them save padding, fewer mix the rows better."""


NO_TOKEN = -1.0
"""The target of the evidence head where it learns nothing: padding and special tokens."""


READ_TOGETHER = 4096
"""Texts that are encoded at a time: what the tokenizer knows of a text beside its ids takes ten times their place."""


class Windows(msgspec.Struct, frozen=True, kw_only=True):
    """The windows of texts, in the order of the texts. Each text is one window if long texts are truncated."""

    columns: dict[str, list[list[int]]]
    """For each input of the model, a list of integers per window."""
    counts: tuple[int, ...]
    """The number of windows of each text."""
    offsets: list[list[tuple[int, int]]] = []
    """The place of each token of each window in its text; empty where nobody asked."""

    def each(self, values: Sequence[Any]) -> list[Any]:
        """Repeat the value of each text, from `values`, for each of its windows."""
        return [value for value, count in zip(values, self.counts, strict=True) for _ in range(count)]

    @property
    def shares(self) -> list[float]:
        """The weight of each window; the weights of a text's windows add up to 1."""
        return self.each([1 / count for count in self.counts])


def text_encoder_of(tokenizer: Any, reading: TextLimits) -> TextEncoder:
    """Read texts as the runtime does, by a copy of a transformers tokenizer's own fast tokenizer."""
    return TextEncoder(tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), reading)


def read_windows(tokenizer: Any, texts: Sequence[str], reading: TextLimits, *, offsets: bool = False) -> Windows:
    """Encode texts exactly as the runtime does."""
    text_encoder = text_encoder_of(tokenizer, reading)
    read = text_encoder.read_with_offsets if offsets else text_encoder.read
    # One object for each token and each length in use: a list of numbers of its own is four times as large.
    token_ids: dict[int, int] = {}
    constant: dict[tuple[int, int], list[int]] = {}
    ids: list[list[int]] = []
    counts: list[int] = []
    places: list[list[tuple[int, int]]] = []
    for start in range(0, len(texts), READ_TOGETHER):
        for text in read(texts[start : start + READ_TOGETHER]):
            ids += [[token_ids.setdefault(token, token) for token in window] for window in text.windows]
            counts.append(len(text.windows))
            places += text.offsets
    constant_inputs = {"attention_mask": 1, "token_type_ids": 0}
    columns = {
        name: ids
        if name == "input_ids"
        else [
            constant.setdefault((constant_inputs[name], len(window)), [constant_inputs[name]] * len(window))
            for window in ids
        ]
        for name in tokenizer.model_input_names
        if name == "input_ids" or name in constant_inputs
    }
    return Windows(columns=columns, counts=tuple(counts), offsets=places)


class LengthGroupedSampler(Sampler[int]):
    """Orders the rows so that each batch has texts of similar length, which saves padding; a new order each epoch.

    Rows are shuffled, sorted by length within chunks of a few batches, and the batches shuffled
    again. (The Trainer's own grouping leaves the batches of a chunk in falling order of length.)
    The order depends on seed and epoch only, so that a resumed run continues with the remaining rows.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Select the order of an epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self._seed, self._epoch))
        shuffled = rng.permutation(len(self._lengths))
        chunk = self._batch_size * BATCHES_SORTED_TOGETHER
        batches: list[np.ndarray] = []
        for start in range(0, len(shuffled), chunk):
            rows = shuffled[start : start + chunk]
            rows = rows[np.argsort(self._lengths[rows], kind="stable")]
            batches += [rows[i : i + self._batch_size] for i in range(0, len(rows), self._batch_size)]
        # A short batch must come last: the loader cuts every `batch_size` indices.
        full = [batch for batch in batches if len(batch) == self._batch_size]
        short = [batch for batch in batches if len(batch) < self._batch_size]
        order = [full[i] for i in rng.permutation(len(full))] + short
        return iter(np.concatenate(order).tolist())


class Collator:
    """Pads encoded rows to the longest of the batch, and stacks their targets and weights.

    Rows with the target of each token for the evidence head get those stacked too, with `NO_TOKEN` for padding.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        names = [name for name in self._tokenizer.model_input_names if name in rows[0]]
        padded = self._tokenizer.pad([{name: row[name] for name in names} for row in rows], return_tensors="pt")
        batch = {
            **padded,
            "targets": torch.tensor([row["targets"] for row in rows]),
            "weights": torch.tensor([row["weights"] for row in rows]),
        }
        if "evidence" in rows[0]:
            length = padded["input_ids"].shape[1]
            batch["evidence"] = torch.tensor(
                [[*row["evidence"], *[NO_TOKEN] * (length - len(row["evidence"]))] for row in rows]
            )
            batch["evidence_weights"] = torch.tensor([row["evidence_weights"] for row in rows])
        return batch
