"""Token ids as the arrays that a session reads, and which of them make a batch."""

import math
from collections.abc import Sequence

import numpy as np

TOKENS_A_BATCH = 256
"""Padded tokens in one call of the session: little enough to stay in the processor's caches. Sixteen times as many
cost half as much again in processor time (MiniLM)."""
FEW_TOKENS = 32
"""Fewer are not worth a call of their own, though a thread be idle."""


def batches_of(lengths: Sequence[int], threads: int) -> list[list[int]]:
    """Return row indices a batch: by length, and where the rows suffice for it, a batch a thread.

    A batch has at most `TOKENS_A_BATCH` padded tokens, or is one row that alone has more.
    """
    share = math.ceil(sum(lengths) / threads)
    most_tokens = min(TOKENS_A_BATCH, max(share, FEW_TOKENS))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches: list[list[int]] = []
    start = 0
    for end in range(1, len(order) + 1):
        # Sorted by length, so the next row is the longest that the batch would have.
        following = lengths[order[end]] if end < len(order) else 0
        full = (end + 1 - start) * following > most_tokens
        needed = following >= FEW_TOKENS and len(order) - end < threads - len(batches)
        if full or needed or not following:
            batches.append(order[start:end])
            start = end
    return batches


def padded(rows: Sequence[Sequence[int]], *, pad_id: int, inputs: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the `inputs` of a session, int64 [n, longest row], for rows of token ids; padded on the right."""
    if len(rows) == 1:
        ids = np.array(rows, dtype=np.int64)
        mask = np.ones_like(ids)
    else:
        ids = np.full((len(rows), max(map(len, rows))), pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
    feed = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in inputs:
        feed["token_type_ids"] = np.zeros_like(ids)  # one text a row: all are of the first type
    return {name: feed[name] for name in inputs}
