"""The loss of a student: for each row, the mean over its label's tokens plus a weight times the mean over its reason's.

A mean over all tokens would give a label of one token beside a reason of forty three hundredths of the gradient, and
a comparison of layouts would be one of loss weights.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import torch

from hybrid.llm.student.layouts import Kind
from hybrid.llm.student.tokens import Tokens

PROMPT, LABEL, REASON = 0, 1, 2
_CODES: dict[Kind, int] = {"prompt": PROMPT, "label": LABEL, "reason": REASON}


class RowLosses(msgspec.Struct, frozen=True):
    """The losses of rows [n]: the mean over label tokens and that over reason tokens, 0 where a row has none."""

    label: torch.Tensor
    reason: torch.Tensor


def row_losses(nll: torch.Tensor, kinds: torch.Tensor, rows: torch.Tensor, n_rows: int) -> RowLosses:
    """Average the negative log-likelihoods of tokens [m] by row and kind.

    `kinds` [m] are LABEL or REASON, and `rows` [m] the row that each token belongs to, below `n_rows`.
    """
    return RowLosses(*(_means(nll, rows, kinds == kind, n_rows) for kind in (LABEL, REASON)))


def student_loss(losses: RowLosses, weights: torch.Tensor, reason_weight: float) -> torch.Tensor:
    """Combine the losses of rows [n] with row weights [n] into one number."""
    return ((losses.label + reason_weight * losses.reason) * weights).mean()


def _means(nll: torch.Tensor, rows: torch.Tensor, of_kind: torch.Tensor, n_rows: int) -> torch.Tensor:
    counted = of_kind.to(nll.dtype)
    sums = torch.zeros(n_rows, dtype=nll.dtype, device=nll.device).index_add(0, rows, nll * counted)
    counts = torch.zeros(n_rows, dtype=nll.dtype, device=nll.device).index_add(0, rows, counted)
    return sums / counts.clamp(min=1)


def batch_of(units: Sequence[tuple[Sequence[Tokens], float]]) -> dict[str, torch.Tensor]:
    """Pad the examples of rows, each row's with its weight, to one batch.

    The ids [e, t] are padded on the right: under a causal mask no token sees its padding, so that none needs a mask; and the
    kind PROMPT of padding keeps it out of the loss, whatever id it has. `rows` [e] says which row an example is of.
    """
    examples = [(tokens, row) for row, (of_row, _) in enumerate(units) for tokens in of_row]
    longest = max(len(tokens.ids) for tokens, _ in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    kinds = torch.full((len(examples), longest), PROMPT, dtype=torch.long)
    for i, (tokens, _) in enumerate(examples):
        ids[i, : len(tokens.ids)] = torch.tensor(tokens.ids)
        kinds[i, : len(tokens.ids)] = torch.tensor([_CODES[kind] for kind in tokens.kinds])
    return {
        "input_ids": ids,
        "kinds": kinds,
        "rows": torch.tensor([row for _, row in examples]),
        "weights": torch.tensor([weight for _, weight in units]),
    }


def losses_of_batch(model: Any, batch: dict[str, torch.Tensor]) -> RowLosses:
    """Compute the losses of the rows of a batch by a causal language model; logits only where there is a target."""
    ids, kinds = batch["input_ids"], batch["kinds"]
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    is_target = kinds[:, 1:] != PROMPT
    logits = model.get_output_embeddings()(hidden[:, :-1][is_target]).float()
    nll = torch.nn.functional.cross_entropy(logits, ids[:, 1:][is_target], reduction="none")
    row_of_token = batch["rows"][:, None].expand_as(is_target)[is_target]
    return row_losses(nll, kinds[:, 1:][is_target], row_of_token, len(batch["weights"]))
