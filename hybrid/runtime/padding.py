"""Token ids as the arrays that a session reads, and how many of them make a batch."""

from collections.abc import Sequence

import numpy as np

TOKENS_A_BATCH = 256
"""Padded tokens in one call of the session: little enough to stay in the processor's caches. Sixteen times as many
cost half as much again in processor time (MiniLM)."""
TOKENS_A_THREAD = 128
"""The same for each thread, where there are more than two: each wants something to do."""


def tokens_a_batch(threads: int) -> int:
    """Return the padded tokens that one call of a session with so many threads is given."""
    return max(TOKENS_A_BATCH, TOKENS_A_THREAD * threads)


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
