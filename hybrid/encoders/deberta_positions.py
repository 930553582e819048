"""DeBERTa's relative positions as constants: the tables that depend on weights alone, and the rows in play.

Disentangled attention (He et al. 2021, "DeBERTa"; log buckets as in "DeBERTaV3", 2023) adds to the score of
query i and key j two products, content to position Q_i . Pk[f(i - j)] and position to content K_j . Pq[f(i - j)],
where f is the bucket of a distance. Pk and Pq are projections of one embedding table, so they are
known before any text is.
"""

from typing import Any

import msgspec
import numpy as np
import torch
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from hybrid.errors import ExportError


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    """One layer's projected positions, float32 [heads, 2 * span, head size]; None where the model has no such term."""

    keys: np.ndarray | None
    """Pk, for content to position."""
    queries: np.ndarray | None
    """Pq, for position to content, divided by the scale of the scores."""


def bucket_rows(config: Any, longest: int) -> np.ndarray:
    """Compute f(distance) for distances 1 - longest .. longest - 1, int64 [2 * longest - 1].

    The formula is transformers' own function, in its float32: its ceil is touchy.

    Raises:
        ExportError: the tables have no row for such a distance.
    """
    span = position_span(config)
    distance = torch.arange(1 - longest, longest)
    buckets = getattr(config, "position_buckets", -1)
    if buckets > 0:
        distance = make_log_bucket_position(distance, buckets, _most_positions(config))
    rows = distance.to(torch.long).numpy() + span
    if rows.min() < 1 or rows.max() >= 2 * span:
        raise ExportError(
            f"export: {longest} tokens reach row {rows.max()} of the relative positions, but the encoder has {2 * span}; "
            "lower encoder.max_length"
        )
    return np.asarray(rows, dtype=np.int64)


def position_span(config: Any) -> int:
    """Count the rows of the relative embeddings for each direction."""
    buckets = getattr(config, "position_buckets", -1)
    return int(buckets if buckets > 0 else _most_positions(config))


def project(attention: Any, embeddings: torch.Tensor, span: int, scale: float) -> Tables:
    """Compute a layer's tables from its `DisentangledSelfAttention` and the relative embeddings [2 * span, hidden]."""
    shared = attention.share_att_key
    rows = embeddings[: 2 * span]
    keys = queries = None
    with torch.inference_mode():
        if "c2p" in attention.pos_att_type:
            keys = (attention.key_proj if shared else attention.pos_key_proj)(rows)
        if "p2c" in attention.pos_att_type:
            queries = (attention.query_proj if shared else attention.pos_query_proj)(rows) / scale
    heads = attention.num_attention_heads
    return Tables(keys=_by_head(keys, heads), queries=_by_head(queries, heads))


def mirrored(table: np.ndarray) -> np.ndarray:
    """Reverse the rows of a table, r to 2 * span - r: f is odd, so one index then serves both terms."""
    n_rows = table.shape[1]
    return table[:, np.minimum(n_rows - np.arange(n_rows), n_rows - 1)]


def _by_head(rows: torch.Tensor | None, heads: int) -> np.ndarray | None:
    if rows is None:
        return None
    return np.asarray(rows.float().view(len(rows), heads, -1).permute(1, 0, 2).numpy())


def _most_positions(config: Any) -> int:
    limit = getattr(config, "max_relative_positions", -1)
    return int(limit if limit > 0 else config.max_position_embeddings)
